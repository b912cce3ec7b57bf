//! Callers with tokens: what makes one good, and a tenant that changes its keys and whose directory fails.

use std::time::Duration;

use http::StatusCode;
use keyvault_emulator::{Answer as Told, Effect, Emulator, Fault, Source, Upstream, facts};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::{Answer, Gateway, SECRETS, World, azure, both, calls, in_virtual_time, request_for};

/// The eighty forgeries of the contract's tests are of the core; these are of the built components.
#[test]
fn a_token_of_the_tenant_has_its_scope_and_a_forged_or_foreign_one_gets_nothing() {
    both(async |world| {
        let (emulator, gateway, begun) = start(world);
        let (header, claims) = (emulator.signing_header(), claims(begun));
        let with = |name: &str, value: Value| {
            let mut changed = claims.clone();
            changed[name] = value;
            emulator.sign(&header, &changed)
        };
        let algorithm = |name: &str| {
            let mut changed = header.clone();
            changed["alg"] = name.into();
            changed
        };
        let other = "11111111-2222-3333-4444-555555555555";
        let unsigned = emulator.sign(&algorithm("none"), &claims);
        for token in [
            format!("{}.", unsigned.rsplit_once('.').unwrap().0),
            emulator.sign_as_stranger(&header, &claims),
            emulator.sign_with_secret(&algorithm("HS256"), &claims, emulator.signing_key_pem().as_bytes()),
            emulator.sign_with_secret(&algorithm("HS256"), &claims, &emulator.signing_key_der()),
            with("aud", "https://vault.azure.net".into()),
            with("iss", format!("https://sts.windows.net/{other}/").into()),
            with("tid", other.into()),
            with("oid", other.into()),
            with("exp", (begun - 61).into()),
            with("nbf", (begun + 3600).into()),
            with("scp", "user_impersonation".into()),
            "x".repeat(20_000),
        ] {
            let answer = ask(&gateway, &token).await;
            answer.expect((401, "Unauthorized"), (world, &token));
            // Failed authentications are counted for ten seconds.
            sleep(Duration::from_secs(11)).await;
        }
        assert_eq!(calls(&emulator), (0, 0), "{world:?}");
        let second = Emulator::caller_claims_v2(begun, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
        for token in [emulator.sign(&header, &claims), emulator.sign(&header, &second)] {
            ask(&gateway, &token).await.expect((200, ""), world);
            ask_for(&gateway, &token, SECRETS[1]).await.expect((403, "Forbidden"), world);
        }
        assert!(gateway.log().contains(r#""caller":"bearer""#), "{world:?}");
    });
}

#[test]
fn keys_are_asked_for_when_they_change_and_not_for_every_name() {
    both(async |world| {
        let (emulator, gateway, begun) = start(world);
        let asked = || emulator.signing_key_calls().len();
        let old = token(&emulator, begun);
        ask(&gateway, &old).await.expect((200, ""), world);
        assert_eq!(asked(), 1);

        // The key that signs now has not been fetched yet.
        emulator.rotate_signing_keys();
        let new = token(&emulator, begun);
        ask(&gateway, &new).await.expect((401, "Unauthorized"), world);
        assert_eq!(asked(), 1);
        sleep(Duration::from_secs(30)).await;
        ask(&gateway, &new).await.expect((200, ""), world);
        ask(&gateway, &old).await.expect((200, ""), world);
        assert_eq!(asked(), 2);

        // Three changes later the first is withdrawn, and an hour later that is known.
        (0..3).for_each(|_| emulator.rotate_signing_keys());
        ask(&gateway, &old).await.expect((200, ""), world);
        sleep(Duration::from_secs(3600)).await;
        ask(&gateway, &old).await.expect((401, "Unauthorized"), world);
        assert_eq!(asked(), 3);
    });
}

#[test]
fn a_withdrawn_key_does_not_get_in_beside_a_request_that_asks_for_the_keys() {
    in_virtual_time(async {
        let (emulator, gateway, begun) = start(World::Service);
        let withdrawn = token(&emulator, begun);
        let header = emulator.signing_header();
        ask(&gateway, &withdrawn).await.expect((200, ""), "before");
        (0..4).for_each(|_| emulator.rotate_signing_keys());
        sleep(Duration::from_secs(3600)).await;
        emulator.fault(Fault::new(Upstream::SigningKeys, Effect::Truth).delay(Duration::from_millis(300)));
        // A stranger without a key in the tenant is the first to have the keys asked for, and may then hang up.
        let forged = emulator.sign_as_stranger(&header, &json!({}));
        for patience in [Duration::from_millis(100), Duration::from_secs(10)] {
            let stranger = timeout(patience, ask(&gateway, &forged));
            let owner = async {
                sleep(Duration::from_millis(50)).await;
                ask(&gateway, &withdrawn).await
            };
            tokio::join!(stranger, owner).1.expect((401, "Unauthorized"), patience);
        }
        let asked = emulator.signing_key_calls().len();
        assert!((2..=4).contains(&asked), "{asked}");
    });
}

#[test]
fn whatever_the_directory_answers_the_caller_gets_a_documented_answer_and_keys_work_on() {
    let redirect = Effect::Redirect(http::HeaderValue::from_static("https://elsewhere.example/keys"));
    let other = |body: &str| {
        let (status, headers) = (StatusCode::OK, http::HeaderMap::new());
        Effect::Answer(Told { status, headers, body: body.to_owned() })
    };
    let (unusable, unavailable) = ((502, "IdentityError"), (503, "Unavailable"));
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
        both(async |world| {
            let (emulator, gateway, begun) = start(world);
            emulator.fault(Fault::new(Upstream::SigningKeys, effect.clone()));
            let start = Instant::now();
            ask(&gateway, &token(&emulator, begun)).await.expect(expected, (world, &effect));
            assert!(start.elapsed() <= Duration::from_secs(11), "{world:?} {effect:?} {:?}", start.elapsed());
            gateway.ask().await.expect((200, ""), (world, &effect));
            emulator.clear_faults();
            sleep(Duration::from_secs(60)).await;
            ask(&gateway, &token(&emulator, begun)).await.expect((200, ""), (world, &effect));
        });
    }
}

/// A gateway whose one caller with a token may have the first of the secrets, and the date at which it began.
fn start(world: World) -> (Emulator, Gateway, i64) {
    let emulator = azure();
    let callers = json!([{"name": "bearer", "oid": [facts::OBJECT_ID], "secrets": [SECRETS[0]]}]).to_string();
    let settings = [
        ("GATEWAY_JWT_TENANT", facts::TENANT),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE),
        ("GATEWAY_CALLERS", &callers),
    ];
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let gateway = Gateway::of(world, &emulator, Source::AppService2017, &settings);
    (emulator, gateway, i64::try_from(since.as_secs()).unwrap())
}

fn claims(begun: i64) -> Value {
    Emulator::caller_claims(begun, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[])
}

fn token(emulator: &Emulator, begun: i64) -> String {
    emulator.sign(&emulator.signing_header(), &claims(begun))
}

async fn ask(gateway: &Gateway, token: &str) -> Answer {
    ask_for(gateway, token, SECRETS[0]).await
}

async fn ask_for(gateway: &Gateway, token: &str, secret: &str) -> Answer {
    let mut request = request_for(secret);
    request.headers_mut().remove("x-functions-key");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    gateway.send(request).await
}

const AUDIENCE: &str = "api://keyvault-gateway";
