//! `bench`: compares the gateway with its host alone and with native services, in one run.
//!
//! All contestants run at the same time and are measured in turn, round after round, so that other load on
//! the machine affects all of them. The result is the ratio of medians.

mod contestants;
mod report;
mod soak;

pub(crate) use self::soak::Soak;

use self::contestants::{Contestant, Programs, Running};
use self::report::{Figures, Measure, Report};
use crate::client::{REQUEST_TIMEOUT, Response, Target, timeout};
use crate::process::{memory, processor_time, raise_file_limit};
use crate::stack::{self, PATH};
use crate::statistics::{milliseconds, quantile};
use keyvault_emulator::{Effect, Emulator, Fault, Upstream};
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// The options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// The gateway of WASI 0.2 and the one of 0.3
    #[arg(long, num_args = 2, value_names = ["PROXY", "SERVICE"])]
    gateways: Vec<PathBuf>,

    /// The smallest component of WASI 0.2 and the one of 0.3
    #[arg(long, num_args = 2, value_names = ["PROXY", "SERVICE"])]
    floors: Vec<PathBuf>,

    /// The own host with the gateway of WASI 0.3 embedded
    #[arg(long, value_name = "PROGRAM")]
    own_host: PathBuf,

    /// The program of the native service
    #[arg(long, value_name = "PROGRAM")]
    native: PathBuf,

    /// The folder of the report, `results.md`
    #[arg(long, value_name = "FOLDER")]
    report: PathBuf,

    /// The number of rounds for each contestant
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// The duration of each load, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), String> {
        let begun = Instant::now();
        // The emulator has one connection per call, because the host opens a new one for each call.
        raise_file_limit();
        let directory = tempfile::tempdir().map_err(|error| format!("cannot create a directory: {error}"))?;
        let script = directory.path().join("reads.lua");
        std::fs::write(&script, include_str!("reads.lua")).map_err(|error| error.to_string())?;
        let version = Command::new("wrk").arg("-v").output();
        let version = version.map_err(|_| "install wrk: `apt-get install wrk` or `brew install wrk`")?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        eprintln!("compiling the components");
        let (mut figures, mut components) = (Figures::default(), Vec::new());
        // In the order of the contestants.
        let files = self.floors.iter().zip(&self.gateways).flat_map(|(floor, gateway)| [floor, gateway]);
        for ((contestant, _), file) in Contestant::ALL.into_iter().zip(files.chain([&self.own_host])) {
            let size = std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?.len();
            figures.add(Measure::Size, "KiB", contestant, size as f64 / 1024.0);
            if contestant != Contestant::OwnHost {
                components.push(stack::compile(&[], file, directory.path())?);
            }
        }
        let runtime = Runtime::new().map_err(|error| format!("cannot start a runtime: {error}"))?;
        let emulator = Emulator::new();
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|error| format!("the emulator cannot listen: {error}"))?;
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, &served.ca_pem).map_err(|error| error.to_string())?;
        let (own_host, native) = (self.own_host.clone(), self.native.clone());
        let programs = Programs { components, own_host, native, served, ca_file };
        let mut setup = Setup { bench: &self, programs, emulator, runtime, script, figures, names: 0 };
        setup.warm_reads()?;
        setup.cold_reads()?;
        setup.bursts()?;
        setup.first_responses()?;
        let report = Report {
            figures: &setup.figures,
            wrk: version.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
            rounds: self.rounds,
            seconds: self.seconds,
            took: begun.elapsed(),
        };
        let (text, file) = (report.markdown(), self.report.join("results.md"));
        println!("{text}");
        std::fs::create_dir_all(&self.report)
            .and_then(|()| std::fs::write(&file, text))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        Ok(())
    }
}

/// The measuring setup: the emulator, the load generator and the measurements.
struct Setup<'a> {
    bench: &'a Bench,
    programs: Programs,
    emulator: Emulator,
    runtime: Runtime,
    script: PathBuf,
    figures: Figures,
    names: usize,
}

