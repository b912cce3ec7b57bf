//! `attack`: runs hostile clients against a component under the real host, and measures other clients.
//!
//! Each attack runs against a host of its own. During the attack other clients read a secret continuously:
//! all their reads must succeed within a latency limit, and the host's memory must stay below a limit.

mod clients;
mod scenarios;

use self::clients::Responses;
use self::scenarios::{MAX_CONNECTIONS, Scenario, scenarios};
use crate::client::Target;
use crate::process::{forget_peak, memory, peak_memory, raise_file_limit};
use crate::stack::{self, Deployment, EPOCH_INTERRUPTION, SECRET, Stack};
use keyvault_emulator::Emulator;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The options of `attack`.
#[derive(clap::Args)]
pub(crate) struct Attack {
    /// The component, a .wasm file
    #[arg(long, value_name = "FILE")]
    component: PathBuf,

    /// Run small attacks, with fewer clients and requests
    #[arg(long)]
    small: bool,
}

impl Attack {
    pub(crate) fn run(self) -> Result<(), String> {
        let files = raise_file_limit();
        let deployment = Deployment::of(&self.component)?;
        if !self.small && files < MAX_CONNECTIONS + RESERVED_FILES {
            let wanted = MAX_CONNECTIONS + RESERVED_FILES;
            return Err(format!(
                "the attacks need {wanted} open files, and the limit is {files} (`ulimit -Hn`)"
            ));
        }
        let attacks = scenarios(deployment, self.small);
        let directory = tempfile::tempdir().map_err(|error| format!("cannot create a directory: {error}"))?;
        let compiled = stack::compile(&EPOCH_INTERRUPTION, &self.component, directory.path())?;
        let (mut violations, count) = (Vec::new(), attacks.len());
        let mut table = String::from(HEADING);
        for (index, attack) in attacks.into_iter().enumerate() {
            eprintln!("[{}/{count}] {}", index + 1, attack.name);
            let measurement = measure(&compiled, deployment.options, attack)?;
            table += &measurement.markdown();
            violations.extend(measurement.violations());
        }
        println!("\n{table}");
        if violations.is_empty() { Ok(()) } else { Err(violations.join("\n")) }
    }
}

/// The measurements of one attack.
struct Measurement {
    attack: Scenario,
    responses: Responses,
    before: Reads,
    during: Reads,
    after: Reads,
    /// Before the attack, at its peak, and after it.
    memory: [Option<u64>; 3],
    duration: Duration,
    /// The lines that the host printed about trapped instances.
    traps: Vec<String>,
}

impl Measurement {
    /// Returns each limit that the attack exceeded.
    fn violations(&self) -> Vec<String> {
        let (attack, mut violations) = (&self.attack, Vec::new());
        let mut expect = |is_met: bool, violation: String| {
            if !is_met {
                violations.push(format!("{}: {violation}", attack.name));
            }
        };
        for (response, count) in &self.responses.counts {
            let is_allowed = attack.allowed.contains(&response.as_str());
            expect(is_allowed, format!("{count} unexpected responses: {response}"));
        }
        expect(!self.responses.counts.is_empty(), "no request got a response".to_owned());
        let slowest = self.responses.slowest;
        expect(slowest <= attack.max_response_time, format!("the slowest response took {slowest:.1?}"));
        for (reads, when) in [(&self.before, "before"), (&self.during, "during"), (&self.after, "after")] {
            let (failed, first) = (reads.failed.len(), reads.failed.first());
            expect(failed == 0, format!("{failed} reads failed {when} the attack: {first:?}"));
        }
        let p99 = self.during.quantile(0.99).unwrap_or_default();
        expect(p99 <= MAX_P99 + attack.queueing, format!("the p99 of reads was {p99:.1?}"));
        if let [Some(before), Some(peak), Some(after)] = self.memory {
            let growth = peak.max(after).saturating_sub(before);
            expect(growth <= attack.max_memory_growth, format!("memory grew by {} MiB", growth >> 20));
        }
        expect(self.traps.is_empty(), format!("{} traps: {:?}", self.traps.len(), self.traps.first()));
        violations
    }

    /// Returns the row of the Markdown table.
    fn markdown(&self) -> String {
        let Self { attack, responses, before, during, duration, .. } = self;
        let counts: Vec<_> =
            responses.counts.iter().map(|(response, count)| format!("{count} × {response}")).collect();
        let mebibytes =
            |bytes: Option<u64>| bytes.map_or("–".to_owned(), |bytes| (bytes >> 20).to_string());
        let memory = self.memory.map(mebibytes).join(" → ");
        let [median, p99] = [0.5, 0.99].map(|part| {
            let [before, during] = [before, during].map(|reads| milliseconds(reads.quantile(part)));
            format!("{before} → {during}")
        });
        let (successful, all) = (during.times.len(), during.times.len() + during.failed.len());
        let (slowest, duration) = (milliseconds(Some(responses.slowest)), duration.as_secs());
        format!(
            "| {} | {} | {slowest} | {successful} of {all} | {median} | {p99} | {memory} | {duration} |\n",
            attack.name,
            counts.join(", "),
        )
    }
}

