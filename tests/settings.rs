//! Every setting is in the documents and in the manifest for Spin, and nothing else is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use keyvault_gateway::settings::Settings;
use testkit::host::{FakeHost, World};

#[test]
fn every_setting_is_documented() {
    let text = read("docs/settings.md");
    // The first column of the tables of settings.
    let rows = text.lines().filter_map(|it| it.strip_prefix("| ")?.split(" | ").next());
    let documented: BTreeSet<_> =
        rows.flat_map(|it| it.split('`')).filter(|it| is_setting(it)).map(str::to_owned).collect();
    assert_eq!(documented, all_settings());
}

#[test]
fn every_setting_is_a_variable_of_the_manifest() {
    let variables: BTreeSet<_> = all_settings().iter().map(|it| lower_snake(it)).collect();
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let declared: BTreeSet<_> = manifest["variables"].as_table().unwrap().keys().cloned().collect();
    assert_eq!(declared, variables);
    let given = manifest["component"]["keyvault-gateway"]["variables"].as_table().unwrap();
    let right: BTreeSet<_> =
        given.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    assert_eq!(right, variables.into_iter().map(|it| (it.clone(), format!("{{{{ {it} }}}}"))).collect());
}

#[test]
fn the_manifest_builds_the_component_for_spin() {
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    assert_eq!(manifest["application"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    let component = &manifest["component"]["keyvault-gateway"];
    let command = "cargo build --release --target wasm32-wasip2 --no-default-features --features proxy,spin";
    assert_eq!(component["build"]["command"].as_str(), Some(command));
    assert_eq!(component["source"].as_str(), Some("target/wasm32-wasip2/release/keyvault_gateway.wasm"));
}

/// Each setting that the gateway looks up, whichever way its settings lead.
fn all_settings() -> BTreeSet<String> {
    let vault = ("KeyVaultUri", "https://my-vault.vault.azure.net");
    let client_secret = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    let ways = [
        vec![],
        vec![vault],
        vec![vault, ("MSI_ENDPOINT", "http://a"), ("MSI_SECRET", "s")],
        vec![
            vault,
            ("IDENTITY_ENDPOINT", "http://a"),
            ("IDENTITY_HEADER", "h"),
            ("IDENTITY_SERVER_THUMBPRINT", "t"),
        ],
        vec![vault, client_secret[0], client_secret[1], client_secret[2]],
    ];
    let mut names = BTreeSet::new();
    for way in ways {
        let settings = way.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let host = FakeHost(Rc::new(World { settings, ..World::default() }));
        let _ = Settings::read(&host);
        names.extend(host.0.asked.take().into_iter().map(str::to_owned));
    }
    names
}

fn is_setting(text: &str) -> bool {
    text == "KeyVaultUri"
        || (text.contains('_') && text.bytes().all(|it| it.is_ascii_uppercase() || it == b'_'))
}

fn lower_snake(name: &str) -> String {
    if name == "KeyVaultUri" { "key_vault_uri".to_owned() } else { name.to_ascii_lowercase() }
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}
