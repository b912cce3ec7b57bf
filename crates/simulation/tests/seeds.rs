//! Plays ten thousand seeds and requires that every kind of event happens in them.

use simulation::{Counts, Plan, play, run};

#[test]
fn ten_thousand_seeds_hold_every_invariant() {
    let counts = run(0..10_000, Plan::draw)
        .unwrap_or_else(|violation| panic!("{violation}; again: cargo xtask simulate --seed SEED"));
    require_events(&counts, 100, EVENTS);
}

const EVENTS: &str = "OK, Forbidden, Unauthorized, SecretDisabled, SecretNotFound, IdentityError, \
    IdentityThrottled, Timeout, Unavailable, VaultError, VaultThrottled, TooManyRequests, \
    access token accepted, service account accepted, mixed token refused, backoff requested, call lost, call timed out, client hung up, collapsed, hit, \
    instance recycled, kept after a 401, leader cancelled, negative cache hit, new signing key unknown, \
    no-cache fetched, no-cache limited, refresh-ahead, served stale, served while Azure fails";

#[test]
fn load_spikes_hold_every_invariant() {
    run(0..20, Plan::load_spike).unwrap_or_else(|violation| panic!("load spike: {violation}"));
}

#[test]
fn hostile_clients_change_no_reply_to_other_callers() {
    let counts =
        run(0..200, Plan::hostile_clients).unwrap_or_else(|violation| panic!("hostile: {violation}"));
    let events = "OK, Unauthorized, TooManyRequests, SecretNotFound, Timeout, budget spent, client hung up";
    require_events(&counts, 200, events);
}

#[test]
fn a_vault_that_refuses_valid_tokens_evicts_no_value() {
    let counts =
        run(0..500, Plan::refused_tokens).unwrap_or_else(|violation| panic!("refused tokens: {violation}"));
    require_events(&counts, 500, "OK, Unavailable, kept after a 401, no-cache fetched");
    // Each run replaces five tokens at once and then one in ten seconds.
    for seed in 0..500 {
        let plan = Plan::refused_tokens(seed);
        let tokens = play(&plan, seed).counts.get("token call").copied().unwrap_or_default();
        assert!(tokens <= 1 + 5 + plan.faults_end.as_secs().div_ceil(10), "seed {seed}: {tokens} tokens");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let digest = |seed| play(&Plan::draw(seed), seed).digest;
    for seed in [0, 7, 49, 99, 4711] {
        assert_eq!(digest(seed), digest(seed), "{seed}");
    }
    assert_ne!(digest(1), digest(2));
}

/// Fails unless each event happened. A simulation without faults would show nothing.
fn require_events(counts: &Counts, least: u64, events: &str) {
    for event in events.split(", ") {
        assert!(counts.get(event).is_some_and(|count| *count >= least), "{event}: {counts:?}");
    }
}
