//! The shared store on Spin: what the gateway keeps there, and forged or unreadable entries.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Source, Upstream, UserAssigned, facts};
use tokio::join;
use tokio::time::{Instant, sleep};

use crate::gateway::{
    Gateway, KEY, SECRETS, World, azure, calls, in_both_worlds, in_virtual_time, request_for, settings,
    value_of,
};
use crate::spin::on_spin;

#[test]
fn a_hundred_instances_make_one_token_and_one_vault_call() {
    with_store(async |emulator, gateway| {
        for number in 0..100 {
            gateway.post().await.expect((200, ""), number);
        }
        assert_eq!((gateway.instances(), calls(emulator)), (100, (1, 1)));
        sleep(Duration::from_secs(10)).await;
        gateway.post_no_cache().await.expect((200, ""), "past the store");
        assert_eq!(calls(emulator), (1, 2));
    });
}

#[test]
fn stored_entries_expire_as_in_the_cache() {
    with_store(async |emulator, gateway| {
        for (seconds, cache, calls_so_far) in [
            (0, "fwd=miss", (1, 1)),
            (100, "hit", (1, 1)),
            // After the TTL of 300 seconds and its jitter, the gateway fetches again, with the stored token.
            (331, "fwd=stale", (1, 2)),
            (100, "hit", (1, 2)),
        ] {
            sleep(Duration::from_secs(seconds)).await;
            let response = gateway.post().await;
            response.expect((200, ""), seconds);
            assert!(response.field("cache-status").contains(cache), "{seconds}: {response:?}");
            let age: u64 = response.field("age").parse().unwrap();
            let right = if cache == "hit" { 100..=101 } else { 0..=0 };
            assert!(right.contains(&age), "{seconds}: {age}");
            assert_eq!(calls(emulator), calls_so_far, "{seconds}");
        }
        // While Azure fails, an expired entry is served stale; a refusal evicts it.
        sleep(Duration::from_secs(400)).await;
        let cut = Fault::new(Upstream::Vault, Effect::CutBeforeHeaders);
        emulator.fault(cut.clone());
        let response = gateway.post().await;
        response.expect((200, ""), "stale");
        assert!(response.field("cache-status").contains("detail=failed"), "{response:?}");
        emulator.clear_faults();
        emulator.fault(Fault::refuse(Refusal::SecretDisabled));
        gateway.post().await.expect((403, "SecretDisabled"), "refused");
        emulator.clear_faults();
        emulator.fault(cut);
        gateway.post().await.expect((503, "Unavailable"), "evicted");
    });
}

