//! `bench`: the gateway beside what its host costs without it, and beside what a user would write instead, in one run.
//!
//! All contestants run at the same time and are measured in turn, over and over, so that what disturbs the machine disturbs
//! all of them. What counts is the ratio of medians.

mod contestants;
mod report;

use self::contestants::{Contestant, Programs, Running};
use self::report::{Figures, Measure, Report};
use crate::client::{Answer, PATIENCE, within};
use crate::process::raise_file_limit;
use crate::rig::{self, PATH};
use keyvault_emulator::{Effect, Emulator, Fault, Served, Upstream};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::runtime::Runtime;

/// The options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// The gateway of WASI 0.2 and the one of 0.3
    #[arg(long, num_args = 2, value_names = ["PROXY", "SERVICE"])]
    gateways: Vec<PathBuf>,

    /// The smallest component of WASI 0.2 and the one of 0.3
    #[arg(long, num_args = 2, value_names = ["PROXY", "SERVICE"])]
    floors: Vec<PathBuf>,

    /// The native service
    #[arg(long, value_name = "PROGRAM")]
    native: PathBuf,

    /// Where the report goes
    #[arg(long, value_name = "FOLDER")]
    report: PathBuf,

    /// How often each contestant is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// How long a load lasts, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), String> {
        let begun = Instant::now();
        // The emulator has a connection for each call of a host that makes a new one for each.
        raise_file_limit();
        let directory = tempfile::tempdir().map_err(|problem| format!("no directory: {problem}"))?;
        let script = directory.path().join("reads.lua");
        std::fs::write(&script, include_str!("reads.lua")).map_err(|problem| problem.to_string())?;
        let version = Command::new("wrk").arg("-v").output().map_err(
            |_| "wrk makes the load, and is not there; `apt-get install wrk` or `brew install wrk` brings it",
        )?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        eprintln!("compiling the components");
        let compiled = |components: &[PathBuf], name: &str| -> Result<[PathBuf; 2], String> {
            let folder = directory.path().join(name);
            std::fs::create_dir(&folder).map_err(|problem| format!("no directory: {problem}"))?;
            let [proxy, service] = components else { return Err("two components are needed".to_owned()) };
            Ok([rig::compile(&[], proxy, &folder)?, rig::compile(&[], service, &folder)?])
        };
        let programs = Programs {
            floors: compiled(&self.floors, "floors")?,
            gateways: compiled(&self.gateways, "gateways")?,
            native: self.native.clone(),
        };
        let mut stand = Stand::new(programs, directory.path(), script, &self)?;
        stand.warm_reads()?;
        stand.cold_reads()?;
        stand.first_answers()?;
        let report = Report {
            figures: &stand.figures,
            sizes: report::sizes(&self.gateways, &self.floors)?,
            wrk: version.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
            rounds: stand.rounds,
            seconds: self.seconds,
            took: begun.elapsed(),
        };
        report.write(&self.report)?;
        println!("{}", report.markdown());
        Ok(())
    }
}

/// Where contestants are measured: the emulator, the load, and what came of it.
struct Stand {
    programs: Programs,
    emulator: Emulator,
    served: Served,
    ca_file: PathBuf,
    runtime: Runtime,
    script: PathBuf,
    figures: Figures,
    rounds: usize,
    time: Duration,
    names: usize,
}

