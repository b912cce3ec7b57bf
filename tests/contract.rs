//! The table of statuses and codes, and the document that tells callers of it.

use core::time::Duration;

use http::StatusCode;
use keyvault_gateway::error::{Complaint, Denial, Error, Refusal, SettingError};
use keyvault_gateway::gateway::OPENAPI;
use keyvault_gateway::reply::Reply;
use keyvault_gateway::secret::SecretName;
use serde_json::Value;

#[test]
fn every_error_has_its_status_and_code() {
    for (error, status, code) in table() {
        let reply = Reply::error(&error);
        assert_eq!((reply.status().as_u16(), reply.code()), (status, code), "{error:?}");
        let body: Value = serde_json::from_slice(reply.body().expose()).unwrap();
        assert_eq!(body["error"]["code"], code);
        assert_eq!(body["error"].as_object().unwrap().len(), 2);
        assert_eq!(body.as_object().unwrap().len(), 1);
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.ends_with('.') && message.starts_with(char::is_uppercase), "{message}");
        assert_eq!(reply.fields().has("retry-after"), matches!(status, 429 | 503), "{error:?}");
        assert_eq!(reply.fields().has("allow"), status == 405, "{error:?}");
        assert_eq!(reply.fields().has("www-authenticate"), status == 401, "{error:?}");
    }
}

#[test]
fn every_error_is_described() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for path in ["/", "/api/GetKeyVaultSecret"] {
        let responses = &document["paths"][path]["post"]["responses"];
        let mut described = vec![(200, String::new())];
        for (error, status, code) in table() {
            // A path that is not there has no operation to describe it in; the introduction does.
            if error == Error::NoRoute {
                assert!(document["info"]["description"].as_str().unwrap().contains(code));
                continue;
            }
            let codes = codes(resolve(&document, &responses[status.to_string()]));
            assert!(codes.contains(&code.to_owned()), "{path} does not describe {status} {code}");
            described.push((status, code.to_owned()));
        }
        for (status, response) in responses.as_object().unwrap() {
            for code in codes(resolve(&document, response)) {
                let comes = described.iter().any(|it| it.0.to_string() == *status && it.1 == code);
                assert!(
                    comes || code == "InternalError",
                    "{path} describes {status} {code}, which never comes"
                );
            }
        }
    }
    for path in ["/healthz", "/readyz", "/openapi.json", "/metrics"] {
        for (status, response) in document["paths"][path]["get"]["responses"].as_object().unwrap() {
            for code in codes(resolve(&document, response)) {
                let known = table()
                    .into_iter()
                    .any(|it| it.2 == code && (status == "503" || it.1.to_string() == *status));
                assert!(known || code == "InternalError", "{path} describes {status} {code}");
            }
        }
    }
}

#[test]
fn not_being_ready_has_one_status() {
    for (error, _, code) in table() {
        let reply = Reply::not_ready(&error);
        assert_eq!((reply.status(), reply.code()), (StatusCode::SERVICE_UNAVAILABLE, code));
        assert!(reply.fields().has("retry-after"));
    }
}

