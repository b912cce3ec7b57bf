//! An Azure that is slow, broken, lying or gone.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use keyvault_emulator::{Effect, Fault, Refusal, Source, Upstream, facts};
use tokio::net::TcpSocket;

use crate::rig::{BOTH, KEY, Rig, VALUE, wait_for};

#[test]
fn every_refusal_of_the_vault() {
    for component in BOTH {
        let mut rig = Rig::start_without_memory(component, Source::AppService2017, &[]);
        for (refusal, status, code) in [
            (Refusal::InvalidName, 502, "VaultError"),
            (Refusal::InvalidAudience, 502, "VaultError"),
            (Refusal::InvalidIssuer, 502, "VaultError"),
            (Refusal::UnresolvedKey, 503, "Unavailable"),
            (Refusal::MissingToken, 503, "Unavailable"),
            (Refusal::ExpiredToken, 503, "Unavailable"),
            (Refusal::InsufficientClaims, 502, "VaultError"),
            (Refusal::AccessDenied, 403, "VaultAccessDenied"),
            (Refusal::ForbiddenByRbac, 403, "VaultAccessDenied"),
            (Refusal::ForbiddenByFirewall, 403, "VaultAccessDenied"),
            (Refusal::ForbiddenByConnection, 403, "VaultAccessDenied"),
            (Refusal::ForbiddenByPolicy, 403, "VaultAccessDenied"),
            (Refusal::SecretDisabled, 403, "SecretDisabled"),
            (Refusal::SecretNotFound, 404, "SecretNotFound"),
            (Refusal::MethodNotAllowed, 502, "VaultError"),
            (Refusal::DeletedButRecoverable, 502, "VaultError"),
            (Refusal::Throttled, 503, "VaultThrottled"),
            (Refusal::InternalError, 503, "Unavailable"),
            (Refusal::Unavailable, 503, "Unavailable"),
        ] {
            rig.emulator.fault(Fault::refuse(refusal));
            let answer = rig.ask();
            assert_eq!(answer.error(), (status, code.to_owned()), "{component}: {refusal:?}");
            assert_eq!(answer.field("retry-after").is_empty(), status != 503, "{component}: {refusal:?}");
            rig.emulator.clear_faults();
        }
        rig.emulator.fault(Fault::refuse(Refusal::Throttled).retry_after("17"));
        assert_eq!(rig.ask().field("retry-after"), "17");
        rig.emulator.clear_faults();
        assert_eq!(rig.ask().value(), VALUE, "{component} is well again");
        nothing_of_azure_shows(&mut rig);
    }
}

#[test]
fn every_way_in_which_an_answer_can_be_broken() {
    let other = HeaderValue::from_static("http://127.0.0.1:1/");
    for component in BOTH {
        // A token source that fails is asked until the deadline.
        let deadline = [("GATEWAY_DEADLINE_SECONDS", "3")];
        let mut rig = Rig::start_without_memory(component, Source::AppService2019, &deadline);
        for upstream in [Upstream::Vault, Upstream::Token] {
            let own_error = if upstream == Upstream::Vault { "VaultError" } else { "IdentityError" };
            for (effect, status, code) in [
                (Effect::PlainText, 502, own_error),
                (Effect::EmptyBody, 502, own_error),
                (Effect::BrokenJson, 502, own_error),
                (Effect::TruncatedJson, 502, own_error),
                (Effect::HugeBody(10_000_000), 502, own_error),
                (Effect::HugeChunkedBody(10_000_000), 502, own_error),
                (Effect::Redirect(other.clone()), 502, own_error),
                (Effect::Status(StatusCode::IM_A_TEAPOT), 502, own_error),
                (Effect::Status(StatusCode::INTERNAL_SERVER_ERROR), 503, "Unavailable"),
                (Effect::Status(StatusCode::GATEWAY_TIMEOUT), 503, "Unavailable"),
                (Effect::CutBeforeHeaders, 503, "Unavailable"),
                (Effect::CutWithinBody, 503, "Unavailable"),
            ] {
                befalls(&rig, upstream, effect, (status, code), component);
            }
        }
        rig.emulator.fault(Fault::new(Upstream::Token, Effect::Status(StatusCode::TOO_MANY_REQUESTS)));
        rig.emulator.forget_tokens();
        assert_eq!(rig.ask().error(), (503, "IdentityThrottled".to_owned()), "{component}");
        nothing_of_azure_shows(&mut rig);
    }
}

