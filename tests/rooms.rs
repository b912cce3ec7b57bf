//! What a room may not name. The core knows nothing of WASI, of the environment or of time.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn only_the_bindings_know_a_host() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files_below(&source);
    assert!(files.len() > 20, "{files:?}");
    let mut bindings = 0;
    for file in files {
        if file.starts_with(source.join("bindings")) {
            bindings += 1;
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // Comments may tell what a host does.
        for line in text.lines().filter(|it| !it.trim_start().starts_with("//")) {
            let harmless = |it: &&str| line.contains(it);
            for name in HOSTS.into_iter().filter(|_| !HARMLESS.iter().any(harmless)) {
                assert!(!line.contains(name), "{} names {name}: {line}", file.display());
            }
        }
    }
    assert!(bindings >= 4);
}

#[test]
fn only_the_rooms_of_azure_make_calls() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files_below(&source).iter().filter(|it| !it.starts_with(source.join("azure"))) {
        let text = fs::read_to_string(file).unwrap();
        for name in ["Call::get", "Call::post_form", "Call {", "Endpoint::parse"] {
            assert!(!text.contains(name), "{} has {name}", file.display());
        }
    }
}

#[test]
fn only_the_settings_say_where_calls_go() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // What reads an address, and the one file outside Azure's own rooms that may have it read.
    for (name, reader) in [
        ("Vault::parse", "settings.rs"),
        ("TokenSource::choose", "settings.rs"),
        ("Directory::read", "access/tenant.rs"),
        ("Lookup::new", "settings.rs"),
    ] {
        let readers = files_below(&source).into_iter().filter(|it| !it.starts_with(source.join("azure")));
        let readers = readers.filter(|it| !it.ends_with("tests.rs"));
        let readers = readers.filter(|it| fs::read_to_string(it).unwrap().contains(name));
        assert_eq!(readers.collect::<Vec<_>>(), [source.join(reader)], "{name}");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
    files
}

const HOSTS: [&str; 17] = [
    "env::",
    "time::",
    "fs::",
    "net::Tcp",
    "net::Udp",
    "process::",
    "thread",
    "io::std",
    "std::{",
    "SystemTime",
    "Instant",
    "wasi:",
    "wasip",
    "spin_sdk",
    "wit_bindgen",
    "println!",
    "eprint",
];

/// Lengths of time and calendars are no clocks.
const HARMLESS: [&str; 3] = ["core::time::Duration", "use time::", "core::{"];
