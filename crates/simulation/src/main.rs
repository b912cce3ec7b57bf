//! `simulate`: runs seeds, and says of the first that fails how it went.

use std::collections::BTreeMap;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
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
    for seed in seeds.clone() {
        let outcome = simulation::run(seed);
        if let Some(violation) = outcome.violation {
            println!("{violation}\nseed {seed}; again: cargo xtask simulate --seed {seed}");
            return ExitCode::FAILURE;
        }
        for (what, count) in outcome.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{} seeds, every invariant held", seeds.end - seeds.start);
    for (what, count) in counts {
        println!("{count:>10}  {what}");
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: simulate [--seeds NUMBER] [--from SEED] [--seed SEED]");
    ExitCode::from(2)
}
