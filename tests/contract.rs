//! The table of statuses and codes, the document that tells callers of it, and as much of it as a component learns that is
//! composed with the gateway.

mod errors;

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
        let responses = |method| {
            document["paths"][path][method]["responses"].as_object().unwrap().keys().collect::<Vec<_>>()
        };
        assert_eq!(responses("head"), responses("get"), "{path}");
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
fn every_error_is_the_same_without_http() {
    let (mut kinds, mut of_http) = (0, Vec::new());
    for (error, status, code) in table() {
        let reason = ReadError::from(&error);
        if reason == ReadError::Internal {
            of_http.push(code);
            continue;
        }
        kinds += 1;
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
        assert_eq!(Reply::error(&error).fields().first("retry-after"), wait.as_deref(), "{error:?}");
    }
    assert!(kinds > 30, "{kinds}");
    // What is about a request over HTTP cannot come of a read without one, nor can what is about a caller's token.
    let expected = "NotFound MethodNotAllowed RequestHeaderFieldsTooLarge UnsupportedMediaType UnsupportedMediaType \
                    ContentTooLarge BadRequest BadRequest Forbidden Unauthorized TooManyRequests Forbidden IdentityError \
                    IdentityThrottled Unavailable Unavailable";
    assert_eq!(of_http.join(" "), expected);
}

#[test]
fn not_being_ready_has_one_status() {
    for (error, _, code) in table() {
        let reply = Reply::not_ready(&error, &[]);
        assert_eq!((reply.status(), reply.code()), (StatusCode::SERVICE_UNAVAILABLE, code));
        assert!(reply.fields().has("retry-after"));
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
