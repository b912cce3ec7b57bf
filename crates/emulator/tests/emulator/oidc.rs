//! OIDC issuers of callers' tokens: their documents, their tokens, rotation and faults.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use keyvault_emulator::{Effect, Emulator, Fault, Upstream};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};

use crate::case::send;

#[tokio::test]
async fn each_issuer_verifies_its_own_tokens_until_its_key_is_gone() {
    let emulator = Emulator::new();
    let issuers = ["one", "two"].map(|name| format!("http://127.0.0.1:8080/oidc/{name}"));
    let configuration = get(&emulator, &format!("{}/.well-known/openid-configuration", issuers[0])).await;
    assert_eq!(configuration["issuer"], issuers[0]);
    assert_eq!(configuration["jwks_uri"], format!("{}/keys", issuers[0]));
    let token = emulator.platform_token(&issuers[0], "gateway", "system:serviceaccount:billing:app");
    let claims = part(&token, 1);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(issuers[0]), &json!(["gateway"])));
    assert_eq!(claims["kubernetes.io"]["serviceaccount"]["name"], "app");
    let verifies = async |issuer: &str| {
        let keys = get(&emulator, &format!("{issuer}/keys")).await;
        let keys = keys["keys"].as_array().expect("keys").clone();
        assert_eq!(keys.iter().filter(|key| key["kty"] == "EC").count(), 1);
        keys.iter().any(|key| key["kid"] == part(&token, 0)["kid"] && is_signed_by(&token, key))
    };
    assert!(verifies(&issuers[0]).await && !verifies(&issuers[1]).await);
    for (line, is_known) in [("one", true), ("two", true), ("one", true), ("one", false)] {
        let line = format!("POST http://127.0.0.1:8080/emulator/issuer-keys/{line}");
        assert_eq!(send(&emulator, &line, &[], "").await.expect("a response").status, 204);
        assert_eq!(verifies(&issuers[0]).await, is_known, "{line}");
    }
    let body = json!({"issuer": issuers[1], "audience": "gateway", "subject": "a:b"}).to_string();
    let line = "POST http://127.0.0.1:8080/emulator/platform-tokens";
    let issued = send(&emulator, line, &[], &body).await.expect("a response").json();
    assert_eq!(part(issued["value"].as_str().expect("a token"), 1)["sub"], "a:b");
}

#[tokio::test]
async fn an_issuer_has_faults_of_its_own() {
    let emulator = Emulator::new();
    emulator.fault(Fault::new(Upstream::Issuers, Effect::Status(StatusCode::SERVICE_UNAVAILABLE)).times(1));
    for (line, status) in [
        ("GET http://127.0.0.1:8080/oidc/keys", 200),
        ("GET http://127.0.0.1:8080/oidc/one/keys", 503),
        ("GET http://127.0.0.1:8080/oidc/one/keys", 200),
        ("POST http://127.0.0.1:8080/oidc/one/keys", 405),
        ("GET http://127.0.0.1:8080/oidc/one/other", 404),
        ("GET https://login.microsoftonline.com/oidc/one/keys", 404),
    ] {
        assert_eq!(send(&emulator, line, &[], "").await.expect("a response").status, status, "{line}");
    }
}

async fn get(emulator: &Emulator, address: &str) -> Value {
    send(emulator, &format!("GET {address}"), &[], "").await.expect("a response").json()
}

/// Whether the RSA key `key` of a JWKS has signed `token`, by code that is not the emulator's.
fn is_signed_by(token: &str, key: &Value) -> bool {
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let member = |name: &str| decoded(key[name].as_str().expect("a number"));
    let key = RsaPublicKeyComponents { n: member("n"), e: member("e") };
    key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &decoded(signature)).is_ok()
}

fn part(token: &str, number: usize) -> Value {
    serde_json::from_slice(&decoded(token.split('.').nth(number).expect("a part"))).expect("JSON")
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url without padding")
}
