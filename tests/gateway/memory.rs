//! What is answered from memory, for how long, and what is not.

use core::time::Duration;

use crate::asking;
use crate::scripted::{Scripted, Seen, body_of, field, secret, token};

#[test]
fn a_warm_read_asks_nobody() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(86_400), secret("Db-Password", "v")]);
    let bodies = ["Db-Password", "db-password", "DB-PASSWORD"].map(asking);
    gateway.post("/", &bodies[0]);
    gateway.pass(Duration::from_secs(200));
    for (body, name) in bodies.iter().zip(["Db-Password", "db-password", "DB-PASSWORD"]) {
        let reply = gateway.post("/", body);
        assert_eq!(body_of(&reply), format!(r#"{{"Secret":"{name}","Value":"v"}}"#));
        assert_eq!(field(&reply, "age"), "200");
        // With the random bits of this host, a TTL of 300 seconds is one of 270.21.
        assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; hit; ttl=70");
        assert_eq!(field(&reply, "etag"), "\"3d76eb676e0a40429c7aa2b4b7912a5d\"");
        assert_eq!(field(&reply, "cache-control"), "no-store");
    }
    assert_eq!(gateway.calls().len(), 2);
}

#[test]
fn a_value_is_read_again_when_its_time_is_over() {
    let gateway = warm("1");
    gateway.pass(Duration::from_secs(271));
    gateway.will_answer([secret("a", "2")]);
    let reply = gateway.post("/", &asking("a"));
    assert!(body_of(&reply).contains("\"2\""));
    assert_eq!((field(&reply, "age"), field(&reply, "cache-status")), ("0", "keyvault-gateway; fwd=stale"));
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn a_version_is_kept_apart_from_the_latest() {
    let gateway = warm("v");
    let pinned = r#"{"Secret":"a","Version":"3d76eb676e0a40429c7aa2b4b7912a5d"}"#;
    gateway.will_answer([secret("a", "v")]);
    for status in ["keyvault-gateway; fwd=miss", "keyvault-gateway; hit; ttl=270"] {
        assert_eq!(field(&gateway.post("/", pinned), "cache-status"), status);
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn a_scope_counts_for_what_is_in_memory_too() {
    let list = r#"[{"name":"ops","secrets":["ops-*"],
        "key_sha256":["97a1525552707dffb403e9124bf88cf83ef37b5ba47a5d2ff6e933aeac1b4c5b"]}]"#;
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", list)]);
    gateway.will_answer([token(86_400), secret("a", "v"), secret("ops-a", "v")]);
    for name in ["a", "ops-a"] {
        assert_eq!(gateway.post("/", &asking(name)).status().as_u16(), 200);
    }
    let ops = [("content-type", "application/json"), ("x-functions-key", "the-third-key")];
    for (name, status, code) in [("ops-a", 200, "OK"), ("a", 403, "Forbidden"), ("missing", 403, "Forbidden")]
    {
        let reply = gateway.request("POST", "/", &ops, &asking(name));
        assert_eq!((reply.status().as_u16(), reply.code()), (status, code), "{name}");
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn a_fresh_value_can_be_had_once_a_second() {
    let gateway = warm("1");
    gateway.pass(Duration::from_millis(1001));
    gateway.will_answer([secret("a", "2")]);
    for (status, age) in [("keyvault-gateway; fwd=request", "0"), ("keyvault-gateway; hit; ttl=270", "0")] {
        let reply = gateway.post_no_cache(&asking("a"));
        assert!(body_of(&reply).contains("\"2\""));
        assert_eq!((field(&reply, "cache-status"), field(&reply, "age")), (status, age));
    }
    gateway.pass(Duration::from_secs(1));
    assert!(body_of(&gateway.post_no_cache(&asking("a"))).contains("\"2\""));
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn what_is_not_there_is_remembered_for_a_short_time() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(86_400), not_found()]);
    for status in ["keyvault-gateway; fwd=miss", "keyvault-gateway; hit; ttl=10"] {
        let reply = gateway.post("/", &asking("a"));
        assert_eq!((reply.status().as_u16(), reply.code()), (404, "SecretNotFound"));
        assert_eq!(field(&reply, "cache-status"), status);
    }
    assert_eq!(gateway.calls().len(), 2);
    gateway.pass(Duration::from_secs(10));
    gateway.will_answer([secret("a", "v")]);
    assert_eq!(gateway.post("/", &asking("a")).status().as_u16(), 200);
}

#[test]
fn a_new_secret_is_there_at_once_for_who_wants_a_fresh_value() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(86_400), not_found(), secret("a", "v")]);
    assert_eq!(gateway.post("/", &asking("a")).code(), "SecretNotFound");
    gateway.pass(Duration::from_millis(1001));
    assert_eq!(gateway.post_no_cache(&asking("a")).status().as_u16(), 200);
}

