//! Callers with tokens of their platform: service accounts of a cluster, with the emulator as the issuer.

use std::time::Duration;

use http::StatusCode;
use keyvault_emulator::{Effect, Emulator, Fault, Kind, Source, Upstream};
use serde_json::json;
use tokio::time::sleep;

use crate::access_tokens::post_for;
use crate::gateway::{Gateway, SECRETS, World, azure, calls, in_both_worlds};

#[test]
fn two_service_accounts_read_exactly_the_secrets_of_their_entries() {
    in_both_worlds(async |world| {
        let (emulator, gateway) = start(world);
        let accounts = [BILLING, OPS].map(|subject| emulator.platform_token(CLUSTER, AUDIENCE, subject));
        let es256 = emulator.sign_with_es256(&Emulator::platform_claims(CLUSTER, AUDIENCE, OPS));
        let (billing, ops) = (&accounts[0], &accounts[1]);
        for (token, secret, expected) in [
            (billing, SECRETS[0], (200, "")),
            (billing, SECRETS[1], (403, "Forbidden")),
            (ops, SECRETS[1], (200, "")),
            (ops, SECRETS[0], (403, "Forbidden")),
            (&es256, SECRETS[1], (200, "")),
        ] {
            post_for(&gateway, token, secret).await.expect(expected, (world, secret));
        }
        // The configuration and the JWKS were fetched once each.
        assert_eq!(
            issuer_calls(&emulator),
            ["/oidc/cluster/.well-known/openid-configuration", "/oidc/cluster/keys"]
        );
    });
}

#[test]
fn a_forged_token_is_refused_for_its_reason() {
    in_both_worlds(async |world| {
        let (emulator, gateway) = start(world);
        let claims = |audience: &str, subject: &str| Emulator::platform_claims(CLUSTER, audience, subject);
        let mut several = claims(AUDIENCE, BILLING);
        several["aud"] = json!([AUDIENCE, CLUSTER]);
        let mut expired = claims(AUDIENCE, BILLING);
        expired["exp"] = 1_000_000_000.into();
        let valid = emulator.platform_token(CLUSTER, AUDIENCE, BILLING);
        for (token, reason) in [
            // A key of another issuer.
            (emulator.sign_for_issuer(OTHER, &claims(AUDIENCE, BILLING)), "does not publish"),
            (emulator.platform_token(OTHER, AUDIENCE, BILLING), "no setting names"),
            (emulator.platform_token(CLUSTER, "https://vault.azure.net", BILLING), "another audience"),
            (emulator.sign_for_issuer(CLUSTER, &several), "another audience"),
            (emulator.platform_token(CLUSTER, AUDIENCE, "system:serviceaccount:billing:app2"), "no entry"),
            (emulator.sign_for_issuer(CLUSTER, &expired), "has expired"),
            (format!("{}AAAA", &valid[..valid.len() - 4]), "wrong signature"),
            ("x".repeat(20_000), "is not a JWT"),
        ] {
            post_for(&gateway, &token, SECRETS[0]).await.expect((401, "Unauthorized"), (world, reason));
            let log = gateway.log();
            let line = log.lines().rfind(|line| line.contains(r#""status":401"#)).unwrap_or_default();
            assert!(line.contains(reason), "{reason}: {line}");
            // The failed-authentication limiter counts failures within ten seconds, and an unknown key costs
            // the next one half a minute.
            sleep(Duration::from_secs(31)).await;
        }
        assert_eq!(calls(&emulator), (0, 0), "{world:?}");
        post_for(&gateway, &valid, SECRETS[0]).await.expect((200, ""), world);
    });
}

#[test]
fn keys_rotate_and_known_keys_live_on_while_the_issuer_is_down() {
    in_both_worlds(async |world| {
        let (emulator, gateway) = start(world);
        let before = emulator.platform_token(CLUSTER, AUDIENCE, BILLING);
        post_for(&gateway, &before, SECRETS[0]).await.expect((200, ""), world);
        emulator.rotate_issuer_keys(CLUSTER);
        let after = emulator.platform_token(CLUSTER, AUDIENCE, BILLING);
        emulator.fault(Fault::new(Upstream::Issuers, Effect::Status(StatusCode::SERVICE_UNAVAILABLE)));
        post_for(&gateway, &before, SECRETS[0]).await.expect((200, ""), world);
        sleep(Duration::from_secs(31)).await;
        post_for(&gateway, &after, SECRETS[0]).await.expect((503, "Unavailable"), world);
        post_for(&gateway, &before, SECRETS[0]).await.expect((200, ""), world);
        emulator.clear_faults();
        sleep(Duration::from_secs(31)).await;
        for token in [&after, &before] {
            post_for(&gateway, token, SECRETS[0]).await.expect((200, ""), world);
        }
    });
}

fn start(world: World) -> (Emulator, Gateway) {
    let emulator = azure();
    let issuers = json!([{"issuer": CLUSTER, "audience": AUDIENCE}]).to_string();
    let callers = json!([
        {"name": "billing", "iss": CLUSTER, "sub": [BILLING], "secrets": [SECRETS[0]]},
        {"name": "ops", "iss": CLUSTER, "sub": ["system:serviceaccount:ops:*"], "secrets": [SECRETS[1]]},
    ]);
    let callers = callers.to_string();
    let settings = [("GATEWAY_OIDC", issuers.as_str()), ("GATEWAY_CALLERS", &callers)];
    let gateway = Gateway::new(world, &emulator, Source::AppService2017, &settings);
    (emulator, gateway)
}

/// The paths of the calls to the issuers.
fn issuer_calls(emulator: &Emulator) -> Vec<String> {
    let calls = emulator.journal().into_iter().filter(|call| call.kind == Kind::OidcIssuer);
    calls.map(|call| call.path).collect()
}

/// The issuers of two clusters, at the emulator's address.
const CLUSTER: &str = "http://127.0.0.1:41741/oidc/cluster";
const OTHER: &str = "http://127.0.0.1:41741/oidc/other";

const AUDIENCE: &str = "keyvault-gateway";
const BILLING: &str = "system:serviceaccount:billing:app";
const OPS: &str = "system:serviceaccount:ops:deployer";
