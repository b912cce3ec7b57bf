//! `cargo xtask reproduce`: builds components in two clean clones of the repository and expects the same bytes from both.

use crate::components::Component;
use crate::deny::Checked;
use crate::process::{cargo_in, line, root, run, target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds `components` twice, as they are at HEAD.
pub(crate) fn twice(components: &[Component]) -> Result<(), String> {
    let commit = git(&["rev-parse", "HEAD"])?;
    println!("building {commit} in two clean clones");
    if !git(&["status", "--porcelain"])?.is_empty() {
        println!("changes that are not committed are not in it");
    }
    let [first, second] = FOLDERS.map(|it| target().join("reproduce").join(it));
    for clone in [&first, &second] {
        make_clone(clone, &commit)?;
        let mut build = cargo_in(clone, ["xtask", "build"]);
        run(build.args(components.iter().map(|it| it.name())).env("CARGO_TARGET_DIR", clone.join("target")))?;
    }
    for component in components {
        let [one, other] = [&first, &second].map(|it| built(it, *component));
        let (one, other) = (one?, other?);
        if let Some(at) = first_difference(&one, &other) {
            return Err(format!("{}: the two builds differ from byte {at} on", component.name()));
        }
        println!("{}: {} bytes, the same from both clones", component.name(), one.len());
    }
    // They have nothing more to tell.
    empty(&target().join("reproduce"))
}

/// The same, where this is a repository of git.
pub(crate) fn twice_if_possible(components: &[Component]) -> Result<Checked, String> {
    match git(&["rev-parse", "HEAD"]) {
        Ok(_) => twice(components).map(|()| Checked::Passed),
        Err(problem) => Ok(Checked::NotHere(format!("there is no commit to clone: {problem}"))),
    }
}

/// Brings `commit`, and nothing else, into an empty folder.
fn make_clone(folder: &Path, commit: &str) -> Result<(), String> {
    empty(folder)?;
    // A clone of its own, which shares no file with this one.
    run(Command::new("git").args(["clone", "--quiet", "--no-local"]).arg(root()).arg(folder))?;
    run(Command::new("git").arg("-C").arg(folder).args(["checkout", "--quiet", "--detach", commit]))
}

fn empty(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(problem) if folder.exists() => Err(format!("cannot remove {}: {problem}", folder.display())),
        _ => Ok(()),
    }
}

fn built(clone: &Path, component: Component) -> Result<Vec<u8>, String> {
    let file: PathBuf = [clone, "target/components".as_ref(), component.name().as_ref()].iter().collect();
    let file = file.with_extension("wasm");
    fs::read(&file).map_err(|problem| format!("cannot read {}: {problem}", file.display()))
}

/// Where two files begin to differ. If one is the start of the other, that is where it ends.
fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let common = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    (common < one.len().max(other.len())).then_some(common)
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(root());
    let output = command.output().map_err(|problem| format!("cannot run git: {problem}"))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` failed: {}", line(&command), problem.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Of different lengths and depths, so that a path in a component would show.
const FOLDERS: [&str; 2] = ["first", "the-second/in-another-folder"];

#[test]
fn finds_where_two_files_differ() {
    let table = [
        (&b"same"[..], &b"same"[..], None),
        (b"", b"", None),
        (b"same", b"sane", Some(2)),
        (b"same", b"sam", Some(3)),
        (b"", b"more", Some(0)),
    ];
    for (one, other, difference) in table {
        assert_eq!(first_difference(one, other), difference, "{one:?} {other:?}");
        assert_eq!(first_difference(other, one), difference, "{other:?} {one:?}");
    }
}
