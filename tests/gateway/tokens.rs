//! What a 401 of the vault means, which is about the token and never about the secret; and how a token is got.

use core::time::Duration;

use keyvault_gateway::host::CallError;

use crate::memory::warm;
use crate::scripted::*;

#[test]
fn a_vault_that_refuses_and_accepts_a_token_in_turns_is_asked_again() {
    for said in PASSING {
        for refusals in 1..=3 {
            let gateway = Scripted::new(&[]).answering([token(3600), refused(said), token(3600)]);
            gateway.will_answer(vec![refused(said); refusals - 1]);
            // The first token, the one in its place, and no more.
            gateway.plays([(0.0, &[secret("a", "v")], "v", "fwd=miss", 3 + refusals)]);
            assert_eq!(tokens(&gateway), 2, "{said} {refusals}");
        }
    }
}

#[test]
fn a_vault_that_accepts_no_token_is_not_there_for_the_moment() {
    for said in PASSING {
        let gateway = Scripted::new(&[]).answering([token(3600), refused(said), token(3600)]);
        gateway.will_answer(vec![refused(said); 3]);
        let reply = gateway.post("/", &asking("a"));
        assert_eq!(outcome(&reply), (503, "Unavailable"), "{said}");
        assert_eq!((field(&reply, "retry-after"), gateway.calls().len()), ("1", 6), "{said}");
        let code = said.split(' ').find_map(|it| it.strip_suffix(':')).unwrap_or("Unauthorized");
        let cause = format!("the vault does not accept the token at the moment (status 401, code {code})");
        assert!(gateway.log()[0].contains(&cause), "{said} {:?}", gateway.log());
        // The circuit breaker is open: the next request is not even tried.
        assert_eq!((gateway.read("b").1, gateway.calls().len()), ("Unavailable", 6), "{said}");
        gateway.then(2, [secret("b", "v")]);
        assert_eq!(gateway.read("b").1, "OK", "{said}");
    }
}

#[test]
fn a_token_that_will_never_do_is_replaced_once_and_not_tried_again() {
    for (said, cause) in LASTING {
        let gateway = Scripted::new(&[]).answering([token(3600), refused(said), token(3600), refused(said)]);
        assert_eq!((gateway.read("a"), gateway.calls().len()), ((502, "VaultError"), 4), "{said}");
        assert!(gateway.log()[0].contains(cause), "{said} {:?}", gateway.log());
    }
}

#[test]
fn no_401_that_may_pass_takes_a_value_away() {
    for said in PASSING {
        // What came of the new token makes no difference.
        for outcomes in [vec![refused(said), lost()], vec![refused(said), token(86_400), refused(said)]] {
            let calls = 2 + outcomes.len();
            warm("old").plays([
                (300.0, &outcomes, "old", "fwd=stale; ttl=-30; detail=failed", calls),
                // It is still there a while later.
                (60.0, &[lost()], "old", "fwd=stale; ttl=-90; detail=failed", calls + 1),
            ]);
        }
    }
}

#[test]
fn a_value_outlives_a_token_that_cannot_be_replaced_and_not_one_that_will_never_do() {
    for (said, _) in LASTING {
        for (answers, code, afterwards) in [
            (vec![refused(said), token(86_400), refused(said)], "VaultError", "Unavailable"),
            // There is no new token, so no new one was refused.
            (vec![refused(said), lost()], "OK", "OK"),
            (vec![refused(said), status(400)], "IdentityError", "OK"),
        ] {
            let gateway = warm("old");
            gateway.then(300, answers);
            assert_eq!(gateway.read("a").1, code, "{said}");
            gateway.then(60, vec![lost(); 6]);
            assert_eq!(gateway.read("a").1, afterwards, "{said} {code}");
        }
    }
}

