//! The program, with the components that `cargo xtask build` and `cargo xtask compose` make.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn the_order_of_parts_that_nobody_imports_from_makes_no_difference() {
    let place = Place::new("order");
    let application = component("awaiting-alone");
    let only = place.composed(&application, &["service"]);
    for parts in [
        &["service", "config-store", "proxy"][..],
        &["config-store", "proxy", "service"],
        &["proxy", "service"],
        &["proxy", "proxy", "service", "service"],
    ] {
        assert!(place.composed(&application, parts) == only, "{parts:?}");
    }
}

#[test]
fn a_part_may_import_from_those_after_it() {
    let place = Place::new("after");
    let application = component("configured-proxy-alone");
    let whole = place.composed(&application, &["config-store", "proxy"]);
    // Before it is not after it: the gateway is left to import then.
    let without_gateway = place.composed(&application, &["proxy", "config-store"]);
    assert!(without_gateway == place.composed(&application, &["config-store"]));
    assert!(whole.len() > without_gateway.len() + 100_000);
}

#[test]
fn says_what_is_wrong_and_writes_nothing() {
    let place = Place::new("wrong");
    let [application, service, config_store] = ["awaiting-alone", "service", "config-store"].map(component);
    let text = place.file("text.wasm");
    fs::write(&text, "no component").unwrap();
    let missing = place.file("missing.wasm");
    for (files, problem) in [
        (vec![&application], "imports nothing that the others export"),
        (vec![&application, &config_store], "imports nothing that the others export"),
        (vec![&service, &application], "imports nothing that the others export"),
        (vec![&text, &service], "is not a binary-encoded WebAssembly component"),
        (vec![&application, &text], "is not a binary-encoded WebAssembly component"),
        (vec![&missing, &service], "missing.wasm: "),
    ] {
        let output = place.file("whole.wasm");
        let ran = run(&output, &files);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(said.starts_with("error: ") && said.contains(problem), "{said}");
        assert_eq!((ran.status.code(), said.lines().count(), output.exists()), (Some(1), 1, false), "{said}");
    }
    let nowhere = place.file("nowhere/whole.wasm");
    let said = String::from_utf8(run(&nowhere, &[&application, &service]).stderr).unwrap();
    assert!(said.contains("cannot write") && said.contains("nowhere"), "{said}");
    let usage = Command::new(PROGRAM).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

/// A folder of a test's own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compose").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The bytes of the whole.
    fn composed(&self, application: &PathBuf, parts: &[&str]) -> Vec<u8> {
        let output = self.file("whole.wasm");
        let parts: Vec<_> = parts.iter().map(|it| component(it)).collect();
        let files: Vec<_> = std::iter::once(application).chain(&parts).collect();
        let ran = run(&output, &files);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        fs::read(output).unwrap()
    }
}

fn run(output: &Path, files: &[&PathBuf]) -> Output {
    Command::new(PROGRAM).arg(output).args(files).output().unwrap()
}

/// A built component.
fn component(name: &str) -> PathBuf {
    let chosen = env::var_os("CARGO_TARGET_DIR").filter(|it| !it.is_empty());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join(chosen.unwrap_or_else(|| "target".into())).join("components").join(name);
    let file = file.with_extension("wasm");
    assert!(file.exists(), "{} is not there: run `cargo xtask compose`", file.display());
    file
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_compose");
