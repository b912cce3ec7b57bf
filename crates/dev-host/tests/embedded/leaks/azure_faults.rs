//! The faults of calls to Azure, with a mark in each part of a response.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use keyvault_emulator::{Answer, Effect, Fault, Upstream};
use serde_json::json;

use super::{AZURE_MARK as MARK, ISSUER, NUMBER_MARK as NUMBER};
use crate::faults::{REFUSALS, connection_faults, statuses};
use crate::gateway::SECRETS;

/// Returns every fault of the vault and of the token source.
pub(super) fn azure_faults() -> Vec<Fault> {
    let anywhere = || connection_faults().into_iter().chain(statuses());
    let vault = anywhere().chain(REFUSALS.map(Effect::Refuse)).chain(vault_responses());
    let token = anywhere().chain(token_responses());
    let vault = vault.map(|effect| Fault::new(Upstream::Vault, effect));
    vault.chain(token.map(|effect| Fault::new(Upstream::Token, effect))).collect()
}

/// Returns responses of a vault with a mark in each part.
fn vault_responses() -> impl Iterator<Item = Effect> {
    let inner = json!({"code": MARK, MARK: MARK});
    let error = json!({"error": {"code": MARK, "message": MARK, "innererror": inner}});
    let id = format!("https://demo.vault.azure.net/secrets/{}/{MARK}", SECRETS[0]);
    let secrets = [
        json!({"value": MARK, "id": MARK}),
        json!({"value": MARK, "id": id, "attributes": {"enabled": MARK}}),
        json!({"value": {MARK: MARK}, "id": id}),
        json!(MARK),
    ];
    let others = [
        (200, format!("{{\"value\":{NUMBER}{MARK}")),
        (200, format!("{{\"value\":\"{MARK}\\q\"}}")),
        (403, format!("<html>{MARK}")),
        (404, json!({"error": {"code": "SecretNotFound", "message": MARK}}).to_string()),
    ];
    let errors =
        [202, 302, 400, 401, 403, 404, 409, 418, 429, 500, 503].map(|status| (status, error.to_string()));
    errors.into_iter().chain(secrets.map(|json| (200, json.to_string()))).chain(others).map(marked_response)
}

/// Returns responses of Entra ID's JWKS endpoint with a mark in each part.
pub(super) fn jwks_responses() -> impl Iterator<Item = Effect> {
    let key = json!({"kty": "RSA", "use": "sig", "kid": MARK, "n": MARK, "e": "AQAB", "x5c": [MARK]});
    let error = json!({"error": MARK, "error_description": MARK, "trace_id": MARK});
    let keys = [
        json!({"keys": [key]}),
        json!({"keys": [MARK]}),
        json!({"keys": MARK}),
        json!({MARK: MARK}),
        json!(MARK),
    ];
    let errors = [302, 400, 404, 429, 500].map(|status| (status, error.to_string()));
    keys.map(|json| (200, json.to_string())).into_iter().chain(errors).map(marked_response)
}

/// Returns configurations of an issuer with a mark in each part.
pub(super) fn configuration_responses() -> impl Iterator<Item = Effect> {
    let other = |uri: String| json!({"issuer": ISSUER, "jwks_uri": uri, MARK: MARK});
    let configurations = [
        json!({"issuer": MARK, "jwks_uri": format!("{ISSUER}/keys")}),
        other(MARK.to_owned()),
        other(format!("https://attacker.example/{MARK}")),
        other(format!("{ISSUER}/{MARK}")),
    ];
    configurations.into_iter().map(|json| marked_response((200, json.to_string())))
}

/// Returns responses of a token source with a mark in each part.
fn token_responses() -> impl Iterator<Item = Effect> {
    let errors = [
        json!({"error": MARK, "error_description": MARK, "error_codes": [MARK], "trace_id": MARK}),
        json!({"statusCode": MARK, "message": MARK, "correlationId": MARK}),
        json!({"error": {"code": MARK, "message": MARK}}),
    ];
    let statuses = [202, 302, 400, 401, 403, 404, 410, 429, 500, 503].into_iter().enumerate();
    let refusals = statuses.map(move |(index, status)| (status, errors[index % 3].to_string()));
    let tokens = [
        json!({"access_token": MARK}),
        json!({"access_token": MARK, "expires_in": MARK}),
        json!({"access_token": MARK, "expires_in": 3599, "expires_on": MARK}),
        json!({"access_token": MARK, "expires_in": 3599, "token_type": MARK}),
        json!({"access_token": format!("{MARK} {MARK}"), "expires_in": 3599}),
        json!({"access_token": format!("{MARK}\r\nx-more: {MARK}"), "expires_in": 3599}),
        json!({"access_token": {MARK: MARK}, "expires_in": 3599}),
        json!({MARK: MARK}),
    ];
    let others = [
        (200, format!("{{\"access_token\":\"{MARK}\",\"expires_in\":{NUMBER}{MARK}")),
        (401, format!("Invalid secret token header: {MARK}.")),
    ];
    refusals.chain(tokens.map(|json| (200, json.to_string()))).chain(others).map(marked_response)
}

/// Returns a response with this status and body, and marks in its header fields.
fn marked_response((status, body): (u16, String)) -> Effect {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("www-authenticate", format!("Bearer authorization=\"https://{MARK}\", resource=\"{MARK}\"")),
        ("location", format!("https://attacker.example/{MARK}")),
        ("set-cookie", format!("session={MARK}")),
        ("retry-after", MARK.to_owned()),
        ("etag", format!("\"{MARK}\"")),
        ("x-ms-request-id", MARK.to_owned()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    Effect::Answer(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body })
}
