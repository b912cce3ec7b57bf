//! What is kept in Spin's store for the next instance, and what becomes of it in other hands.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Source, Upstream, UserAssigned, facts};
use tokio::time::sleep;
use wasmtime_wasi_http::WasiBody;

use crate::gateway::{
    BOTH, Gateway, KEY, REQUEST, SECRETS, World, azure, full, in_virtual_time, request, settings,
};
use crate::wasmtime_host::SPIN;

#[test]
fn a_hundred_reads_in_a_hundred_instances_make_one_token_call_and_one_vault_call() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        for _ in 0..100 {
            assert_eq!(gateway.ask().await.outcome(), (200, String::new()));
        }
        assert_eq!(gateway.instances(), 100);
        assert_eq!(calls(&emulator), (1, 1));
    });
}

#[test]
fn without_the_settings_nothing_is_kept() {
    for world in SPIN {
        in_virtual_time(async {
            let emulator = azure();
            let gateway = Gateway::start(world, &emulator, &settings(&emulator, Source::AppService2019));
            assert_eq!(gateway.ask().await.outcome(), (200, String::new()));
            assert!(gateway.stores().entries().is_empty(), "{world:?}");
            assert_eq!(gateway.stores().asked.load(Ordering::Relaxed), 0, "{world:?}");
        });
    }
}

#[test]
fn ages_and_limits_are_those_of_memory() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        for (seconds, cache, calls_so_far) in [
            (0, "fwd=miss", (1, 1)),
            (100, "hit", (1, 1)),
            // Past its TTL of 300 seconds and a tenth, the vault is asked again, with the token that is kept.
            (331, "fwd=stale", (1, 2)),
            (100, "hit", (1, 2)),
        ] {
            sleep(Duration::from_secs(seconds)).await;
            let answer = gateway.ask().await;
            assert_eq!(answer.outcome(), (200, String::new()));
            assert!(answer.field("cache-status").contains(cache), "{seconds}: {answer:?}");
            let age: u64 = answer.field("age").parse().unwrap();
            let right = if cache == "hit" { 100..=101 } else { 0..=0 };
            assert!(right.contains(&age), "{seconds}: {age}");
            assert_eq!(calls(&emulator), calls_so_far, "{seconds}");
        }
        // While Azure fails, what is kept is served past its time, and a no drops it.
        sleep(Duration::from_secs(400)).await;
        emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
        let answer = gateway.ask().await;
        assert_eq!(answer.outcome(), (200, String::new()));
        assert!(answer.field("cache-status").contains("detail=failed"), "{answer:?}");
        emulator.clear_faults();
        emulator.fault(Fault::new(Upstream::Vault, Effect::Refuse(Refusal::SecretDisabled)));
        assert_eq!(gateway.ask().await.outcome(), (403, "SecretDisabled".to_owned()));
        emulator.clear_faults();
        emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
        assert_eq!(
            gateway.ask().await.outcome(),
            (503, "Unavailable".to_owned()),
            "there is nothing left to serve"
        );
    });
}

#[test]
fn a_fresh_value_can_be_asked_for_past_the_store() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        gateway.ask().await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!(gateway.send(past_the_store()).await.outcome(), (200, String::new()));
        assert_eq!(calls(&emulator), (1, 2));
    });
}

#[test]
fn a_token_that_the_vault_refuses_is_dropped_from_the_store() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        gateway.ask().await;
        emulator.fault(Fault::new(Upstream::Vault, Effect::Refuse(Refusal::ExpiredToken)).times(1));
        assert_eq!(gateway.ask_for(SECRETS[1]).await.outcome(), (200, String::new()));
        assert_eq!(gateway.ask_for(SECRETS[2]).await.outcome(), (200, String::new()));
        assert_eq!(calls(&emulator), (2, 4), "the new token is kept for the third");
    });
}

#[test]
fn whoever_reads_the_store_learns_nothing() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        for secret in SECRETS {
            gateway.ask_for(secret).await;
        }
        let entries = gateway.stores().entries();
        assert_eq!(entries.len(), 1 + SECRETS.len());
        let text: Vec<u8> =
            entries.iter().flat_map(|(name, value)| [name.as_bytes(), value].concat()).collect();
        let tokens = emulator.tokens();
        let private = SECRETS.iter().flat_map(|it| [*it, crate::gateway::value_of(it)]).chain([
            KEY,
            "demo.vault",
            STORE_KEY,
        ]);
        let private = private.filter(|it| it.len() > 1).map(str::to_owned).chain(tokens);
        for text_of_ours in private {
            let found =
                text.windows(text_of_ours.len()).any(|it| it.eq_ignore_ascii_case(text_of_ours.as_bytes()));
            assert!(!found, "{text_of_ours}");
        }
    });
}

