//! Access tokens for the vault: a 401 is about the token, not the secret; the token source is retried.

use std::time::Duration;

use keyvault_gateway::azure::CallError;

use crate::cache::warm;
use crate::scripted::*;

#[test]
fn retries_a_refused_token_with_one_new_token() {
    for message in TEMPORARY {
        for refusals in 1..=3 {
            let gateway = Scripted::new(&[]).with_script([token(3600), refused(message), token(3600)]);
            gateway.script(vec![refused(message); refusals - 1]);
            // The gateway fetches the first token and one replacement.
            gateway.expect_reads([(0.0, &[secret("a", "v")], "v", "fwd=miss", 3 + refusals)]);
            assert_eq!(token_calls(&gateway), 2, "{message} {refusals}");
        }
    }
}

#[test]
fn repeated_401_opens_the_circuit_breaker() {
    for message in TEMPORARY {
        let gateway = Scripted::new(&[]).with_script([token(3600), refused(message), token(3600)]);
        gateway.script(vec![refused(message); 3]);
        let reply = gateway.post("/", &request_for("a"));
        assert_eq!(outcome(&reply), (503, "Unavailable"), "{message}");
        assert_eq!((field(&reply, "retry-after"), gateway.calls().len()), ("1", 6), "{message}");
        let code = message.split(' ').find_map(|word| word.strip_suffix(':')).unwrap_or("Unauthorized");
        let cause = format!("the vault does not accept the token at the moment (status 401, code {code})");
        assert!(gateway.log()[0].contains(&cause), "{message} {:?}", gateway.log());
        // The circuit breaker is open, so the next request makes no call.
        assert_eq!((gateway.read("b").1, gateway.calls().len()), ("Unavailable", 6), "{message}");
        gateway.script_after(2, [secret("b", "v")]);
        assert_eq!(gateway.read("b").1, "OK", "{message}");
    }
}

#[test]
fn final_401_replaces_the_token_once() {
    for (message, cause) in FINAL {
        let gateway =
            Scripted::new(&[]).with_script([token(3600), refused(message), token(3600), refused(message)]);
        assert_eq!((gateway.read("a"), gateway.calls().len()), ((502, "VaultError"), 4), "{message}");
        assert!(gateway.log()[0].contains(cause), "{message} {:?}", gateway.log());
    }
}

#[test]
fn temporary_401_evicts_no_value() {
    for message in TEMPORARY {
        // The outcome for the new token makes no difference.
        for outcomes in
            [vec![refused(message), lost()], vec![refused(message), token(86_400), refused(message)]]
        {
            let calls = 2 + outcomes.len();
            warm("old").expect_reads([
                (300.0, &outcomes, "old", "fwd=stale; ttl=-30; detail=failed", calls),
                // The value is still served stale a minute later.
                (60.0, &[lost()], "old", "fwd=stale; ttl=-90; detail=failed", calls + 1),
            ]);
        }
    }
}

#[test]
fn final_401_for_a_new_token_evicts_the_value() {
    for (message, _) in FINAL {
        for (answers, code, afterwards) in [
            (vec![refused(message), token(86_400), refused(message)], "VaultError", "Unavailable"),
            // Without a new token there is no refusal of one.
            (vec![refused(message), lost()], "OK", "OK"),
            (vec![refused(message), status(400)], "IdentityError", "OK"),
        ] {
            let gateway = warm("old");
            gateway.script_after(300, answers);
            assert_eq!(gateway.read("a").1, code, "{message}");
            gateway.script_after(60, vec![lost(); 6]);
            assert_eq!(gateway.read("a").1, afterwards, "{message} {code}");
        }
    }
}

