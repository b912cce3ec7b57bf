//! A component that is composed with the gateway: the same memory and the same rules, without HTTP.

use core::time::Duration;

use keyvault_gateway::http::cache_status::CacheOutcome;
use keyvault_gateway::read_error::ReadError;

use crate::scripted::*;

#[test]
fn it_shares_what_is_in_memory() {
    let gateway = Scripted::new(OPEN);
    gateway.will_answer([token(86_400), secret("a", "v"), secret("b", "w"), secret("a", "x")]);
    assert_eq!(gateway.value("a", None), Ok("v".to_owned()));
    assert_eq!(shown_by(&gateway.post("/", &asking("A"))), "v");
    assert_eq!(shown_by(&gateway.post("/", &asking("b"))), "w");
    assert_eq!(gateway.value("B", None), Ok("w".to_owned()));
    // A version is read apart from the latest.
    assert_eq!(gateway.value("a", Some(VERSION)), Ok("x".to_owned()));
    assert_eq!(gateway.value("a", Some(&VERSION.to_uppercase())), Ok("x".to_owned()));
    assert!(gateway.calls()[3].contains(&format!("/secrets/a/{VERSION}?")));
    assert_eq!(gateway.calls().len(), 4);
}

#[test]
fn what_is_not_in_memory_leaves_a_line_as_it_does_over_http() {
    let gateway = Scripted::new(OPEN).answering([token(86_400), secret("a", "v"), answer(200, "{}")]);
    for (name, version, expected, level, line) in [
        ("a", None, Ok("v"), "info", r#""secret":"a","status":200,"code":"OK","cache":"miss","upstream":2"#),
        ("b", None, Err(ReadError::Vault), "error", r#""status":502,"code":"VaultError""#),
        ("a b", None, Err(ReadError::InvalidName), "info", r#""status":400,"code":"BadRequest""#),
        ("a", Some("1"), Err(ReadError::InvalidVersion), "info", r#""status":400,"code":"BadRequest""#),
    ] {
        assert_eq!(gateway.value(name, version), expected.map(str::to_owned));
        let log = gateway.log().pop().unwrap();
        let parts = [line, r#""caller":"composed""#, &format!(r#""level":"{level}""#)];
        assert!(parts.iter().all(|part| log.contains(part)), "{log}");
    }
    // What is in memory leaves none.
    assert_eq!((gateway.value("a", None), gateway.log().len()), (Ok("v".to_owned()), 4));
}

#[test]
fn it_needs_no_key_and_has_the_scope_that_the_list_of_callers_gives_it() {
    let list = r#"[{"name":"composed","secrets":["app-*"]}]"#;
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", list)]);
    gateway.will_answer([token(86_400), secret("app-db", "v"), secret("ops", "w")]);
    assert_eq!(gateway.value("app-db", None), Ok("v".to_owned()));
    // It is in memory, and is not for everybody because of that.
    assert!(body_of(&gateway.post("/", &asking("ops"))).contains("\"w\""));
    assert_eq!((gateway.value("ops", None), gateway.calls().len()), (Err(ReadError::Forbidden), 3));
}

#[test]
fn the_vault_is_asked_again_once_a_second() {
    let gateway = Scripted::new(OPEN).answering([token(86_400), secret("a", "1"), secret("a", "2")]);
    gateway.value("a", None).unwrap();
    gateway.pass(Duration::from_millis(1500));
    let known = |again| {
        let found = gateway.found("a", None, again).unwrap();
        (found.kept.secret.value.expose().clone(), found.age.as_millis(), found.status.outcome())
    };
    assert_eq!(known(false), ("1".to_owned(), 1500, CacheOutcome::Hit));
    assert_eq!(known(true), ("2".to_owned(), 0, CacheOutcome::Request));
    assert_eq!(known(true), ("2".to_owned(), 0, CacheOutcome::Hit));
    assert_eq!((known(false), gateway.calls().len()), (("2".to_owned(), 0, CacheOutcome::Hit), 3));
}

#[test]
fn at_hand_is_what_memory_has_for_this_caller_and_need_not_be_renewed() {
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["app-*"]}]"#)]);
    gateway.will_answer([token(86_400), secret("app-db", "v"), secret("ops", "w")]);
    assert_eq!(gateway.at_hand("app-db", None), None);
    gateway.value("app-db", None).unwrap();
    gateway.post("/", &asking("ops"));
    for (name, version, value) in [
        ("app-db", None, Some("v")),
        ("APP-DB", None, Some("v")),
        ("app-db", Some(VERSION), None),
        ("app-db", Some("1"), None),
        ("app db", None, None),
        ("ops", None, None),
    ] {
        assert_eq!(gateway.at_hand(name, version).as_deref(), value, "{name} {version:?}");
    }
    // Its last tenth is for the one who renews it.
    gateway.pass(Duration::from_secs(260));
    assert_eq!(gateway.at_hand("app-db", None), None);
    assert_eq!(gateway.value("app-db", None), Ok("v".to_owned()));
    gateway.will_answer([secret("app-db", "2")]);
    assert!(gateway.renew());
    assert_eq!(gateway.at_hand("app-db", None).as_deref(), Some("2"));
    gateway.then(300, [status(503)]);
    assert_eq!(gateway.at_hand("app-db", None), None);
    let found = gateway.found("app-db", None, false).unwrap();
    assert_eq!(
        (found.kept.secret.value.expose().as_str(), found.status.outcome()),
        ("2", CacheOutcome::Stale)
    );
    assert_eq!((Scripted::only(&[]).at_hand("app-db", None), gateway.calls().len()), (None, 5));
}

#[test]
fn the_vault_is_told_as_a_reference_names_it() {
    assert_eq!(Scripted::new(&[]).vault(), Ok("https://my-vault.vault.azure.net".to_owned()));
    let local = [("KeyVaultUri", "http://LOCALHOST:8200"), ("KEY_VAULT_RESOURCE", "https://vault.azure.net")];
    let local = Scripted::only(&[&local[..], &USUAL[1..3]].concat());
    assert_eq!(local.vault(), Ok("http://localhost:8200".to_owned()));
    let nothing = Scripted::only(&[]);
    assert_eq!(nothing.vault(), Err(ReadError::Configuration("KeyVaultUri")));
    assert_eq!(nothing.value("a", None), Err(ReadError::Configuration("KeyVaultUri")));
}

/// There is a key for callers over HTTP, and so a list says what is for whoever is composed with the gateway.
const OPEN: &[(&str, &str)] = &[("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["*"]}]"#)];
