//! The program, with the components that `cargo xtask build` and `cargo xtask compose` make.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use wac_graph::CompositionGraph;
use wac_graph::types::Package;

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
    let alone = fs::read(&application).unwrap();
    assert!(whole.len() > alone.len() + fs::read(component("proxy")).unwrap().len());
    // Before it is not after it.
    let said = place.refused(&[&application, &component("proxy"), &component("config-store")]);
    let missing = "config-store.wasm imports what no other exports: keyvault:gateway/";
    assert!(said.contains(missing) && said.contains("/secrets@0.1.0"), "{said}");
}

/// Middleware keeps the handler that it imports, for whoever it is put before.
#[test]
fn nobody_is_given_more_than_the_gateway_and_a_configuration() {
    let place = Place::new("given");
    let application = place.importing("middleware", &["keyvault:gateway/async-secrets@0.1.0", HANDLER]);
    let whole = place.composed(&application, &["service"]);
    let imports = imports(whole);
    assert!(imports.iter().any(|it| it == HANDLER), "{imports:?}");
    assert!(!imports.iter().any(|it| it.starts_with("keyvault:")), "{imports:?}");

    let only_handler = place.importing("only-handler", &[HANDLER]);
    let said = place.refused(&[&only_handler, &component("service")]);
    assert!(said.contains("imports nothing that the others export"), "{said}");
}

#[test]
fn a_way_out_of_the_application_is_told() {
    let place = Place::new("way-out");
    let secrets = "keyvault:gateway/secrets@0.1.0";
    for (way, told) in [
        ("wasi:http/outgoing-handler@0.2.12", true),
        ("wasi:http/client@0.3.0", true),
        (HANDLER, true),
        ("wasi:sockets/tcp@0.2.12", true),
        ("wasi:filesystem/types@0.2.12", true),
        ("wasi:keyvalue/store@0.2.0-draft", true),
        ("fermyon:spin/outbound-http", true),
        ("fermyon:spin/sqlite@2.0.0", true),
        ("spin:postgres/postgres@3.0.0", true),
        ("somebody:else/whatever@1.0.0", true),
        ("wasi:http/types@0.2.12", false),
        ("wasi:cli/environment@0.2.12", false),
        ("wasi:io/streams@0.2.12", false),
        ("wasi:clocks/monotonic-clock@0.2.12", false),
        ("wasi:random/random@0.2.12", false),
        ("wasi:config/store@0.2.0-rc.1", false),
        ("fermyon:spin/variables@2.0.0", false),
    ] {
        let application = place.importing("application", &[secrets, way]);
        let ran = run(&place.file("whole.wasm"), &[&application, &component("proxy")]);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.success(), "{said}");
        assert_eq!(said.starts_with("note: ") && said.contains(way), told, "{said}");
    }
}

/// What is missing in the gateway's version would be taken from the host, where references to secrets are not resolved.
#[test]
fn another_version_is_refused_and_both_are_named() {
    let place = Place::new("version");
    let (secrets, config) = ("keyvault:gateway/secrets@0.1.0", "wasi:config/store@0.2.0-rc.1");
    for (import, part, export) in [
        ("keyvault:gateway/secrets@0.2.0", "proxy", secrets),
        ("keyvault:gateway/secrets@0.1.1", "proxy", secrets),
        ("wasi:config/store@0.2.0-draft-2024-09-27", "config-store", config),
        ("wasi:config/store", "config-store", config),
    ] {
        let application = place.importing("application", &["keyvault:gateway/types@0.1.0", import]);
        let parts = ["config-store", "proxy"].map(component);
        let said = place.refused(&[&application, &parts[0], &parts[1]]);
        let named = format!("imports {import}, and {} exports {export}: ", component(part).display());
        assert!(said.contains(&named), "{said}");
    }
    // Who leaves the config store out has the host's in mind.
    let of_the_host = "wasi:config/store@0.2.0-draft-2024-09-27";
    let application = place.importing("of-the-host", &[secrets, of_the_host]);
    let whole = place.composed(&application, &["proxy"]);
    assert!(imports(whole).iter().any(|it| it == of_the_host));
}

#[test]
fn says_what_is_wrong_and_writes_nothing() {
    let place = Place::new("wrong");
    let [application, service, config_store] = ["awaiting-alone", "service", "config-store"].map(component);
    let text = place.file("text.wasm");
    fs::write(&text, "no component").unwrap();
    let missing = place.file("missing.wasm");
    for (files, problem) in [
        (vec![&application], "imports what no other exports: keyvault:gateway/"),
        (vec![&application, &config_store], "imports what no other exports: keyvault:gateway/"),
        (vec![&service, &application], "imports nothing that the others export"),
        (vec![&text, &service], "is not a binary-encoded WebAssembly component"),
        (vec![&application, &text], "is not a binary-encoded WebAssembly component"),
        (vec![&missing, &service], "missing.wasm: "),
    ] {
        let said = place.refused(&files);
        assert!(said.contains(problem), "{said}");
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

    /// A component that imports these, of each nothing, and does nothing.
    fn importing(&self, name: &str, imports: &[&str]) -> PathBuf {
        // The Component Model, "Binary format": a type section with an instance of no exports, and the imports.
        let mut section = vec![u8::try_from(imports.len()).unwrap()];
        for import in imports {
            section.extend([0, u8::try_from(import.len()).unwrap()]);
            section.extend(import.as_bytes());
            section.extend([5, 0]);
        }
        let mut component = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\0\x0a".to_vec();
        let length = section.len();
        component.extend([u8::try_from(length % 128).unwrap() | 128, u8::try_from(length / 128).unwrap()]);
        component.extend(section);
        let file = self.file(name).with_extension("wasm");
        fs::write(&file, component).unwrap();
        file
    }

    /// What is said where nothing is made.
    fn refused(&self, files: &[&PathBuf]) -> String {
        let output = self.file("refused.wasm");
        let ran = run(&output, files);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!((ran.status.code(), said.lines().count(), output.exists()), (Some(1), 1, false), "{said}");
        assert!(said.starts_with("error: "), "{said}");
        said
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

/// What a component imports.
fn imports(component: Vec<u8>) -> Vec<String> {
    let mut graph = CompositionGraph::new();
    let package = Package::from_bytes("whole", None, component, graph.types_mut()).unwrap();
    graph.types()[package.ty()].imports.keys().cloned().collect()
}

fn run(output: &Path, files: &[&PathBuf]) -> Output {
    Command::new(PROGRAM).arg(output).args(files).output().unwrap()
}

/// A built component.
fn component(name: &str) -> PathBuf {
    // Beside what Cargo has for the tests, whatever the target folder is called and from where.
    let components = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("components");
    let file = components.join(name).with_extension("wasm");
    assert!(file.exists(), "{} is not there: run `cargo xtask compose`", file.display());
    file
}

const HANDLER: &str = "wasi:http/handler@0.3.0";

const PROGRAM: &str = env!("CARGO_BIN_EXE_compose");
