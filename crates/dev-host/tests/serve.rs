//! The binary and the library that starts it.

use dev_host::{Launch, NotStarted, Server};
use keyvault_emulator::{Emulator, Source};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;
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
fn serves_with_the_settings_that_it_finds() {
    let (runtime, emulator) = (Runtime::new().unwrap(), Emulator::new());
    let served = runtime.block_on(emulator.serve()).unwrap();
    let identity = served.settings(Source::AppService2017).into_iter().filter(|it| it.0.starts_with("MSI_"));
    let mut command = Command::new(HOST);
    command.args(["serve", "-S", "cli", "--addr", "127.0.0.1:0"]);
    for name in ["MSI_ENDPOINT", "MSI_SECRET", "GATEWAY_KEY", "KeyVaultUri"] {
        command.args(["--env", name]);
    }
    command.arg(dev_host::component("service").unwrap());
    command
        .env_clear()
        .envs(identity)
        .env("GATEWAY_KEY", "a-key")
        .env("KeyVaultUri", "https://demo.vault.azure.net/");
    let mut serving = Server::spawn(command, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    serving.wait_until_ready().unwrap();
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent = agent.timeout_global(Some(PATIENCE)).build().new_agent();
    let ready = agent.get(serving.url("/readyz")).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(ready, r#"{"status":"ready"}"#);
    let [call] = emulator.token_calls().try_into().unwrap();
    assert_eq!(call.audience.as_deref(), Some("https://vault.azure.net"));
}

/// Longer than the answer takes.
const PATIENCE: Duration = Duration::from_secs(60);
