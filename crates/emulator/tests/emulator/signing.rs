//! The tokens that callers of a gateway bring, and the keys that Entra publishes for them.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use keyvault_emulator::{Emulator, UserAssigned, facts};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

use crate::asking::{ask, token};

const OID: &str = "5c1d8f20-3b7e-4a96-8d04-e2f9b6a7c315";
const APPID: &str = "e8a3f6b1-7c24-4d59-9b0e-14d7c2a85f63";
const AUDIENCE: &str = "api://gateway";

/// The keys that are published.
async fn keys(emulator: &Emulator) -> Vec<Value> {
    let line = format!("GET https://login.microsoftonline.com/{}/discovery/v2.0/keys", facts::TENANT);
    let heard = ask(emulator, &line, &[], "").await.expect("an answer");
    heard.json()["keys"].as_array().expect("keys").clone()
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url without padding")
}

fn part(token: &str, number: usize) -> Value {
    serde_json::from_slice(&decoded(token.split('.').nth(number).expect("a part"))).expect("JSON")
}

#[tokio::test]
async fn the_keys_are_published_as_entra_does_and_the_oldest_leaves_when_a_new_one_comes() {
    let emulator = Emulator::new();
    let before = keys(&emulator).await;
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
        assert_eq!(ask(&emulator, line, &[], "").await.expect("an answer").status, 204);
        // What the older key has signed is good until that key has left.
        let after = keys(&emulator).await;
        assert_eq!((&before[rotation..], after.len()), (&after[..3 - rotation], 3));
    }
    // Every emulator of a process begins with the same keys.
    assert_eq!(keys(&Emulator::new()).await, before);
}

#[test]
fn a_caller_brings_what_entra_gives_a_managed_identity() {
    let (now, roles) = (1_000_000_000, &["Secrets.Read"][..]);
    for (claims, expected) in [
        (
            Emulator::caller_claims(now, AUDIENCE, OID, APPID, roles),
            "aio appid appidacr aud exp iat idp idtyp iss nbf oid rh roles sub tid uti ver",
        ),
        (
            Emulator::caller_claims_v2(now, APPID, OID, APPID, &[]),
            "aio aud azp azpacr exp iat iss nbf oid rh sub tid uti ver",
        ),
    ] {
        let mut names: Vec<_> = claims.as_object().expect("claims").keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), expected);
    }
}

#[tokio::test]
async fn a_signed_token_is_for_the_identity_that_was_selected_and_opens_no_vault() {
    let emulator = Emulator::new();
    emulator.configure(|settings| {
        settings.caller_audience = Some(AUDIENCE.to_owned());
        settings.lifetime = Some(60);
        let (client_id, object_id) = (APPID.to_owned(), OID.to_owned());
        settings.user_assigned = vec![UserAssigned { client_id, object_id, resource_id: "/r/1".to_owned() }];
    });
    let signed = token(&emulator, &format!("{AUDIENCE}&client_id={APPID}")).await;
    // Microsoft's client for Python verifies the signature of such a token.
    assert_eq!(part(&signed, 0), emulator.signing_header());
    let claims = part(&signed, 1);
    assert_eq!(["appid", "oid", "sub"].map(|name| &claims[name]), [APPID, OID, OID]);
    assert_eq!(claims["exp"].as_i64(), claims["nbf"].as_i64().map(|begins| begins + 360));
    let bearer = format!("Bearer {signed}");
    let line = "GET https://demo.vault.azure.net/secrets/a?api-version=7.4";
    let heard = ask(&emulator, line, &[("authorization", &bearer)], "").await.expect("an answer");
    let message = heard.json()["error"]["message"].to_string();
    assert!(heard.status == 401 && message.contains("AKV10022") && message.contains(AUDIENCE), "{message}");

    // A vault's tokens say nothing, even if a vault's audience is taken for the callers'.
    emulator.configure(|settings| settings.caller_audience = Some("https://vault.azure.net".to_owned()));
    let opaque = token(&emulator, "https://vault.azure.net").await;
    assert_eq!(part(&opaque, 0), json!({"typ": "JWT", "alg": "RS256"}));
}
