//! The report of a measurement: tables in Markdown, the same as JSON, charts, and how the gateway stands to its targets.

use super::chart::{Colour, Group, short, stacked, svg};
use super::contestants::{Contestant, Instances, World};
use super::figures::{Figures, Measure};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// All that a report is made from.
pub(super) struct Report<'a> {
    pub(super) figures: &'a Figures,
    pub(super) sizes: Vec<Size>,
    pub(super) wrk: &'a str,
    pub(super) rounds: usize,
    pub(super) seconds: u64,
    pub(super) took: Duration,
}

/// The size of a component, in bytes.
pub(super) struct Size {
    name: &'static str,
    pub(super) bytes: u64,
}

impl Size {
    /// The sizes of the gateways and of the floors.
    pub(super) fn of(gateways: &[PathBuf], floors: &[PathBuf]) -> Result<Vec<Self>, String> {
        let names = ["gateway, proxy", "gateway, service", "floor, proxy", "floor, service"];
        let files = gateways.iter().chain(floors);
        names
            .into_iter()
            .zip(files)
            .map(|(name, file)| {
                let data =
                    std::fs::metadata(file).map_err(|problem| format!("{}: {problem}", file.display()))?;
                Ok(Self { name, bytes: data.len() })
            })
            .collect()
    }
}

/// What the gateway has to reach, and what it has reached.
struct Target {
    what: String,
    reached: f64,
    bound: f64,
    /// Whether less is better.
    at_most: bool,
}

impl Target {
    fn met(&self) -> bool {
        if self.at_most { self.reached <= self.bound } else { self.reached >= self.bound }
    }
}

