//! The report in Markdown: a chart of warm reads, tables, and the gateway's targets.

use super::contestants::Contestant;
use crate::statistics::{quantile, rounded};
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

/// The measures, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    WarmReads,
    WarmMedian,
    WarmP99,
    ProcessorTime,
    OneCore,
    Memory,
    ColdMedian,
    Fifty,
    Calls,
    FirstResponse,
    Size,
}

impl Measure {
    const ALL: [(Self, &str); 11] = [
        (Self::WarmReads, "Warm reads in a second, by connections"),
        (Self::WarmMedian, "Warm reads: median, ms, by connections"),
        (Self::WarmP99, "Warm reads: p99, ms, by connections"),
        (
            Self::ProcessorTime,
            "Processor time of the server for each warm read, user and system: µs, by connections",
        ),
        (
            Self::OneCore,
            "Warm reads in a second on one core, which the server and the load share, by connections",
        ),
        (Self::Memory, "Resident memory after the warm reads"),
        (Self::ColdMedian, "Cold read with a cached token: median, ms"),
        (Self::Fifty, "50 cold secrets for a client that starts, with a cached token, 5 ms upstream: ms"),
        (Self::Calls, "Calls of the vault for simultaneous cold reads of one secret, by a new process"),
        (Self::FirstResponse, "From the start of the process to its first answer, upstream at once: ms"),
        (Self::Size, "Size"),
    ];
}

/// The measurements: measure, condition, contestant, and one value per round.
#[derive(Default)]
pub(super) struct Figures(Vec<((Measure, String, Contestant), Vec<f64>)>);

impl Figures {
    /// Adds the value of one round.
    pub(super) fn add(&mut self, measure: Measure, at: &str, contestant: Contestant, value: f64) {
        let key = (measure, at.to_owned(), contestant);
        match self.0.iter_mut().find(|figure| figure.0 == key) {
            Some(figure) => figure.1.push(value),
            None => self.0.push((key, vec![value])),
        }
    }

    /// Returns the median of the rounds, if there is one.
    fn median(&self, measure: Measure, at: &str, contestant: Contestant) -> Option<f64> {
        let key = (measure, at.to_owned(), contestant);
        let figure = self.0.iter().find(|figure| figure.0 == key)?;
        Some(quantile(&figure.1, 0.5))
    }

    /// Returns the conditions and the contestants of a measure, in order.
    fn table(&self, measure: Measure) -> (Vec<&str>, Vec<Contestant>) {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for ((_, at, contestant), _) in self.0.iter().filter(|figure| figure.0.0 == measure) {
            if !columns.contains(&at.as_str()) {
                columns.push(at.as_str());
            }
            if !rows.contains(contestant) {
                rows.push(*contestant);
            }
        }
        (columns, rows)
    }
}

/// The data of a report.
pub(super) struct Report<'a> {
    pub(super) figures: &'a Figures,
    pub(super) wrk: String,
    pub(super) rounds: u16,
    pub(super) seconds: u64,
    pub(super) took: Duration,
}

