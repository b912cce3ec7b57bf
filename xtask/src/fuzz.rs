//! `cargo xtask fuzz`: hostile input for everything that reads what others wrote.
//!
//! The targets are in `fuzz/`, in the layout of cargo-fuzz. This builds them with the compiler of this repository and the
//! flags that cargo-fuzz 0.13 has without a sanitizer, all of which are stable, and needs neither cargo-fuzz nor nightly.

use crate::process::{cargo, line, platform, root, run, target};
use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Which targets, and how many runs of each.
#[derive(Debug, PartialEq)]
pub(crate) struct Fuzz {
    targets: Vec<String>,
    runs: u64,
}

impl Fuzz {
    /// Reads `[TARGET …] [--runs NUMBER]`.
    pub(crate) fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut fuzz = Self { targets: Vec::new(), runs: SHORT_RUN };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.to_string_lossy().as_ref() {
                "--runs" => {
                    let runs = rest.next().and_then(|it| it.to_str()?.parse().ok());
                    fuzz.runs = runs.filter(|it| *it > 0).ok_or("--runs takes a number above 0")?;
                }
                option if option.starts_with('-') => return Err(format!("fuzz does not take {option}")),
                name => fuzz.targets.push(name.to_owned()),
            }
        }
        Ok(fuzz)
    }

    /// Builds the targets and runs them one after the other. Fails if one of them found something.
    pub(crate) fn run(&self) -> Result<(), String> {
        if let Some(reason) = missing() {
            return Err(reason);
        }
        let all = targets()?;
        if let Some(unknown) = self.targets.iter().find(|it| !all.contains(it)) {
            return Err(format!("there is no target {unknown}; there are {}", all.join(", ")));
        }
        let programs = build()?;
        let chosen = if self.targets.is_empty() { &all } else { &self.targets };
        let mut failed = Vec::new();
        for name in chosen {
            let program = programs.join(name).with_extension(env::consts::EXE_EXTENSION);
            match run_target(&program, name, self.runs) {
                Ok(outcome) => println!("{name:<16} {outcome}"),
                Err(problem) => {
                    println!("{name:<16} FAILED: {problem}");
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }
}

/// Format, lints, and a short run of each target: what is part of the tests.
pub(crate) fn short_run() -> Result<(), String> {
    run(&mut cargo(["fmt", "--manifest-path", MANIFEST, "--check"]))?;
    run(instrumented("clippy")?.args(["--quiet", "--", "-D", "warnings"]))?;
    Fuzz { targets: Vec::new(), runs: SHORT_RUN }.run()
}

/// Why nothing can be fuzzed here, if that is so: libFuzzer is compiled from C++.
pub(crate) fn missing() -> Option<String> {
    let compiler = env::var_os("CXX").filter(|it| !it.is_empty()).unwrap_or_else(|| "c++".into());
    let mut command = Command::new(&compiler);
    let there = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let reason = "the C++ compiler is not there, and libFuzzer is C++; `apt-get install g++` brings it";
    if there.is_ok_and(|it| it.success()) { None } else { Some(reason.to_owned()) }
}

/// The names of the targets, in order.
fn targets() -> Result<Vec<String>, String> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|problem| format!("{}: {problem}", folder.display()))?;
    let files = entries.flatten().map(|it| PathBuf::from(it.file_name()));
    let files = files.filter(|it| it.extension().is_some_and(|it| it == "rs"));
    let mut names: Vec<_> = files.filter_map(|it| Some(it.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Builds all targets and returns the folder with their programs.
fn build() -> Result<PathBuf, String> {
    println!("compiling the targets, which takes some two minutes on two cores when it is the first time");
    run(instrumented("build")?.args(["--quiet", "--bins"]))?;
    Ok(folder().join(platform()?).join("release"))
}

/// Cargo with the flags of the fuzzer. A target, even though it is our own, keeps them from build scripts and macros.
fn instrumented(task: &str) -> Result<Command, String> {
    let mut command = cargo([task, "--release", "--locked", "--manifest-path", MANIFEST]);
    command.args(["--target", &platform()?]).env("CARGO_TARGET_DIR", folder());
    let mut flags = FLAGS.to_vec();
    if cfg!(target_os = "linux") {
        flags.push("-Cllvm-args=-sanitizer-coverage-stack-depth");
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(command)
}

/// Where everything is that is built or found here.
fn folder() -> PathBuf {
    target().join("fuzz")
}

/// Runs one target from its corpus. What it finds goes into a corpus of its own, from which it goes on the next time.
fn run_target(program: &std::path::Path, name: &str, runs: u64) -> Result<Outcome, String> {
    let artifacts = folder().join("artifacts").join(name);
    let found = folder().join("found").join(name);
    for folder in [&artifacts, &found] {
        fs::create_dir_all(folder).map_err(|problem| format!("{}: {problem}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command.current_dir(root()).args(LIMITS).arg("-print_final_stats=1").arg(format!("-runs={runs}"));
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(artifacts.join(""));
    command.arg(prefix);
    let dictionary = format!("fuzz/dictionaries/{name}.dict");
    if root().join(&dictionary).is_file() {
        command.arg(format!("-dict={dictionary}"));
    }
    // New inputs are written to the first folder only.
    command.arg(&found).arg(format!("fuzz/corpus/{name}"));

    let start = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let cannot = |problem: std::io::Error| format!("cannot run {name}: {problem}");
    let mut child = command.spawn().map_err(cannot)?;
    let mut outcome = Outcome::default();
    let mut last = VecDeque::new();
    for bytes in BufReader::new(child.stderr.take().expect("the stream is a pipe")).split(b'\n') {
        let text = String::from_utf8_lossy(&bytes.map_err(cannot)?).into_owned();
        outcome.read(&text);
        if text.contains("\tpulse") && outcome.runs_so_far >= WORTH_A_LINE {
            println!("{name:<16} {} …", text.trim());
        }
        last.push_back(text);
        if last.len() > LINES_OF_A_FAILURE {
            last.pop_front();
        }
    }
    let status = child.wait().map_err(cannot)?;
    outcome.time = start.elapsed();
    if status.success() {
        return Ok(outcome);
    }
    for text in &last {
        println!("{text}");
    }
    let again = match &outcome.artifact {
        Some(file) => format!("the input is {file}; again: {} {file}", program.display()),
        None => format!("it left no input; the command was: {}", line(&command)),
    };
    Err(format!("{status}; {again}"))
}

/// How a run went, as libFuzzer tells it.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    runs_so_far: u64,
    runs: u64,
    edges: u64,
    features: u64,
    new_inputs: u64,
    memory: u64,
    artifact: Option<String>,
    time: Duration,
}

impl Outcome {
    fn read(&mut self, text: &str) {
        let mut words = text.split_whitespace().peekable();
        if let Some(runs) = text.strip_prefix('#').and(words.peek()).and_then(|it| it[1..].parse().ok()) {
            self.runs_so_far = runs;
            while let Some(word) = words.next() {
                match (word, words.peek().and_then(|it| it.parse().ok())) {
                    ("cov:", Some(edges)) => self.edges = edges,
                    ("ft:", Some(features)) => self.features = features,
                    _ => {}
                }
            }
        } else if let Some((name, value)) = text.strip_prefix("stat::").and_then(|it| it.split_once(':')) {
            let value = value.trim().parse().unwrap_or_default();
            match name {
                "number_of_executed_units" => self.runs = value,
                "new_units_added" => self.new_inputs = value,
                "peak_rss_mb" => self.memory = value,
                _ => {}
            }
        } else if let Some((_, file)) = text.split_once("Test unit written to ") {
            self.artifact = Some(file.trim().to_owned());
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, edges, features, new_inputs, memory, .. } = self;
        let (seconds, a_second) =
            (self.time.as_secs_f64(), *runs as f64 / self.time.as_secs_f64().max(0.001));
        write!(f, "{runs:>9} runs in {seconds:>6.1} s, {a_second:>6.0} a second; ")?;
        write!(f, "{edges} edges, {features} features, {new_inputs} new inputs, at most {memory} MiB")
    }
}

/// The flags of cargo-fuzz 0.13.2 (`FuzzProject::cargo` in its `project.rs`) for a build without a sanitizer; the profile
/// in `fuzz/Cargo.toml` has the rest.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg=fuzzing",
    "-Cdebug-assertions",
];

/// An input takes some ten thousandths of a second, so that ten seconds are a hang on any machine. A target has some tens of
/// MiB; what has a thousand grows.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

/// A second or so for each target.
const SHORT_RUN: u64 = 20_000;

/// A long run says from here on, at each power of two, that it is under way.
const WORTH_A_LINE: u64 = 1 << 20;

const LINES_OF_A_FAILURE: usize = 60;

const MANIFEST: &str = "fuzz/Cargo.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libfuzzer_tells() {
        let output = "\
INFO: seed corpora: files: 100 min: 1b max: 1347b total: 9000b rss: 26Mb
#101\tINITED cov: 1200 ft: 3000 corp: 90/8Kb exec/s: 0 rss: 27Mb
#20000\tDONE   cov: 1274 ft: 3355 corp: 102/9Kb lim: 1498 exec/s: 20000 rss: 29Mb
Done 20000 runs in 1 second(s)
stat::number_of_executed_units: 20000
stat::average_exec_per_sec:     20000
stat::new_units_added:          12
stat::slowest_unit_time_sec:    0
stat::peak_rss_mb:              29";
        let mut outcome = Outcome::default();
        output.lines().for_each(|it| outcome.read(it));
        outcome.time = Duration::from_millis(500);
        assert_eq!(
            outcome.to_string(),
            "    20000 runs in    0.5 s,  40000 a second; 1274 edges, 3355 features, 12 new inputs, at most 29 MiB"
        );
        outcome.read("artifact_prefix='x/'; Test unit written to x/crash-0123");
        assert_eq!(outcome.artifact.as_deref(), Some("x/crash-0123"));
    }

    #[test]
    fn every_target_is_whole() {
        let manifest = fs::read_to_string(root().join(MANIFEST)).unwrap();
        let readme = fs::read_to_string(root().join("fuzz/README.md")).unwrap();
        let targets = targets().unwrap();
        assert!(targets.len() >= 6, "{targets:?}");
        for name in targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not built");
            assert!(readme.contains(&format!("| `{name}` |")), "{name} is not described");
            let corpus = root().join("fuzz/corpus").join(&name);
            let sizes: Vec<_> =
                fs::read_dir(corpus).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).collect();
            assert!((1..=120).contains(&sizes.len()), "{name} has {} inputs", sizes.len());
            assert!(sizes.iter().sum::<u64>() < 128 * 1024, "{name} has too much");
        }
    }
}
