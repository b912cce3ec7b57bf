//! What happens when Azure throttles, fails or does not answer.

use core::time::Duration;

use keyvault_gateway::host::NoAnswer;

use crate::asking;
use crate::memory::warm;
use crate::scripted::{Scripted, Seen, body_of, field, secret, token};

#[test]
fn what_may_pass_is_tried_again() {
    for trouble in [throttled(None), failing(None), lost()] {
        for tries in 1..3 {
            let gateway = Scripted::new(&[]);
            gateway.will_answer([token(3600)]);
            gateway.will_answer(vec![trouble.clone(); tries]);
            gateway.will_answer([secret("a", "v")]);
            assert_eq!(gateway.post("/", &asking("a")).code(), "OK");
            assert_eq!(gateway.calls().len(), 2 + tries);
        }
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for (answers, code) in [
        (vec![Seen::Answer(400, None, String::new())], "IdentityError"),
        (vec![Seen::Answer(200, None, String::new())], "IdentityError"),
        (vec![token(3600), Seen::Answer(400, None, String::new())], "VaultError"),
        (vec![token(3600), Seen::Answer(403, None, String::new())], "VaultAccessDenied"),
        (vec![token(3600), Seen::Answer(200, None, String::new())], "VaultError"),
        (vec![token(3600), Seen::Nothing(NoAnswer::TooLarge)], "VaultError"),
        (vec![token(3600), Seen::Nothing(NoAnswer::NotAllowed)], "Unavailable"),
    ] {
        let gateway = Scripted::new(&[]);
        let calls = answers.len();
        gateway.will_answer(answers);
        assert_eq!(gateway.post("/", &asking("a")).code(), code);
        assert_eq!(gateway.calls().len(), calls, "{code}");
    }
}

#[test]
fn says_when_to_come_back() {
    for (answers, code, retry_after) in [
        (vec![token(3600), throttled(Some("30"))], "VaultThrottled", "30"),
        (vec![token(3600), failing(Some("999999"))], "Unavailable", "3600"),
        (vec![token(3600), failing(Some("0")), failing(Some("0")), failing(Some("0"))], "Unavailable", "1"),
        (vec![token(3600), lost(), lost(), lost()], "Unavailable", "1"),
        (vec![throttled(Some("11"))], "IdentityThrottled", "11"),
        (vec![lost(); 6], "Unavailable", "6"),
    ] {
        let gateway = Scripted::new(&[]);
        gateway.will_answer(answers);
        let reply = gateway.post("/", &asking("a"));
        assert_eq!(
            (reply.status().as_u16(), reply.code(), field(&reply, "retry-after")),
            (503, code, retry_after)
        );
    }
}

#[test]
fn waits_as_long_as_azure_says_if_there_is_time() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), throttled(Some("4")), secret("a", "v")]);
    assert_eq!(gateway.post("/", &asking("a")).code(), "OK");
    assert!(gateway.now() >= Duration::from_secs(4));

    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), throttled(Some("10"))]);
    assert_eq!(gateway.post("/", &asking("a")).code(), "VaultThrottled");
    assert_eq!(gateway.now(), Duration::ZERO);
}

#[test]
fn throttling_slows_down_who_has_not_seen_it() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), throttled(Some("30"))]);
    assert_eq!(gateway.post("/", &asking("a")).code(), "VaultThrottled");
    // There is no time to wait for thirty seconds, and it is not tried.
    let reply = gateway.post("/", &asking("b"));
    assert_eq!((reply.code(), field(&reply, "retry-after")), ("VaultThrottled", "30"));
    gateway.pass(Duration::from_secs(25));
    gateway.will_answer([secret("c", "v")]);
    assert_eq!(gateway.post("/", &asking("c")).code(), "OK");
    assert!(gateway.now() >= Duration::from_secs(30));
    assert_eq!(gateway.calls().len(), 3);
}

#[test]
fn a_vault_that_fails_for_one_request_is_not_asked_by_the_next() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), failing(None), failing(None), failing(None)]);
    assert_eq!(gateway.post("/", &asking("a")).code(), "Unavailable");
    let reply = gateway.post("/", &asking("b"));
    assert_eq!((reply.code(), field(&reply, "retry-after")), ("Unavailable", "1"));
    // It was neither in memory nor asked for.
    assert_eq!((field(&reply, "cache-status"), gateway.calls().len()), ("", 4));
    // After the pause, one request finds out.
    gateway.pass(Duration::from_secs(2));
    gateway.will_answer([secret("c", "v"), secret("d", "v")]);
    assert_eq!(gateway.post("/", &asking("c")).code(), "OK");
    assert_eq!(gateway.post("/", &asking("d")).code(), "OK");
}

