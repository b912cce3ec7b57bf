//! `cargo xtask test`: what a contributor runs before pushing, the quick checks first.

use crate::components::Component;
use crate::process::{Done, cargo, run};
use crate::{compose, fuzz};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Runs everything and prints, as its last line, how much of it passed and failed.
pub(crate) fn everything() -> ExitCode {
    let start = Instant::now();
    let mut report = Report::default();
    report.check("format", || run(&mut cargo(["fmt", "--all", "--check"])));
    // Everything after it would fail for the same reason.
    if report.check("components", || crate::build(&[])) {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        report.check("lints", || run(&mut cargo(arguments)));
        report.check("lints of the components", || {
            Component::ALL.iter().try_for_each(|it| it.lint()).and_then(|()| compose::lint())
        });
        // The native service of `bench` has no tests, and takes minutes to compile.
        let mut all = cargo(["test", "--workspace", "--no-fail-fast"]);
        all.args(["--exclude", "simulation", "--exclude", "native"]);
        report.step("tests", || tests(&mut all));
        let mut simulation = cargo(["test", "-p", "simulation", "--profile", "simulation"]);
        report.step("simulation", || tests(&mut simulation));
        // It is read here and nowhere else, so what is public may point at what is not.
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

/// What ran, and how it ended.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    rows: Vec<String>,
}

impl Report {
    /// Runs a check that passes or fails as a whole.
    fn check(&mut self, name: &str, work: impl FnOnce() -> Done) -> bool {
        self.step(name, || work().map(|()| (1, 0)))
    }

    /// Runs a step, which returns how much of it passed and failed.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Done<(usize, usize)>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let (passed, failed) = work().unwrap_or_else(|problem| {
            println!("FAILED: {problem}");
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

/// Runs Cargo's tests, shows what they print and counts them.
fn tests(command: &mut Command) -> Done<(usize, usize)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let (mut passed, mut failed) = (0, 0);
    for bytes in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).split(b'\n')) {
        let text = String::from_utf8_lossy(&bytes?).into_owned();
        println!("{text}");
        let counts = counts_in(&text).unwrap_or_default();
        (passed, failed) = (passed + counts.0, failed + counts.1);
    }
    // Where a package did not compile, or a test program died, nothing was counted.
    let whole = child.wait()?.success();
    Ok((passed, if whole { failed } else { failed.max(1) }))
}

/// Reads the numbers of `test result: ok. 12 passed; 0 failed; …`.
fn counts_in(text: &str) -> Option<(usize, usize)> {
    let mut numbers = text.strip_prefix("test result: ")?.split_once(". ")?.1.split("; ");
    let passed = numbers.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = numbers.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[test]
fn counts_the_results_of_test_programs() {
    assert_eq!(counts_in("test result: FAILED. 12 passed; 3 failed; 0 ignored"), Some((12, 3)));
    assert_eq!(counts_in("test gateway::works ... ok"), None);
}
