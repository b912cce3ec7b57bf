//! A composed application under `wasmtime serve`, and the emulator that its gateway takes for Azure.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use dev_host::{Launch, Server, component};
use keyvault_emulator::{Emulator, Served, Source};
use testkit::leaks::{Private, Search};
use tokio::runtime::Runtime;
use ureq::Agent;

/// What the vault has under [`SECRET`].
pub(crate) const VALUE: &str = "correct horse battery staple";
pub(crate) const SECRET: &str = "db-password";

/// Neither its log nor a failed answer may show a value, a token, or what the gateway authenticates with.
pub(crate) struct Rig {
    pub(crate) emulator: Emulator,
    pub(crate) version: String,
    server: Server,
    served: Served,
    agent: Agent,
    _runtime: Runtime,
}

impl Rig {
    /// The composed application `name`, with this configuration, in which `{vault}` stands for the vault's address, and with
    /// more settings of the gateway than those that lead to the emulator.
    pub(crate) fn start(name: &str, configuration: &[(&str, &str)], settings: &[(&str, &str)]) -> Self {
        let lives_on =
            ["--max-instance-reuse-count", "100000", "--max-instance-concurrent-reuse-count", "64"];
        let lives_on = [&lives_on[..], &["--idle-instance-timeout", "60s"]].concat();
        Self::start_with(name, configuration, settings, &lives_on)
    }

    /// The same with an instance for each request.
    pub(crate) fn start_without_memory(
        name: &str,
        configuration: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Self {
        Self::start_with(name, configuration, settings, &["--max-instance-reuse-count", "1"])
    }

    fn start_with(
        name: &str,
        configuration: &[(&str, &str)],
        settings: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let (runtime, emulator) = (Runtime::new().unwrap(), Emulator::new());
        let version = emulator.set_secret(SECRET, VALUE).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let vault = served.http_base();
        let variables = configuration.iter().flat_map(|(key, value)| {
            let value = value.replace("{vault}", vault.trim_end_matches('/')).replace("{version}", &version);
            ["-S".to_owned(), format!("config-var={key}={value}")]
        });
        let launch = Launch::new(HOST, compiled(name))
            .options(["--allow-precompiled"])
            .options(["-S", "config", "--no-logging-prefix"])
            .options(options.iter().copied())
            .options(variables)
            .environment(served.settings(Source::AppService2019))
            .environment(settings.iter().copied());
        let server = launch.start().unwrap_or_else(|problem| panic!("{problem}"));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build();
        Self { emulator, version, server, served, agent: agent.new_agent(), _runtime: runtime }
    }

    /// The status and the text of the answer to `GET /PATH`.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut answer = self.agent.get(self.server.url(&format!("/{path}"))).call().unwrap();
        let (status, text) = (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap());
        if status != 200 {
            self.search().expect_nothing(&text, &[], "an answer that is an error");
        }
        (status, text)
    }

    /// Asks for a path, without waiting for the answer.
    pub(crate) fn begin(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "HTTP/1.1\r\nHost: application\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("GET /{path} {head}").as_bytes()).unwrap();
        stream
    }

    /// How many calls the emulator has seen: for tokens, and to the vault.
    pub(crate) fn calls(&self) -> (usize, usize) {
        (self.emulator.token_calls().len(), self.emulator.vault_calls().len())
    }

    /// Ends the server: all the lines that the gateway has written.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.server.end().into_iter().filter(|it| it.contains(r#""caller":"composed""#)).collect()
    }

    fn search(&self) -> Search {
        let mut search = Search::new();
        search.add(Private::Value, VALUE);
        self.emulator.tokens().iter().for_each(|it| search.add(Private::Token, it));
        let settings = self.served.settings(Source::AppService2019).into_iter();
        for (_, secret) in settings.filter(|it| it.0 == "IDENTITY_HEADER") {
            search.add(Private::IdentitySecret, &secret);
        }
        search
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let printed = self.server.end().join("\n");
        if !std::thread::panicking() {
            self.search().expect_nothing(&printed, &[], "what the host printed");
        }
    }
}

/// A component as machine code, compiled once for all tests: each of them starts a host of its own.
fn compiled(name: &str) -> PathBuf {
    static COMPILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("cwasm");
    // Held until it is there, for those who wait for it.
    let mut compiled = COMPILED.lock().unwrap();
    if compiled.insert(name.to_owned()) {
        let mut compile = Command::new(HOST);
        compile.arg("compile").arg(component(name).unwrap()).arg("-o").arg(&file);
        assert!(compile.status().unwrap().success(), "{name} cannot be compiled");
    }
    file
}

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

/// Longer than any answer takes, and short enough that a hang is seen as one.
const PATIENCE: Duration = Duration::from_secs(30);
