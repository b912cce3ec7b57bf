//! Every fault that the emulator knows, at the vault and at the token source.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use keyvault_emulator::{Answer, Effect, Emulator, Fault, Refusal, Source, TokenRefusal, Upstream};

use crate::gateway::{AT_REST, BOTH, Gateway, SECRETS, World, azure, in_virtual_time, settings};

#[test]
fn a_fault_of_the_vault_is_answered_as_the_contract_says() {
    let nested = |open: &str| open.repeat(10_000);
    let answers = [
        (200, "{}".to_owned()),
        (200, r#"{"value":null,"id":"https://demo.vault.azure.net/secrets/x/0123"}"#.to_owned()),
        (200, format!(r#"{{"value":"v","id":"https://demo.vault.azure.net/secrets/other/{VERSION}"}}"#)),
        (200, format!(r#"{{"value":"v","id":"https://demo.vault.azure.net/keys/x/{VERSION}"}}"#)),
        (200, r#"{"value":"v","id":"https://demo.vault.azure.net/secrets/x"}"#.to_owned()),
        (200, nested("[")),
        (200, nested("{\"value\":")),
        (204, String::new()),
        (206, "{\"value\":".to_owned()),
        (400, nested("{\"error\":")),
        (404, String::new()),
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
        (200, r#"{"access_token":"","expires_in":3599}"#),
        (200, r#"{"access_token":"a b","expires_in":3599}"#),
        (200, r#"{"access_token":"a\r\nx: y","expires_in":3599}"#),
        (200, r#"{"access_token":"a","expires_in":-1}"#),
        (200, r#"{"access_token":"a","expires_in":3599,"token_type":"pop"}"#),
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

#[test]
fn what_azure_says_of_a_pause_is_passed_on_within_limits() {
    for (says, pause) in [
        (None, "1"),
        (Some("7"), "7"),
        (Some("0"), "1"),
        (Some("3601"), "3600"),
        (Some("99999999999999999999"), "1"),
        (Some("-1"), "1"),
        (Some("soon"), "1"),
        (Some("Thu, 14 Sep 2017 00:00:00 GMT"), "1"),
        (Some("Fri, 31 Dec 9999 23:59:59 GMT"), "3600"),
    ] {
        for (upstream, status, code) in [
            (Upstream::Vault, StatusCode::TOO_MANY_REQUESTS, "VaultThrottled"),
            (Upstream::Vault, StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
            (Upstream::Token, StatusCode::TOO_MANY_REQUESTS, "IdentityThrottled"),
            (Upstream::Token, StatusCode::INTERNAL_SERVER_ERROR, "Unavailable"),
        ] {
            for world in BOTH {
                in_virtual_time(async {
                    let emulator = azure();
                    let fault = Fault::new(upstream, Effect::Status(status));
                    emulator.fault(says.map_or(fault.clone(), |it| fault.retry_after(it)));
                    let answer = gateway(world, &emulator, Source::Imds).ask().await;
                    assert_eq!(answer.outcome(), (503, code.to_owned()), "{world:?} {says:?}");
                    // Where Azure asks for none it is our own pause, which has grown with the tries for a token.
                    let (seconds, own) = (answer.field("retry-after"), ["2", "3", "4", "5", "8"]);
                    let is_own = upstream == Upstream::Token && pause == "1" && own.contains(&seconds);
                    assert!(seconds == pause || is_own, "{world:?} {says:?} {upstream:?} {seconds}");
                });
            }
        }
    }
}

/// As Spin does it where `allowed_outbound_hosts` has no entry for an address.
#[test]
fn a_host_that_lets_no_call_out_is_named_in_the_log() {
    for world in BOTH {
        in_virtual_time(async {
            let emulator = azure();
            let gateway = gateway(world, &emulator, Source::Imds);
            gateway.close();
            assert_eq!(gateway.ask().await.outcome(), (503, "Unavailable".to_owned()), "{world:?}");
            let cause = "the host does not let calls go to this address";
            assert!(gateway.log().contains(cause), "{world:?} {}", gateway.log());
        });
    }
}

/// No timeout of the host ends this, and no byte of the request's body is taken.
#[test]
fn a_call_that_nobody_hears_ends_at_the_deadline() {
    for (_, source) in Source::ALL {
        for world in BOTH {
            in_virtual_time(async {
                let emulator = azure();
                let gateway = gateway(world, &emulator, source);
                gateway.deafen(true);
                let answer = gateway.ask().await;
                assert_eq!(answer.outcome(), (504, "Timeout".to_owned()), "{world:?} {source:?}");
                assert!(answer.took_about(DEADLINE), "{world:?} {source:?} {:?}", answer.took);

                gateway.deafen(false);
                assert_eq!(gateway.ask().await.outcome(), (200, String::new()), "{world:?} {source:?}");
                assert_eq!(gateway.instances(), 1, "{world:?} {source:?}");
                assert!(gateway.left_behind() <= AT_REST, "{world:?} {source:?}");
            });
        }
    }
}

#[test]
fn the_deadline_is_for_a_request_and_not_for_each_of_its_calls() {
    for world in BOTH {
        in_virtual_time(async {
            let emulator = azure();
            emulator.fault(Fault::new(Upstream::Token, Effect::Truth).delay(DEADLINE * 2 / 3));
            emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(DEADLINE * 2 / 3));
            let answer = gateway(world, &emulator, Source::Imds).ask().await;
            assert_eq!(answer.outcome(), (504, "Timeout".to_owned()), "{world:?}");
            assert!(answer.took_about(DEADLINE), "{world:?} {:?}", answer.took);
        });
    }
}

#[test]
fn a_token_that_the_vault_refuses_is_replaced_once() {
    for world in BOTH {
        in_virtual_time(async {
            let emulator = azure();
            let gateway = gateway(world, &emulator, Source::AppService2017);
            let calls = || (emulator.token_calls().len(), emulator.vault_calls().len());
            assert_eq!(gateway.ask_for(SECRETS[0]).await.outcome(), (200, String::new()), "{world:?}");
            assert_eq!(calls(), (1, 1), "{world:?}");

            emulator.forget_tokens();
            assert_eq!(gateway.ask_for(SECRETS[1]).await.outcome(), (200, String::new()), "{world:?}");
            assert_eq!(calls(), (2, 3), "{world:?}");

            // From here on each has expired when it is given out.
            emulator.forget_tokens();
            emulator.configure(|it| it.lifetime = Some(-1));
            let answer = gateway.ask_for(SECRETS[2]).await;
            assert_eq!(answer.outcome(), (503, "Unavailable".to_owned()), "{world:?}");
            assert_eq!(calls(), (3, 7), "{world:?}");
        });
    }
}

/// The platform keeps a token for a day and gives the same one again, whoever wants another.
#[test]
fn a_token_that_the_vault_goes_on_refusing_is_asked_for_seldom() {
    for world in BOTH {
        in_virtual_time(async {
            let emulator = azure();
            emulator.fault(Fault::refuse(Refusal::UnresolvedKey));
            let gateway = gateway(world, &emulator, Source::AppService2019);
            for _ in 0..300 {
                assert_eq!(gateway.ask().await.outcome(), (503, "Unavailable".to_owned()), "{world:?}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // In five minutes: five new ones at once and then one in ten seconds at the most, and fewer where the circuit breaker, which
            // lets one call in 16 seconds through, is what holds them back.
            let seen = (emulator.token_calls().len(), emulator.vault_calls().len());
            assert!(seen.0 <= 1 + 5 + 30 && seen.1 <= 60, "{world:?} {seen:?}");
            assert!(seen.0 >= 10, "{world:?} {seen:?}");
            assert_eq!(emulator.tokens().len(), 1, "{world:?}");
            emulator.clear_faults();
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(gateway.ask().await.outcome(), (200, String::new()), "{world:?}");
        });
    }
}

/// Asks while `upstream` always fails with `effect`, and again when it is well, in the same instance.
fn check(upstream: Upstream, source: Source, effect: &Effect, expected: (u16, &str)) {
    for world in BOTH {
        let case = format!("{world:?} {source:?} {upstream:?} {effect:?}");
        in_virtual_time(async {
            let emulator = azure();
            emulator.fault(Fault::new(upstream, effect.clone()));
            let gateway = gateway(world, &emulator, source);
            let answer = gateway.ask().await;
            let (status, code) = answer.outcome();
            assert_eq!((status, code.as_str()), expected, "{case}");
            assert_eq!(!answer.field("retry-after").is_empty(), status == 503, "{case}");
            match status {
                504 => assert!(answer.took_about(DEADLINE), "{case} {:?}", answer.took),
                _ => assert!(answer.took < DEADLINE, "{case} {:?}", answer.took),
            }
            // Nobody else is asked, wherever a redirect leads.
            let ours = ["demo.vault.azure.net", "127.0.0.1:41741", "localhost:50342"];
            let tokens = ["169.254.169.254", "login.microsoftonline.com"];
            for call in emulator.journal() {
                let host = call.authority.as_str();
                assert!(ours.contains(&host) || tokens.contains(&host), "{case}: {call:?}");
            }
            // The host's timeouts come after the component's own, and they come.
            for timeout in gateway.timeouts() {
                assert!(
                    timeout.is_some_and(|it| it <= DEADLINE + Duration::from_secs(1)),
                    "{case} {timeout:?}"
                );
            }

            emulator.clear_faults();
            // Longer than anybody who failed might be left alone.
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(gateway.ask().await.outcome(), (200, String::new()), "{case}");
            assert_eq!(gateway.instances(), 1, "{case}");
            assert!(gateway.left_behind() <= AT_REST, "{case} {}", gateway.left_behind());
        });
    }
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
        Effect::Answer(_)
        | Effect::Redirect(_)
        | Effect::PlainText
        | Effect::EmptyBody
        | Effect::BrokenJson
        | Effect::TruncatedJson
        | Effect::HugeBody(_)
        | Effect::HugeChunkedBody(_) => (502, "VaultError"),
        Effect::HangBeforeHeaders | Effect::HangWithinBody => (504, "Timeout"),
        Effect::CutBeforeHeaders | Effect::CutWithinBody => (503, "Unavailable"),
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
        Effect::Answer(_)
        | Effect::Redirect(_)
        | Effect::PlainText
        | Effect::EmptyBody
        | Effect::BrokenJson
        | Effect::TruncatedJson
        | Effect::HugeBody(_)
        | Effect::HugeChunkedBody(_) => (502, "IdentityError"),
        Effect::HangBeforeHeaders | Effect::HangWithinBody => (504, "Timeout"),
        Effect::CutBeforeHeaders | Effect::CutWithinBody => (503, "Unavailable"),
    }
}

/// What can go wrong anywhere.
pub(crate) fn connection_faults() -> Vec<Effect> {
    let redirect = |address| Effect::Redirect(HeaderValue::from_static(address));
    vec![
        Effect::Truth,
        Effect::ByteOrderMark,
        redirect("https://attacker.example/"),
        redirect("http://127.0.0.1:8080/"),
        Effect::PlainText,
        Effect::EmptyBody,
        Effect::BrokenJson,
        Effect::TruncatedJson,
        Effect::HugeBody(192 * 1024 + 1),
        Effect::HugeBody(10 * 1024 * 1024),
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
    numbers.into_iter().map(|it| Effect::Status(StatusCode::from_u16(it).unwrap()))
}

pub(crate) fn answer((status, body): (u16, String)) -> Effect {
    Effect::Answer(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
}

fn gateway(world: World, emulator: &Emulator, source: Source) -> Gateway {
    let mut settings = settings(emulator, source);
    settings.push(("GATEWAY_DEADLINE_SECONDS", DEADLINE.as_secs().to_string()));
    settings.push(("GATEWAY_LOG", "debug".to_owned()));
    Gateway::start(world, emulator, &settings)
}

const DEADLINE: Duration = Duration::from_secs(7);

const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";

/// Each way in which Key Vault refuses.
pub(crate) const REFUSALS: [Refusal; 19] = [
    Refusal::InvalidName,
    Refusal::MissingToken,
    Refusal::InvalidAudience,
    Refusal::InvalidIssuer,
    Refusal::UnresolvedKey,
    Refusal::ExpiredToken,
    Refusal::InsufficientClaims,
    Refusal::AccessDenied,
    Refusal::ForbiddenByRbac,
    Refusal::ForbiddenByFirewall,
    Refusal::ForbiddenByConnection,
    Refusal::ForbiddenByPolicy,
    Refusal::SecretDisabled,
    Refusal::SecretNotFound,
    Refusal::MethodNotAllowed,
    Refusal::DeletedButRecoverable,
    Refusal::Throttled,
    Refusal::InternalError,
    Refusal::Unavailable,
];