impl Report<'_> {
    /// Writes everything into `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            std::fs::write(&file, text)
                .map_err(|problem| format!("cannot write {}: {problem}", file.display()))
        };
        std::fs::create_dir_all(folder).map_err(|problem| format!("{}: {problem}", folder.display()))?;
        write("results.md", self.markdown())?;
        write("results.json", format!("{:#}\n", self.json()))?;
        write("warm-reads.svg", self.warm_reads())?;
        write("cold-reads.svg", self.cold_reads())?;
        write("first-answers.svg", self.first_answers())?;
        match self.time() {
            Some(chart) => write("time.svg", chart),
            None => Ok(()),
        }
    }

    /// The targets, one a line.
    pub(super) fn targets_as_text(&self) -> String {
        let mut text = String::new();
        for target in self.targets() {
            let met = if target.met() { "met   " } else { "MISSED" };
            let sign = if target.at_most { "at most" } else { "at least" };
            let _ = writeln!(
                text,
                "{met} {:<75} {:>9}, {sign} {}",
                target.what,
                short(target.reached),
                short(target.bound)
            );
        }
        text
    }

    fn targets(&self) -> Vec<Target> {
        let at_least = |what: String, reached: Option<f64>, bound| {
            Some(Target { what, reached: reached?, bound, at_most: false })
        };
        let at_most = |what: String, reached: Option<f64>, bound| {
            Some(Target { what, reached: reached?, bound, at_most: true })
        };
        let warm = |contestant, at: &str| self.figures.median(Measure::WarmReads, at, contestant);
        let mut targets = Vec::new();
        for (world, name) in WORLDS {
            let gateway = Contestant::Gateway(world, Instances::LivingOn);
            let floor = Contestant::Floor(world, Instances::LivingOn);
            for at in self.figures.columns(Measure::WarmReads) {
                let ratio = |other| Some(warm(gateway, at)? / warm(other, at)?);
                let what = |other| format!("{name}: warm reads to those of {other}, {at} connections");
                targets.push(at_least(what("the floor"), ratio(floor), 0.85));
                targets.push(at_least(what("the native service"), ratio(Contestant::Native), 20.0));
                targets.push(at_least(what("the one with a cache"), ratio(Contestant::NativeWithCache), 0.5));
            }
            let reads = |contestant, at: &str| self.figures.median(Measure::WithoutHttp, at, contestant);
            // What is awaited though it is at hand has no target: the host makes a task of it.
            let ways: &[&str] = match world {
                World::Proxy => &["secret", "configuration"],
                World::Service => &["secret"],
            };
            for way in ways {
                let ratio = reads(Contestant::Composed(world), way).zip(reads(gateway, "HTTP, 1"));
                let what = format!("{name}: reads of a {way} without HTTP to those over it, one reader each");
                targets.push(at_least(what, ratio.map(|it| it.0 / it.1), 50.0));
            }
            for at in self.figures.columns(Measure::ColdMedian) {
                let cold = |contestant| self.figures.median(Measure::ColdMedian, at, contestant);
                let over = cold(gateway).zip(cold(Contestant::Native)).map(|(ours, theirs)| ours - theirs);
                targets.push(at_most(
                    format!("{name}: cold read, ms over the native service, {at}"),
                    over,
                    1.0,
                ));
            }
        }
        let service = Contestant::Gateway(World::Service, Instances::LivingOn);
        let calls = self.figures.median(Measure::BurstCallsEach, "one secret", service);
        let what = "service: vault calls of 64 cold reads of one secret, for each instance";
        targets.push(at_most(what.to_owned(), calls, 1.0));
        for (name, bound) in [("gateway, proxy", 200.0), ("gateway, service", 300.0)] {
            let size = self.sizes.iter().find(|it| it.name == name).map(|it| it.bytes as f64 / 1024.0);
            targets.push(at_most(format!("{name}: size, KiB"), size, bound));
        }
        targets.into_iter().flatten().collect()
    }

    fn markdown(&self) -> String {
        let mut text = format!("# Results\n\n{}\n", self.circumstances());
        let _ = writeln!(text, "## Targets\n\n| | reached | bound | |\n|---|---|---|---|");
        for target in self.targets() {
            let sign = if target.at_most { "≤" } else { "≥" };
            let met = if target.met() { "met" } else { "**missed**" };
            let _ = writeln!(
                text,
                "| {} | {} | {sign} {} | {met} |",
                target.what,
                short(target.reached),
                short(target.bound)
            );
        }
        for measure in Measure::ALL {
            let columns = self.figures.columns(measure);
            if columns.is_empty() {
                continue;
            }
            let head = if matches!(measure, Measure::WarmReads | Measure::WarmMedian | Measure::WarmP99) {
                " connections"
            } else {
                ""
            };
            let heads: Vec<_> = columns.iter().map(|it| format!("{it}{head}")).collect();
            let _ = writeln!(
                text,
                "\n## {}\n\n| | {} |\n|---|{}",
                measure.title(),
                heads.join(" | "),
                "---|".repeat(columns.len())
            );
            for contestant in self.figures.rows(measure) {
                let cell =
                    |at: &&str| self.figures.median(measure, at, contestant).map_or_else(String::new, short);
                let cells: Vec<_> = columns.iter().map(cell).collect();
                let _ = writeln!(text, "| {} | {} |", contestant.name(), cells.join(" | "));
            }
        }
        let _ = writeln!(text, "\n## Size\n\n| | KiB |\n|---|---|");
        for Size { name, bytes } in &self.sizes {
            let _ = writeln!(text, "| {name} | {} |", bytes.div_ceil(1024));
        }
        text
    }

    /// What was measured with, and where.
    fn circumstances(&self) -> String {
        let Machine { processor, cores, system, rust } = Machine::here();
        format!(
            "Medians of {} rounds of {} s, everybody measured in turn in each round; the whole took {} minutes. \
             Made by `cargo xtask bench`.\n\n{processor}, {cores} cores, {system}; {rust}; Wasmtime {}, {}; azure_identity {}, \
             azure_security_keyvault_secrets {}, axum {}, moka {}. Everything on loopback. `GATEWAY_LOG=error`, no budget \
             of calls per caller.\n",
            self.rounds,
            self.seconds,
            self.took.as_secs().div_ceil(60),
            locked("wasmtime-cli"),
            self.wrk,
            locked("azure_identity"),
            locked("azure_security_keyvault_secrets"),
            locked("axum"),
            locked("moka"),
        )
    }

    fn json(&self) -> Value {
        let figures: Vec<_> = Measure::ALL
            .into_iter()
            .flat_map(|it| self.figures.of(it))
            .map(|it| {
                json!({
                    "measure": it.measure.key(),
                    "at": it.at,
                    "of": it.contestant.name(),
                    "median": self.figures.median(it.measure, &it.at, it.contestant),
                    "rounds": it.rounds,
                })
            })
            .collect();
        let targets: Vec<_> = self
            .targets()
            .iter()
            .map(|it| json!({ "what": it.what, "reached": it.reached, "bound": it.bound, "at_most": it.at_most, "met": it.met() }))
            .collect();
        let Machine { processor, cores, system, rust } = Machine::here();
        let sizes: Vec<_> = self.sizes.iter().map(|it| json!({ "of": it.name, "bytes": it.bytes })).collect();
        json!({
            "machine": { "processor": processor, "cores": cores, "system": system, "rust": rust },
            "versions": VERSIONS.map(|it| json!({ "name": it, "version": locked(it) })),
            "load": self.wrk,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "sizes": sizes,
            "targets": targets,
            "figures": figures,
        })
    }

    fn warm_reads(&self) -> String {
        let group =
            |at: &&str| Group { title: format!("{at} connections"), bars: self.bars(Measure::WarmReads, at) };
        let groups: Vec<_> = self.figures.columns(Measure::WarmReads).iter().map(group).collect();
        svg(
            "Warm reads in a second (the native service without a cache reads a vault of 5 ms)",
            "/s",
            &groups,
        )
    }

    fn cold_reads(&self) -> String {
        let group = |at: &&str| Group { title: (*at).to_owned(), bars: self.bars(Measure::ColdMedian, at) };
        let groups: Vec<_> = self.figures.columns(Measure::ColdMedian).iter().map(group).collect();
        svg("A cold read with a token at hand: median", "ms", &groups)
    }

    fn first_answers(&self) -> String {
        let group = |at: &&str| Group { title: (*at).to_owned(), bars: self.bars(Measure::FirstAnswer, at) };
        let groups: Vec<_> = self.figures.columns(Measure::FirstAnswer).iter().map(group).collect();
        svg("From the start of the process to its first answer: median", "ms", &groups)
    }

    /// Where the time of a warm read goes, if that was measured.
    fn time(&self) -> Option<String> {
        let parts = self.figures.columns(Measure::Processor);
        let of = |contestant: Contestant| {
            let part = |at: &&str| self.figures.median(Measure::Processor, at, contestant);
            (contestant.name().to_owned(), parts.iter().map(|it| part(it).unwrap_or_default()).collect())
        };
        let bars: Vec<_> = self.figures.rows(Measure::Processor).into_iter().map(of).collect();
        let title = "Where the time of the processor goes in a warm read, 32 connections";
        (!bars.is_empty()).then(|| stacked(title, "µs", &parts, &bars))
    }

    fn bars(&self, measure: Measure, at: &str) -> Vec<(String, f64, Colour)> {
        let bar = |contestant: Contestant| {
            let colour = match contestant {
                Contestant::Floor(..) => Colour::Floor,
                Contestant::Gateway(..) | Contestant::Composed(..) => Colour::Gateway,
                Contestant::Native | Contestant::NativeWithCache => Colour::Native,
            };
            Some((contestant.name().to_owned(), self.figures.median(measure, at, contestant)?, colour))
        };
        self.figures.rows(measure).into_iter().filter_map(bar).collect()
    }
}

/// Where this runs.
struct Machine {
    processor: String,
    cores: usize,
    system: String,
    rust: String,
}

impl Machine {
    fn here() -> Self {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processors.lines().find_map(|it| it.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: processor
                .map_or_else(|| std::env::consts::ARCH.to_owned(), |it| it.1.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            system: said_by("uname", &["-sr"]),
            rust: said_by("rustc", &["--version"]),
        }
    }
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { format!("no {program}") } else { text }
}

/// The version of a crate in the lock file that this was built with.
fn locked(name: &str) -> &'static str {
    let heading = format!("name = \"{name}\"\nversion = \"");
    let rest = LOCK_FILE.split_once(&heading).map_or("", |it| it.1);
    rest.split_once('"').map_or("", |it| it.0)
}

const LOCK_FILE: &str = include_str!("../../../../Cargo.lock");

const VERSIONS: [&str; 5] =
    ["wasmtime-cli", "azure_identity", "azure_security_keyvault_secrets", "axum", "moka"];

const WORLDS: [(World, &str); 2] = [(World::Proxy, "proxy"), (World::Service, "service")];

#[test]
fn knows_the_versions() {
    assert_eq!(locked("wasmtime-cli"), "48.0.8");
    assert!(VERSIONS.iter().all(|it| !locked(it).is_empty()));
    assert_eq!(locked("nobody-has-this"), "");
}
