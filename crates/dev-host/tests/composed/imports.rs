//! What the applications can reach by themselves, and what they can when they are composed.

use std::collections::BTreeSet;
use std::fs;

use dev_host::component;
use wasmparser::{Parser, Payload};

#[test]
fn no_application_can_reach_anybody_by_itself() {
    for name in ["configured-proxy-alone", "configured-service-alone", "awaiting-alone"] {
        let (imports, _) = interface(name);
        let reaches = ["wasi:http/outgoing-handler", "wasi:http/client", "wasi:sockets"];
        let found: Vec<_> =
            imports.iter().filter(|it| reaches.iter().any(|way| it.starts_with(way))).collect();
        assert!(found.is_empty(), "{name} imports {found:?}");
        let from_others: Vec<_> = imports.iter().filter(|it| !it.starts_with("wasi:")).cloned().collect();
        let expected: &[&str] = match name {
            "awaiting-alone" => &["keyvault:gateway/async-secrets@0.1.0", "keyvault:gateway/types@0.1.0"],
            _ => &[],
        };
        assert_eq!(from_others, expected, "{name}");
        assert_eq!(imports.contains("wasi:config/store@0.2.0-rc.1"), expected.is_empty(), "{name}");
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
        let (imports, exports) = interface(name);
        let of_parts = parts.iter().map(|it| interface(it));
        let (mut expected, mut there) = (BTreeSet::new(), BTreeSet::new());
        for (imports, exports) in of_parts {
            expected.extend(imports);
            there.extend(exports);
        }
        let left = |it: &String| !it.starts_with("keyvault:");
        // Versions of WASI 0.2 that differ by the last number only become one.
        let names = |set: BTreeSet<String>| -> BTreeSet<String> {
            set.into_iter()
                .filter(left)
                .map(|it| it.split("@0.2.").next().unwrap_or_default().to_owned())
                .collect()
        };
        assert_eq!(names(imports), names(expected), "{name}");
        assert_eq!(exports, interface(parts[0]).1, "{name}");
    }
}

/// The names that a component imports, and those that it exports.
fn interface(name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut imports, mut exports, mut depth) = (BTreeSet::new(), BTreeSet::new(), 0);
    for payload in Parser::new(0).parse_all(&fs::read(component(name).unwrap()).unwrap()) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                imports.extend(section.into_iter().map(|it| it.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                exports.extend(section.into_iter().map(|it| it.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports)
}
