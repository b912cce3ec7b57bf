//! What an instance remembers under the real host, and what requests at the same time share.

use std::cell::Cell;
use std::net::TcpStream;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use keyvault_emulator::{Effect, Fault, Source, Upstream};

use crate::rig::{Answer, BOTH, Connection, PATIENCE, REQUEST, Rig, SECRET, VALUE, wait_for};

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
        // Under 0.2 there is an instance for each request that is under way, and one is free only when its guest has returned,
        // which is after the answer: a client may ask again before.
        assert!(instances <= 2 * CONNECTIONS, "{component}: {instances}");
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
    let delay = Duration::from_millis(500);
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::BrokenJson).delay(delay));
    let (mut most, mut collapsed) = (1, 0);
    for round in 0..8 {
        let body = format!(r#"{{"Secret":"broken-{round}"}}"#);
        let (start, before) = (Instant::now(), rig.calls().1);
        let leader = rig.begin(&body);
        wait_for("the leader's call", || rig.calls().1 > before);
        let followers = at_rest(15, || rig.begin(&body));
        for stream in followers.into_iter().chain([leader]) {
            let answer = rig.read(stream);
            assert_eq!(answer.error(), (502, "VaultError".to_owned()), "{round}");
            collapsed += usize::from(is_collapsed(&answer));
        }
        // An error is remembered for a second. Whoever comes later than that makes another call.
        let (took, apart) = (start.elapsed(), delay + Duration::from_secs(1));
        most += 1 + usize::try_from(took.as_millis() / apart.as_millis()).unwrap();
    }
    println!("{collapsed} of 120 followed");
    assert!(collapsed > 0);
    calls_by_instance(&rig, most);
}

#[test]
fn a_client_that_hangs_up_while_others_wait_for_its_call_harms_nobody() {
    for round in 0..2 {
        let rig = Rig::start("service", Source::AppService2019, &[]);
        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(3)));
        let leader = rig.begin(REQUEST);
        wait_for("the leader's call", || rig.calls().1 == 1);
        let followers = at_rest(8, || rig.begin(REQUEST));
        sleep(MOMENT);
        drop(leader);
        let mut collapsed = 0;
        for follower in followers {
            let answer = rig.read(follower);
            assert_eq!(answer.value(), VALUE, "{round}");
            collapsed += usize::from(is_collapsed(&answer));
        }
        println!("{collapsed} of 8 followed");
        assert!(collapsed > 0, "{round}");
        // Where the host ends the leader with its client, one of the followers makes a call of its own; and if they have all
        // gone to other instances, the leader's ends without a line.
        calls_by_instances(&rig, 1, 2);
    }
}

#[test]
fn with_the_vault_down_values_stay_available_and_are_marked() {
    for component in BOTH {
        let settings = [("GATEWAY_CACHE_TTL_SECONDS", "1"), ("GATEWAY_STALE_SECONDS", "20")];
        let rig = Rig::start(component, Source::AppService2019, &settings);
        assert_eq!(rig.ask().field("cache-status"), "keyvault-gateway; fwd=miss", "{component}");
        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));

        let marked = wait_for_answer(&rig, "a mark", is_marked);
        assert_eq!(marked.value(), VALUE, "{component}");
        assert!(marked.field("cache-status").contains("ttl=-"), "{component}: {marked:?}");

        rig.emulator.clear_faults();
        // Another instance, which the host may have started for one of these requests, has had nothing at hand.
        let well = wait_for_answer(&rig, "no mark", |it| it.status == 200 && !is_marked(it));
        assert_eq!(well.value(), VALUE, "{component}");
        // On a busy machine a call and its answer may take a second.
        assert!(["0", "1"].contains(&well.field("age")), "{component}: {well:?}");

        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
        wait_for_answer(&rig, "a mark again", is_marked);
    }
}

#[test]
fn with_the_vault_down_nothing_is_served_past_the_stale_time() {
    for component in BOTH {
        let settings = [("GATEWAY_CACHE_TTL_SECONDS", "1"), ("GATEWAY_STALE_SECONDS", "2")];
        let rig = Rig::start(component, Source::AppService2019, &settings);
        assert_eq!(rig.ask().value(), VALUE, "{component}");
        // A TTL may be longer by a tenth, and began before the answer.
        let end = Instant::now() + Duration::from_millis(1100 + 2000);
        rig.emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
        wait_for_answer(&rig, "the end of the stale time", |_| Instant::now() >= end);
        // Whichever instance it is that the host asks.
        for _ in 0..4 {
            assert_eq!(rig.ask().error(), (503, "Unavailable".to_owned()), "{component}");
        }
    }
}

