//! Access tokens of a gateway's callers, and the JWKS that verifies them.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use keyvault_emulator::{Emulator, UserAssigned, facts};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

use crate::case::{fetch_token, send};

const OID: &str = "5c1d8f20-3b7e-4a96-8d04-e2f9b6a7c315";
const APPID: &str = "e8a3f6b1-7c24-4d59-9b0e-14d7c2a85f63";
const AUDIENCE: &str = "api://gateway";

/// Fetches the keys of the JWKS.
async fn fetch_keys(emulator: &Emulator) -> Vec<Value> {
    let line = format!("GET https://login.microsoftonline.com/{}/discovery/v2.0/keys", facts::TENANT);
    let response = send(emulator, &line, &[], "").await.expect("a response");
    response.json()["keys"].as_array().expect("keys").clone()
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url without padding")
}

fn part(token: &str, number: usize) -> Value {
    serde_json::from_slice(&decoded(token.split('.').nth(number).expect("a part"))).expect("JSON")
}

#[tokio::test]
async fn jwks_has_entras_members_and_rotates() {
    let emulator = Emulator::new();
    let before = fetch_keys(&emulator).await;
    for key in &before {
        let certificate = BASE64_STANDARD.decode(key["x5c"][0].as_str().expect("a certificate"));
        let thumbprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate.expect("base64"));
        let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
        assert_eq!(decoded(key["n"].as_str().expect("a modulus")).len(), 256);
        let issuer = format!("https://login.microsoftonline.com/{}/v2.0", facts::TENANT);
        let expected = json!({
            "kty": "RSA", "use": "sig", "kid": thumbprint, "x5t": thumbprint, "n": key["n"], "e": "AQAB",
            "x5c": key["x5c"], "cloud_instance_name": "microsoftonline.com", "issuer": issuer,
        });
        assert_eq!(*key, expected);
    }
    assert_eq!(before[2]["kid"], emulator.signing_header()["kid"]);
    for rotation in 1..=3 {
        let line = "POST http://127.0.0.1:8080/emulator/signing-keys";
        assert_eq!(send(&emulator, line, &[], "").await.expect("a response").status, 204);
        // A key stays in the JWKS for two more rotations, so that its tokens remain valid.
        let after = fetch_keys(&emulator).await;
        assert_eq!((&before[rotation..], after.len()), (&after[..3 - rotation], 3));
    }
    // All emulators of a process start with the same keys.
    assert_eq!(fetch_keys(&Emulator::new()).await, before);
}

#[tokio::test]
async fn caller_tokens_name_the_selected_identity() {
    let emulator = Emulator::new();
    emulator.configure(|settings| {
        settings.caller_audience = Some(AUDIENCE.to_owned());
        settings.lifetime = Some(60);
        let (client_id, object_id) = (APPID.to_owned(), OID.to_owned());
        settings.user_assigned = vec![UserAssigned { client_id, object_id, resource_id: "/r/1".to_owned() }];
    });
    let signed = fetch_token(&emulator, &format!("{AUDIENCE}&client_id={APPID}")).await;
    // tests/clients/client.py verifies the signature of such a token.
    assert_eq!(part(&signed, 0), emulator.signing_header());
    let claims = part(&signed, 1);
    assert_eq!(["appid", "oid", "sub"].map(|name| &claims[name]), [APPID, OID, OID]);
    assert_eq!(claims["exp"].as_i64(), claims["nbf"].as_i64().map(|begins| begins + 360));
    let bearer = format!("Bearer {signed}");
    let line = "GET https://demo.vault.azure.net/secrets/a?api-version=7.4";
    let response = send(&emulator, line, &[("authorization", &bearer)], "").await.expect("a response");
    let message = response.json()["error"]["message"].to_string();
    assert!(
        response.status == 401 && message.contains("AKV10022") && message.contains(AUDIENCE),
        "{message}"
    );

    // A vault's token is opaque, even if `caller_audience` is a vault's audience.
    emulator.configure(|settings| settings.caller_audience = Some("https://vault.azure.net".to_owned()));
    let opaque = fetch_token(&emulator, "https://vault.azure.net").await;
    assert_eq!(part(&opaque, 0), json!({"typ": "JWT", "alg": "RS256"}));
}
