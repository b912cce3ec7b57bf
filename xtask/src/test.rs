//! `cargo xtask test`: all checks before a push, the fast ones first.

use crate::components::Component;
use crate::process::{Result, cargo, run};
use crate::{compose, fuzz};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Runs all checks. The last line that it prints is the number of passed and failed checks.
pub(crate) fn run_all() -> ExitCode {
    let start = Instant::now();
    let mut report = Report::default();
    report.check("format", || run(&mut cargo(["fmt", "--all", "--check"])));
    // The later checks would fail for the same reason.
    if report.check("components", crate::build_components) {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        report.check("lints", || run(&mut cargo(arguments)));
        report.check("lints of the components", || {
            Component::ALL.iter().try_for_each(|component| component.lint()).and_then(|()| compose::lint())
        });
        // The native service of `bench` has no tests and compiles for minutes.
        let mut all = cargo(["test", "--workspace", "--no-fail-fast"]);
        all.args(["--exclude", "simulation", "--exclude", "native"]);
        report.step("tests", || run_tests(&mut all));
        let mut simulation = cargo(["test", "-p", "simulation", "--profile", "simulation"]);
        report.step("simulation", || run_tests(&mut simulation));
        // The documentation is not published, so public items may link to private items.
        let flags = "-D warnings -A rustdoc::private_intra_doc_links";
        let mut doc = cargo(["doc", "--workspace", "--no-deps", "--document-private-items"]);
        report.check("documentation", || run(doc.env("RUSTDOCFLAGS", flags)));
        report.check("lints of the fuzz targets", fuzz::lint);
        report.check("a short run of each fuzz target", || fuzz::run_targets(&[], fuzz::SHORT_RUN));
    }
    println!("\n{}\ntotal time {:.1} s", report.rows.join("\n"), start.elapsed().as_secs_f64());
    println!("{} passed, {} failed", report.passed, report.failed);
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The results of the steps so far.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    rows: Vec<String>,
}

impl Report {
    /// Runs a check that counts as one.
    fn check(&mut self, name: &str, work: impl FnOnce() -> Result) -> bool {
        self.step(name, || work().map(|()| (1, 0)))
    }

    /// Runs a step, which returns the numbers of passed and failed checks.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<(usize, usize)>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let (passed, failed) = work().unwrap_or_else(|error| {
            println!("FAILED: {error}");
            (0, 1)
        });
        (self.passed, self.failed) = (self.passed + passed, self.failed + failed);
        let time = start.elapsed().as_secs_f64();
        let row = format!("{name:<40} {passed:>5} passed {failed:>3} failed {time:>7.1} s");
        println!("== {row}");
        self.rows.push(row);
        failed == 0
    }
}

/// Runs Cargo's tests, prints their output and counts them.
fn run_tests(command: &mut Command) -> Result<(usize, usize)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let (mut passed, mut failed) = (0, 0);
    for bytes in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).split(b'\n')) {
        let text = String::from_utf8_lossy(&bytes?).into_owned();
        println!("{text}");
        let counts = parse_counts(&text).unwrap_or_default();
        (passed, failed) = (passed + counts.0, failed + counts.1);
    }
    // A package that did not compile and a crashed test program print no counts.
    let whole = child.wait()?.success();
    Ok((passed, if whole { failed } else { failed.max(1) }))
}

/// Parses the numbers of `test result: ok. 12 passed; 0 failed; …`.
fn parse_counts(text: &str) -> Option<(usize, usize)> {
    let mut numbers = text.strip_prefix("test result: ")?.split_once(". ")?.1.split("; ");
    let passed = numbers.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = numbers.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}
