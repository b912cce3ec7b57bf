//! Callers with tokens, whose tenant changes its keys and whose directory fails.

use std::time::Duration;

use http::StatusCode;
use keyvault_emulator::{Answer as Told, Effect, Emulator, Fault, Kind, Source, Upstream, facts};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::{
    Answer, BOTH, Gateway, REQUEST, World, azure, full, in_virtual_time, request, settings,
};

#[test]
fn keys_are_asked_for_when_they_change_and_not_for_every_name() {
    for world in BOTH {
        in_virtual_time(async {
            let (emulator, gateway, begun) = start(world);
            let old = token(&emulator, begun);
            assert_eq!(ask(&gateway, &old).await.outcome().0, 200, "{world:?}");
            assert_eq!(asked(&emulator), 1);

            // The key that signs now is one that nobody has heard of yet.
            emulator.rotate_signing_keys();
            let new = token(&emulator, begun);
            assert_eq!(ask(&gateway, &new).await.outcome().0, 401, "{world:?}");
            assert_eq!(asked(&emulator), 1);
            sleep(Duration::from_secs(30)).await;
            assert_eq!(ask(&gateway, &new).await.outcome().0, 200, "{world:?}");
            assert_eq!(ask(&gateway, &old).await.outcome().0, 200, "{world:?}");
            assert_eq!(asked(&emulator), 2);

            // Three changes later the first is withdrawn, and an hour later that is known.
            for _ in 0..3 {
                emulator.rotate_signing_keys();
            }
            assert_eq!(ask(&gateway, &old).await.outcome().0, 200, "{world:?}");
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(ask(&gateway, &old).await.outcome().0, 401, "{world:?}");
            assert_eq!(asked(&emulator), 3);
        });
    }
}

#[test]
fn a_withdrawn_key_does_not_get_in_beside_a_request_that_asks_for_the_keys() {
    in_virtual_time(async {
        let (emulator, gateway, begun) = start(World::Service);
        let withdrawn = token(&emulator, begun);
        let header = emulator.signing_header();
        assert_eq!(ask(&gateway, &withdrawn).await.outcome().0, 200);
        for _ in 0..4 {
            emulator.rotate_signing_keys();
        }
        sleep(Duration::from_secs(3600)).await;
        emulator.fault(Fault::new(Upstream::SigningKeys, Effect::Truth).delay(Duration::from_millis(300)));
        // Somebody without a key in the tenant is the first to have the keys asked for, and some then hang up.
        let forged = emulator.sign_as_stranger(&header, &json!({}));
        for patience in [Duration::from_millis(100), Duration::from_secs(10)] {
            let stranger = timeout(patience, ask(&gateway, &forged));
            let owner = async {
                sleep(Duration::from_millis(50)).await;
                ask(&gateway, &withdrawn).await
            };
            let (_, owner) = tokio::join!(stranger, owner);
            assert_eq!(owner.outcome().0, 401, "{patience:?}");
        }
        assert!((2..=4).contains(&asked(&emulator)), "{}", asked(&emulator));
    });
}

#[test]
fn whatever_the_directory_answers_the_caller_gets_a_documented_answer_and_keys_work_on() {
    let redirect = Effect::Redirect(http::HeaderValue::from_static("https://elsewhere.example/keys"));
    let other = |body: &str| {
        Effect::Answer(Told {
            status: StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: body.to_owned(),
        })
    };
    let unusable = (502, "IdentityError");
    let unavailable = (503, "Unavailable");
    for (effect, expected) in [
        (Effect::Status(StatusCode::BAD_REQUEST), unusable),
        (Effect::Status(StatusCode::NOT_FOUND), unusable),
        (Effect::Status(StatusCode::TOO_MANY_REQUESTS), (503, "IdentityThrottled")),
        (Effect::Status(StatusCode::SERVICE_UNAVAILABLE), unavailable),
        (redirect, unusable),
        (other("[]"), unusable),
        (other(r#"{"keys":[[]]}"#), unusable),
        (other(r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}"#), unusable),
        (Effect::PlainText, unusable),
        (Effect::EmptyBody, unusable),
        (Effect::BrokenJson, unusable),
        (Effect::TruncatedJson, unusable),
        (Effect::HugeBody(1 << 20), unusable),
        (Effect::HugeChunkedBody(1 << 20), unusable),
        (Effect::HangBeforeHeaders, (504, "Timeout")),
        (Effect::HangWithinBody, (504, "Timeout")),
        (Effect::CutBeforeHeaders, unavailable),
        (Effect::CutWithinBody, unavailable),
    ] {
        for world in BOTH {
            in_virtual_time(async {
                let (emulator, gateway, begun) = start(world);
                emulator.fault(Fault::new(Upstream::SigningKeys, effect.clone()));
                let start = Instant::now();
                let answer = ask(&gateway, &token(&emulator, begun)).await;
                let case = format!("{world:?} {effect:?}");
                assert_eq!(answer.outcome(), (expected.0, expected.1.to_owned()), "{case}");
                assert!(start.elapsed() <= Duration::from_secs(11), "{case}: {:?}", start.elapsed());
                assert_eq!(gateway.ask().await.outcome().0, 200, "{case}");
                emulator.clear_faults();
                sleep(Duration::from_secs(60)).await;
                assert_eq!(ask(&gateway, &token(&emulator, begun)).await.outcome().0, 200, "{case}");
            });
        }
    }
}

/// A gateway whose one caller with a token may have every secret, and the date at which it began.
fn start(world: World) -> (Emulator, Gateway, i64) {
    let emulator = azure();
    let mut settings = settings(&emulator, Source::AppService2017);
    let callers = json!([{"name": "bearer", "oid": [facts::OBJECT_ID], "secrets": ["*"]}]);
    settings.push(("GATEWAY_JWT_TENANT", facts::TENANT.to_owned()));
    settings.push(("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()));
    settings.push(("GATEWAY_CALLERS", callers.to_string()));
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let gateway = Gateway::start(world, &emulator, &settings);
    (emulator, gateway, i64::try_from(since.as_secs()).unwrap())
}

fn token(emulator: &Emulator, begun: i64) -> String {
    emulator.caller_token_at(begun, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[])
}

async fn ask(gateway: &Gateway, token: &str) -> Answer {
    let mut request = request(full(REQUEST));
    request.headers_mut().remove("x-functions-key");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    gateway.send(request).await
}

fn asked(emulator: &Emulator) -> usize {
    emulator.journal().iter().filter(|it| it.kind == Kind::SigningKeys).count()
}

const AUDIENCE: &str = "api://keyvault-gateway";
