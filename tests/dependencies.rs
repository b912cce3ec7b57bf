//! `docs/dependencies.md` lists what each component is made of, and nothing else. Cargo tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_crate_that_is_linked_is_on_the_page() {
    let linked = COMPONENTS.map(|it| crates_of(GATEWAY, it, "normal,no-proc-macro"));
    assert_eq!(on_the_page("## What is linked into a component"), expected(&linked));
}

#[test]
fn the_config_store_has_what_the_page_says() {
    let linked = crates_of("config-store", "component", "normal,no-proc-macro");
    assert_eq!(linked.keys().collect::<Vec<_>>(), ["wit-bindgen"]);
    assert!(page().contains("`config-store` has wit-bindgen and nothing else."));
}

#[test]
fn every_crate_that_only_the_build_needs_is_on_the_page() {
    let needed = COMPONENTS.map(|it| {
        let linked = crates_of(GATEWAY, it, "normal,no-proc-macro");
        let mut all = crates_of(GATEWAY, it, "normal,build");
        all.retain(|name, _| !linked.contains_key(name));
        all
    });
    assert_eq!(on_the_page("## What is needed to build one"), expected(&needed));
}

#[test]
fn every_crate_on_the_page_has_a_reason() {
    for line in page().lines().filter(|it| it.starts_with("| `")) {
        let reason = line.split(" | ").nth(3).unwrap_or_default().trim_end_matches(" |");
        assert!(reason.len() > 10 && reason.ends_with('.'), "{line}");
    }
}

/// A crate's licence, and the components it is in, by its name.
type Crates = BTreeMap<String, (String, String)>;

/// What the first table below `heading` says.
fn on_the_page(heading: &str) -> Crates {
    let page = page();
    let (_, section) = page.split_once(heading).expect("the heading is on the page");
    let mut crates = Crates::new();
    let mut last = String::new();
    for line in section.lines().skip(1).take_while(|it| !it.starts_with("## ")) {
        let Some(row) = line.strip_prefix("| `") else { continue };
        let fields: Vec<_> = row.trim_end_matches(" |").split(" | ").collect();
        let [name, components, licence, _] = fields.as_slice() else { panic!("{line}") };
        let name = name.trim_end_matches('`').to_owned();
        assert!(last < name, "{name} is not in its place");
        crates.insert(name.clone(), ((*licence).to_owned(), (*components).to_owned()));
        last = name;
    }
    crates
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dependencies.md")).unwrap()
}

/// What the page should say, if these are the crates of each of the components, and their licences.
fn expected(of_each: &[BTreeMap<String, BTreeSet<String>>; 4]) -> Crates {
    let names: BTreeSet<_> = of_each.iter().flat_map(BTreeMap::keys).collect();
    let row = |name: &String| {
        let licences: BTreeSet<_> = of_each.iter().filter_map(|it| it.get(name)).flatten().cloned().collect();
        let licence = licences.into_iter().collect::<Vec<_>>().join("; ");
        let components = match of_each.each_ref().map(|it| it.contains_key(name)) {
            [true, true, true, true] => "all",
            [true, false, true, false] => "proxy",
            [false, true, false, true] => "service",
            others => panic!("the page has no word for the components {others:?} that have {name}"),
        };
        (name.clone(), (licence, components.to_owned()))
    };
    names.into_iter().map(row).collect()
}

/// The crates that a component with these features has, but for itself, along these edges. A crate may be there in two
/// versions.
fn crates_of(package: &str, features: &str, edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--package", package, "--target", "wasm32-wasip2"])
        .args(["--no-default-features", "--features", features, "--edges", edges])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut crates = BTreeMap::<_, BTreeSet<_>>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (linked, licence) = line.trim_end_matches(" (*)").split_once('|').unwrap();
        let name = linked.split(' ').next().unwrap();
        if name != package {
            crates.entry(name.to_owned()).or_default().insert(licence.to_owned());
        }
    }
    assert!(!crates.is_empty(), "{package}");
    crates
}

const GATEWAY: &str = "keyvault-gateway";

/// The features of `proxy`, `service`, `proxy-spin` and `service-spin`.
const COMPONENTS: [&str; 4] = ["proxy", "service", "proxy,spin", "service,spin"];
