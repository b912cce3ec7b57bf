//! The builds for Spin, on a host that offers exactly what Spin offers, with the manifest of this repository.

use std::collections::BTreeMap;

use keyvault_emulator::{Credential, Source, facts};

use crate::gateway::{
    Gateway, MANIFEST, SECRETS, SOURCES_WITHOUT_FILE, azure, calls, in_virtual_time, request_for, settings,
};
use crate::manifest::Application;
use crate::wasmtime_host::{SPIN, World};

#[test]
fn the_manifest_allows_every_token_source_and_cloud() {
    for source in SOURCES_WITHOUT_FILE {
        for (vault, exchange) in [
            ("demo.vault.azure.net", facts::EXCHANGE_AUDIENCE),
            ("demo.vault.azure.cn", "api://AzureADTokenExchangeChina"),
            ("demo.vault.usgovcloudapi.net", "api://AzureADTokenExchangeUSGov"),
        ] {
            on_spin(async |world| {
                let emulator = azure();
                emulator.configure(|settings| {
                    let trusted = settings.federated_credentials.iter_mut();
                    trusted.for_each(|trusted| trusted.audience = exchange.to_owned());
                });
                let mut settings = settings(&emulator, source);
                settings[0].1 = format!("https://{vault}/");
                let gateway = Gateway::start(world, &emulator, &settings);
                gateway.post().await.expect((200, ""), (world, source, vault));
                let [read] = emulator.vault_calls().try_into().unwrap();
                assert_eq!(
                    (read.authority.as_str(), read.credential),
                    (vault, Credential::Right),
                    "{world:?}"
                );
            });
        }
    }
}

#[test]
fn hosts_outside_the_manifest_are_not_called() {
    for (setting, address, tokens) in [
        ("KeyVaultUri", "https://vault.internal/", 1),
        ("KeyVaultUri", "https://demo.vault.azure.net:8443/", 1),
        ("IDENTITY_ENDPOINT", "http://169.254.131.2:8081/msi/token", 0),
    ] {
        on_spin(async |world| {
            let emulator = azure();
            let mut settings = settings(&emulator, Source::AppService2019);
            settings.iter_mut().find(|pair| pair.0 == setting).unwrap().1 = address.to_owned();
            settings.push(("KEY_VAULT_RESOURCE", "https://vault.azure.net".to_owned()));
            let response = Gateway::start(world, &emulator, &settings).post().await;
            response.expect((503, "Unavailable"), (world, address));
            let message = response.json()["error"]["message"].clone();
            assert_eq!(message, "The gateway's host does not let it call Azure.", "{world:?} {address}");
            assert_eq!(calls(&emulator), (tokens, 0), "{world:?} {address}");
        });
    }
}

#[test]
fn settings_are_variables_and_wrong_ones_are_named() {
    on_spin(async |world| {
        let emulator = azure();
        let gateway = Gateway::new(world, &emulator, Source::AppService2019, &[("GATEWAY_CALLERS", CALLERS)]);
        for (secret, outcome) in [(SECRETS[1], (200, "")), (SECRETS[0], (403, "Forbidden"))] {
            let mut request = request_for(secret);
            request.headers_mut().insert("x-functions-key", "a".parse().unwrap());
            gateway.send(request).await.expect(outcome, (world, secret));
        }
        for (value, outcome) in [("many", (500, "ConfigurationError")), ("", (200, ""))] {
            let entries = [("GATEWAY_CACHE_ENTRIES", value)];
            let response = Gateway::new(world, &emulator, Source::AppService2019, &entries).post().await;
            response.expect(outcome, (world, value));
            if outcome.0 == 500 {
                let message = response.json()["error"]["message"].to_string();
                assert!(message.contains("GATEWAY_CACHE_ENTRIES") && !message.contains(value), "{message}");
            }
        }
    });
    let error = Application::load(MANIFEST, &BTreeMap::new()).unwrap_err();
    assert_eq!(error, "key_vault_uri is required and has no value");
}

/// The lines that docs/how-to/spin.md adds to the manifest, with another directory.
#[test]
fn the_reader_of_token_files_gets_what_the_manifest_lets_it_inherit() {
    let page = include_str!("../../../../docs/how-to/spin.md");
    let added = page.split("```toml\n").find(|block| block.starts_with("[component.keyvault-gateway]\n"));
    let added = added.unwrap().split("```").next().unwrap();
    let (directory, mount) = (tempfile::tempdir().unwrap(), "/var/run/secrets/azure/wi");
    let source = format!("source = \"{mount}\"");
    assert!(added.contains(&source));
    let added = added.replace(&source, &format!("source = {:?}", directory.path()));
    let (component, dependency) = added.split_once("\n\n").unwrap();
    let manifest = MANIFEST.replace("[component.keyvault-gateway]\n", &format!("{component}\n")) + dependency;
    let emulator = azure();
    std::fs::create_dir(directory.path().join("token")).unwrap();
    std::fs::write(directory.path().join("token/azure-identity-token"), emulator.cluster_assertion())
        .unwrap();
    let mut settings = settings(&emulator, Source::WorkloadIdentity);
    settings.push(("AZURE_FEDERATED_TOKEN_FILE", format!("{mount}/token/azure-identity-token")));
    // Without `files` this host gives the reader no directory, and the gateway answers. Real Spin puts an
    // adapter before what the reader does not inherit, which traps: there the request gets Spin's 500.
    for (manifest, outcome) in [
        (manifest.clone(), (200, "")),
        (manifest.replace(r#"["files"]"#, r#"["variables"]"#), (502, "IdentityError")),
    ] {
        in_virtual_time(async {
            let world = World::FederatedOnSpin;
            let gateway = Gateway::start_by(&manifest, world, &emulator, &settings);
            gateway.post().await.expect(outcome, &manifest);
        });
    }
}

/// Runs a test with the components of both worlds on Spin.
pub(crate) fn on_spin(test: impl AsyncFn(World)) {
    SPIN.into_iter().for_each(|world| in_virtual_time(test(world)));
}

/// A caller whose API key is `a`.
const CALLERS: &str = r#"[{"name":"billing","secrets":["db-*"],
    "key_sha256":["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]}]"#;
