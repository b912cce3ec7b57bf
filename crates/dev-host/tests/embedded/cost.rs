//! The cost of a cached read in instructions and memory of the guest, compared with recorded numbers. Neither
//! depends on the load of the machine.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use keyvault_emulator::Source;

use crate::gateway::{Gateway, SECRETS, WAYS, World, azure, in_both_worlds, in_virtual_time};

#[test]
fn a_cached_read_takes_the_recorded_instructions() {
    let recorded: BTreeMap<String, u64> =
        serde_json::from_str(include_str!("../../../../docs/performance/instructions.json")).unwrap();
    let counted = WAYS.map(|world| (format!("{world:?}").to_lowercase(), in_virtual_time(warm_reads(world))));
    for (name, counts) in &counted {
        let recorded = recorded[name];
        let near = recorded - recorded / 50..=recorded + recorded / 50;
        assert!(
            counts.iter().all(|count| near.contains(count)),
            "{counted:?} instructions; docs/performance/instructions.json has {recorded} for {name}. Update it \
             if the change is intended"
        );
    }
}

/// Returns the instructions of consecutive reads of one cached secret.
async fn warm_reads(world: World) -> Vec<u64> {
    let emulator = azure();
    let value = "v".repeat(32);
    emulator.set_secret(SECRETS[0], &value).unwrap();
    let gateway = Gateway::new(world, &emulator, Source::AppService2019, &[]);
    gateway.leaks().add_value(SECRETS[0], &value);
    let mut left = Vec::new();
    for _ in 0..12 {
        assert_eq!(gateway.post().await.status, 200);
        left.push(gateway.observed.instructions.load(Relaxed));
    }
    // The difference between consecutive requests. The first reads grow the memory.
    left.windows(2).skip(2).map(|pair| pair[0] - pair[1]).collect()
}

#[test]
fn a_thousand_secrets_of_a_kibibyte_fit_into_four_mebibytes() {
    in_both_worlds(async |world| {
        let emulator = azure();
        let value = "v".repeat(1024);
        let no_budget = [("GATEWAY_CALLER_CALLS_PER_SECOND", "0")];
        let gateway = Gateway::new(world, &emulator, Source::AppService2019, &no_budget);
        for number in 0..1000 {
            let name = format!("secret-{number}");
            emulator.set_secret(&name, &value).unwrap();
            gateway.leaks().add_value(&name, &value);
            assert_eq!(gateway.post_for(&name).await.status, 200);
        }
        let calls = emulator.vault_calls().len();
        for number in (0..1000).step_by(100) {
            assert_eq!(gateway.post_for(&format!("secret-{number}")).await.status, 200);
        }
        assert_eq!(emulator.vault_calls().len(), calls, "{world:?}: not all secrets are cached");
        let memory = gateway.observed.memory.load(Relaxed);
        assert!(memory <= 4 * 1024 * 1024, "{world:?}: {memory} bytes");
    });
}
