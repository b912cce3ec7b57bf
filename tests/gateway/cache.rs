//! The cache: TTL, negative cache, eviction, refresh-ahead.
//!
//! With the random bits of the fake host, a TTL of 300 seconds becomes one of 270.21 seconds.

use std::time::Duration;

use crate::scripted::*;

#[test]
fn cached_read_makes_no_call() {
    let gateway = Scripted::new(&[]).with_script([token(86_400), secret("Db-Password", "v")]);
    for (name, seconds, age, status) in [
        ("Db-Password", 0, "0", "fwd=miss"),
        ("db-password", 200, "200", "hit; ttl=70"),
        ("DB-PASSWORD", 0, "200", "hit; ttl=70"),
    ] {
        gateway.advance(Duration::from_secs(seconds));
        let reply = gateway.post("/", &request_for(name));
        assert_eq!(body_of(&reply), format!(r#"{{"Secret":"{name}","Value":"v"}}"#));
        assert_eq!((field(&reply, "age"), cache_status(&reply)), (age, status));
        assert_eq!(field(&reply, "etag"), format!("\"{VERSION}\""));
        assert_eq!(field(&reply, "cache-control"), "no-store");
    }
    assert_eq!(gateway.calls().len(), 2);
}

#[test]
fn scope_applies_to_cached_values() {
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", OPS)]);
    gateway.script([token(86_400), secret("a", "v"), secret("ops-a", "v")]);
    assert_eq!((gateway.read("a").0, gateway.read("ops-a").0), (200, 200));
    for (name, expected) in
        [("ops-a", (200, "OK")), ("a", (403, "Forbidden")), ("missing", (403, "Forbidden"))]
    {
        let reply = gateway.request("POST", "/", &[JSON, OPS_KEY], &request_for(name));
        assert_eq!(outcome(&reply), expected, "{name}");
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn no_cache_fetches_once_a_second() {
    let gateway = warm("1");
    gateway.script([secret("a", "2")]);
    for (milliseconds, status) in [(1001, "fwd=request"), (0, "hit; ttl=270"), (1000, "hit; ttl=269")] {
        gateway.advance(Duration::from_millis(milliseconds));
        let reply = gateway.post_no_cache(&request_for("a"));
        assert_eq!((value_or_code(&reply).as_str(), cache_status(&reply)), ("2", status));
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn negative_cache_expires_after_ten_seconds() {
    let gateway = Scripted::new(&[]);
    gateway.expect_reads([
        (0.0, &[token(86_400), not_found()], "SecretNotFound", "fwd=miss", 2),
        (0.0, &[], "SecretNotFound", "hit; ttl=10", 2),
        (10.0, &[not_found()], "SecretNotFound", "fwd=miss", 3),
    ]);
    // `no-cache` reads a new secret at once.
    gateway.advance(Duration::from_millis(1001));
    gateway.script([secret("a", "v")]);
    assert_eq!(gateway.post_no_cache(&request_for("a")).status(), 200);
}

#[test]
fn vault_403_or_404_evicts_the_value() {
    let disabled = r#"{"error":{"code":"Forbidden","message":"m","innererror":{"code":"SecretDisabled"}}}"#;
    for (denial, code) in [
        (not_found(), "SecretNotFound"),
        (status(404), "VaultError"),
        (answer(403, disabled), "SecretDisabled"),
        (status(403), "VaultAccessDenied"),
    ] {
        // A transport error would serve the value stale, but it has been evicted.
        let gateway = warm("old");
        gateway.script_after(271, [denial]);
        assert_eq!(gateway.read("a").1, code);
        gateway.script_after(20, [lost(), lost(), lost()]);
        assert_eq!(gateway.read("a").1, "Unavailable", "{code}");
    }
}

#[test]
fn caches_an_error_for_a_second() {
    let gateway = Scripted::new(&[]);
    gateway.expect_reads([
        (0.0, &[token(86_400), status(200)], "VaultError", "fwd=miss", 2),
        (0.9, &[], "VaultError", "hit; ttl=0", 2),
        (0.1, &[secret("a", "v")], "v", "fwd=miss", 3),
    ]);
}

#[test]
fn refreshes_ahead_in_the_last_tenth_of_the_ttl() {
    let gateway = warm("1");
    gateway.expect_reads([(243.0, &[], "1", "hit; ttl=27", 2)]);
    assert!(!gateway.refresh_ahead());
    // The last tenth of 270.21 seconds.
    gateway.expect_reads([(0.189, &[], "1", "hit; ttl=27", 2)]);
    gateway.script([secret("a", "2")]);
    assert!(gateway.refresh_ahead());
    gateway.expect_reads([(0.0, &[], "2", "hit; ttl=270", 3)]);
}

#[test]
fn failed_refresh_ahead_changes_no_reply() {
    let gateway = warm("1");
    gateway.expect_reads([(250.0, &[], "1", "hit; ttl=20", 2)]);
    gateway.script([lost(), lost(), lost()]);
    assert!(gateway.refresh_ahead());
    assert_eq!(cache_status(&gateway.post("/", &request_for("a"))), "hit; ttl=20");
    // A failed refresh is not retried within a second.
    assert!(!gateway.refresh_ahead());
}

/// Creates a gateway with the secret `a` in its cache.
pub fn warm(value: &str) -> Scripted {
    let gateway = Scripted::new(&[]).with_script([token(86_400), secret("a", value)]);
    assert_eq!(gateway.read("a").0, 200);
    gateway
}
