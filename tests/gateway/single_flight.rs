//! Single-flight: concurrent requests share calls. A leader that fails or hangs up does not fail its waiters.

use std::time::Duration;

use crate::scripted::*;

#[test]
fn waiter_takes_over_from_a_leader_without_time() {
    for (failure, backoff) in [(status(503), 1), (retry_after(429, "4"), 5)] {
        let gateway = Scripted::new(&[]).with_script([token(86_400).held(), failure.held()]);
        let mut leader = start(&gateway, "a");
        gateway.advance(Duration::from_millis(9850));
        gateway.release();
        assert!(leader.reply().is_none());
        let mut waiter = start(&gateway, "a");
        gateway.advance(Duration::from_millis(60));
        gateway.release();
        assert_eq!(leader.reply().unwrap().status(), 503);
        gateway.script([secret("a", "v")]);
        let reply = waiter.reply().or_else(|| {
            gateway.advance(Duration::from_secs(backoff));
            waiter.reply()
        });
        assert_eq!(body_of(&reply.unwrap()), r#"{"Secret":"a","Value":"v"}"#);
        assert_eq!(gateway.calls().len(), 3);
    }
}

#[test]
fn hanging_vault_gets_few_calls_from_many_requests() {
    let gateway = Scripted::new(&[]).with_script([token(86_400), secret("x", "v")]);
    gateway.post("/", &request_for("x"));
    gateway.script(vec![Outcome::Late; 300]);
    let mut pending: Vec<Pending<'_>> = Vec::new();
    let mut outcomes = Vec::new();
    for step in 0..1200 {
        pending.retain_mut(|request| {
            let reply = request.reply();
            outcomes.extend(reply.as_ref().map(outcome));
            reply.is_none()
        });
        if step < 100 {
            pending.push(start(&gateway, "a"));
        }
        gateway.advance(Duration::from_millis(10));
    }
    assert_eq!(outcomes, [(504, "Timeout"); 100]);
    // The first request makes two calls in its ten seconds. The last request has time for one more.
    assert_eq!(gateway.calls().len() - 2, 3);
}

#[test]
fn waiter_with_a_stale_value_waits_once() {
    let gateway = Scripted::new(&[]).with_script([token(86_400), secret("a", "old")]);
    gateway.post("/", &request_for("a"));
    gateway.script_after(300, [Outcome::Late]);
    let mut first = start(&gateway, "a");
    let mut second = start(&gateway, "a");
    gateway.advance(Duration::from_millis(2500));
    for (request, collapsed) in [(&mut first, ""), (&mut second, "; collapsed")] {
        let reply = request.reply().unwrap();
        assert_eq!(body_of(&reply), r#"{"Secret":"a","Value":"old"}"#);
        let status = format!("keyvault-gateway; fwd=stale; ttl=-33{collapsed}; detail=failed");
        assert_eq!(field(&reply, "cache-status"), status);
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn no_cache_does_not_join_an_earlier_call() {
    let gateway = Scripted::new(&[]);
    let first = secret("a", "1").after(Duration::from_secs(3));
    gateway.script([token(86_400), first, secret("a", "2")]);
    let mut plain = start(&gateway, "a");
    gateway.advance(Duration::from_secs(2));
    let no_cache = [&WITH_KEY[..], &[("cache-control", "no-cache")]].concat();
    let mut fresh = gateway.start("POST", "/", &no_cache, &request_for("a"));
    gateway.advance(Duration::from_secs(1));
    assert_eq!(body_of(&plain.reply().unwrap()), r#"{"Secret":"a","Value":"1"}"#);
    assert_eq!(body_of(&fresh.reply().unwrap()), r#"{"Secret":"a","Value":"2"}"#);
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn retries_if_the_stale_bound_passes_during_a_call() {
    let gateway = Scripted::new(&[("GATEWAY_STALE_SECONDS", "10")]);
    gateway.script([token(86_400), secret("a", "old")]);
    gateway.post("/", &request_for("a"));
    // One second before the stale bound.
    gateway.advance(Duration::from_millis(279_210));
    let failing = status(503).after(Duration::from_secs(2));
    gateway.script([failing, secret("a", "new")]);
    assert_eq!(body_of(&gateway.post("/", &request_for("a"))), r#"{"Secret":"a","Value":"new"}"#);
}

#[test]
fn waiter_without_a_value_retries_the_token_call() {
    let gateway = Scripted::new(&[]);
    // The token and the value of `a` have expired.
    gateway.script([token(280), secret("a", "old")]);
    assert_eq!(gateway.read("a").0, 200);
    gateway.script_after(281, [status(503).held(), token(86_400), secret("b", "v")]);
    let mut with_value = start(&gateway, "a");
    let mut without_value = start(&gateway, "b");
    gateway.release();
    let reply = with_value.reply().unwrap();
    assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; fwd=stale; ttl=-11; detail=failed");
    assert_eq!(body_of(&without_value.reply().unwrap()), r#"{"Secret":"b","Value":"v"}"#);
    assert_eq!(gateway.calls().len(), 5);
}

#[test]
fn readiness_survives_a_cancelled_leader() {
    let gateway = Scripted::new(&[]).with_script([Outcome::Never, token(3600).held()]);
    let leader = start_readiness(&gateway);
    let mut waiting: Vec<_> = (0..3).map(|_| start_readiness(&gateway)).collect();
    drop(leader);
    // One waiter becomes the leader, and the others wait for it.
    assert!(waiting.iter_mut().all(|request| request.reply().is_none()));
    gateway.release();
    for request in &mut waiting {
        assert_eq!(outcome(&request.reply().unwrap()), (200, "OK"));
    }
    assert_eq!(gateway.calls().len(), 2);
}

#[test]
fn readiness_fails_after_the_token_expires() {
    let gateway = Scripted::new(&[]).with_script([token(280)]);
    assert_eq!(outcome(&gateway.get("/readyz")), (200, "OK"));
    gateway.script_after(300, vec![Outcome::Never; 3]);
    for _ in 0..3 {
        drop(start_readiness(&gateway));
    }
    assert_eq!((outcome(&gateway.get("/readyz")), gateway.calls().len()), ((503, "Unavailable"), 4));
}

#[test]
fn readiness_calls_a_hanging_source_every_five_seconds() {
    let gateway = Scripted::new(&[]).with_script(vec![Outcome::Late; 3]);
    let mut call_times = Vec::new();
    let mut pending: Vec<Pending<'_>> = Vec::new();
    for second in 0..20 {
        pending.retain_mut(|request| request.reply().is_none());
        pending.push(start_readiness(&gateway));
        call_times.resize(gateway.calls().len(), second);
        gateway.advance(Duration::from_secs(1));
    }
    // The next leader waits for the end of the call before it.
    assert_eq!(call_times, [0, 10, 15]);
}

#[test]
fn readiness_makes_one_attempt_and_shares_no_failure() {
    let gateway = Scripted::new(&[]).with_script([status(503).held(), token(86_400), secret("a", "v")]);
    let mut probe = start_readiness(&gateway);
    let mut another = start_readiness(&gateway);
    let mut read = start(&gateway, "a");
    gateway.release();
    assert_eq!(outcome(&probe.reply().unwrap()), (503, "Unavailable"));
    // The read is the leader now, and the second probe waits for it.
    assert!(another.reply().is_none());
    assert_eq!(gateway.calls().len(), 1);
    assert_eq!(outcome(&read.reply().unwrap()), (200, "OK"));
    assert_eq!(outcome(&another.reply().unwrap()), (200, "OK"));
}

pub fn start<'a>(gateway: &'a Scripted, name: &str) -> Pending<'a> {
    gateway.start("POST", "/", &WITH_KEY, &request_for(name))
}

fn start_readiness(gateway: &Scripted) -> Pending<'_> {
    gateway.start("GET", "/readyz", &[], "")
}
