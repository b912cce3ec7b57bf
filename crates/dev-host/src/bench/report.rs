//! The report of a measurement: tables in Markdown, a chart of warm reads, and how the gateway stands to its targets.

use super::contestants::Contestant;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is measured, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    WarmReads,
    WarmMedian,
    WarmP99,
    ColdMedian,
    FirstAnswer,
}

impl Measure {
    const ALL: [(Self, &str); 5] = [
        (Self::WarmReads, "Warm reads in a second, by connections"),
        (Self::WarmMedian, "Warm reads: median, ms, by connections"),
        (Self::WarmP99, "Warm reads: p99, ms, by connections"),
        (Self::ColdMedian, "Cold read with a cached token: median, ms"),
        (Self::FirstAnswer, "From the start of the process to its first answer, upstream at once: ms"),
    ];
}

/// All that was measured: a measure, under which conditions, of which contestant, in each round.
#[derive(Default)]
pub(super) struct Figures(Vec<(Measure, String, Contestant, Vec<f64>)>);

impl Figures {
    /// Adds the figure of one round.
    pub(super) fn add(&mut self, measure: Measure, at: &str, contestant: Contestant, value: f64) {
        match self.0.iter_mut().find(|it| (it.0, it.1.as_str(), it.2) == (measure, at, contestant)) {
            Some(figure) => figure.3.push(value),
            None => self.0.push((measure, at.to_owned(), contestant, vec![value])),
        }
    }

    /// The median of the rounds, if it was measured.
    fn median(&self, measure: Measure, at: &str, contestant: Contestant) -> Option<f64> {
        let figure = self.0.iter().find(|it| (it.0, it.1.as_str(), it.2) == (measure, at, contestant))?;
        Some(median(&mut figure.3.clone()))
    }

