//! What can come of a call to Azure, with marks in each place where it says something.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use keyvault_emulator::{Answer, Effect, Fault, Upstream};
use serde_json::json;

use super::{NUMBER, SAID};
use crate::faults::{REFUSALS, connection_faults, statuses};
use crate::gateway::SECRETS;

/// Everything that can come of a call, at the vault and at the token source.
pub(super) fn outcomes() -> Vec<Fault> {
    let anywhere = || connection_faults().into_iter().chain(statuses());
    let vault = anywhere().chain(REFUSALS.map(Effect::Refuse)).chain(said_by_vault());
    let token = anywhere().chain(said_by_token_source());
    let vault = vault.map(|it| Fault::new(Upstream::Vault, it));
    vault.chain(token.map(|it| Fault::new(Upstream::Token, it))).collect()
}

/// Answers of a vault with a mark in each place that there is.
fn said_by_vault() -> Vec<Effect> {
    let error = json!({"error": {"code": SAID, "message": SAID, "innererror": {"code": SAID, SAID: SAID}}});
    let mut answers: Vec<Effect> = [202, 302, 400, 401, 403, 404, 409, 418, 429, 500, 503]
        .map(|status| said(status, &error.to_string()))
        .into();
    let id = format!("https://demo.vault.azure.net/secrets/{}/{SAID}", SECRETS[0]);
    answers.extend(
        [
            json!({"value": SAID, "id": SAID}),
            json!({"value": SAID, "id": id, "attributes": {"enabled": SAID}}),
            json!({"value": {SAID: SAID}, "id": id}),
            json!(SAID),
        ]
        .map(|it| said(200, &it.to_string())),
    );
    answers.push(said(200, &format!("{{\"value\":{NUMBER}{SAID}")));
    answers.push(said(200, &format!("{{\"value\":\"{SAID}\\q\"}}")));
    answers.push(said(403, &format!("<html>{SAID}")));
    answers.push(said(404, &json!({"error": {"code": "SecretNotFound", "message": SAID}}).to_string()));
    answers
}

/// Answers of a directory with a mark in each place that there is.
pub(super) fn said_by_directory() -> Vec<Effect> {
    let key = json!({"kty": "RSA", "use": "sig", "kid": SAID, "n": SAID, "e": "AQAB", "x5c": [SAID]});
    let error = json!({"error": SAID, "error_description": SAID, "trace_id": SAID});
    let mut answers: Vec<Effect> = [
        json!({"keys": [key]}),
        json!({"keys": [SAID]}),
        json!({"keys": SAID}),
        json!({SAID: SAID}),
        json!(SAID),
    ]
    .map(|it| said(200, &it.to_string()))
    .into();
    answers.extend([302, 400, 404, 429, 500].map(|it| said(it, &error.to_string())));
    answers
}

/// Answers of a token source with a mark in each place that there is.
fn said_by_token_source() -> Vec<Effect> {
    let flat = json!({"error": SAID, "error_description": SAID, "error_codes": [SAID], "trace_id": SAID});
    let app_service = json!({"statusCode": SAID, "message": SAID, "correlationId": SAID});
    let nested = json!({"error": {"code": SAID, "message": SAID}});
    let mut answers = Vec::new();
    for (index, status) in [202, 302, 400, 401, 403, 404, 410, 429, 500, 503].into_iter().enumerate() {
        answers.push(said(status, &[&flat, &app_service, &nested][index % 3].to_string()));
    }
    answers.extend(
        [
            json!({"access_token": SAID}),
            json!({"access_token": SAID, "expires_in": SAID}),
            json!({"access_token": SAID, "expires_in": 3599, "expires_on": SAID}),
            json!({"access_token": SAID, "expires_in": 3599, "token_type": SAID}),
            json!({"access_token": format!("{SAID} {SAID}"), "expires_in": 3599}),
            json!({"access_token": format!("{SAID}\r\nx-more: {SAID}"), "expires_in": 3599}),
            json!({"access_token": {SAID: SAID}, "expires_in": 3599}),
            json!({SAID: SAID}),
        ]
        .map(|it| said(200, &it.to_string())),
    );
    answers.push(said(200, &format!("{{\"access_token\":\"{SAID}\",\"expires_in\":{NUMBER}{SAID}")));
    answers.push(said(401, &format!("Invalid secret token header: {SAID}.")));
    answers
}

/// An answer that says this, with marks in fields, too.
fn said(status: u16, body: &str) -> Effect {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("www-authenticate", format!("Bearer authorization=\"https://{SAID}\", resource=\"{SAID}\"")),
        ("location", format!("https://attacker.example/{SAID}")),
        ("set-cookie", format!("session={SAID}")),
        ("retry-after", SAID.to_owned()),
        ("etag", format!("\"{SAID}\"")),
        ("x-ms-request-id", SAID.to_owned()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    Effect::Answer(Answer { status, headers, body: body.to_owned() })
}
