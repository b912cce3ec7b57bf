//! The document against the component: schemathesis reads one, makes requests of all kinds from it, right ones and wrong
//! ones, and holds each answer against it, with every check that it has.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use keyvault_emulator::Source;
use serde_json::Value;
use testkit::packages::{PythonPackages, output_within};

use crate::rig::{BOTH, Rig, key_field};

#[test]
fn every_answer_is_as_the_document_says_with_a_key_and_without() -> Result<(), Box<dyn Error>> {
    let packages = packages()?;
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        let document = rig.send("GET /openapi.json", &[], b"").json();
        let output = run(&packages, &rig, &document, &[])?;
        assert_clean(component, &output, &document);
        // The path that is not there is one of schemathesis' own, with which it finds out what the client can send.
        let allowed = ["OK", "Unauthorized", "TooManyRequests", "MethodNotAllowed", "NotFound"];
        let seen = codes(&rig);
        assert!(seen.contains("Unauthorized"), "{component}: {seen:?}");
        assert!(seen.iter().all(|code| allowed.contains(&code.as_str())), "{component}: {seen:?}");
        assert!(rig.emulator.vault_calls().is_empty(), "{component}");

        let rig = Rig::start(component, Source::AppService2017, &[]);
        let output = run(&packages, &rig, &document, &["--header", &key_field()])?;
        assert_clean(component, &output, &document);
        // Not only where requests are refused.
        let seen = codes(&rig);
        for code in
            ["OK", "BadRequest", "Unauthorized", "SecretNotFound", "MethodNotAllowed", "UnsupportedMediaType"]
        {
            assert!(seen.contains(code), "{component} never said {code}: {seen:?}");
        }
        assert!(!rig.emulator.vault_calls().is_empty(), "{component}");
    }
    Ok(())
}

/// Runs schemathesis with what `document` says, which is the one that the component serves or almost that. It is given as
/// a file, because schemathesis leaves out the operation that it has a document from.
fn run(packages: &Path, rig: &Rig, document: &Value, options: &[&str]) -> Result<Output, Box<dyn Error>> {
    // Its own settings and what it remembers of other runs would be looked for here.
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("openapi.json"), document.to_string())?;
    let mut command = Command::new("python3");
    command.env_clear().envs(std::env::var_os("PATH").map(|it| ("PATH", it))).current_dir(&directory);
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
    command.args(["-m", "schemathesis.cli", "run", "openapi.json", "--url", &rig.server.url("")]);
    command.args(["--checks", "all", "--mode", "all", "--seed", SEED, "--max-examples", EXAMPLES]);
    // How long a busy machine takes to make its data up says nothing about us.
    command.args(["--suppress-health-check", "all", "--request-timeout", REQUEST_SECONDS]);
    command.args(["--continue-on-failure", "--generation-database", "none", "--no-color"]);
    Ok(output_within(LIMIT, b"", command.args(options))?)
}

/// Checks that there was nothing to complain of, and that it was all there.
#[track_caller]
fn assert_clean(component: &str, output: &Output, document: &Value) {
    let report = report(output);
    assert!(output.status.success(), "{component}: {report}");
    let operations = document["paths"].as_object().unwrap().values().map(|it| it.as_object().unwrap().len());
    let all = operations.sum::<usize>();
    for told in [format!("Tested: {all}\n"), "Coverage (in".to_owned(), "Fuzzing (in".to_owned()] {
        assert!(report.contains(&told), "{component} has no {told:?}: {report}");
    }
}

fn report(output: &Output) -> String {
    let [report, problems] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    format!("{report}{problems}")
}

/// The codes of the answers, as the component has logged them.
fn codes(rig: &Rig) -> BTreeSet<String> {
    let lines = rig.server.log();
    let lines = lines.iter().filter_map(|it| serde_json::from_str::<Value>(it.get(it.find('{')?..)?).ok());
    lines.filter_map(|it| Some(it["code"].as_str()?.to_owned())).collect()
}

/// A machine without Python 3 and pip fails here, and does not pass.
fn packages() -> Result<PathBuf, Box<dyn Error>> {
    let packages = PythonPackages {
        name: "schemathesis",
        purpose: "schemathesis against the components",
        requirements: &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/requirements.txt"),
        target: &Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(""),
    };
    packages.install()?.ok_or_else(|| "schemathesis needs Python 3 and pip".into())
}

/// The same requests every time.
const SEED: &str = "1";

/// For each operation, beside those that its parts and their limits suggest: some ten seconds of a run.
const EXAMPLES: &str = "40";

/// Longer than a request may take.
const REQUEST_SECONDS: &str = "15";

/// Many times what a run takes.
const LIMIT: Duration = Duration::from_secs(900);
