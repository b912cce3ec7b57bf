//! `cargo xtask reproduce`: builds components in two clean clones of the repository and expects the same bytes from both.

use crate::components::{self, Component};
use crate::deny::Checked;
use crate::git::{git, is_repository};
use crate::process::{cargo_home, cargo_in, root, run, words_of};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// Builds `components` twice, as they are at HEAD.
pub(crate) fn twice(components: &[Component]) -> Result<(), String> {
    if !is_repository() {
        return Err(NO_REPOSITORY.to_owned());
    }
    let commit = words_of(git(root()).args(["rev-parse", "HEAD"])).map_err(|problem| {
        format!(
            "{problem}\nthis takes git, and a commit; if the folder is another user's, git reads it after \
             `git config --global --add safe.directory {}`",
            root().display()
        )
    })?;
    println!("building {commit} in two clean clones");
    if !words_of(git(root()).args(["status", "--porcelain"]))?.is_empty() {
        println!("changes that are not committed are not in it");
    }
    let folder = new_folder()?;
    let clones = FOLDERS.map(|it| folder.join(it));
    let same = built(components, &clones, &commit)
        .and_then(|()| components.iter().try_for_each(|it| compare(*it, &clones)));
    match same {
        Err(problem) => Err(format!("{problem}; the clones are in {}", folder.display())),
        // They have nothing more to tell.
        Ok(()) => fs::remove_dir_all(&folder)
            .map_err(|problem| format!("cannot remove {}: {problem}", folder.display())),
    }
}

/// The same, where this is a repository of git. Where it is one and git fails, the check has failed.
pub(crate) fn twice_if_possible(components: &[Component]) -> Result<Checked, String> {
    if is_repository() {
        twice(components).map(|()| Checked::Passed)
    } else {
        Ok(Checked::NotHere(NO_REPOSITORY.to_owned()))
    }
}

/// A new folder for the clones, outside of the working tree: Cargo reads the settings of every folder above the one it
/// builds in.
fn new_folder() -> Result<PathBuf, String> {
    let place = env::temp_dir();
    let place = place.canonicalize().map_err(|problem| format!("{}: {problem}", place.display()))?;
    let cargo_home = cargo_home()?;
    for above in place.ancestors() {
        let settings = above.join(".cargo");
        let are_read = ["config.toml", "config"].iter().any(|it| settings.join(it).exists());
        // Those of its home Cargo reads anywhere.
        if are_read && settings != cargo_home {
            return Err(format!(
                "Cargo would read what is in {}; set TMPDIR to a folder elsewhere",
                settings.display()
            ));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let folder = place.join(format!("keyvault-gateway-{}", now.as_nanos()));
    // Nobody may have made it before.
    fs::create_dir(&folder).map_err(|problem| format!("cannot make {}: {problem}", folder.display()))?;
    Ok(folder)
}

/// Brings `commit`, and nothing else, into the folder `clone`, and builds `components` there.
fn build(components: &[Component], clone: &Path, commit: &str) -> Result<(), String> {
    // A clone of its own, which shares no file with this one.
    run(git(root()).args(["clone", "--quiet", "--no-local"]).arg(root()).arg(clone))?;
    run(git(root()).arg("-C").arg(clone).args(["checkout", "--quiet", "--detach", commit]))?;
    let mut build = cargo_in(clone, ["xtask", "build"]);
    build.args(components.iter().map(|it| it.name()));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_none_or(changes_a_build)) {
        build.env_remove(name);
    }
    // The settings in Cargo's home may name a wrapper, too, or a folder that both builds would share.
    build.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    let target = clone.join("target");
    run(build.env("CARGO_TARGET_DIR", &target).env("CARGO_BUILD_BUILD_DIR", &target))
}

/// Builds in both clones at the same time: what each does last keeps one core busy.
fn built(components: &[Component], clones: &[PathBuf; 2], commit: &str) -> Result<(), String> {
    thread::scope(|scope| {
        let builds = clones.each_ref().map(|clone| scope.spawn(move || build(components, clone, commit)));
        let ended = |build: thread::ScopedJoinHandle<'_, _>| {
            build.join().unwrap_or_else(|_| Err("a build ended without a word".to_owned()))
        };
        builds.map(ended).into_iter().collect()
    })
}

/// Whether a variable of the environment may tell Cargo or the compiler to build otherwise. Which toolchain there is, and
/// how to reach the crates, it may tell.
fn changes_a_build(name: &str) -> bool {
    let cargo = name.starts_with("CARGO_") && !HARMLESS.iter().any(|it| name.starts_with(it));
    let compiler = name.starts_with("RUSTC_") || ["RUSTFLAGS", "RUSTDOCFLAGS"].contains(&name);
    cargo || compiler
}

/// Fails unless both clones have the same `component`, and it does not name where it was built.
fn compare(component: Component, clones: &[PathBuf; 2]) -> Result<(), String> {
    let mut builds = Vec::new();
    for clone in clones {
        let target = clone.join("target");
        let file = target.join("components").join(component.name()).with_extension("wasm");
        components::expect_none_of(&components::folders_of_this_machine(clone, &target)?, &file)?;
        builds.push(fs::read(&file).map_err(|problem| format!("cannot read {}: {problem}", file.display()))?);
    }
    match first_difference(&builds[0], &builds[1]) {
        Some(at) => Err(format!("{}: the two builds differ from byte {at} on", component.name())),
        None => {
            println!("{}: {} bytes, the same from both clones", component.name(), builds[0].len());
            Ok(())
        }
    }
}

/// Where two files begin to differ. If one is the start of the other, that is where it ends.
fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let common = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    (common < one.len().max(other.len())).then_some(common)
}

const NO_REPOSITORY: &str = "this folder has no .git, so there is no commit to clone";

/// Of different lengths and depths, so that a path in a component would show.
const FOLDERS: [&str; 2] = ["first", "the-second/in-another-folder"];

/// How the names of variables begin that tell where the crates are and how they are fetched, or how Cargo prints.
const HARMLESS: [&str; 6] =
    ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_TERM_"];

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

#[test]
fn nothing_of_the_environment_changes_a_build() {
    let table = [
        ("CARGO_BUILD_BUILD_DIR", true),
        ("CARGO_BUILD_RUSTC_WRAPPER", true),
        ("CARGO_ENCODED_RUSTFLAGS", true),
        ("CARGO_PROFILE_RELEASE_LTO", true),
        ("CARGO_TARGET_WASM32_WASIP2_LINKER", true),
        ("RUSTC_BOOTSTRAP", true),
        ("RUSTC_WRAPPER", true),
        ("RUSTFLAGS", true),
        ("CARGO", false),
        ("CARGO_HOME", false),
        ("CARGO_NET_OFFLINE", false),
        ("PATH", false),
        ("RUSTC", false),
        ("RUSTUP_TOOLCHAIN", false),
    ];
    for (name, changes) in table {
        assert_eq!(changes_a_build(name), changes, "{name}");
    }
}
