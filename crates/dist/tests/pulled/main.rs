//! What comes back from a registry with the client that `wkg` has, after a layout was pushed to it.
//!
//! The layout is that of the release in the folder that `DIST_FOLDER` names, as it is for `cargo xtask dist`, or without it one of
//! the components in `target`.

mod registry;

use dist::artifact::Artifact;
use dist::layout::{self, Descriptor, Index, Labels, MANIFEST, Manifest, NAME, VERSION};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_wasm::{WasmClient, WasmConfig};
use serde_json::Value;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

#[tokio::test]
async fn what_is_pushed_comes_back_as_the_client_of_wkg_would_have_made_it() -> Result<(), Box<dyn Error>> {
    let source = source()?;
    let registry = registry().await?;
    push(registry, source.layout()).await?;
    for artifact in source.artifacts {
        let reference = reference(registry, artifact.name(), &artifact.version)?;
        let image = client().pull(&reference, &RegistryAuth::Anonymous).await?;
        let [layer] = image.layers.as_slice() else { return Err("there is not one layer".into()) };
        assert!(layer.data == artifact.bytes, "{}: other bytes", artifact.package);
        assert_eq!(layer.media_type, "application/wasm");

        let (manifest, config, digest) =
            client().pull_manifest_and_config(&reference, &RegistryAuth::Anonymous).await?;
        // What is said of it, and what oci-wasm finds in it.
        let (own, _) = WasmConfig::from_raw_component(artifact.bytes.clone(), None)?;
        assert_eq!(
            (&config.architecture, &config.os, &config.layer_digests, &config.author),
            (&own.architecture, &own.os, &own.layer_digests, &own.author)
        );
        assert_eq!(config.created.to_rfc3339(), artifact.labels.created.replace('Z', "+00:00"));
        let (said, own) = (config.component.ok_or("no component")?, own.component.ok_or("no component")?);
        let set = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>();
        assert_eq!((&said.exports, &said.imports, said.target), (&artifact.exports, &artifact.imports, None));
        assert_eq!((set(said.exports), set(said.imports)), (set(own.exports), set(own.imports)));

        assert_eq!(manifest.layers[0].digest, Descriptor::of("", &artifact.bytes).digest);
        assert_eq!(manifest.layers[0].size, i64::try_from(artifact.bytes.len())?);
        let annotations = manifest.annotations.ok_or("no annotations")?;
        let said = ["version", "licenses", "title", "description", "created"]
            .map(|it| annotations.get(&format!("org.opencontainers.image.{it}")).map_or("", String::as_str));
        let title = format!("{}.wasm", artifact.name());
        let Labels { created, description, licence } = &artifact.labels;
        assert_eq!(said, [&artifact.version, licence, &title, description, created]);
        let by_digest = Reference::with_digest(
            reference.registry().to_owned(),
            reference.repository().to_owned(),
            digest,
        );
        let image = client().pull(&by_digest, &RegistryAuth::Anonymous).await?;
        assert!(image.layers[0].data == artifact.bytes, "{}: other bytes by digest", artifact.package);
    }
    Ok(())
}

#[test]
fn there_is_an_artifact_of_each_component_and_of_the_interface() -> Result<(), Box<dyn Error>> {
    let source = source()?;
    let index: Index = read(&source.layout().join("index.json"))?;
    let found = index.manifests.iter().map(|it| (&it.annotations[NAME], &it.annotations[VERSION]));
    let found: BTreeSet<_> = found.map(|(name, version)| (name.as_str(), version.as_str())).collect();
    let expected: BTreeSet<_> = source.artifacts.iter().map(|it| (it.name(), it.version.as_str())).collect();
    assert_eq!((found, index.manifests.len()), (expected, COMPONENTS.len() + 1));
    Ok(())
}