/// To the millisecond that is shown in virtual time (`embedded`). The first call to the vault has half of the deadline; a machine
/// that needs almost the other half before it would be told of the vault, and not of the time.
#[test]
fn a_vault_that_hangs_costs_nobody_more_than_the_deadline() {
    let rig = Rig::start("service", Source::AppService2019, &[("GATEWAY_DEADLINE_SECONDS", "8")]);
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::HangBeforeHeaders));
    at_once(16, |_| {
        let start = Instant::now();
        assert_eq!(rig.ask().error(), (504, "Timeout".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(16), "{:?}", start.elapsed());
    });
}

#[test]
fn a_value_at_hand_is_not_kept_back_by_a_vault_that_hangs() {
    let settings = [("GATEWAY_CACHE_TTL_SECONDS", "1"), ("GATEWAY_DEADLINE_SECONDS", "20")];
    let rig = Rig::start("service", Source::AppService2019, &settings);
    assert_eq!(rig.ask().value(), VALUE);
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::HangBeforeHeaders));
    let start = Instant::now();
    wait_for_answer(&rig, "a mark", |answer| {
        assert!(answer.status == 200, "{answer:?}");
        is_marked(answer)
    });
    // The vault is waited for for a quarter of the deadline. A value that is kept back comes at its end.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

/// That nobody ever waits for it is shown in virtual time (`embedded`). Here the machine may be busy for longer than the last
/// part of a TTL, in which the renewal begins and ends, so there are longer ones for a machine that is.
#[test]
fn a_value_is_renewed_after_the_answer_and_the_server_still_stops() {
    let ahead = ["4", "8", "16", "24"].into_iter().any(|ttl| {
        let options = ["--max-instance-reuse-count", "100000", "--idle-instance-timeout", "2s"];
        let options = [&options[..], &["--shutdown-addr", "127.0.0.1:0"]].concat();
        let settings = [("GATEWAY_CACHE_TTL_SECONDS", ttl)];
        let mut rig = Rig::start_with("service", Source::AppService2019, &settings, &options);
        assert_eq!(rig.ask().value(), VALUE);
        rig.emulator.set_secret(SECRET, "renewed").unwrap();
        let waited = Cell::new(false);
        wait_for_answer(&rig, "the new value", |it| {
            waited.set(waited.get() || !it.field("cache-status").contains("hit"));
            it.value() == "renewed"
        });
        stop(&mut rig);
        println!("TTL {ttl}: somebody waited: {}, calls: {:?}", waited.get(), rig.calls());
        !waited.get() && rig.calls() == (1, 2)
    });
    assert!(ahead, "somebody had to wait each time");
}

/// Tells the server to stop, and waits until it has.
fn stop(rig: &mut Rig) {
    let line = rig.server.wait_for_line(PATIENCE, |it| it.contains("shutdown on tcp://")).unwrap();
    let address = line.split_once("tcp://").unwrap().1.trim_end_matches('/').to_owned();
    drop(TcpStream::connect(address).unwrap());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = rig.server.ended().unwrap() {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "it does not stop: {:?}", rig.server.log());
        sleep(MOMENT);
    };
    assert!(status.success(), "{status}");
}

#[test]
fn an_instance_that_is_replaced_reads_again_and_a_request_does_not() {
    let options = ["--max-instance-reuse-count", "10", "--idle-instance-timeout", "60s"];
    let rig = Rig::start_with("service", Source::AppService2019, &[], &options);
    for _ in 0..40 {
        assert_eq!(rig.ask().value(), VALUE);
    }
    let (instances, calls) = calls_by_instance(&rig, 1);
    assert_eq!(calls, (instances, instances));
    // There is one more where the host finds an instance still at work after its answer.
    assert!((4..8).contains(&instances), "{instances}");
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

/// Does something some times, with a moment between: an instance takes another request only when it has nothing to do but wait.
fn at_rest<T>(times: usize, work: impl Fn() -> T) -> Vec<T> {
    let begin = |_| {
        sleep(MOMENT);
        work()
    };
    (0..times).map(begin).collect()
}

/// Whether it is what somebody else's call has brought.
fn is_collapsed(answer: &Answer) -> bool {
    answer.field("cache-status").contains("collapsed")
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

const READS: usize = 10_000;

const CONNECTIONS: usize = 32;

/// Short beside all that is waited for.
const MOMENT: Duration = Duration::from_millis(20);
