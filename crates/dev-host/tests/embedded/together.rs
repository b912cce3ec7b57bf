//! Requests at the same time.

use std::sync::Arc;
use std::time::Duration;

use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Source, Upstream};
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::{Answer, BOTH, Gateway, World, full, in_virtual_time, request, settings};

#[test]
fn sixteen_at_the_same_time_get_each_its_own_secret() {
    for delayed in [None, Some(Upstream::Token), Some(Upstream::Vault), Some(Upstream::Any)] {
        for world in BOTH {
            in_virtual_time(async {
                let emulator = vault();
                if let Some(upstream) = delayed {
                    emulator.fault(Fault::new(upstream, Effect::Truth).delay(DELAY));
                }
                let gateway = gateway(world, &emulator);
                let start = Instant::now();
                let answers = ask_for_all(&gateway).await;
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
}

#[test]
fn one_that_fails_or_hangs_does_not_touch_the_others() {
    in_virtual_time(async {
        let emulator = vault();
        let at_vault = |number: usize, effect| Fault::new(Upstream::Vault, effect).secret(&name(number));
        emulator.fault(at_vault(1, Effect::HangBeforeHeaders));
        emulator.fault(at_vault(2, Effect::HangWithinBody));
        emulator.fault(at_vault(3, Effect::BrokenJson));
        emulator.fault(at_vault(4, Effect::HugeChunkedBody(1024 * 1024)));
        emulator.fault(at_vault(5, Effect::Refuse(Refusal::SecretNotFound)));
        // The first token is refused once, so that it is replaced under way.
        emulator.fault(at_vault(6, Effect::Refuse(Refusal::ExpiredToken)).times(1));
        emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(DELAY));
        let gateway = gateway(World::Service, &emulator);
        let answers = ask_for_all(&gateway).await;
        for (number, answer) in answers.iter().enumerate() {
            let expected = match number {
                1 | 2 => 504,
                3 | 4 => 502,
                5 => 404,
                _ => 200,
            };
            assert_eq!(answer.status, expected, "{number}: {answer:?}");
            if expected == 200 {
                assert_eq!(value(answer), format!("value-{number}"));
            }
        }
        gateway.settle().await;
        assert_eq!(gateway.instances(), 1);
    });
}

#[test]
fn a_client_that_goes_away_does_not_touch_the_others() {
    for delayed in [Upstream::Token, Upstream::Vault] {
        in_virtual_time(async {
            let emulator = vault();
            emulator.fault(Fault::new(delayed, Effect::Truth).delay(DELAY));
            let gateway = gateway(World::Service, &emulator);
            let gone = timeout(DELAY / 2, ask_for(&gateway, 0));
            let (gone, answers) = tokio::join!(gone, ask_for_all(&gateway));
            assert!(gone.is_err(), "{delayed:?}");
            for (number, answer) in answers.iter().enumerate() {
                assert_eq!(value(answer), format!("value-{number}"), "{delayed:?}");
            }
            gateway.settle().await;
            assert_eq!(gateway.instances(), 1, "{delayed:?}");
        });
    }
}

/// One after the other, so close that all of them wait at the same time; only an instance that waits takes another.
async fn ask_for_all(gateway: &Arc<Gateway>) -> Vec<Answer> {
    let mut tasks = Vec::new();
    for number in 0..MANY {
        let gateway = Arc::clone(gateway);
        tasks.push(tokio::spawn(async move { ask_for(&gateway, number).await }));
        sleep(Duration::from_millis(1)).await;
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

async fn ask_for(gateway: &Gateway, number: usize) -> Answer {
    gateway.begin(request(full(format!(r#"{{"Secret":"{}"}}"#, name(number))))).await
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
    Arc::new(Gateway::start(world, emulator, &settings(emulator, Source::AppService2019)))
}

const MANY: usize = 16;

const DELAY: Duration = Duration::from_secs(1);
