//! `cargo xtask deny`: holds the dependencies of the whole workspace, and those of the fuzz targets, against `deny.toml` and
//! against the advisories that are known today.

use crate::process::{cargo_home, line, root, run, without_leftovers};
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What came of a check that needs somebody else, unless it failed.
#[derive(Debug, PartialEq)]
pub(crate) enum Checked {
    Passed,
    /// It could not be made. The sentence says why, and what to do.
    NotHere(String),
}

/// Makes all the checks. It is an error, too, if the advisories could not be looked at.
pub(crate) fn everything() -> Result<(), String> {
    rules()?;
    match advisories()? {
        Checked::Passed => Ok(()),
        Checked::NotHere(reason) => Err(format!("everything but the advisories passed; {reason}")),
    }
}

/// Checks what Cargo.lock and the crates themselves tell: licences, sources and versions.
pub(crate) fn rules() -> Result<(), String> {
    for workspace in &WORKSPACES {
        run(check(workspace, &[])?.args(["bans", "licenses", "sources"]))?;
    }
    Ok(())
}

/// Checks whether an advisory applies to a dependency, with the database as it is now, or was in the last days.
pub(crate) fn advisories() -> Result<Checked, String> {
    // If cargo-deny cannot fetch, it ends as if an advisory applied, so the two are done one after the other.
    let mut fetch = cargo_deny()?;
    fetch.args(["fetch", "db"]).env("GIT_TERMINAL_PROMPT", "0").stdout(Stdio::null());
    let fetched = fetch.status().map_err(|problem| format!("cannot run {}: {problem}", line(&fetch)))?;
    let database = database()?;
    // A fetch that fails leaves a file behind that makes the database look new to cargo-deny. Its last commit tells.
    if !fetched.success() && !is_recent(last_commit(&database), SystemTime::now()) {
        return Ok(Checked::NotHere(format!(
            "the advisories were not checked, because their database cannot be fetched from github.com and there is \
             none of the last {} days: where github.com can be reached, run `cargo xtask deny`, or \
             `git clone --depth 1 {DATABASE} {}`",
            LONGEST_AGE.as_secs() / (24 * 60 * 60),
            database.display()
        )));
    }
    if !fetched.success() {
        println!("the advisories are those of the copy in {}", database.display());
    }
    for workspace in &WORKSPACES {
        // A database that lacks an advisory which deny.toml names is a warning, so no empty one passes.
        let mut check = check(workspace, &["--offline"])?;
        let output = check.arg("advisories").stderr(Stdio::inherit()).output();
        let output = output.map_err(|problem| format!("cannot run {}: {problem}", line(&check)))?;
        let summary = String::from_utf8_lossy(&output.stdout);
        print!("{summary}");
        if !output.status.success() || !summary.contains("advisories ok") {
            return Err(format!("`{}` failed ({})", line(&check), output.status));
        }
    }
    Ok(Checked::Passed)
}

/// Crates with a Cargo.lock of their own.
struct Workspace {
    manifest: &'static str,
    /// What may be in `deny.toml` without being needed here, because the other one needs it.
    of_the_other: &'static [&'static str],
}

const WORKSPACES: [Workspace; 2] = [
    Workspace { manifest: "Cargo.toml", of_the_other: &["license-exception-not-encountered"] },
    Workspace { manifest: "fuzz/Cargo.toml", of_the_other: &["license-not-encountered", "unmatched-skip"] },
];

/// cargo-deny about `workspace`, for which every warning is an error. What it shall check is still to be said.
fn check(workspace: &Workspace, options: &[&str]) -> Result<Command, String> {
    let mut command = cargo_deny()?;
    command.args(["--manifest-path", workspace.manifest, "--config", "deny.toml", "--workspace", "--locked"]);
    command.args(options).args(["check", "-D", "warnings"]);
    command.args(workspace.of_the_other.iter().flat_map(|it| ["-A", it]));
    Ok(command)
}

fn cargo_deny() -> Result<Command, String> {
    let mut command = Command::new(tools::DENY.installed()?);
    command.current_dir(root());
    without_leftovers(&mut command);
    Ok(command)
}

/// Where cargo-deny keeps the database. Its name has a hash of the address.
fn database() -> Result<PathBuf, String> {
    Ok(cargo_home()?.join("advisory-dbs").join("advisory-db-3157b0e258782691"))
}

/// When the newest advisory was written, if there is a database.
fn last_commit(database: &Path) -> Option<SystemTime> {
    let mut git = Command::new("git");
    // Named, so that no repository around it, or of a hook of git, is taken for it.
    let output =
        git.arg("--git-dir").arg(database.join(".git")).args(["log", "-1", "--format=%ct"]).output().ok()?;
    let seconds = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    output.status.success().then_some(UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?)
}

fn is_recent(commit: Option<SystemTime>, now: SystemTime) -> bool {
    commit.is_some_and(|it| now.duration_since(it).is_ok_and(|age| age <= LONGEST_AGE))
}

const DATABASE: &str = "https://github.com/RustSec/advisory-db";

/// The database gets commits on most days.
const LONGEST_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[test]
fn a_database_is_recent_for_a_week() {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let second = Duration::from_secs(1);
    let table = [
        (None, false),
        (Some(now), true),
        (Some(now - LONGEST_AGE), true),
        (Some(now - LONGEST_AGE - second), false),
        // Of two clocks one is wrong.
        (Some(now + second), false),
    ];
    for (commit, recent) in table {
        assert_eq!(is_recent(commit, now), recent, "{commit:?}");
    }
}