impl Stand {
    fn new(programs: Programs, directory: &Path, script: PathBuf, bench: &Bench) -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|problem| format!("no runtime for the emulator: {problem}"))?;
        let emulator = Emulator::new();
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|problem| format!("the emulator cannot listen: {problem}"))?;
        let ca_file = directory.join("ca.pem");
        std::fs::write(&ca_file, &served.ca_pem).map_err(|problem| problem.to_string())?;
        let (rounds, time) = (usize::from(bench.rounds), Duration::from_secs(bench.seconds));
        let figures = Figures::default();
        Ok(Self { programs, emulator, served, ca_file, runtime, script, figures, rounds, time, names: 0 })
    }

    /// The vault takes this long for each answer.
    fn slow_down(&self, latency: Duration) {
        self.emulator.clear_faults();
        if !latency.is_zero() {
            self.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(latency));
        }
    }

    fn start(&self, contestant: Contestant) -> Result<Running, String> {
        self.programs.start(contestant, &self.served, &self.ca_file)
    }

    fn start_all(&self, contestants: &[Contestant]) -> Result<Vec<Running>, String> {
        contestants.iter().map(|contestant| self.start(*contestant)).collect()
    }

    /// So many secrets that have not been read yet.
    fn secrets(&mut self, count: usize) -> Result<Vec<String>, String> {
        let names = self.names..self.names + count;
        self.names += count;
        let set = |number| {
            let name = format!("secret-{number:06}");
            let set = self.emulator.set_secret(&name, &"v".repeat(VALUE));
            set.map(|_| name).map_err(|problem| problem.to_string())
        };
        names.map(set).collect()
    }

    /// Reads the secrets one after the other, on one connection: the milliseconds of each read.
    fn one_by_one(&self, running: &Running, secrets: &[String]) -> Result<Vec<f64>, String> {
        let times = self.runtime.block_on(async {
            let target = &running.target;
            let mut connection = BufReader::new(target.connect().await?);
            let mut times = Vec::new();
            for secret in secrets {
                let start = Instant::now();
                connection.get_mut().write_all(target.request_for(secret).as_bytes()).await?;
                let answer = within(PATIENCE, Answer::read(&mut connection)).await?;
                times.push(milliseconds(start.elapsed()));
                if answer.status != 200 {
                    return Err(io::Error::other(format!("a read was answered {}", answer.status)));
                }
            }
            Ok(times)
        });
        times.map_err(|problem| format!("{}: {problem}", running.contestant.name()))
    }

    /// Reads one secret on so many connections, by wrk (<https://github.com/wg/wrk>): reads in a second, and the milliseconds
    /// of the median and of one in a hundred.
    fn load(&self, running: &Running, connections: usize, secret: &str) -> Result<[f64; 3], String> {
        let mut command = Command::new("wrk");
        command.args(["--threads", "1", "--connections", &connections.to_string()]);
        command.args(["--duration", &format!("{}s", self.time.as_secs()), "--timeout", "30s", "--script"]);
        command.arg(&self.script).arg(format!("http://{}{PATH}", running.target.address));
        // Not in the arguments, which every process can see.
        command.env("KEY", &running.target.key).env("SECRETS", secret);
        let output = command.output().map_err(|problem| format!("wrk cannot be run: {problem}"))?;
        self.emulator.clear_journal();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with('{')).ok_or("wrk has printed no summary")?;
        let summary: Value = serde_json::from_str(line).map_err(|_| "wrk's summary is no JSON")?;
        if summary["bad"] != 0 {
            return Err(format!("{}: some reads failed: {line}", running.contestant.name()));
        }
        let number = |name: &str| summary[name].as_f64().ok_or_else(|| format!("wrk does not say {name}"));
        let rate = number("requests")? / (number("duration_us")? / 1e6);
        Ok([rate, number("median_us")? / 1e3, number("p99_us")? / 1e3])
    }

    fn warm_reads(&mut self) -> Result<(), String> {
        self.slow_down(UPSTREAM);
        let all = self.start_all(&Contestant::ALL)?;
        let secret = self.secrets(1)?.concat();
        for running in &all {
            self.load(running, 8, &secret)?;
        }
        for round in 0..self.rounds {
            eprintln!("warm reads, round {} of {}", round + 1, self.rounds);
            for connections in [1, 8, 32, 128] {
                for running in &all {
                    let load = self.load(running, connections, &secret)?;
                    let measures = [Measure::WarmReads, Measure::WarmMedian, Measure::WarmP99];
                    for (measure, value) in measures.into_iter().zip(load) {
                        self.figures.add(measure, &connections.to_string(), running.contestant, value);
                    }
                }
            }
        }
        Ok(())
    }

    fn cold_reads(&mut self) -> Result<(), String> {
        let all = self.start_all(&Contestant::READERS)?;
        self.slow_down(Duration::ZERO);
        let first = self.secrets(1)?;
        for running in &all {
            self.one_by_one(running, &first)?;
        }
        for round in 0..self.rounds {
            eprintln!("cold reads, round {} of {}", round + 1, self.rounds);
            for (latency, count) in [(0, 200), (5, 100), (50, 20)] {
                self.slow_down(Duration::from_millis(latency));
                let secrets = self.secrets(count)?;
                for running in &all {
                    let mut times = self.one_by_one(running, &secrets)?;
                    let at = format!("{latency} ms upstream");
                    self.figures.add(
                        Measure::ColdMedian,
                        &at,
                        running.contestant,
                        report::median(&mut times),
                    );
                }
                self.emulator.clear_journal();
            }
        }
        Ok(())
    }

    fn first_answers(&mut self) -> Result<(), String> {
        self.slow_down(Duration::ZERO);
        let secret = self.secrets(1)?;
        for round in 0..self.rounds {
            eprintln!("first answers, round {} of {}", round + 1, self.rounds);
            for contestant in Contestant::ALL {
                let start = Instant::now();
                let running = self.start(contestant)?;
                self.one_by_one(&running, &secret)?;
                let took = milliseconds(start.elapsed());
                self.figures.add(Measure::FirstAnswer, "compiled ahead", contestant, took);
            }
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What the vault takes to answer in these measurements. Within a region of Azure it is some milliseconds.
const UPSTREAM: Duration = Duration::from_millis(5);

/// The length of a value: as long as a connection string.
const VALUE: usize = 96;
