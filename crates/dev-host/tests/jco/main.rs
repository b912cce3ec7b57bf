//! The component of WASI 0.2 under `jco serve` on Node.js: one instance per process, one request at a time.

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
fn jco_serves_cached_secrets_and_survives_faults() -> Result<(), Box<dyn Error>> {
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
        assert_eq!(host.post(KEY, SECRET)?, right);
    }
    assert_eq!(
        (emulator.token_calls().len(), emulator.vault_calls().len()),
        (1, 1),
        "further reads are cache hits"
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
        let (status, body) = host.post(key, secret)?;
        assert_eq!((status, body["error"]["code"].as_str().unwrap_or("")), expected, "{secret}");
    }
    assert_eq!(host.post(KEY, SECRET)?, right, "cached values remain");
    assert!(host.server.exit_status()?.is_none(), "the process exited");
    let output = host.server.log().join("\n");
    assert!(output.contains(r#""cache":"hit""#), "{output}");
    assert!(!output.contains(KEY) && !output.contains("8f2a-value"), "{output}");

    let served = host.server.address();
    drop(host);
    wait_for("the exit of jco", || TcpStream::connect(served).err());
    Ok(())
}

/// A running `jco serve`. Dropping it ends its process and its child process.
struct Jco {
    server: Server,
    _port: TcpSocket,
}

impl Jco {
    fn start(jco: &Path, settings: &[(&str, String)]) -> Result<Self, Box<dyn Error>> {
        // jco does not accept port 0. The system gives a bound port to no other process, except one that
        // binds this very port with `SO_REUSEADDR`, as Node.js does (socket(7)).
        let port = TcpSocket::new_v4()?;
        port.set_reuseaddr(true)?;
        port.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = port.local_addr()?;
        let mut command = Command::new("node");
        command.arg(jco).arg("serve").arg(dev_host::component("proxy")?);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        // The component sees the whole environment of the process.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .envs(settings.iter().map(|(name, value)| (*name, value)))
            .process_group(0)
            .stdin(Stdio::null());
        let host = Self { server: Server::spawn(command, address)?, _port: port };
        // jco first translates the component to JavaScript.
        let ready = host.server.wait_for_line(START_LIMIT, |line| line.contains("Server listening"));
        ready.ok_or_else(|| format!("jco serve: {:?}", host.server.log()))?;
        Ok(host)
    }

    fn post(&self, key: &str, secret: &str) -> Result<(u16, Value), Box<dyn Error>> {
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
        // The process group contains the child that serves. The command fails only if both have exited.
        let kill = format!("kill -s KILL -- -{}", self.server.pid());
        let _ = Command::new("sh").args(["-c", &kill]).status();
    }
}

fn read(mut response: Response<Body>) -> Result<(u16, Value), Box<dyn Error>> {
    Ok((response.status().as_u16(), serde_json::from_str(&response.body_mut().read_to_string()?)?))
}

/// Returns the jco program. A machine without Node.js fails the test.
fn jco() -> Result<PathBuf, Box<dyn Error>> {
    let packages = NodePackages {
        name: "jco",
        purpose: "the component under jco",
        list: &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jco"),
        files: &[],
        target: &Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools"),
    };
    let installed = packages.install()?;
    Ok(installed.join("node_modules/@bytecodealliance/jco/dist/jco.js"))
}

const SECRET: &str = "Integration-Team-Blog";
const VALUE: &str = "8f2a-value-of-the-secret \"ü\"";
const KEY: &str = "d41d8cd98f-the-caller-key";

const START_LIMIT: Duration = Duration::from_secs(120);
