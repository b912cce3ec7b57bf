//! The binary and the library that starts it.

use dev_host::{Launch, NotStarted};
use keyvault_emulator::{Emulator, Source};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

#[test]
fn serves_with_the_options_of_wasmtime() {
    let output = Command::new(HOST).args(["serve", "--help"]).output().expect("the host runs");
    let help = String::from_utf8_lossy(&output.stdout);
    for option in ["--max-instance-reuse-count", "--idle-instance-timeout", "--shutdown-addr", "--wasi"] {
        assert!(help.contains(option), "{option} is missing in:\n{help}");
    }
}

#[test]
fn tells_what_the_host_said_when_it_does_not_start() {
    let started = Launch::new(HOST, "there-is-no.wasm").start();
    let Err(NotStarted::Ended(status, log)) = started else { panic!("something was started") };
    assert_eq!(status.code(), Some(1));
    assert!(log.iter().any(|it| it.contains("there-is-no.wasm")), "{log:?}");
}

/// As `cargo xtask serve` does it, with the settings of the replaced function and a key for its callers. Whoever asks for
/// a secret would ask Azure; whoever asks for readiness asks for a token only.
#[test]
fn serves_with_the_environment_that_it_finds() {
    let (runtime, emulator) = (Runtime::new().unwrap(), Emulator::new());
    let served = runtime.block_on(emulator.serve()).unwrap();
    let identity = served.settings(Source::AppService2017).into_iter().filter(|it| it.0.starts_with("MSI_"));
    let mut command = Command::new(HOST);
    command.args(["serve", "-S", "cli", "-S", "inherit-env=y", "--addr", "127.0.0.1:0"]);
    command.arg(dev_host::component("service").unwrap()).stderr(Stdio::piped());
    command
        .env_clear()
        .envs(identity)
        .env("GATEWAY_KEY", "a-key")
        .env("KeyVaultUri", "https://demo.vault.azure.net/");
    let mut serving = command.spawn().unwrap();
    let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|it| it.strip_prefix("Serving HTTP on ").map(|it| format!("{it}readyz")));
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let ready = url.map(|it| agent.get(it).call().unwrap().body_mut().read_to_string().unwrap());
    serving.kill().unwrap();
    serving.wait().unwrap();
    assert_eq!(ready.as_deref(), Some(r#"{"status":"ready"}"#));
    let [call] = emulator.token_calls().try_into().unwrap();
    assert_eq!(call.audience.as_deref(), Some("https://vault.azure.net"));
}
