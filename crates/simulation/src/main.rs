//! `simulate`: plays the plans of seeds and prints the events before the first violation.

use std::process::ExitCode;

use simulation::{Plan, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut seeds = 0..10_000;
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { return usage() };
        match word {
            "--seeds" => seeds.end = seeds.start + number,
            "--from" => seeds = number..number + (seeds.end - seeds.start),
            "--seed" => seeds = number..number + 1,
            _ => return usage(),
        }
    }
    match run(seeds.clone(), Plan::draw) {
        Ok(counts) => {
            println!("{} seeds, no violation", seeds.end - seeds.start);
            counts.iter().for_each(|(event, count)| println!("{count:>10}  {event}"));
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}; again: cargo xtask simulate --seed SEED");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: simulate [--seeds NUMBER] [--from SEED] [--seed SEED]");
    ExitCode::from(2)
}
