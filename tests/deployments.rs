//! The settings in the documentation, the Spin manifest and `deploy/` are the settings of the gateway.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use keyvault_gateway::env::NAMES;

#[test]
fn every_variable_of_a_deployment_is_a_setting() {
    let settings = documented_settings();
    let unit = read("deploy/systemd/keyvault-gateway.service");
    let example = read("deploy/systemd/settings.env");
    let pods = read("deploy/container/kubernetes.yaml");
    let app = read("deploy/container/container-app.bicep");
    let credentials = unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'));
    let variables = example.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    for (place, names) in [
        ("credentials", credentials.map(|(name, _)| name).collect::<Vec<_>>()),
        ("settings.env", variables.map(|(name, _)| name).collect()),
        ("kubernetes.yaml", names(between(&pods, " env:\n", " securityContext:\n"), "- name: ")),
        ("container-app.bicep", names(between(&app, " env: ", " probes: "), "name: '")),
    ] {
        let unknown: Vec<_> = names.iter().filter(|name| !settings.contains(**name)).collect();
        assert_eq!((names.len() > 1, unknown), (true, vec![]), "{place}: {names:?}");
    }
}

#[test]
fn spin_app_declares_variables_and_uses_secret_references() {
    let app = read("deploy/spinkube/keyvault-gateway.yaml");
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let declared = manifest["variables"].as_table().unwrap();
    // The lines after a `#` are examples to be used as they are.
    let variables = between(&app, "\n  variables:\n", "\n  runtimeConfig:\n").replace("# ", "");
    let blocks: Vec<_> =
        variables.split("- name: ").skip(1).map(|block| block.split_once('\n').unwrap()).collect();
    assert!(blocks.len() > 4);
    for (name, value) in blocks {
        let variable = declared.get(name).unwrap_or_else(|| panic!("spin.toml has no {name}"));
        let secret = variable.get("secret").and_then(toml::Value::as_bool) == Some(true);
        assert!(!secret || value.contains("secretKeyRef:") && !value.contains(" value:"), "{name}");
    }
}

#[test]
fn image_has_pinned_versions_and_vault_has_one_role() {
    let toolchain: toml::Table = read("rust-toolchain.toml").parse().unwrap();
    let rust = toolchain["toolchain"]["channel"].as_str().unwrap();
    for (file, line) in [
        ("container/Containerfile", format!("ARG BUILD_IMAGE=docker.io/library/rust:{rust}-bookworm")),
        ("container/Containerfile", "USER 65532:65532".to_owned()),
        // Key Vault Secrets User (Microsoft, "Azure built-in roles").
        ("azure/vault.bicep", "var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'".to_owned()),
    ] {
        let text = read(&format!("deploy/{file}"));
        assert_eq!(text.lines().filter(|present| *present == line).count(), 1, "{file}: {line}");
    }
    assert_eq!(read("deploy/azure/vault.bicep").matches("/roleAssignments@").count(), 1);
}

#[test]
fn every_setting_is_documented() {
    assert_eq!(documented_settings(), BTreeSet::from(NAMES.map(str::to_owned)));
}

#[test]
fn spin_manifest_declares_every_setting() {
    let variables: BTreeSet<_> =
        BTreeSet::from(NAMES.map(str::to_owned)).iter().map(|name| lower_snake(name)).collect();
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let declared: BTreeSet<_> = manifest["variables"].as_table().unwrap().keys().cloned().collect();
    assert_eq!(declared, variables);
    let given = manifest["component"]["keyvault-gateway"]["variables"].as_table().unwrap();
    let passed: BTreeSet<_> =
        given.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    assert_eq!(
        passed,
        variables.into_iter().map(|name| (name.clone(), format!("{{{{ {name} }}}}"))).collect()
    );
}

#[test]
fn spin_manifest_builds_the_component() {
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    assert_eq!(manifest["application"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    let component = &manifest["component"]["keyvault-gateway"];
    let command = "cargo build --release --target wasm32-wasip2 --no-default-features --features proxy,spin";
    assert_eq!(component["build"]["command"].as_str(), Some(command));
    assert_eq!(component["source"].as_str(), Some("target/wasm32-wasip2/release/keyvault_gateway.wasm"));
}

/// The settings in the first columns of the tables in `docs/reference/settings.md`.
fn documented_settings() -> BTreeSet<String> {
    let page = read("docs/reference/settings.md");
    let columns = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let upper = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let is_setting = |name: &&str| *name == "KeyVaultUri" || name.contains('_') && upper(name);
    columns.flat_map(|column| column.split('`')).filter(is_setting).map(str::to_owned).collect()
}

fn lower_snake(name: &str) -> String {
    if name == "KeyVaultUri" { "key_vault_uri".to_owned() } else { name.to_ascii_lowercase() }
}

fn names<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| Some(line.trim().strip_prefix(prefix)?.trim_end_matches('\''))).collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}
