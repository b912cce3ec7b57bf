//! The component for WASI 0.2 under `jco serve`, on Node.js: one instance for the life of the process, one request at a time.

use std::error::Error;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dev_host::{Server, WAIT_LIMIT, agent, wait_for};
use keyvault_emulator::{Effect, Emulator, Fault, Source, Upstream};
use serde_json::{Value, json};
use testkit::packages::NodePackages;
use tokio::net::TcpSocket;
use ureq::Body;
use ureq::http::Response;

#[test]
fn reads_secrets_remembers_them_and_survives_whatever_azure_does() -> Result<(), Box<dyn Error>> {
    let jco = jco()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let emulator = Emulator::new();
    emulator.set_secret(SECRET, VALUE)?;
    let served = runtime.block_on(emulator.serve())?;
    let mut settings = served.settings(Source::AppService2019);
    settings.push(("GATEWAY_KEY", KEY.to_owned()));
    let mut host = Jco::start(&jco, &settings)?;

    assert_eq!(host.get("/healthz")?, (200, json!({"status": "ok"})));
    assert_eq!(host.get("/readyz")?, (200, json!({"status": "ready"})));
    let right = (200, json!({"Secret": SECRET, "Value": VALUE}));
    for _ in 0..3 {
        assert_eq!(host.ask(KEY, SECRET)?, right);
    }
    assert_eq!(
        (emulator.token_calls().len(), emulator.vault_calls().len()),
        (1, 1),
        "the rest is from memory"
    );

    for (key, secret, effect, expected) in [
        ("wrong", SECRET, None, (401, "Unauthorized")),
        (KEY, "../keys", None, (400, "BadRequest")),
        (KEY, "not-there", None, (404, "SecretNotFound")),
        (KEY, "other", Some(Effect::HugeChunkedBody(1024 * 1024)), (502, "VaultError")),
        (KEY, "one-more", Some(Effect::CutWithinBody), (503, "Unavailable")),
    ] {
        if let Some(effect) = effect {
            emulator.set_secret(secret, VALUE)?;
            emulator.fault(Fault::new(Upstream::Vault, effect).secret(secret));
        }
        let (status, body) = host.ask(key, secret)?;
        assert_eq!((status, body["error"]["code"].as_str().unwrap_or("")), expected, "{secret}");
    }
    assert_eq!(host.ask(KEY, SECRET)?, right, "what is in memory is not touched by that");
    assert!(host.server.ended()?.is_none(), "the process has ended");
    let said = host.server.log().join("\n");
    assert!(said.contains(r#""cache":"hit""#), "{said}");
    assert!(!said.contains(KEY) && !said.contains("8f2a-value"), "{said}");

    let served = host.server.address();
    drop(host);
    wait_for("an end of jco", || TcpStream::connect(served).err());
    Ok(())
}

/// `jco serve` with the component. Dropping it ends the process, and the one that it starts in its turn.
struct Jco {
    server: Server,
    _port: TcpSocket,
}

impl Jco {
    fn start(jco: &Path, settings: &[(&str, String)]) -> Result<Self, Box<dyn Error>> {
        // It takes no port 0. One that is bound and does not listen is given to no program but one that asks for this very port
        // and lets it be reused, as Node.js does (socket(7), `SO_REUSEADDR`).
        let port = TcpSocket::new_v4()?;
        port.set_reuseaddr(true)?;
        port.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = port.local_addr()?;
        let mut command = Command::new("node");
        command.arg(jco).arg("serve").arg(dev_host::component("proxy")?);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        // The component has the whole environment of the process.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .process_group(0)
            .stdin(Stdio::null());
        let host = Self { server: Server::spawn(command, address)?, _port: port };
        // It makes JavaScript of the component first.
        let ready = host.server.wait_for_line(START_LIMIT, |line| line.contains("Server listening"));
        ready.ok_or_else(|| format!("jco serve: {:?}", host.server.log()))?;
        Ok(host)
    }

    fn ask(&self, key: &str, secret: &str) -> Result<(u16, Value), Box<dyn Error>> {
        let request = agent(WAIT_LIMIT).post(self.server.url("/api/GetKeyVaultSecret"));
        let request = request.header("x-functions-key", key).header("content-type", "application/json");
        read(request.send(json!({"Secret": secret}).to_string())?)
    }

    fn get(&self, path: &str) -> Result<(u16, Value), Box<dyn Error>> {
        read(agent(WAIT_LIMIT).get(self.server.url(path)).call()?)
    }
}

impl Drop for Jco {
    fn drop(&mut self) {
        // The group has the process that serves, which lives on without the first one. All of it fails only where both have ended.
        let kill = format!("kill -s KILL -- -{}", self.server.pid());
        let _ = Command::new("sh").args(["-c", &kill]).status();
    }
}

fn read(mut answer: Response<Body>) -> Result<(u16, Value), Box<dyn Error>> {
    Ok((answer.status().as_u16(), serde_json::from_str(&answer.body_mut().read_to_string()?)?))
}

/// The program. A machine without Node.js fails here, and does not pass.
fn jco() -> Result<PathBuf, Box<dyn Error>> {
    let packages = NodePackages {
        name: "jco",
        purpose: "the component under jco",
        list: &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jco"),
        files: &[],
        target: &Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools"),
    };
    let installed = packages.install()?.ok_or("jco needs Node.js and npm")?;
    Ok(installed.join("node_modules/@bytecodealliance/jco/dist/jco.js"))
}

const SECRET: &str = "Integration-Team-Blog";
const VALUE: &str = "8f2a-value-of-the-secret \"ü\"";
const KEY: &str = "d41d8cd98f-the-caller-key";

const START_LIMIT: Duration = Duration::from_secs(120);
