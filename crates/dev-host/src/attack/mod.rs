//! `attack`: runs hostile clients against a component under the real host, and measures other clients.
//!
//! Each attack runs against a host of its own. During the attack other clients read a secret continuously:
//! all their reads must succeed within a latency limit, unless the attack is one that may fill the host, and the host's
//! memory must stay below a limit.

pub(crate) mod clients;
mod scenarios;

use self::clients::{Responses, run_all};
use self::scenarios::{MAX_CONNECTIONS, Scenario, scenarios};
use crate::client::{Response, Target};
use crate::process::{forget_peak, memory, peak_memory, raise_file_limit};
use crate::stack::{self, Deployment, EPOCH_INTERRUPTION, SECRET, Stack};
use crate::statistics::{milliseconds, quantile, rounded};
use dev_host::{Host, Launch};
use keyvault_emulator::Emulator;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The options of `attack`.
#[derive(clap::Args)]
pub(crate) struct Attack {
    /// The component, a .wasm file
    #[arg(long, value_name = "FILE")]
    component: PathBuf,

    /// The host that runs the component
    #[arg(long, default_value = Host::DEFAULT)]
    host: Host,

    /// The own host with the component embedded, in place of the one of this program
    #[arg(long, value_name = "PROGRAM")]
    program: Option<PathBuf>,

    /// Run small attacks, with fewer clients and requests
    #[arg(long)]
    small: bool,
}

