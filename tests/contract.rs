//! The status and code of every error, as the replies, the OpenAPI document and the component API have them.

mod errors;

use std::collections::BTreeSet;

use errors::table;
use http::StatusCode;
use keyvault_gateway::error::Error;
use keyvault_gateway::gateway::OPENAPI;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::read_error::ReadError;
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
        assert_eq!(reply.headers().has("retry-after"), matches!(status, 429 | 503), "{error:?}");
        assert_eq!(reply.headers().has("allow"), status == 405, "{error:?}");
        assert_eq!(reply.headers().has("www-authenticate"), status == 401, "{error:?}");
    }
}

#[test]
fn openapi_describes_every_error() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    // An unknown path has no operation, so the introduction describes its error.
    assert!(document["info"]["description"].as_str().unwrap().contains("NotFound"));
    // Nor is a value without room an error of a whole request.
    let of_route = |(error, ..): &(Error, u16, &str)| ![Error::NoRoute, Error::NoRoom].contains(error);
    let routed = table().into_iter().filter(of_route);
    let expected: BTreeSet<_> = routed
        .map(|(_, status, code)| (status.to_string(), code.to_owned()))
        .chain([("500".to_owned(), "InternalError".to_owned())])
        .collect();
    for path in ["/", "/api/GetKeyVaultSecret"] {
        assert_eq!(described(&document, &document["paths"][path]["post"]), expected, "{path}");
    }
    for path in ["/healthz", "/readyz", "/openapi.json", "/metrics"] {
        let path = &document["paths"][path];
        let statuses = |method| path[method]["responses"].as_object().unwrap().keys().collect::<Vec<_>>();
        assert_eq!(statuses("head"), statuses("get"));
        for (status, code) in described(&document, &path["get"]) {
            // Readiness returns 503 for every error.
            assert!(
                expected.iter().any(|known| known.1 == code && (status == "503" || known.0 == status)),
                "{status} {code}"
            );
        }
    }
}

#[test]
fn component_api_has_a_reason_for_every_error() {
    let (mut reasons, mut of_http) = (0, Vec::new());
    for (error, status, code) in table() {
        let reason = ReadError::from(&error);
        if reason == ReadError::Internal {
            of_http.push(code);
            continue;
        }
        reasons += 1;
        let expected: &[&str] = match reason {
            ReadError::InvalidName | ReadError::InvalidVersion => &["BadRequest"],
            ReadError::Forbidden => &["Forbidden"],
            ReadError::NotFound => &["SecretNotFound"],
            ReadError::Disabled => &["SecretDisabled"],
            ReadError::AccessDenied => &["VaultAccessDenied"],
            ReadError::Configuration(_) => &["ConfigurationError"],
            ReadError::Identity => &["IdentityError"],
            ReadError::Vault => &["VaultError"],
            ReadError::Throttled(_) => &["IdentityThrottled", "VaultThrottled", "TooManyRequests"],
            ReadError::Unavailable(_) => &["Unavailable"],
            ReadError::Timeout => &["Timeout"],
            ReadError::Internal => unreachable!(),
        };
        assert!(expected.contains(&code), "{error:?} is {status} {code} and {reason:?}");
        let wait = match reason {
            ReadError::Throttled(seconds) | ReadError::Unavailable(seconds) => Some(seconds.to_string()),
            _ => None,
        };
        assert_eq!(Reply::error(&error).headers().first("retry-after"), wait.as_deref(), "{error:?}");
    }
    assert!(reasons > 30, "{reasons}");
    // The errors of an HTTP request, of an API key and of a caller's token cannot happen in the component API.
    let expected = "NotFound MethodNotAllowed RequestHeaderFieldsTooLarge UnsupportedMediaType \
                    UnsupportedMediaType ContentTooLarge BadRequest BadRequest BadRequest BadRequest TooLarge \
                    Forbidden TooManyRequests Forbidden IdentityError IdentityError IdentityThrottled \
                    Unavailable Unavailable";
    let (of_token, of_http): (Vec<_>, Vec<_>) = of_http.into_iter().partition(|code| *code == "Unauthorized");
    assert_eq!((of_http.join(" "), of_token.len()), (expected.to_owned(), 12));
}

#[test]
fn readiness_fails_with_503_for_every_error() {
    for (error, _, code) in table() {
        let reply = Reply::not_ready(&error, &[]);
        assert_eq!((reply.status(), reply.code()), (StatusCode::SERVICE_UNAVAILABLE, code));
        assert!(reply.headers().has("retry-after"));
    }
}

/// The statuses and codes in the description of an operation.
fn described(document: &Value, operation: &Value) -> BTreeSet<(String, String)> {
    let mut described = BTreeSet::new();
    for (status, mut response) in operation["responses"].as_object().unwrap() {
        if let Some(reference) = response["$ref"].as_str() {
            response = document.pointer(reference.trim_start_matches('#')).unwrap();
        }
        let error = &response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"];
        for code in error["properties"]["code"]["enum"].as_array().into_iter().flatten() {
            described.insert((status.clone(), code.as_str().unwrap().to_owned()));
        }
    }
    described
}
