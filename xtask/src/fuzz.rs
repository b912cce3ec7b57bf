//! `cargo xtask fuzz`: hostile input for everything that reads what others wrote.
//!
//! The targets are in `fuzz/`, in the layout of cargo-fuzz. This builds them with the stable compiler and with the flags of
//! cargo-fuzz 0.13 for a build without a sanitizer, and needs neither cargo-fuzz nor nightly.

use crate::process::{Done, cargo, root, run, rustc, target};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A second or so for each target.
pub(crate) const SHORT_RUN: u64 = 20_000;

/// Builds the targets and runs `chosen`, or all. Fails if one of them found a fault.
pub(crate) fn run_targets(chosen: &[String], runs: u64) -> Done {
    eprintln!("compiling the targets (about two minutes the first time)");
    run(instrumented("build")?.args(["--quiet", "--bins"]))?;
    let names = if chosen.is_empty() { targets()? } else { chosen.to_vec() };
    let failed = names.iter().filter_map(|name| Some(run_target(name, runs).err()?.to_string()));
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

/// Format and lints of the targets, which are a workspace of their own.
pub(crate) fn lint() -> Done {
    run(&mut cargo(["fmt", "--manifest-path", MANIFEST, "--check"]))?;
    run(instrumented("clippy")?.args(["--quiet", "--", "-D", "warnings"]))
}

/// The names of the targets.
fn targets() -> Done<Vec<String>> {
    let files = fs::read_dir(root().join("fuzz/fuzz_targets"))?.flatten();
    let names = files.filter_map(|it| Some(it.file_name().to_str()?.strip_suffix(".rs")?.to_owned()));
    Ok(names.collect())
}

/// Cargo with the flags of the fuzzer. A target that is named, even our own, keeps them from build scripts and macros.
fn instrumented(task: &str) -> Done<Command> {
    let mut command = cargo([task, "--release", "--locked", "--manifest-path", MANIFEST]);
    command.args(["--target", &rustc(["--print", "host-tuple"])?]).env("CARGO_TARGET_DIR", folder());
    let only_linux = |flag: &&str| cfg!(target_os = "linux") || !flag.ends_with("stack-depth");
    let flags: Vec<_> = FLAGS.split_whitespace().filter(only_linux).collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(command)
}

/// Where everything is that is built or found here.
fn folder() -> PathBuf {
    target().join("fuzz")
}

/// Runs one target from its corpus and from what earlier runs found. A long run prints its progress.
fn run_target(name: &str, runs: u64) -> Done {
    let (artifacts, found) = (folder().join("artifacts").join(name), folder().join("found").join(name));
    [&artifacts, &found].into_iter().try_for_each(fs::create_dir_all)?;
    let programs = folder().join(rustc(["--print", "host-tuple"])?).join("release");
    let mut command = Command::new(programs.join(name).with_extension(env::consts::EXE_EXTENSION));
    command.current_dir(root()).args(LIMITS).arg(format!("-runs={runs}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let dictionary = format!("fuzz/dictionaries/{name}.dict");
    if root().join(&dictionary).is_file() {
        command.arg(format!("-dict={dictionary}"));
    }
    // New inputs are written to the first folder only.
    command.arg(&found).arg(format!("fuzz/corpus/{name}")).stdin(Stdio::null());
    if runs > SHORT_RUN {
        return run(&mut command);
    }
    let start = Instant::now();
    let output = command.output().map_err(|problem| format!("cannot run {name}: {problem}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    println!("{name:<18} {runs} runs in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The flags of cargo-fuzz 0.13.2 (`FuzzProject::cargo` in its `project.rs`) for a build without a sanitizer; the profile
/// in `fuzz/Cargo.toml` has the rest.
const FLAGS: &str = "-Cpasses=sancov-module --cfg=fuzzing -Cdebug-assertions \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Cllvm-args=-sanitizer-coverage-stack-depth";

/// An input takes some ten thousandths of a second, so ten seconds are a hang on any machine. A target has some tens of
/// MiB, so a GiB is a leak.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

const MANIFEST: &str = "fuzz/Cargo.toml";