impl Attack {
    pub(crate) fn run(self) -> Result<(), String> {
        let files = raise_file_limit();
        let deployment = Deployment::of(&self.component, self.host)?;
        if !self.small && files < MAX_CONNECTIONS + RESERVED_FILES {
            let wanted = MAX_CONNECTIONS + RESERVED_FILES;
            return Err(format!(
                "the attacks need {wanted} open files, and the limit is {files} (`ulimit -Hn`)"
            ));
        }
        let attacks = scenarios(deployment, self.small);
        let directory = tempfile::tempdir().map_err(|error| format!("cannot create a directory: {error}"))?;
        let launch = match (self.host, &self.program) {
            (Host::Wasmtime, _) => {
                let compiled = stack::compile(&EPOCH_INTERRUPTION, &self.component, directory.path())?;
                stack::launch(compiled)?.options([
                    "--allow-precompiled",
                    "--max-concurrent-connections",
                    CONNECTIONS,
                ])
            }
            (_, Some(program)) => {
                let launch = Launch::new(program, &self.component).host(Host::Embedded);
                launch.options(["--max-connections", CONNECTIONS])
            }
            (host, None) => {
                stack::launch(self.component)?.host(host).options(["--max-connections", CONNECTIONS])
            }
        };
        let (mut violations, count) = (Vec::new(), attacks.len());
        let mut table = String::from(HEADING);
        for (index, attack) in attacks.into_iter().enumerate() {
            eprintln!("[{}/{count}] {}", index + 1, attack.name);
            let measurement = measure(launch.clone().options(deployment.options), attack)?;
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
    /// The reads by other clients before, during and after the attack.
    reads: [Responses; 3],
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
        let [before, during, after] = &self.reads;
        for (responses, of, allowed) in [
            (&self.responses, "requests of the attack", attack.allowed),
            (before, "reads before the attack", &["200"]),
            (during, "reads during the attack", attack.allowed_reads),
            (after, "reads after the attack", &["200"]),
        ] {
            for (response, count) in &responses.counts {
                let is_allowed = allowed.contains(&response.as_str());
                expect(is_allowed, format!("unexpected response to {count} {of}: {response}"));
            }
            expect(!responses.times.is_empty(), format!("there were no {of}"));
        }
        for (responses, part, limit, of) in [
            (&self.responses, 1.0, attack.max_response_time, "slowest response"),
            (during, 0.99, MAX_P99 + attack.queueing, "p99 of reads"),
        ] {
            let time = quantile(&responses.times, part);
            expect(time <= milliseconds(limit), format!("the {of} took {time:.0} ms"));
        }
        if let [Some(before), Some(peak), Some(after)] = self.memory {
            let growth = peak.max(after).saturating_sub(before);
            expect(growth <= attack.max_memory_growth, format!("memory grew by {} MiB", growth >> 20));
        }
        expect(self.traps.is_empty(), format!("{} traps: {:?}", self.traps.len(), self.traps.first()));
        violations
    }

    /// Returns the row of the Markdown table.
    fn markdown(&self) -> String {
        let Self { attack, responses, reads: [before, during, _], duration, .. } = self;
        let counts: Vec<_> =
            responses.counts.iter().map(|(response, count)| format!("{count} × {response}")).collect();
        let mebibytes =
            |bytes: Option<u64>| bytes.map_or("–".to_owned(), |bytes| (bytes >> 20).to_string());
        let memory = self.memory.map(mebibytes).join(" → ");
        let time = |responses: &Responses, part| rounded(quantile(&responses.times, part));
        let [median, p99] =
            [0.5, 0.99].map(|part| format!("{} → {}", time(before, part), time(during, part)));
        let (successful, all) = (during.counts.get("200").unwrap_or(&0), during.times.len());
        format!(
            "| {} | {} | {} | {successful} of {all} | {median} | {p99} | {memory} | {} |\n",
            attack.name,
            counts.join(", "),
            time(responses, 1.0),
            duration.as_secs(),
        )
    }
}

/// Runs `attack` against a new host.
fn measure(launch: Launch, attack: Scenario) -> Result<Measurement, String> {
    let key = dev_host::random_key()?;
    let emulator = Emulator::new();
    emulator.set_secret(SECRET, VALUE).map_err(|error| error.to_string())?;
    let launch = launch
        // The same setting as in `deploy/`.
        .host_environment("MALLOC_ARENA_MAX", "2")
        .environment([("GATEWAY_KEY", key.as_str())])
        .environment(attack.settings.clone());
    let mut stack = Stack::start(emulator, launch)?;
    let process = stack.server.pid();
    let target = Target { address: stack.server.address(), key };
    let name = attack.name.clone();
    let Stack { server, runtime, stop, .. } = &mut stack;
    runtime.block_on(async {
        let measured = async {
            let before = reads_in_turn(&target).await;
            let memory_before = memory(process);
            forget_peak(process);
            let start = Instant::now();
            let (responses, during) = reads_during(&target, (attack.run)(target.clone())).await;
            let duration = start.elapsed();
            let peak = peak_memory(process);
            tokio::time::sleep(SETTLE_TIME).await;
            let memory_after = memory(process);
            let after = reads_in_turn(&target).await;
            let responses = responses.map_err(|error| format!("{name}: cannot connect: {error}"))?;
            let mut traps = server.log();
            traps.retain(|line| TRAP_TEXTS.iter().any(|text| line.contains(text)));
            let (reads, memory) = ([before, during, after], [memory_before, peak, memory_after]);
            Ok(Measurement { attack, responses, reads, memory, duration, traps })
        };
        tokio::select! {
            measurement = tokio::time::timeout(LIMIT, measured) => {
                measurement.unwrap_or_else(|_| Err(format!("{name}: the attack did not end within {LIMIT:?}")))
            }
            _ = stop => Err("the attack was stopped".to_owned()),
        }
    })
}

/// Returns the reads of one client without an attack.
async fn reads_in_turn(target: &Target) -> Responses {
    let mut reads = Responses::default();
    for _ in 0..BASELINE_READS {
        reads.time(read(target)).await;
    }
    reads
}

/// Reads continuously while `attack` runs, at least once per client.
async fn reads_during<T>(target: &Target, attack: impl Future<Output = T>) -> (T, Responses) {
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|_| {
        let (target, is_over) = (target.clone(), Arc::clone(&is_over));
        async move {
            let mut reads = Responses::default();
            while reads.times.is_empty() || !is_over.load(Ordering::Relaxed) {
                reads.time(read(&target)).await;
                tokio::time::sleep(READ_INTERVAL).await;
            }
            reads
        }
    });
    let attack = async {
        let outcome = attack.await;
        is_over.store(true, Ordering::Relaxed);
        outcome
    };
    tokio::join!(attack, run_all(clients))
}

/// Reads over a new connection, which is the slowest kind of read.
async fn read(target: &Target) -> io::Result<Response> {
    let request = target.request(SECRET, &target.key, "Connection: close\r\n");
    let response = Response::exchange(target.connect().await?, &request).await?;
    let expected = format!(r#"{{"Secret":"{SECRET}","Value":"{VALUE}"}}"#);
    if response.status == 200 && response.body != expected.as_bytes() {
        return Err(io::Error::other("another value"));
    }
    Ok(response)
}

const HEADING: &str = "\
| attack | responses | slowest response, ms | successful reads by others | their median, ms | their p99, ms \
| memory, MiB | s |
|---|---|---|---|---|---|---|---|
";

/// The texts that `wasmtime serve` and the own host print when an instance traps.
const TRAP_TEXTS: [&str; 2] = ["worker failed", "after a trap"];

/// The value that the other clients read, of the length of a connection string.
const VALUE: &str = "Server=tcp:example.database.windows.net,1433;Database=billing;Encrypt=True;Timeout=30;";

/// The timeout of one attack: more than the longest takes on two busy cores with an unoptimised host.
const LIMIT: Duration = Duration::from_secs(900);

/// A connection limit above that of every attack.
const CONNECTIONS: &str = "15000";

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
