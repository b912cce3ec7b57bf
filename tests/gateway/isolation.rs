//! Isolation of callers: call budgets, late bodies, foreign host names.

use std::time::Duration;

use keyvault_gateway::http::response::Reply;

use crate::REQUEST;
use crate::scripted::*;

#[test]
fn spent_budget_limits_only_its_caller() {
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", NARROW)]).with_script([token(86_400)]);
    gateway.script(vec![not_found(); 100]);
    for version in 0..100 {
        assert_eq!(read(&gateway, NARROW_KEY, "a", Some(version)), (404, "SecretNotFound"), "{version}");
    }
    let reply = request(&gateway, NARROW_KEY, "a", Some(100));
    assert_eq!(outcome(&reply), (429, "TooManyRequests"));
    assert_eq!((field(&reply, "retry-after"), field(&reply, "cache-status")), ("1", ""));
    let calls = gateway.calls().len();
    assert_eq!(calls, 101);

    gateway.script([secret("a", "v")]);
    assert_eq!(gateway.read("a"), (200, "OK"));
    // Cache hits cost no budget: the value that another caller has read, and the negative cache.
    assert_eq!(read(&gateway, NARROW_KEY, "a", None), (200, "OK"));
    assert_eq!(read(&gateway, NARROW_KEY, "a", Some(7)), (404, "SecretNotFound"));
    gateway.advance(Duration::from_secs(1));
    assert_eq!(gateway.calls().len(), calls + 1);

    gateway.script(vec![not_found(); 10]);
    let taken = (200..300).filter(|version| read(&gateway, NARROW_KEY, "a", Some(*version)).0 == 404).count();
    assert_eq!((taken, gateway.calls().len()), (10, calls + 11));
}

#[test]
fn no_cache_and_retries_use_the_budget_of_the_caller() {
    let gateway = Scripted::new(&[("GATEWAY_CALLER_CALLS_PER_SECOND", "1")]).with_script([token(86_400)]);
    // 98 calls, of which 48 are retries.
    for number in 0..50 {
        let name = format!("a-{number}");
        if number < 48 {
            gateway.script([status(503)]);
        }
        gateway.script([secret(&name, "v")]);
        assert_eq!(gateway.read(&name), (200, "OK"));
    }
    // The backoff between the retries took less than ten seconds.
    assert!(gateway.now() < Duration::from_secs(10));
    gateway.advance(Duration::from_secs(1));
    let mut fresh = 0;
    let refused = loop {
        let name = format!("a-{fresh}");
        gateway.script([secret(&name, "v")]);
        let reply = gateway.post_no_cache(&request_for(&name));
        if reply.status() != 200 {
            break reply;
        }
        fresh += 1;
    };
    assert!(refused.status() == 429 && (2..12).contains(&fresh), "{fresh}");
}