#[test]
fn what_a_component_wants_and_offers_is_said_of_it() -> Result<(), Box<dyn Error>> {
    let source = source()?;
    let has = |name: &str, what: &str| {
        let artifact = source.artifacts.iter().find(|it| it.name() == name);
        artifact.is_some_and(|it| it.exports.iter().chain(&it.imports).any(|it| it.starts_with(what)))
    };
    for (name, what) in [
        ("gateway-proxy", "wasi:http/incoming-handler@0.2."),
        ("gateway-proxy", "wasi:cli/environment@0.2."),
        ("gateway-service", "wasi:http/handler@0.3."),
        ("gateway-service", "wasi:http/client@0.3."),
        ("gateway", "keyvault:gateway/async-secrets@0.1."),
    ] {
        assert!(has(name, what), "{name} says nothing of {what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_layout_that_was_changed_cannot_be_pushed() -> Result<(), Box<dyn Error>> {
    // Never the release itself.
    let source = made()?;
    let layout = source.layout();
    let index: Index = read(&layout.join("index.json"))?;
    let manifest: Manifest = read(&index.manifests[0].file(layout))?;
    let blob = manifest.layers[0].file(layout);
    let mut bytes = fs::read(&blob)?;
    *bytes.last_mut().ok_or("empty")? ^= 1;
    fs::write(&blob, bytes)?;

    let refused = push(registry().await?, layout).await.err().ok_or("it was pushed")?;
    assert!(refused.to_string().contains("DIGEST_INVALID"), "{refused}");
    Ok(())
}

/// Pushes all that a layout has, byte by byte as it stands there.
async fn push(registry: SocketAddr, layout: &Path) -> Result<(), Box<dyn Error>> {
    let client = client();
    let index: Index = read(&layout.join("index.json"))?;
    for descriptor in &index.manifests {
        let reference = reference(registry, &descriptor.annotations[NAME], &descriptor.annotations[VERSION])?;
        client.auth(&reference, &RegistryAuth::Anonymous, oci_client::RegistryOperation::Push).await?;
        let manifest: Manifest = read(&descriptor.file(layout))?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            client.push_blob(&reference, fs::read(blob.file(layout))?, &blob.digest).await?;
        }
        client.push_manifest_raw(&reference, fs::read(descriptor.file(layout))?, MANIFEST.parse()?).await?;
    }
    Ok(())
}

/// What is pushed, and what should come back.
struct Source {
    artifacts: Vec<Artifact>,
    place: Place,
}

/// Where a layout is.
enum Place {
    /// That of a release, which stays as it is.
    Release(PathBuf),
    /// One that goes with the test.
    Made(TempDir),
}

impl Source {
    fn layout(&self) -> &Path {
        match &self.place {
            Place::Release(layout) => layout,
            Place::Made(layout) => layout.path(),
        }
    }
}

fn source() -> Result<Source, Box<dyn Error>> {
    std::env::var_os("DIST_FOLDER").map_or_else(made, |it| released(Path::new(&it)))
}

/// The layout of the release in `folder`, and artifacts of the files that are beside it.
fn released(folder: &Path) -> Result<Source, Box<dyn Error>> {
    let file = |name: &str, ending: &str| {
        let file = folder.join(format!("keyvault-gateway-{GATEWAY}-{name}.{ending}"));
        fs::read(&file).map_err(|problem| format!("{}: {problem}", file.display()))
    };
    let interface = Artifact::interface(&folder.join("wit"), LICENCE)?;
    assert!(file("wit", "wasm")? == interface.bytes, "the package is not what the text beside it says");
    let mut artifacts = vec![interface];
    for name in COMPONENTS {
        let bill: Value = serde_json::from_slice(&file(name, "cdx.json")?)?;
        let said = |place| bill.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let labels = Labels {
            created: said("/metadata/timestamp").replace(".000000000", ""),
            description: said("/metadata/component/description").to_owned(),
            licence: said("/metadata/component/licenses/0/expression").to_owned(),
        };
        artifacts.push(Artifact::component(name, GATEWAY, file(name, "wasm")?, labels)?);
    }
    Ok(Source { artifacts, place: Place::Release(folder.join("oci")) })
}

/// A layout of the components that are built and of the interface.
fn made() -> Result<Source, Box<dyn Error>> {
    let mut artifacts = vec![Artifact::interface(&root().join("wit/gateway"), LICENCE)?];
    for name in COMPONENTS {
        // Beside what Cargo has for the tests, whatever the target folder is called and from where.
        let components = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("components");
        let file = components.join(name).with_extension("wasm");
        let bytes = fs::read(&file)
            .map_err(|problem| format!("{}: {problem}; `cargo xtask build` makes it", file.display()))?;
        let [created, description, licence] =
            ["2023-11-14T22:13:20Z", "Reads secrets", LICENCE].map(str::to_owned);
        let labels = Labels { created, description, licence };
        artifacts.push(Artifact::component(name, GATEWAY, bytes, labels)?);
    }
    let folder = tempfile::tempdir()?;
    layout::write(folder.path(), &artifacts)?;
    Ok(Source { artifacts, place: Place::Made(folder) })
}

async fn registry() -> std::io::Result<SocketAddr> {
    registry::start(SocketAddr::from(([127, 0, 0, 1], 0))).await
}

fn client() -> WasmClient {
    // The client makes itself ready for TLS and then speaks none. Of several tests the first has made it.
    drop(rustls::crypto::ring::default_provider().install_default());
    // A client without a proxy takes that of the environment. This one has its own, for everybody but the registry.
    WasmClient::new(Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        http_proxy: Some("http://nobody.invalid".to_owned()),
        no_proxy: Some("127.0.0.1".to_owned()),
        connect_timeout: Some(PATIENCE),
        read_timeout: Some(PATIENCE),
        ..ClientConfig::default()
    }))
}

/// Where an artifact goes: as `wkg` looks for the package `keyvault:NAME`.
fn reference(registry: SocketAddr, name: &str, version: &str) -> Result<Reference, Box<dyn Error>> {
    Ok(format!("{registry}/keyvault/{name}:{version}").parse()?)
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, Box<dyn Error>> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a release has beside the interface.
const COMPONENTS: [&str; 5] = ["proxy", "service", "proxy-spin", "service-spin", "config-store"];

/// The version of the gateway, which is that of all its tools.
const GATEWAY: &str = env!("CARGO_PKG_VERSION");

const LICENCE: &str = "Apache-2.0";

/// Longer than the registry, which is on this machine, takes to say anything.
const PATIENCE: Duration = Duration::from_secs(60);
