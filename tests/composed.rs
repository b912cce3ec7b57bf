//! What a component learns that is composed with the gateway: as much of each error as a caller over HTTP does.

mod errors;

use errors::table;
use keyvault_gateway::composed::NoValue;
use keyvault_gateway::error::{Error, SettingError};
use keyvault_gateway::reply::Reply;

#[test]
fn every_error_is_the_same_as_over_http() {
    let (mut kinds, mut of_http) = (0, Vec::new());
    for (error, status, code) in table() {
        let reason = NoValue::from(&error);
        if reason == NoValue::Internal {
            of_http.push(code);
            continue;
        }
        kinds += 1;
        let expected: &[&str] = match reason {
            NoValue::InvalidName | NoValue::InvalidVersion => &["BadRequest"],
            NoValue::Forbidden => &["Forbidden"],
            NoValue::NotFound => &["SecretNotFound"],
            NoValue::Disabled => &["SecretDisabled"],
            NoValue::AccessDenied => &["VaultAccessDenied"],
            NoValue::Configuration(_) => &["ConfigurationError"],
            NoValue::Identity => &["IdentityError"],
            NoValue::Vault => &["VaultError"],
            NoValue::Throttled(_) => &["IdentityThrottled", "VaultThrottled", "TooManyRequests"],
            NoValue::Unavailable(_) => &["Unavailable"],
            NoValue::Timeout => &["Timeout"],
            NoValue::Internal => unreachable!(),
        };
        assert!(expected.contains(&code), "{error:?} is {status} {code} and {reason:?}");
        let wait = match reason {
            NoValue::Throttled(seconds) | NoValue::Unavailable(seconds) => Some(seconds.to_string()),
            _ => None,
        };
        assert_eq!(Reply::error(&error).fields().first("retry-after"), wait.as_deref(), "{error:?}");
    }
    assert!(kinds > 30, "{kinds}");
    // What is about a request over HTTP cannot come of a read without one, nor can what is about a caller's token.
    let expected = [
        "NotFound",
        "MethodNotAllowed",
        "RequestHeaderFieldsTooLarge",
        "UnsupportedMediaType",
        "UnsupportedMediaType",
        "ContentTooLarge",
        "BadRequest",
        "BadRequest",
        "Forbidden",
        "Unauthorized",
        "TooManyRequests",
        "Forbidden",
        "IdentityError",
        "IdentityThrottled",
        "Unavailable",
        "Unavailable",
    ];
    assert_eq!(of_http, expected);
}

#[test]
fn names_and_versions_are_told_apart_and_a_setting_by_its_name() {
    assert_eq!(NoValue::from(&Error::NoValidSecret), NoValue::InvalidName);
    assert_eq!(NoValue::from(&Error::NoValidVersion), NoValue::InvalidVersion);
    let wrong = SettingError { name: "KeyVaultUri", should: "is not set" };
    assert_eq!(NoValue::from(&Error::Setting(wrong)), NoValue::Configuration("KeyVaultUri"));
}
