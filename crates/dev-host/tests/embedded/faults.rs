//! Every fault that the emulator knows, at the vault and at the token source.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use keyvault_emulator::{Answer, Effect, Emulator, Fault, Refusal, Source, TokenRefusal, Upstream};

use crate::gateway::{Gateway, World, azure, both};

#[test]
fn a_fault_of_the_vault_is_answered_as_the_contract_says() {
    let nested = |open: &str| open.repeat(10_000);
    let answers = [
        (200, "{}".to_owned()),
        (200, format!(r#"{{"value":"v","id":"https://demo.vault.azure.net/secrets/other/{VERSION}"}}"#)),
        (200, nested("[")),
        (200, nested("{\"value\":")),
        (206, "{\"value\":".to_owned()),
        (404, nested("{\"error\":{\"innererror\":")),
    ];
    let effects = connection_faults().into_iter().chain(REFUSALS.map(Effect::Refuse)).chain(statuses());
    for effect in effects.chain(answers.map(answer)) {
        let expected = from_vault(&effect);
        check(Upstream::Vault, Source::AppService2017, &effect, expected);
    }
}

#[test]
fn a_fault_of_the_token_source_is_answered_as_the_contract_says() {
    let answers = [
        (200, "{}"),
        (200, r#"{"access_token":"a\r\nx: y","expires_in":3599}"#),
        (204, ""),
        (400, r#"{"error":7}"#),
    ];
    let answers = answers.map(|(status, body)| answer((status, body.to_owned())));
    for (_, source) in Source::ALL {
        let refusals = TokenRefusal::ALL.map(Effect::RefuseToken);
        let effects = connection_faults().into_iter().chain(statuses()).chain(answers.clone());
        for effect in effects.chain(refusals) {
            let expected = from_token_source(source, &effect);
            check(Upstream::Token, source, &effect, expected);
        }
    }
}

/// No timeout of the host ends this, and no byte of the request's body is taken.
#[test]
fn a_call_that_stays_unheard_ends_at_the_deadline() {
    // A call for a token with a body, and one without.
    for source in [Source::ClientSecret, Source::Imds] {
        both(async |world| {
            let emulator = azure();
            let gateway = gateway(world, &emulator, source);
            gateway.seen.deaf.store(true, Relaxed);
            let answer = gateway.ask().await;
            answer.expect((504, "Timeout"), (world, source));
            assert!(answer.took_about(DEADLINE), "{world:?} {source:?} {:?}", answer.took);
            gateway.seen.deaf.store(false, Relaxed);
            gateway.ask().await.expect((200, ""), (world, source));
            gateway.expect_one_clean_instance((world, source));
        });
    }
}

/// Asks while `upstream` always fails with `effect`, and again when it is well, in the same instance.
fn check(upstream: Upstream, source: Source, effect: &Effect, expected: (u16, &str)) {
    both(async |world| {
        let case = format!("{world:?} {source:?} {upstream:?} {effect:?}");
        let emulator = azure();
        emulator.fault(Fault::new(upstream, effect.clone()));
        let gateway = gateway(world, &emulator, source);
        let answer = gateway.ask().await;
        answer.expect(expected, &case);
        assert_eq!(answer.field("retry-after").is_empty(), answer.status != 503, "{case}");
        match answer.status {
            504 => assert!(answer.took_about(DEADLINE), "{case} {:?}", answer.took),
            _ => assert!(answer.took < DEADLINE, "{case} {:?}", answer.took),
        }
        // No other host is asked, wherever a redirect leads.
        for call in emulator.journal() {
            assert!(HOSTS.contains(&call.authority.as_str()), "{case}: {call:?}");
        }
        // The host's timeouts come after the component's own, and they come.
        for timeout in gateway.timeouts() {
            let comes = timeout.is_some_and(|timeout| timeout <= DEADLINE + Duration::from_secs(1));
            assert!(comes, "{case} {timeout:?}");
        }
        emulator.clear_faults();
        // Longer than an upstream that failed might be left alone.
        tokio::time::sleep(Duration::from_secs(600)).await;
        gateway.ask().await.expect((200, ""), &case);
        gateway.expect_one_clean_instance(&case);
    });
}

/// The answer to a request that the vault meets with this effect.
fn from_vault(effect: &Effect) -> (u16, &'static str) {
    match effect {
        Effect::Truth | Effect::ByteOrderMark | Effect::RefuseToken(_) => (200, ""),
        Effect::Refuse(refusal) => match refusal {
            Refusal::InvalidName | Refusal::MethodNotAllowed | Refusal::DeletedButRecoverable => {
                (502, "VaultError")
            }
            // A new token is tried once; what may pass is tried again then.
            Refusal::InvalidAudience | Refusal::InvalidIssuer | Refusal::InsufficientClaims => {
                (502, "VaultError")
            }
            Refusal::MissingToken | Refusal::UnresolvedKey | Refusal::ExpiredToken => (503, "Unavailable"),
            Refusal::AccessDenied
            | Refusal::ForbiddenByRbac
            | Refusal::ForbiddenByFirewall
            | Refusal::ForbiddenByConnection
            | Refusal::ForbiddenByPolicy => (403, "VaultAccessDenied"),
            Refusal::SecretDisabled => (403, "SecretDisabled"),
            Refusal::SecretNotFound => (404, "SecretNotFound"),
            Refusal::Throttled => (503, "VaultThrottled"),
            Refusal::InternalError | Refusal::Unavailable => (503, "Unavailable"),
        },
        Effect::Status(status) => match status.as_u16() {
            401 => (503, "Unavailable"),
            403 => (403, "VaultAccessDenied"),
            404 => (404, "SecretNotFound"),
            429 => (503, "VaultThrottled"),
            408 | 500.. => (503, "Unavailable"),
            _ => (502, "VaultError"),
        },
        effect => from_either(effect, "VaultError"),
    }
}

/// The answer to a request for which the token source has this effect.
fn from_token_source(source: Source, effect: &Effect) -> (u16, &'static str) {
    match effect {
        Effect::Truth | Effect::ByteOrderMark | Effect::Refuse(_) => (200, ""),
        Effect::RefuseToken(refusal) => match (refusal, source) {
            // IMDS is shown no credential, so it refuses none; and a 404 of it without a code may pass.
            (
                TokenRefusal::NoMetadataService
                | TokenRefusal::Proxy
                | TokenRefusal::Aadsts7000215
                | TokenRefusal::Aadsts7000222
                | TokenRefusal::MachineLearning,
                Source::Imds,
            ) => (503, "Unavailable"),
            _ => (502, "IdentityError"),
        },
        Effect::Status(status) => match (status.as_u16(), source) {
            (429, _) => (503, "IdentityThrottled"),
            // IMDS says so while it is updated; it refuses no credential.
            // The emulated Entra says with these that the error is transient.
            (202 | 403..=428, Source::ClientSecret) => (503, "Unavailable"),
            (401 | 403 | 404 | 410, Source::Imds) | (408 | 500.., _) => (503, "Unavailable"),
            _ => (502, "IdentityError"),
        },
        effect => from_either(effect, "IdentityError"),
    }
}

/// The answer where an upstream hangs, cuts the connection, or says what cannot be used.
fn from_either(effect: &Effect, unusable: &'static str) -> (u16, &'static str) {
    match effect {
        Effect::HangBeforeHeaders | Effect::HangWithinBody => (504, "Timeout"),
        Effect::CutBeforeHeaders | Effect::CutWithinBody => (503, "Unavailable"),
        _ => (502, unusable),
    }
}

/// What can go wrong anywhere.
pub(crate) fn connection_faults() -> Vec<Effect> {
    let redirect = |address| Effect::Redirect(HeaderValue::from_static(address));
    vec![
        Effect::Truth,
        Effect::ByteOrderMark,
        redirect("https://attacker.example/"),
        Effect::PlainText,
        Effect::EmptyBody,
        Effect::BrokenJson,
        Effect::TruncatedJson,
        Effect::HugeBody(192 * 1024 + 1),
        Effect::HugeChunkedBody(192 * 1024 + 1),
        Effect::HugeChunkedBody(10 * 1024 * 1024),
        Effect::HangBeforeHeaders,
        Effect::HangWithinBody,
        Effect::CutBeforeHeaders,
        Effect::CutWithinBody,
    ]
}

/// Errors of both upstreams, in their own words.
pub(crate) fn statuses() -> impl Iterator<Item = Effect> {
    let numbers = [202, 400, 401, 403, 404, 405, 408, 409, 410, 412, 418, 429, 500, 501, 502, 503, 504, 599];
    numbers.into_iter().map(|number| Effect::Status(StatusCode::from_u16(number).unwrap()))
}

pub(crate) fn answer((status, body): (u16, String)) -> Effect {
    Effect::Answer(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
}

fn gateway(world: World, emulator: &Emulator, source: Source) -> Gateway {
    Gateway::of(world, emulator, source, &[("GATEWAY_DEADLINE_SECONDS", "7"), ("GATEWAY_LOG", "debug")])
}

/// The vault, and where tokens are.
const HOSTS: [&str; 5] = [
    "demo.vault.azure.net",
    "127.0.0.1:41741",
    "localhost:50342",
    "169.254.169.254",
    "login.microsoftonline.com",
];

const DEADLINE: Duration = Duration::from_secs(7);

const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";

/// Each way in which Key Vault refuses.
#[rustfmt::skip]
pub(crate) const REFUSALS: [Refusal; 19] = [
    Refusal::InvalidName, Refusal::MissingToken, Refusal::InvalidAudience, Refusal::InvalidIssuer,
    Refusal::UnresolvedKey, Refusal::ExpiredToken, Refusal::InsufficientClaims, Refusal::AccessDenied,
    Refusal::ForbiddenByRbac, Refusal::ForbiddenByFirewall, Refusal::ForbiddenByConnection,
    Refusal::ForbiddenByPolicy, Refusal::SecretDisabled, Refusal::SecretNotFound, Refusal::MethodNotAllowed,
    Refusal::DeletedButRecoverable, Refusal::Throttled, Refusal::InternalError, Refusal::Unavailable,
];
