//! The control routes, `/emulator/…`: the library's methods over HTTP.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::oidc::TokenRequest;
use crate::request::Request;
use crate::store::{Properties, is_secret_name};
use crate::{Emulator, Settings, response};

pub(crate) fn answer(emulator: &Emulator, request: &Request) -> Response<Bytes> {
    let error = |status, message| response::json(status, &json!({"error": message}));
    match dispatch(emulator, request) {
        Ok(Some(Value::Null)) => response::empty(StatusCode::NO_CONTENT),
        Ok(Some(body)) => response::json(StatusCode::OK, &body),
        Ok(None) => error(StatusCode::NOT_FOUND, "there is no such control route".to_owned()),
        Err(message) => error(StatusCode::BAD_REQUEST, message),
    }
}

/// A new version of a secret, a change of its newest version, or both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretChange {
    value: Option<String>,
    enabled: Option<bool>,
}

fn dispatch(emulator: &Emulator, request: &Request) -> Result<Option<Value>, String> {
    match (request.method.as_str(), request.segments().as_slice()) {
        ("POST", ["emulator", "faults"]) => emulator.lock().faults.add(parse_body(request)?)?,
        ("DELETE", ["emulator", "faults"]) => emulator.clear_faults(),
        ("GET", ["emulator", "journal"]) => return Ok(Some(json!(emulator.journal()))),
        ("DELETE", ["emulator", "journal"]) => emulator.clear_journal(),
        ("PUT", ["emulator", "settings"]) => {
            let new = parse_body::<Settings>(request)?;
            emulator.configure(|settings| *settings = new);
        }
        ("POST", ["emulator", "signing-keys"]) => emulator.rotate_signing_keys(),
        ("POST", ["emulator", "assertion-keys"]) => emulator.rotate_assertion_keys(),
        ("POST", ["emulator", "assertions"]) => {
            return Ok(Some(json!({"value": emulator.cluster_assertion()})));
        }
        ("POST", ["emulator", "platform-tokens"]) => {
            return Ok(Some(json!({"value": parse_body::<TokenRequest>(request)?.issue(emulator)})));
        }
        ("POST", ["emulator", "issuer-keys", name]) => emulator.rotate_issuer_keys(name),
        ("DELETE", ["emulator", "tokens"]) => emulator.forget_tokens(),
        ("PUT", ["emulator", "secrets", name]) => {
            return change_secret(emulator, name, parse_body(request)?).map(Some);
        }
        _ => return Ok(None),
    }
    Ok(Some(Value::Null))
}

/// Sets, rotates, disables or enables a secret. The response contains the newest version.
fn change_secret(emulator: &Emulator, name: &str, change: SecretChange) -> Result<Value, String> {
    let refused = |_| "the vault does not accept this secret".to_owned();
    if !is_secret_name(name) {
        return Err("the name of a secret is 1 to 127 letters, digits and hyphens".to_owned());
    }
    let now = crate::now();
    let properties = change.enabled.map(Properties::enabled).unwrap_or_default();
    let mut state = emulator.lock();
    match change.value {
        Some(value) => state.store.set(name, value, properties, now).map(|_| ()).map_err(refused)?,
        None => state.store.update(name, None, properties, now).map_err(refused)?,
    }
    let (_, version) = state.store.version(name, None).map_err(refused)?;
    Ok(json!({"version": version.id}))
}

/// Parses the JSON body. The error may quote it, but not a secret's value: serde quotes no string where it
/// expects one.
fn parse_body<T: DeserializeOwned>(request: &Request) -> Result<T, String> {
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}
