//! The examples, composed with the gateway by `cargo xtask compose`, under the real host: secrets without HTTP.

mod rig;

use std::io::Read as _;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use http::StatusCode;
use keyvault_emulator::{Effect, Fault, Refusal, Upstream};

use rig::{Rig, SECRET, VALUE};

/// The application that reads its configuration, in both versions of WASI.
const CONFIGURED: [&str; 2] = ["configured-proxy", "configured-service"];

#[test]
fn an_application_that_reads_its_configuration_prints_a_secret_that_it_could_not_have_reached() {
    for application in CONFIGURED {
        let by_uri = "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password)";
        let with_version = "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password/{version}/)";
        let rig = Rig::start(
            application,
            &[("greeting", "hello"), ("password", by_uri), ("pinned", with_version), ("empty", "")],
            &[],
        );
        for (key, answer) in [
            ("greeting", (200, "hello")),
            ("password", (200, VALUE)),
            ("pinned", (200, VALUE)),
            ("empty", (200, "")),
            ("missing", (404, "There is no such key.")),
            ("password", (200, VALUE)),
        ] {
            assert_eq!(rig.get(key), (answer.0, answer.1.to_owned()), "{application}: {key}");
        }
        let all = format!("empty = \ngreeting = hello\npassword = {VALUE}\npinned = {VALUE}\n");
        assert_eq!(rig.get(""), (200, all), "{application}");
        let pinned = rig.emulator.vault_calls().iter().filter(|it| it.path.ends_with(&rig.version)).count();
        assert!(pinned >= 1, "{application}");
    }
}