#[test]
fn the_store_reveals_no_names_values_or_tokens() {
    with_store(async |emulator, gateway| {
        for secret in SECRETS {
            gateway.post_for(secret).await.expect((200, ""), secret);
        }
        let entries = gateway.observed.stores.entries();
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
fn a_forged_entry_is_a_cache_miss() {
    with_store(async |emulator, gateway| {
        for secret in SECRETS {
            gateway.post_for(secret).await.expect((200, ""), secret);
        }
        let right = gateway.observed.stores.entries();
        let values: Vec<_> = right.values().cloned().collect();
        let changed = |change: &dyn Fn(usize, &mut Vec<u8>)| -> BTreeMap<String, Vec<u8>> {
            let mut entries = right.clone();
            entries.values_mut().enumerate().for_each(|(index, value)| change(index, value));
            entries
        };
        let forgeries = [
            ("moved", changed(&|index, entry| *entry = values[(index + 1) % values.len()].clone())),
            ("one byte changed", changed(&|_, entry| entry[40] ^= 1)),
            ("truncated", changed(&|_, entry| entry.truncate(20))),
            ("extended", changed(&|_, entry| entry.push(0))),
            ("empty", changed(&|_, entry| entry.clear())),
            ("later expiry", changed(&|_, entry| entry[1..9].fill(0x7F))),
            ("deleted", BTreeMap::new()),
        ];
        for (forgery, entries) in forgeries {
            for secret in SECRETS {
                gateway.observed.stores.replace(entries.clone());
                let before = calls(emulator);
                gateway.post_for(secret).await.expect((200, ""), (forgery, secret));
                let only_cold = (before.0 + 1, before.1 + 1);
                assert_eq!(calls(emulator), only_cold, "{forgery} {secret}");
            }
        }
        gateway.observed.stores.replace(right);
        let before = calls(emulator);
        gateway.post().await.expect((200, ""), "original");
        assert_eq!(calls(emulator), before, "the original entries are valid again");
    });
}

#[test]
fn refused_tokens_and_values_are_not_read_from_the_store() {
    for drops_nothing in [false, true] {
        with_store(async |emulator, gateway| {
            gateway.observed.stores.fail_deletes.store(drops_nothing, Ordering::Relaxed);
            gateway.post().await.expect((200, ""), "first");
            emulator.fault(Fault::refuse(Refusal::ExpiredToken).times(1));
            gateway.post_for(SECRETS[1]).await.expect((200, ""), "second");
            gateway.post_for(SECRETS[2]).await.expect((200, ""), "third");
            assert_eq!(calls(emulator), (2, 4), "{drops_nothing}: the third read uses the stored token");
            emulator.fault(Fault::refuse(Refusal::SecretDisabled));
            sleep(Duration::from_secs(10)).await;
            gateway.post_no_cache().await.expect((403, "SecretDisabled"), "past the store");
            gateway.post().await.expect((403, "SecretDisabled"), "from the store");
        });
    }
}

#[test]
fn the_store_has_a_limit_and_keeps_foreign_entries() {
    in_virtual_time(async {
        let emulator = azure();
        // Its tokens expire before a value does.
        let settings = [STORE[0], STORE[1], ("GATEWAY_CACHE_ENTRIES", "5")];
        let gateway = Gateway::new(World::ProxyOnSpin, &emulator, Source::ClientSecret, &settings);
        let others: BTreeMap<_, _> = (0..50).map(|number| (format!("other-{number}"), vec![1])).collect();
        gateway.observed.stores.replace(others.clone());
        for number in 0..20 {
            let (name, value) = (format!("secret-{number}"), format!("value-number-{number}"));
            emulator.set_secret(&name, &value).unwrap();
            gateway.leaks().add_value(&name, &value);
            assert_eq!(gateway.post_for(&name).await.status, 200);
            let entries = gateway.observed.stores.entries();
            assert!(others.keys().all(|name| entries.contains_key(name)), "{number}");
            assert!(entries.len() <= others.len() + 6, "{number}: {}", entries.len());
        }
        assert_eq!(calls(&emulator), (1, 20), "the token is never evicted");
        assert_eq!(gateway.post_for("secret-19").await.status, 200);
        assert_eq!(calls(&emulator), (1, 20), "the newest entry is stored");
    });
}

#[test]
fn keys_vaults_and_identities_do_not_share_entries() {
    with_store(async |emulator, first| {
        first.post().await.expect((200, ""), "first");
        let entries = first.observed.stores.entries();
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
            let mut settings = settings(emulator, Source::AppService2019);
            settings.extend(STORE.map(|(name, value)| (name, value.to_owned())));
            settings.retain(|setting| setting.0 != name);
            settings.insert(0, (name, value.to_owned()));
            let other = Gateway::start(World::ProxyOnSpin, emulator, &settings);
            other.observed.stores.replace(entries.clone());
            let before = calls(emulator);
            other.post().await.expect((200, ""), name);
            assert_eq!(calls(emulator), (before.0 + tokens, before.1 + reads), "{name}");
        }
    });
}

#[test]
fn a_failing_store_is_ignored_and_an_unknown_one_is_an_error() {
    on_spin(async |world| {
        let emulator = azure();
        let gateway = Gateway::new(world, &emulator, Source::AppService2019, &STORE);
        gateway.observed.stores.fail_all.store(true, Ordering::Relaxed);
        gateway.post().await.expect((200, ""), world);
        let gateway = Gateway::new(world, &emulator, Source::AppService2019, &[]);
        gateway.post().await.expect((200, ""), world);
        assert!(gateway.observed.stores.entries().is_empty(), "{world:?}");
        assert_eq!(gateway.observed.stores.reads.load(Ordering::Relaxed), 0, "{world:?}");

        let before = calls(&emulator);
        let misspelt = [STORE[1], ("GATEWAY_STORE", "defualt")];
        expect_store_error(world, &emulator, &misspelt).await;
        assert_eq!(calls(&emulator), before, "{world:?}");
    });
    // These builds have no shared store.
    in_both_worlds(async |world| expect_store_error(world, &azure(), &STORE).await);
}

/// The calls of Spin's asynchronous interface have a limit of one second, and block no other request.
#[test]
fn a_hanging_store_delays_one_read_and_no_other_request() {
    in_virtual_time(async {
        let emulator = azure();
        let gateway = Gateway::new(World::ServiceOnSpin, &emulator, Source::AppService2019, &STORE);
        gateway.post().await.expect((200, ""), "cached");
        gateway.observed.stores.hangs.store(true, Ordering::Relaxed);
        let start = Instant::now();
        let (slow, cached) = join!(gateway.send(request_for(SECRETS[1])), async {
            sleep(Duration::from_millis(10)).await;
            let response = gateway.post().await;
            (response, start.elapsed())
        });
        cached.0.expect((200, ""), "cached");
        assert!(cached.1 < Duration::from_millis(100), "{:?}", cached.1);
        slow.expect((200, ""), "read from the vault");
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
        assert_eq!(calls(&emulator), (1, 2));
    });
}

async fn expect_store_error(world: World, emulator: &Emulator, settings: &[(&'static str, &str)]) {
    let response = Gateway::new(world, emulator, Source::AppService2019, settings).post().await;
    response.expect((500, "ConfigurationError"), world);
    assert!(response.json()["error"]["message"].to_string().contains("GATEWAY_STORE "), "{world:?}");
}

/// Runs a test, in virtual time, of a gateway with a shared store.
fn with_store(test: impl AsyncFn(&Emulator, &Gateway)) {
    in_virtual_time(async {
        let emulator = azure();
        test(&emulator, &Gateway::new(World::ProxyOnSpin, &emulator, Source::AppService2019, &STORE)).await;
    });
}

const STORE: [(&str, &str); 2] = [("GATEWAY_STORE", "default"), ("GATEWAY_STORE_KEY", STORE_KEY)];

const STORE_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
