//! The binary and the library that starts it.

use dev_host::{Launch, NotStarted};
use std::process::Command;

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
