//! Signing in with the token of another issuer: what is read, what is retried, and what is never called.

use std::time::Duration;

use keyvault_gateway::error::TokenFileError;

use crate::scripted::*;

#[test]
fn an_assertion_is_read_for_each_token_and_not_kept() {
    let gateway = Scripted::with_token_files(&[], &[Ok(FIRST), Ok(SECOND)]);
    gateway.expect_reads([
        (0.0, &[token(3600), secret("a", "v")], "v", "fwd=miss", 2),
        // A cached token needs no assertion.
        (301.0, &[secret("a", "v")], "v", "fwd=stale", 3),
    ]);
    assert_eq!(gateway.world.read_files.borrow().len(), 1);
    gateway.script_after(3600, [token(3600), secret("a", "v")]);
    assert_eq!(gateway.read("a").1, "OK");
    assert_eq!(*gateway.world.read_files.borrow(), [WORKLOAD_IDENTITY[3].1; 2]);
    assert_eq!(assertions(&gateway), [FIRST, SECOND]);
    assert_eq!(gateway.calls()[0], format!("POST {ENTRA}"));
}

#[test]
fn a_refusal_that_may_pass_is_retried_within_the_deadline() {
    for code in [70_021, 700_211, 700_213] {
        for refusals in 0..=3 {
            let gateway = Scripted::with_token_files(&[], &[Ok(FIRST)]);
            gateway.script(vec![refused_by_entra(code); refusals]);
            gateway.script([token(3600), secret("a", "v")]);
            assert_eq!(gateway.read("a").1, "OK", "{code} {refusals}");
            let waited = [0, 1, 3, 7][refusals];
            assert_eq!(gateway.now(), Duration::from_secs(waited), "{code} {refusals}");
        }
        // Four refusals are final, and a deadline that has no time for a wait ends the tries before.
        for (deadline, calls) in [("10", 4), ("3", 2), ("1", 1)] {
            let gateway = Scripted::with_token_files(&[("GATEWAY_DEADLINE_SECONDS", deadline)], &[Ok(FIRST)]);
            gateway.script(vec![refused_by_entra(code); calls]);
            let reply = gateway.post("/", &request_for("a"));
            assert_eq!((outcome(&reply), gateway.calls().len()), ((502, "IdentityError"), calls), "{code}");
            // The operator learns what to put into the federated credential, and a caller does not.
            let cause = format!(
                "no federated credential trusts the assertion (workload-identity, status 401, \
                 code AADSTS{code}): issuer https://a/, subject b, audience c"
            );
            assert!(gateway.log().iter().any(|line| line.contains(&cause)), "{:?}", gateway.log());
            assert!(!body_of(&reply).contains("https://a/"));
            // Others learn of it without a call.
            assert_eq!((gateway.read("b").1, gateway.calls().len()), ("IdentityError", calls));
        }
    }
}

#[test]
fn a_probe_does_not_share_a_refusal_that_may_pass() {
    let gateway = Scripted::with_token_files(&[], &[Ok(FIRST)]);
    gateway.script([refused_by_entra(700_213).held(), token(3600), secret("a", "v")]);
    let mut probe = gateway.start("GET", "/readyz", &[], "");
    let mut read = gateway.start("POST", "/", &WITH_KEY, &request_for("a"));
    gateway.release();
    assert_eq!(outcome(&probe.reply().unwrap()), (503, "IdentityError"));
    assert_eq!(outcome(&read.reply().unwrap()), (200, "OK"));
    assert_eq!((gateway.calls().len(), gateway.now()), (3, Duration::ZERO));
}

#[test]
fn a_refusal_that_may_pass_is_retried_where_there_is_an_expired_value() {
    // A wait of one second fits, and the next one, of two, does not.
    for (refusals, expected, calls) in [(1, "new", 5), (2, "IdentityError", 2)] {
        let gateway = Scripted::with_token_files(&[], &[Ok(FIRST)]);
        let names = ["a", "b", "c"];
        gateway.script([token(280), secret("a", "old"), secret("b", "old"), secret("c", "old")]);
        assert_eq!(names.map(|name| gateway.read(name).1), ["OK"; 3]);
        let before = gateway.calls().len();
        gateway.script_after(310, vec![refused_by_entra(700_213); refusals]);
        gateway.script(vec![token(3600); 2 - refusals]);
        if refusals == 1 {
            gateway.script(names.map(|name| secret(name, "new")));
        }
        let mut reads = names.map(|name| gateway.start("POST", "/", &WITH_KEY, &request_for(name)));
        gateway.advance(Duration::from_secs(1));
        let replies = reads.each_mut().map(|read| value_or_code(&read.reply().unwrap()));
        // Those that wait do not ask in turn what has just been refused.
        assert_eq!((replies, gateway.calls().len() - before), ([expected; 3].map(str::to_owned), calls));
    }
}