#[test]
fn whoever_writes_to_the_store_can_plant_nothing() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        for secret in SECRETS {
            gateway.ask_for(secret).await;
        }
        let right = gateway.stores().entries();
        let names: Vec<_> = right.keys().cloned().collect();
        // Each entry in the place of the next, with one byte changed, shortened, longer, empty, with another end, and gone.
        let changed = |change: &dyn Fn(usize, &mut Vec<u8>)| -> BTreeMap<String, Vec<u8>> {
            let mut entries = right.clone();
            entries.values_mut().enumerate().for_each(|(index, it)| change(index, it));
            entries
        };
        let next = |index: usize| right[&names[(index + 1) % names.len()]].clone();
        let lies = [
            changed(&|index, it| *it = next(index)),
            changed(&|_, it| it[40] ^= 1),
            changed(&|_, it| it.truncate(20)),
            changed(&|_, it| it.push(0)),
            changed(&|_, it| it.clear()),
            changed(&|_, it| it[1..9].fill(0x7F)),
            BTreeMap::new(),
        ];
        for (number, lie) in lies.into_iter().enumerate() {
            for secret in SECRETS {
                gateway.stores().replace(lie.clone());
                let before = calls(&emulator);
                assert_eq!(
                    gateway.ask_for(secret).await.outcome(),
                    (200, String::new()),
                    "{number} {secret}"
                );
                let (tokens, reads) = calls(&emulator);
                assert_eq!(
                    (tokens - before.0, reads - before.1),
                    (1, 1),
                    "{number} {secret}: it is only a cold read"
                );
            }
        }
        gateway.stores().replace(right);
        let before = calls(&emulator);
        assert_eq!(gateway.ask().await.outcome(), (200, String::new()));
        assert_eq!(calls(&emulator), before, "what was sealed is good as ever");
    });
}

#[test]
fn a_store_that_fails_makes_reads_cold_and_nothing_else() {
    for world in SPIN {
        in_virtual_time(async {
            let emulator = azure();
            let gateway = gateway_of(world, &emulator, STORE_KEY);
            gateway.stores().fail.store(true, Ordering::Relaxed);
            for secret in SECRETS {
                assert_eq!(gateway.ask_for(secret).await.outcome(), (200, String::new()), "{world:?}");
            }
            assert_eq!(calls(&emulator).1, SECRETS.len(), "{world:?}");
        });
    }
}

#[test]
fn a_store_that_drops_nothing_makes_reads_cold_and_serves_nothing_after_a_no() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        gateway.stores().keep_all.store(true, Ordering::Relaxed);
        gateway.ask().await;
        emulator.fault(Fault::new(Upstream::Vault, Effect::Refuse(Refusal::ExpiredToken)).times(1));
        assert_eq!(gateway.ask_for(SECRETS[1]).await.outcome(), (200, String::new()));
        assert_eq!(calls(&emulator), (2, 3), "the refused token is not taken from the store again");
        emulator.fault(Fault::new(Upstream::Vault, Effect::Refuse(Refusal::SecretDisabled)));
        sleep(Duration::from_secs(10)).await;
        assert_eq!(gateway.send(past_the_store()).await.outcome(), (403, "SecretDisabled".to_owned()));
        assert_eq!(gateway.ask().await.outcome(), (403, "SecretDisabled".to_owned()));
    });
}

/// A token of a day is renewed at half of its life; until its end it will do where there is no new one.
#[test]
fn an_old_token_of_the_store_will_do_while_there_is_no_new_one() {
    in_virtual_time(async {
        let emulator = azure();
        emulator.configure(|it| it.lifetime = Some(24 * 60 * 60));
        let gateway = gateway(&emulator);
        gateway.ask().await;
        emulator.fault(Fault::new(Upstream::Token, Effect::CutBeforeHeaders));
        sleep(Duration::from_secs(13 * 60 * 60)).await;
        assert_eq!(gateway.ask_for(SECRETS[1]).await.outcome(), (200, String::new()));
        sleep(Duration::from_secs(12 * 60 * 60)).await;
        assert_eq!(gateway.ask_for(SECRETS[2]).await.outcome(), (503, "Unavailable".to_owned()));
    });
}

#[test]
fn entries_have_a_bound_and_those_of_others_stay() {
    in_virtual_time(async {
        let emulator = azure();
        // Its tokens end before a value does.
        let mut settings = settings(&emulator, Source::ClientSecret);
        settings.push(("GATEWAY_STORE", "default".to_owned()));
        settings.push(("GATEWAY_STORE_KEY", STORE_KEY.to_owned()));
        settings.push(("GATEWAY_CACHE_ENTRIES", "5".to_owned()));
        let gateway = Gateway::start(World::ProxyOnSpin, &emulator, &settings);
        let others: BTreeMap<_, _> = (0..50).map(|it| (format!("other-{it}"), vec![1])).collect();
        gateway.stores().replace(others.clone());
        for number in 0..20 {
            let (name, value) = (format!("secret-{number}"), format!("value-number-{number}"));
            emulator.set_secret(&name, &value).unwrap();
            gateway.hold(&name, &value);
            assert_eq!(gateway.ask_for(&name).await.status, 200);
            let entries = gateway.stores().entries();
            assert!(others.keys().all(|it| entries.contains_key(it)), "{number}");
            assert!(entries.len() <= others.len() + 6, "{number}: {}", entries.len());
        }
        assert_eq!(calls(&emulator), (1, 20), "the token is never driven out");
        assert_eq!(gateway.ask_for("secret-19").await.status, 200);
        assert_eq!(calls(&emulator), (1, 20), "the newest is there");
    });
}

#[test]
fn what_is_over_is_dropped_when_somebody_asks() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        gateway.ask().await;
        let before = gateway.stores().entries();
        sleep(Duration::from_secs(3 * 24 * 60 * 60)).await;
        emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
        assert_eq!(gateway.ask().await.status, 503);
        let after = gateway.stores().entries();
        // A new token is there, the value is not.
        assert_eq!((before.len(), after.len()), (2, 1));
    });
}

#[test]
fn another_key_another_vault_and_another_identity_have_nothing_in_common() {
    in_virtual_time(async {
        let emulator = azure();
        let first = gateway(&emulator);
        first.ask().await;
        let entries = first.stores().entries();
        let other_key = settings_of(&emulator, "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let mut other_vault = settings_of(&emulator, STORE_KEY);
        other_vault[0].1 = "https://other.vault.azure.net/".to_owned();
        let mut other_identity = settings_of(&emulator, STORE_KEY);
        emulator.configure(|it| {
            it.user_assigned = vec![UserAssigned {
                client_id: facts::APP_ID.to_owned(),
                object_id: facts::OBJECT_ID.to_owned(),
                resource_id: "/subscriptions/s".to_owned(),
            }];
        });
        other_identity.push(("AZURE_CLIENT_ID", facts::APP_ID.to_owned()));
        for (settings, expected) in [(other_key, (1, 1)), (other_vault, (0, 1)), (other_identity, (1, 1))] {
            let other = Gateway::start(World::ProxyOnSpin, &emulator, &settings);
            other.stores().replace(entries.clone());
            let before = calls(&emulator);
            assert_eq!(other.ask().await.outcome(), (200, String::new()));
            let (tokens, reads) = calls(&emulator);
            assert_eq!((tokens - before.0, reads - before.1), expected);
        }
    });
}

#[test]
fn a_build_without_a_store_says_so() {
    for world in BOTH {
        in_virtual_time(async {
            let emulator = azure();
            let answer = Gateway::start(world, &emulator, &settings_of(&emulator, STORE_KEY)).ask().await;
            assert_eq!(answer.outcome(), (500, "ConfigurationError".to_owned()), "{world:?}");
            assert!(answer.json()["error"]["message"].to_string().contains("GATEWAY_STORE "), "{world:?}");
        });
    }
}

#[test]
fn a_store_that_the_manifest_does_not_name_is_no_store_and_said_to_be_none() {
    for world in SPIN {
        in_virtual_time(async {
            let emulator = azure();
            let mut settings = settings_of(&emulator, STORE_KEY);
            settings.push(("GATEWAY_STORE", "defualt".to_owned()));
            let answer = Gateway::start(world, &emulator, &settings).ask().await;
            assert_eq!(answer.outcome(), (500, "ConfigurationError".to_owned()), "{world:?}");
            assert!(answer.json()["error"]["message"].to_string().contains("GATEWAY_STORE "), "{world:?}");
            assert_eq!(calls(&emulator), (0, 0), "{world:?}");
        });
    }
}

/// The function's test request, for a value that has just been read.
fn past_the_store() -> Request<WasiBody> {
    let mut request = request(full(REQUEST));
    request.headers_mut().insert("cache-control", "no-cache".parse().unwrap());
    request
}

fn gateway(emulator: &Emulator) -> Gateway {
    gateway_of(World::ProxyOnSpin, emulator, STORE_KEY)
}

fn gateway_of(world: World, emulator: &Emulator, key: &str) -> Gateway {
    Gateway::start(world, emulator, &settings_of(emulator, key))
}

fn settings_of(emulator: &Emulator, key: &str) -> Vec<(&'static str, String)> {
    let mut settings = settings(emulator, Source::AppService2019);
    settings.push(("GATEWAY_STORE", "default".to_owned()));
    settings.push(("GATEWAY_STORE_KEY", key.to_owned()));
    settings
}

/// How often the token source and the vault were asked.
fn calls(emulator: &Emulator) -> (usize, usize) {
    (emulator.token_calls().len(), emulator.vault_calls().len())
}

const STORE_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
