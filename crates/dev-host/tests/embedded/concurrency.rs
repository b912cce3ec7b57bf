//! Concurrent requests and single-flight reads.

use std::sync::Arc;
use std::time::Duration;

use keyvault_emulator::{Effect, Emulator, Fault, Source, Upstream};
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::{Gateway, Response, World, calls, in_both_worlds, in_virtual_time, request_for};

#[test]
fn concurrent_requests_get_their_own_secrets() {
    for delayed in [None, Some(Upstream::Any)] {
        in_both_worlds(async |world| {
            let emulator = vault();
            if let Some(upstream) = delayed {
                emulator.fault(Fault::new(upstream, Effect::Truth).delay(DELAY));
            }
            let gateway = gateway(world, &emulator);
            let start = Instant::now();
            let responses = post_all(&gateway, name).await;
            let took = start.elapsed();
            for (number, response) in responses.iter().enumerate() {
                assert_eq!(value(response), format!("value-{number}"), "{world:?} {delayed:?}");
            }
            gateway.wait_until_idle().await;
            // WASI 0.2: one request at a time, and so an instance for each.
            let instances = if world == World::Proxy && delayed.is_some() { CLIENTS } else { 1 };
            assert_eq!(gateway.instances(), instances, "{world:?} {delayed:?}");
            assert!(took <= 2 * DELAY + Duration::from_millis(100), "{world:?} {delayed:?} {took:?}");
        });
    }
}

/// Single-flight: also if the call fails, and if the leader is cancelled and a waiter takes over.
#[test]
fn concurrent_reads_of_one_secret_share_one_call() {
    for (effect, cancelled) in [(Effect::Truth, false), (Effect::Truth, true), (Effect::BrokenJson, false)] {
        in_virtual_time(async {
            let emulator = vault();
            emulator.fault(Fault::new(Upstream::Vault, effect.clone()).delay(DELAY));
            let gateway = gateway(World::Service, &emulator);
            let client_timeout = if cancelled { DELAY / 2 } else { 10 * DELAY };
            let leader = timeout(client_timeout, post_for(&gateway, name(0)));
            let (leader, responses) = tokio::join!(leader, post_all(&gateway, |_| name(0)));
            assert_eq!(leader.is_err(), cancelled);
            for response in &responses {
                match effect {
                    Effect::Truth => assert_eq!(value(response), "value-0"),
                    _ => response.expect((502, "VaultError"), cancelled),
                }
            }
            gateway.wait_until_idle().await;
            assert_eq!(gateway.instances(), 1);
            assert!(calls(&emulator).1 <= 1 + usize::from(cancelled), "{:?}", calls(&emulator));
        });
    }
}

/// Sends requests so closely that all wait concurrently. An instance accepts a request only while it waits.
async fn post_all(gateway: &Arc<Gateway>, name: impl Fn(usize) -> String) -> Vec<Response> {
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let (gateway, name) = (Arc::clone(gateway), name(number));
        tasks.push(tokio::spawn(async move { post_for(&gateway, name).await }));
        sleep(Duration::from_millis(1)).await;
    }
    let mut responses = Vec::new();
    for task in tasks {
        responses.push(task.await.unwrap());
    }
    responses
}

async fn post_for(gateway: &Gateway, name: String) -> Response {
    gateway.exchange(request_for(&name)).await
}

fn value(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["Value"].as_str().expect("Value is a string").to_owned()
}

fn vault() -> Emulator {
    let emulator = Emulator::new();
    for number in 0..CLIENTS {
        emulator.set_secret(&name(number), &format!("value-{number}")).unwrap();
    }
    emulator
}

fn name(number: usize) -> String {
    format!("secret-{number}")
}

fn gateway(world: World, emulator: &Emulator) -> Arc<Gateway> {
    Arc::new(Gateway::new(world, emulator, Source::AppService2019, &[]))
}

const CLIENTS: usize = 16;

const DELAY: Duration = Duration::from_secs(1);
