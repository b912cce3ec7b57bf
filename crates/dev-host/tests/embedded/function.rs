//! What the replaced function did: its settings, its request, its answer; and what a vault can hold.

use keyvault_emulator::{Credential, Source};
use serde_json::json;

use crate::gateway::{Gateway, SECRETS, azure, both, full, request, settings, value_of};

#[test]
fn the_settings_of_the_function_alone_answer_its_own_test_request() {
    both(async |world| {
        let emulator = azure();
        let settings = settings(&emulator, Source::AppService2017);
        let names: Vec<_> = settings.iter().map(|it| it.0).collect();
        assert_eq!(names, ["KeyVaultUri", "MSI_ENDPOINT", "MSI_SECRET", "GATEWAY_KEY"]);
        let gateway = Gateway::start(world, &emulator, &settings);
        let answer = gateway.ask().await;
        answer.expect((200, ""), world);
        assert_eq!(answer.json(), json!({"Secret": SECRETS[0], "Value": value_of(SECRETS[0])}), "{world:?}");

        // The token goes with the first request to the vault; nothing asks for a challenge first.
        let [token] = emulator.token_calls().try_into().unwrap();
        let [vault] = emulator.vault_calls().try_into().unwrap();
        assert_eq!(emulator.journal().len(), 2, "{world:?}");
        let asked = (token.authority.as_str(), token.audience.as_deref(), token.credential);
        let right = ("127.0.0.1:41741", Some("https://vault.azure.net"), Credential::Right);
        assert_eq!(asked, right, "{world:?}");
        let read = format!("{} {}://{}{}", vault.method, vault.scheme, vault.authority, vault.path);
        let right = "GET https://demo.vault.azure.net/secrets/Integration-Team-Blog";
        assert_eq!(read, right, "{world:?}");
        assert_eq!((vault.credential, vault.body_length), (Credential::Right, 0), "{world:?}");
        assert_eq!(vault.query, [("api-version".to_owned(), "2025-07-01".to_owned())], "{world:?}");
    });
}

#[test]
fn every_value_that_a_vault_can_hold_arrives_as_it_is() {
    // At the most 25 KiB, which JSON may write with six bytes for one.
    let longest = ["v", "\u{1}", "\"", "€😀 "].map(|text| text.repeat(25 * 1024 / text.len()));
    for value in longest.into_iter().chain(["".to_owned(), " \r\n".to_owned(), "null".to_owned()]) {
        both(async |world| {
            let emulator = azure();
            emulator.set_secret(SECRETS[0], &value).unwrap();
            let gateway = Gateway::of(world, &emulator, Source::AppService2017, &[]);
            gateway.hold(SECRETS[0], &value);
            let answer = gateway.ask().await;
            let case = format!("{world:?} {:?} {}", value.chars().take(9).collect::<String>(), value.len());
            assert_eq!(answer.status, 200, "{case}");
            assert!(answer.json()["Value"] == value, "{case}");
            assert_eq!(answer.field("content-length"), answer.body.len().to_string(), "{case}");
        });
    }
}

#[test]
fn a_version_is_read_by_its_name_and_what_is_not_there_is_said_so() {
    both(async |world| {
        let emulator = azure();
        let gateway = Gateway::of(world, &emulator, Source::AppService2017, &[]);
        let first = emulator.set_secret("rotated", "first-value").unwrap();
        let second = emulator.set_secret("rotated", "second-value").unwrap();
        ["first-value", "second-value"].into_iter().for_each(|value| gateway.hold("rotated", value));
        for (version, value, etag) in [
            (json!(null), "second-value", &second),
            (json!(first), "first-value", &first),
            (json!(first.to_uppercase()), "first-value", &first),
        ] {
            let body = json!({"Secret": "Rotated", "Version": version}).to_string();
            let answer = gateway.send(request(full(body))).await;
            assert_eq!(answer.json(), json!({"Secret": "Rotated", "Value": value}), "{world:?} {version}");
            assert_eq!(answer.field("etag"), format!("\"{etag}\""), "{world:?}");
        }
        let unknown = json!({"Secret": "rotated", "Version": "0".repeat(32)}).to_string();
        gateway.send(request(full(unknown))).await.expect((404, "SecretNotFound"), world);
        let missing = gateway.ask_for("Nowhere").await;
        missing.expect((404, "SecretNotFound"), world);
        let message = "A secret with (name/id) Nowhere was not found in this key vault.";
        assert_eq!(missing.json()["error"]["message"], message, "{world:?}");
    });
}
