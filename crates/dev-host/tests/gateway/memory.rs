//! What an instance remembers under the real host, and what requests at the same time share.

use std::io::Write as _;
use std::net::Shutdown;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use keyvault_emulator::{Effect, Fault, Source, Upstream};

use crate::rig::{Answer, BOTH, Connection, JSON, REQUEST, Rig, SECRET, VALUE, key_field};

#[test]
fn ten_thousand_warm_reads_cost_one_token_and_one_vault_call_in_an_instance() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2019, &[]);
        let start = Instant::now();
        at_once(CONNECTIONS, |_| {
            let mut connection = Connection::open(&rig);
            for _ in 0..READS.div_ceil(CONNECTIONS) {
                assert_eq!(connection.ask().value(), VALUE);
            }
        });
        let (instances, (tokens, secrets)) = calls_by_instance(&rig, 1);
        println!(
            "{component}: {READS} reads at {CONNECTIONS} connections in {:?}: {instances} instances, {tokens} token \
             calls, {secrets} vault calls",
            start.elapsed()
        );
        // Under 0.2 there is an instance for each request that is under way.
        assert!(instances <= CONNECTIONS, "{component}: {instances}");
    }
}

#[test]
fn sixty_four_cold_reads_at_once_cost_one_vault_call_in_an_instance() {
    for concurrent in ["16", "64"] {
        let options = ["--max-instance-concurrent-reuse-count", concurrent, "--idle-instance-timeout", "60s"];
        let rig = Rig::start_with("service", Source::AppService2019, &[], &options);
        rig.emulator.fault(Fault::new(Upstream::Any, Effect::Truth).delay(Duration::from_millis(500)));
        at_once(64, |_| assert_eq!(rig.ask().value(), VALUE));
        let (instances, (tokens, secrets)) = calls_by_instance(&rig, 1);
        println!(
            "{concurrent} at a time: {instances} instances, {tokens} token calls, {secrets} vault calls"
        );
        // The host starts another instance whenever all are computing, so their number is its own affair.
        assert!(instances < 64, "{concurrent}: {instances}");
    }
}

#[test]
fn followers_of_an_error_all_get_it() {
    let options = ["--max-instance-concurrent-reuse-count", "64", "--max-instance-reuse-count", "100000"];
    let options = [&options[..], &["--idle-instance-timeout", "60s"]].concat();
    let rig = Rig::start_with("service", Source::AppService2019, &[], &options);
    assert_eq!(rig.ask().value(), VALUE);
    let late = Fault::new(Upstream::Vault, Effect::BrokenJson).delay(Duration::from_millis(100));
    rig.emulator.fault(late);
    for round in 0..20 {
        let body = format!(r#"{{"Secret":"broken-{round}"}}"#);
        at_once(16, |_| assert_eq!(rig.post(&body).error(), (502, "VaultError".to_owned()), "{round}"));
    }
    calls_by_instance(&rig, 21);
}

#[test]
fn a_client_that_hangs_up_while_others_wait_for_its_call_harms_nobody() {
    for round in 0..5 {
        let rig = Rig::start("service", Source::AppService2019, &[]);
        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_millis(500)));
        let leader = rig.connect();
        let length = REQUEST.len();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: gateway\r\n{}\r\n{JSON}\r\nContent-Length: {length}\r\n\r\n{REQUEST}",
            key_field()
        );
        (&leader).write_all(request.as_bytes()).unwrap();
        wait_for("the leader's call", || rig.calls().1 == 1);
        scope(|scope| {
            let followers: Vec<_> = (0..8).map(|_| scope.spawn(|| rig.ask())).collect();
            let _ = leader.shutdown(Shutdown::Both);
            drop(leader);
            for follower in followers {
                assert_eq!(follower.join().unwrap().value(), VALUE, "{round}");
            }
        });
        // Where the host ends the leader with its client, one of the followers makes a call of its own; and if they have all
        // gone to other instances, the leader's ends without a line.
        calls_by_instances(&rig, 1, 2);
    }
}

#[test]
fn with_the_vault_down_values_stay_available_for_their_stale_time_and_are_marked() {
    for component in BOTH {
        let settings = [("GATEWAY_CACHE_TTL_SECONDS", "1"), ("GATEWAY_STALE_SECONDS", "4")];
        let rig = Rig::start(component, Source::AppService2019, &settings);
        assert_eq!(rig.ask().field("cache-status"), "keyvault-gateway; fwd=miss", "{component}");
        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));

        let marked = wait_for_answer(&rig, "a mark", is_marked);
        assert_eq!(marked.value(), VALUE, "{component}");
        assert!(marked.field("cache-status").contains("ttl=-"), "{component}: {marked:?}");

        rig.emulator.clear_faults();
        let well = wait_for_answer(&rig, "no mark", |it| !is_marked(it));
        assert_eq!((well.value().as_str(), well.field("age")), (VALUE, "0"), "{component}");

        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
        wait_for_answer(&rig, "a mark again", is_marked);
        let end = wait_for_answer(&rig, "the end of the stale time", |it| it.status != 200);
        assert_eq!(end.error(), (503, "Unavailable".to_owned()), "{component}");
    }
}

