//! `attack`: what hostile clients can do to a component under the real serve, and what other clients notice, measured.
//!
//! Each attack meets a host of its own. While it lasts, other clients read a secret over and over; all of their reads have to
//! succeed, in a bounded time, and the host's memory has a bound, too.

mod clients;
mod scenarios;

use self::clients::Answers;
use self::scenarios::{IDLE, Scenario, scenarios};
use crate::client::Target;
use crate::process::{self, Memory};
use crate::rig::{self, INTERRUPTIBLE, Rig, SECRET, Shipped};
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

    /// Attacks with a fraction of everything
    #[arg(long)]
    small: bool,
}

impl Attack {
    pub(crate) fn run(self) -> Result<(), String> {
        let files = process::raise_file_limit();
        let shipped = Shipped::of(&self.component)?;
        if !self.small && files < IDLE + OTHER_FILES {
            let wanted = IDLE + OTHER_FILES;
            return Err(format!(
                "the attacks take {wanted} open files, and a process may have {files} (`ulimit -Hn`)"
            ));
        }
        let attacks = scenarios(shipped, self.small);
        let directory = tempfile::tempdir().map_err(|problem| format!("no directory: {problem}"))?;
        let compiled = rig::compile(&INTERRUPTIBLE, &self.component, directory.path())?;
        let (mut problems, count) = (Vec::new(), attacks.len());
        let mut table = String::from(HEADING);
        for (index, attack) in attacks.into_iter().enumerate() {
            eprintln!("[{}/{count}] {}", index + 1, attack.name);
            let row = measure(&compiled, shipped.options, attack)?;
            table += &row.markdown();
            problems.extend(row.problems());
        }
        println!("\n{table}");
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }
}

/// What was measured of one attack.
struct Row {
    attack: Scenario,
    answers: Answers,
    before: Reads,
    during: Reads,
    after: Reads,
    memory: Option<[u64; 3]>,
    took: Duration,
    /// What the host printed about instances that trapped.
    traps: Vec<String>,
}

impl Row {
    /// What is not as it has to be.
    fn problems(&self) -> Vec<String> {
        let (attack, mut problems) = (&self.attack, Vec::new());
        let mut expect = |right: bool, problem: String| {
            if !right {
                problems.push(format!("{}: {problem}", attack.name));
            }
        };
        for (answer, count) in &self.answers.counts {
            expect(attack.answers.contains(&answer.as_str()), format!("{count} were answered {answer}"));
        }
        expect(!self.answers.counts.is_empty(), "nothing was answered".to_owned());
        let longest = self.answers.longest;
        expect(longest <= attack.longest, format!("an answer took {longest:.1?}"));
        for (reads, when) in [(&self.before, "before"), (&self.during, "during"), (&self.after, "after")] {
            let failed = &reads.failed;
            expect(
                failed.is_empty(),
                format!("{} reads failed {when} it: {:?}", failed.len(), failed.first()),
            );
        }
        let p99 = self.during.quantile(0.99).unwrap_or_default();
        expect(p99 <= LONGEST_P99 + attack.wait, format!("one read of a hundred took {p99:.1?} or longer"));
        if let Some([before, peak, after]) = self.memory {
            let growth = peak.max(after).saturating_sub(before);
            expect(growth <= attack.growth, format!("memory grew by {} MiB", growth >> 20));
        }
        expect(self.traps.is_empty(), format!("{} traps: {:?}", self.traps.len(), self.traps.first()));
        problems
    }

    /// A line of the table.
    fn markdown(&self) -> String {
        let Self { attack, answers, before, during, took, .. } = self;
        let counts: Vec<_> =
            answers.counts.iter().map(|(answer, count)| format!("{count} × {answer}")).collect();
        let memory = self.memory.map_or_else(
            || "not measured here".to_owned(),
            |memory| memory.map(|bytes| (bytes >> 20).to_string()).join(" → "),
        );
        let [median, p99] = [0.5, 0.99].map(|part| {
            let [before, during] = [before, during].map(|reads| milliseconds(reads.quantile(part)));
            format!("{before} → {during}")
        });
        let (good, all) = (during.times.len(), during.times.len() + during.failed.len());
        let (longest, took) = (milliseconds(Some(answers.longest)), took.as_secs());
        format!(
            "| {} | {} | {longest} | {good} of {all} | {median} | {p99} | {memory} | {took} |\n",
            attack.name,
            counts.join(", "),
        )
    }
}

