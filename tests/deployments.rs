//! The settings in the documentation, the Spin manifest and `deploy/` are the settings of the gateway.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use keyvault_gateway::env::NAMES;
use keyvault_gateway::telemetry::metrics::Metrics;
use serde_json::Value;

#[test]
fn every_variable_of_a_deployment_is_a_setting() {
    let settings = documented_settings();
    let unit = read("deploy/systemd/keyvault-gateway.service");
    let example = read("deploy/systemd/settings.env");
    let pods = read("deploy/container/kubernetes.yaml");
    let app = read("deploy/container/container-app.bicep");
    let module = read("deploy/terraform/container-app/main.tf");
    let credentials = unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'));
    let variables = example.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    for (place, names) in [
        ("credentials", credentials.map(|(name, _)| name).collect::<Vec<_>>()),
        ("settings.env", variables.map(|(name, _)| name).collect()),
        ("kubernetes.yaml", names(between(&pods, " env:\n", " securityContext:\n"), "- name: ")),
        ("container-app.bicep", names(between(&app, " env: ", " probes: "), "name: '")),
        ("container-app/main.tf", terraform_names(between(&module, " env {\n", " liveness_probe {\n"))),
    ] {
        let unknown: Vec<_> = names.iter().filter(|name| !settings.contains(**name)).collect();
        assert_eq!((names.len() > 1, unknown), (true, vec![]), "{place}: {names:?}");
    }
}

#[test]
fn chart_takes_every_setting_of_a_pod() {
    let schema: Value =
        serde_json::from_str(&read("deploy/helm/keyvault-gateway/values.schema.json")).unwrap();
    let taken = schema["properties"]["settings"]["properties"].as_object().unwrap();
    let taken: BTreeSet<_> = taken.keys().map(String::as_str).collect();
    let template = read("deploy/helm/keyvault-gateway/templates/deployment.yaml");
    let set: BTreeSet<_> = names(between(&template, " env:\n", " securityContext:\n"), "- name: ")
        .into_iter()
        .filter(|name| !name.starts_with('{'))
        .collect();
    let known = NAMES.into_iter().chain(["GATEWAY_OIDC"]).collect::<BTreeSet<_>>();
    // The chart has `vaultUri` for the first. The others are of platforms that are no Kubernetes, and of Spin.
    let elsewhere = BTreeSet::from([
        "KEY_VAULT_URI",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "DEFAULT_IDENTITY_CLIENT_ID",
        "GATEWAY_STORE",
        "GATEWAY_STORE_KEY",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "IDENTITY_SERVER_THUMBPRINT",
        "IMDS_ENDPOINT",
        "MSI_ENDPOINT",
        "MSI_SECRET",
    ]);
    assert_eq!(&(&taken | &set) | &elsewhere, known);
    // Without the webhook the chart sets these itself, and refuses them among the settings.
    let both: Vec<_> = taken.intersection(&set).copied().collect();
    assert_eq!(both, ["AZURE_AUTHORITY_HOST", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "IDENTITY_SOURCE"]);
}

/// `ci/kubernetes.sh` compares all objects, by Helm itself.
#[test]
fn chart_has_the_pod_of_the_manifest() {
    let manifest = read("deploy/container/kubernetes.yaml");
    let template = read("deploy/helm/keyvault-gateway/templates/deployment.yaml");
    let values = read("deploy/helm/keyvault-gateway/values.yaml");
    let lines =
        |text: &str| -> BTreeSet<String> { text.lines().map(|line| line.trim().to_owned()).collect() };
    let chart = &lines(&template) | &lines(&values);
    let pod =
        between(&manifest, "\nkind: Deployment\n", "\n---\n").split_once("\n      containers:\n").unwrap().1;
    let missing: Vec<_> =
        pod.lines().map(str::trim).filter(|line| !line.starts_with('#') && !chart.contains(*line)).collect();
    let expected = [
        "image: registry.example/keyvault-gateway:0.1.0",
        r#"args: ["--max-connections", "1000"]"#,
        "value: https://my-vault.vault.azure.net",
        "name: keyvault-gateway",
        "name: keyvault-gateway",
        "name: keyvault-gateway",
        "path: /readyz",
    ];
    assert_eq!(missing, expected);
    for value in [
        "replicas: 3",
        "  maxConnections: 1000",
        "readinessPath: /readyz",
        "  existingSecret: keyvault-gateway",
    ] {
        assert!(values.lines().any(|line| line == value), "{value}");
    }
}

#[test]
fn versions_of_chart_and_images_are_that_of_the_gateway() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("helm/keyvault-gateway/Chart.yaml", format!("version: {version}")),
        ("helm/keyvault-gateway/Chart.yaml", format!("appVersion: {version}")),
        ("container/kubernetes.yaml", format!("image: registry.example/keyvault-gateway:{version}")),
        ("kustomize/example/kustomization.yaml", format!("newTag: {version}")),
    ] {
        assert!(
            read(&format!("deploy/{file}")).lines().any(|present| present.trim() == line),
            "{file}: {line}"
        );
    }
}

