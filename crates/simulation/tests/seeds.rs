//! Ten thousand seeds, and what they have to bring about.

use std::collections::BTreeMap;

use simulation::{Plan, play, run};

#[test]
fn every_invariant_holds_in_ten_thousand_runs_and_everything_happens_in_them() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..10_000 {
        let outcome = run(seed);
        if let Some(violation) = outcome.violation {
            panic!("{violation}\nseed {seed}; again: cargo xtask simulate --seed {seed}");
        }
        add(&mut counts, outcome.counts);
    }
    // A simulation in which nothing goes wrong any more proves nothing.
    for what in EVERYTHING.split(", ") {
        assert!(counts.get(what).is_some_and(|it| *it >= 100), "{what}: {:?}", counts.get(what));
    }
}

const EVERYTHING: &str = "OK, Forbidden, Unauthorized, SecretDisabled, SecretNotFound, IdentityError, IdentityThrottled, \
    Timeout, Unavailable, VaultError, VaultThrottled, TooManyRequests, bearer served, collapsed, hit, hung up, \
    kept through a 401, leader vanished, lost, no-cache asked, no-cache limited, new key unknown, recycled, \
    remembered 404, renewed ahead, served as Azure cannot be reached, served past its time, timed out, told to pause";

#[test]
fn every_invariant_holds_in_crowds() {
    for seed in 0..20 {
        let outcome = play(&Plan::crowd(seed), seed);
        assert_eq!(outcome.violation, None, "crowd {seed}");
    }
}

#[test]
fn hostile_clients_change_no_answer_of_others() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..HOSTILE_RUNS {
        let outcome = play(&Plan::hostile(seed), seed);
        assert_eq!(outcome.violation, None, "hostile {seed}");
        add(&mut counts, outcome.counts);
    }
    for what in
        ["OK", "Unauthorized", "TooManyRequests", "SecretNotFound", "Timeout", "budget spent", "hung up"]
    {
        assert!(counts.get(what).is_some_and(|count| *count >= HOSTILE_RUNS), "{what}: {counts:?}");
    }
}

const HOSTILE_RUNS: u64 = 200;

/// A vault that cannot check tokens takes nothing away, is soon forgotten, and costs few tokens.
#[test]
fn a_vault_that_refuses_good_tokens_is_no_reason_to_forget_a_value() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..WAVERING_RUNS {
        let plan = Plan::wavering(seed);
        let outcome = play(&plan, seed);
        assert_eq!(outcome.violation, None, "wavering {seed}");
        let tokens = outcome.counts.get("token call").copied().unwrap_or_default();
        assert!(tokens <= 1 + 5 + plan.healed.as_secs().div_ceil(10), "wavering {seed}: {tokens} tokens");
        add(&mut counts, outcome.counts);
    }
    for what in ["OK", "Unavailable", "kept through a 401", "no-cache asked"] {
        assert!(counts.get(what).is_some_and(|count| *count >= WAVERING_RUNS), "{what}: {counts:?}");
    }
}

const WAVERING_RUNS: u64 = 500;

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [0, 7, 49, 99, 4711] {
        assert_eq!(run(seed).digest, run(seed).digest, "{seed}");
    }
    assert_ne!(run(1).digest, run(2).digest);
}

fn add(counts: &mut BTreeMap<&'static str, u64>, more: BTreeMap<&'static str, u64>) {
    more.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
}