#[test]
fn no_cache_gets_a_cached_value_after_a_temporary_401() {
    let gateway = warm("old");
    gateway.advance(Duration::from_secs(60));
    for round in 0..4 {
        // The rounds 1 and 2 use the token of the round before. In round 3 the circuit breaker is open.
        gateway.script(match round {
            0..3 => vec![refused(TEMPORARY[0]), token(86_400), refused(TEMPORARY[0])],
            _ => Vec::new(),
        });
        let reply = gateway.post_no_cache(&request_for("a"));
        assert_eq!(body_of(&reply), r#"{"Secret":"a","Value":"old"}"#, "{round}");
        assert!(field(&reply, "cache-status").ends_with("detail=failed"), "{round}");
        gateway.advance(Duration::from_millis(if round < 2 { 1100 } else { 0 }));
    }
}

#[test]
fn replaces_five_tokens_at_once_then_one_in_ten_seconds() {
    let gateway = Scripted::new(&[]).with_script([token(3600)]);
    for name in ["a", "b", "c", "d", "e"] {
        gateway.script([refused(TEMPORARY[0]), token(3600), secret(name, "v")]);
        assert_eq!(gateway.read(name).1, "OK", "{name}");
    }
    assert_eq!(token_calls(&gateway), 6);
    // Further refusals cause no token call, and the vault still gets retries.
    gateway.script([refused(TEMPORARY[0]), refused(TEMPORARY[0]), secret("f", "v")]);
    assert_eq!(gateway.read("f").1, "OK");
    gateway.script([refused(FINAL[0].0)]);
    assert_eq!(gateway.read("g").1, "VaultError");
    assert_eq!(token_calls(&gateway), 6);
    for (seconds, name, answers, code) in [
        (10, "h", vec![refused(FINAL[0].0), token(3600), secret("h", "v")], "OK"),
        (2, "i", vec![refused(FINAL[0].0)], "VaultError"),
    ] {
        gateway.script_after(seconds, answers);
        assert_eq!(gateway.read(name).1, code);
    }
}

#[test]
fn retries_a_token_source_that_is_starting() {
    for failure in [lost(), status(404), status(500)] {
        for tries in [3, 4, 5] {
            let gateway = Scripted::new(IMDS).with_script(vec![failure.clone(); tries]);
            gateway.script([token(3600), secret("a", "v")]);
            assert_eq!(gateway.read("a").1, "OK", "{tries}");
            assert!(gateway.now() < Duration::from_secs(10), "{:?}", gateway.now());
        }
    }
}

#[test]
fn failing_token_source_gets_six_calls_then_none() {
    let gateway = Scripted::new(&[]);
    gateway.expect_reads([(
        0.0,
        &[const { Outcome::Failed(CallError::Lost) }; 6],
        "Unavailable",
        "fwd=miss",
        6,
    )]);
    assert!(gateway.now() > Duration::from_secs(4), "{:?}", gateway.now());
    assert!(gateway.log()[0].contains("the token source does not answer"), "{:?}", gateway.log());
    // The next request gets the cached failure without waiting.
    let before = gateway.now();
    assert_eq!(gateway.read("b").1, "Unavailable");
    assert_eq!((gateway.now(), gateway.calls().len()), (before, 6));
}

#[test]
fn cached_value_does_not_wait_for_token_retries() {
    let gateway = Scripted::new(&[]).with_script([token(280), secret("a", "old")]);
    assert_eq!(gateway.read("a").1, "OK");
    gateway.script_after(300, vec![lost(); 3]);
    let mut other = gateway.start("POST", "/", &WITH_KEY, &request_for("b"));
    for _ in 0..3 {
        gateway.advance(Duration::from_millis(100));
        assert!(other.reply().is_none());
    }
    let before = gateway.now();
    gateway.expect_reads([(0.0, &[], "old", "hit; ttl=-31; detail=failed", 5)]);
    assert_eq!(gateway.now(), before);
    gateway.script([token(3600), secret("b", "v")]);
    gateway.advance(Duration::from_secs(2));
    assert_eq!(other.reply().map(|reply| reply.code()), Some("OK"));
}

#[test]
fn foreign_403_means_no_metadata_service() {
    let gateway = Scripted::new(IMDS);
    gateway.script([answer(403, "connecting to 169.254.169.254:80: unreachable")]);
    let reply = gateway.post("/", &request_for("a"));
    assert_eq!((outcome(&reply), field(&reply, "retry-after")), ((503, "Unavailable"), "1"));
    assert_eq!(gateway.calls().len(), 1);
    let cause = r#""cause":"there is no metadata service at its address (imds, status 403)""#;
    assert!(gateway.log()[0].contains(cause), "{:?}", gateway.log());
}

#[test]
fn names_unused_variables_if_the_last_source_fails() {
    for (settings, unused) in [
        (
            &[("IDENTITY_HEADER", "the-header"), ("IDENTITY_SERVER_THUMBPRINT", "a6f2")][..],
            r#"["IDENTITY_HEADER","IDENTITY_SERVER_THUMBPRINT"]"#,
        ),
        (&[("AZURE_CLIENT_SECRET", "the-secret")], r#"["AZURE_CLIENT_SECRET"]"#),
        (&[], ""),
    ] {
        for answer in [lost(), status(400), Outcome::Failed(CallError::TimedOut)] {
            let gateway = Scripted::new(&[IMDS, settings].concat()).with_script([answer.clone()]);
            let reply = gateway.get("/readyz");
            assert_eq!(reply.status(), 503);
            let named = unused.trim_matches(['[', ']']).replace('"', "").replace(',', ", ");
            let sentence = format!("Set and not used: {named}.");
            assert_eq!(body_of(&reply).contains(&sentence), !unused.is_empty(), "{}", body_of(&reply));
            let line = gateway.log()[0].clone();
            assert_eq!(line.contains(&format!(r#""unused":{unused}"#)), !unused.is_empty(), "{line}");
            // No value of these variables is sent.
            assert!(!gateway.headers().iter().flatten().any(|field| field.contains("the-")), "{settings:?}");
        }
        // Other failures do not name the unused variables.
        let gateway = Scripted::new(&[IMDS, settings].concat());
        gateway.expect_reads([(0.0, &[token(3600), status(403)], "VaultAccessDenied", "fwd=miss", 2)]);
        assert!(!gateway.log()[0].contains("unused"));
    }
}

/// Messages of a 401 that may be temporary.
const TEMPORARY: [&str; 5] = [
    "AKV10046: Unable to resolve the key used for signature validation.",
    "AKV10000: Request is missing a Bearer or PoP token.",
    "IDX10223: Lifetime validation failed.",
    "AKV19999: Something that is not known yet.",
    "",
];

/// Messages of a 401 that are final, with the cause in the log.
const FINAL: [(&str, &str); 3] = [
    ("AKV10022: Invalid audience.", "it wants another audience (status 401, code AKV10022)"),
    ("AKV10032: Invalid issuer.", "it wants one of another tenant (status 401, code AKV10032)"),
    ("Invalid issuer.", "it wants one of another tenant (status 401, code Unauthorized)"),
];

fn refused(message: &str) -> Outcome {
    let body = format!(r#"{{"error":{{"code":"Unauthorized","message":"{message}"}}}}"#);
    answer(401, body)
}

/// Counts the calls to the token source.
fn token_calls(gateway: &Scripted) -> usize {
    gateway.calls().iter().filter(|call| call.contains("/token")).count()
}
