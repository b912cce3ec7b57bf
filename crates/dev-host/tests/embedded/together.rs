//! Requests at the same time.

use std::sync::Arc;
use std::time::Duration;

use keyvault_emulator::{Effect, Emulator, Fault, Source, Upstream};
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::{Answer, Gateway, World, both, calls, in_virtual_time, request_for};

#[test]
fn sixteen_at_the_same_time_get_each_its_own_secret() {
    for delayed in [None, Some(Upstream::Any)] {
        both(async |world| {
            let emulator = vault();
            if let Some(upstream) = delayed {
                emulator.fault(Fault::new(upstream, Effect::Truth).delay(DELAY));
            }
            let gateway = gateway(world, &emulator);
            let start = Instant::now();
            let answers = ask_for_all(&gateway, name).await;
            let took = start.elapsed();
            for (number, answer) in answers.iter().enumerate() {
                assert_eq!(value(answer), format!("value-{number}"), "{world:?} {delayed:?}");
            }
            gateway.settle().await;
            // An instance of 0.2 answers one at a time, and so each has its own.
            let instances = if world == World::Proxy && delayed.is_some() { MANY } else { 1 };
            assert_eq!(gateway.instances(), instances, "{world:?} {delayed:?}");
            assert!(took <= 2 * DELAY + Duration::from_millis(100), "{world:?} {delayed:?} {took:?}");
        });
    }
}

/// Single-flight: also where the call fails, and where its leader is cancelled, whose place one of the waiters takes.
#[test]
fn reads_of_one_secret_share_a_call_and_what_comes_of_it() {
    for (effect, leader_goes) in [(Effect::Truth, false), (Effect::Truth, true), (Effect::BrokenJson, false)]
    {
        in_virtual_time(async {
            let emulator = vault();
            emulator.fault(Fault::new(Upstream::Vault, effect.clone()).delay(DELAY));
            let gateway = gateway(World::Service, &emulator);
            let patience = if leader_goes { DELAY / 2 } else { 10 * DELAY };
            let leader = timeout(patience, ask_for(&gateway, name(0)));
            let (leader, answers) = tokio::join!(leader, ask_for_all(&gateway, |_| name(0)));
            assert_eq!(leader.is_err(), leader_goes);
            for answer in &answers {
                match effect {
                    Effect::Truth => assert_eq!(value(answer), "value-0"),
                    _ => answer.expect((502, "VaultError"), leader_goes),
                }
            }
            gateway.settle().await;
            assert_eq!(gateway.instances(), 1);
            assert!(calls(&emulator).1 <= 1 + usize::from(leader_goes), "{:?}", calls(&emulator));
        });
    }
}

/// One after the other, so close that all of them wait at the same time; only an instance that waits takes another.
async fn ask_for_all(gateway: &Arc<Gateway>, name: impl Fn(usize) -> String) -> Vec<Answer> {
    let mut tasks = Vec::new();
    for number in 0..MANY {
        let (gateway, name) = (Arc::clone(gateway), name(number));
        tasks.push(tokio::spawn(async move { ask_for(&gateway, name).await }));
        sleep(Duration::from_millis(1)).await;
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

async fn ask_for(gateway: &Gateway, name: String) -> Answer {
    gateway.begin(request_for(&name)).await
}

fn value(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["Value"].as_str().expect("a text").to_owned()
}

fn vault() -> Emulator {
    let emulator = Emulator::new();
    for number in 0..MANY {
        emulator.set_secret(&name(number), &format!("value-{number}")).unwrap();
    }
    emulator
}

fn name(number: usize) -> String {
    format!("secret-{number}")
}

fn gateway(world: World, emulator: &Emulator) -> Arc<Gateway> {
    Arc::new(Gateway::of(world, emulator, Source::AppService2019, &[]))
}

const MANY: usize = 16;

const DELAY: Duration = Duration::from_secs(1);
