//! Hostile clients against the built components under the real host: `attack --small`.

use std::process::Command;

#[test]
fn other_clients_are_served_during_attacks_on_wasi_0_2() {
    attack("proxy", "wasmtime");
}

#[test]
fn other_clients_are_served_during_attacks_on_wasi_0_3() {
    attack("service", "wasmtime");
}

#[test]
fn other_clients_are_served_during_attacks_on_the_own_host() {
    attack("service", "gateway");
}

/// The command checks the limits.
#[track_caller]
fn attack(component: &str, host: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_dev-host"))
        .args(["attack", "--small", "--host", host, "--component"])
        .arg(dev_host::component(component).unwrap())
        .output()
        .unwrap();
    let [table, errors] = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream));
    println!("{table}");
    assert!(output.status.success(), "{errors}");
}
