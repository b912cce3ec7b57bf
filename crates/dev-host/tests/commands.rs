//! `demo` and `dev`, with the component that `cargo xtask` gives them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dev_host::{Server, WAIT_LIMIT, agent, wait_for};

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

#[test]
fn the_demo_reads_a_secret_through_everything() {
    let output = Command::new(HOST)
        .args(["demo", "--component"])
        .arg(dev_host::component("service").unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        text.contains(r#"{"Secret":"Integration-Team-Blog","Value":"only the vault knew this: "#),
        "{text}"
    );
    assert!(text.contains("GET /secrets/Integration-Team-Blog?api-version="), "{text}");
}

#[test]
fn dev_serves_the_secrets_of_a_file_and_follows_its_changes() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dev-follows.json");
    fs::write(&file, r#"{"one": "1", "two": "2"}"#).unwrap();
    let dev = Dev::start(&file);
    let line = dev.line_with("curl http");
    let url = line.split_whitespace().find(|it| it.starts_with("http://")).unwrap();
    assert_eq!(ask(url, "one"), (200, r#"{"Secret":"one","Value":"1"}"#.to_owned()));

    fs::write(&file, r#"{"one": "1", "three": "3"}"#).unwrap();
    dev.line_with(&format!("read {} again", file.display()));
    assert_eq!(ask(url, "three"), (200, r#"{"Secret":"three","Value":"3"}"#.to_owned()));
    assert_eq!(ask(url, "two").0, 404);
}

#[test]
fn the_component_ends_with_dev_however_that_ends() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dev-ends.json");
    fs::write(&file, r#"{"one": "1"}"#).unwrap();
    for signal in ["TERM", "KILL"] {
        let mut dev = Dev::start(&file);
        let line = dev.line_with("curl http");
        let authority = line.split('/').nth(2).unwrap().to_owned();
        assert!(TcpStream::connect(&authority).is_ok(), "{signal}: {line}");
        dev.signal(signal);
        wait_for("an end of the component", || TcpStream::connect(&authority).err());
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = holder.local_addr().unwrap();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dev-taken.json");
    fs::write(&file, r#"{"one": "1"}"#).unwrap();
    let mut command = Command::new(HOST);
    command.args(["dev", "--addr", &taken.to_string(), "--component"]);
    command.arg(dev_host::component("service").unwrap()).arg("--secrets").arg(&file);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("--addr {taken}")), "{said}");
}

const KEY: &str = "the-key-of-a-developer";

/// `dev`, of which what it prints is taken as that of a host.
struct Dev(Server);

impl Dev {
    fn start(secrets: &Path) -> Self {
        let mut command = Command::new(HOST);
        command
            .args(["dev", "--addr", "127.0.0.1:0", "--component"])
            .arg(dev_host::component("service").unwrap());
        // The settings of the machine are not those of the test.
        for (name, _) in std::env::vars_os().filter(|it| it.0.to_string_lossy().starts_with("GATEWAY_")) {
            command.env_remove(name);
        }
        command.arg("--secrets").arg(secrets).env("GATEWAY_KEY", KEY);
        Self(Server::spawn(command, (Ipv4Addr::LOCALHOST, 0).into()).unwrap())
    }

    /// Sends it a signal, and waits until it has ended. The shell has a command for it where a small system has no program.
    fn signal(&mut self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.0.pid());
        let told = Command::new("sh").args(["-c", &kill]).status().is_ok_and(|it| it.success());
        let start = Instant::now();
        while told && matches!(self.0.ended(), Ok(None)) && start.elapsed() < WAIT_LIMIT {
            sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn line_with(&self, part: &str) -> String {
        let line = self.0.wait_for_line(WAIT_LIMIT, |it| it.contains(part));
        line.unwrap_or_else(|| panic!("dev never says {part:?}: {:?}", self.0.log()))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A kill comes if this is in vain.
        self.signal("TERM");
    }
}

fn ask(url: &str, name: &str) -> (u16, String) {
    let request = agent(WAIT_LIMIT).post(url).content_type("application/json").header("x-functions-key", KEY);
    let mut response = request.send(format!(r#"{{"Secret": "{name}"}}"#)).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}
