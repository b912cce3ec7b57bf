//! The imports and exports of the built components, which are the trust boundary.
//!
//! The list of each component is in a file beside this one, with the reason for each name.

use std::collections::BTreeSet;
use std::path::Path;

use dev_host::component;
use wasmparser::{Parser, Payload};

#[test]
fn components_import_and_export_exactly_the_listed_names() {
    for component in COMPONENTS.into_iter().chain(APPLICATIONS) {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports").join(component).with_extension("txt");
        let list = std::fs::read_to_string(&file).unwrap();
        let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let listed: BTreeSet<String> = lines.map(str::to_owned).collect();
        let found = interface(component);
        let reaches = |what| found.iter().any(|name| name.contains(what));
        assert!(!reaches("wasi:sockets"), "{component}: {found:#?}");
        assert!(!(reaches("wasi:filesystem") && reaches("wasi:http")), "{component}: {found:#?}");

        let difference = |mark: &str, one: &BTreeSet<String>, other: &BTreeSet<String>| -> String {
            one.difference(other).map(|name| format!("{mark} {name}\n")).collect()
        };
        let difference = difference("+", &found, &listed) + &difference("-", &listed, &found);
        assert!(difference.is_empty(), "{component} differs from {}:\n{difference}", file.display());
    }
}

/// On a difference the test prints the blocks that SECURITY.md should have.
#[test]
fn security_md_shows_all_imports_and_exports() {
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

/// The part that can read files has no network, and the part that has the network can read no file: the
/// gateway imports one function more than without the reader. The whole imports what both do.
#[test]
fn a_federated_gateway_is_a_gateway_and_a_reader() {
    let reader = interface("token-file");
    let read = "import keyvault:gateway/assertion@0.1.0".to_owned();
    let files = reader.iter().filter(|name| name.starts_with("import ")).cloned();
    for name in ["proxy", "service", "service-spin"] {
        let gateway = interface(name);
        let with_reader: BTreeSet<_> = gateway.iter().cloned().chain([read.clone()]).collect();
        assert_eq!(interface(&format!("{name}-federated-alone")), with_reader);
        let whole: BTreeSet<_> = gateway.into_iter().chain(files.clone()).collect();
        let composed = interface(&format!("{name}-federated"));
        assert_eq!(without_patches(composed), without_patches(whole), "{name}");
    }
}

/// The gateway's imports are resolved, and its exports are not visible from outside.
#[test]
fn a_composition_adds_no_import_or_export() {
    for (name, parts) in [
        ("configured-proxy", ["configured-proxy-alone", "config-store", "proxy"].as_slice()),
        ("configured-service", &["configured-service-alone", "config-store", "proxy"]),
        ("awaiting", &["awaiting-alone", "service"]),
    ] {
        let has = |name: &String, start: &str| name.starts_with(start) && !name.contains(" keyvault:");
        let of = |names: BTreeSet<String>, start: &str| -> BTreeSet<String> {
            without_patches(names.into_iter().filter(|name| has(name, start)).collect())
        };
        let of_parts: BTreeSet<_> = parts.iter().flat_map(|part| of(interface(part), "import ")).collect();
        assert_eq!(of(interface(name), "import "), of_parts, "{name}");
        assert_eq!(of(interface(name), "export "), of(interface(parts[0]), "export "), "{name}");
        assert!(!interface(name).iter().any(|name| name.contains("keyvault:")), "{name}");
    }
}

/// The parts of a composition use several patch versions of WASI 0.2, and the whole the newest of each
/// interface.
fn without_patches(names: BTreeSet<String>) -> BTreeSet<String> {
    names.into_iter().map(|name| name.split("@0.2.").next().unwrap_or_default().to_owned()).collect()
}

/// Returns the imports and exports of a component, each after `import` or `export`.
fn interface(name: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(&std::fs::read(component(name).unwrap()).unwrap()) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                let imports = section.into_iter().map(|import| import.unwrap().name.name);
                names.extend(imports.map(|name| format!("import {name}")));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                let exports = section.into_iter().map(|export| export.unwrap().name.name);
                names.extend(exports.map(|name| format!("export {name}")));
            }
            _ => {}
        }
    }
    names
}

const COMPONENTS: [&str; 6] =
    ["proxy", "service", "token-file", "proxy-spin", "service-spin", "config-store"];

/// The examples before composition: none can reach another host.
const APPLICATIONS: [&str; 3] = ["configured-proxy-alone", "configured-service-alone", "awaiting-alone"];