#[test]
fn an_expired_assertion_is_retried_if_the_file_has_changed() {
    let refused = refused_by_entra(700_024);
    for (files, outcomes, code) in [
        (&[Ok(FIRST), Ok(SECOND)][..], vec![refused.clone(), token(3600), secret("a", "v")], "OK"),
        (&[Ok(FIRST), Ok(SECOND)], vec![refused.clone(), refused.clone()], "IdentityError"),
        (&[Ok(FIRST)], vec![refused.clone()], "IdentityError"),
        (&[Ok(FIRST), Err(TokenFileError::NotFound)], vec![refused], "IdentityError"),
    ] {
        let gateway = Scripted::with_token_files(&[], files);
        let calls = outcomes.len();
        gateway.script(outcomes);
        assert_eq!((gateway.read("a").1, gateway.calls().len()), (code, calls), "{files:?}");
        assert_eq!(gateway.now(), Duration::ZERO);
    }
}

#[test]
fn a_final_refusal_is_not_retried_and_never_followed_by_imds() {
    for code in
        [700_212, 7_002_138, 50_027, 700_027, 7_000_272, 700_016, 90_002, 500_011, 70_011, 7_000_112, 53_003]
    {
        let gateway = Scripted::with_token_files(&[], &[Ok(FIRST)]).with_script([refused_by_entra(code)]);
        assert_eq!(gateway.read("a"), (502, "IdentityError"), "{code}");
        assert_eq!(gateway.calls(), [format!("POST {ENTRA}")], "{code}");
        assert!(gateway.log()[0].contains(&format!("code AADSTS{code}")), "{code} {:?}", gateway.log());
    }
}

#[test]
fn a_loop_that_entra_detects_is_not_continued() {
    let gateway = Scripted::with_token_files(&[], &[Ok(FIRST)]).with_script([refused_by_entra(50_196)]);
    for _ in 0..2 {
        let reply = gateway.post("/", &request_for("a"));
        assert_eq!(outcome(&reply), (503, "IdentityThrottled"));
        assert_eq!((gateway.calls().len(), gateway.now()), (1, Duration::ZERO));
    }
    gateway.script_after(61, [token(3600), secret("a", "v")]);
    assert_eq!(gateway.read("a").1, "OK");
}

#[test]
fn entra_that_cannot_reach_the_issuer_is_retried_as_any_failure() {
    for code in [50_166, 501_661, 90_061] {
        let gateway = Scripted::with_token_files(&[], &[Ok(FIRST)]);
        gateway.script([refused_by_entra(code), refused_by_entra(code), token(3600), secret("a", "v")]);
        assert_eq!(gateway.read("a").1, "OK", "{code}");
    }
}

#[test]
fn a_file_without_a_token_is_an_error_of_its_own() {
    for (problem, cause) in [
        (TokenFileError::InvalidName, "the token file has a name that the reader does not take"),
        (TokenFileError::NoDirectory, "the host gives the reader no directory with the token file"),
        (TokenFileError::NotFound, "there is no token file"),
        (TokenFileError::NotPermitted, "the host does not let the reader read the token file"),
        (TokenFileError::Empty, "the token file is empty"),
        (TokenFileError::TooLarge, "the token file is larger than a token"),
        (TokenFileError::NotAToken, "the token file has something that is not a token"),
        (TokenFileError::Failed, "the token file could not be read"),
    ] {
        let gateway = Scripted::with_token_files(&[], &[Err(problem), Ok(FIRST)]);
        assert_eq!(gateway.read("a"), (502, "IdentityError"));
        assert_eq!(gateway.calls().len(), 0);
        assert!(gateway.log()[0].contains(cause), "{:?}", gateway.log());
        // The next try comes a second later.
        assert_eq!(gateway.read("a").1, "IdentityError");
        gateway.script_after(1, [token(3600), secret("a", "v")]);
        assert_eq!(gateway.read("a").1, "OK", "{problem:?}");
        // A cached value is served while there is no file.
        gateway.world.token_files.replace([Err(problem)].into());
        gateway.advance(Duration::from_secs(3601));
        let reply = gateway.post("/", &request_for("a"));
        assert_eq!(value_or_code(&reply), "v", "{problem:?}");
        assert!(cache_status(&reply).starts_with("hit; ttl=-"), "{}", cache_status(&reply));
    }
}

