//! What the modules of `src/` may not name: the core has no host, no environment and no clock of its own, so that the same
//! code runs in a component and in a test.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn only_the_bindings_name_a_host() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (bindings, core): (Vec<_>, Vec<_>) =
        files_below(&source).into_iter().partition(|file| file.starts_with(source.join("bindings")));
    assert!(bindings.len() >= 4 && core.len() > 20, "{bindings:?} {core:?}");
    for file in core {
        let text = fs::read_to_string(&file).unwrap();
        // Comments may tell what a host does. Lengths of time and calendars are no clocks.
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code.filter(|line| !HARMLESS.iter().any(|name| line.contains(name))) {
            let named = HOSTS.split_whitespace().find(|name| line.contains(name));
            assert_eq!(named, None, "{}: {line}", file.display());
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

const HOSTS: &str =
    "env:: time:: fs:: net::Tcp net::Udp process:: thread io::std std::{ SystemTime Instant wasi: wasip
    spin_sdk wit_bindgen println! eprint";

const HARMLESS: [&str; 3] = ["core::time::Duration", "use time::", "core::{"];
