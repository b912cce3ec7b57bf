//! The programs of `examples/clients`, which read one secret from a gateway on its own host.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::thread::scope;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use keyvault_emulator::{Effect, Emulator, Fault, Source, Upstream, facts};
use testkit::packages::output_within;

use crate::harness::{Harness, JSON, KEY, OWN_HOST, REQUEST};

/// A client: its folder, the command in that folder, and what that command needs.
type Client = (&'static str, &'static [&'static str], &'static str);

#[test]
fn clients_read_a_secret_and_retry() {
    check(&[
        ("python", &["python3", "read_secret.py"], "Python 3.8 or later"),
        ("node", &["node", "read-secret.mjs"], "Node.js 18 or later"),
    ]);
}

#[test]
#[ignore = "needs Java 17 or later, and jq; the workflow `test` runs these clients"]
fn java_and_curl_clients_read_a_secret_and_retry() {
    check(&[
        ("java", &["java", "ReadSecret.java"], "Java 17 or later with its compiler"),
        ("curl", &["sh", "read-secret.sh"], "sh, curl and jq"),
    ]);
}

#[test]
#[ignore = "needs Go 1.22 or later; the workflow `test` compiles this client"]
fn go_client_reads_a_secret_and_retries() {
    check(&[("go", &["go", "run", "."], "Go 1.22 or later")]);
}

#[test]
#[ignore = "needs the .NET SDK 10 or later; the workflow `test` compiles this client"]
fn csharp_client_reads_a_secret_and_retries() {
    check(&[("csharp", &["dotnet", "run", "--"], "the .NET SDK 10 or later")]);
}

/// Runs each client with each outcome. The clients of one outcome run at the same time.
fn check(clients: &[Client]) {
    let callers = format!(r#"[{{"name": "app", "oid": ["{}"], "secrets": ["*"]}}]"#, facts::OBJECT_ID);
    let settings = [
        ("GATEWAY_JWT_TENANT", facts::TENANT),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE),
        ("GATEWAY_CALLERS", &callers),
        ("GATEWAY_DEADLINE_SECONDS", "5"),
    ];
    let harness = &Harness::start(OWN_HOST, Source::ClientSecret, &settings);
    for name in ["db-password", "retried"] {
        harness.emulator.set_secret(name, VALUE).unwrap();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let claims = Emulator::caller_claims(now, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
    let token = harness.emulator.sign(&harness.emulator.signing_header(), &claims);
    let key = ("GATEWAY_KEY", KEY);
    let all = |credential, name, expected| run_all(clients, harness, credential, name, expected);

    all(key, "db-password", Ok(()));
    all(("GATEWAY_TOKEN", &token), "db-password", Ok(()));
    all(key, "absent", Err("404"));
    // A header field cannot have such a value, and some HTTP clients print it in their error.
    all(("GATEWAY_KEY", "a-wrong\nkey-of-two-lines"), "db-password", Err("cannot read|401"));

    // The vault asks for more time than a request has, so the gateway passes `Retry-After` on.
    let fault = Fault::new(Upstream::Vault, Effect::Status(StatusCode::SERVICE_UNAVAILABLE));
    harness.emulator.fault(fault.times(1).retry_after("6"));
    let start = Instant::now();
    all(key, "retried", Ok(()));
    assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
    assert_log(harness, r#""secret":"retried","status":503"#);

    // The limiter refuses a wrong key with 429 for the rest of ten seconds, and then with 401.
    for _ in 0..20 {
        harness.send("POST /", &["x-functions-key: wrong", JSON], REQUEST.as_bytes());
    }
    all(("GATEWAY_KEY", "a-wrong-key"), "db-password", Err("401"));
    assert_log(harness, r#""status":429"#);
}

/// Runs each client with this credential. `expected` is the text of an error, or several between `|`.
fn run_all(
    clients: &[Client],
    harness: &Harness,
    (variable, credential): (&str, &str),
    name: &str,
    expected: Result<(), &str>,
) {
    scope(|threads| {
        for &(folder, command, needs) in clients {
            threads.spawn(move || {
                let mut program = Command::new(command[0]);
                program.args(&command[1..]).arg(name).current_dir(Path::new(FILES).join(folder)).env_clear();
                let inherited =
                    ["PATH", "HOME"].map(|name| std::env::var_os(name).map(|value| (name, value)));
                program.envs(inherited.into_iter().flatten()).env("GATEWAY_URL", harness.server.url("/"));
                let output = match output_within(LIMIT, b"", program.env(variable, credential)) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        panic!("examples/clients/{folder} needs {needs}: there is no `{}`", command[0])
                    }
                    output => output.unwrap(),
                };
                let [printed, errors] =
                    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
                let case = format!("{folder}, {variable}, {name}: {errors}");
                for private in credential.lines().chain([VALUE.lines().next().unwrap()]) {
                    assert!(!errors.contains(private), "{case}");
                }
                let Err(texts) = expected else {
                    assert_eq!((output.status.code(), printed), (Some(0), format!("{VALUE}\n")), "{case}");
                    return;
                };
                assert!(!output.status.success() && printed.is_empty(), "{case}");
                assert!(texts.split('|').any(|text| errors.contains(text)), "{case}");
            });
        }
    });
}

#[track_caller]
fn assert_log(harness: &Harness, text: &str) {
    let log = harness.server.log();
    assert!(log.iter().any(|line| line.contains(text)), "{text}: {log:?}");
}

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/clients");

/// A value with each kind of character that JSON escapes.
const VALUE: &str = "correct \"horse\" \\ gr\u{fc}\u{df}e \u{1f511}\n\u{1}\u{8}/\u{2028}";

const AUDIENCE: &str = "api://keyvault-gateway";

/// Many times the duration of a run.
const LIMIT: Duration = Duration::from_secs(120);