#[test]
fn a_reader_cannot_write_a_header() {
    let gateway = Scripted::with_token_files(&[], &[Ok("a.b.c\r\nx-more: y")]);
    assert_eq!((gateway.read("a").1, gateway.calls().len()), ("IdentityError", 0));
    assert!(gateway.log()[0].contains("the token file has something that is not a token"));
}

#[test]
fn an_assertion_of_google_cloud_takes_one_more_call() {
    let google = ("IDENTITY_SOURCE", "google-cloud");
    let gateway = Scripted::with_token_files(&[google, ("AZURE_FEDERATED_TOKEN_FILE", "")], &[]);
    gateway.script([status(503), answer(200, FIRST), status(500), token(3600), secret("a", "v")]);
    assert_eq!(gateway.read("a").1, "OK");
    assert_eq!(assertions(&gateway), [FIRST, FIRST]);
    let refused = Scripted::with_token_files(&[google, ("AZURE_FEDERATED_TOKEN_FILE", "")], &[]);
    refused.script([status(403)]);
    assert_eq!((refused.read("a").1, refused.calls().len()), ("IdentityError", 1));
    assert!(refused.log()[0].contains("(google-cloud, status 403"), "{:?}", refused.log());
}

#[test]
fn azure_arc_gets_the_key_that_it_names() {
    let arc = [
        ("IDENTITY_ENDPOINT", "http://localhost:40342/metadata/identity/oauth2/token"),
        ("IMDS_ENDPOINT", "http://localhost:40342"),
        ("AZURE_CLIENT_ID", ""),
    ];
    let challenge = |path: &str| {
        let challenge = Some(format!("Basic realm={path}"));
        Outcome::Answer(Response { status: 401, challenge, ..Response::default() })
    };
    let file = "/var/opt/azcmagent/tokens/1.key";
    let gateway = Scripted::with_token_files(&arc, &[Ok("the-key-of-the-agent")]);
    gateway.script([challenge(file), token(3600), secret("a", "v")]);
    assert_eq!(gateway.read("a").1, "OK");
    assert_eq!(*gateway.world.read_files.borrow(), [file]);
    assert!(gateway.headers()[1].contains(&"authorization: Basic the-key-of-the-agent".to_owned()));
    // Another file is not read, whatever the answer says.
    let gateway = Scripted::with_token_files(&arc, &[Ok("the-key-of-the-agent")]);
    gateway.script([challenge("/var/run/secrets/token.key")]);
    assert_eq!((gateway.read("a").1, gateway.world.read_files.borrow().len()), ("IdentityError", 0));
}

/// The assertions in the forms so far.
fn assertions(gateway: &Scripted) -> Vec<String> {
    let sent = gateway.world.sent.borrow();
    let forms = sent.iter().map(|(call, _)| form_urlencoded::parse(call.body().expose()));
    let assertion = |(name, text): (_, std::borrow::Cow<'_, str>)| {
        (name == "client_assertion").then(|| text.into_owned())
    };
    forms.filter_map(|mut form| form.find_map(assertion)).collect()
}

fn refused_by_entra(code: u32) -> Outcome {
    answer(401, format!(r#"{{"error":"invalid_client","error_codes":[{code}]}}"#))
}

const ENTRA: &str = "https://login.microsoftonline.com/the-tenant/oauth2/v2.0/token";

// {"iss":"https://a/","sub":"b","aud":"c"}
const FIRST: &str = "head.eyJpc3MiOiJodHRwczovL2EvIiwic3ViIjoiYiIsImF1ZCI6ImMifQ.first-signature";
const SECOND: &str = "head.eyJpc3MiOiJodHRwczovL2EvIiwic3ViIjoiYiIsImF1ZCI6ImMifQ.second-signature";
