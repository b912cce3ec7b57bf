//! The API description against the component: schemathesis generates valid and invalid requests from the
//! description and checks each response with all its checks.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use keyvault_emulator::Source;
use serde_json::Value;
use testkit::packages::{PythonPackages, output_within};

use crate::harness::{ALL, Harness, key_field};

#[test]
fn every_response_matches_the_api_description() -> Result<(), Box<dyn Error>> {
    let packages = packages()?;
    for component in ALL {
        for (options, needed) in
            [(vec![], &["Unauthorized"][..]), (vec!["--header", &key_field()], &WITH_KEY)]
        {
            let has_key = !options.is_empty();
            let harness = Harness::start(component, Source::AppService2017, &[]);
            let document = harness.send("GET /openapi.json", &[], b"").json();
            let output = run(&packages, &harness.server.url(""), &document, &options)?;
            assert_clean(component, &output, &document);
            let seen = codes(&harness);
            for code in needed {
                assert!(seen.contains(*code), "{component} never returned {code}: {seen:?}");
            }
            assert!(
                has_key || seen.iter().all(|code| WITHOUT_KEY.contains(&code.as_str())),
                "{component}: {seen:?}"
            );
            assert_eq!(harness.emulator.vault_calls().is_empty(), !has_key, "{component}");
        }
    }
    Ok(())
}

/// Runs schemathesis with `document` as a file: it skips the operation that it loads a description from.
fn run(packages: &Path, url: &str, document: &Value, options: &[&str]) -> Result<Output, Box<dyn Error>> {
    // Schemathesis looks for its settings and its database in the current directory.
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("openapi.json"), document.to_string())?;
    let mut command = Command::new("python3");
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).current_dir(&directory);
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
    command.args(["-m", "schemathesis.cli", "run", "openapi.json", "--url", url]);
    command.args(["--checks", "all", "--mode", "all", "--seed", SEED, "--max-examples", EXAMPLES]);
    // The time to generate data depends on the machine.
    command.args(["--suppress-health-check", "all", "--request-timeout", REQUEST_SECONDS]);
    command.args(["--continue-on-failure", "--generation-database", "none", "--no-color"]);
    Ok(output_within(LIMIT, b"", command.args(options))?)
}

/// Checks that schemathesis found no failure and tested everything.
#[track_caller]
fn assert_clean(component: &str, output: &Output, document: &Value) {
    let report = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream)).concat();
    assert!(output.status.success(), "{component}: {report}");
    let paths = document["paths"].as_object().unwrap().values();
    let all: usize = paths.map(|methods| methods.as_object().unwrap().len()).sum();
    for line in [format!("Tested: {all}\n"), "Coverage (in".to_owned(), "Fuzzing (in".to_owned()] {
        assert!(report.contains(&line), "{component} has no {line:?}: {report}");
    }
}

/// Returns the error codes in the component's log.
fn codes(harness: &Harness) -> BTreeSet<String> {
    let lines = harness.server.log();
    let json = lines.iter().filter_map(|line| line.get(line.find('{')?..));
    let json = json.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    json.filter_map(|line| Some(line["code"].as_str()?.to_owned())).collect()
}

/// A machine without Python 3 and pip fails the test.
fn packages() -> Result<PathBuf, Box<dyn Error>> {
    let packages = PythonPackages {
        name: "schemathesis",
        purpose: "schemathesis against the components",
        requirements: &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/requirements.txt"),
        target: &Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(""),
    };
    packages.install()
}

/// The codes for a client without the key. Schemathesis probes a path that does not exist, to learn what its
/// client can send.
const WITHOUT_KEY: [&str; 5] = ["OK", "Unauthorized", "TooManyRequests", "MethodNotAllowed", "NotFound"];

/// The codes that a client with the key must see at least, so that not all its requests are refused.
const WITH_KEY: [&str; 6] =
    ["OK", "BadRequest", "Unauthorized", "SecretNotFound", "MethodNotAllowed", "UnsupportedMediaType"];

/// A fixed seed generates the same requests every time.
const SEED: &str = "1";

/// The generated requests per operation, which take ten seconds in total.
const EXAMPLES: &str = "40";

/// Longer than the deadline of a request.
const REQUEST_SECONDS: &str = "15";

/// Many times the duration of a run.
const LIMIT: Duration = Duration::from_secs(900);
