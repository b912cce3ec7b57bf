//! Hostile clients against the built components under the real serve: `attack` with a fraction of everything.

use std::process::Command;

#[test]
fn others_are_answered_while_the_component_of_wasi_0_2_is_attacked() {
    attack("proxy");
}

#[test]
fn others_are_answered_while_the_component_of_wasi_0_3_is_attacked() {
    attack("service");
}

/// The command finds out what is wrong; here it is only run.
#[track_caller]
fn attack(component: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_dev-host"))
        .args(["attack", "--small", "--component"])
        .arg(dev_host::component(component).unwrap())
        .output()
        .unwrap();
    let [table, problems] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    println!("{table}");
    assert!(output.status.success(), "{problems}");
}