#[test]
fn a_no_evicts_at_once_and_is_never_answered_with_an_old_value() {
    let disabled = r#"{"error":{"code":"Forbidden","message":"m","innererror":{"code":"SecretDisabled"}}}"#;
    for (no, code) in [
        (vec![not_found()], "SecretNotFound"),
        (vec![Seen::Answer(404, None, String::new())], "VaultError"),
        (vec![Seen::Answer(403, None, disabled.to_owned())], "SecretDisabled"),
        (vec![Seen::Answer(403, None, String::new())], "VaultAccessDenied"),
    ] {
        let gateway = warm("old");
        gateway.pass(Duration::from_secs(271));
        gateway.will_answer(no);
        assert_eq!(gateway.post("/", &asking("a")).code(), code);
        // What comes now is an excuse for a value that is stale, but there is none any more.
        gateway.pass(Duration::from_secs(20));
        gateway.will_answer([gone(), gone(), gone()]);
        assert_eq!(gateway.post("/", &asking("a")).code(), "Unavailable", "{code}");
    }
}

#[test]
fn what_fails_is_not_tried_again_within_a_second() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(86_400), Seen::Answer(200, None, String::new())]);
    for _ in 0..3 {
        assert_eq!(gateway.post("/", &asking("a")).code(), "VaultError");
    }
    gateway.pass(Duration::from_secs(1));
    gateway.will_answer([secret("a", "v")]);
    assert_eq!(gateway.post("/", &asking("a")).code(), "OK");
}

#[test]
fn a_value_is_renewed_before_its_end_if_somebody_asks_for_it() {
    let gateway = warm("1");
    gateway.pass(Duration::from_secs(243));
    gateway.post("/", &asking("a"));
    assert!(!gateway.renew());
    // The last tenth of 270.21 seconds.
    gateway.pass(Duration::from_millis(189));
    let reply = gateway.post("/", &asking("a"));
    assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; hit; ttl=27");
    gateway.will_answer([secret("a", "2")]);
    assert!(gateway.renew());
    let reply = gateway.post("/", &asking("a"));
    assert!(body_of(&reply).contains("\"2\""));
    assert_eq!((field(&reply, "age"), gateway.calls().len()), ("0", 3));
}

#[test]
fn a_renewal_that_fails_costs_nobody_anything() {
    let gateway = warm("1");
    gateway.pass(Duration::from_secs(250));
    gateway.post("/", &asking("a"));
    gateway.will_answer([gone(), gone(), gone()]);
    assert!(gateway.renew());
    let reply = gateway.post("/", &asking("a"));
    assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; hit; ttl=20");
    // For a second, nobody tries again.
    assert!(!gateway.renew());
}

#[test]
fn the_cache_can_be_switched_off() {
    let gateway = Scripted::new(&[("GATEWAY_CACHE_TTL_SECONDS", "0")]);
    gateway.will_answer([token(86_400), secret("a", "1"), secret("a", "2"), not_found(), not_found()]);
    for code in ["OK", "OK", "SecretNotFound", "SecretNotFound"] {
        assert_eq!(gateway.post("/", &asking("a")).code(), code);
    }
    assert_eq!(gateway.calls().len(), 5);
}

/// A gateway that has the secret `a` in memory.
pub fn warm(value: &str) -> Scripted {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(86_400), secret("a", value)]);
    assert_eq!(gateway.post("/", &asking("a")).status().as_u16(), 200);
    gateway
}

fn not_found() -> Seen {
    Seen::Answer(404, None, r#"{"error":{"code":"SecretNotFound","message":"m"}}"#.to_owned())
}

fn gone() -> Seen {
    Seen::Nothing(keyvault_gateway::host::NoAnswer::Lost)
}
