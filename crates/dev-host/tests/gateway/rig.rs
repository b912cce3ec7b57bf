//! A component under `wasmtime serve` and the emulator that it takes for Azure.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use dev_host::{Launch, Server};
use keyvault_emulator::{Emulator, Served, Source, facts};
use serde_json::Value;
use testkit::leaks::{Private, SHORTEST, Search};
use tokio::runtime::Runtime;

pub(crate) const BOTH: [&str; 2] = ["proxy", "service"];

/// What the replaced function's own test sends, and what the emulated vault has for it.
pub(crate) const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;
pub(crate) const SECRET: &str = "Integration-Team-Blog";
pub(crate) const VALUE: &str = "https://example.com/blog?a=1&b=\"2\"";

/// The key of the one caller.
pub(crate) const KEY: &str = "the-caller-key";

/// Nothing that is private may come out of it, whatever a test is about: each answer and all that the host prints are searched.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    private: Search,
    _served: Served,
    _runtime: Runtime,
}

impl Rig {
    /// `component` with the settings that lead to the emulator by `source`, and more settings; a later one of the same name
    /// wins, and an empty one is as good as none. Its instances live on: under 0.2 one serves a single request, unless it is
    /// told to.
    pub(crate) fn start(component: &str, source: Source, settings: &[(&str, &str)]) -> Self {
        let lives_on = ["--max-instance-reuse-count", "100000", "--idle-instance-timeout", "60s"];
        Self::start_with(component, source, settings, &lives_on)
    }

    /// The same with options of `wasmtime serve`.
    pub(crate) fn start_with(
        component: &str,
        source: Source,
        settings: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let (runtime, emulator) = (Runtime::new().unwrap(), Emulator::new());
        emulator.set_secret(SECRET, VALUE).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let launch = Launch::new(HOST, compiled(component))
            .options(["--allow-precompiled"])
            .options(options.iter().copied())
            .environment([("GATEWAY_KEY", KEY)])
            .environment(served.settings(source))
            .environment(settings.iter().copied());
        let server = launch.start().unwrap_or_else(|problem| panic!("{problem}"));
        let private = private(&emulator);
        Self { server, emulator, private, _served: served, _runtime: runtime }
    }

    /// The function's test request, with the key.
    pub(crate) fn ask(&self) -> Answer {
        self.read(self.begin(REQUEST))
    }

    /// A JSON body, with the key, whose answer is to be [`read`](Self::read).
    pub(crate) fn begin(&self, body: &str) -> TcpStream {
        self.begin_raw(&written("POST /api/GetKeyVaultSecret", &[&key_field(), JSON], body.as_bytes()))
    }

    /// A request: its method and path, its header fields (`Host` and the length of the body are added), its body.
    pub(crate) fn send(&self, request: &str, fields: &[&str], body: &[u8]) -> Answer {
        self.send_raw(&written(request, fields, body))
    }

    /// These very bytes.
    pub(crate) fn send_raw(&self, bytes: &[u8]) -> Answer {
        self.read(self.begin_raw(bytes))
    }

