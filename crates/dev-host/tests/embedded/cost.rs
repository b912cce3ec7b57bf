//! What a warm read costs, in instructions of the guest and in its memory: numbers that no noise of a machine touches, held
//! against those that are written down.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use keyvault_emulator::Source;

use crate::gateway::{BOTH, Gateway, SECRETS, World, azure, both, in_virtual_time};

#[test]
fn a_warm_read_takes_the_instructions_that_are_written_down() {
    let recorded: BTreeMap<String, u64> =
        serde_json::from_str(include_str!("../../../../docs/performance/instructions.json")).unwrap();
    for world in BOTH {
        let counted = in_virtual_time(warm_reads(world));
        let name = format!("{world:?}").to_lowercase();
        println!("{name}: {counted:?} instructions");
        let recorded = recorded[&name];
        let near = recorded - recorded / 50..=recorded + recorded / 50;
        assert!(
            counted.iter().all(|count| near.contains(count)),
            "{name}: {counted:?} instructions, and docs/performance/instructions.json has {recorded}. If that is meant, write \
             it down there"
        );
    }
}

/// The instructions of some reads of the same secret from memory, one after the other.
async fn warm_reads(world: World) -> Vec<u64> {
    let emulator = azure();
    let value = "v".repeat(32);
    emulator.set_secret(SECRETS[0], &value).unwrap();
    let gateway = Gateway::of(world, &emulator, Source::AppService2019, &[]);
    gateway.hold(SECRETS[0], &value);
    let mut left = Vec::new();
    for _ in 0..12 {
        assert_eq!(gateway.ask().await.status, 200);
        left.push(gateway.seen.instructions.load(Relaxed));
    }
    // What is left at the beginning of one request and of the next; the first reads fill the memory.
    left.windows(2).skip(2).map(|pair| pair[0] - pair[1]).collect()
}

#[test]
fn a_thousand_secrets_of_a_kibibyte_fit_into_four_mebibytes() {
    both(async |world| {
        let emulator = azure();
        let value = "v".repeat(1024);
        let no_budget = [("GATEWAY_CALLER_CALLS_PER_SECOND", "0")];
        let gateway = Gateway::of(world, &emulator, Source::AppService2019, &no_budget);
        for number in 0..1000 {
            let name = format!("secret-{number}");
            emulator.set_secret(&name, &value).unwrap();
            gateway.hold(&name, &value);
            assert_eq!(gateway.ask_for(&name).await.status, 200);
        }
        let calls = emulator.vault_calls().len();
        for number in (0..1000).step_by(100) {
            assert_eq!(gateway.ask_for(&format!("secret-{number}")).await.status, 200);
        }
        assert_eq!(emulator.vault_calls().len(), calls, "{world:?}: all are in memory");
        assert!(
            gateway.seen.memory.load(Relaxed) <= 4 * 1024 * 1024,
            "{world:?}: {} bytes",
            gateway.seen.memory.load(Relaxed)
        );
    });
}