#[test]
fn prometheus_rule_object_has_the_rules() {
    let rules = read("deploy/alerts/prometheus.yaml");
    let (_, rules) = rules.split_once("\ngroups:\n").unwrap();
    let object = read("deploy/alerts/kubernetes/prometheusrule.yaml");
    let (_, inner) = object.split_once("\nspec:\n  groups:\n").unwrap();
    assert_eq!(inner.lines().map(|line| &line[2..]).collect::<Vec<_>>(), rules.lines().collect::<Vec<_>>());
}

#[test]
fn dashboard_shows_existing_metrics() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/dashboard.json")).unwrap();
    let rendered = Metrics::new().render((0, 0), Some(Default::default()));
    let families: BTreeSet<_> =
        rendered.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut shown = BTreeSet::new();
    for query in queries.map(|target| target["expr"].as_str().unwrap()) {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        for word in query.split(|other| !letter(other)).filter(|word| word.starts_with("keyvault_gateway_")) {
            shown.insert(
                families.get(word.trim_end_matches("_bucket")).copied().unwrap_or_else(|| panic!("{query}")),
            );
        }
        for outcome in query.split("cache=\"").skip(1) {
            let outcome = outcome.split('"').next().unwrap();
            assert!(rendered.contains(&format!("cache=\"{outcome}\"")), "{query}");
        }
    }
    // Those that are on no panel: the age tells little beside the remaining life, the bytes little beside the values.
    let hidden = BTreeSet::from(["keyvault_gateway_cache_bytes", "keyvault_gateway_token_age_seconds"]);
    assert_eq!(families.difference(&shown).copied().collect::<BTreeSet<_>>(), hidden);
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
fn container_app_has_the_same_settings_in_bicep_and_terraform() {
    let (app, module) =
        (read("deploy/container/container-app.bicep"), read("deploy/terraform/container-app/main.tf"));
    let app: BTreeSet<_> = names(between(&app, " env: ", " probes: "), "name: '").into_iter().collect();
    let module = terraform_names(between(&module, " env {\n", " liveness_probe {\n"));
    assert_eq!(module.into_iter().collect::<BTreeSet<_>>(), app);
}

#[test]
fn image_has_checked_files_and_no_rights() {
    let image = read("deploy/container/Containerfile");
    let present = |line: &str| image.lines().filter(|present| present.trim() == line).count();
    assert_eq!(present("ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot"), 1);
    assert_eq!(present(r"sha256sum --check --strict sums; \"), 1);
    assert_eq!(present("USER 65532:65532"), 1);
    assert!(!image.contains("cargo "));
}

/// The roles: Key Vault Secrets User (Microsoft, "Azure built-in roles"), or one that has only its first data action.
#[test]
fn identity_has_one_role_which_reads_secrets() {
    let files = below("deploy/azure").into_iter().chain(below("deploy/terraform"));
    let texts: Vec<_> = files.map(|file| read(&file)).collect();
    let count = |word: &str| texts.iter().map(|text| text.matches(word).count()).sum::<usize>();
    assert_eq!((count("/roleAssignments@"), count("\"azurerm_role_assignment\"")), (1, 1));
    let secrets_user = "4633458b-17de-408a-b874-0445c86b69e6";
    for (file, line) in [
        ("azure/vault.bicep", format!("param roleName string = '{secrets_user}'")),
        ("azure/existing-vault.bicep", format!("param roleName string = '{secrets_user}'")),
        ("azure/custom-role.bicep", "'Microsoft.KeyVault/vaults/secrets/getSecret/action'".to_owned()),
        ("terraform/main.tf", format!("secrets_user = \"{secrets_user}\"")),
        (
            "terraform/main.tf",
            "data_actions = [\"Microsoft.KeyVault/vaults/secrets/getSecret/action\"]".to_owned(),
        ),
    ] {
        let text = read(&format!("deploy/{file}"));
        assert_eq!(text.lines().filter(|present| present.trim() == line).count(), 1, "{file}: {line}");
    }
    // No other data action.
    assert_eq!(count("Microsoft.KeyVault/vaults/secrets/"), 2);
}

#[test]
fn workflows_pin_actions_by_commit() {
    let mut pinned = 0;
    for file in below(".github/workflows") {
        for line in read(&file).lines() {
            let Some(action) = line.trim().trim_start_matches("- ").strip_prefix("uses: ") else { continue };
            let (commit, version) = action.split_once('@').unwrap().1.split_once(" # v").unwrap_or_default();
            let is_hash =
                commit.len() == 40 && commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            assert!(is_hash && !version.is_empty(), "{file}: {action}");
            pinned += 1;
        }
    }
    assert!(pinned > 10, "{pinned}");
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

/// The names in blocks of `env`, among others.
fn terraform_names(text: &str) -> Vec<&str> {
    let assigned = text.lines().filter_map(|line| line.trim().strip_prefix("name ")?.split('"').nth(1));
    assigned.collect()
}

/// The paths of the files directly in a folder.
fn below(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let entries = entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file());
    entries.map(|entry| format!("{folder}/{}", entry.file_name().into_string().unwrap())).collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}
