//! One caller's input changes no other caller's answer: budgets, late bodies, foreign names.

use core::time::Duration;

use crate::REQUEST;
use crate::scripted::*;

#[test]
fn a_caller_whose_budget_is_spent_waits_and_no_other_does() {
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", NARROW)]).answering([token(86_400)]);
    gateway.will_answer(vec![not_found(); 100]);
    for version in 0..100 {
        assert_eq!(read(&gateway, NARROW_KEY, "a", Some(version)), (404, "SecretNotFound"), "{version}");
    }
    let reply = request(&gateway, NARROW_KEY, "a", Some(100), &[]);
    assert_eq!(outcome(&reply), (429, "TooManyRequests"));
    assert_eq!((field(&reply, "retry-after"), field(&reply, "cache-status")), ("1", ""));
    let calls = gateway.calls().len();
    assert_eq!(calls, 101);

    gateway.will_answer([secret("a", "v")]);
    assert_eq!(read(&gateway, "the-right-key", "a", None), (200, "OK"));
    // What is in memory costs nothing: the value that another caller has had read, and the answer that there is no such version.
    assert_eq!(read(&gateway, NARROW_KEY, "a", None), (200, "OK"));
    assert_eq!(read(&gateway, NARROW_KEY, "a", Some(7)), (404, "SecretNotFound"));
    gateway.pass(Duration::from_secs(1));
    assert_eq!(gateway.calls().len(), calls + 1);

    gateway.will_answer(vec![not_found(); 10]);
    let taken = (200..300).filter(|version| read(&gateway, NARROW_KEY, "a", Some(*version)).0 == 404).count();
    assert_eq!((taken, gateway.calls().len()), (10, calls + 11));
}

#[test]
fn no_cache_and_tries_again_are_paid_from_the_same_budget() {
    let gateway = Scripted::new(&[("GATEWAY_CALLER_CALLS_PER_SECOND", "1")]).answering([token(86_400)]);
    // 98 calls in no time, of which 48 are tries again.
    for number in 0..50 {
        let name = format!("a-{number}");
        if number < 48 {
            gateway.will_answer([status(503)]);
        }
        gateway.will_answer([secret(&name, "v")]);
        assert_eq!(read(&gateway, "the-right-key", &name, None), (200, "OK"));
    }
    // Pauses between tries have taken less than ten seconds.
    assert!(gateway.now() < Duration::from_secs(10));
    let no_cache = [("cache-control", "no-cache")];
    gateway.pass(Duration::from_secs(1));
    let mut fresh = 0;
    let refused = loop {
        let name = format!("a-{fresh}");
        gateway.will_answer([secret(&name, "v")]);
        let reply = request(&gateway, "the-right-key", &name, None, &no_cache);
        if reply.status() != 200 {
            break reply;
        }
        fresh += 1;
    };
    assert!(refused.status() == 429 && (2..12).contains(&fresh), "{fresh}");
}

#[test]
fn a_refresh_ahead_is_paid_by_no_caller() {
    let gateway = Scripted::new(&[("GATEWAY_CALLER_CALLS_PER_SECOND", "1")]);
    gateway.will_answer([token(86_400), secret("a", "old")]);
    assert_eq!(read(&gateway, "the-right-key", "a", None), (200, "OK"));
    gateway.then(255, vec![not_found(); 100]);
    for version in 0..100 {
        read(&gateway, "the-right-key", "a", Some(version));
    }
    assert_eq!(read(&gateway, "the-right-key", "a", Some(100)), (429, "TooManyRequests"));
    gateway.pass(Duration::from_secs(10));
    assert_eq!(read(&gateway, "the-right-key", "a", None), (200, "OK"));
    gateway.will_answer([secret("a", "new")]);
    assert!(gateway.renew());
    let reply = request(&gateway, "the-right-key", "a", None, &[]);
    assert_eq!(body_of(&reply), r#"{"Secret":"a","Value":"new"}"#);
}

#[test]
fn a_slow_token_source_stays_open_to_all_while_one_caller_sends_its_bodies_late() {
    for late in [0.2, 0.5, 1.1, 1.9, 2.4] {
        let gateway = Scripted::new(&[("GATEWAY_CALLERS", NARROW)]);
        // It answers a request that has its body at once, and no later one.
        let slow = || token(86_400).after(Duration::from_secs_f64(9.95));
        gateway.world.body_time.set(Duration::from_secs_f64(late));
        gateway.will_answer(vec![slow(); 5]);
        for attempt in 0..5 {
            assert_eq!(read(&gateway, NARROW_KEY, "a", None), (504, "Timeout"), "{late} {attempt}");
        }
        gateway.world.body_time.set(Duration::ZERO);
        gateway.will_answer([slow()]);
        let reply = request(&gateway, "the-right-key", "a", None, &[]);
        // There is a token, and no time left for the secret.
        assert_eq!(reply.code(), "Timeout", "{late}");
        gateway.will_answer([secret("a", "v")]);
        assert_eq!(read(&gateway, "the-right-key", "a", None), (200, "OK"), "{late}");
    }
}

#[test]
fn a_body_has_a_quarter_of_the_deadline() {
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
            gateway.will_answer([token(86_400), secret("a", "v")]);
        }
        assert_eq!(gateway.read("a").0, status, "{deadline} {seconds}");
        assert!(gateway.now() <= Duration::from_secs_f64(seconds));
    }
}

#[test]
fn without_a_key_only_the_names_of_the_gateway_are_answered() {
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
            gateway.will_answer([token(86_400), secret("Integration-Team-Blog", "v")]);
        }
        let fields = [&[("content-type", "application/json")], fields].concat();
        let reply = gateway.request("POST", "/", &fields, REQUEST);
        assert_eq!(reply.status(), status, "{fields:?} {settings:?}");
        assert_eq!(gateway.calls().is_empty(), status != 200, "{fields:?} {settings:?}");
    }
}

#[test]
fn an_answer_that_was_remembered_has_the_name_as_its_own_request_wrote_it() {
    let gateway = Scripted::new(&[]).answering([token(86_400), not_found()]);
    for name in ["No-Such-Secret", "no-such-SECRET"] {
        let reply = request(&gateway, "the-right-key", name, Some(7), &[]);
        assert_eq!(reply.code(), "SecretNotFound");
        let id = format!("(name/id) {name}/{:032x} was not found", 7);
        assert!(body_of(&reply).contains(&id), "{name}");
    }
    assert_eq!(gateway.calls().len(), 2);
}

/// A caller that may read one secret, with the SHA-256 of its key.
const NARROW: &str = r#"[{"name":"narrow","secrets":["a"],"key_sha256":["7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"]}]"#;

const NARROW_KEY: &str = "one";

fn read(gateway: &Scripted, key: &str, name: &str, version: Option<u32>) -> (u16, &'static str) {
    let reply = request(gateway, key, name, version, &[]);
    outcome(&reply)
}

fn request(
    gateway: &Scripted,
    key: &str,
    name: &str,
    version: Option<u32>,
    more: &[(&'static str, &'static str)],
) -> keyvault_gateway::http::response::Reply {
    let version = version.map_or_else(String::new, |number| format!(r#","Version":"{number:032x}""#));
    let mut fields = vec![("content-type", "application/json"), ("x-functions-key", key)];
    fields.extend_from_slice(more);
    gateway.request("POST", "/", &fields, &format!(r#"{{"Secret":"{name}"{version}}}"#))
}
