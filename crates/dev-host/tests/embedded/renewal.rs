//! What goes on after an answer: a value is renewed before its time is over.

use std::time::Duration;

use keyvault_emulator::{Effect, Fault, Source, Upstream};
use tokio::time::{Instant, sleep};

use crate::gateway::{
    Answer, Gateway, REQUEST, SECRETS, World, azure, full, in_virtual_time, request, settings,
};

/// Only under WASI 0.3 does anything go on after an answer.
#[test]
fn whoever_asks_all_the_time_never_waits_for_the_vault_however_slow_it_is() {
    for delay in [0, 3] {
        in_virtual_time(async {
            let emulator = azure();
            let mut settings = settings(&emulator, Source::AppService2019);
            settings.push(("GATEWAY_CACHE_TTL_SECONDS", TTL.as_secs().to_string()));
            let gateway = Gateway::start(World::Service, &emulator, &settings);
            let first = ask(&gateway).await;
            assert_eq!(first.field("cache-status"), "keyvault-gateway; fwd=miss");
            let start = Instant::now();
            emulator.set_secret(SECRETS[0], RENEWED).unwrap();
            gateway.hold(SECRETS[0], RENEWED);
            emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(delay)));

            let renewed = loop {
                sleep(Duration::from_millis(250)).await;
                let answer = ask(&gateway).await;
                assert!(
                    answer.field("cache-status").starts_with("keyvault-gateway; hit; ttl="),
                    "{answer:?}"
                );
                assert_eq!(answer.took, Duration::ZERO, "{answer:?}");
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
            assert_eq!((emulator.token_calls().len(), emulator.vault_calls().len()), (1, 2));
            assert_eq!(gateway.instances(), 1);
        });
    }
}

/// Asks while the instance may be at something else.
async fn ask(gateway: &Gateway) -> Answer {
    let answer = gateway.begin(request(full(REQUEST))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

const TTL: Duration = Duration::from_secs(300);

const RENEWED: &str = "4c90-value-after-the-first";
