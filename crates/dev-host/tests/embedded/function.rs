//! What the replaced function did: its settings, its request, its answer.

use keyvault_emulator::{Credential, Source};
use serde_json::json;

use crate::gateway::{BOTH, Gateway, SECRETS, azure, in_virtual_time, settings, value_of};

#[test]
fn the_settings_of_the_function_alone_answer_its_own_test_request() {
    for world in BOTH {
        in_virtual_time(async {
            let emulator = azure();
            let settings = settings(&emulator, Source::AppService2017);
            let names: Vec<_> = settings.iter().map(|it| it.0).collect();
            assert_eq!(names, ["KeyVaultUri", "MSI_ENDPOINT", "MSI_SECRET", "GATEWAY_KEY"]);
            let gateway = Gateway::start(world, &emulator, &settings);

            let answer = gateway.ask().await;
            assert_eq!(answer.outcome(), (200, String::new()), "{world:?}");
            assert_eq!(
                answer.json(),
                json!({"Secret": SECRETS[0], "Value": value_of(SECRETS[0])}),
                "{world:?}"
            );

            // The token goes with the first request to the vault; nothing asks for a challenge first.
            let [token] = emulator.token_calls().try_into().unwrap();
            let [vault] = emulator.vault_calls().try_into().unwrap();
            assert_eq!(emulator.journal().len(), 2, "{world:?}");
            assert_eq!(
                (token.authority.as_str(), token.audience.as_deref(), token.credential),
                ("127.0.0.1:41741", Some("https://vault.azure.net"), Credential::Right),
                "{world:?}"
            );
            assert_eq!(
                (vault.scheme.as_str(), vault.authority.as_str(), vault.path.as_str(), vault.credential),
                ("https", "demo.vault.azure.net", "/secrets/Integration-Team-Blog", Credential::Right),
                "{world:?}"
            );
        });
    }
}

#[test]
fn every_value_that_a_vault_can_hold_arrives_as_it_is() {
    // At the most 25 KiB, which JSON may write with six bytes for one.
    let longest = ["v", "\u{1}", "\"", "€😀 "].map(|it| it.repeat(25 * 1024 / it.len()));
    for value in longest.into_iter().chain(["".to_owned(), " \r\n".to_owned(), "null".to_owned()]) {
        for world in BOTH {
            in_virtual_time(async {
                let emulator = azure();
                emulator.set_secret(SECRETS[0], &value).unwrap();
                let settings = settings(&emulator, Source::AppService2017);
                let gateway = Gateway::start(world, &emulator, &settings);
                gateway.hold(SECRETS[0], &value);
                let answer = gateway.ask().await;
                let start: String = value.chars().take(9).collect();
                assert_eq!(answer.status, 200, "{world:?} {start:?} {}", value.len());
                assert!(answer.json()["Value"] == value, "{world:?} {start:?} {}", value.len());
                assert_eq!(answer.field("content-length"), answer.body.len().to_string(), "{world:?}");
            });
        }
    }
}
