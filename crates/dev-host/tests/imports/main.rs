//! What the built components import and export: all that they can touch of the world, and so the boundary of trust.
//!
//! The list for each component is in a file beside this one, with the reason for each name.

use std::collections::BTreeSet;
use std::path::Path;

use dev_host::component;
use wasmparser::{Parser, Payload};

#[test]
fn components_import_and_export_what_is_on_their_lists() {
    for component in COMPONENTS.into_iter().chain(APPLICATIONS) {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports").join(component).with_extension("txt");
        let list = std::fs::read_to_string(&file).unwrap();
        let lines = list.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
        let listed: BTreeSet<String> = lines.map(str::to_owned).collect();
        let found = interface(component);
        let reaches = |it: &String| it.contains("wasi:filesystem") || it.contains("wasi:sockets");
        assert!(!found.iter().any(reaches), "{component}: {found:#?}");

        let difference = |mark: &str, one: &BTreeSet<String>, other: &BTreeSet<String>| -> String {
            one.difference(other).map(|it| format!("{mark} {it}\n")).collect()
        };
        let difference = difference("+", &found, &listed) + &difference("-", &listed, &found);
        assert!(difference.is_empty(), "{component} differs from {}:\n{difference}", file.display());
    }
}

/// SECURITY.md shows what the artifacts have. Where it does not, this prints what should stand there.
#[test]
fn the_security_page_shows_what_the_built_components_import_and_export() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md");
    let page = std::fs::read_to_string(page).unwrap();
    let right = COMPONENTS.map(|component| {
        let names: Vec<_> = interface(component).into_iter().collect();
        format!("```text\n{component}\n{}\n```", names.join("\n"))
    });
    for block in &right {
        assert!(page.contains(block), "SECURITY.md should have:\n\n{}", right.join("\n\n"));
    }
}

/// Of the gateway nothing is left to import, and nothing of it can be called from outside.
#[test]
fn a_whole_imports_what_its_parts_do_and_exports_what_its_application_does() {
    for (name, parts) in [
        ("configured-proxy", ["configured-proxy-alone", "config-store", "proxy"].as_slice()),
        ("configured-service", &["configured-service-alone", "config-store", "proxy"]),
        ("awaiting", &["awaiting-alone", "service"]),
    ] {
        let has = |it: &String, start: &str| it.starts_with(start) && !it.contains(" keyvault:");
        // Of WASI 0.2 the parts have two versions, and the whole the newer one of each interface.
        let without_patch = |it: String| it.split("@0.2.").next().unwrap_or_default().to_owned();
        let of = |names: BTreeSet<String>, start: &str| -> BTreeSet<String> {
            names.into_iter().filter(|it| has(it, start)).map(without_patch).collect()
        };
        let of_parts: BTreeSet<_> = parts.iter().flat_map(|it| of(interface(it), "import ")).collect();
        assert_eq!(of(interface(name), "import "), of_parts, "{name}");
        assert_eq!(of(interface(name), "export "), of(interface(parts[0]), "export "), "{name}");
        assert!(!interface(name).iter().any(|it| it.contains("keyvault:")), "{name}");
    }
}

/// The names that a component imports and exports, each with `import` or `export` before it.
fn interface(name: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(&std::fs::read(component(name).unwrap()).unwrap()) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                names.extend(section.into_iter().map(|it| format!("import {}", it.unwrap().name.name)));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                names.extend(section.into_iter().map(|it| format!("export {}", it.unwrap().name.name)));
            }
            _ => {}
        }
    }
    names
}

const COMPONENTS: [&str; 5] = ["proxy", "service", "proxy-spin", "service-spin", "config-store"];

/// The examples by themselves: none can reach another host.
const APPLICATIONS: [&str; 3] = ["configured-proxy-alone", "configured-service-alone", "awaiting-alone"];
