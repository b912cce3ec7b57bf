//! What requests that are under way at the same time share, and what the failure of one says nothing about.

use core::time::Duration;

use crate::scripted::*;

#[test]
fn a_leader_without_time_does_not_decide_for_who_has_plenty() {
    for (trouble, pause) in [(status(503), 1), (pause(429, "4"), 5)] {
        let gateway = Scripted::new(&[]).answering([token(86_400).held(), trouble.held()]);
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
    let gateway = Scripted::new(&[]).answering([token(86_400), secret("x", "v")]);
    gateway.post("/", &asking("x"));
    gateway.will_answer(vec![Outcome::Late; 300]);
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
    // The first makes two calls in its ten seconds. Of those that came in the second after it, the last one has time for another.
    assert_eq!(gateway.calls().len() - 2, 3);
}

#[test]
fn who_takes_over_has_been_patient_already() {
    let gateway = Scripted::new(&[]).answering([token(86_400), secret("a", "old")]);
    gateway.post("/", &asking("a"));
    gateway.then(300, [Outcome::Late]);
    let mut first = begin(&gateway, "a");
    let mut second = begin(&gateway, "a");
    gateway.pass(Duration::from_millis(2500));
    for (begun, collapsed) in [(&mut first, ""), (&mut second, "; collapsed")] {
        let reply = begun.reply().unwrap();
        assert_eq!(body_of(&reply), r#"{"Secret":"a","Value":"old"}"#);
        let status = format!("keyvault-gateway; fwd=stale; ttl=-33{collapsed}; detail=failed");
        assert_eq!(field(&reply, "cache-status"), status);
    }
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn who_wants_a_fresh_value_has_it_read_after_one_that_was_asked_for_before() {
    let gateway = Scripted::new(&[]);
    let first = secret("a", "1").after(Duration::from_secs(3));
    gateway.will_answer([token(86_400), first, secret("a", "2")]);
    let mut plain = begin(&gateway, "a");
    gateway.pass(Duration::from_secs(2));
    let no_cache = [&FIELDS[..], &[("cache-control", "no-cache")]].concat();
    let mut fresh = gateway.begin("POST", "/", &no_cache, &asking("a"));
    gateway.pass(Duration::from_secs(1));
    assert_eq!(body_of(&plain.reply().unwrap()), r#"{"Secret":"a","Value":"1"}"#);
    assert_eq!(body_of(&fresh.reply().unwrap()), r#"{"Secret":"a","Value":"2"}"#);
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn a_value_whose_time_ends_during_a_try_is_no_reason_to_give_up() {
    let gateway = Scripted::new(&[("GATEWAY_STALE_SECONDS", "10")]);
    gateway.will_answer([token(86_400), secret("a", "old")]);
    gateway.post("/", &asking("a"));
    // A second before it is past its bound.
    gateway.pass(Duration::from_millis(279_210));
    let failing = status(503).after(Duration::from_secs(2));
    gateway.will_answer([failing, secret("a", "new")]);
    assert_eq!(body_of(&gateway.post("/", &asking("a"))), r#"{"Secret":"a","Value":"new"}"#);
}

#[test]
fn what_was_not_worth_a_second_try_is_tried_by_who_has_nothing_else() {
    let gateway = Scripted::new(&[]);
    // The token ends while the value is past its time.
    gateway.will_answer([token(280), secret("a", "old")]);
    assert_eq!(gateway.read("a").0, 200);
    gateway.then(281, [status(503).held(), token(86_400), secret("b", "v")]);
    let mut with_something = begin(&gateway, "a");
    let mut with_nothing = begin(&gateway, "b");
    gateway.release();
    let reply = with_something.reply().unwrap();
    assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; fwd=stale; ttl=-11; detail=failed");
    assert_eq!(body_of(&with_nothing.reply().unwrap()), r#"{"Secret":"b","Value":"v"}"#);
    assert_eq!(gateway.calls().len(), 5);
}

#[test]
fn a_probe_that_hangs_up_does_not_decide_what_the_others_are_told() {
    let gateway = Scripted::new(&[]).answering([Outcome::Never, token(3600).held()]);
    let asks = begin_ready(&gateway);
    let mut waiting: Vec<_> = (0..3).map(|_| begin_ready(&gateway)).collect();
    drop(asks);
    // One of them takes over, and the others wait for it.
    assert!(waiting.iter_mut().all(|begun| begun.reply().is_none()));
    gateway.release();
    for begun in &mut waiting {
        assert_eq!(outcome(&begun.reply().unwrap()), (200, "OK"));
    }
    assert_eq!(gateway.calls().len(), 2);
}

#[test]
fn what_was_ready_once_is_no_answer_while_there_is_no_token() {
    let gateway = Scripted::new(&[]).answering([token(280)]);
    assert_eq!(outcome(&gateway.get("/readyz")), (200, "OK"));
    gateway.then(300, vec![Outcome::Never; 3]);
    for _ in 0..3 {
        drop(begin_ready(&gateway));
    }
    assert_eq!((outcome(&gateway.get("/readyz")), gateway.calls().len()), ((503, "Unavailable"), 4));
}

#[test]
fn a_token_source_that_hangs_is_asked_for_readiness_once_in_five_seconds() {
    let gateway = Scripted::new(&[]).answering(vec![Outcome::Late; 3]);
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
    let gateway = Scripted::new(&[]).answering([status(503).held(), token(86_400), secret("a", "v")]);
    let mut probe = begin_ready(&gateway);
    let mut another = begin_ready(&gateway);
    let mut read = begin(&gateway, "a");
    gateway.release();
    assert_eq!(outcome(&probe.reply().unwrap()), (503, "Unavailable"));
    // Now it waits for who takes over.
    assert!(another.reply().is_none());
    assert_eq!(gateway.calls().len(), 1);
    assert_eq!(outcome(&read.reply().unwrap()), (200, "OK"));
    assert_eq!(outcome(&another.reply().unwrap()), (200, "OK"));
}

fn begin<'a>(gateway: &'a Scripted, name: &str) -> Begun<'a> {
    gateway.begin("POST", "/", &FIELDS, &asking(name))
}

fn begin_ready(gateway: &Scripted) -> Begun<'_> {
    gateway.begin("GET", "/readyz", &[], "")
}
