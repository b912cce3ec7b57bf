//! `cargo xtask test`: every check and every test, in an order that finds the cheap faults first.

use crate::components::{self, Component, TARGET};
use crate::compose;
use crate::deny::{self, Checked};
use crate::dist;
use crate::fuzz;
use crate::mutate;
use crate::process::{cargo, line, root, run, rustc, target, words_of};
use crate::reproduce;
use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal, PipeReader};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Runs everything and prints, as its last line, how much of it passed and failed.
pub(crate) fn everything() -> ExitCode {
    let start = Instant::now();
    let mut report = Report::default();
    if report.check("toolchain", toolchain) {
        report.check("format", || run(&mut cargo(["fmt", "--all", "--check"])));
        // Everything after it would fail for the same reason.
        if report.check("components", || components::build(&Component::ALL))
            && report.check("composed examples", compose::examples)
        {
            report.check("components name no folder of this machine", components_name_no_folder);
            report.check("lints", lints);
            report.check("lints of the components", lints_of_components);
            for package in TESTED {
                report.tests(package);
            }
            report.check("mutations that the simulation notices", mutate::everything);
            match fuzz::missing() {
                None => {
                    report.check("fuzzing, a short run of each target", fuzz::short_run);
                }
                Some(reason) => report.cannot(format!("NOT RUN: fuzzing: {reason}")),
            }
            report.check("documentation", documentation);
            report.check("licences, sources and versions of the dependencies", deny::rules);
            report.check_if_possible("advisories on the dependencies", deny::advisories);
            report.check("a release, the same twice", dist::twice);
            report.check_if_possible("the same bytes from two clean clones", || {
                reproduce::twice_if_possible(&[Component::Proxy, Component::Service])
            });
        }
    }
    if std::env::var_os("CI").is_some_and(|it| !it.is_empty()) {
        report.forbid_not_run();
    }
    println!("\n{report}total time {}", seconds(start.elapsed()));
    println!("{} passed, {} failed", report.passed(), report.failed());
    if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The packages that have tests, those first that are soon done.
const TESTED: [&str; 11] = [
    "xtask",
    "leaks",
    "packages",
    "config-store",
    "compose",
    "keyvault-gateway",
    "simulation",
    "keyvault-emulator",
    "dev-host",
    "sbom",
    "dist",
];

fn toolchain() -> Result<(), String> {
    let wanted = std::fs::read_to_string(root().join("rust-toolchain.toml")).map_err(|it| it.to_string())?;
    let wanted =
        wanted.lines().find_map(|it| it.strip_prefix("channel = ")).unwrap_or_default().trim_matches('"');
    let found = words_of(rustc().arg("--version"))?;
    println!("{found}");
    if found.split_whitespace().nth(1) != Some(wanted) {
        return Err(format!(
            "rust-toolchain.toml wants Rust {wanted}; rustup (https://rustup.rs) provides it"
        ));
    }
    run(&mut cargo(["fmt", "--version"]))?;
    run(&mut cargo(["clippy", "--version"]))?;
    components::add_target()
}

fn components_name_no_folder() -> Result<(), String> {
    let folders = components::folders_of_this_machine(root(), target())?;
    Component::ALL.iter().try_for_each(|it| components::expect_none_of(&folders, &it.path()))
}

fn lints() -> Result<(), String> {
    run(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn lints_of_components() -> Result<(), String> {
    for component in Component::ALL {
        let mut clippy =
            cargo(["clippy", "-p", component.package(), "--target", TARGET, "--no-default-features"]);
        run(clippy.args(["--features", component.features(), "--", "-D", "warnings"]))?;
    }
    compose::lints()
}

fn documentation() -> Result<(), String> {
    // It is read here and nowhere else, so what is public may point at what is not.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    run(cargo(["doc", "--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", flags))
}

/// What ran, and how it ended.
#[derive(Default)]
struct Report {
    rows: Vec<Row>,
    not_run: Vec<String>,
    /// Checks that need somebody who cannot be reached from here. They neither passed nor failed.
    not_checked: Vec<String>,
}

/// One check, or the tests of one test program.
struct Row {
    name: String,
    passed: usize,
    failed: usize,
    time: Duration,
}

impl Report {
    /// Runs a check that passes or fails as a whole.
    fn check(&mut self, name: &str, work: impl FnOnce() -> Result<(), String>) -> bool {
        self.check_if_possible(name, || work().map(|()| Checked::Passed))
    }

    /// Runs a check that may be impossible here, which then counts neither as passed nor as failed.
    fn check_if_possible(&mut self, name: &str, work: impl FnOnce() -> Result<Checked, String>) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let done = work();
        let (passed, failed, outcome) = match &done {
            Ok(Checked::Passed) => (1, 0, "passed"),
            Ok(Checked::NotHere(reason)) => {
                self.not_checked.push(format!("not checked here: {name}: {reason}"));
                (0, 0, "not checked here")
            }
            Err(problem) => {
                println!("FAILED: {problem}");
                (0, 1, "FAILED")
            }
        };
        let time = start.elapsed();
        println!("== {name}: {outcome} in {}", seconds(time));
        self.rows.push(Row { name: name.to_owned(), passed, failed, time });
        done.is_ok()
    }

    /// Runs the tests of `package` and counts each.
    fn tests(&mut self, package: &str) {
        let name = format!("tests of {package}");
        println!("\n== {name}");
        let start = Instant::now();
        // A test prints what it could not do, which the harness hides unless told otherwise.
        let profile = if package == "simulation" { "simulation" } else { "dev" };
        let arguments =
            ["test", "-p", package, "--profile", profile, "--no-fail-fast", "--", "--show-output"];
        let mut counts = Counts::new(package);
        let done = show_lines(&mut cargo(arguments), |text| counts.read(text, &mut self.not_run));
        let counted = counts.rows.iter().any(|it| it.failed > 0);
        self.rows.append(&mut counts.rows);
        if let Err(problem) = &done {
            println!("FAILED: {problem}");
            if !counted {
                // It did not compile, or a test program died before it could count.
                self.rows.push(Row { name: name.clone(), passed: 0, failed: 1, time: start.elapsed() });
            }
        }
        let outcome = if done.is_ok() { "passed" } else { "FAILED" };
        println!("== {name}: {outcome} in {}", seconds(start.elapsed()));
    }

    /// Notes what cannot run here.
    fn cannot(&mut self, reason: String) {
        println!("\n{reason}");
        self.not_run.push(reason);
    }

    /// Counts what did not run as failed. Nobody else looks at `CI`: a test that failed by itself as well would count twice.
    fn forbid_not_run(&mut self) {
        let failed = self.not_run.len();
        if failed > 0 {
            let name = "not run, though CI is set".to_owned();
            self.rows.push(Row { name, passed: 0, failed, time: Duration::ZERO });
        }
    }

    fn passed(&self) -> usize {
        self.rows.iter().map(|it| it.passed).sum()
    }

    fn failed(&self) -> usize {
        self.rows.iter().map(|it| it.failed).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<60} {:>7} {:>7} {:>10}", "", "passed", "failed", "time")?;
        for Row { name, passed, failed, time } in &self.rows {
            writeln!(f, "{name:<60} {passed:>7} {failed:>7} {:>10}", seconds(*time))?;
        }
        for reason in self.not_run.iter().chain(&self.not_checked) {
            writeln!(f, "{reason}")?;
        }
        Ok(())
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The test programs of one package, as Cargo and the test harness announce them.
struct Counts<'a> {
    package: &'a str,
    program: String,
    start: Instant,
    not_run: usize,
    rows: Vec<Row>,
}

impl<'a> Counts<'a> {
    fn new(package: &'a str) -> Self {
        Self { package, program: String::new(), start: Instant::now(), not_run: 0, rows: Vec::new() }
    }

    fn read(&mut self, text: &str, not_run: &mut Vec<String>) {
        let text = without_colours(text);
        let text = text.trim();
        if let Some(at) = text.find("NOT RUN:") {
            not_run.push(text[at..].to_owned());
            self.not_run += 1;
        } else if let Some(program) = text.strip_prefix("Running ") {
            self.program = program.split(" (").next().unwrap_or(program).to_owned();
            self.start = Instant::now();
        } else if text.starts_with("Doc-tests ") {
            self.program = "examples in the documentation".to_owned();
            self.start = Instant::now();
        } else if let Some((passed, failed)) = counts_in(text) {
            // A test that could not run says so and ends well, which is not to pass.
            let passed = passed.saturating_sub(std::mem::take(&mut self.not_run));
            let name = format!("{}: {}", self.package, self.program);
            // A program without tests is not worth a line.
            if passed + failed > 0 {
                self.rows.push(Row { name, passed, failed, time: self.start.elapsed() });
            }
        }
    }
}

/// Reads the numbers of `test result: ok. 12 passed; 0 failed; …`.
fn counts_in(text: &str) -> Option<(usize, usize)> {
    let (_, numbers) = text.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = numbers.split(';').map(str::trim);
    let passed = numbers.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = numbers.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

/// Runs `command`, prints what it prints, and gives each line to `look`.
fn show_lines(command: &mut Command, mut look: impl FnMut(&str)) -> Result<(), String> {
    let failed = |problem: io::Error| format!("cannot run tests: {problem}");
    let shown = line(command);
    // One pipe for both streams keeps Cargo's headings above the tests they announce.
    let (reader, writer) = io::pipe().map_err(failed)?;
    let colour = if io::stdout().is_terminal() { "always" } else { "never" };
    command.env("CARGO_TERM_COLOR", colour).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut child = command.spawn().map_err(failed)?;
    // The pipe ends when its last writer is closed, and `command` still holds two.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    print_lines(reader, &mut look).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed ({status})")) }
}

fn print_lines(reader: PipeReader, look: &mut impl FnMut(&str)) -> io::Result<()> {
    for bytes in BufReader::new(reader).split(b'\n') {
        let bytes = bytes?;
        let text = String::from_utf8_lossy(&bytes);
        println!("{text}");
        look(&text);
    }
    Ok(())
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[test]
fn counts_what_the_harness_reports() {
    let output = "
\u{1b}[1m\u{1b}[92m     Running\u{1b}[0m unittests src/lib.rs (target/debug/deps/some-0123456789abcdef)
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
     Running tests/artifact.rs (target/debug/deps/artifact-0123456789abcdef)
NOT RUN: spin is not installed
test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.52s
   Doc-tests some
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
    let (mut counts, mut not_run) = (Counts::new("some"), Vec::new());
    output.lines().for_each(|it| counts.read(it, &mut not_run));

    let rows: Vec<_> = counts.rows.iter().map(|it| (it.name.as_str(), it.passed, it.failed)).collect();
    assert_eq!(rows, [("some: tests/artifact.rs", 11, 3), ("some: examples in the documentation", 1, 0)]);
    assert_eq!(not_run, ["NOT RUN: spin is not installed"]);
}

#[test]
fn what_cannot_be_checked_here_neither_passes_nor_fails() {
    let mut report = Report::default();
    assert!(report.check("format", || Ok(())));
    let no_network = || Ok(Checked::NotHere("no network".to_owned()));
    assert!(report.check_if_possible("advisories", no_network));
    // That CI is set changes nothing about it.
    report.forbid_not_run();
    assert_eq!((report.passed(), report.failed()), (1, 0));
    assert!(report.to_string().contains("\nnot checked here: advisories: no network\n"), "{report}");

    assert!(!report.check_if_possible("advisories", || Err("one applies".to_owned())));
    assert_eq!((report.passed(), report.failed()), (1, 1));
}
