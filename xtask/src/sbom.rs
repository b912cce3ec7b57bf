//! `cargo xtask sbom`: a CycloneDX bill of materials for each component, of the crates that are linked into it.
//! The standard library and the C library of WASI are linked, too, but no crates of Cargo's, and not in it.

use crate::components::{self, Component, TARGET};
use crate::git::git;
use crate::process::{cargo, cargo_in, root, run, target, words_of};
use crate::tools;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Builds `components` and writes their bills to `target/sbom`.
pub(crate) fn write(components: &[Component]) -> Result<(), String> {
    components::build(components)?;
    describe(components)
}

/// Writes the bills of `components`, which are built.
pub(crate) fn describe(components: &[Component]) -> Result<(), String> {
    let tool = tools::CYCLONEDX.installed()?;
    // What follows reads the manifests of the crates of every platform, and the compiler has asked for those of ours only.
    run(&mut cargo(["fetch", "--locked"]))?;
    println!("writing the bills of the components (some seconds the first time)");
    let folder = target().join("sbom");
    let alone = folder.join("alone");
    let failed = |problem: std::io::Error| format!("cannot write to {}: {problem}", folder.display());
    for component in components {
        put_alone(*component, &alone)?;
        let mut describe = Command::new(&tool);
        describe
            .args([
                "cyclonedx",
                "--quiet",
                "--format",
                "json",
                "--spec-version",
                "1.5",
                "--all",
                "--no-build-deps",
            ])
            .args(["--target", TARGET, "--no-default-features", "--features", component.features()])
            .args(["--override-filename", "bill"])
            .current_dir(&alone)
            // It has no time of its own and no random number then.
            .env("SOURCE_DATE_EPOCH", time_of_the_source())
            .env("CARGO_NET_OFFLINE", "true");
        run(&mut describe)?;

        let linked = alone.join("linked");
        fs::write(&linked, linked_into(*component)?).map_err(failed)?;
        let mut finish = cargo(["run", "--quiet", "-p", "sbom", "--", "bill"]);
        finish.args([&alone.join("bill.json"), &linked, &component.path()]);
        let bill = folder.join(component.name()).with_extension("cdx.json");
        fs::write(&bill, words_of(&mut finish)? + "\n").map_err(failed)?;
        components::expect_none_of(&components::folders_of_this_machine(root(), target())?, &bill)?;
        println!("  {}", bill.strip_prefix(root()).unwrap_or(&bill).display());
    }
    Ok(())
}

/// Makes a folder with the component alone, without the other members of the workspace.
fn put_alone(component: Component, folder: &Path) -> Result<(), String> {
    let failed = |problem: std::io::Error| format!("cannot write to {}: {problem}", folder.display());
    let mut write = cargo(["run", "--quiet", "-p", "sbom", "--", "alone", "Cargo.toml"]);
    write.arg(component.manifest());
    let manifest = words_of(&mut write)?;
    let source = folder.join("src");
    fs::create_dir_all(&source).map_err(failed)?;
    fs::write(folder.join("Cargo.toml"), manifest).map_err(failed)?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).map_err(failed)?;
    fs::write(source.join("lib.rs"), "").map_err(failed)?;
    // What only the others need leaves the copy of Cargo.lock; no version in it changes, without the network.
    words_of(&mut cargo_in(folder, ["metadata", "--format-version", "1", "--offline"])).map(drop)
}

/// The crates that are linked into `component`, each on a line.
fn linked_into(component: Component) -> Result<String, String> {
    let mut tree = cargo(["tree", "--locked", "--package", component.package(), "--target", TARGET]);
    tree.args(["--no-default-features", "--features", component.features()]);
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none"]);
    words_of(&mut tree)
}

/// What the user says, or when the commit was made.
pub(crate) fn time_of_the_source() -> String {
    let commit = || words_of(git(root()).args(["log", "-1", "--format=%ct"])).ok();
    env::var("SOURCE_DATE_EPOCH").ok().or_else(commit).unwrap_or_else(|| "0".to_owned())
}
