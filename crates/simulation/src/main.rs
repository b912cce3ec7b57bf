//! `simulate`: runs seeds, and says of the first that fails how it went.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use simulation::{CASES, busy, svg};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == "fleet") {
        return fleet(&arguments[1..]);
    }
    let mut seeds = 0..10_000;
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let Some(number) = words.next().and_then(|it| it.parse::<u64>().ok()) else { return usage() };
        match word {
            "--seeds" => seeds.end = seeds.start + number,
            "--from" => seeds = number..number + (seeds.end - seeds.start),
            "--seed" => seeds = number..number + 1,
            _ => return usage(),
        }
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let terminal = std::io::stderr().is_terminal();
    for seed in seeds.clone() {
        let outcome = simulation::run(seed);
        if let Some(violation) = outcome.violation {
            println!("{violation}\nseed {seed}; again: cargo xtask simulate --seed {seed}");
            return ExitCode::FAILURE;
        }
        for (what, count) in outcome.counts {
            *counts.entry(what).or_default() += count;
        }
        if terminal && seed % 100 == 0 {
            eprint!("\r{} of {} seeds", seed - seeds.start, seeds.end - seeds.start);
            let _ = std::io::stderr().flush();
        }
    }
    if terminal {
        eprintln!();
    }
    println!("{} seeds, every invariant held", seeds.end - seeds.start);
    for (what, count) in counts {
        println!("{count:>10}  {what}");
    }
    ExitCode::SUCCESS
}

/// Counts the calls of fleets, holds them against the model, and draws both.
fn fleet(arguments: &[String]) -> ExitCode {
    println!(
        "per instance and second, 20 secrets, TTL 300 s{:>24}{:>12}{:>12}{:>12}",
        "vault", "model", "token", "model"
    );
    for (name, case) in CASES {
        let (counted, model) = (case.simulate(INSTANCES, TIME), case.model_from_start(TIME));
        println!(
            "{name:<46}{:>24.5}{:>12.5}{:>12.5}{:>12.5}",
            counted.vault, model.vault, counted.token, model.token
        );
    }
    let mut simulated = Vec::new();
    // An hour and a day of a busy instance would tell nothing that minutes do not.
    for ttl in &TTLS[..2] {
        for instances in [1, 10] {
            let counted = busy(*ttl).simulate(instances, Duration::from_secs(3 * ttl.max(&600)));
            simulated.push((instances, *ttl, counted));
        }
    }
    println!("\nvault calls in 10 seconds, 20 secrets, busy instances that live on (WASI 0.3)");
    println!(
        "{:>12}{:>14}{:>14}{:>14}{:>14}",
        "instances", "TTL 60 s", "TTL 300 s", "TTL 3600 s", "TTL 86400 s"
    );
    for instances in [10_u32, 1000, 100_000] {
        let calls = TTLS.map(|ttl| 10.0 * f64::from(instances) * busy(ttl).model().vault);
        println!("{instances:>12}{:>14.1}{:>14.1}{:>14.1}{:>14.1}", calls[0], calls[1], calls[2], calls[3]);
    }
    match arguments {
        [] => ExitCode::SUCCESS,
        [option, file] if option == "--chart" => match std::fs::write(file, svg(&TTLS, &simulated)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("{file}: {problem}");
                ExitCode::FAILURE
            }
        },
        _ => usage(),
    }
}

const TTLS: [u64; 4] = [60, 300, 3600, 86_400];

const INSTANCES: u64 = 5;

const TIME: Duration = Duration::from_secs(3900);

fn usage() -> ExitCode {
    eprintln!("usage: simulate [--seeds NUMBER] [--from SEED] [--seed SEED] | fleet [--chart FILE]");
    ExitCode::from(2)
}
