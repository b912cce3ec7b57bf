//! Key Vault, Entra and the managed identity endpoints: accepted requests, refusals and their texts.

use std::collections::HashSet;

use keyvault_emulator::{Kind, NotTaken};
use serde_json::json;

use crate::case::{Case, fetch_token};

#[tokio::test]
async fn vault_is_as_strict_as_azure() {
    let case = Case::new().await;
    case.check(include_str!("tables/vault.txt")).await;
    let name = "a".repeat(128);
    case.check(&format!("GET /secrets/{name}?$v => 400 | BadParameter")).await;
    let tags: serde_json::Map<_, _> = (0..16).map(|number| (number.to_string(), json!("a"))).collect();
    for (body, answer) in [
        (json!({"value": "a".repeat(25 * 1024)}), "200"),
        (json!({"value": "a".repeat(25 * 1024 + 1)}), "400 | BadParameter"),
        (json!({"value": "a", "tags": tags}), "400 | BadParameter"),
        (json!({"value": "a".repeat(2 * 1024 * 1024)}), "413"),
    ] {
        case.check(&format!("PUT /secrets/long?$v | {body} => {answer}")).await;
    }
}

#[tokio::test]
async fn each_host_serves_only_its_routes() {
    let case = Case::new().await;
    case.check(include_str!("tables/hosts.txt")).await;
    let last = case.emulator.journal().pop().map(|call| (call.kind, call.scheme, call.authority));
    assert_eq!(last, Some((Kind::Nothing, "https".to_owned(), "demo.vault.azure.net.example".to_owned())));

    let token = fetch_token(&case.emulator, "https://vault.example").await;
    let line = format!("GET http://127.0.0.1/secrets/db-password?$v | authorization: Bearer {token} => 200");
    case.check(&line).await;
}

#[tokio::test]
async fn a_valid_value_recovers_a_deleted_secret() {
    let case = Case::new().await;
    case.emulator.delete_secret("db-password").expect("the secret exists");
    assert_eq!(case.emulator.set_secret("db-password", &"a".repeat(25_601)), Err(NotTaken));
    case.check("GET $read | authorization: Bearer $good => 404").await;
    case.emulator.set_secret("db-password", "new").expect("the secret is recovered");
    case.check("GET $read | authorization: Bearer $good => 200 | new").await;
}

#[tokio::test]
async fn token_endpoints_are_as_strict_as_azure() {
    Case::new().await.check(include_str!("tables/identity.txt")).await;
}

#[tokio::test]
async fn managed_identity_tokens_are_cached() {
    let case = Case::new().await;
    let emulator = &case.emulator;
    let identity = r#"{"client_id":"c1","object_id":"o","resource_id":"r"}"#;
    case.check(&format!(r#"PUT $control/settings | {{"user_assigned":[{identity}]}} => 204"#)).await;
    let vault = "https://vault.azure.net";
    let first = fetch_token(emulator, vault).await;
    assert_eq!(fetch_token(emulator, vault).await, first);
    let by_client = fetch_token(emulator, &format!("{vault}&client_id=c1")).await;
    assert_eq!(fetch_token(emulator, &format!("{vault}&mi_res_id=r")).await, by_client);
    assert_eq!(
        HashSet::from([&first, &by_client, &fetch_token(emulator, &format!("{vault}/")).await]).len(),
        3
    );

    // Until a token expires, neither settings nor a key rotation replace it; only `forget_tokens` does.
    emulator.configure(|settings| settings.lifetime = Some(0));
    emulator.rotate_signing_keys();
    assert_eq!(fetch_token(emulator, vault).await, first);
    emulator.forget_tokens();
    assert_ne!(fetch_token(emulator, vault).await, fetch_token(emulator, vault).await);
}