impl Report<'_> {
    /// Writes a row for each target: its description, the measured value, and its bound (`≥` or `≤`).
    fn write_targets(&self, text: &mut String) {
        let mut target = |description: String, measured: Option<f64>, sign: &str, bound: f64| {
            let Some(measured) = measured else { return };
            let is_met = if sign == "≤" { measured <= bound } else { measured >= bound };
            let met = if is_met { "met" } else { "**missed**" };
            let [measured, bound] = [measured, bound].map(rounded);
            let _ = writeln!(text, "| {description} | {measured} | {sign} {bound} | {met} |");
        };
        let ratio = |(ours, theirs)| ours / theirs;
        for (gateway, floor, name, size) in [
            (Contestant::GatewayProxy, Contestant::FloorProxy, "proxy", 450.0),
            (Contestant::GatewayService, Contestant::FloorService, "service", 520.0),
        ] {
            let warm = |at: &str, contestant| self.figures.median(Measure::WarmReads, at, contestant);
            for at in self.figures.table(Measure::WarmReads).0 {
                for (other, called, bound) in [
                    (floor, "the floor", 0.85),
                    (Contestant::Native, "the native service", 20.0),
                    (Contestant::NativeWithCache, "the one with a cache", 0.5),
                ] {
                    let description = format!("{name}: warm reads to those of {called}, {at} connections");
                    target(description, warm(at, gateway).zip(warm(at, other)).map(ratio), "≥", bound);
                }
            }
            for at in self.figures.table(Measure::ColdMedian).0 {
                let cold = |contestant| self.figures.median(Measure::ColdMedian, at, contestant);
                let over = cold(gateway).zip(cold(Contestant::Native)).map(|(ours, theirs)| ours - theirs);
                target(format!("{name}: cold read, ms over the native service, {at}"), over, "≤", 1.0);
            }
            let measured = self.figures.median(Measure::Size, "KiB", gateway);
            target(format!("gateway, {name}: size, KiB"), measured, "≤", size);
        }
        let of = |measure, at: &str, contestant| self.figures.median(measure, at, contestant);
        let own = |measure, at: &str| of(measure, at, Contestant::OwnHost);
        for (measure, at, other, description, sign, bound) in [
            (
                Measure::ProcessorTime,
                "32",
                Contestant::GatewayService,
                "time of a warm read to stock",
                "≤",
                0.45,
            ),
            (
                Measure::ProcessorTime,
                "32",
                Contestant::NativeWithCache,
                "the same to native with cache",
                "≤",
                1.35,
            ),
            (Measure::OneCore, "1", Contestant::GatewayService, "rate on one core to stock", "≥", 2.5),
        ] {
            let measured = own(measure, at).zip(of(measure, at, other)).map(ratio);
            target(format!("own host: {description}, {at} connections"), measured, sign, bound);
        }
        for at in self.figures.table(Measure::ColdMedian).0 {
            let native = of(Measure::ColdMedian, at, Contestant::Native);
            let over = own(Measure::ColdMedian, at).zip(native).map(|(ours, theirs)| ours - theirs);
            target(format!("own host: cold read by TLS, ms over the native service, {at}"), over, "≤", 0.5);
        }
        for at in ["64 reads", "1000 reads"] {
            target(format!("own host: calls for a cold burst of {at}"), own(Measure::Calls, at), "≤", 1.0);
        }
        let first = own(Measure::FirstResponse, "compiled ahead");
        target("own host: first answer, ms".to_owned(), first, "≤", 10.0);
        target("own host: memory after the load, MiB".to_owned(), own(Measure::Memory, "MiB"), "≤", 35.0);
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("# Results\n\n{}\n{}\n", self.environment(), self.chart());
        let _ = writeln!(text, "## Targets\n\n| | reached | bound | |\n|---|---|---|---|");
        self.write_targets(&mut text);
        for (measure, title) in Measure::ALL {
            let (columns, rows) = self.figures.table(measure);
            let line = "---|".repeat(columns.len());
            let _ = writeln!(text, "\n## {title}\n\n| | {} |\n|---|{line}", columns.join(" | "));
            for row in rows {
                let medians = columns.iter().map(|at| self.figures.median(measure, at, row));
                let cells: Vec<_> = medians.map(|median| median.map_or_else(String::new, rounded)).collect();
                let _ = writeln!(text, "| {} | {} |", row.name(), cells.join(" | "));
            }
        }
        text
    }

    /// Describes the machine and the versions.
    fn environment(&self) -> String {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let of = |name| format!("{name} {}", locked_version(name));
        format!(
            "Medians of {} rounds of {} s, each program measured in turn in each round; the whole took {} \
             minutes. Made by `cargo xtask bench`.\n\n{}, {cores} cores, {}; {}; {}, {}; {}. Everything on \
             loopback. `GATEWAY_LOG=error`, no budget of calls per caller.\n",
            self.rounds,
            self.seconds,
            self.took.as_secs().div_ceil(60),
            processor.map_or(std::env::consts::ARCH, |name| name.1.trim()),
            output_of("uname", &["-sr"]),
            output_of("rustc", &["--version"]),
            of("wasmtime-cli"),
            self.wrk,
            ["azure_identity", "azure_security_keyvault_secrets", "axum", "moka"].map(of).join(", "),
        )
    }

    /// Returns a Mermaid chart of the warm reads with the most connections.
    fn chart(&self) -> String {
        let (columns, rows) = self.figures.table(Measure::WarmReads);
        let at = columns.last().copied().unwrap_or_default();
        let names: Vec<_> = rows.iter().map(|row| format!("{:?}", row.name())).collect();
        let reads = rows.iter().filter_map(|row| self.figures.median(Measure::WarmReads, at, *row));
        format!(
            "```mermaid\nxychart-beta horizontal\n  title \"Warm reads in a second, {at} connections\"\n  \
             x-axis [{}]\n  y-axis \"reads in a second\" 0 --> {}\n  bar [{}]\n```\n",
            names.join(", "),
            rounded(reads.clone().fold(1.0, f64::max)),
            reads.map(rounded).collect::<Vec<_>>().join(", "),
        )
    }
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Returns the version of a crate in the lock file.
fn locked_version(name: &str) -> &'static str {
    let heading = format!("name = \"{name}\"\nversion = \"");
    let rest = LOCK_FILE.split_once(&heading).map_or("", |parts| parts.1);
    rest.split_once('"').map_or("", |parts| parts.0)
}

const LOCK_FILE: &str = include_str!("../../../../Cargo.lock");