/// Runs `attack` against a new host.
fn measure(component: &Path, options: &[&str], attack: Scenario) -> Result<Measurement, String> {
    let key = dev_host::random_key()?;
    let emulator = Emulator::new();
    emulator.set_secret(SECRET, VALUE).map_err(|error| error.to_string())?;
    let launch = stack::launch(component.to_owned())?
        .options(["--allow-precompiled"])
        .options(options.iter().copied())
        .options(CONNECTIONS)
        // The same setting as in `deploy/`.
        .host_environment("MALLOC_ARENA_MAX", "2")
        .environment([("GATEWAY_KEY", key.as_str())])
        .environment(attack.settings.clone());
    let mut stack = Stack::start(emulator, launch)?;
    let process = stack.server.pid();
    let target = Target { address: stack.server.address(), key };
    let name = attack.name.clone();
    let Stack { runtime, stop, .. } = &mut stack;
    let measurement = runtime.block_on(async {
        let measured = async {
            let before = Reads::sequential(&target, BASELINE_READS).await;
            let memory_before = memory(process);
            forget_peak(process);
            let start = Instant::now();
            let (responses, during) = Reads::during(&target, (attack.run)(target.clone())).await;
            let duration = start.elapsed();
            let peak = peak_memory(process);
            tokio::time::sleep(SETTLE_TIME).await;
            let memory_after = memory(process);
            let after = Reads::sequential(&target, BASELINE_READS).await;
            let memory = [memory_before, peak, memory_after];
            Measurement { attack, responses, before, during, after, memory, duration, traps: Vec::new() }
        };
        tokio::select! {
            measurement = tokio::time::timeout(LIMIT, measured) => {
                measurement.map_err(|_| format!("{name}: the attack did not end within {LIMIT:?}"))
            }
            _ = stop => Err("the attack was stopped".to_owned()),
        }
    });
    let mut traps = stack.server.log();
    traps.retain(|line| line.contains(TRAP_TEXT));
    measurement.map(|measurement| Measurement { traps, ..measurement })
}

/// The reads of the other clients.
#[derive(Default)]
struct Reads {
    /// The times of successful reads, sorted.
    times: Vec<Duration>,
    /// The error of each failed read.
    failed: Vec<String>,
}

impl Reads {
    fn new(reads: impl IntoIterator<Item = Result<Duration, String>>) -> Self {
        let mut all = Self::default();
        for read in reads {
            match read {
                Ok(time) => all.times.push(time),
                Err(error) => all.failed.push(error),
            }
        }
        all.times.sort_unstable();
        all
    }

    /// Returns a quantile of the times of successful reads, if there are any.
    fn quantile(&self, part: f64) -> Option<Duration> {
        let last = self.times.len().saturating_sub(1);
        self.times.get((part * last as f64).ceil() as usize).copied()
    }

    async fn sequential(target: &Target, count: usize) -> Self {
        let mut reads = Vec::new();
        for _ in 0..count {
            reads.push(read(target).await);
        }
        Self::new(reads)
    }

    /// Reads continuously while `attack` runs, at least once per client.
    async fn during<T>(target: &Target, attack: impl Future<Output = T>) -> (T, Self) {
        let is_over = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (target, is_over) = (target.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut reads = Vec::new();
                while reads.is_empty() || !is_over.load(Ordering::Relaxed) {
                    reads.push(read(&target).await);
                    tokio::time::sleep(READ_INTERVAL).await;
                }
                reads
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let outcome = attack.await;
        is_over.store(true, Ordering::Relaxed);
        let mut reads = Vec::new();
        for client in clients {
            reads.extend(client.await.unwrap_or_else(|error| vec![Err(error.to_string())]));
        }
        (outcome, Self::new(reads))
    }
}

/// Reads over a new connection, which is the slowest kind of read.
async fn read(target: &Target) -> Result<Duration, String> {
    let start = Instant::now();
    let response = target.send(&target.request(SECRET, &target.key, "Connection: close\r\n")).await;
    let time = start.elapsed();
    let response = response.map_err(|error| format!("{error} after {time:.1?}"))?;
    let expected = format!(r#"{{"Secret":"{SECRET}","Value":"{VALUE}"}}"#);
    if (response.status, response.body.as_slice()) == (200, expected.as_bytes()) {
        Ok(time)
    } else {
        Err(format!("{} {}", response.status, String::from_utf8_lossy(&response.body)))
    }
}

fn milliseconds(time: Option<Duration>) -> String {
    match time.map(|time| time.as_secs_f64() * 1e3) {
        None => "–".to_owned(),
        Some(time) if time < 10.0 => format!("{time:.1}"),
        Some(time) => format!("{time:.0}"),
    }
}

const HEADING: &str = "\
| attack | responses | slowest response, ms | successful reads by others | their median, ms | their p99, ms \
| memory, MiB | s |
|---|---|---|---|---|---|---|---|
";

/// The text that `wasmtime serve` prints when an instance traps.
const TRAP_TEXT: &str = "worker failed";

/// The value that the other clients read, of the length of a connection string.
const VALUE: &str = "Server=tcp:example.database.windows.net,1433;Database=billing;Encrypt=True;Timeout=30;";

/// The timeout of one attack: more than the longest takes on two busy cores with an unoptimised host.
const LIMIT: Duration = Duration::from_secs(900);

/// A connection limit above that of every attack.
const CONNECTIONS: [&str; 2] = ["--max-concurrent-connections", "15000"];

/// Open files that are not connections of an attack, with a margin.
const RESERVED_FILES: usize = 500;

/// Reads before and after an attack: enough for a p99.
const BASELINE_READS: usize = 100;

/// The time after which freed memory has been returned.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// The number of other clients, which pause after each read: they measure and do not load the host.
const CLIENTS: usize = 4;

const READ_INTERVAL: Duration = Duration::from_millis(20);

/// The limit of the p99 latency. A client that finds the host's backlog full retries the connection after one
/// second and after three. An unoptimised host serves a few hundred requests per second, and 200 clients keep
/// it busy: a read that starts an instance then takes nearly all of its ten seconds.
const MAX_P99: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });
