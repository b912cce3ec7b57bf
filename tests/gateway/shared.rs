//! What requests that are under way at the same time share, and what the failure of one says nothing about.

use core::time::Duration;

use keyvault_gateway::reply::Reply;

use crate::asking;
use crate::scripted::{Begun, Scripted, Seen, body_of, field, secret, token};

#[test]
fn a_leader_without_time_does_not_decide_for_who_has_plenty() {
    for (trouble, pause) in [(Seen::Answer(503, None, String::new()), 1), (throttled("4"), 5)] {
        let gateway = Scripted::new(&[]);
        gateway.will_answer([token(86_400).held(), trouble.held()]);
        let mut leader = begin(&gateway, "a");
        gateway.pass(Duration::from_millis(9850));
        gateway.release();
        assert!(leader.reply().is_none());
        let mut follower = begin(&gateway, "a");
        gateway.pass(Duration::from_millis(60));
        gateway.release();
        assert_eq!(leader.reply().unwrap().status(), 503);
        gateway.will_answer([secret("a", "v")]);
        let reply = follower.reply().or_else(|| {
            gateway.pass(Duration::from_secs(pause));
            follower.reply()
        });
        assert_eq!(body_of(&reply.unwrap()), r#"{"Secret":"a","Value":"v"}"#);
        assert_eq!(gateway.calls().len(), 3);
    }
}

#[test]
fn a_vault_that_hangs_is_not_asked_anew_by_each_who_runs_out_of_time() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(86_400), secret("x", "v")]);
    gateway.post("/", &asking("x"));
    gateway.will_answer([const { Seen::Late }; 300]);
    let mut under_way: Vec<Begun<'_>> = Vec::new();
    let mut outcomes = Vec::new();
    for step in 0..1200 {
        under_way.retain_mut(|it| it.reply().map(|it| outcomes.push(outcome(&it))).is_none());
        if step < 100 {
            under_way.push(begin(&gateway, "a"));
        }
        gateway.pass(Duration::from_millis(10));
    }
    assert_eq!(outcomes, [(504, "Timeout"); 100]);
    // The first makes two calls in its ten seconds; of those that come in the second after it, one in a tenth of that.
    let calls = gateway.calls().len() - 2;
    assert!(calls <= 12, "{calls}");
}

#[test]
fn what_was_not_worth_a_second_try_is_tried_by_who_has_nothing_else() {
    let gateway = Scripted::new(&[]);
    // The token ends while the value is past its time.
    gateway.will_answer([token(280), secret("a", "old")]);
    assert_eq!(gateway.post("/", &asking("a")).status(), 200);
    gateway.pass(Duration::from_secs(281));
    gateway.will_answer([Seen::Answer(503, None, String::new()).held(), token(86_400), secret("b", "v")]);
    let mut with_something = begin(&gateway, "a");
    let mut with_nothing = begin(&gateway, "b");
    gateway.release();
    let reply = with_something.reply().unwrap();
    assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; fwd=stale; ttl=-11; detail=failed");
    assert_eq!(body_of(&with_nothing.reply().unwrap()), r#"{"Secret":"b","Value":"v"}"#);
    assert_eq!(gateway.calls().len(), 5);
}

#[test]
fn who_waits_for_readiness_never_asks_in_place_of_who_has_gone() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([Seen::Never]);
    let asks = begin_ready(&gateway);
    let mut waiting: Vec<_> = (0..3).map(|_| begin_ready(&gateway)).collect();
    drop(asks);
    for begun in &mut waiting {
        assert_eq!(outcome(&begun.reply().unwrap()), (503, "Unavailable"));
    }
    assert_eq!(gateway.calls().len(), 1);
}

#[test]
fn a_token_source_that_hangs_is_asked_for_readiness_once_in_five_seconds() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([const { Seen::Late }; 3]);
    let mut asked = Vec::new();
    let mut under_way: Vec<Begun<'_>> = Vec::new();
    for second in 0..20 {
        under_way.retain_mut(|it| it.reply().is_none());
        under_way.push(begin_ready(&gateway));
        asked.resize(gateway.calls().len(), second);
        gateway.pass(Duration::from_secs(1));
    }
    // Whoever may try waits for what is under way before.
    assert_eq!(asked, [0, 10, 15]);
}

#[test]
fn readiness_is_one_try_and_what_it_comes_to_is_for_nobody_else() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([Seen::Answer(503, None, String::new()).held(), token(86_400), secret("a", "v")]);
    let mut probe = begin_ready(&gateway);
    let mut another = begin_ready(&gateway);
    let mut read = begin(&gateway, "a");
    gateway.release();
    assert_eq!(outcome(&probe.reply().unwrap()), (503, "Unavailable"));
    assert_eq!(outcome(&another.reply().unwrap()), (503, "Unavailable"));
    assert_eq!(gateway.calls().len(), 1);
    assert_eq!(outcome(&read.reply().unwrap()), (200, "OK"));
    assert_eq!(outcome(&gateway.request("GET", "/readyz", &[], "")), (200, "OK"));
}

#[test]
fn who_waits_for_readiness_has_the_token_of_who_asks() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(86_400).held()]);
    let mut probes = [begin_ready(&gateway), begin_ready(&gateway)];
    gateway.release();
    for probe in &mut probes {
        assert_eq!(outcome(&probe.reply().unwrap()), (200, "OK"));
    }
    assert_eq!(gateway.calls().len(), 1);
}

fn begin<'a>(gateway: &'a Scripted, name: &str) -> Begun<'a> {
    let fields = [("content-type", "application/json"), ("x-functions-key", "the-right-key")];
    gateway.begin("POST", "/", &fields, &asking(name))
}

fn begin_ready(gateway: &Scripted) -> Begun<'_> {
    gateway.begin("GET", "/readyz", &[], "")
}

fn outcome(reply: &Reply) -> (u16, &'static str) {
    (reply.status().as_u16(), reply.code())
}

fn throttled(retry_after: &'static str) -> Seen {
    Seen::Answer(429, Some(retry_after), String::new())
}
