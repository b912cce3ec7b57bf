//! The Spin template makes an application with the settings, the dependency and the interface of the gateway.

use std::fs;
use std::path::Path;

use keyvault_gateway::env::NAMES;
use toml::Table;

#[test]
fn new_and_added_components_get_the_same_configuration() {
    let application = manifest("content/spin.toml");
    let added = manifest("metadata/snippets/component.txt");
    let component = &application["component"]["my-app"];
    let mut expected = component.clone();
    let table = expected.as_table_mut().unwrap();
    table["source"] = "sub/target/wasm32-wasip2/release/my_app.wasm".into();
    table["dependencies"]["keyvault:gateway"]["path"] = "sub/proxy-spin.wasm".into();
    table["build"].as_table_mut().unwrap().insert("workdir".to_owned(), "sub".into());
    assert_eq!(added["component"]["my-app"], expected);
    assert_eq!(added["trigger"], application["trigger"]);

    let dependency = &component["dependencies"]["keyvault:gateway"];
    let inherited = toml::Value::from(vec!["allowed_outbound_hosts", "variables"]);
    assert_eq!(dependency["inherit_configuration"], inherited);
    let settings =
        NAMES.map(
            |name| if name == "KeyVaultUri" { "key_vault_uri".to_owned() } else { name.to_ascii_lowercase() },
        );
    let variables = component["variables"].as_table().unwrap();
    assert!(variables.keys().all(|name| settings.contains(name)), "{variables:?}");
    assert!(variables.contains_key("key_vault_uri"));
}

#[test]
fn every_placeholder_is_a_parameter_with_a_fitting_default() {
    let template: Table = read("metadata/spin-template.toml").parse().unwrap();
    let parameters = template["parameters"].as_table().unwrap();
    let spins_own = ["project-name", "output-path"];
    for file in ["content/spin.toml", "content/Cargo.toml.tmpl", "content/src/lib.rs", "content/README.md"] {
        let text = read(file);
        let names = text.split("{{").skip(1).map(|rest| rest.split(['|', '}']).next().unwrap().trim());
        let unknown: Vec<_> =
            names.filter(|name| !parameters.contains_key(*name) && !spins_own.contains(name)).collect();
        assert_eq!(unknown, [""; 0], "{file}");
    }
    let with_default = parameters.values().filter(|parameter| parameter.get("default").is_some()).count();
    assert_eq!(with_default, parameters.len(), "`spin new --accept-defaults` asks nothing");
}

#[test]
fn application_imports_the_interface_of_this_version() {
    let original = fs::read_to_string(root().join("wit/gateway/gateway.wit")).unwrap();
    assert!(read("content/wit/gateway.wit") == original, "copy wit/gateway/gateway.wit to the template");
    let package = original.lines().find_map(|line| line.strip_prefix("package keyvault:gateway@")).unwrap();
    let import = format!("import keyvault:gateway/secrets@{package}");
    assert!(read("content/src/lib.rs").contains(&import), "{import}");
}

/// Reads a manifest of the template as `spin new -t keyvault-gateway my-app` writes it.
fn manifest(file: &str) -> Table {
    let mut text = read(file);
    for (placeholder, value) in [
        ("{{project-name | kebab_case}}", "my-app"),
        ("{{project-name | snake_case}}", "my_app"),
        ("{{project-description}}", ""),
        ("{{http-path}}", "/..."),
        ("{{key-vault-uri}}", "https://my-vault.vault.azure.net"),
        ("{{output-path}}", "sub"),
    ] {
        text = text.replace(placeholder, value);
    }
    text.parse().unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join("templates/keyvault-gateway").join(file)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
