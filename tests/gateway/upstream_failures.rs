//! Throttling, errors and timeouts of Azure: retries, `Retry-After`, circuit breaker, stale-if-error.

use keyvault_gateway::azure::CallError;

use crate::cache::warm;
use crate::scripted::*;

#[test]
fn retries_temporary_failures() {
    for failure in [status(429), status(503), lost()] {
        for tries in 1..3 {
            let gateway = Scripted::new(&[]).with_script([token(3600)]);
            gateway.script(vec![failure.clone(); tries]);
            gateway.expect_reads([(0.0, &[secret("a", "v")], "v", "fwd=miss", 2 + tries)]);
        }
    }
}

#[test]
fn does_not_retry_final_failures() {
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
        Scripted::new(&[]).expect_reads([(0.0, &outcomes, code, "fwd=miss", outcomes.len())]);
    }
}

#[test]
fn failures_have_retry_after() {
    for (outcomes, code, retry_after) in [
        (vec![token(3600), retry_after(429, "30")], "VaultThrottled", "30"),
        (vec![token(3600), retry_after(503, "999999")], "Unavailable", "3600"),
        (
            vec![token(3600), retry_after(503, "0"), retry_after(503, "0"), retry_after(503, "0")],
            "Unavailable",
            "1",
        ),
        (vec![token(3600), lost(), lost(), lost()], "Unavailable", "1"),
        (vec![retry_after(429, "11")], "IdentityThrottled", "11"),
        (vec![lost(); 6], "Unavailable", "7"),
    ] {
        let gateway = Scripted::new(&[]).with_script(outcomes);
        let reply = gateway.post("/", &request_for("a"));
        assert_eq!((outcome(&reply), field(&reply, "retry-after")), ((503, code), retry_after));
    }
}

#[test]
fn waits_for_retry_after_within_the_deadline() {
    for (seconds, code, waited) in [("4", "OK", 4..5), ("10", "VaultThrottled", 0..1)] {
        let gateway =
            Scripted::new(&[]).with_script([token(3600), retry_after(429, seconds), secret("a", "v")]);
        assert_eq!(gateway.read("a").1, code);
        assert!(waited.contains(&gateway.now().as_secs()), "{:?}", gateway.now());
    }
}

#[test]
fn open_circuit_breaker_fails_fast() {
    let gateway = Scripted::new(&[]).with_script([token(3600), status(503), status(503), status(503)]);
    assert_eq!(gateway.read("a").1, "Unavailable");
    // The circuit breaker is open: `b` is not cached and causes no call.
    let reply = gateway.post("/", &request_for("b"));
    assert_eq!((reply.code(), field(&reply, "retry-after"), cache_status(&reply)), ("Unavailable", "1", ""));
    assert_eq!(gateway.calls().len(), 4);
    // After the backoff, one request is let through.
    gateway.script_after(2, [secret("c", "v"), secret("d", "v")]);
    assert_eq!((gateway.read("c").1, gateway.read("d").1), ("OK", "OK"));
}

#[test]
fn serves_stale_and_flagged_if_azure_fails() {
    for failure in [retry_after(429, "30"), status(503), lost(), Outcome::Failed(CallError::TimedOut)] {
        let gateway = warm("old");
        // With a stale value there is no retry.
        gateway.expect_reads([(300.0, &[failure], "old", "fwd=stale; ttl=-30; detail=failed", 3)]);
        assert!(gateway.log().last().unwrap().contains(r#""cache":"served-stale""#));
        assert_eq!(field(&gateway.post("/", &request_for("a")), "age"), "300");
    }
}

#[test]
fn stale_value_costs_one_call_a_second() {
    let gateway = warm("old");
    gateway.expect_reads([
        (300.0, &[status(503)], "old", "fwd=stale; ttl=-30; detail=failed", 3),
        (0.0, &[], "old", "hit; ttl=-30; detail=failed", 3),
        // The flag ends with the failure.
        (1.0, &[secret("a", "new")], "new", "fwd=stale", 4),
    ]);
}

#[test]
fn does_not_serve_past_the_stale_bound() {
    for (seconds, code) in [(3870, "OK"), (3871, "Unavailable")] {
        let gateway = warm("old");
        gateway.script_after(seconds, [lost(), lost(), lost()]);
        assert_eq!(gateway.read("a").1, code, "{seconds}");
    }
}

#[test]
fn no_cache_gets_a_cached_value_if_azure_is_unreachable() {
    for (failure, code, status) in [
        (lost(), "OK", "fwd=request; ttl=210; detail=failed"),
        (Outcome::Failed(CallError::TimedOut), "OK", "fwd=request; ttl=210; detail=failed"),
        (status(503), "Unavailable", "fwd=request"),
        (status(429), "VaultThrottled", "fwd=request"),
        (status(403), "VaultAccessDenied", "fwd=request"),
    ] {
        let gateway = warm("old");
        gateway.script_after(60, [failure]);
        let reply = gateway.post_no_cache(&request_for("a"));
        assert_eq!((reply.code(), cache_status(&reply)), (code, status));
    }
}

#[test]
fn unusable_answer_is_no_reason_to_serve_stale() {
    for code in [200, 400] {
        warm("old").expect_reads([(300.0, &[status(code)], "VaultError", "fwd=stale", 3)]);
    }
}

#[test]
fn waits_ten_seconds_after_a_410_of_the_metadata_service() {
    let gateway = Scripted::new(IMDS).with_script([status(410)]);
    for _ in 0..3 {
        let reply = gateway.post("/", &request_for("a"));
        assert_eq!((reply.code(), field(&reply, "retry-after")), ("Unavailable", "10"));
    }
    assert_eq!(gateway.calls().len(), 1);
    gateway.expect_reads([(13.0, &[token(3600), secret("a", "v")], "v", "fwd=miss", 3)]);
}
