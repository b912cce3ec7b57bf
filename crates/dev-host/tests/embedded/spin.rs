//! The builds for Spin on a host that offers what Spin offers and nothing more, by the manifest of this repository.

use std::collections::BTreeMap;

use keyvault_emulator::{Credential, Source};

use crate::gateway::{Gateway, MANIFEST, SECRETS, azure, calls, in_virtual_time, request_for, settings};
use crate::manifest::Application;
use crate::wasmtime_host::{SPIN, World};

#[test]
fn the_manifest_lets_it_reach_every_source_of_tokens_and_every_cloud() {
    for (_, source) in Source::ALL {
        for vault in ["demo.vault.azure.net", "demo.vault.azure.cn", "demo.vault.usgovcloudapi.net"] {
            on_spin(async |world| {
                let emulator = azure();
                let mut settings = settings(&emulator, source);
                settings[0].1 = format!("https://{vault}/");
                let gateway = Gateway::start(world, &emulator, &settings);
                gateway.ask().await.expect((200, ""), (world, source, vault));
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
fn what_is_not_on_the_list_is_not_reached() {
    for (setting, address, tokens) in [
        ("KeyVaultUri", "https://vault.internal/", 1),
        ("KeyVaultUri", "https://demo.vault.azure.net:8443/", 1),
        ("IDENTITY_ENDPOINT", "http://169.254.131.2:8081/msi/token", 0),
    ] {
        on_spin(async |world| {
            let emulator = azure();
            let mut settings = settings(&emulator, Source::AppService2019);
            settings.iter_mut().find(|it| it.0 == setting).unwrap().1 = address.to_owned();
            settings.push(("KEY_VAULT_RESOURCE", "https://vault.azure.net".to_owned()));
            let answer = Gateway::start(world, &emulator, &settings).ask().await;
            answer.expect((503, "Unavailable"), (world, address));
            let message = answer.json()["error"]["message"].clone();
            assert_eq!(message, "The gateway's host does not let it call Azure.", "{world:?} {address}");
            assert_eq!(calls(&emulator), (tokens, 0), "{world:?} {address}");
        });
    }
}

#[test]
fn settings_are_variables_and_a_wrong_one_is_named() {
    on_spin(async |world| {
        let emulator = azure();
        let gateway = Gateway::of(world, &emulator, Source::AppService2019, &[("GATEWAY_CALLERS", CALLERS)]);
        for (secret, outcome) in [(SECRETS[1], (200, "")), (SECRETS[0], (403, "Forbidden"))] {
            let mut asked = request_for(secret);
            asked.headers_mut().insert("x-functions-key", "a".parse().unwrap());
            gateway.send(asked).await.expect(outcome, (world, secret));
        }
        for (value, outcome) in [("many", (500, "ConfigurationError")), ("", (200, ""))] {
            let entries = [("GATEWAY_CACHE_ENTRIES", value)];
            let answer = Gateway::of(world, &emulator, Source::AppService2019, &entries).ask().await;
            answer.expect(outcome, (world, value));
            if outcome.0 == 500 {
                let message = answer.json()["error"]["message"].to_string();
                assert!(message.contains("GATEWAY_CACHE_ENTRIES") && !message.contains(value), "{message}");
            }
        }
    });
    let problem = Application::load(MANIFEST, &BTreeMap::new()).unwrap_err();
    assert_eq!(problem, "key_vault_uri is required and has no value");
}

/// Runs a test with the components of both worlds on Spin.
pub(crate) fn on_spin(test: impl AsyncFn(World)) {
    SPIN.into_iter().for_each(|world| in_virtual_time(test(world)));
}

/// One caller, whose key is `a`.
const CALLERS: &str = r#"[{"name":"billing","secrets":["db-*"],
    "key_sha256":["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]}]"#;
