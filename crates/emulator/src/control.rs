//! The control routes, `/emulator/…`: what the library's methods do, for a process outside.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::request::Ask;
use crate::store::{Properties, is_name};
use crate::{Emulator, Fault, Settings, reply};

pub(crate) fn answer(emulator: &Emulator, ask: &Ask) -> Response<Bytes> {
    match operate(emulator, ask) {
        Ok(Value::Null) => reply::empty(StatusCode::NO_CONTENT),
        Ok(body) => reply::json(StatusCode::OK, &body),
        Err((status, message)) => reply::json(status, &json!({"error": message})),
    }
}

/// A value for a secret, or a change to its newest version, or both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    value: Option<String>,
    enabled: Option<bool>,
}

fn operate(emulator: &Emulator, ask: &Ask) -> Result<Value, (StatusCode, String)> {
    match (ask.method.as_str(), ask.segments().as_slice()) {
        ("POST", ["emulator", "faults"]) => {
            let fault = read::<Fault>(ask)?;
            emulator.lock().faults.add(fault).map_err(|sentence| (StatusCode::BAD_REQUEST, sentence))?;
        }
        ("DELETE", ["emulator", "faults"]) => emulator.clear_faults(),
        ("GET", ["emulator", "journal"]) => return Ok(json!(emulator.journal())),
        ("DELETE", ["emulator", "journal"]) => emulator.clear_journal(),
        ("PUT", ["emulator", "settings"]) => {
            let settings = read::<Settings>(ask)?;
            emulator.configure(|it| *it = settings);
        }
        ("POST", ["emulator", "signing-keys"]) => emulator.rotate_signing_keys(),
        ("DELETE", ["emulator", "tokens"]) => emulator.forget_tokens(),
        ("PUT", ["emulator", "secrets", name]) => return change(emulator, name, read(ask)?),
        _ => return Err((StatusCode::NOT_FOUND, "there is no such control route".to_owned())),
    }
    Ok(Value::Null)
}

/// Sets, rotates, disables or enables a secret. The answer has the newest version.
fn change(emulator: &Emulator, name: &str, change: Change) -> Result<Value, (StatusCode, String)> {
    let refused = |_| (StatusCode::BAD_REQUEST, "the vault does not take this".to_owned());
    if !is_name(name) {
        return Err((StatusCode::BAD_REQUEST, "this is not the name of a secret".to_owned()));
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

/// Reads the body; the error says what is wrong with it. It may repeat a word of it: control routes have no
/// secret but the values of secrets, and those are text, with which nothing can be wrong.
fn read<T: DeserializeOwned>(ask: &Ask) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(&ask.body).map_err(|it| (StatusCode::BAD_REQUEST, it.to_string()))
}
