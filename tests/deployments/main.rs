//! What `deploy/` has to copy is right, as far as that can be seen without Azure and without a cluster.

mod scripts;

mod cluster;

mod spinkube;

mod schemas;

mod files;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use files::{files, object, read, yaml_file};
use scripts::unit;

#[test]
fn every_variable_of_a_deployment_is_a_setting() {
    let settings = documented_settings();
    let unit = unit("deploy/systemd/keyvault-gateway.service");
    let credentials = unit
        .iter()
        .filter(|it| it.1 == "LoadCredential")
        .map(|it| it.2.split_once(':').unwrap().0.to_owned());
    let example = read("deploy/systemd/settings.env");
    let example =
        example.lines().filter_map(|it| Some(it.trim_start_matches('#').split_once('=')?.0.to_owned()));
    let pods = yaml_file("deploy/container/kubernetes.yaml");
    let pods = object(&pods, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let bicep = read("deploy/container/container-app.bicep");
    for (place, names) in [
        ("credentials", credentials.collect()),
        ("settings.env", example.collect()),
        ("kubernetes.yaml", names(&pods)),
        ("container-app.bicep", bicep_environment(&bicep)),
    ] {
        let unknown: Vec<_> = names.iter().filter(|it| !settings.contains(*it)).collect();
        assert_eq!((names.is_empty(), unknown), (false, vec![]), "{place}");
    }
}

#[test]
fn every_variable_of_the_spin_app_is_one_of_the_manifest() {
    let app = object(&yaml_file("deploy/spinkube/keyvault-gateway.yaml"), "SpinApp");
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let declared = manifest["variables"].as_table().unwrap();
    let settings: BTreeSet<_> = documented_settings().iter().map(|it| lower_snake(it)).collect();
    let given = names(&app["spec"]["variables"]);
    assert_eq!(
        given,
        ["key_vault_uri", "identity_source", "azure_client_id", "gateway_key", "gateway_callers"]
    );
    let unknown: Vec<_> =
        given.iter().filter(|it| !(declared.contains_key(*it) && settings.contains(*it))).collect();
    assert_eq!(unknown, Vec::<&String>::new());
}

#[test]
fn what_is_secret_comes_from_a_secret() {
    let manifest: toml::Table = read("spin.toml").parse().unwrap();
    let variables = manifest["variables"].as_table().unwrap();
    let is_secret = |name: &str| variables[&lower_snake(name)].get("secret").is_some();
    let pods = yaml_file("deploy/container/kubernetes.yaml");
    let pods = object(&pods, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let spin =
        object(&yaml_file("deploy/spinkube/keyvault-gateway.yaml"), "SpinApp")["spec"]["variables"].clone();
    for variables in [pods, spin] {
        let secret =
            variables.as_array().unwrap().iter().filter(|it| is_secret(it["name"].as_str().unwrap()));
        let secret: Vec<_> = secret.map(|it| (&it["valueFrom"], it.get("value"))).collect();
        let key =
            json!({"secretKeyRef": {"name": "keyvault-gateway", "key": "GATEWAY_KEY", "optional": true}});
        assert_eq!(secret, [(&key, None)]);
    }
    let bicep = read("deploy/container/container-app.bicep");
    let key: Vec<_> =
        bicep.lines().skip_while(|it| it.trim() != "name: 'GATEWAY_KEY'").take(2).map(str::trim).collect();
    assert_eq!(key, ["name: 'GATEWAY_KEY'", "secretRef: 'gateway-key'"]);
}

#[test]
fn the_vault_is_read_with_one_role_and_keeps_what_is_deleted() {
    let bicep = read("deploy/azure/vault.bicep");
    for line in [
        "var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'",
        // Microsoft retires all versions before this one on 27 February 2027.
        "resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {",
        "enableRbacAuthorization: true",
        "enablePurgeProtection: true",
        "enableSoftDelete: true",
        "roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)",
        "category: 'AuditEvent'",
    ] {
        assert_eq!(bicep.lines().filter(|it| it.trim() == line).count(), 1, "{line}");
    }
    assert_eq!(bicep.matches("Microsoft.Authorization/roleAssignments@").count(), 1);
}

#[test]
fn every_parameter_and_output_of_a_template_is_described() {
    let templates: Vec<_> = files("deploy").into_iter().filter(|it| it.ends_with(".bicep")).collect();
    let all =
        ["deploy/alerts/alerts.bicep", "deploy/azure/vault.bicep", "deploy/container/container-app.bicep"];
    assert_eq!(templates, all);
    for template in templates {
        let text = read(&template);
        // What belongs together stands together, with an empty line before and after it.
        let declared = text
            .split("\n\n")
            .filter(|it| it.lines().any(|it| it.starts_with("param ") || it.starts_with("output ")));
        let bare: Vec<_> = declared.filter(|it| !it.starts_with("@description('")).collect();
        assert_eq!(bare, Vec::<&str>::new(), "{template}");
    }
}

#[test]
fn no_file_has_what_looks_like_a_secret() {
    let places = ["deploy", "docs/deploy"];
    let found: Vec<_> = places
        .iter()
        .flat_map(|it| files(it))
        .flat_map(|file| secrets(&read(&file)).into_iter().map(move |it| (file.clone(), it)))
        .collect();
    assert_eq!(found, []);
}

#[test]
fn what_looks_like_a_secret_is_seen() {
    // Made of pieces, so that scanners of secrets have nothing to find here.
    let token = format!("ey{}", "J0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9");
    let key = "q7Xv".repeat(10) + "Zt8Q==";
    let hexadecimal = "9f86d081".repeat(4);
    let private = format!("-----BEGIN {} KEY-----", "PRIVATE");
    for (text, expected) in [
        (token.as_str(), vec![token.clone()]),
        (&format!("GATEWAY_KEY={hexadecimal}"), vec![hexadecimal.clone()]),
        (&format!("key: \"{key}\""), vec![key.trim_end_matches('=').to_owned()]),
        (&private, vec![private.clone()]),
        (
            "IDENTITY_RESOURCE_ID, 4633458b-17de-408a-b874-0445c86b69e6, Microsoft.Authorization/roleDefinitions",
            vec![],
        ),
    ] {
        assert_eq!(secrets(text), expected, "{text}");
    }
}

/// The settings of the first column of the tables, in the order of the document's first mention of each.
fn documented_settings() -> Vec<String> {
    let document = read("docs/settings.md");
    let mut settings = Vec::new();
    let rows = document.lines().filter_map(|it| it.strip_prefix("| ")?.split(" | ").next());
    for name in rows.flat_map(|it| it.split('`')).filter(|it| is_setting(it)) {
        if !settings.iter().any(|it| it == name) {
            settings.push(name.to_owned());
        }
    }
    settings
}

fn is_setting(text: &str) -> bool {
    text == "KeyVaultUri"
        || (text.contains('_') && text.bytes().all(|it| it.is_ascii_uppercase() || it == b'_'))
}

fn lower_snake(name: &str) -> String {
    if name == "KeyVaultUri" { "key_vault_uri".to_owned() } else { name.to_ascii_lowercase() }
}

fn names(variables: &Value) -> Vec<String> {
    variables.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

/// The names in the list `env` of a template: the lines between it and the probes.
fn bicep_environment(template: &str) -> Vec<String> {
    let (_, rest) = template.split_once(" env: ").unwrap();
    let (list, _) = rest.split_once(" probes: ").unwrap();
    list.lines()
        .filter_map(|it| Some(it.trim().strip_prefix("name: '")?.strip_suffix('\'')?.to_owned()))
        .collect()
}

/// The runs of characters that are too long and too varied for a word: 32 hexadecimal digits, or 40 characters of base64 with
/// digits, capitals and small letters; the start of a token of Entra ID; a private key.
fn secrets(text: &str) -> Vec<String> {
    let in_base64 = |it: char| it.is_ascii_alphanumeric() || "+/".contains(it);
    let runs = text.split(|it: char| !in_base64(it)).filter(|run| {
        let hexadecimal = run.len() >= 32 && run.bytes().all(|it| it.is_ascii_hexdigit());
        let has = |kind: fn(&u8) -> bool| run.bytes().any(|it| kind(&it));
        let varied = has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
        hexadecimal || (run.len() >= 40 && varied) || (run.len() >= 20 && run.starts_with("eyJ"))
    });
    let keys = text.lines().filter(|it| it.contains("-----BEGIN ") && it.contains("PRIVATE"));
    runs.chain(keys).map(str::to_owned).collect()
}