    /// The conditions and the contestants of a measure, in order.
    fn table(&self, measure: Measure) -> (Vec<&str>, Vec<Contestant>) {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for (_, at, contestant, _) in self.0.iter().filter(|it| it.0 == measure) {
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

/// The value in the middle; of two, the upper one.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All that a report is made from.
pub(super) struct Report<'a> {
    pub(super) figures: &'a Figures,
    pub(super) sizes: Vec<(&'static str, f64)>,
    pub(super) wrk: String,
    pub(super) rounds: usize,
    pub(super) seconds: u64,
    pub(super) took: Duration,
}

/// The sizes of the gateways and of the floors, in KiB.
pub(super) fn sizes(gateways: &[PathBuf], floors: &[PathBuf]) -> Result<Vec<(&'static str, f64)>, String> {
    let names = ["gateway, proxy", "gateway, service", "floor, proxy", "floor, service"];
    let size = |(name, file): (_, &PathBuf)| {
        let data = std::fs::metadata(file).map_err(|problem| format!("{}: {problem}", file.display()))?;
        Ok((name, data.len() as f64 / 1024.0))
    };
    names.into_iter().zip(gateways.iter().chain(floors)).map(size).collect()
}

/// What the gateway has to reach, what it has reached, the value, and how that is a bound.
struct Target(String, f64, f64, Bound);

enum Bound {
    AtMost,
    AtLeast,
}

impl Report<'_> {
    /// Writes everything into `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        std::fs::create_dir_all(folder).map_err(|problem| format!("{}: {problem}", folder.display()))?;
        for (name, text) in [("results.md", self.markdown()), ("warm-reads.svg", self.chart())] {
            let file = folder.join(name);
            let written = std::fs::write(&file, text);
            written.map_err(|problem| format!("cannot write {}: {problem}", file.display()))?;
        }
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut target = |what: String, reached: Option<f64>, value, bound| {
            targets.extend(reached.map(|reached| Target(what, reached, value, bound)));
        };
        let ratio = |(ours, theirs)| ours / theirs;
        for (gateway, floor, name) in [
            (Contestant::GatewayProxy, Contestant::FloorProxy, "proxy"),
            (Contestant::GatewayService, Contestant::FloorService, "service"),
        ] {
            let warm = |at: &str, contestant| self.figures.median(Measure::WarmReads, at, contestant);
            for at in self.figures.table(Measure::WarmReads).0 {
                for (other, called, bound) in [
                    (floor, "the floor", 0.85),
                    (Contestant::Native, "the native service", 20.0),
                    (Contestant::NativeWithCache, "the one with a cache", 0.5),
                ] {
                    let what = format!("{name}: warm reads to those of {called}, {at} connections");
                    target(what, warm(at, gateway).zip(warm(at, other)).map(ratio), bound, Bound::AtLeast);
                }
            }
            for at in self.figures.table(Measure::ColdMedian).0 {
                let cold = |contestant| self.figures.median(Measure::ColdMedian, at, contestant);
                let over = cold(gateway).zip(cold(Contestant::Native)).map(|(ours, theirs)| ours - theirs);
                target(
                    format!("{name}: cold read, ms over the native service, {at}"),
                    over,
                    1.0,
                    Bound::AtMost,
                );
            }
        }
        for ((name, size), bound) in self.sizes.iter().zip([200.0, 300.0]) {
            target(format!("{name}: size, KiB"), Some(*size), bound, Bound::AtMost);
        }
        targets
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("# Results\n\n{}\n", self.circumstances());
        let _ = writeln!(text, "## Targets\n\n| | reached | bound | |\n|---|---|---|---|");
        for Target(what, reached, value, bound) in self.targets() {
            let (sign, met) = match bound {
                Bound::AtMost => ("≤", reached <= value),
                Bound::AtLeast => ("≥", reached >= value),
            };
            let met = if met { "met" } else { "**missed**" };
            let _ = writeln!(text, "| {what} | {} | {sign} {} | {met} |", short(reached), short(value));
        }
        for (measure, title) in Measure::ALL {
            let (columns, rows) = self.figures.table(measure);
            let line = "---|".repeat(columns.len());
            let _ = writeln!(text, "\n## {title}\n\n| | {} |\n|---|{line}", columns.join(" | "));
            for row in rows {
                let cell = |at: &&str| self.figures.median(measure, at, row).map_or_else(String::new, short);
                let cells: Vec<_> = columns.iter().map(cell).collect();
                let _ = writeln!(text, "| {} | {} |", row.name(), cells.join(" | "));
            }
        }
        let _ = writeln!(text, "\n## Size\n\n| | KiB |\n|---|---|");
        for (name, size) in &self.sizes {
            let _ = writeln!(text, "| {name} | {} |", short(*size));
        }
        text
    }

    /// What was measured with, and where.
    fn circumstances(&self) -> String {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let of = |name| format!("{name} {}", locked(name));
        format!(
            "Medians of {} rounds of {} s, each contestant measured in turn in each round; the whole took {} minutes. \
             Made by `cargo xtask bench`.\n\n{}, {cores} cores, {}; {}; {}, {}; {}. Everything on loopback. \
             `GATEWAY_LOG=error`, no budget of calls per caller.\n",
            self.rounds,
            self.seconds,
            self.took.as_secs().div_ceil(60),
            processor.map_or(std::env::consts::ARCH, |name| name.1.trim()),
            printed_by("uname", &["-sr"]),
            printed_by("rustc", &["--version"]),
            of("wasmtime-cli"),
            self.wrk,
            ["azure_identity", "azure_security_keyvault_secrets", "axum", "moka"].map(of).join(", "),
        )
    }

    /// Warm reads as bars, lengths from zero, so that what is twice as long is twice as much.
    fn chart(&self) -> String {
        let (columns, rows) = self.figures.table(Measure::WarmReads);
        let value = |at, row| self.figures.median(Measure::WarmReads, at, row).unwrap_or_default();
        let all = columns.iter().flat_map(|at| rows.iter().map(move |row| value(at, *row)));
        let longest = all.fold(f64::MIN_POSITIVE, f64::max);
        let height = 50 + columns.len() * (26 + rows.len() * 19);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"860\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"12\" y=\"24\" \
             font-size=\"16\">Warm reads in a second (the native service without a cache reads a vault of 5 ms)</text>\n"
        );
        let mut y = 40;
        for at in columns {
            let _ = writeln!(
                text,
                "<text x=\"12\" y=\"{}\" font-weight=\"bold\">{at} connections</text>",
                y + 16
            );
            y += 26;
            for row in &rows {
                let (reads, baseline) = (value(at, *row), y + 13);
                let fill = match row {
                    Contestant::FloorProxy | Contestant::FloorService => "#9bc",
                    Contestant::GatewayProxy | Contestant::GatewayService => "#06c",
                    Contestant::Native | Contestant::NativeWithCache => "#a50",
                };
                let length = (430.0 * reads / longest).max(1.0);
                let _ = writeln!(
                    text,
                    "<text x=\"292\" y=\"{baseline}\" text-anchor=\"end\">{}</text><rect x=\"300\" y=\"{}\" \
                     width=\"{length:.1}\" height=\"14\" fill=\"{fill}\"/><text x=\"{:.0}\" y=\"{baseline}\">{} /s</text>",
                    row.name(),
                    y + 2,
                    306.0 + length,
                    short(reads),
                );
                y += 19;
            }
        }
        text + "</svg>\n"
    }
}

/// A number with three digits, or all before the point.
fn short(value: f64) -> String {
    let digits = if value >= 99.95 { 0 } else { 1 + usize::from(value < 9.995) };
    format!("{value:.digits$}")
}

fn printed_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
}

/// The version of a crate in the lock file that this was built with.
fn locked(name: &str) -> &'static str {
    let heading = format!("name = \"{name}\"\nversion = \"");
    let rest = LOCK_FILE.split_once(&heading).map_or("", |it| it.1);
    rest.split_once('"').map_or("", |it| it.0)
}

const LOCK_FILE: &str = include_str!("../../../../Cargo.lock");
