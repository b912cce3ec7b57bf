//! Key Vault, Entra and the endpoints of managed identities: what they take, what they refuse, and in which words.

use std::collections::HashSet;

use keyvault_emulator::{Kind, NotTaken};
use serde_json::{Value, json};

use crate::asking::{Case, ask, token};

#[tokio::test]
async fn a_vault_is_as_strict_as_azure() {
    let case = Case::new().await;
    case.holds(include_str!("tables/vault.txt")).await;
    let name = "a".repeat(128);
    case.holds(&format!("GET /secrets/{name}?$v => 400 | BadParameter")).await;
    let tags: serde_json::Map<_, _> = (0..16).map(|number| (number.to_string(), json!("a"))).collect();
    for (body, answer) in [
        (json!({"value": "a".repeat(25 * 1024)}), "200"),
        (json!({"value": "a".repeat(25 * 1024 + 1)}), "400 | BadParameter"),
        (json!({"value": "a", "tags": tags}), "400 | BadParameter"),
        (json!({"value": "a".repeat(2 * 1024 * 1024)}), "413"),
    ] {
        case.holds(&format!("PUT /secrets/long?$v | {body} => {answer}")).await;
    }
}

#[tokio::test]
async fn a_host_decides_what_can_be_reached() {
    let case = Case::new().await;
    case.holds(include_str!("tables/hosts.txt")).await;
    let last = case.emulator.journal().pop().map(|call| (call.kind, call.scheme, call.authority));
    assert_eq!(last, Some((Kind::Nothing, "https".to_owned(), "demo.vault.azure.net.example".to_owned())));

    let own = token(&case.emulator, "https://vault.example").await;
    let line = format!("GET http://127.0.0.1/secrets/db-password?$v | authorization: Bearer {own} => 200");
    case.holds(&line).await;
}

#[tokio::test]
async fn a_list_goes_on_after_what_its_client_has_deleted() {
    let case = Case::new().await;
    let emulator = &case.emulator;
    for name in ["a", "B", "c", "D"] {
        emulator.set_secret(name, "1").expect("a valid name");
    }
    let mut pages = Vec::new();
    let mut line = "GET https://demo.vault.azure.net/secrets?api-version=7.4&maxresults=2".to_owned();
    let bearer = format!("Bearer {}", token(emulator, "https://vault.azure.net").await);
    loop {
        let json = ask(emulator, &line, &[("authorization", &bearer)], "").await.expect("an answer").json();
        let items = json["value"].as_array().expect("a list");
        let name = |item: &Value| item["id"].as_str().and_then(|id| id.rsplit('/').next()).map(str::to_owned);
        let page: Vec<String> = items.iter().filter_map(name).collect();
        page.iter().for_each(|name| emulator.delete_secret(name).expect("it is there"));
        pages.push(page.join(" "));
        let Some(next) = json["nextLink"].as_str() else { break };
        line = format!("GET {next}");
    }
    assert_eq!(pages, ["a B", "c D", "db-password"]);
    // A value that is not taken recovers nothing.
    assert_eq!(emulator.set_secret("a", &"a".repeat(25_601)), Err(NotTaken));
    case.holds("GET /secrets/a?$v => 404").await;
    emulator.set_secret("a", "new").expect("it is recovered");
    case.holds("GET /secrets/a?$v => 200 | new").await;
}

#[tokio::test]
async fn token_endpoints_are_as_strict_as_azure() {
    Case::new().await.holds(include_str!("tables/identity.txt")).await;
}

#[tokio::test]
async fn the_platform_keeps_a_managed_identitys_token() {
    let case = Case::new().await;
    let emulator = &case.emulator;
    case.holds(
        r#"PUT $control/settings | {"user_assigned":[{"client_id":"c1","object_id":"o","resource_id":"r"}]} => 204"#,
    )
    .await;
    let vault = "https://vault.azure.net";
    let first = token(emulator, vault).await;
    assert_eq!(token(emulator, vault).await, first);
    let by_client = token(emulator, &format!("{vault}&client_id=c1")).await;
    assert_eq!(token(emulator, &format!("{vault}&mi_res_id=r")).await, by_client);
    assert_eq!(HashSet::from([&first, &by_client, &token(emulator, &format!("{vault}/")).await]).len(), 3);

    // Neither settings nor other keys make the platform give another one before it has ended; the test does.
    emulator.configure(|settings| settings.lifetime = Some(0));
    emulator.rotate_signing_keys();
    assert_eq!(token(emulator, vault).await, first);
    emulator.forget_tokens();
    assert_ne!(token(emulator, vault).await, token(emulator, vault).await);
}
