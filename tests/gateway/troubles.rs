//! What happens when Azure throttles, fails or does not answer.

use keyvault_gateway::host::CallError;

use crate::memory::warm;
use crate::scripted::*;

#[test]
fn what_may_pass_is_tried_again() {
    for trouble in [status(429), status(503), lost()] {
        for tries in 1..3 {
            let gateway = Scripted::new(&[]).answering([token(3600)]);
            gateway.will_answer(vec![trouble.clone(); tries]);
            gateway.plays([(0.0, &[secret("a", "v")], "v", "fwd=miss", 2 + tries)]);
        }
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for (outcomes, code) in [
        (vec![status(400)], "IdentityError"),
        (vec![status(200)], "IdentityError"),
        (vec![Outcome::Failed(CallError::NotAllowed)], "Unavailable"),
        (vec![token(3600), status(400)], "VaultError"),
        (vec![token(3600), status(403)], "VaultAccessDenied"),
        (vec![token(3600), status(200)], "VaultError"),
        (vec![token(3600), Outcome::Failed(CallError::TooLarge)], "VaultError"),
        (vec![token(3600), Outcome::Failed(CallError::NotAllowed)], "Unavailable"),
    ] {
        Scripted::new(&[]).plays([(0.0, &outcomes, code, "fwd=miss", outcomes.len())]);
    }
}

#[test]
fn says_when_to_come_back() {
    for (outcomes, code, retry_after) in [
        (vec![token(3600), pause(429, "30")], "VaultThrottled", "30"),
        (vec![token(3600), pause(503, "999999")], "Unavailable", "3600"),
        (vec![token(3600), pause(503, "0"), pause(503, "0"), pause(503, "0")], "Unavailable", "1"),
        (vec![token(3600), lost(), lost(), lost()], "Unavailable", "1"),
        (vec![pause(429, "11")], "IdentityThrottled", "11"),
        (vec![lost(); 6], "Unavailable", "7"),
    ] {
        let gateway = Scripted::new(&[]).answering(outcomes);
        let reply = gateway.post("/", &asking("a"));
        assert_eq!((outcome(&reply), field(&reply, "retry-after")), ((503, code), retry_after));
    }
}

#[test]
fn waits_as_long_as_azure_says_if_there_is_time() {
    for (retry_after, code, waited) in [("4", "OK", 4..5), ("10", "VaultThrottled", 0..1)] {
        let gateway = Scripted::new(&[]).answering([token(3600), pause(429, retry_after), secret("a", "v")]);
        assert_eq!(gateway.read("a").1, code);
        assert!(waited.contains(&gateway.now().as_secs()), "{:?}", gateway.now());
    }
}

#[test]
fn a_vault_that_fails_for_one_request_is_not_asked_by_the_next() {
    let gateway = Scripted::new(&[]).answering([token(3600), status(503), status(503), status(503)]);
    assert_eq!(gateway.read("a").1, "Unavailable");
    // It was neither in memory nor asked for.
    let reply = gateway.post("/", &asking("b"));
    assert_eq!((reply.code(), field(&reply, "retry-after"), cache_status(&reply)), ("Unavailable", "1", ""));
    assert_eq!(gateway.calls().len(), 4);
    // After the pause, one request finds out.
    gateway.then(2, [secret("c", "v"), secret("d", "v")]);
    assert_eq!((gateway.read("c").1, gateway.read("d").1), ("OK", "OK"));
}

#[test]
fn a_value_past_its_time_is_better_than_none_and_marked() {
    for trouble in [pause(429, "30"), status(503), lost(), Outcome::Failed(CallError::TimedOut)] {
        let gateway = warm("old");
        // One try is enough where there is a stale value.
        gateway.plays([(300.0, &[trouble], "old", "fwd=stale; ttl=-30; detail=failed", 3)]);
        assert!(gateway.log().last().unwrap().contains(r#""cache":"stale""#));
        assert_eq!(field(&gateway.post("/", &asking("a")), "age"), "300");
    }
}

#[test]
fn within_a_second_of_a_failure_a_stale_value_costs_no_call() {
    let gateway = warm("old");
    gateway.plays([
        (300.0, &[status(503)], "old", "fwd=stale; ttl=-30; detail=failed", 3),
        (0.0, &[], "old", "hit; ttl=-30; detail=failed", 3),
        // The flag goes with the failure.
        (1.0, &[secret("a", "new")], "new", "fwd=stale", 4),
    ]);
}

#[test]
fn a_value_is_not_served_past_its_bound() {
    for (seconds, code) in [(3870, "OK"), (3871, "Unavailable")] {
        let gateway = warm("old");
        gateway.then(seconds, [lost(), lost(), lost()]);
        assert_eq!(gateway.read("a").1, code, "{seconds}");
    }
}

#[test]
fn no_cache_gets_an_old_value_only_if_azure_cannot_be_reached() {
    for (trouble, code, status) in [
        (lost(), "OK", "fwd=request; ttl=210; detail=failed"),
        (Outcome::Failed(CallError::TimedOut), "OK", "fwd=request; ttl=210; detail=failed"),
        (status(503), "Unavailable", "fwd=request"),
        (status(429), "VaultThrottled", "fwd=request"),
        (status(403), "VaultAccessDenied", "fwd=request"),
    ] {
        let gateway = warm("old");
        gateway.then(60, [trouble]);
        let reply = gateway.post_no_cache(&asking("a"));
        assert_eq!((reply.code(), cache_status(&reply)), (code, status));
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_no_excuse_for_an_old_value() {
    for code in [200, 400] {
        warm("old").plays([(300.0, &[status(code)], "VaultError", "fwd=stale", 3)]);
    }
}

#[test]
fn a_metadata_service_that_is_upgraded_is_left_alone_for_ten_seconds() {
    let gateway = Scripted::new(IMDS).answering([status(410)]);
    for _ in 0..3 {
        let reply = gateway.post("/", &asking("a"));
        assert_eq!((reply.code(), field(&reply, "retry-after")), ("Unavailable", "10"));
    }
    assert_eq!(gateway.calls().len(), 1);
    gateway.plays([(13.0, &[token(3600), secret("a", "v")], "v", "fwd=miss", 3)]);
}
