//! `attack`: what hostile clients can do to a component under the real serve, and what others notice of it, measured.
//!
//! Each attack meets a host of its own. While it lasts, others read a secret over and over; all of their reads have to
//! succeed, in a bounded time, and the host's memory has a bound, too.

mod attacks;

mod clients;

mod crowds;

mod others;

mod table;

use self::attacks::{Answers, Hostile, Size};
use self::others::Reads;
use crate::client::Target;
use crate::process::{self, Memory};
use crate::rig::{self, INTERRUPTIBLE, Rig, SECRET, Shipped};
use keyvault_emulator::Emulator;
use std::path::{Path, PathBuf};
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

    /// Writes what was measured to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Attack {
    pub(crate) fn run(self) -> Result<(), String> {
        let files = process::raise_file_limit();
        let shipped = Shipped::of(&self.component)?;
        let size = if self.small { Size::small(shipped) } else { Size::full(shipped) };
        let attacks: Vec<_> =
            Hostile::ALL.into_iter().filter(|hostile| !self.small || hostile.is_in_small()).collect();
        let directory = tempfile::tempdir().map_err(|problem| format!("no directory: {problem}"))?;
        let compiled = rig::compile_with(&INTERRUPTIBLE, &self.component, directory.path())?;
        let (mut rows, mut problems) = (Vec::new(), Vec::new());
        for (index, &hostile) in attacks.iter().enumerate() {
            eprintln!("[{}/{}] {}", index + 1, attacks.len(), hostile.name(&size));
            let wanted = hostile.files(&size);
            if wanted > files {
                let name = hostile.name(&size);
                problems.push(format!(
                    "{name}: NOT RUN: it takes {wanted} open files, and a process may have {files} (`ulimit -Hn`)"
                ));
                continue;
            }
            // What the host does with its defaults is not how `compiled` has been compiled.
            let (component, options) = match hostile {
                Hostile::IdleUnderDefaults => (&self.component, &[][..]),
                _ => (&compiled, shipped.options),
            };
            rows.push(measure(component, options, hostile, &size)?);
        }
        println!("\n{}", table::markdown(&rows));
        if let Some(file) = &self.json {
            std::fs::write(file, table::json(&rows))
                .map_err(|problem| format!("cannot write {}: {problem}", file.display()))?;
        }
        problems.extend(rows.iter().flat_map(Row::problems));
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }
}

/// What was measured of one attack.
struct Row {
    hostile: Hostile,
    name: String,
    answers: Answers,
    before: Reads,
    during: Reads,
    after: Reads,
    memory: Option<[u64; 3]>,
    took: Duration,
    /// What the host said about instances that trapped.
    traps: Vec<String>,
    /// The memory, in bytes, that it may have cost.
    most_growth: u64,
}

impl Row {
    /// What is not as it has to be.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |right: bool, problem: String| {
            if !right {
                problems.push(format!("{}: {problem}", self.name));
            }
        };
        for (answer, count) in &self.answers.counts {
            expect(self.hostile.may_be_answered(answer), format!("{count} were answered {answer}"));
        }
        expect(!self.answers.counts.is_empty(), "nothing was answered".to_owned());
        expect(self.answers.longest <= self.hostile.longest_answer(), {
            format!("an answer took {:.1?}", self.answers.longest)
        });
        for reads in [&self.before, &self.after] {
            expect(reads.failed.is_empty(), format!("reads in peace failed: {:?}", reads.failed.first()));
        }
        if self.hostile.shuts_others_out() {
            let shut_out = self.during.times.is_empty();
            expect(shut_out, "others were answered, which docs/hostile-input.md denies".to_owned());
        } else {
            let failed = &self.during.failed;
            expect(failed.is_empty(), format!("{} reads failed: {:?}", failed.len(), failed.first()));
            let p99 = self.during.quantile(0.99).unwrap_or_default();
            let longest = LONGEST_P99 + self.hostile.wait_for_a_place();
            expect(p99 <= longest, format!("one read of a hundred took {p99:.1?} or longer"));
        }
        if let Some([before, peak, after]) = self.memory {
            let growth = peak.max(after).saturating_sub(before);
            expect(growth <= self.most_growth, format!("memory grew by {} MiB", growth >> 20));
        }
        expect(self.traps.is_empty(), format!("{} traps: {:?}", self.traps.len(), self.traps.first()));
        problems
    }
}

/// Starts everything anew and lets `hostile` loose on it.
fn measure(component: &Path, options: &[&'static str], hostile: Hostile, size: &Size) -> Result<Row, String> {
    let key = rig::random_text()?;
    let emulator = Emulator::new();
    emulator.set_secret(SECRET, VALUE).map_err(|problem| problem.to_string())?;
    let launch = rig::launch(component.to_owned())?
        .options(["--allow-precompiled"])
        .options(options)
        .options(hostile.host_options())
        // As the files in deploy/ do.
        .own_environment("MALLOC_ARENA_MAX", "2")
        .environment([("GATEWAY_KEY", key.as_str())])
        .environment(hostile.settings());
    let mut rig = Rig::start(emulator, launch)?;
    let memory = Memory::of(rig.server.pid());
    let target = Target { address: rig.server.address(), key };
    let Rig { runtime, stop, .. } = &mut rig;
    let row = runtime.block_on(async {
        let measured = async {
            let before = others::read(&target, READS_IN_PEACE).await;
            let memory_before = memory.now();
            memory.forget_peak();

            let start = Instant::now();
            let (answers, during) = hostile.attack(&target, size).await;
            let took = start.elapsed();

            let peak = memory.peak();
            tokio::time::sleep(CALM).await;
            let memory_after = memory.now();
            let after = others::read(&target, READS_IN_PEACE).await;
            let memory = memory_before.zip(peak).zip(memory_after).map(|((a, b), c)| [a, b, c]);
            let (name, traps, most_growth) = (hostile.name(size), Vec::new(), hostile.most_growth(size));
            Row { hostile, name, answers, before, during, after, memory, took, traps, most_growth }
        };
        tokio::select! {
            row = tokio::time::timeout(size.limit, measured) => {
                row.map_err(|_| format!("{}: not over after {:?}", hostile.name(size), size.limit))
            }
            _ = stop => Err("the attack was stopped".to_owned()),
        }
    });
    let mut log = rig.server.log();
    log.retain(|line| line.contains(TRAPPED));
    row.map(|row| Row { traps: log, ..row })
}

/// What `wasmtime serve` says of an instance that trapped.
const TRAPPED: &str = "worker failed";

/// What the vault has for the others: as long as a connection string.
const VALUE: &str = "Server=tcp:example.database.windows.net,1433;Database=billing;Encrypt=True;Timeout=30;";

/// So many reads come before an attack and after it: their slowest is one of a hundred.
const READS_IN_PEACE: usize = 100;

/// What is freed is free again after this.
const CALM: Duration = Duration::from_millis(500);

/// Others may wait this long, one in a hundred times: a client whose connection finds the host's queue full knocks again
/// after one second, and after three. A host that is not optimised answers a few hundred requests a second, and a crowd
/// of two hundred keeps it busy: there a read that an instance begins with takes nearly all of its ten seconds.
const LONGEST_P99: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });
