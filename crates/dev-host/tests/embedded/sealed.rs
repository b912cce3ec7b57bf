//! What is kept in Spin's store for the next instance, and what becomes of it in other hands.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Source, Upstream, UserAssigned, facts};
use tokio::time::sleep;

use crate::gateway::{Gateway, KEY, SECRETS, World, azure, both, calls, in_virtual_time, settings, value_of};
use crate::spin::on_spin;

#[test]
fn a_hundred_reads_in_a_hundred_instances_make_one_token_call_and_one_vault_call() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        for number in 0..100 {
            gateway.ask().await.expect((200, ""), number);
        }
        assert_eq!((gateway.instances(), calls(&emulator)), (100, (1, 1)));
        sleep(Duration::from_secs(10)).await;
        gateway.ask_past_the_cache().await.expect((200, ""), "past the store");
        assert_eq!(calls(&emulator), (1, 2));
    });
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
            answer.expect((200, ""), seconds);
            assert!(answer.field("cache-status").contains(cache), "{seconds}: {answer:?}");
            let age: u64 = answer.field("age").parse().unwrap();
            let right = if cache == "hit" { 100..=101 } else { 0..=0 };
            assert!(right.contains(&age), "{seconds}: {age}");
            assert_eq!(calls(&emulator), calls_so_far, "{seconds}");
        }
        // While Azure fails, what is kept is served past its time, and a no drops it.
        sleep(Duration::from_secs(400)).await;
        let cut = Fault::new(Upstream::Vault, Effect::CutBeforeHeaders);
        emulator.fault(cut.clone());
        let answer = gateway.ask().await;
        answer.expect((200, ""), "stale");
        assert!(answer.field("cache-status").contains("detail=failed"), "{answer:?}");
        emulator.clear_faults();
        emulator.fault(Fault::refuse(Refusal::SecretDisabled));
        gateway.ask().await.expect((403, "SecretDisabled"), "a no");
        emulator.clear_faults();
        emulator.fault(cut);
        gateway.ask().await.expect((503, "Unavailable"), "there is nothing left to serve");
    });
}

#[test]
fn a_token_that_the_vault_refuses_is_replaced_in_the_store() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        gateway.ask().await.expect((200, ""), "first");
        emulator.fault(Fault::refuse(Refusal::ExpiredToken).times(1));
        gateway.ask_for(SECRETS[1]).await.expect((200, ""), "second");
        gateway.ask_for(SECRETS[2]).await.expect((200, ""), "third");
        assert_eq!(calls(&emulator), (2, 4), "the new token is kept for the third");
    });
}

#[test]
fn a_reader_of_the_store_learns_nothing() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        for secret in SECRETS {
            gateway.ask_for(secret).await.expect((200, ""), secret);
        }
        let entries = gateway.seen.stores.entries();
        assert_eq!(entries.len(), 1 + SECRETS.len());
        let all: Vec<u8> =
            entries.iter().flat_map(|(name, value)| [name.as_bytes(), value].concat()).collect();
        let private = [SECRETS[0], SECRETS[1], KEY, "demo.vault", STORE_KEY].map(str::to_owned).into_iter();
        for text in private.chain(SECRETS.map(|name| value_of(name).to_owned())).chain(emulator.tokens()) {
            let found = all.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()));
            assert!(!found, "{text}");
        }
    });
}

#[test]
fn a_writer_to_the_store_can_plant_nothing() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        for secret in SECRETS {
            gateway.ask_for(secret).await.expect((200, ""), secret);
        }
        let right = gateway.seen.stores.entries();
        let values: Vec<_> = right.values().cloned().collect();
        let changed = |change: &dyn Fn(usize, &mut Vec<u8>)| -> BTreeMap<String, Vec<u8>> {
            let mut entries = right.clone();
            entries.values_mut().enumerate().for_each(|(index, value)| change(index, value));
            entries
        };
        let lies = [
            ("the next one's", changed(&|index, it| *it = values[(index + 1) % values.len()].clone())),
            ("with one byte changed", changed(&|_, it| it[40] ^= 1)),
            ("shorter", changed(&|_, it| it.truncate(20))),
            ("longer", changed(&|_, it| it.push(0))),
            ("empty", changed(&|_, it| it.clear())),
            ("with another end", changed(&|_, it| it[1..9].fill(0x7F))),
            ("gone", BTreeMap::new()),
        ];
        for (lie, entries) in lies {
            for secret in SECRETS {
                gateway.seen.stores.replace(entries.clone());
                let before = calls(&emulator);
                gateway.ask_for(secret).await.expect((200, ""), (lie, secret));
                let only_cold = (before.0 + 1, before.1 + 1);
                assert_eq!(calls(&emulator), only_cold, "{lie} {secret}");
            }
        }
        gateway.seen.stores.replace(right);
        let before = calls(&emulator);
        gateway.ask().await.expect((200, ""), "sealed");
        assert_eq!(calls(&emulator), before, "what was sealed is good as ever");
    });
}

#[test]
fn a_store_that_drops_nothing_makes_reads_cold_and_serves_nothing_after_a_no() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = gateway(&emulator);
        gateway.seen.stores.keep_all.store(true, Ordering::Relaxed);
        gateway.ask().await.expect((200, ""), "first");
        emulator.fault(Fault::refuse(Refusal::ExpiredToken).times(1));
        gateway.ask_for(SECRETS[1]).await.expect((200, ""), "second");
        assert_eq!(calls(&emulator), (2, 3), "the refused token is not taken from the store again");
        emulator.fault(Fault::refuse(Refusal::SecretDisabled));
        sleep(Duration::from_secs(10)).await;
        gateway.ask_past_the_cache().await.expect((403, "SecretDisabled"), "past the store");
        gateway.ask().await.expect((403, "SecretDisabled"), "from the store");
    });
}

#[test]
fn entries_have_a_bound_and_those_of_others_stay() {
    in_virtual_time(async {
        let emulator = azure();
        // Its tokens end before a value does.
        let settings = [STORE[0], STORE[1], ("GATEWAY_CACHE_ENTRIES", "5")];
        let gateway = Gateway::of(World::ProxyOnSpin, &emulator, Source::ClientSecret, &settings);
        let others: BTreeMap<_, _> = (0..50).map(|number| (format!("other-{number}"), vec![1])).collect();
        gateway.seen.stores.replace(others.clone());
        for number in 0..20 {
            let (name, value) = (format!("secret-{number}"), format!("value-number-{number}"));
            emulator.set_secret(&name, &value).unwrap();
            gateway.hold(&name, &value);
            assert_eq!(gateway.ask_for(&name).await.status, 200);
            let entries = gateway.seen.stores.entries();
            assert!(others.keys().all(|name| entries.contains_key(name)), "{number}");
            assert!(entries.len() <= others.len() + 6, "{number}: {}", entries.len());
        }
        assert_eq!(calls(&emulator), (1, 20), "the token is never driven out");
        assert_eq!(gateway.ask_for("secret-19").await.status, 200);
        assert_eq!(calls(&emulator), (1, 20), "the newest is there");
    });
}

#[test]
fn another_key_another_vault_and_another_identity_have_nothing_in_common() {
    in_virtual_time(async {
        let emulator = azure();
        let first = gateway(&emulator);
        first.ask().await.expect((200, ""), "first");
        let entries = first.seen.stores.entries();
        emulator.configure(|settings| {
            settings.user_assigned = vec![UserAssigned {
                client_id: facts::APP_ID.to_owned(),
                object_id: facts::OBJECT_ID.to_owned(),
                resource_id: "/subscriptions/s".to_owned(),
            }];
        });
        for (name, value, (tokens, reads)) in [
            ("GATEWAY_STORE_KEY", "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", (1, 1)),
            ("KeyVaultUri", "https://other.vault.azure.net/", (0, 1)),
            ("AZURE_CLIENT_ID", facts::APP_ID, (1, 1)),
        ] {
            let mut settings = settings(&emulator, Source::AppService2019);
            settings.extend(STORE.map(|(name, value)| (name, value.to_owned())));
            settings.retain(|it| it.0 != name);
            settings.insert(0, (name, value.to_owned()));
            let other = Gateway::start(World::ProxyOnSpin, &emulator, &settings);
            other.seen.stores.replace(entries.clone());
            let before = calls(&emulator);
            other.ask().await.expect((200, ""), name);
            assert_eq!(calls(&emulator), (before.0 + tokens, before.1 + reads), "{name}");
        }
    });
}

#[test]
fn without_settings_or_a_store_that_works_nothing_is_kept_and_a_store_that_is_none_is_said_to_be_none() {
    on_spin(async |world| {
        let emulator = azure();
        let gateway = Gateway::of(world, &emulator, Source::AppService2019, &STORE);
        gateway.seen.stores.fail.store(true, Ordering::Relaxed);
        gateway.ask().await.expect((200, ""), world);
        let gateway = Gateway::of(world, &emulator, Source::AppService2019, &[]);
        gateway.ask().await.expect((200, ""), world);
        assert!(gateway.seen.stores.entries().is_empty(), "{world:?}");
        assert_eq!(gateway.seen.stores.asked.load(Ordering::Relaxed), 0, "{world:?}");

        let before = calls(&emulator);
        let misspelt = [STORE[1], ("GATEWAY_STORE", "defualt")];
        expect_no_store(world, &emulator, &misspelt).await;
        assert_eq!(calls(&emulator), before, "{world:?}");
    });
    // A build without a store.
    both(async |world| expect_no_store(world, &azure(), &STORE).await);
}

async fn expect_no_store(world: World, emulator: &Emulator, settings: &[(&'static str, &str)]) {
    let answer = Gateway::of(world, emulator, Source::AppService2019, settings).ask().await;
    answer.expect((500, "ConfigurationError"), world);
    assert!(answer.json()["error"]["message"].to_string().contains("GATEWAY_STORE "), "{world:?}");
}

fn gateway(emulator: &Emulator) -> Gateway {
    Gateway::of(World::ProxyOnSpin, emulator, Source::AppService2019, &STORE)
}

const STORE: [(&str, &str); 2] = [("GATEWAY_STORE", "default"), ("GATEWAY_STORE_KEY", STORE_KEY)];

const STORE_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