#[test]
fn refresh_ahead_uses_no_budget() {
    let gateway = Scripted::new(&[("GATEWAY_CALLER_CALLS_PER_SECOND", "1")]);
    gateway.script([token(86_400), secret("a", "old")]);
    assert_eq!(gateway.read("a"), (200, "OK"));
    gateway.script_after(255, vec![not_found(); 100]);
    for version in 0..100 {
        read(&gateway, "the-right-key", "a", Some(version));
    }
    assert_eq!(read(&gateway, "the-right-key", "a", Some(100)), (429, "TooManyRequests"));
    gateway.advance(Duration::from_secs(10));
    assert_eq!(gateway.read("a"), (200, "OK"));
    gateway.script([secret("a", "new")]);
    assert!(gateway.refresh_ahead());
    let reply = gateway.post("/", &request_for("a"));
    assert_eq!(body_of(&reply), r#"{"Secret":"a","Value":"new"}"#);
}

#[test]
fn late_bodies_do_not_open_the_circuit_breaker() {
    for late in [0.2, 0.5, 1.1, 1.9, 2.4] {
        let gateway = Scripted::new(&[("GATEWAY_CALLERS", NARROW)]);
        // The token source is too slow for a request that waits for its body first.
        let slow = || token(86_400).after(Duration::from_secs_f64(9.95));
        gateway.world.body_time.set(Duration::from_secs_f64(late));
        gateway.script(vec![slow(); 5]);
        for attempt in 0..5 {
            assert_eq!(read(&gateway, NARROW_KEY, "a", None), (504, "Timeout"), "{late} {attempt}");
        }
        gateway.world.body_time.set(Duration::ZERO);
        gateway.script([slow()]);
        let reply = gateway.post("/", &request_for("a"));
        // The request gets a token, but has no time left for the secret.
        assert_eq!(reply.code(), "Timeout", "{late}");
        gateway.script([secret("a", "v")]);
        assert_eq!(gateway.read("a"), (200, "OK"), "{late}");
    }
}

#[test]
fn body_must_arrive_in_a_quarter_of_the_deadline() {
    for (deadline, seconds, status) in [
        ("10", 2.4, 200),
        ("10", 2.6, 504),
        ("4", 0.9, 200),
        ("4", 1.1, 504),
        ("1", 0.4, 200),
        ("1", 0.6, 504),
    ] {
        let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", deadline)]);
        gateway.world.body_time.set(Duration::from_secs_f64(seconds));
        if status == 200 {
            gateway.script([token(86_400), secret("a", "v")]);
        }
        assert_eq!(gateway.read("a").0, status, "{deadline} {seconds}");
        assert!(gateway.now() <= Duration::from_secs_f64(seconds));
    }
}

#[test]
fn anonymous_requests_need_an_allowed_host() {
    let anonymous = ("GATEWAY_ALLOW_ANONYMOUS", "true");
    for (fields, settings, status) in [
        (&[][..], &[anonymous][..], 200),
        (&[("host", "localhost:8080")], &[anonymous], 200),
        (&[("host", "attacker.example")], &[anonymous], 403),
        (&[("host", "localhost"), ("origin", "http://attacker.example")], &[anonymous], 403),
        (&[("origin", "null")], &[anonymous], 403),
        (&[("host", "gateway.internal")], &[anonymous, ("GATEWAY_ALLOWED_HOSTS", "gateway.internal")], 200),
        (&[("host", "attacker.example"), ("x-functions-key", "the-right-key")], &[anonymous], 200),
        (&[("host", "attacker.example"), ("x-functions-key", "wrong")], &[anonymous], 403),
        (&[("host", "attacker.example"), ("x-functions-key", "the-right-key")], &[], 200),
        (&[("host", "attacker.example")], &[], 401),
    ] {
        let gateway = Scripted::new(settings);
        if status == 200 {
            gateway.script([token(86_400), secret("Integration-Team-Blog", "v")]);
        }
        let fields = [&[("content-type", "application/json")], fields].concat();
        let reply = gateway.request("POST", "/", &fields, REQUEST);
        assert_eq!(reply.status(), status, "{fields:?} {settings:?}");
        assert_eq!(gateway.calls().is_empty(), status != 200, "{fields:?} {settings:?}");
    }
}

#[test]
fn cached_error_has_the_name_of_its_own_request() {
    let gateway = Scripted::new(&[]).with_script([token(86_400), not_found()]);
    for name in ["No-Such-Secret", "no-such-SECRET"] {
        let reply = request(&gateway, "the-right-key", name, Some(7));
        assert_eq!(reply.code(), "SecretNotFound");
        let id = format!("(name/id) {name}/{:032x} was not found", 7);
        assert!(body_of(&reply).contains(&id), "{name}");
    }
    assert_eq!(gateway.calls().len(), 2);
}

/// A caller with one secret in its scope, and the SHA-256 of its API key.
const NARROW: &str = r#"[{"name":"narrow","secrets":["a"],
    "key_sha256":["7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"]}]"#;

const NARROW_KEY: &str = "one";

fn read(gateway: &Scripted, key: &str, name: &str, version: Option<u32>) -> (u16, &'static str) {
    outcome(&request(gateway, key, name, version))
}

fn request(gateway: &Scripted, key: &str, name: &str, version: Option<u32>) -> Reply {
    let version = version.map_or_else(String::new, |number| format!(r#","Version":"{number:032x}""#));
    let body = format!(r#"{{"Secret":"{name}"{version}}}"#);
    gateway.request("POST", "/", &[JSON, ("x-functions-key", key)], &body)
}
