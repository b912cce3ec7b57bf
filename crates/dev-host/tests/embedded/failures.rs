//! Failures that users of managed identities and Key Vault have reported.

use std::time::Duration;

use keyvault_emulator::{Effect, Fault, Refusal, Source, TokenRefusal, Upstream};

use crate::gateway::{Gateway, KEY, azure, calls, in_both_worlds};

/// The emulated platform returns the same token again, as a real one does for a day.
#[test]
fn reads_succeed_if_the_vault_refuses_every_other_call() {
    for refusal in [Refusal::UnresolvedKey, Refusal::MissingToken, Refusal::ExpiredToken] {
        in_both_worlds(async |world| {
            let emulator = azure();
            let no_cache = [("GATEWAY_CACHE_TTL_SECONDS", "0")];
            let gateway = Gateway::new(world, &emulator, Source::AppService2019, &no_cache);
            emulator.fault(Fault::refuse(refusal).every(2));
            for round in 0..20 {
                gateway.post().await.expect((200, ""), (world, refusal, round));
            }
            assert_eq!(emulator.tokens().len(), 1, "{world:?} {refusal:?}");
        });
    }
}

#[test]
fn each_refusal_of_a_token_source_has_its_cause_in_the_log() {
    let (newer, older, secret) = (Source::AppService2019, Source::AppService2017, Source::ClientSecret);
    let no_identity = "the token source knows no such identity";
    for (source, refusal, cause) in [
        (newer, TokenRefusal::NoUserAssigned, no_identity),
        (newer, TokenRefusal::NoUserAssignedShort, no_identity),
        (newer, TokenRefusal::NoManagedIdentity, no_identity),
        (newer, TokenRefusal::Reworded, no_identity),
        (older, TokenRefusal::NoMsi, no_identity),
        (older, TokenRefusal::Reworded, no_identity),
        (
            older,
            TokenRefusal::MachineLearning,
            "the token source knows no such identity (app-service-2017, status 404)",
        ),
        (
            Source::Imds,
            TokenRefusal::DefaultIdentityNotDefined,
            "the token source knows no such identity (imds, status 404, code DefaultIdentityNotDefined)",
        ),
        (
            secret,
            TokenRefusal::Aadsts90002,
            "the token source does not know the tenant (client-secret, status 400, code AADSTS90002)",
        ),
        (secret, TokenRefusal::Aadsts900023, "the token source does not know the tenant"),
        (secret, TokenRefusal::Aadsts700016, "the token source knows no such application"),
        (secret, TokenRefusal::Aadsts7000215, "the token source does not accept the credential"),
        (secret, TokenRefusal::Aadsts7000222, "the token source does not accept the credential"),
        (secret, TokenRefusal::Aadsts53003, "a policy of the tenant forbids the sign-in"),
    ] {
        in_both_worlds(async |world| {
            let emulator = azure();
            let gateway = Gateway::new(world, &emulator, source, &[]);
            emulator.fault(Fault::new(Upstream::Token, Effect::RefuseToken(refusal)));
            gateway.post().await.expect((502, "IdentityError"), (world, refusal));
            let log = gateway.log();
            assert!(log.contains(&format!(r#""cause":"{cause}"#)), "{world:?} {refusal:?} {log}");
        });
    }
}

#[test]
fn a_missing_metadata_service_is_named() {
    for refusal in [TokenRefusal::NoMetadataService, TokenRefusal::Proxy] {
        in_both_worlds(async |world| {
            let emulator = azure();
            let half = [("IDENTITY_HEADER", "a-header-without-its-endpoint")];
            let gateway = Gateway::new(world, &emulator, Source::Imds, &half);
            emulator.fault(Fault::new(Upstream::Token, Effect::RefuseToken(refusal)));
            let response = gateway.post().await;
            response.expect((503, "Unavailable"), (world, refusal));
            assert_eq!(
                (response.field("retry-after"), calls(&emulator)),
                ("1", (1, 0)),
                "{world:?} {refusal:?}"
            );
            tokio::time::sleep(Duration::from_secs(60)).await;
            let ready = http::Request::get("/readyz").header("host", "gateway");
            let ready = gateway.send(ready.body(crate::gateway::full("")).unwrap()).await;
            ready.expect((503, "Unavailable"), (world, refusal));
            let message = ready.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.ends_with("Set and not used: IDENTITY_HEADER."), "{message}");
            let log = gateway.log();
            assert!(log.contains("there is no metadata service at its address (imds, status 40"), "{log}");
            assert!(log.contains(r#""unused":["IDENTITY_HEADER"]"#), "{log}");
        });
    }
}

#[test]
fn incomplete_settings_of_a_token_source_are_ignored() {
    let [imds, newer] = [Source::Imds, Source::AppService2019];
    for (source, setting, value) in [
        (imds, "IDENTITY_HEADER", "a-header-without-its-endpoint"),
        (imds, "MSI_SECRET", "a-secret-without-its-endpoint"),
        (imds, "IDENTITY_ENDPOINT", "http://192.0.2.1/an-endpoint-without-its-header"),
        (imds, "AZURE_CLIENT_SECRET", "a-secret-without-its-tenant"),
        (imds, "IMDS_ENDPOINT", "http://192.0.2.1/"),
        (imds, "IDENTITY_SERVER_THUMBPRINT", "a6f221acd0"),
        (newer, "MSI_ENDPOINT", "http://127.0.0.1:1"),
    ] {
        in_both_worlds(async |world| {
            let emulator = azure();
            let more = [(setting, value), ("GATEWAY_LOG", "debug")];
            let gateway = Gateway::new(world, &emulator, source, &more);
            gateway.post().await.expect((200, ""), (world, setting));
            assert_eq!(calls(&emulator), (1, 1), "{world:?} {setting}");
        });
    }
}

#[test]
fn an_unsupported_platform_is_a_configuration_error() {
    let (endpoint, header) =
        (("IDENTITY_ENDPOINT", "http://192.0.2.1/"), ("IDENTITY_HEADER", "a-header-of-it"));
    let fabric = [endpoint, header, ("IDENTITY_SERVER_THUMBPRINT", "a6f221acd0")];
    let arc = [endpoint, ("IMDS_ENDPOINT", "http://192.0.2.1/")];
    let hsm = [("KeyVaultUri", "https://my-hsm.managedhsm.azure.net/")];
    for (settings, named, says) in [
        (&fabric[..], "IDENTITY_SERVER_THUMBPRINT", "Service Fabric"),
        (&arc, "IMDS_ENDPOINT", "Azure Arc"),
        (&hsm, "KeyVaultUri", "Managed HSM"),
    ] {
        in_both_worlds(async |world| {
            let emulator = azure();
            let mut all = vec![("GATEWAY_KEY", KEY.to_owned())];
            if named != "KeyVaultUri" {
                all.push(("KeyVaultUri", "https://demo.vault.azure.net/".to_owned()));
            }
            all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
            let response = Gateway::start(world, &emulator, &all).post().await;
            response.expect((500, "ConfigurationError"), (world, named));
            let message = response.json()["error"]["message"].as_str().unwrap().to_owned();
            let starts = message.starts_with(&format!("The setting {named} "));
            assert!(starts && message.contains(says), "{message}");
            assert_eq!((response.took, calls(&emulator)), (Duration::ZERO, (0, 0)), "{world:?} {named}");
        });
    }
}

#[test]
fn a_late_metadata_service_is_retried() {
    for effect in [Effect::CutBeforeHeaders, Effect::Status(http::StatusCode::NOT_FOUND)] {
        in_both_worlds(async |world| {
            // Backoff and the pauses of the circuit breaker have jitter. After a call that fails within four
            // seconds, the longest pause is five, so that there is time for another call.
            for _ in 0..5 {
                let emulator = azure();
                let gateway = Gateway::new(world, &emulator, Source::Imds, &[]);
                emulator.fault(Fault::new(Upstream::Token, effect.clone()).lasting(Duration::from_secs(4)));
                let response = gateway.post().await;
                response.expect((200, ""), (world, &effect));
                assert!(response.took >= Duration::from_secs(4), "{world:?} {effect:?} {:?}", response.took);
            }
        });
    }
}

#[test]
fn byte_order_marks_are_ignored() {
    in_both_worlds(async |world| {
        let emulator = azure();
        let gateway = Gateway::new(world, &emulator, Source::AppService2019, &[]);
        emulator.fault(Fault::new(Upstream::Any, Effect::ByteOrderMark));
        gateway.post().await.expect((200, ""), world);
        gateway.post_for("not-there").await.expect((404, "SecretNotFound"), world);
    });
}
