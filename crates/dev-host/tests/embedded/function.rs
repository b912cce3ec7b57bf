//! The contract of the replaced function: settings, request, response, and all values that a vault can hold.

use keyvault_emulator::{Credential, Source};
use serde_json::json;

use crate::gateway::{Gateway, SECRETS, azure, full, in_both_worlds, request, settings, value_of};

#[test]
fn the_settings_of_the_function_serve_its_test_request() {
    in_both_worlds(async |world| {
        let emulator = azure();
        let settings = settings(&emulator, Source::AppService2017);
        let names: Vec<_> = settings.iter().map(|setting| setting.0).collect();
        assert_eq!(names, ["KeyVaultUri", "MSI_ENDPOINT", "MSI_SECRET", "GATEWAY_KEY"]);
        let gateway = Gateway::start(world, &emulator, &settings);
        let response = gateway.post().await;
        response.expect((200, ""), world);
        let expected = json!({"Secret": SECRETS[0], "Value": value_of(SECRETS[0])});
        assert_eq!(response.json(), expected, "{world:?}");

        // The first request to the vault has the token; there is no request for a challenge.
        let [token] = emulator.token_calls().try_into().unwrap();
        let [vault] = emulator.vault_calls().try_into().unwrap();
        assert_eq!(emulator.journal().len(), 2, "{world:?}");
        let call = (token.authority.as_str(), token.audience.as_deref(), token.credential);
        let right = ("127.0.0.1:41741", Some("https://vault.azure.net"), Credential::Right);
        assert_eq!(call, right, "{world:?}");
        let read = format!("{} {}://{}{}", vault.method, vault.scheme, vault.authority, vault.path);
        let right = "GET https://demo.vault.azure.net/secrets/Integration-Team-Blog";
        assert_eq!(read, right, "{world:?}");
        assert_eq!((vault.credential, vault.body_length), (Credential::Right, 0), "{world:?}");
        assert_eq!(vault.query, [("api-version".to_owned(), "2025-07-01".to_owned())], "{world:?}");
    });
}

#[test]
fn every_possible_value_is_returned_unchanged() {
    // A value has up to 25 KiB, and JSON escapes a byte with up to six.
    let longest = ["v", "\u{1}", "\"", "€😀 "].map(|text| text.repeat(25 * 1024 / text.len()));
    for value in longest.into_iter().chain(["".to_owned(), " \r\n".to_owned(), "null".to_owned()]) {
        in_both_worlds(async |world| {
            let emulator = azure();
            emulator.set_secret(SECRETS[0], &value).unwrap();
            let gateway = Gateway::new(world, &emulator, Source::AppService2017, &[]);
            gateway.leaks().add_value(SECRETS[0], &value);
            let response = gateway.post().await;
            let case = format!("{world:?} {:?} {}", value.chars().take(9).collect::<String>(), value.len());
            assert_eq!(response.status, 200, "{case}");
            assert!(response.json()["Value"] == value, "{case}");
            assert_eq!(response.field("content-length"), response.body.len().to_string(), "{case}");
        });
    }
}

#[test]
fn versions_are_read_and_missing_secrets_are_404() {
    in_both_worlds(async |world| {
        let emulator = azure();
        let gateway = Gateway::new(world, &emulator, Source::AppService2017, &[]);
        let first = emulator.set_secret("rotated", "first-value").unwrap();
        let second = emulator.set_secret("rotated", "second-value").unwrap();
        ["first-value", "second-value"]
            .into_iter()
            .for_each(|value| gateway.leaks().add_value("rotated", value));
        for (version, value, etag) in [
            (json!(null), "second-value", &second),
            (json!(first), "first-value", &first),
            (json!(first.to_uppercase()), "first-value", &first),
        ] {
            let body = json!({"Secret": "Rotated", "Version": version}).to_string();
            let response = gateway.send(request(full(body))).await;
            assert_eq!(response.json(), json!({"Secret": "Rotated", "Value": value}), "{world:?} {version}");
            assert_eq!(response.field("etag"), format!("\"{etag}\""), "{world:?}");
        }
        let unknown = json!({"Secret": "rotated", "Version": "0".repeat(32)}).to_string();
        gateway.send(request(full(unknown))).await.expect((404, "SecretNotFound"), world);
        let missing = gateway.post_for("Nowhere").await;
        missing.expect((404, "SecretNotFound"), world);
        let message = "A secret with (name/id) Nowhere was not found in this key vault.";
        assert_eq!(missing.json()["error"]["message"], message, "{world:?}");
    });
}
