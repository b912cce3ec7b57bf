//! The component API: the same cache and the same rules for a component that is composed with the gateway.

use std::time::Duration;

use keyvault_gateway::http::cache_status::CacheOutcome;
use keyvault_gateway::read_error::ReadError;

use crate::scripted::*;

#[test]
fn shares_the_cache_with_http() {
    let gateway = Scripted::new(ALL_SECRETS);
    gateway.script([token(86_400), secret("a", "v"), secret("b", "w"), secret("a", "x")]);
    assert_eq!(gateway.component_read("a", None), Ok("v".to_owned()));
    assert_eq!(value_or_code(&gateway.post("/", &request_for("A"))), "v");
    assert_eq!(value_or_code(&gateway.post("/", &request_for("b"))), "w");
    assert_eq!(gateway.component_read("B", None), Ok("w".to_owned()));
    // A pinned version is cached apart from the latest.
    assert_eq!(gateway.component_read("a", Some(VERSION)), Ok("x".to_owned()));
    assert_eq!(gateway.component_read("a", Some(&VERSION.to_uppercase())), Ok("x".to_owned()));
    assert!(gateway.calls()[3].contains(&format!("/secrets/a/{VERSION}?")));
    assert_eq!(gateway.calls().len(), 4);
}

#[test]
fn logs_every_read_that_misses_the_cache() {
    let gateway =
        Scripted::new(ALL_SECRETS).with_script([token(86_400), secret("a", "v"), answer(200, "{}")]);
    for (name, version, expected, level, line) in [
        ("a", None, Ok("v"), "info", r#""secret":"a","status":200,"code":"OK","cache":"miss","upstream":2"#),
        ("b", None, Err(ReadError::Vault), "error", r#""status":502,"code":"VaultError""#),
        ("a b", None, Err(ReadError::InvalidName), "info", r#""status":400,"code":"BadRequest""#),
        ("a", Some("1"), Err(ReadError::InvalidVersion), "info", r#""status":400,"code":"BadRequest""#),
    ] {
        assert_eq!(gateway.component_read(name, version), expected.map(str::to_owned));
        let log = gateway.log().pop().unwrap();
        let parts = [line, r#""caller":"composed""#, &format!(r#""level":"{level}""#)];
        assert!(parts.iter().all(|part| log.contains(part)), "{log}");
    }
    // A cache hit writes no log line.
    assert_eq!((gateway.component_read("a", None), gateway.log().len()), (Ok("v".to_owned()), 4));
}

#[test]
fn needs_no_key_and_has_the_scope_of_caller_composed() {
    let list = r#"[{"name":"composed","secrets":["app-*"]}]"#;
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", list)]);
    gateway.script([token(86_400), secret("app-db", "v"), secret("ops", "w")]);
    assert_eq!(gateway.component_read("app-db", None), Ok("v".to_owned()));
    // The value is cached, but outside the scope of the component.
    assert!(body_of(&gateway.post("/", &request_for("ops"))).contains("\"w\""));
    assert_eq!((gateway.component_read("ops", None), gateway.calls().len()), (Err(ReadError::Forbidden), 3));
}

#[test]
fn several_secrets_have_an_outcome_each() {
    let list = r#"[{"name":"composed","secrets":["app-*"]}]"#;
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", list)]);
    gateway.script([token(86_400), secret("app-a", "v"), not_found(), secret("app-c", "w")]);
    let names = ["app-a", "app-b", "ops", "a b", "app-c", "app-a"];
    let (v, w) = (Ok("v".to_owned()), Ok("w".to_owned()));
    use ReadError::{Forbidden, InvalidName, NotFound};
    let expected = [v.clone(), Err(NotFound), Err(Forbidden), Err(InvalidName), w, v];
    assert_eq!(gateway.component_read_many(&names), expected);
    let log = gateway.log().pop().unwrap();
    let codes = r#""codes":{"OK":3,"SecretNotFound":1,"Forbidden":1,"BadRequest":1}"#;
    assert!(log.contains(codes) && log.contains(r#""caller":"composed""#), "{log}");
    let unset = Scripted::new(&[("KeyVaultUri", "")]);
    assert_eq!(unset.component_read_many(&["a"]), [Err(ReadError::Configuration("KeyVaultUri"))]);
}

#[test]
fn refresh_fetches_once_a_second() {
    let gateway = Scripted::new(ALL_SECRETS).with_script([token(86_400), secret("a", "1"), secret("a", "2")]);
    gateway.component_read("a", None).unwrap();
    gateway.advance(Duration::from_millis(1500));
    let read = |refresh| {
        let found = gateway.lookup("a", None, refresh).unwrap();
        (found.secret.secret.value.expose().clone(), found.age.as_millis(), found.cache_status.outcome())
    };
    assert_eq!(read(false), ("1".to_owned(), 1500, CacheOutcome::Hit));
    assert_eq!(read(true), ("2".to_owned(), 0, CacheOutcome::Request));
    assert_eq!(read(true), ("2".to_owned(), 0, CacheOutcome::Hit));
    assert_eq!((read(false), gateway.calls().len()), (("2".to_owned(), 0, CacheOutcome::Hit), 3));
}

#[test]
fn get_cached_returns_unexpired_values_in_scope() {
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["app-*"]}]"#)]);
    gateway.script([token(86_400), secret("app-db", "v"), secret("ops", "w")]);
    assert_eq!(gateway.get_cached("app-db", None), None);
    gateway.component_read("app-db", None).unwrap();
    gateway.post("/", &request_for("ops"));
    for (name, version, value) in [
        ("app-db", None, Some("v")),
        ("APP-DB", None, Some("v")),
        ("app-db", Some(VERSION), None),
        ("app-db", Some("1"), None),
        ("app db", None, None),
        ("ops", None, None),
    ] {
        assert_eq!(gateway.get_cached(name, version).as_deref(), value, "{name} {version:?}");
    }
    // In the last tenth of the TTL the caller has to read the value, which refreshes it ahead.
    gateway.advance(Duration::from_secs(260));
    assert_eq!(gateway.get_cached("app-db", None), None);
    assert_eq!(gateway.component_read("app-db", None), Ok("v".to_owned()));
    gateway.script([secret("app-db", "2")]);
    assert!(gateway.refresh_ahead());
    assert_eq!(gateway.get_cached("app-db", None).as_deref(), Some("2"));
    gateway.script_after(300, [status(503)]);
    assert_eq!(gateway.get_cached("app-db", None), None);
    let found = gateway.lookup("app-db", None, false).unwrap();
    assert_eq!(
        (found.secret.secret.value.expose().as_str(), found.cache_status.outcome()),
        ("2", CacheOutcome::ServedStale)
    );
    assert_eq!((Scripted::with_settings(&[]).get_cached("app-db", None), gateway.calls().len()), (None, 5));
}

#[test]
fn returns_the_address_of_the_vault() {
    assert_eq!(Scripted::new(&[]).vault(), Ok("https://my-vault.vault.azure.net".to_owned()));
    let local = [("KeyVaultUri", "http://LOCALHOST:8200"), ("KEY_VAULT_RESOURCE", "https://vault.azure.net")];
    let local = Scripted::with_settings(&[&local[..], &DEFAULT_SETTINGS[1..3]].concat());
    assert_eq!(local.vault(), Ok("http://localhost:8200".to_owned()));
    let without_settings = Scripted::with_settings(&[]);
    assert_eq!(without_settings.vault(), Err(ReadError::Configuration("KeyVaultUri")));
    assert_eq!(without_settings.component_read("a", None), Err(ReadError::Configuration("KeyVaultUri")));
}

/// The scope of the component, which is required because callers over HTTP need a key.
const ALL_SECRETS: &[(&str, &str)] = &[("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["*"]}]"#)];
