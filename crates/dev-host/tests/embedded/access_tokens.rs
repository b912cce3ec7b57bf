//! Callers with access tokens of Entra ID.

use std::time::Duration;

use keyvault_emulator::{Emulator, Source, facts};
use serde_json::json;
use tokio::time::sleep;

use crate::gateway::{Gateway, Response, SECRETS, azure, calls, in_both_worlds, request_for};

/// The core's tests have eighty forgeries; these check the built components.
#[test]
fn a_valid_token_has_its_scope_and_a_forged_one_gets_401() {
    let callers = json!([{"name": "bearer", "oid": [facts::OBJECT_ID], "secrets": [SECRETS[0]]}]).to_string();
    let settings = [
        ("GATEWAY_JWT_TENANT", facts::TENANT),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE),
        ("GATEWAY_CALLERS", &callers),
    ];
    in_both_worlds(async |world| {
        let emulator = azure();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let begun = i64::try_from(since.as_secs()).unwrap();
        let gateway = Gateway::new(world, &emulator, Source::AppService2017, &settings);
        let claims = Emulator::caller_claims(begun, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
        let header = emulator.signing_header();
        let (mut symmetric, mut foreign) = (header.clone(), claims.clone());
        symmetric["alg"] = "HS256".into();
        foreign["aud"] = "https://vault.azure.net".into();
        for token in [
            emulator.sign_as_stranger(&header, &claims),
            emulator.sign_with_secret(&symmetric, &claims, emulator.signing_key_pem().as_bytes()),
            emulator.sign(&header, &foreign),
            "x".repeat(20_000),
        ] {
            post_for(&gateway, &token, SECRETS[0]).await.expect((401, "Unauthorized"), (world, &token));
            // The failed-authentication limiter counts failures within ten seconds.
            sleep(Duration::from_secs(11)).await;
        }
        assert_eq!(calls(&emulator), (0, 0), "{world:?}");
        let second = Emulator::caller_claims_v2(begun, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
        for token in [emulator.sign(&header, &claims), emulator.sign(&header, &second)] {
            post_for(&gateway, &token, SECRETS[0]).await.expect((200, ""), world);
            post_for(&gateway, &token, SECRETS[1]).await.expect((403, "Forbidden"), world);
        }
        assert!(gateway.log().contains(r#""caller":"bearer""#), "{world:?}");
    });
}

pub async fn post_for(gateway: &Gateway, token: &str, secret: &str) -> Response {
    let mut request = request_for(secret);
    request.headers_mut().remove("x-functions-key");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    gateway.send(request).await
}

const AUDIENCE: &str = "api://keyvault-gateway";
