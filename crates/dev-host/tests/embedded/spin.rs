//! The builds for Spin on a host that offers what Spin offers and nothing more, by the manifest of this repository.

use std::collections::BTreeMap;
use std::time::Duration;

use keyvault_emulator::{Credential, Source};
use tokio::time::sleep;

use crate::gateway::{Gateway, MANIFEST, SECRETS, azure, full, in_virtual_time, request, settings};
use crate::manifest::Application;
use crate::wasmtime_host::{SPIN, World};

#[test]
fn the_manifest_lets_it_reach_every_source_of_tokens_and_every_cloud() {
    for source in [
        Source::AppService2019,
        Source::AppService2017,
        Source::Imds,
        Source::CloudShell,
        Source::ClientSecret,
    ] {
        for vault in ["demo.vault.azure.net", "demo.vault.azure.cn", "demo.vault.usgovcloudapi.net"] {
            for world in SPIN {
                in_virtual_time(async {
                    let emulator = azure();
                    let mut settings = settings(&emulator, source);
                    settings[0].1 = format!("https://{vault}/");
                    let gateway = Gateway::start(world, &emulator, &settings);
                    assert_eq!(
                        gateway.ask().await.outcome(),
                        (200, String::new()),
                        "{world:?} {source:?} {vault}"
                    );
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
}

#[test]
fn what_is_not_on_the_list_is_not_reached() {
    for (place, setting, address) in [
        (0, "KEY_VAULT_RESOURCE", "https://vault.internal/"),
        (1, "IDENTITY_ENDPOINT", "http://169.254.131.2:8081/msi/token"),
    ] {
        for world in SPIN {
            in_virtual_time(async {
                let emulator = azure();
                let mut settings = settings(&emulator, Source::AppService2019);
                if place == 0 {
                    settings[0].1 = address.to_owned();
                    settings.push((setting, "https://vault.azure.net".to_owned()));
                } else {
                    let endpoint = settings.iter_mut().find(|it| it.0 == setting).unwrap();
                    endpoint.1 = address.to_owned();
                }
                let gateway = Gateway::start(world, &emulator, &settings);
                let answer = gateway.ask().await;
                assert_eq!(answer.outcome(), (503, "Unavailable".to_owned()), "{world:?} {address}");
                let message = answer.json()["error"]["message"].clone();
                assert_eq!(message, "The gateway's host does not let it call Azure.", "{world:?} {address}");
                assert_eq!(emulator.vault_calls().len(), 0, "{world:?} {address}");
                assert_eq!(emulator.token_calls().len(), usize::from(place == 0), "{world:?} {address}");
            });
        }
    }
}

#[test]
fn under_wasi_0_2_every_request_has_an_instance_and_two_calls() {
    in_virtual_time(async {
        let emulator = azure();
        let settings = settings(&emulator, Source::AppService2019);
        let gateway = Gateway::start(World::ProxyOnSpin, &emulator, &settings);
        for _ in 0..3 {
            assert_eq!(gateway.ask().await.outcome(), (200, String::new()));
        }
        assert_eq!(gateway.instances(), 3);
        assert_eq!((emulator.token_calls().len(), emulator.vault_calls().len()), (3, 3));
    });
}

#[test]
fn under_wasi_0_3_an_instance_is_kept_for_a_second_and_for_128_requests() {
    in_virtual_time(async {
        let emulator = azure();
        let settings = settings(&emulator, Source::AppService2019);
        let gateway = Gateway::start(World::ServiceOnSpin, &emulator, &settings);
        for number in 0..128 {
            assert_eq!(gateway.ask().await.outcome(), (200, String::new()), "{number}");
        }
        assert_eq!(
            (gateway.instances(), emulator.token_calls().len(), emulator.vault_calls().len()),
            (1, 1, 1)
        );

        assert_eq!(gateway.ask().await.outcome(), (200, String::new()));
        assert_eq!(
            (gateway.instances(), emulator.token_calls().len(), emulator.vault_calls().len()),
            (2, 2, 2)
        );

        sleep(Duration::from_millis(900)).await;
        assert_eq!(gateway.ask().await.outcome(), (200, String::new()));
        assert_eq!(gateway.instances(), 2, "it has rested for less than a second");
        sleep(Duration::from_millis(1600)).await;
        assert_eq!(gateway.ask().await.outcome(), (200, String::new()));
        assert_eq!(gateway.instances(), 3, "it has rested for more than a second");
    });
}

#[test]
fn settings_are_variables_and_the_callers_are_those_of_the_variables() {
    for world in SPIN {
        in_virtual_time(async {
            let emulator = azure();
            let mut settings = settings(&emulator, Source::AppService2019);
            settings.push(("GATEWAY_CALLERS", CALLERS.to_owned()));
            let gateway = Gateway::start(world, &emulator, &settings);
            for (key, secret, outcome) in [
                ("a", SECRETS[1], (200, "")),
                ("a", SECRETS[0], (403, "Forbidden")),
                ("b", SECRETS[1], (401, "Unauthorized")),
            ] {
                let mut asked = request(full(format!(r#"{{"Secret":"{secret}"}}"#)));
                asked.headers_mut().insert("x-functions-key", key.parse().unwrap());
                let (status, code) = gateway.send(asked).await.outcome();
                assert_eq!((status, code.as_str()), outcome, "{world:?} {key} {secret}");
            }
        });
    }
}

#[test]
fn a_wrong_variable_is_named_and_an_empty_one_is_as_good_as_none() {
    for world in SPIN {
        for (name, value, outcome) in [
            ("GATEWAY_CACHE_ENTRIES", "many", (500, "ConfigurationError")),
            ("GATEWAY_CACHE_ENTRIES", "", (200, "")),
        ] {
            in_virtual_time(async {
                let emulator = azure();
                let mut settings = settings(&emulator, Source::AppService2019);
                settings.push((name, value.to_owned()));
                let answer = Gateway::start(world, &emulator, &settings).ask().await;
                let (status, code) = answer.outcome();
                assert_eq!((status, code.as_str()), outcome, "{world:?} {value:?}");
                if status == 500 {
                    let message = answer.json()["error"]["message"].to_string();
                    assert!(message.contains(name) && !message.contains(value), "{world:?} {message}");
                }
            });
        }
    }
}

#[test]
fn without_a_vault_the_application_does_not_start() {
    let problem = Application::load(MANIFEST, &BTreeMap::new()).unwrap_err();
    assert_eq!(problem, "key_vault_uri is required, and nobody gives it");
}

/// One caller, whose key is `a`.
const CALLERS: &str = r#"[{"name":"billing","secrets":["db-*"],
    "key_sha256":["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]}]"#;