impl Setup<'_> {
    /// Sets the latency of the vault.
    fn set_latency(&self, latency: Duration) {
        self.emulator.clear_faults();
        if !latency.is_zero() {
            self.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(latency));
        }
    }

    fn start_all(&self, contestants: &[Contestant]) -> Result<Vec<Running>, String> {
        contestants.iter().map(|contestant| self.programs.start(*contestant)).collect()
    }

    /// Creates secrets that no contestant has read.
    fn secrets(&mut self, count: usize) -> Result<Vec<String>, String> {
        let names = self.names..self.names + count;
        self.names += count;
        let set = |number| {
            let name = format!("secret-{number:06}");
            let set = self.emulator.set_secret(&name, &"v".repeat(VALUE));
            set.map(|_| name).map_err(|error| error.to_string())
        };
        names.map(set).collect()
    }

    /// Reads secrets one after the other on one connection. Returns the milliseconds of each read.
    fn read_sequentially(&self, running: &Running, secrets: &[String]) -> Result<Vec<f64>, String> {
        let times = self.runtime.block_on(async {
            let mut connection = BufReader::new(running.target.connect().await?);
            read_on(&mut connection, &running.target, secrets).await
        });
        times.map_err(|error| format!("{}: {error}", running.contestant.name()))
    }

    /// Reads one secret on several connections with wrk (<https://github.com/wg/wrk>). Returns the reads per
    /// second, the median and the p99 in milliseconds, and the processor time of the server for each in microseconds.
    fn load(&self, running: &Running, connections: usize, secret: &str) -> Result<[f64; 4], String> {
        self.load_with(Command::new("wrk"), running, connections, secret)
    }

    /// Does the same with one connection, while the server and wrk share one core. Returns the reads per second.
    fn load_on_one_core(&self, running: &Running, secret: &str) -> Result<f64, String> {
        let process = running.server.pid().to_string();
        let pin = |cores: &str| {
            let pinned = Command::new("taskset")
                .args(["--all-tasks", "--cpu-list", "--pid", cores, &process])
                .output();
            pinned.map_err(|error| format!("taskset cannot be run: {error}"))
        };
        pin("0")?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", "0", "wrk"]);
        let load = self.load_with(command, running, 1, secret)?;
        pin(&format!("0-{}", std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1)))?;
        Ok(load[0])
    }

    fn load_with(
        &self,
        mut command: Command,
        running: &Running,
        connections: usize,
        secret: &str,
    ) -> Result<[f64; 4], String> {
        let time_before = processor_time(running.server.pid());
        command.args(["--threads", "1", "--connections", &connections.to_string()]);
        command.args(["--duration", &format!("{}s", self.bench.seconds), "--timeout", "30s", "--script"]);
        command.arg(&self.script).arg(format!("http://{}{PATH}", running.target.address));
        // Not as arguments, which every process can read.
        command.env("KEY", &running.target.key).env("SECRETS", secret);
        let output = command.output().map_err(|error| format!("wrk cannot be run: {error}"))?;
        let time =
            processor_time(running.server.pid()).zip(time_before).map(|(after, before)| after - before);
        self.emulator.clear_journal();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with('{')).ok_or("wrk printed no summary")?;
        let summary: Value = serde_json::from_str(line).map_err(|_| "the summary of wrk is not JSON")?;
        if summary["bad"] != 0 {
            return Err(format!("{}: some reads failed: {line}", running.contestant.name()));
        }
        let number = |name: &str| summary[name].as_f64().ok_or_else(|| format!("wrk reports no {name}"));
        let requests = number("requests")?;
        let rate = requests / (number("duration_us")? / 1e6);
        let time = time.map_or(f64::NAN, |seconds| seconds * 1e6 / requests);
        Ok([rate, number("median_us")? / 1e3, number("p99_us")? / 1e3, time])
    }

    fn warm_reads(&mut self) -> Result<(), String> {
        self.set_latency(UPSTREAM);
        let all = self.start_all(&Contestant::ALL.map(|known| known.0))?;
        let secret = self.secrets(1)?.concat();
        for running in &all {
            self.load(running, 8, &secret)?;
        }
        for round in 0..self.bench.rounds {
            eprintln!("warm reads, round {} of {}", round + 1, self.bench.rounds);
            for connections in [1, 8, 32, 128] {
                for running in &all {
                    let load = self.load(running, connections, &secret)?;
                    let measures =
                        [Measure::WarmReads, Measure::WarmMedian, Measure::WarmP99, Measure::ProcessorTime];
                    for (measure, value) in measures.into_iter().zip(load) {
                        self.figures.add(measure, &connections.to_string(), running.contestant, value);
                    }
                }
            }
            for running in &all {
                let rate = self.load_on_one_core(running, &secret)?;
                self.figures.add(Measure::OneCore, "1", running.contestant, rate);
            }
        }
        for running in &all {
            let memory =
                memory(running.server.pid()).map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20));
            self.figures.add(Measure::Memory, "MiB", running.contestant, memory);
        }
        Ok(())
    }

    /// Reads one secret by many clients at the same time, each burst by a new process.
    fn bursts(&mut self) -> Result<(), String> {
        self.set_latency(UPSTREAM);
        let secret = self.secrets(1)?.concat();
        for round in 0..self.bench.rounds {
            eprintln!("bursts, round {} of {}", round + 1, self.bench.rounds);
            for (contestant, clients) in
                Contestant::READERS.into_iter().flat_map(|reader| [(reader, 64), (reader, 1000)])
            {
                let running = self.programs.start(contestant)?;
                self.emulator.clear_journal();
                let (target, request) =
                    (&running.target, running.target.request(&secret, &running.target.key, ""));
                let failed = self.runtime.block_on(async {
                    let mut reads = JoinSet::new();
                    for _ in 0..clients {
                        let (stream, request) = (target.connect().await?, request.clone());
                        reads.spawn(async move {
                            let read = timeout(REQUEST_TIMEOUT, Response::exchange(stream, &request)).await;
                            read.map_or(true, |response| response.status != 200)
                        });
                    }
                    Ok::<_, io::Error>(reads.join_all().await.into_iter().filter(|failed| *failed).count())
                });
                let failed = failed.map_err(|error| format!("{}: {error}", contestant.name()))?;
                let at = format!("{clients} reads");
                self.figures.add(Measure::Calls, &at, contestant, self.emulator.vault_calls().len() as f64);
                self.figures.add(Measure::Calls, &format!("{at}: failed"), contestant, failed as f64);
            }
        }
        Ok(())
    }

    fn cold_reads(&mut self) -> Result<(), String> {
        let all = self.start_all(&Contestant::READERS)?;
        self.set_latency(Duration::ZERO);
        let first = self.secrets(1)?;
        for running in &all {
            self.read_sequentially(running, &first)?;
        }
        for round in 0..self.bench.rounds {
            eprintln!("cold reads, round {} of {}", round + 1, self.bench.rounds);
            for (latency, count) in [(0, 200), (5, 100), (50, 20)] {
                self.set_latency(Duration::from_millis(latency));
                let secrets = self.secrets(count)?;
                for running in &all {
                    let times = self.read_sequentially(running, &secrets)?;
                    let (at, median) = (format!("{latency} ms upstream"), quantile(&times, 0.5));
                    self.figures.add(Measure::ColdMedian, &at, running.contestant, median);
                }
                self.emulator.clear_journal();
            }
            self.fifty(&all)?;
        }
        Ok(())
    }

    /// Reads 50 cold secrets over open connections: by one request for each, one after the other and eight at a
    /// time, and by one request for all.
    fn fifty(&mut self, all: &[Running]) -> Result<(), String> {
        self.set_latency(UPSTREAM);
        for running in all {
            let (name, target) = (running.contestant.name(), &running.target);
            let times = self.secrets(50).and_then(|secrets| self.read_sequentially(running, &secrets))?;
            self.figures.add(Measure::Fifty, "50 requests", running.contestant, times.iter().sum());

            let secrets = self.secrets(50)?;
            let took = self.runtime.block_on(async {
                let mut connections = Vec::new();
                for secrets in secrets.chunks(7) {
                    let connection = BufReader::new(target.connect().await?);
                    connections.push((connection, target.clone(), secrets.to_vec()));
                }
                let start = Instant::now();
                let reads = connections.into_iter().map(async |(mut connection, target, secrets)| {
                    read_on(&mut connection, &target, &secrets).await
                });
                for times in reads.collect::<JoinSet<_>>().join_all().await {
                    times?;
                }
                io::Result::Ok(milliseconds(start.elapsed()))
            });
            let took = took.map_err(|error| format!("{name}: {error}"))?;
            self.figures.add(Measure::Fifty, "50 requests, 8 at a time", running.contestant, took);

            if matches!(running.contestant, Contestant::Native | Contestant::NativeWithCache) {
                continue;
            }
            let request = target.request_for_several(&self.secrets(50)?);
            let read = self.runtime.block_on(async {
                let stream = target.connect().await?;
                let start = Instant::now();
                let response = timeout(REQUEST_TIMEOUT, Response::exchange(stream, &request)).await?;
                io::Result::Ok((response, milliseconds(start.elapsed())))
            });
            let (response, took) = read.map_err(|error| format!("{name}: {error}"))?;
            let text = String::from_utf8_lossy(&response.body);
            if response.status != 200 || text.contains("\"Error\"") {
                return Err(format!("{name}: not all of 50 secrets were read"));
            }
            self.figures.add(Measure::Fifty, "one request", running.contestant, took);
        }
        self.emulator.clear_journal();
        Ok(())
    }

    fn first_responses(&mut self) -> Result<(), String> {
        self.set_latency(Duration::ZERO);
        let secret = self.secrets(1)?;
        for round in 0..self.bench.rounds {
            eprintln!("first answers, round {} of {}", round + 1, self.bench.rounds);
            for (contestant, _) in Contestant::ALL {
                let start = Instant::now();
                let running = self.programs.start(contestant)?;
                self.read_sequentially(&running, &secret)?;
                let took = milliseconds(start.elapsed());
                self.figures.add(Measure::FirstResponse, "compiled ahead", contestant, took);
            }
        }
        Ok(())
    }
}

/// Reads secrets one after the other over one connection. Returns the times in milliseconds.
async fn read_on(
    connection: &mut BufReader<TcpStream>,
    target: &Target,
    secrets: &[String],
) -> io::Result<Vec<f64>> {
    let mut times = Vec::new();
    for secret in secrets {
        let start = Instant::now();
        connection.get_mut().write_all(target.request(secret, &target.key, "").as_bytes()).await?;
        let response = timeout(REQUEST_TIMEOUT, Response::read(connection)).await?;
        times.push(milliseconds(start.elapsed()));
        if response.status != 200 {
            return Err(io::Error::other(format!("a read got the status {}", response.status)));
        }
    }
    Ok(times)
}

/// The latency of the vault in warm reads. Within an Azure region it is a few milliseconds.
const UPSTREAM: Duration = Duration::from_millis(5);

/// The length of a value, which is that of a connection string.
const VALUE: usize = 96;