    fn begin_raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        // A server that has seen enough may close before it has read all.
        let _ = stream.write_all(bytes);
        stream
    }

    /// The answer that comes last on this connection.
    pub(crate) fn read(&self, stream: TcpStream) -> Answer {
        let mut reader = BufReader::new(stream);
        let mut answer = Answer::head(&mut reader);
        reader.read_to_string(&mut answer.body).unwrap();
        self.searched(answer)
    }

    /// The function's test request, with the key, on a connection that stays open.
    pub(crate) fn ask_on(&self, connection: &mut BufReader<TcpStream>) -> Answer {
        let (key, length) = (key_field(), REQUEST.len());
        let request = format!(
            "POST / HTTP/1.1\r\nHost: gateway\r\n{key}\r\n{JSON}\r\nContent-Length: {length}\r\n\r\n{REQUEST}"
        );
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        let mut answer = Answer::head(connection);
        let mut body = vec![0; answer.field("content-length").parse().unwrap()];
        connection.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        self.searched(answer)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// In how many instances requests have been answered: the host writes the number of each before its lines. It writes that
    /// prefix and what follows it one after the other, so that of another instance may come in between.
    pub(crate) fn instances(&self) -> usize {
        let log = self.server.log();
        let prefixes = log.iter().flat_map(|line| line.split("stderr [").skip(1));
        prefixes.filter_map(|prefix| Some(prefix.split_once("] :: ")?.0)).collect::<BTreeSet<_>>().len()
    }

    /// How many calls the emulator has seen: for tokens, and to the vault.
    pub(crate) fn calls(&self) -> (usize, usize) {
        (self.emulator.token_calls().len(), self.emulator.vault_calls().len())
    }

    /// An answer, in which nothing is that may not be there.
    fn searched(&self, answer: Answer) -> Answer {
        let search = self.search();
        for (name, value) in &answer.fields {
            search.expect_nothing(format!("{name}: {value}"), &[], "a field of an answer");
        }
        let allowed: &[Private] = if answer.status == 200 { &[Private::Value] } else { &[] };
        search.expect_nothing(&answer.body, allowed, "an answer");
        answer
    }

    /// What is private, with the tokens so far.
    fn search(&self) -> Search {
        let mut search = self.private.clone();
        self.emulator.tokens().iter().for_each(|token| search.add(Private::Token, token));
        search
    }
}

impl Drop for Rig {
    /// Searches all that the host has printed.
    fn drop(&mut self) {
        let printed = self.server.end().join("\n");
        if !std::thread::panicking() {
            self.search().expect_nothing(printed, &[], "what the host printed");
        }
    }
}

/// What is private before the first request.
fn private(emulator: &Emulator) -> Search {
    let mut search = Search::new();
    search.add(Private::Value, VALUE);
    search.add(Private::CallerKey, KEY);
    facts::ALL.iter().for_each(|fact| search.add(Private::Azure, fact));
    let everywhere = Source::ALL.iter().flat_map(|source| emulator.settings(source.1, ""));
    for (name, value) in everywhere.filter(|setting| setting.1.len() >= SHORTEST) {
        if ["IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET"].contains(&name) {
            search.add(Private::IdentitySecret, value);
        }
    }
    search
}

fn written(request: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let named = fields.iter().any(|field| field.starts_with("Host:"));
    let host = if named { "" } else { "Host: gateway\r\n" };
    let mut head = format!("{request} HTTP/1.1\r\n{host}Connection: close\r\n");
    fields.iter().for_each(|field| head += &format!("{field}\r\n"));
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn head(reader: &mut BufReader<TcpStream>) -> Self {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{line:?}"));
        let mut fields = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) => fields.push((name.to_ascii_lowercase(), value.to_owned())),
                None => return Self { status, fields, body: String::new() },
            }
        }
    }

    /// A header field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|field| field.0 == name).map_or("", |field| field.1.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The status and the code of an error, which has the shape of all errors.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(self.field("content-type"), "application/json; charset=utf-8");
        assert_eq!(self.field("cache-control"), "no-store");
        let members = [&json, &json["error"]].map(|it| it.as_object().map(serde_json::Map::len));
        assert_eq!(members, [Some(1), Some(2)], "{self:?}");
        assert!(json["error"]["message"].is_string(), "{self:?}");
        (self.status, json["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The value of a secret.
    #[track_caller]
    pub(crate) fn value(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["Value"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

pub(crate) fn key_field() -> String {
    format!("x-functions-key: {KEY}")
}

pub(crate) const JSON: &str = "Content-Type: application/json";

/// A component as machine code, compiled once for all tests: each of them starts a host of its own.
fn compiled(component: &str) -> PathBuf {
    static COMPILED: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
    let index = BOTH.iter().position(|name| *name == component).unwrap();
    let file = || dev_host::component(component).unwrap();
    let compile = || dev_host::compile(HOST, &[], &file(), env!("CARGO_TARGET_TMPDIR")).unwrap();
    COMPILED[index].get_or_init(compile).clone()
}

/// Longer than any answer takes, and short enough that a hang is seen as one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");