#[test]
fn an_azure_that_hangs_costs_no_more_than_the_deadline() {
    for component in BOTH {
        // The first call to the vault has half of it; a machine that needs almost the other half for all that comes before is
        // told of the vault, and not of the time.
        let deadline = [("GATEWAY_DEADLINE_SECONDS", "4")];
        let mut rig = Rig::start_without_memory(component, Source::AppService2019, &deadline);
        for upstream in [Upstream::Vault, Upstream::Token] {
            for effect in [Effect::HangBeforeHeaders, Effect::HangWithinBody] {
                let start = Instant::now();
                befalls(&rig, upstream, effect, (504, "Timeout"), component);
                assert!(start.elapsed() < Duration::from_secs(15), "{component}: {:?}", start.elapsed());
            }
        }
        nothing_of_azure_shows(&mut rig);
    }
}

/// Asks while calls to `upstream` meet `effect`, and once more when they do not.
#[track_caller]
fn befalls(rig: &Rig, upstream: Upstream, effect: Effect, (status, code): (u16, &str), component: &str) {
    let name = format!("{component}: {upstream:?} {effect:?}");
    rig.emulator.forget_tokens();
    rig.emulator.fault(Fault::new(upstream, effect));
    assert_eq!(rig.ask().error(), (status, code.to_owned()), "{name}");
    rig.emulator.clear_faults();
    assert_eq!(rig.ask().value(), VALUE, "after {name}");
}

#[test]
fn an_azure_that_is_slow_is_waited_for() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        rig.emulator.fault(Fault::new(Upstream::Any, Effect::Truth).delay(Duration::from_millis(300)));
        let start = Instant::now();
        assert_eq!(rig.ask().value(), VALUE, "{component}");
        assert!(start.elapsed() >= Duration::from_millis(600));
    }
}

#[test]
fn an_azure_that_is_gone_is_not_available() {
    // An address that is taken, so that nobody else gets it, and that nobody listens at.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let gone = format!("http://{}/", taken.local_addr().unwrap());
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("KeyVaultUri", &gone)]);
        let answer = rig.ask();
        assert_eq!(answer.error(), (503, "Unavailable".to_owned()), "{component}");
        assert_eq!((answer.field("retry-after"), rig.calls()), ("1", (1, 0)));

        let rig = Rig::start(component, Source::AppService2017, &[("MSI_ENDPOINT", &gone)]);
        assert_eq!(rig.ask().error(), (503, "Unavailable".to_owned()), "{component}");
        let ready = rig.send("GET /readyz", &[], b"");
        assert_eq!(ready.error(), (503, "Unavailable".to_owned()), "{component}");
    }
}

/// In virtual time (`embedded`) they have one instance. Here the host starts another where the first is not yet at rest; with
/// fewer of them than calls, all of which are there before any has an answer, some are of the same instance. Where a busy machine
/// needs longer than the vault does, that is slower the next time.
#[test]
fn requests_do_not_wait_for_each_other_in_an_instance_of_wasi_0_3() {
    let together = [2, 4, 8].into_iter().any(|seconds| {
        let deadline = [("GATEWAY_DEADLINE_SECONDS", "60")];
        let mut rig = Rig::start("service", Source::AppService2017, &deadline);
        assert_eq!(rig.ask().value(), VALUE);
        let delay = Duration::from_secs(seconds);
        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(delay));
        let start = Instant::now();
        let begin = |number| {
            let name = format!("secret-{number}");
            rig.emulator.set_secret(&name, &format!("{VALUE} {number}")).unwrap();
            let before = rig.calls().1;
            let asked = rig.begin(&format!(r#"{{"Secret":"{name}"}}"#));
            wait_for("its call", || rig.calls().1 > before);
            asked
        };
        let asked: Vec<_> = (0..MANY).map(begin).collect();
        // Nobody has an answer before that.
        let in_time = start.elapsed() < delay;
        for (number, asked) in asked.into_iter().enumerate() {
            assert_eq!(rig.read(asked).value(), format!("{VALUE} {number}"));
        }
        rig.server.end();
        println!(
            "{seconds} s: {MANY} calls before the first answer: {in_time}, {} instances",
            rig.instances()
        );
        in_time && rig.instances() < MANY
    });
    assert!(together);
}

const MANY: usize = 16;

/// Ends the server and looks through all that the component printed.
#[track_caller]
fn nothing_of_azure_shows(rig: &mut Rig) {
    let log = rig.server.end().join("\n");
    assert!(log.contains("\"code\":"), "the log is there");
    for text in facts::ALL.into_iter().chain([KEY, VALUE, "AKV10046:", "Bearer "]) {
        assert!(!log.contains(text), "{text} is in the log");
    }
}
