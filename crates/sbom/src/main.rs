//! Makes a bill of materials about one component, in two steps of `cargo xtask sbom`, with cargo-cyclonedx in between.
//!
//! `sbom alone WORKSPACE PACKAGE` writes a manifest of the component as the only member of its workspace, without its tests.
//! cargo-cyclonedx describes every member, and counts in what the others turn on. `WORKSPACE` and `PACKAGE` are manifests,
//! and may be the same file.
//!
//! `sbom bill BILL LINKED COMPONENT` finishes the bill. cargo-cyclonedx describes what Cargo resolves: procedural macros and
//! what they are made of, too, which run in the compiler. `LINKED` has what `cargo tree` says is linked, a line for each
//! crate, and the bill is cut to that. It is refused if it does not say of each crate what a reader looks for.
//!
//! The result goes to the standard output.

mod bill;
mod manifest;

use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let words: Result<Vec<String>, _> = env::args_os().skip(1).map(OsString::into_string).collect();
    let words: Vec<&str> = match &words {
        Ok(words) => words.iter().map(String::as_str).collect(),
        Err(word) => {
            eprintln!("error: {} is not UTF-8", word.display());
            return ExitCode::FAILURE;
        }
    };
    let written = match words.as_slice() {
        ["alone", workspace, package] => alone_from(workspace, package),
        ["bill", bill, linked, component] => bill_from(bill, linked, component),
        _ => {
            eprintln!("usage: sbom alone WORKSPACE PACKAGE\n       sbom bill BILL LINKED COMPONENT");
            return ExitCode::from(2);
        }
    };
    match written {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn alone_from(workspace: &str, package: &str) -> Result<String, String> {
    let text = |file| String::from_utf8(read(file)?).map_err(|problem| format!("{file}: {problem}"));
    manifest::alone(&text(workspace)?, &text(package)?).map_err(|problem| format!("{package}: {problem}"))
}

fn bill_from(file: &str, linked: &str, component: &str) -> Result<String, String> {
    let bill = serde_json::from_slice(&read(file)?).map_err(|problem| format!("{file}: {problem}"))?;
    let linked = bill::crates_in(&String::from_utf8_lossy(&read(linked)?));
    let hash: String = Sha256::digest(read(component)?).iter().map(|it| format!("{it:02x}")).collect();
    let name = component.rsplit(['/', '\\']).next().unwrap_or(component);
    let bill = bill::finished(bill, &linked, name, &hash)?;
    bill::check(&bill)?;
    serde_json::to_string_pretty(&bill).map_err(|problem| problem.to_string())
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|problem| format!("cannot read {file}: {problem}"))
}