#[test]
fn a_value_past_its_time_is_better_than_none_and_marked() {
    for trouble in [throttled(Some("30")), failing(None), lost(), Seen::Nothing(NoAnswer::TimedOut)] {
        let gateway = warm("old");
        gateway.pass(Duration::from_secs(300));
        gateway.will_answer([trouble]);
        let reply = gateway.post("/", &asking("a"));
        assert_eq!(body_of(&reply), r#"{"Secret":"a","Value":"old"}"#);
        assert_eq!(field(&reply, "age"), "300");
        assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; fwd=stale; ttl=-30; detail=failed");
        assert!(gateway.log().last().unwrap().contains(r#""cache":"stale""#));
        // One try is enough where there is something at hand.
        assert_eq!(gateway.calls().len(), 3);
    }
}

#[test]
fn within_a_second_of_a_failure_a_value_past_its_time_costs_nothing() {
    let gateway = warm("old");
    gateway.pass(Duration::from_secs(300));
    gateway.will_answer([failing(None)]);
    gateway.post("/", &asking("a"));
    let reply = gateway.post("/", &asking("a"));
    assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; hit; ttl=-30; detail=failed");
    assert_eq!(gateway.calls().len(), 3);
    // The mark goes with the failure.
    gateway.pass(Duration::from_secs(1));
    gateway.will_answer([secret("a", "new")]);
    let reply = gateway.post("/", &asking("a"));
    assert_eq!((body_of(&reply).contains("new"), field(&reply, "age")), (true, "0"));
    assert_eq!(field(&reply, "cache-status"), "keyvault-gateway; fwd=stale");
}

#[test]
fn a_value_is_not_served_past_its_bound() {
    for (seconds, code) in [(3870, "OK"), (3871, "Unavailable")] {
        let gateway = warm("old");
        gateway.pass(Duration::from_secs(seconds));
        gateway.will_answer([lost(), lost(), lost()]);
        assert_eq!(gateway.post("/", &asking("a")).code(), code, "{seconds}");
    }
}

#[test]
fn who_wants_a_fresh_value_gets_an_old_one_only_if_azure_cannot_be_reached() {
    for (trouble, code, status) in [
        (lost(), "OK", "keyvault-gateway; fwd=request; ttl=210; detail=failed"),
        (Seen::Nothing(NoAnswer::TimedOut), "OK", "keyvault-gateway; fwd=request; ttl=210; detail=failed"),
        (failing(None), "Unavailable", "keyvault-gateway; fwd=request"),
        (throttled(None), "VaultThrottled", "keyvault-gateway; fwd=request"),
        (Seen::Answer(403, None, String::new()), "VaultAccessDenied", "keyvault-gateway; fwd=request"),
    ] {
        let gateway = warm("old");
        gateway.pass(Duration::from_secs(60));
        gateway.will_answer([trouble]);
        let reply = gateway.post_no_cache(&asking("a"));
        assert_eq!((reply.code(), field(&reply, "cache-status")), (code, status));
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_no_excuse_for_an_old_value() {
    for answer in [Seen::Answer(200, None, String::new()), Seen::Answer(400, None, String::new())] {
        let gateway = warm("old");
        gateway.pass(Duration::from_secs(300));
        gateway.will_answer([answer]);
        assert_eq!(gateway.post("/", &asking("a")).code(), "VaultError");
    }
}

#[test]
fn with_an_old_value_at_hand_azure_is_waited_for_a_quarter_of_the_deadline() {
    let gateway = warm("old");
    gateway.pass(Duration::from_secs(300));
    gateway.will_answer([secret("a", "new")]);
    gateway.post("/", &asking("a"));
    assert_eq!(gateway.limits()[2], Duration::from_millis(2500));
}

#[test]
fn a_metadata_service_that_is_upgraded_is_left_alone_for_ten_seconds() {
    let gateway = Scripted::new(&[("MSI_ENDPOINT", ""), ("MSI_SECRET", "")]);
    gateway.will_answer([Seen::Answer(410, None, String::new())]);
    for _ in 0..3 {
        let reply = gateway.post("/", &asking("a"));
        assert_eq!((reply.code(), field(&reply, "retry-after")), ("Unavailable", "10"));
    }
    assert_eq!(gateway.calls().len(), 1);
    gateway.pass(Duration::from_secs(13));
    gateway.will_answer([token(3600), secret("a", "v")]);
    assert_eq!(gateway.post("/", &asking("a")).code(), "OK");
}

fn throttled(retry_after: Option<&'static str>) -> Seen {
    Seen::Answer(429, retry_after, String::new())
}

fn failing(retry_after: Option<&'static str>) -> Seen {
    Seen::Answer(503, retry_after, String::new())
}

fn lost() -> Seen {
    Seen::Nothing(NoAnswer::Lost)
}
