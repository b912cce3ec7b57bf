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
        for (what, count) in outcome.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    // A simulation in which nothing goes wrong any more proves nothing.
    for what in [
        "OK",
        "Forbidden",
        "Unauthorized",
        "SecretDisabled",
        "SecretNotFound",
        "IdentityError",
        "IdentityThrottled",
        "Timeout",
        "Unavailable",
        "VaultError",
        "VaultThrottled",
        "TooManyRequests",
        "bearer served",
        "collapsed",
        "hit",
        "hung up",
        "leader vanished",
        "lost",
        "no-cache asked",
        "no-cache limited",
        "new key unknown",
        "recycled",
        "remembered 404",
        "renewed ahead",
        "served as Azure cannot be reached",
        "served past its time",
        "timed out",
        "told to pause",
    ] {
        assert!(counts.get(what).is_some_and(|it| *it >= 100), "{what}: {:?}", counts.get(what));
    }
}

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
        for (what, count) in outcome.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    for what in
        ["OK", "Unauthorized", "TooManyRequests", "SecretNotFound", "Timeout", "budget spent", "hung up"]
    {
        assert!(counts.get(what).is_some_and(|count| *count >= HOSTILE_RUNS), "{what}: {counts:?}");
    }
}

const HOSTILE_RUNS: u64 = 200;

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [0, 7, 49, 99, 4711] {
        assert_eq!(run(seed).digest, run(seed).digest, "{seed}");
    }
    assert_ne!(run(1).digest, run(2).digest);
}