#[test]
fn a_vault_that_hangs_costs_nobody_more_than_the_deadline() {
    let rig = Rig::start("service", Source::AppService2019, &[("GATEWAY_DEADLINE_SECONDS", "2")]);
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::HangBeforeHeaders));
    at_once(16, |_| {
        let start = Instant::now();
        assert_eq!(rig.ask().error(), (504, "Timeout".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    });
}

#[test]
fn a_value_at_hand_is_not_kept_back_by_a_vault_that_hangs() {
    let settings = [("GATEWAY_CACHE_TTL_SECONDS", "1"), ("GATEWAY_DEADLINE_SECONDS", "20")];
    let rig = Rig::start("service", Source::AppService2019, &settings);
    assert_eq!(rig.ask().value(), VALUE);
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::HangBeforeHeaders));
    wait_for_answer(&rig, "a mark", |answer| {
        assert!(answer.status == 200, "{answer:?}");
        is_marked(answer)
    });
}

#[test]
fn a_value_is_renewed_after_the_answer_and_the_server_still_stops() {
    let rig = Rig::start("service", Source::AppService2019, &[("GATEWAY_CACHE_TTL_SECONDS", "5")]);
    assert_eq!(rig.ask().value(), VALUE);
    rig.emulator.set_secret(SECRET, "renewed").unwrap();
    // Nobody ever waits for the vault: the value that is found is the old one, and then at once the new one.
    let renewed = wait_for_answer(&rig, "the new value", |it| {
        assert!(it.field("cache-status").contains("hit"), "{it:?}");
        it.value() == "renewed"
    });
    assert_eq!((renewed.field("age"), rig.calls()), ("0", (1, 2)));
}

#[test]
fn an_instance_that_is_replaced_reads_again_and_a_request_does_not() {
    let options = ["--max-instance-reuse-count", "10", "--idle-instance-timeout", "60s"];
    let rig = Rig::start_with("service", Source::AppService2019, &[], &options);
    for _ in 0..40 {
        assert_eq!(rig.ask().value(), VALUE);
    }
    assert_eq!(calls_by_instance(&rig, 1), (4, (4, 4)));
}

/// How many instances there are, and how many calls they made for tokens and to the vault: at most one and `most` each.
#[track_caller]
fn calls_by_instance(rig: &Rig, most: usize) -> (usize, (usize, usize)) {
    calls_by_instances(rig, 0, most)
}

/// The same where so many instances may have answered nobody. The line of an instance's last request may come a moment after
/// its answer, so this waits for it.
#[track_caller]
fn calls_by_instances(rig: &Rig, silent: usize, most: usize) -> (usize, (usize, usize)) {
    let count = || (rig.instances() + silent, rig.calls());
    let start = Instant::now();
    loop {
        let (instances, (tokens, secrets)) = count();
        if tokens <= instances && secrets <= most * instances {
            return count();
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{instances} instances, {tokens} token and {secrets} vault calls"
        );
        sleep(Duration::from_millis(5));
    }
}

/// Does something many times at once.
fn at_once(times: usize, work: impl Fn(usize) + Sync) {
    scope(|scope| {
        for number in 0..times {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
}

fn is_marked(answer: &Answer) -> bool {
    answer.field("cache-status").contains("detail=failed")
}

/// Asks until there is an answer that `fits`, with a short pause between, and not for ever.
#[track_caller]
fn wait_for_answer(rig: &Rig, what: &str, fits: impl Fn(&Answer) -> bool) -> Answer {
    let start = Instant::now();
    loop {
        let answer = rig.ask();
        if fits(&answer) {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "there is never {what}: {answer:?}");
        sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn wait_for(what: &str, fits: impl Fn() -> bool) {
    let start = Instant::now();
    while !fits() {
        assert!(start.elapsed() < PATIENCE, "there is never {what}");
        sleep(Duration::from_millis(5));
    }
}

const READS: usize = 10_000;

const CONNECTIONS: usize = 32;

const PATIENCE: Duration = Duration::from_secs(30);
