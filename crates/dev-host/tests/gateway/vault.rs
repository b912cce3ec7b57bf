//! What the vault has, and what it says instead.

use keyvault_emulator::{Credential, Fault, Refusal, Source};
use serde_json::json;

use crate::rig::{BOTH, Rig, SECRET, VALUE};

#[test]
fn any_value_that_a_vault_can_hold() {
    let largest = "x".repeat(25 * 1024);
    let two_bytes = "ü".repeat(12 * 1024);
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_CACHE_TTL_SECONDS", "0")]);
        for value in [
            "",
            " ",
            "grüße 🦀 \u{2028}",
            "a\"b\\c\r\n\t\u{1}\u{7f}",
            "{\"json\":[1]}",
            "<a>&'</a>",
            &largest,
            &two_bytes,
        ] {
            rig.emulator.set_secret("any", value).unwrap();
            assert_eq!(rig.post(r#"{"Secret":"any"}"#).value(), value, "{component}");
        }
    }
}

#[test]
fn versions() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        let first = rig.emulator.set_secret("rotated", "first").unwrap();
        let second = rig.emulator.set_secret("rotated", "second").unwrap();
        for (version, value, etag) in [
            (json!(null), "second", &second),
            (json!(first), "first", &first),
            (json!(first.to_uppercase()), "first", &first),
            (json!(second), "second", &second),
        ] {
            let answer = rig.post(&json!({"Secret": "Rotated", "Version": version}).to_string());
            assert_eq!(answer.value(), value, "{component}: {version}");
            assert_eq!(answer.json()["Secret"], "Rotated");
            assert_eq!(answer.field("etag"), format!("\"{etag}\""));
        }
        let unknown = json!({"Secret": "rotated", "Version": "0".repeat(32)}).to_string();
        assert_eq!(rig.post(&unknown).error(), (404, "SecretNotFound".to_owned()), "{component}");
    }
}

#[test]
fn a_secret_that_is_not_there() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_CACHE_TTL_SECONDS", "0")]);
        let answer = rig.post(r#"{"Secret":"Nowhere"}"#);
        assert_eq!(answer.error(), (404, "SecretNotFound".to_owned()), "{component}");
        let message = "A secret with (name/id) Nowhere was not found in this key vault.";
        assert_eq!(answer.json()["error"]["message"], message);
        rig.emulator.delete_secret(SECRET).unwrap();
        assert_eq!(rig.ask().error(), (404, "SecretNotFound".to_owned()), "{component}");
    }
}

#[test]
fn a_secret_that_is_disabled() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_CACHE_TTL_SECONDS", "0")]);
        rig.emulator.enable_secret(SECRET, false).unwrap();
        assert_eq!(rig.ask().error(), (403, "SecretDisabled".to_owned()), "{component}");
        rig.emulator.enable_secret(SECRET, true).unwrap();
        assert_eq!(rig.ask().value(), VALUE, "{component}");
    }
}

#[test]
fn the_token_goes_with_the_first_request() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        rig.ask();
        let [call] = rig.emulator.vault_calls().try_into().unwrap();
        assert_eq!((call.credential, call.method.as_str(), call.body_length), (Credential::Right, "GET", 0));
        assert_eq!(call.path, format!("/secrets/{SECRET}"), "{component}");
        assert_eq!(call.query, [("api-version".to_owned(), "2025-07-01".to_owned())]);
        assert!(!call.headers.contains(&"transfer-encoding".to_owned()), "{component}: {:?}", call.headers);
    }
}

#[test]
fn a_token_that_is_refused_is_replaced_once() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_CACHE_TTL_SECONDS", "0")]);
        assert_eq!(rig.ask().value(), VALUE);
        rig.emulator.forget_tokens();
        assert_eq!(rig.ask().value(), VALUE, "{component}");
        rig.assert_calls_of_one_instance(component, (2, 3));

        // A new one will not do either.
        rig.emulator.fault(Fault::refuse(Refusal::InvalidAudience));
        assert_eq!(rig.ask().error(), (502, "VaultError".to_owned()), "{component}");
        rig.assert_calls_of_one_instance(component, (3, 5));
    }
}
