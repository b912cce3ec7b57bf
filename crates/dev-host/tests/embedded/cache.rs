//! The cache over time: refresh-ahead, stale-if-error, eviction.

use std::time::Duration;

use keyvault_emulator::{Effect, Fault, Refusal, Source, Upstream};
use tokio::time::{Instant, sleep};

use crate::gateway::{Gateway, SECRETS, World, azure, calls, in_both_worlds, in_virtual_time, request_for};

/// Only WASI 0.3 allows work after the response.
#[test]
fn refresh_ahead_keeps_every_read_a_cache_hit() {
    for delay in [0, 3] {
        in_virtual_time(async {
            let emulator = azure();
            let gateway = Gateway::new(World::Service, &emulator, Source::AppService2019, &[TTL_OF_300]);
            assert_eq!(gateway.post().await.field("cache-status"), "keyvault-gateway; fwd=miss");
            let start = Instant::now();
            emulator.set_secret(SECRETS[0], REFRESHED).unwrap();
            gateway.leaks().add_value(SECRETS[0], REFRESHED);
            emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(delay)));
            let refreshed = loop {
                sleep(Duration::from_millis(250)).await;
                // The instance may be serving a refresh.
                let response = gateway.exchange(request_for(SECRETS[0])).await;
                let status = response.field("cache-status");
                assert!(status.starts_with("keyvault-gateway; hit; ttl="), "{response:?}");
                assert_eq!((response.status, response.took), (200, Duration::ZERO), "{response:?}");
                if response.json()["Value"] == REFRESHED {
                    break response;
                }
                assert!(start.elapsed() < 2 * TTL, "the value was never refreshed");
            };
            // The age starts at the call to the vault.
            assert_eq!(refreshed.field("age"), delay.to_string());
            // Refresh-ahead starts in the last tenth of the TTL, which has a jitter of up to a tenth.
            let called = start.elapsed() - Duration::from_secs(delay);
            assert!((TTL * 81 / 100..TTL * 111 / 100).contains(&called), "{called:?}");
            gateway.wait_until_idle().await;
            assert_eq!((calls(&emulator), gateway.instances()), ((1, 2), 1));
        });
    }
}

/// A request for a fresh value is served stale, too, unless the vault has responded with an error
/// (docs/explanation/caching-and-resilience.md). A 403 evicts the value.
#[test]
fn an_expired_value_is_served_stale_until_its_limit_or_a_403() {
    for (effect, also_fresh) in
        [(Effect::CutBeforeHeaders, true), (Effect::Refuse(Refusal::Throttled), false)]
    {
        in_both_worlds(async |world| {
            let emulator = azure();
            let settings = [TTL_OF_300, ("GATEWAY_STALE_SECONDS", "600")];
            let gateway = Gateway::new(world, &emulator, Source::AppService2019, &settings);
            gateway.post().await.expect((200, ""), world);
            emulator.fault(Fault::new(Upstream::Vault, effect.clone()));
            for pause in [331, 400] {
                sleep(Duration::from_secs(pause)).await;
                for (response, is_served) in
                    [(gateway.post().await, true), (gateway.post_no_cache().await, also_fresh)]
                {
                    let case = format!("{world:?} {effect:?} {response:?}");
                    assert_eq!(response.status, if is_served { 200 } else { 503 }, "{case}");
                    let status = response.field("cache-status");
                    assert_eq!(status.ends_with("detail=failed"), is_served, "{case}");
                    assert!(!is_served || status.contains("ttl=-"), "{case}");
                }
            }
            // With its jitter the TTL ends after 330 seconds, and stale-if-error after 930 seconds.
            sleep(Duration::from_secs(210)).await;
            assert_eq!(gateway.post().await.status, 503, "{world:?} {effect:?}");
            emulator.clear_faults();
            sleep(Duration::from_secs(60)).await;
            let recovered = gateway.post().await;
            recovered.expect((200, ""), world);
            assert_eq!(recovered.field("age"), "0", "{world:?}");
            sleep(Duration::from_secs(10)).await;
            emulator.fault(Fault::refuse(Refusal::ForbiddenByRbac));
            gateway.post_no_cache().await.expect((403, "VaultAccessDenied"), world);
            emulator.clear_faults();
            emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
            sleep(Duration::from_secs(60)).await;
            gateway.post().await.expect((503, "Unavailable"), world);
        });
    }
}

const TTL: Duration = Duration::from_secs(300);

const TTL_OF_300: (&str, &str) = ("GATEWAY_CACHE_TTL_SECONDS", "300");

const REFRESHED: &str = "4c90-value-after-the-first";
