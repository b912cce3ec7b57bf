//! The replaced function's settings and its request, and nothing else.

use keyvault_emulator::{Credential, Source};
use serde_json::json;

use crate::gateway::{BOTH, Gateway, SECRETS, VALUE, azure, in_virtual_time, settings};

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
            assert_eq!(answer.json(), json!({"Secret": SECRETS[0], "Value": VALUE}), "{world:?}");

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
