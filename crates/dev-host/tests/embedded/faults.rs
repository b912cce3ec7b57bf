//! Every fault of the emulator, at the vault and at the token source.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use keyvault_emulator::{Answer, Effect, Emulator, Fault, Refusal, Source, TokenRefusal, Upstream};

use crate::gateway::{Gateway, SOURCES, World, azure, in_both_worlds};

#[test]
fn a_vault_fault_has_the_response_of_the_contract() {
    let nested = |open: &str| open.repeat(10_000);
    let responses = [
        (200, "{}".to_owned()),
        (200, format!(r#"{{"value":"v","id":"https://demo.vault.azure.net/secrets/other/{VERSION}"}}"#)),
        (200, nested("[")),
        (200, nested("{\"value\":")),
        (206, "{\"value\":".to_owned()),
        (404, nested("{\"error\":{\"innererror\":")),
    ];
    let effects = connection_faults().into_iter().chain(REFUSALS.map(Effect::Refuse)).chain(statuses());
    for effect in effects.chain(responses.map(response)) {
        let expected = from_vault(&effect);
        check(Upstream::Vault, Source::AppService2017, &effect, expected);
    }
}

#[test]
fn a_token_source_fault_has_the_response_of_the_contract() {
    let responses = [
        (200, "{}"),
        (200, r#"{"access_token":"a\r\nx: y","expires_in":3599}"#),
        (204, ""),
        (400, r#"{"error":7}"#),
    ];
    let responses = responses.map(|(status, body)| response((status, body.to_owned())));
    for source in SOURCES {
        // Entra ID has codes of its own.
        let is_its = |refusal: &TokenRefusal| {
            format!("{refusal:?}").starts_with("Aadsts") == (source == Source::ClientSecret)
        };
        let refusals = TokenRefusal::ALL.into_iter().filter(is_its).map(Effect::RefuseToken);
        let effects = connection_faults().into_iter().chain(statuses()).chain(responses.clone());
        for effect in effects.chain(refusals) {
            let expected = from_token_source(source, &effect);
            check(Upstream::Token, source, &effect, expected);
        }
    }
}

/// The host has no timeout here, and accepts no byte of the call's body.
#[test]
fn a_call_without_progress_ends_at_the_deadline() {
    // A token request with a body, and one without.
    for source in [Source::ClientSecret, Source::Imds] {
        in_both_worlds(async |world| {
            let emulator = azure();
            let gateway = gateway(world, &emulator, source);
            gateway.observed.unresponsive.store(true, Relaxed);
            let response = gateway.post().await;
            response.expect((504, "Timeout"), (world, source));
            assert!(response.took_about(DEADLINE), "{world:?} {source:?} {:?}", response.took);
            gateway.observed.unresponsive.store(false, Relaxed);
            gateway.post().await.expect((200, ""), (world, source));
            gateway.expect_single_instance((world, source));
        });
    }
}

/// Sends a request while `upstream` fails with `effect`, and one after its recovery, to the same instance.
fn check(upstream: Upstream, source: Source, effect: &Effect, expected: (u16, &str)) {
    in_both_worlds(async |world| {
        let case = format!("{world:?} {source:?} {upstream:?} {effect:?}");
        let emulator = azure();
        emulator.fault(Fault::new(upstream, effect.clone()));
        let gateway = gateway(world, &emulator, source);
        let response = gateway.post().await;
        response.expect(expected, &case);
        assert_eq!(response.field("retry-after").is_empty(), response.status != 503, "{case}");
        match response.status {
            504 => assert!(response.took_about(DEADLINE), "{case} {:?}", response.took),
            _ => assert!(response.took < DEADLINE, "{case} {:?}", response.took),
        }
        // The gateway calls no other host, even after a redirect.
        for call in emulator.journal() {
            assert!(HOSTS.contains(&call.authority.as_str()), "{case}: {call:?}");
        }
        // Each call has a timeout of the host that is longer than the component's own.
        for timeout in gateway.timeouts() {
            let comes = timeout.is_some_and(|timeout| timeout <= DEADLINE + Duration::from_secs(1));
            assert!(comes, "{case} {timeout:?}");
        }
        emulator.clear_faults();
        // Longer than the circuit breaker stays open.
        tokio::time::sleep(Duration::from_secs(600)).await;
        gateway.post().await.expect((200, ""), &case);
        gateway.expect_single_instance(&case);
    });
}

/// Returns the expected response to this effect at the vault.
fn from_vault(effect: &Effect) -> (u16, &'static str) {
    match effect {
        Effect::Truth | Effect::ByteOrderMark | Effect::RefuseToken(_) => (200, ""),
        Effect::Refuse(refusal) => match refusal {
            Refusal::InvalidName | Refusal::MethodNotAllowed | Refusal::DeletedButRecoverable => {
                (502, "VaultError")
            }
            // A fresh token is tried once; a transient refusal is then retried.
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

/// Returns the expected response to this effect at the token source.
fn from_token_source(source: Source, effect: &Effect) -> (u16, &'static str) {
    match effect {
        Effect::Truth | Effect::ByteOrderMark | Effect::Refuse(_) => (200, ""),
        Effect::RefuseToken(refusal) => match (refusal, source) {
            // IMDS gets no credential and so refuses none; a 404 without a code may be transient.
            (
                TokenRefusal::NoMetadataService | TokenRefusal::Proxy | TokenRefusal::MachineLearning,
                Source::Imds,
            ) => (503, "Unavailable"),
            (TokenRefusal::Aadsts50196 | TokenRefusal::Aadsts90055, _) => (503, "IdentityThrottled"),
            // Entra ID could not reach the issuer of an assertion.
            (TokenRefusal::Aadsts50166 | TokenRefusal::Aadsts501661 | TokenRefusal::Aadsts90061, _) => {
                (503, "Unavailable")
            }
            _ => (502, "IdentityError"),
        },
        Effect::Status(status) => match (status.as_u16(), source) {
            (429, _) => (503, "IdentityThrottled"),
            // IMDS responds so during an update; it refuses no credential.
            // The emulated Entra marks these errors as transient.
            (202 | 403..=428, Source::ClientSecret) => (503, "Unavailable"),
            (401 | 403 | 404 | 410, Source::Imds) | (408 | 500.., _) => (503, "Unavailable"),
            _ => (502, "IdentityError"),
        },
        effect => from_either(effect, "IdentityError"),
    }
}

/// Returns the expected response if an upstream hangs, cuts the connection or sends an unusable response.
fn from_either(effect: &Effect, unusable: &'static str) -> (u16, &'static str) {
    match effect {
        Effect::HangBeforeHeaders | Effect::HangWithinBody => (504, "Timeout"),
        Effect::CutBeforeHeaders | Effect::CutWithinBody => (503, "Unavailable"),
        _ => (502, unusable),
    }
}

/// Returns the faults that both upstreams have.
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

/// Returns the error statuses of both upstreams.
pub(crate) fn statuses() -> impl Iterator<Item = Effect> {
    let numbers = [202, 400, 401, 403, 404, 405, 408, 409, 410, 412, 418, 429, 500, 501, 502, 503, 504, 599];
    numbers.into_iter().map(|number| Effect::Status(StatusCode::from_u16(number).unwrap()))
}

pub(crate) fn response((status, body): (u16, String)) -> Effect {
    Effect::Answer(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
}

fn gateway(world: World, emulator: &Emulator, source: Source) -> Gateway {
    Gateway::new(world, emulator, source, &[("GATEWAY_DEADLINE_SECONDS", "7"), ("GATEWAY_LOG", "debug")])
}

/// The vault and the token sources.
const HOSTS: [&str; 5] = [
    "demo.vault.azure.net",
    "127.0.0.1:41741",
    "localhost:50342",
    "169.254.169.254",
    "login.microsoftonline.com",
];

const DEADLINE: Duration = Duration::from_secs(7);

const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";

/// Every refusal of Key Vault.
#[rustfmt::skip]
pub(crate) const REFUSALS: [Refusal; 19] = [
    Refusal::InvalidName, Refusal::MissingToken, Refusal::InvalidAudience, Refusal::InvalidIssuer,
    Refusal::UnresolvedKey, Refusal::ExpiredToken, Refusal::InsufficientClaims, Refusal::AccessDenied,
    Refusal::ForbiddenByRbac, Refusal::ForbiddenByFirewall, Refusal::ForbiddenByConnection,
    Refusal::ForbiddenByPolicy, Refusal::SecretDisabled, Refusal::SecretNotFound, Refusal::MethodNotAllowed,
    Refusal::DeletedButRecoverable, Refusal::Throttled, Refusal::InternalError, Refusal::Unavailable,
];
