//! An OCI image layout of Wasm artifacts, as `wkg`, wasmCloud, Spin and runwasi read them from registries:
//! <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>.

use crate::artifact::Artifact;
use crate::files::write as write_file;
use crate::sums::hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is said of an artifact beside its name and version.
#[derive(Clone, Debug)]
pub struct Labels {
    /// When its source was made, as RFC 3339 has it.
    pub created: String,
    /// What it is.
    pub description: String,
    /// Its licence, as SPDX has it.
    pub licence: String,
}

/// Writes `artifacts` to `folder`, each with a manifest that the index names.
pub fn write(folder: &Path, artifacts: &[Artifact]) -> Result<(), String> {
    let put = |media_type: &str, bytes: &[u8]| {
        let descriptor = Descriptor::of(media_type, bytes);
        write_file(&descriptor.file(folder), bytes).map(|()| descriptor)
    };
    let mut manifests = Vec::new();
    for artifact in artifacts {
        let title = format!("{}.wasm", artifact.name());
        let mut layer = put(LAYER, &artifact.bytes)?;
        layer.annotations.insert(TITLE.to_owned(), title.clone());
        let config = put(CONFIG, &json(&Config::of(artifact, &layer))?)?;
        let annotations = [
            (CREATED, &artifact.labels.created),
            (DESCRIPTION, &artifact.labels.description),
            (LICENSES, &artifact.labels.licence),
            (TITLE, &title),
            (VERSION, &artifact.version),
        ];
        let annotations = annotations.map(|(name, value)| (name.to_owned(), value.clone())).into();
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config,
            layers: vec![layer],
            annotations,
        };
        let mut manifest = put(MANIFEST, &json(&manifest)?)?;
        manifest.annotations =
            [(NAME.to_owned(), artifact.name().to_owned()), (VERSION.to_owned(), artifact.version.clone())]
                .into();
        manifests.push(manifest);
    }
    let index = Index { schema_version: 2, media_type: INDEX.to_owned(), manifests };
    write_file(&folder.join("index.json"), &json(&index)?)?;
    write_file(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// `index.json`: what there is.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u8,
    media_type: String,
    /// The artifacts, by their manifests.
    pub manifests: Vec<Descriptor>,
}

/// What an artifact is made of.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u8,
    media_type: String,
    /// What is said of it.
    pub config: Descriptor,
    /// It, alone.
    pub layers: Vec<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// How one blob names another.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its hash: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// How many bytes it has.
    pub size: usize,
    /// What is said of it here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// That of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        let digest = format!("sha256:{}", hash(bytes));
        Self { media_type: media_type.to_owned(), digest, size: bytes.len(), annotations: BTreeMap::new() }
    }

    /// Where the layout in `folder` has the blob.
    pub fn file(&self, folder: &Path) -> PathBuf {
        folder.join("blobs").join(self.digest.replace(':', "/"))
    }
}

/// What a host or an index can know of a component without it. In the order in which oci-wasm writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [&'a str; 1],
    component: World<'a>,
}

#[derive(Serialize)]
struct World<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

impl<'a> Config<'a> {
    fn of(artifact: &'a Artifact, layer: &'a Descriptor) -> Self {
        // `wasip2` stands for every component, those of WASI 0.3 too: there is no other word, and oci-wasm writes none.
        // A `target` would be a world that the component fits, and none that is published has the imports of ours.
        Self {
            created: &artifact.labels.created,
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [&layer.digest],
            component: World { exports: &artifact.exports, imports: &artifact.imports },
        }
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|problem| problem.to_string())
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a manifest is.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const CONFIG: &str = "application/vnd.wasm.config.v0+json";

const LAYER: &str = "application/wasm";

/// By which name one asks a layout for an artifact.
pub const NAME: &str = "org.opencontainers.image.ref.name";

/// The version of an artifact, which is its tag in a registry.
pub const VERSION: &str = "org.opencontainers.image.version";

const CREATED: &str = "org.opencontainers.image.created";

const DESCRIPTION: &str = "org.opencontainers.image.description";

const LICENSES: &str = "org.opencontainers.image.licenses";

const TITLE: &str = "org.opencontainers.image.title";

#[test]
fn a_layout_is_what_the_specifications_say() {
    let folder = tempfile::tempdir().unwrap();
    let [created, description, licence] =
        ["2023-11-14T22:13:20Z", "Reads secrets", "Apache-2.0"].map(str::to_owned);
    let artifact = Artifact {
        package: "keyvault:gateway-x".to_owned(),
        version: "1.2.3".to_owned(),
        exports: vec!["wasi:http/handler@0.3.0".to_owned()],
        imports: vec!["wasi:clocks/types@0.3.0".to_owned()],
        labels: Labels { created, description, licence },
        bytes: b"abc".to_vec(),
    };
    write(folder.path(), &[artifact]).unwrap();

    let text = |file: &Path| std::fs::read_to_string(folder.path().join(file)).unwrap();
    assert_eq!(text(Path::new("oci-layout")), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Index = serde_json::from_str(&text(Path::new("index.json"))).unwrap();
    let [manifest] = index.manifests.as_slice() else { panic!("{index:?}") };
    let config = r#"{"created":"2023-11-14T22:13:20Z","architecture":"wasm","os":"wasip2","layerDigests":["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],"component":{"exports":["wasi:http/handler@0.3.0"],"imports":["wasi:clocks/types@0.3.0"]}}"#;
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":"application/wasm","digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3,"annotations":{{"org.opencontainers.image.title":"gateway-x.wasm"}}}}],"annotations":{{"org.opencontainers.image.created":"2023-11-14T22:13:20Z","org.opencontainers.image.description":"Reads secrets","org.opencontainers.image.licenses":"Apache-2.0","org.opencontainers.image.title":"gateway-x.wasm","org.opencontainers.image.version":"1.2.3"}}}}"#,
        hash(config.as_bytes()),
        config.len()
    );
    assert_eq!(text(&manifest.file(folder.path())), expected);
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"gateway-x","org.opencontainers.image.version":"1.2.3"}}}}]}}"#,
        hash(expected.as_bytes()),
        expected.len()
    );
    assert_eq!(text(Path::new("index.json")), expected);
    let manifest: Manifest = serde_json::from_str(&text(&manifest.file(folder.path()))).unwrap();
    assert_eq!(text(&manifest.config.file(folder.path())), config);
    assert_eq!(text(&manifest.layers[0].file(folder.path())), "abc");
}