#[test]
fn what_cannot_be_resolved_is_an_error_and_no_value() {
    for application in CONFIGURED {
        let rig = Rig::start(
            application,
            &[
                ("no-reference", "@Microsoft.KeyVault(db-password)"),
                (
                    "elsewhere",
                    "@Microsoft.KeyVault(SecretUri=https://other.vault.azure.net/secrets/db-password)",
                ),
                ("by-name", "@Microsoft.KeyVault(VaultName=other;SecretName=db-password)"),
                ("not-there", "@Microsoft.KeyVault(SecretUri={vault}/secrets/not-there)"),
                ("no-name", "@Microsoft.KeyVault(SecretUri={vault}/secrets/a_b)"),
                ("no-version", "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password/1)"),
                ("ops", "@Microsoft.KeyVault(SecretUri={vault}/secrets/ops-password)"),
                ("off", "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-off)"),
            ],
            &[("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["db-*","not-*"]}]"#)],
        );
        rig.emulator.set_secret("ops-password", "for others").unwrap();
        rig.emulator.set_secret("db-off", "for nobody").unwrap();
        rig.emulator.enable_secret("db-off", false).unwrap();
        for (key, reason) in [
            ("no-reference", "this is no reference to a secret of Key Vault"),
            ("elsewhere", "the gateway reads from another vault"),
            ("by-name", "the gateway reads from another vault"),
            ("not-there", "there is no such secret"),
            ("no-name", "this is not the name of a secret"),
            ("no-version", "this is not the version of a secret"),
            ("ops", "GATEWAY_CALLERS does not give this secret to the caller composed"),
            ("off", "the secret is disabled"),
        ] {
            assert_eq!(rig.get(key), (500, format!("{key}: {reason}")), "{application}");
        }
        // Of all of them, too, as one of them is wrong.
        let (status, text) = rig.get("");
        assert!(status == 500 && text.contains(": "), "{application}: {text}");
    }
}

#[test]
fn what_azure_has_against_it_is_told_in_words_of_ours() {
    let reference = "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password)";
    let configuration = [("password", reference)];
    let rig = Rig::start_without_memory("configured-proxy", &configuration, &[]);
    let status = Effect::Status;
    for (upstream, effect, reason) in [
        (
            Upstream::Vault,
            Effect::Refuse(Refusal::ForbiddenByRbac),
            "Key Vault does not let the gateway read the secret",
        ),
        (Upstream::Vault, Effect::BrokenJson, "Key Vault gave the gateway an answer that cannot be used"),
        (
            Upstream::Vault,
            status(StatusCode::TOO_MANY_REQUESTS),
            "Azure has had too many requests; again in ",
        ),
        (Upstream::Vault, status(StatusCode::SERVICE_UNAVAILABLE), "Azure is not available; again in "),
        (Upstream::Token, status(StatusCode::BAD_REQUEST), "the token source gave the gateway no token"),
    ] {
        rig.emulator.fault(Fault::new(upstream, effect));
        let (status, text) = rig.get("password");
        assert!(status == 500 && text.starts_with(&format!("password: {reason}")), "{text}");
        rig.emulator.clear_faults();
    }
    assert_eq!(rig.get("password"), (200, VALUE.to_owned()));

    let in_a_second = [("GATEWAY_DEADLINE_SECONDS", "1")];
    let rig = Rig::start_without_memory("configured-proxy", &configuration, &in_a_second);
    rig.emulator.fault(Fault::new(Upstream::Any, Effect::HangBeforeHeaders));
    assert_eq!(rig.get("password"), (500, "password: there was no answer in time".to_owned()));
}

#[test]
fn settings_that_are_missing_are_named() {
    for application in CONFIGURED {
        let reference = "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password)";
        let rig = Rig::start(
            application,
            &[("password", reference), ("greeting", "hello")],
            &[("KeyVaultUri", "")],
        );
        let answer = "password: the gateway's setting KeyVaultUri is missing or wrong".to_owned();
        assert_eq!(rig.get("password"), (500, answer), "{application}");
        // What is no reference needs no gateway.
        assert_eq!(rig.get("greeting"), (200, "hello".to_owned()), "{application}");
        assert_eq!(rig.calls(), (0, 0), "{application}");
    }
}

#[test]
fn an_application_that_asks_for_secrets_itself_gets_values_and_typed_errors() {
    let rig = Rig::start("awaiting", &[], &[]);
    rig.emulator.set_secret("off", "for nobody").unwrap();
    rig.emulator.enable_secret("off", false).unwrap();
    for (name, answer) in [
        (SECRET, (200, VALUE)),
        ("DB-Password", (200, VALUE)),
        ("not-there", (500, "Error::NotFound")),
        ("a_b", (500, "Error::InvalidName")),
        ("off", (500, "Error::Disabled")),
    ] {
        assert_eq!(rig.get(name), (answer.0, answer.1.to_owned()), "{name}");
    }
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::BrokenJson));
    assert_eq!(rig.get("broken"), (500, "Error::Vault".to_owned()));
}

#[test]
fn who_was_turned_away_with_what_it_has_can_have_the_vault_asked_again() {
    let rig = Rig::start("awaiting", &[], &[]);
    assert_eq!(rig.get(SECRET), (200, VALUE.to_owned()));
    let rotated = rig.emulator.set_secret(SECRET, "another horse").unwrap();
    assert_eq!(rig.get(SECRET), (200, VALUE.to_owned()));
    // What was asked for a second ago or less is not asked for again.
    wait_until("the vault is asked again", || {
        rig.get(&format!("{SECRET}?again")).1.starts_with("another horse")
    });
    let (status, text) = rig.get(&format!("{SECRET}?again"));
    assert!(status == 200 && text.starts_with(&format!("another horse (version {rotated}, ")), "{text}");
    assert_eq!(rig.get(SECRET), (200, "another horse".to_owned()));
}

