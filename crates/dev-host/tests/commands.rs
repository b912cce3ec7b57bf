//! `demo` and `dev`, with the component that `cargo xtask` gives them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
    let mut dev = Dev::start(&file);
    let line = dev.line_with("curl http");
    let url = line.split_whitespace().find(|it| it.starts_with("http://")).unwrap();
    assert_eq!(ask(url, "one"), (200, r#"{"Secret":"one","Value":"1"}"#.to_owned()));

    fs::write(&file, r#"{"one": "1", "three": "3"}"#).unwrap();
    dev.line_with(&format!("read {} again", file.display()));
    assert_eq!(ask(url, "three"), (200, r#"{"Secret":"three","Value":"3"}"#.to_owned()));
    assert_eq!(ask(url, "two").0, 404);
}

const KEY: &str = "the-key-of-a-developer";

struct Dev {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Dev {
    fn start(secrets: &Path) -> Self {
        let mut command = Command::new(HOST);
        command
            .args(["dev", "--addr", "127.0.0.1:0", "--component"])
            .arg(dev_host::component("service").unwrap());
        // The settings of whoever runs the tests are not those of the test.
        for (name, _) in std::env::vars_os().filter(|it| it.0.to_string_lossy().starts_with("GATEWAY_")) {
            command.env_remove(name);
        }
        command.arg("--secrets").arg(secrets).env("GATEWAY_KEY", KEY).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines: Box::new(stdout.lines().map_while(Result::ok)) }
    }

    fn line_with(&mut self, part: &str) -> String {
        self.lines.find(|it| it.contains(part)).expect("dev keeps running")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A termination lets it stop its component, which a kill would leave running. The shell has a command for it
        // where a small system has no program.
        let terminate = format!("kill {}", self.child.id());
        if !Command::new("sh").args(["-c", &terminate]).status().is_ok_and(|it| it.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn ask(url: &str, name: &str) -> (u16, String) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let request = agent.post(url).content_type("application/json").header("x-functions-key", KEY);
    let mut response = request.send(format!(r#"{{"Secret": "{name}"}}"#)).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}