/// Runs `attack` against a new host.
fn measure(component: &Path, options: &[&str], attack: Scenario) -> Result<Row, String> {
    let key = dev_host::random_text()?;
    let emulator = Emulator::new();
    emulator.set_secret(SECRET, VALUE).map_err(|problem| problem.to_string())?;
    let launch = rig::launch(component.to_owned())?
        .options(["--allow-precompiled"])
        .options(options.iter().copied())
        .options(CONNECTIONS)
        // As the files in deploy/ do.
        .own_environment("MALLOC_ARENA_MAX", "2")
        .environment([("GATEWAY_KEY", key.as_str())])
        .environment(attack.settings.clone());
    let mut rig = Rig::start(emulator, launch)?;
    let memory = Memory::of(rig.server.pid());
    let target = Target { address: rig.server.address(), key };
    let name = attack.name.clone();
    let Rig { runtime, stop, .. } = &mut rig;
    let row = runtime.block_on(async {
        let measured = async {
            let before = Reads::one_after_another(&target, READS_IN_PEACE).await;
            let memory_before = memory.now();
            memory.forget_peak();
            let start = Instant::now();
            let (answers, during) = Reads::during(&target, (attack.run)(target.clone())).await;
            let took = start.elapsed();
            let peak = memory.peak();
            tokio::time::sleep(CALM).await;
            let memory_after = memory.now();
            let after = Reads::one_after_another(&target, READS_IN_PEACE).await;
            let memory = memory_before.zip(peak).zip(memory_after).map(|((a, b), c)| [a, b, c]);
            Row { attack, answers, before, during, after, memory, took, traps: Vec::new() }
        };
        tokio::select! {
            row = tokio::time::timeout(LIMIT, measured) => {
                row.map_err(|_| format!("{name}: not over after {LIMIT:?}"))
            }
            _ = stop => Err("the attack was stopped".to_owned()),
        }
    });
    let mut traps = rig.server.log();
    traps.retain(|line| line.contains(TRAPPED));
    row.map(|row| Row { traps, ..row })
}

/// How reads of the other clients went.
#[derive(Default)]
struct Reads {
    /// How long each good one took, shortest first.
    times: Vec<Duration>,
    /// What was wrong with each that was not good.
    failed: Vec<String>,
}

impl Reads {
    fn new(reads: impl IntoIterator<Item = Result<Duration, String>>) -> Self {
        let mut all = Self::default();
        for read in reads {
            match read {
                Ok(time) => all.times.push(time),
                Err(problem) => all.failed.push(problem),
            }
        }
        all.times.sort_unstable();
        all
    }

    /// The time in which this part of the good reads had their answer, if there are any.
    fn quantile(&self, part: f64) -> Option<Duration> {
        let last = self.times.len().saturating_sub(1);
        self.times.get((part * last as f64).ceil() as usize).copied()
    }

    async fn one_after_another(target: &Target, count: usize) -> Self {
        let mut reads = Vec::new();
        for _ in 0..count {
            reads.push(read(target).await);
        }
        Self::new(reads)
    }

    /// Reads for as long as `attack` lasts, and at least one by each client.
    async fn during<T>(target: &Target, attack: impl Future<Output = T>) -> (T, Self) {
        let over = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (target, over) = (target.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut reads = Vec::new();
                while reads.is_empty() || !over.load(Ordering::Relaxed) {
                    reads.push(read(&target).await);
                    tokio::time::sleep(PAUSE).await;
                }
                reads
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let outcome = attack.await;
        over.store(true, Ordering::Relaxed);
        let mut reads = Vec::new();
        for client in clients {
            reads.extend(client.await.unwrap_or_else(|problem| vec![Err(problem.to_string())]));
        }
        (outcome, Self::new(reads))
    }
}

/// One read over a new connection, which has the hardest time of all.
async fn read(target: &Target) -> Result<Duration, String> {
    let start = Instant::now();
    let answer = target.ask(&target.request(&target.key, "Connection: close\r\n")).await;
    let time = start.elapsed();
    let answer = answer.map_err(|problem| format!("{problem} after {time:.1?}"))?;
    let right = format!(r#"{{"Secret":"{SECRET}","Value":"{VALUE}"}}"#);
    if (answer.status, answer.body.as_slice()) == (200, right.as_bytes()) {
        Ok(time)
    } else {
        Err(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))
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
| attack | how it was answered | longest answer, ms | good reads by others | their median, ms | their p99, ms \
| memory, MiB | s |
|---|---|---|---|---|---|---|---|
";

/// What `wasmtime serve` prints about an instance that trapped.
const TRAPPED: &str = "worker failed";

/// The value that the other clients read: as long as a connection string.
const VALUE: &str = "Server=tcp:example.database.windows.net,1433;Database=billing;Encrypt=True;Timeout=30;";

/// Longer than the longest attack takes on two busy cores with a host that is not optimised.
const LIMIT: Duration = Duration::from_secs(900);

/// Takes more connections than an attack has.
const CONNECTIONS: [&str; 2] = ["--max-concurrent-connections", "15000"];

/// Files that are no connections of an attack, with much room to spare.
const OTHER_FILES: usize = 500;

/// Reads before an attack and after it: their slowest is one of a hundred.
const READS_IN_PEACE: usize = 100;

/// Freed memory is back after this.
const CALM: Duration = Duration::from_millis(500);

/// So many clients read, with a pause after each read: they are there to notice, not to load.
const CLIENTS: usize = 4;

const PAUSE: Duration = Duration::from_millis(20);

/// One read of a hundred may take this long: a client whose connection finds the host's queue full knocks again after one
/// second, and after three. A host that is not optimised answers a few hundred requests a second, and a crowd of two hundred
/// keeps it busy: there a read that an instance begins with takes nearly all of its ten seconds.
const LONGEST_P99: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });
