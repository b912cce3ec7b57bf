//! `cargo xtask fuzz`: hostile input for each parser of external text.
//!
//! The targets are in `fuzz/`, in the layout of cargo-fuzz. They are built by stable Rust, with the flags of
//! cargo-fuzz 0.13 without a sanitizer, so that neither cargo-fuzz nor nightly Rust is needed.

use crate::process::{Result, cargo, root, run, rustc, target};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// About a second for each target.
pub(crate) const SHORT_RUN: u64 = 20_000;

/// Builds the targets and runs `chosen`, or all targets if it is empty.
pub(crate) fn run_targets(chosen: &[String], runs: u64) -> Result {
    eprintln!("compiling the targets (about two minutes the first time)");
    run(fuzz_cargo("build")?.args(["--quiet", "--bins"]))?;
    let names = if chosen.is_empty() { targets()? } else { chosen.to_vec() };
    let failed = names.iter().filter_map(|name| Some(run_target(name, runs).err()?.to_string()));
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

/// Checks format and lints of the targets, which are a separate workspace.
pub(crate) fn lint() -> Result {
    run(&mut cargo(["fmt", "--manifest-path", MANIFEST, "--check"]))?;
    run(fuzz_cargo("clippy")?.args(["--quiet", "--", "-D", "warnings"]))
}

/// Returns the names of all targets.
fn targets() -> Result<Vec<String>> {
    let files = fs::read_dir(root().join("fuzz/fuzz_targets"))?.flatten();
    let names = files.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()));
    Ok(names.collect())
}

/// Prepares a Cargo command with the fuzzer's flags. With an explicit target, Cargo does not apply them to
/// build scripts and macros.
fn fuzz_cargo(task: &str) -> Result<Command> {
    let mut command = cargo([task, "--release", "--locked", "--manifest-path", MANIFEST]);
    command.args(["--target", &rustc(["--print", "host-tuple"])?]).env("CARGO_TARGET_DIR", fuzz_directory());
    let only_linux = |flag: &&str| cfg!(target_os = "linux") || !flag.ends_with("stack-depth");
    let flags: Vec<_> = FLAGS.split_whitespace().filter(only_linux).collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(command)
}

/// The directory of built targets, artifacts and found inputs.
fn fuzz_directory() -> PathBuf {
    target().join("fuzz")
}

/// Runs one target from its corpus and the inputs of earlier runs. A long run prints its progress.
fn run_target(name: &str, runs: u64) -> Result {
    let (artifacts, found) =
        (fuzz_directory().join("artifacts").join(name), fuzz_directory().join("found").join(name));
    [&artifacts, &found].into_iter().try_for_each(fs::create_dir_all)?;
    let programs = fuzz_directory().join(rustc(["--print", "host-tuple"])?).join("release");
    let mut command = Command::new(programs.join(name).with_extension(env::consts::EXE_EXTENSION));
    command.current_dir(root()).args(LIMITS).arg(format!("-runs={runs}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let dictionary = format!("fuzz/dictionaries/{name}.dict");
    if root().join(&dictionary).is_file() {
        command.arg(format!("-dict={dictionary}"));
    }
    // libFuzzer writes new inputs to the first directory only.
    command.arg(&found).arg(format!("fuzz/corpus/{name}")).stdin(Stdio::null());
    if runs > SHORT_RUN {
        return run(&mut command);
    }
    let start = Instant::now();
    let output = command.output().map_err(|error| format!("cannot run {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    println!("{name:<18} {runs} runs in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The flags of cargo-fuzz 0.13.2 (`FuzzProject::cargo` in its `project.rs`) without a sanitizer; the profile
/// in `fuzz/Cargo.toml` has the others.
const FLAGS: &str = "-Cpasses=sancov-module --cfg=fuzzing -Cdebug-assertions \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Cllvm-args=-sanitizer-coverage-stack-depth";

/// An input takes less than a millisecond, so ten seconds are a hang. A target uses tens of MiB, so a GiB is
/// a leak.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

const MANIFEST: &str = "fuzz/Cargo.toml";
