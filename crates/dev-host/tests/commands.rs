//! Tests of `demo` and `dev`, with the component that `cargo xtask` passes them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dev_host::{Server, WAIT_LIMIT, agent, wait_for};

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

#[test]
fn demo_reads_one_secret() {
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
fn dev_serves_and_reloads_the_secrets_of_a_file() {
    let file = secrets("dev-follows.json", r#"{"one": "1", "two": "2"}"#);
    let dev = Dev::start(&file);
    let line = dev.line_with("curl http");
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    assert_eq!(post(url, "one"), (200, r#"{"Secret":"one","Value":"1"}"#.to_owned()));

    fs::write(&file, r#"{"one": "1", "three": "3"}"#).unwrap();
    dev.line_with(&format!("reloaded {}", file.display()));
    assert_eq!(post(url, "three"), (200, r#"{"Secret":"three","Value":"3"}"#.to_owned()));
    assert_eq!(post(url, "two").0, 404);
}

/// Runs the commands that `dev` prints for a caller without a key.
#[test]
fn a_pod_of_the_emulated_cluster_needs_no_key() {
    let file = secrets("dev-pod.json", r#"{"one": "1"}"#);
    let dev = Dev::start(&file);
    dev.line_with("Press ctrl-c");
    let log = dev.0.log();
    let printed = log.iter().skip_while(|line| !line.contains("TOKEN=$(curl"));
    let commands: Vec<_> = printed.take_while(|line| !line.trim().is_empty()).map(String::as_str).collect();
    let output = Command::new("sh").args(["-euc", &commands.join("\n")]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, r#"{"Secret":"one","Value":"1"}"#, "{commands:?} {output:?}");
}

#[test]
fn the_component_exits_with_dev() {
    let file = secrets("dev-ends.json", r#"{"one": "1"}"#);
    for signal in ["TERM", "KILL"] {
        let mut dev = Dev::start(&file);
        let line = dev.line_with("curl http");
        let authority = line.split('/').nth(2).unwrap().to_owned();
        assert!(TcpStream::connect(&authority).is_ok(), "{signal}: {line}");
        dev.signal(signal);
        wait_for("the exit of the component", || TcpStream::connect(&authority).err());
    }
}

#[test]
fn an_address_in_use_is_named() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = holder.local_addr().unwrap();
    let file = secrets("dev-taken.json", r#"{"one": "1"}"#);
    for (host, named) in
        [("gateway", format!("cannot listen at {taken}")), ("wasmtime", format!("--addr {taken}"))]
    {
        let output = dev(taken, &file).args(["--host", host]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(&named), "{error}");
    }
}

const KEY: &str = "the-key-of-a-developer";

/// A running `dev`. `Server` collects its output.
struct Dev(Server);

fn secrets(name: &str, content: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, content).unwrap();
    file
}

/// Builds the command `dev` with this address and these secrets.
fn dev(address: SocketAddr, secrets: &Path) -> Command {
    let mut command = Command::new(HOST);
    // The test ignores the settings of the machine.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GATEWAY_")) {
        command.env_remove(name);
    }
    command.args(["dev", "--addr", &address.to_string(), "--component"]);
    command
        .arg(dev_host::component("service").unwrap())
        .arg("--secrets")
        .arg(secrets)
        .env("GATEWAY_KEY", KEY);
    command
}

impl Dev {
    fn start(secrets: &Path) -> Self {
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        Self(Server::spawn(dev(address, secrets), address).unwrap())
    }

    /// Sends a signal and waits for the exit. A shell has `kill`; a small system may not.
    fn signal(&mut self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.0.pid());
        let sent = Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success());
        let start = Instant::now();
        while sent && matches!(self.0.exit_status(), Ok(None)) && start.elapsed() < WAIT_LIMIT {
            sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn line_with(&self, part: &str) -> String {
        let line = self.0.wait_for_line(WAIT_LIMIT, |line| line.contains(part));
        line.unwrap_or_else(|| panic!("dev printed no line with {part:?}: {:?}", self.0.log()))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // If this fails, `Server` kills the process.
        self.signal("TERM");
    }
}

fn post(url: &str, name: &str) -> (u16, String) {
    let request = agent(WAIT_LIMIT).post(url).content_type("application/json").header("x-functions-key", KEY);
    let mut response = request.send(format!(r#"{{"Secret": "{name}"}}"#)).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}
