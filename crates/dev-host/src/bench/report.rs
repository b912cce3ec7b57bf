//! The report: Markdown tables, a chart of warm reads, and the gateway's targets.

use super::contestants::Contestant;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The measures, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    WarmReads,
    WarmMedian,
    WarmP99,
    ColdMedian,
    FirstResponse,
}

impl Measure {
    const ALL: [(Self, &str); 5] = [
        (Self::WarmReads, "Warm reads in a second, by connections"),
        (Self::WarmMedian, "Warm reads: median, ms, by connections"),
        (Self::WarmP99, "Warm reads: p99, ms, by connections"),
        (Self::ColdMedian, "Cold read with a cached token: median, ms"),
        (Self::FirstResponse, "From the start of the process to its first answer, upstream at once: ms"),
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
        Some(median(&mut figure.1.clone()))
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

/// Returns the middle value, or the upper of two.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The data of a report.
pub(super) struct Report<'a> {
    pub(super) figures: &'a Figures,
    pub(super) sizes: Vec<(&'static str, f64)>,
    pub(super) wrk: String,
    pub(super) rounds: usize,
    pub(super) seconds: u64,
    pub(super) took: Duration,
}

/// Returns the sizes of the gateways and the floors, in KiB.
pub(super) fn sizes(gateways: &[PathBuf], floors: &[PathBuf]) -> Result<Vec<(&'static str, f64)>, String> {
    let names = ["gateway, proxy", "gateway, service", "floor, proxy", "floor, service"];
    let size = |(name, file): (_, &PathBuf)| {
        let data = std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok((name, data.len() as f64 / 1024.0))
    };
    names.into_iter().zip(gateways.iter().chain(floors)).map(size).collect()
}

/// A target: its description, the measured value, and its bound (`≥` or `≤`).
struct Target(String, f64, &'static str, f64);

impl Report<'_> {
    /// Writes all files into `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for (name, text) in [("results.md", self.markdown()), ("warm-reads.svg", self.chart())] {
            let file = folder.join(name);
            let written = std::fs::write(&file, text);
            written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut target = |description: String, measured: Option<f64>, sign, bound| {
            targets.extend(measured.map(|measured| Target(description, measured, sign, bound)));
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
                    let description = format!("{name}: warm reads to those of {called}, {at} connections");
                    target(description, warm(at, gateway).zip(warm(at, other)).map(ratio), "≥", bound);
                }
            }
            for at in self.figures.table(Measure::ColdMedian).0 {
                let cold = |contestant| self.figures.median(Measure::ColdMedian, at, contestant);
                let over = cold(gateway).zip(cold(Contestant::Native)).map(|(ours, theirs)| ours - theirs);
                target(format!("{name}: cold read, ms over the native service, {at}"), over, "≤", 1.0);
            }
        }
        for ((name, size), bound) in self.sizes.iter().zip([200.0, 300.0]) {
            target(format!("{name}: size, KiB"), Some(*size), "≤", bound);
        }
        targets
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("# Results\n\n{}\n", self.environment());
        let _ = writeln!(text, "## Targets\n\n| | reached | bound | |\n|---|---|---|---|");
        for Target(description, measured, sign, bound) in self.targets() {
            let is_met = if sign == "≤" { measured <= bound } else { measured >= bound };
            let met = if is_met { "met" } else { "**missed**" };
            let [measured, bound] = [measured, bound].map(rounded);
            let _ = writeln!(text, "| {description} | {measured} | {sign} {bound} | {met} |");
        }
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
        let _ = writeln!(text, "\n## Size\n\n| | KiB |\n|---|---|");
        for (name, size) in &self.sizes {
            let _ = writeln!(text, "| {name} | {} |", rounded(*size));
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
            "Medians of {} rounds of {} s, each contestant measured in turn in each round; the whole took {} \
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

    /// Draws warm reads as bars that start at zero.
    fn chart(&self) -> String {
        let (columns, rows) = self.figures.table(Measure::WarmReads);
        let value = |at, row| self.figures.median(Measure::WarmReads, at, row).unwrap_or_default();
        let all = columns.iter().flat_map(|at| rows.iter().map(move |row| value(at, *row)));
        let longest = all.fold(f64::MIN_POSITIVE, f64::max);
        let height = 50 + columns.len() * (26 + rows.len() * 19);
        let mut text = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}"
  font-family="sans-serif" font-size="13">
<rect width="860" height="{height}" fill="#fff"/>
<text x="12" y="24" font-size="16">Warm reads in a second
(the native service without a cache reads a vault of 5 ms)</text>
"##
        );
        let mut y = 40;
        for at in columns {
            let _ =
                writeln!(text, r#"<text x="12" y="{}" font-weight="bold">{at} connections</text>"#, y + 16);
            y += 26;
            for row in &rows {
                let (name, reads, top, baseline) = (row.name(), value(at, *row), y + 2, y + 13);
                let fill = match row {
                    Contestant::FloorProxy | Contestant::FloorService => "#9bc",
                    Contestant::GatewayProxy | Contestant::GatewayService => "#06c",
                    Contestant::Native | Contestant::NativeWithCache => "#a50",
                };
                let length = (430.0 * reads / longest).max(1.0);
                let (end, reads) = (306.0 + length, rounded(reads));
                let _ = writeln!(
                    text,
                    r#"<text x="292" y="{baseline}" text-anchor="end">{name}</text>
<rect x="300" y="{top}" width="{length:.1}" height="14" fill="{fill}"/>
<text x="{end:.0}" y="{baseline}">{reads} /s</text>"#
                );
                y += 19;
            }
        }
        text + "</svg>\n"
    }
}

/// Formats a number with three significant digits, or as an integer.
fn rounded(value: f64) -> String {
    let digits = if value >= 99.95 { 0 } else { 1 + usize::from(value < 9.995) };
    format!("{value:.digits$}")
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
