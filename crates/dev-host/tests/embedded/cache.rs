//! Values over time: refresh-ahead, stale-if-error, eviction.

use std::time::Duration;

use keyvault_emulator::{Effect, Fault, Refusal, Source, Upstream};
use tokio::time::{Instant, sleep};

use crate::gateway::{Gateway, SECRETS, World, azure, both, calls, in_virtual_time, request_for};

/// Only under WASI 0.3 does anything go on after an answer.
#[test]
fn a_client_that_asks_all_the_time_never_waits_for_the_vault_however_slow_it_is() {
    for delay in [0, 3] {
        in_virtual_time(async {
            let emulator = azure();
            let gateway = Gateway::of(World::Service, &emulator, Source::AppService2019, &[TTL_OF_300]);
            assert_eq!(gateway.ask().await.field("cache-status"), "keyvault-gateway; fwd=miss");
            let start = Instant::now();
            emulator.set_secret(SECRETS[0], RENEWED).unwrap();
            gateway.hold(SECRETS[0], RENEWED);
            emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(delay)));
            let renewed = loop {
                sleep(Duration::from_millis(250)).await;
                // The instance may be at something else.
                let answer = gateway.begin(request_for(SECRETS[0])).await;
                let status = answer.field("cache-status");
                assert!(status.starts_with("keyvault-gateway; hit; ttl="), "{answer:?}");
                assert_eq!((answer.status, answer.took), (200, Duration::ZERO), "{answer:?}");
                if answer.json()["Value"] == RENEWED {
                    break answer;
                }
                assert!(start.elapsed() < 2 * TTL, "it is never renewed");
            };
            // Its age begins with the call for it.
            assert_eq!(renewed.field("age"), delay.to_string());
            // In the last tenth of a TTL that is up to a tenth more or less than the one that is set.
            let called = start.elapsed() - Duration::from_secs(delay);
            assert!((TTL * 81 / 100..TTL * 111 / 100).contains(&called), "{called:?}");
            gateway.settle().await;
            assert_eq!((calls(&emulator), gateway.instances()), ((1, 2), 1));
        });
    }
}

/// To a request that wants a fresh value, too, unless the vault has answered and failed (docs/behaviour.md). After a 403 there
/// is nothing left to serve.
#[test]
fn a_value_is_served_stale_and_marked_until_the_stale_time_is_over_or_the_vault_refuses_it() {
    for (effect, also_fresh) in
        [(Effect::CutBeforeHeaders, true), (Effect::Refuse(Refusal::Throttled), false)]
    {
        both(async |world| {
            let emulator = azure();
            let settings = [TTL_OF_300, ("GATEWAY_STALE_SECONDS", "600")];
            let gateway = Gateway::of(world, &emulator, Source::AppService2019, &settings);
            gateway.ask().await.expect((200, ""), world);
            emulator.fault(Fault::new(Upstream::Vault, effect.clone()));
            for pause in [331, 400] {
                sleep(Duration::from_secs(pause)).await;
                for (answer, is_served) in
                    [(gateway.ask().await, true), (gateway.ask_past_the_cache().await, also_fresh)]
                {
                    let case = format!("{world:?} {effect:?} {answer:?}");
                    assert_eq!(answer.status, if is_served { 200 } else { 503 }, "{case}");
                    let status = answer.field("cache-status");
                    assert_eq!(status.ends_with("detail=failed"), is_served, "{case}");
                    assert!(!is_served || status.contains("ttl=-"), "{case}");
                }
            }
            // Its TTL is up to a tenth more or less, and with the stale time ends after 930 seconds at the latest.
            sleep(Duration::from_secs(210)).await;
            assert_eq!(gateway.ask().await.status, 503, "{world:?} {effect:?}");
            emulator.clear_faults();
            sleep(Duration::from_secs(60)).await;
            let well = gateway.ask().await;
            well.expect((200, ""), world);
            assert_eq!(well.field("age"), "0", "{world:?}");
            sleep(Duration::from_secs(10)).await;
            emulator.fault(Fault::refuse(Refusal::ForbiddenByRbac));
            gateway.ask_past_the_cache().await.expect((403, "VaultAccessDenied"), world);
            emulator.clear_faults();
            emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
            sleep(Duration::from_secs(60)).await;
            gateway.ask().await.expect((503, "Unavailable"), world);
        });
    }
}

const TTL: Duration = Duration::from_secs(300);

const TTL_OF_300: (&str, &str) = ("GATEWAY_CACHE_TTL_SECONDS", "300");

const RENEWED: &str = "4c90-value-after-the-first";
