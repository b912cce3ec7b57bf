//! `cargo xtask dist`: all that a release consists of, in `target/dist`. `docs/release.md` says what that is.

use crate::components::{self, Component};
use crate::git;
use crate::host;
use crate::process::{cargo, platform, root, run, target, words_of};
use crate::sbom;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Builds everything and puts it together, if nothing would be published that is not in the commit.
pub(crate) fn write(precompiled: bool) -> Result<(), String> {
    expect_committed()?;
    components::build(&Component::ALL)?;
    sbom::describe(&Component::ALL)?;
    let compiled = if precompiled { compile()? } else { Vec::new() };
    put_together(&compiled)?;
    push_and_pull()?;
    println!("  {}", folder().strip_prefix(root()).unwrap_or(&folder()).display());
    Ok(())
}

/// Fails unless what a release has as it lies here is what it is at HEAD. It could be a template that somebody has filled in
/// with what is secret.
fn expect_committed() -> Result<(), String> {
    if !git::is_repository() {
        println!(
            "this folder has no .git: nothing tells whether {} are as they should be",
            COPIED.join(", ")
        );
        return Ok(());
    }
    let failed = |problem: std::io::Error| format!("cannot write to {}: {problem}", target().display());
    fs::create_dir_all(target()).map_err(failed)?;
    let others = git::uncommitted(root(), &target().join("dist.index"), &COPIED)?;
    if others.is_empty() {
        Ok(())
    } else {
        Err(format!("a release would publish what is not committed: {}", others.join(", ")))
    }
}

/// Puts together twice what is built, expects the same, and pulls one of them back.
pub(crate) fn twice() -> Result<(), String> {
    sbom::describe(&Component::ALL)?;
    put_together(&[])?;
    let sums = || fs::read(folder().join("SHA256SUMS")).map_err(|problem| format!("SHA256SUMS: {problem}"));
    let first = sums()?;
    put_together(&[])?;
    if sums()? == first {
        push_and_pull()
    } else {
        Err("two releases of the same components differ".to_owned())
    }
}

/// Makes the folder of what is built, and reads it back.
fn put_together(compiled: &[PathBuf]) -> Result<(), String> {
    println!("putting a release together (about a minute the first time)");
    let mut write = cargo(["run", "--quiet", "-p", "dist", "--", "write"]);
    write.arg(target()).arg(sbom::time_of_the_source());
    run(write.args(Component::ALL.map(Component::name)).args(compiled))?;
    run(cargo(["run", "--quiet", "-p", "dist", "--", "check"]).arg(folder()))
}

/// Pushes all artifacts of what was put together to a registry on loopback, and compares what comes back with the files.
fn push_and_pull() -> Result<(), String> {
    println!("pushing it to a registry on loopback and pulling it back (about a minute the first time)");
    run(cargo(["test", "--quiet", "-p", "dist", "--test", "pulled"]).env("DIST_FOLDER", folder()))
}

fn folder() -> PathBuf {
    target().join("dist")
}

/// What a release has as it lies in the repository.
const COPIED: [&str; 5] = ["deploy", "wit/gateway", "spin.toml", "LICENSE", "CHANGELOG.md"];

/// The components for Wasmtime as machine code for this kind of machine.
fn compile() -> Result<Vec<PathBuf>, String> {
    let platform = platform()?;
    let wasmtime = version_in(&words_of(&mut cargo(["pkgid", "wasmtime-cli"]))?)?;
    let gateway = version_in(&words_of(&mut cargo(["pkgid", "keyvault-gateway"]))?)?;
    let host = host::build(false)?;
    let folder = target().join("precompiled");
    fs::create_dir_all(&folder).map_err(|problem| format!("cannot make {}: {problem}", folder.display()))?;
    let folders = components::folders_of_this_machine(root(), target())?;
    let mut compiled = Vec::new();
    // Spin compiles what it runs itself, and what is composed is compiled as a whole.
    for component in [Component::Proxy, Component::Service] {
        let name = component.name();
        let file =
            folder.join(format!("keyvault-gateway-{gateway}-{name}-wasmtime-{wasmtime}-{platform}.cwasm"));
        // With a target that is named, Wasmtime uses nothing that only some processors of it have.
        let mut compile = Command::new(&host);
        run(compile.args(["compile", "--target", &platform, "-o"]).arg(&file).arg(component.path()))?;
        components::expect_none_of(&folders, &file)?;
        compiled.push(file);
    }
    Ok(compiled)
}

/// The version in what `cargo pkgid` prints, such as `registry+https://…#wasmtime-cli@48.0.8` or `path+file:///…#0.1.0`.
pub(crate) fn version_in(id: &str) -> Result<String, String> {
    let version = id.rsplit(['#', '@']).next().filter(|it| it.starts_with(|it: char| it.is_ascii_digit()));
    version.map(str::to_owned).ok_or_else(|| format!("cargo does not say which version it is: {id}"))
}

#[test]
fn reads_versions() {
    let table = [
        ("registry+https://github.com/rust-lang/crates.io-index#wasmtime-cli@48.0.8", Some("48.0.8")),
        ("path+file:///home/me/gateway#keyvault-gateway@0.1.0", Some("0.1.0")),
        ("path+file:///home/me@work/keyvault-gateway#0.1.0", Some("0.1.0")),
        ("path+file:///home/me/gateway", None),
    ];
    for (id, version) in table {
        assert_eq!(version_in(id).ok().as_deref(), version, "{id}");
    }
}
