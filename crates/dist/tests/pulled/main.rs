//! What comes back from a registry with the client that `wkg` has, after a layout was pushed to it.

mod registry;

use dist::artifact::Artifact;
use dist::layout::{self, Descriptor, Index, Labels, MANIFEST, Manifest, NAME, VERSION};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_wasm::{WasmClient, WasmConfig};
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[tokio::test]
async fn what_is_pushed_comes_back_as_the_client_of_wkg_would_have_made_it() -> Result<(), Box<dyn Error>> {
    let (artifacts, layout) = layout()?;
    let registry = registry().await?;
    push(registry, layout.path()).await?;
    for artifact in artifacts {
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

#[tokio::test]
async fn what_a_component_wants_and_offers_is_said_of_it() -> Result<(), Box<dyn Error>> {
    let (artifacts, _layout) = layout()?;
    let has = |name: &str, what: &str| {
        let artifact = artifacts.iter().find(|it| it.name() == name);
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
    let (_, layout) = layout()?;
    let index: Index = read(&layout.path().join("index.json"))?;
    let manifest: Manifest = read(&index.manifests[0].file(layout.path()))?;
    let blob = manifest.layers[0].file(layout.path());
    let mut bytes = fs::read(&blob)?;
    *bytes.last_mut().ok_or("empty")? ^= 1;
    fs::write(&blob, bytes)?;

    let refused = push(registry().await?, layout.path()).await.err().ok_or("it was pushed")?;
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

/// Artifacts of two built components, one for each WASI, and of the interface, and a layout of them.
fn layout() -> Result<(Vec<Artifact>, TempDir), Box<dyn Error>> {
    let [created, description, licence] =
        ["2023-11-14T22:13:20Z", "Reads secrets", LICENCE].map(str::to_owned);
    let labels = Labels { created, description, licence };
    let mut artifacts = vec![Artifact::interface(&root().join("wit/gateway"), LICENCE)?];
    for name in ["proxy", "service"] {
        let chosen = std::env::var_os("CARGO_TARGET_DIR").filter(|it| !it.is_empty());
        let target = root().join(chosen.unwrap_or_else(|| "target".into()));
        let file = target.join("components").join(name).with_extension("wasm");
        let bytes = fs::read(&file)
            .map_err(|problem| format!("{}: {problem}; `cargo xtask build` makes it", file.display()))?;
        artifacts.push(Artifact::component(name, "0.1.0", bytes, labels.clone())?);
    }
    let folder = tempfile::tempdir()?;
    layout::write(folder.path(), &artifacts)?;
    Ok((artifacts, folder))
}

async fn registry() -> std::io::Result<SocketAddr> {
    registry::start(SocketAddr::from(([127, 0, 0, 1], 0))).await
}

fn client() -> WasmClient {
    // The client makes itself ready for TLS and then speaks none. Of several tests the first has made it.
    drop(rustls::crypto::ring::default_provider().install_default());
    WasmClient::new(Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() }))
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

const LICENCE: &str = "Apache-2.0";