/// One of each error, with what a caller learns of it.
fn table() -> Vec<(Error, u16, &'static str)> {
    let table = vec![
        (Error::NoRoute, 404, "NotFound"),
        (Error::WrongMethod("POST"), 405, "MethodNotAllowed"),
        (Error::HeadersTooLarge, 431, "RequestHeaderFieldsTooLarge"),
        (Error::NotJson, 415, "UnsupportedMediaType"),
        (Error::BodyTooLarge, 413, "ContentTooLarge"),
        (Error::BodyLost, 400, "BadRequest"),
        (Error::NotAnObject, 400, "BadRequest"),
        (Error::NoValidSecret, 400, "BadRequest"),
        (Error::NoValidVersion, 400, "BadRequest"),
        (Error::CameThroughProxy, 403, "Forbidden"),
        (Error::NotAuthenticated, 401, "Unauthorized"),
        (Error::TooManyFailures(Duration::from_secs(7)), 429, "TooManyRequests"),
        (Error::OutOfScope, 403, "Forbidden"),
        (
            Error::Setting(SettingError { name: "KeyVaultUri", should: "is not set" }),
            500,
            "ConfigurationError",
        ),
        (Error::IdentityRefused(Refusal::NoSuchIdentity), 502, "IdentityError"),
        (Error::IdentityRefused(Refusal::SeveralIdentities), 502, "IdentityError"),
        (Error::IdentityRefused(Refusal::Audience), 502, "IdentityError"),
        (Error::IdentityRefused(Refusal::Credential), 502, "IdentityError"),
        (Error::IdentityRefused(Refusal::Other(418)), 502, "IdentityError"),
        (Error::IdentityUnusable, 502, "IdentityError"),
        (Error::IdentityThrottled(Some(Duration::from_secs(5))), 503, "IdentityThrottled"),
        (Error::IdentityUnavailable(None), 503, "Unavailable"),
        (Error::IdentityUnreachable(None), 503, "Unavailable"),
        (Error::DirectoryUnusable, 502, "IdentityError"),
        (Error::DirectoryThrottled(None), 503, "IdentityThrottled"),
        (Error::DirectoryUnavailable(None), 503, "Unavailable"),
        (Error::DirectoryUnreachable(None), 503, "Unavailable"),
        (Error::SecretNotFound(SecretName::parse("a").unwrap(), None), 404, "SecretNotFound"),
        (Error::CallNotAllowed, 503, "Unavailable"),
        (Error::SecretDisabled, 403, "SecretDisabled"),
        (Error::VaultDenied(Denial::RoleAssignment), 403, "VaultAccessDenied"),
        (Error::TokenRefused(Complaint::Unexplained), 502, "VaultError"),
        (Error::VaultRefused(418), 502, "VaultError"),
        (Error::VaultUnusable, 502, "VaultError"),
        (Error::VaultThrottled(None), 503, "VaultThrottled"),
        (Error::VaultUnavailable(None), 503, "Unavailable"),
        (Error::VaultUnreachable(None), 503, "Unavailable"),
        (Error::DeadlineExceeded, 504, "Timeout"),
    ];
    for (error, ..) in &table {
        is_in_the_table(error);
    }
    table
}

/// Does not compile when there is a new error, so that nobody forgets to add it above.
fn is_in_the_table(error: &Error) {
    match error {
        Error::NoRoute
        | Error::WrongMethod(_)
        | Error::HeadersTooLarge
        | Error::NotJson
        | Error::BodyTooLarge
        | Error::BodyLost
        | Error::NotAnObject
        | Error::NoValidSecret
        | Error::NoValidVersion
        | Error::CameThroughProxy
        | Error::NotAuthenticated
        | Error::TooManyFailures(_)
        | Error::OutOfScope
        | Error::Setting(_)
        | Error::IdentityRefused(_)
        | Error::IdentityUnusable
        | Error::IdentityThrottled(_)
        | Error::IdentityUnavailable(_)
        | Error::IdentityUnreachable(_)
        | Error::DirectoryUnusable
        | Error::DirectoryThrottled(_)
        | Error::DirectoryUnavailable(_)
        | Error::DirectoryUnreachable(_)
        | Error::SecretNotFound(..)
        | Error::CallNotAllowed
        | Error::SecretDisabled
        | Error::VaultDenied(_)
        | Error::TokenRefused(_)
        | Error::VaultRefused(_)
        | Error::VaultUnusable
        | Error::VaultThrottled(_)
        | Error::VaultUnavailable(_)
        | Error::VaultUnreachable(_)
        | Error::DeadlineExceeded => {}
    }
}

/// The codes that the description of a response lists.
fn codes(response: &Value) -> Vec<String> {
    let error = &response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"];
    let codes = error["properties"]["code"]["enum"].as_array().cloned().unwrap_or_default();
    codes.iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

fn resolve<'a>(document: &'a Value, response: &'a Value) -> &'a Value {
    match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    }
}