/// That nobody ever waits for it is shown in virtual time (`embedded`). Here the machine may be busy for longer than the last
/// part of a TTL, in which the renewal begins and ends, so there are longer ones for a machine that is.
#[test]
fn a_value_is_renewed_ahead_by_what_goes_on_after_an_answer() {
    let ahead = ["4", "8", "16", "24"].into_iter().any(|ttl| {
        let mut rig = Rig::start("awaiting", &[], &[("GATEWAY_CACHE_TTL_SECONDS", ttl)]);
        assert_eq!(rig.get(SECRET), (200, VALUE.to_owned()));
        rig.emulator.set_secret(SECRET, RENEWED).unwrap();
        wait_until("it is renewed", || {
            let (status, value) = rig.get(SECRET);
            assert!(status == 200 && [VALUE, RENEWED].contains(&value.as_str()), "{status} {value}");
            value == RENEWED
        });
        // Whoever had met the end of its time would have a line.
        let lines = rig.end();
        println!("TTL {ttl}: {lines:?}");
        lines.len() == 1 && lines[0].contains(r#""cache":"miss""#) && rig.calls().1 == 2
    });
    assert!(ahead, "somebody had to wait each time");
}

#[test]
fn a_client_that_hangs_up_while_others_wait_for_its_read_harms_nobody() {
    let rig = Rig::start("awaiting", &[], &[]);
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(3)));
    let leader = rig.begin(SECRET);
    wait_until("its call is there", || rig.calls().1 == 1);
    // With a moment between them: an instance takes another only when it has nothing to do but wait.
    let followers: Vec<_> = (0..16)
        .map(|_| {
            sleep(MOMENT);
            rig.begin(SECRET)
        })
        .collect();
    sleep(MOMENT);
    drop(leader);
    for mut follower in followers {
        let mut answer = String::new();
        follower.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(VALUE), "{answer}");
    }
    let (tokens, secrets) = rig.calls();
    println!("16 followers of a client that hung up: {tokens} token calls, {secrets} vault calls");
    // Where the host ends the leader with its client, one of its followers makes another call with the same token.
    assert!(secrets <= tokens + 1 && secrets < 17, "{tokens} token calls, {secrets} vault calls");
}

/// One token, and one call for each secret, in each instance that the host has started.
#[test]
fn what_many_ask_for_is_read_once_in_an_instance() {
    for (application, path) in
        [("awaiting", SECRET), ("configured-proxy", "password"), ("configured-service", "password")]
    {
        let reference = "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password)";
        let mut rig = Rig::start(application, &[("password", reference)], &[]);
        at_once(16, |_| {
            for _ in 0..25 {
                assert_eq!(rig.get(path), (200, VALUE.to_owned()), "{application}");
            }
        });
        let (tokens, secrets) = rig.calls();
        println!("{application}: 400 reads, {tokens} token calls, {secrets} vault calls");
        assert_eq!(tokens, secrets, "{application}");
        // Whoever called, or waited for a call, has a line in the log, and nobody else.
        let log = rig.end();
        let called = log.iter().filter(|it| it.contains(r#""cache":"miss","upstream":2"#)).count();
        assert_eq!(called, secrets, "{application}: {log:?}");
        assert!(!log.iter().any(|it| it.contains("hit")), "{application}: {log:?}");
        // An instance of 0.2 is free only when its guest has returned, which is after the answer: its client may ask again
        // before, and gets another.
        assert!(tokens <= 32, "{application}: {tokens}");
    }
}

/// Under WASI 0.3 others go on while one waits. The host starts an instance for a request that finds none at rest, so that of
/// several requests some meet, and the calls are fewer than the requests.
#[test]
fn requests_of_an_instance_wait_together() {
    let rig = Rig::start("awaiting", &[], &[]);
    rig.emulator.fault(Fault::new(Upstream::Any, Effect::Truth).delay(Duration::from_millis(500)));
    at_once(64, |_| assert_eq!(rig.get(SECRET), (200, VALUE.to_owned())));
    let (tokens, secrets) = rig.calls();
    println!("64 requests at once, {tokens} token calls, {secrets} vault calls");
    assert_eq!(tokens, secrets);
    assert!(secrets < 64, "{secrets}");
}

/// What the vault has after a while.
const RENEWED: &str = "another horse, another battery";

/// Tries until it is so, or fails.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "it takes too long until {what}");
        sleep(MOMENT);
    }
}

/// Does the same so many times at once.
fn at_once(times: usize, work: impl Fn(usize) + Sync) {
    scope(|scope| {
        for number in 0..times {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
}

/// Short beside all that is waited for.
const MOMENT: Duration = Duration::from_millis(20);