#[test]
fn who_wants_a_fresh_value_gets_the_old_one_while_the_vault_cannot_tell() {
    let gateway = warm("old");
    gateway.pass(Duration::from_secs(60));
    for round in 0..4 {
        // From the second round on with the token that has just been got, at last with an open circuit breaker.
        gateway.will_answer(match round {
            0..3 => vec![refused(PASSING[0]), token(86_400), refused(PASSING[0])],
            _ => Vec::new(),
        });
        let reply = gateway.post_no_cache(&asking("a"));
        assert_eq!(body_of(&reply), r#"{"Secret":"a","Value":"old"}"#, "{round}");
        assert!(field(&reply, "cache-status").ends_with("detail=failed"), "{round}");
        gateway.pass(Duration::from_millis(if round < 2 { 1100 } else { 0 }));
    }
}

#[test]
fn each_read_may_replace_a_token_up_to_five_times_at_once_and_then_once_in_ten_seconds() {
    let gateway = Scripted::new(&[]).answering([token(3600)]);
    for name in ["a", "b", "c", "d", "e"] {
        gateway.will_answer([refused(PASSING[0]), token(3600), secret(name, "v")]);
        assert_eq!(gateway.read(name).1, "OK", "{name}");
    }
    assert_eq!(tokens(&gateway), 6);
    // A vault that goes on like this does no harm to the token source, and can still be asked again.
    gateway.will_answer([refused(PASSING[0]), refused(PASSING[0]), secret("f", "v")]);
    assert_eq!(gateway.read("f").1, "OK");
    gateway.will_answer([refused(LASTING[0].0)]);
    assert_eq!(gateway.read("g").1, "VaultError");
    assert_eq!(tokens(&gateway), 6);
    for (seconds, name, answers, code) in [
        (10, "h", vec![refused(LASTING[0].0), token(3600), secret("h", "v")], "OK"),
        (2, "i", vec![refused(LASTING[0].0)], "VaultError"),
    ] {
        gateway.then(seconds, answers);
        assert_eq!(gateway.read(name).1, code);
    }
}

#[test]
fn a_token_source_that_is_just_starting_is_asked_until_there_is_a_token() {
    for trouble in [lost(), status(404), status(500)] {
        for tries in [3, 4, 5] {
            let gateway = Scripted::new(IMDS).answering(vec![trouble.clone(); tries]);
            gateway.will_answer([token(3600), secret("a", "v")]);
            assert_eq!(gateway.read("a").1, "OK", "{tries}");
            assert!(gateway.now() < Duration::from_secs(10), "{:?}", gateway.now());
        }
    }
}

#[test]
fn a_token_source_that_never_answers_well_costs_few_calls_and_then_nothing() {
    let gateway = Scripted::new(&[]);
    gateway.plays([(0.0, &[const { Outcome::Failed(CallError::Lost) }; 6], "Unavailable", "fwd=miss", 6)]);
    assert!(gateway.now() > Duration::from_secs(4), "{:?}", gateway.now());
    assert!(gateway.log()[0].contains("the token source does not answer"), "{:?}", gateway.log());
    // It was not this request that found out, so it does not wait.
    let before = gateway.now();
    assert_eq!(gateway.read("b").1, "Unavailable");
    assert_eq!((gateway.now(), gateway.calls().len()), (before, 6));
}

#[test]
fn who_has_a_value_does_not_wait_for_who_asks_for_a_token_again_and_again() {
    let gateway = Scripted::new(&[]).answering([token(280), secret("a", "old")]);
    assert_eq!(gateway.read("a").1, "OK");
    gateway.then(300, vec![lost(); 3]);
    let mut other = gateway.begin("POST", "/", &FIELDS, &asking("b"));
    for _ in 0..3 {
        gateway.pass(Duration::from_millis(100));
        assert!(other.reply().is_none());
    }
    let before = gateway.now();
    gateway.plays([(0.0, &[], "old", "hit; ttl=-31; detail=failed", 5)]);
    assert_eq!(gateway.now(), before);
    gateway.will_answer([token(3600), secret("b", "v")]);
    gateway.pass(Duration::from_secs(2));
    assert_eq!(other.reply().map(|it| it.code()), Some("OK"));
}

#[test]
fn what_answers_in_place_of_the_metadata_service_is_no_refusal_of_it() {
    let gateway = Scripted::new(IMDS);
    gateway.will_answer([answer(403, "connecting to 169.254.169.254:80: unreachable")]);
    let reply = gateway.post("/", &asking("a"));
    assert_eq!((outcome(&reply), field(&reply, "retry-after")), ((503, "Unavailable"), "1"));
    assert_eq!(gateway.calls().len(), 1);
    let cause = r#""cause":"there is no metadata service at its address (imds, status 403)""#;
    assert!(gateway.log()[0].contains(cause), "{:?}", gateway.log());
}

#[test]
fn a_variable_that_was_not_enough_for_a_source_is_named_where_the_last_source_fails() {
    for (settings, unused) in [
        (
            &[("IDENTITY_HEADER", "the-header"), ("IDENTITY_SERVER_THUMBPRINT", "a6f2")][..],
            r#"["IDENTITY_HEADER","IDENTITY_SERVER_THUMBPRINT"]"#,
        ),
        (&[("AZURE_CLIENT_SECRET", "the-secret")], r#"["AZURE_CLIENT_SECRET"]"#),
        (&[], ""),
    ] {
        for answer in [lost(), status(400), Outcome::Failed(CallError::TimedOut)] {
            let gateway = Scripted::new(&[IMDS, settings].concat()).answering([answer.clone()]);
            let reply = gateway.get("/readyz");
            assert_eq!(reply.status(), 503);
            let named = unused.trim_matches(['[', ']']).replace('"', "").replace(',', ", ");
            let sentence = format!("Set and not used: {named}.");
            assert_eq!(body_of(&reply).contains(&sentence), !unused.is_empty(), "{}", body_of(&reply));
            let line = gateway.log()[0].clone();
            assert_eq!(line.contains(&format!(r#""unused":{unused}"#)), !unused.is_empty(), "{line}");
            // Nothing of it goes anywhere.
            assert!(!gateway.fields().iter().flatten().any(|it| it.contains("the-")), "{settings:?}");
        }
        // What fails for another reason has nothing to do with it.
        let gateway = Scripted::new(&[IMDS, settings].concat());
        gateway.plays([(0.0, &[token(3600), status(403)], "VaultAccessDenied", "fwd=miss", 2)]);
        assert!(!gateway.log()[0].contains("unused"));
    }
}

/// What a vault says that may pass.
const PASSING: [&str; 5] = [
    "AKV10046: Unable to resolve the key used for signature validation.",
    "AKV10000: Request is missing a Bearer or PoP token.",
    "IDX10223: Lifetime validation failed.",
    "AKV19999: Something that is not known yet.",
    "",
];

/// What it says of a token that will never do, and what the log says then.
const LASTING: [(&str, &str); 3] = [
    ("AKV10022: Invalid audience.", "it wants another audience (status 401, code AKV10022)"),
    ("AKV10032: Invalid issuer.", "it wants one of another tenant (status 401, code AKV10032)"),
    ("Invalid issuer.", "it wants one of another tenant (status 401, code Unauthorized)"),
];

fn refused(said: &str) -> Outcome {
    let body = format!(r#"{{"error":{{"code":"Unauthorized","message":"{said}"}}}}"#);
    answer(401, body)
}

/// How many tokens have been asked for.
fn tokens(gateway: &Scripted) -> usize {
    gateway.calls().iter().filter(|it| it.contains("/token")).count()
}
