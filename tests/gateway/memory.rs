//! What is answered from memory, for how long, and what is not. With the random bits of the fake host, a TTL of 300 seconds
//! is one of 270.21.

use core::time::Duration;

use crate::scripted::*;

#[test]
fn a_warm_read_asks_nobody() {
    let gateway = Scripted::new(&[]).answering([token(86_400), secret("Db-Password", "v")]);
    for (name, seconds, age, status) in [
        ("Db-Password", 0, "0", "fwd=miss"),
        ("db-password", 200, "200", "hit; ttl=70"),
        ("DB-PASSWORD", 0, "200", "hit; ttl=70"),
    ] {
        gateway.pass(Duration::from_secs(seconds));
        let reply = gateway.post("/", &asking(name));
        assert_eq!(body_of(&reply), format!(r#"{{"Secret":"{name}","Value":"v"}}"#));
        assert_eq!((field(&reply, "age"), cache_status(&reply)), (age, status));
        assert_eq!(field(&reply, "etag"), format!("\"{VERSION}\""));
        assert_eq!(field(&reply, "cache-control"), "no-store");
    }
    assert_eq!(gateway.calls().len(), 2);
}

#[test]
fn a_scope_counts_for_what_is_in_memory_too() {
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", OPS)]);
    gateway.will_answer([token(86_400), secret("a", "v"), secret("ops-a", "v")]);
    assert_eq!((gateway.read("a").0, gateway.read("ops-a").0), (200, 200));
    for (name, expected) in
        [("ops-a", (200, "OK")), ("a", (403, "Forbidden")), ("missing", (403, "Forbidden"))]
    {
        let reply = gateway.request("POST", "/", &[JSON, OPS_KEY], &asking(name));
        assert_eq!(outcome(&reply), expected, "{name}");
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn a_fresh_value_can_be_had_once_a_second() {
    let gateway = warm("1");
    gateway.will_answer([secret("a", "2")]);
    for (milliseconds, status) in [(1001, "fwd=request"), (0, "hit; ttl=270"), (1000, "hit; ttl=269")] {
        gateway.pass(Duration::from_millis(milliseconds));
        let reply = gateway.post_no_cache(&asking("a"));
        assert_eq!((shown_by(&reply).as_str(), cache_status(&reply)), ("2", status));
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn what_is_not_there_is_remembered_for_a_short_time() {
    let gateway = Scripted::new(&[]);
    gateway.plays([
        (0.0, &[token(86_400), not_found()], "SecretNotFound", "fwd=miss", 2),
        (0.0, &[], "SecretNotFound", "hit; ttl=10", 2),
        (10.0, &[not_found()], "SecretNotFound", "fwd=miss", 3),
    ]);
    // A new secret can be had at once.
    gateway.pass(Duration::from_millis(1001));
    gateway.will_answer([secret("a", "v")]);
    assert_eq!(gateway.post_no_cache(&asking("a")).status(), 200);
}

#[test]
fn a_no_evicts_at_once_and_is_never_answered_with_an_old_value() {
    let disabled = r#"{"error":{"code":"Forbidden","message":"m","innererror":{"code":"SecretDisabled"}}}"#;
    for (no, code) in [
        (not_found(), "SecretNotFound"),
        (status(404), "VaultError"),
        (answer(403, disabled), "SecretDisabled"),
        (status(403), "VaultAccessDenied"),
    ] {
        // What comes last is an excuse for a value that is stale, but there is none any more.
        let gateway = warm("old");
        gateway.then(271, [no]);
        assert_eq!(gateway.read("a").1, code);
        gateway.then(20, [lost(), lost(), lost()]);
        assert_eq!(gateway.read("a").1, "Unavailable", "{code}");
    }
}

#[test]
fn what_fails_is_not_tried_again_within_a_second() {
    let gateway = Scripted::new(&[]);
    gateway.plays([
        (0.0, &[token(86_400), status(200)], "VaultError", "fwd=miss", 2),
        (0.9, &[], "VaultError", "hit; ttl=0", 2),
        (0.1, &[secret("a", "v")], "v", "fwd=miss", 3),
    ]);
}

#[test]
fn a_value_that_is_read_in_its_last_tenth_is_refreshed_ahead() {
    let gateway = warm("1");
    gateway.plays([(243.0, &[], "1", "hit; ttl=27", 2)]);
    assert!(!gateway.renew());
    // The last tenth of 270.21 seconds.
    gateway.plays([(0.189, &[], "1", "hit; ttl=27", 2)]);
    gateway.will_answer([secret("a", "2")]);
    assert!(gateway.renew());
    gateway.plays([(0.0, &[], "2", "hit; ttl=270", 3)]);
}

#[test]
fn a_refresh_ahead_that_fails_changes_no_answer() {
    let gateway = warm("1");
    gateway.plays([(250.0, &[], "1", "hit; ttl=20", 2)]);
    gateway.will_answer([lost(), lost(), lost()]);
    assert!(gateway.renew());
    assert_eq!(cache_status(&gateway.post("/", &asking("a"))), "hit; ttl=20");
    // It is not tried again for a second.
    assert!(!gateway.renew());
}

/// A gateway that has the secret `a` in memory.
pub fn warm(value: &str) -> Scripted {
    let gateway = Scripted::new(&[]).answering([token(86_400), secret("a", value)]);
    assert_eq!(gateway.read("a").0, 200);
    gateway
}
