//! A component under `wasmtime serve` and the emulator that it takes for Azure.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dev_host::{Launch, Server};
use keyvault_emulator::{Credential, Emulator, Kind, Served, Source, facts};
use serde_json::Value;
use testkit::leaks::{LEAST, Private, SHORTEST, Search};
use tokio::runtime::Runtime;

/// Every test of the artifact runs with both.
pub(crate) const BOTH: [&str; 2] = ["proxy", "service"];

/// What the replaced function's own test sends, and what the emulated vault has for it.
pub(crate) const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;
pub(crate) const SECRET: &str = "Integration-Team-Blog";
pub(crate) const VALUE: &str = "https://example.com/blog?a=1&b=\"2\"";

/// The key of the one caller.
pub(crate) const KEY: &str = "the-caller-key";

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

/// Nothing that is private may come out of it, whatever a test is about: each answer, all that the host prints, and what
/// the emulator's journal has of the calls are searched.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    watch: Arc<Watch>,
    served: Served,
    _runtime: Runtime,
}

impl Rig {
    /// `component` with the settings that lead to the emulator by `source`, and more settings; a later one of the same
    /// name wins, and an empty one is as good as none. Its instances live on: under 0.2 one serves a single request, unless
    /// it is told to.
    pub(crate) fn start(component: &str, source: Source, settings: &[(&str, &str)]) -> Self {
        let lives_on = ["--max-instance-reuse-count", "100000", "--idle-instance-timeout", "60s"];
        Self::start_with(component, source, settings, &lives_on)
    }

    /// The same with an instance for each request, which knows nothing of those before it.
    pub(crate) fn start_without_memory(component: &str, source: Source, settings: &[(&str, &str)]) -> Self {
        Self::start_with(component, source, settings, &["--max-instance-reuse-count", "1"])
    }

    /// The same with options of `wasmtime serve`.
    pub(crate) fn start_with(
        component: &str,
        source: Source,
        settings: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let emulator = Emulator::new();
        emulator.set_secret(SECRET, VALUE).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let launch = Launch::new(HOST, compiled(component))
            .options(["--allow-precompiled"])
            .options(options.iter().copied())
            .environment([("GATEWAY_KEY", KEY)])
            .environment(served.settings(source))
            .environment(settings.iter().copied());
        let server = launch.start().unwrap_or_else(|problem| panic!("{problem}"));
        let watch = Arc::new(Watch::new(&emulator, settings));
        Self { server, emulator, watch, served, _runtime: runtime }
    }

    /// The address at which the emulator has everything.
    pub(crate) fn azure(&self) -> String {
        let settings = self.served.settings(Source::Imds);
        let base = settings.into_iter().find(|it| it.0 == "AZURE_POD_IDENTITY_AUTHORITY_HOST");
        base.unwrap().1
    }

    /// The function's test request, with the key.
    pub(crate) fn ask(&self) -> Answer {
        self.post(REQUEST)
    }

    /// A JSON body, with the key.
    pub(crate) fn post(&self, body: &str) -> Answer {
        self.send("POST /api/GetKeyVaultSecret", &[&key_field(), JSON], body.as_bytes())
    }

    /// The same without waiting for the answer, which is to be [`read`](Self::read).
    pub(crate) fn begin(&self, body: &str) -> TcpStream {
        let request = Self::written("POST /api/GetKeyVaultSecret", &[&key_field(), JSON], body.as_bytes());
        self.begin_raw(&request)
    }

    /// A request: its method and path, its header fields (`Host` and the length of the body are added), its body.
    pub(crate) fn send(&self, request: &str, fields: &[&str], body: &[u8]) -> Answer {
        self.send_raw(&Self::written(request, fields, body))
    }

    fn written(request: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
        let named = fields.iter().any(|field| field.starts_with("Host:"));
        let host = if named { "" } else { "Host: gateway\r\n" };
        let mut head = format!("{request} HTTP/1.1\r\n{host}Connection: close\r\n");
        for field in fields {
            head += &format!("{field}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        [head.as_bytes(), b"\r\n", body].concat()
    }

    /// These very bytes.
    pub(crate) fn send_raw(&self, bytes: &[u8]) -> Answer {
        self.read(self.begin_raw(bytes))
    }

    fn begin_raw(&self, bytes: &[u8]) -> TcpStream {
        self.watch.request(bytes);
        let mut stream = self.connect();
        // A server that has seen enough may close before it has read all.
        let _ = stream.write_all(bytes);
        stream
    }

    /// The answer that comes last on this connection.
    pub(crate) fn read(&self, stream: TcpStream) -> Answer {
        Answer::read(stream).searched(&self.watch)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Checks how many calls the emulator has seen: for tokens, and to the vault.
    ///
    /// Under 0.2 that can be told for the first request only. An instance is free again when its guest has returned, which
    /// is a moment after the client has the whole answer, so the next request may meet a new one.
    #[track_caller]
    pub(crate) fn assert_calls_of_one_instance(&self, component: &str, calls: (usize, usize)) {
        if component == "service" {
            assert_eq!(self.calls(), calls);
        }
    }

    /// In how many instances requests have been answered: the host writes the number of each before its lines.
    pub(crate) fn instances(&self) -> usize {
        instances(&self.server.log())
    }

    /// How many calls the emulator has seen: for tokens, and to the vault.
    pub(crate) fn calls(&self) -> (usize, usize) {
        (self.emulator.token_calls().len(), self.emulator.vault_calls().len())
    }
}

/// How many instances these lines are of. The host writes a prefix and what follows it one after the other, so that of another
/// instance may come in between.
fn instances(log: &[String]) -> usize {
    let numbers = |line: &String| -> Vec<String> {
        let prefixes = line.split("stderr [").skip(1);
        prefixes.filter_map(|it| Some(it.split_once("] :: ")?.0.to_owned())).collect()
    };
    log.iter().flat_map(numbers).collect::<BTreeSet<_>>().len()
}

#[test]
fn an_instance_counts_wherever_its_prefix_got_to() {
    let log = [
        "Serving HTTP on http://127.0.0.1:1/",
        r#"stderr [3] :: stderr [12] :: {"status":200}"#,
        r#"{"status":200}"#,
        r#"stderr [12] :: {"status":200}"#,
        r#"stderr [4] :: {"status":200}"#,
    ];
    assert_eq!(instances(&log.map(str::to_owned)), 3);
}

impl Drop for Rig {
    fn drop(&mut self) {
        let printed = self.server.end().join("\n");
        if !std::thread::panicking() {
            self.watch.output(&printed);
            self.watch.calls();
        }
    }
}

/// What nobody but Azure, the host and a caller with the key may see.
struct Watch {
    emulator: Emulator,
    search: RwLock<Search>,
    /// The vault's tokens that have been learnt.
    tokens: RwLock<BTreeSet<String>>,
}

impl Watch {
    fn new(emulator: &Emulator, settings: &[(&str, &str)]) -> Self {
        let search = RwLock::new(private(emulator, settings));
        Self { emulator: emulator.clone(), search, tokens: RwLock::default() }
    }

    /// A request comes: what it shows of a credential is nobody else's business.
    fn request(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let head = text.split_once("\r\n\r\n").map_or(&*text, |it| it.0);
        let mut lines = head.split("\r\n");
        let target = lines.next().and_then(|it| it.split(' ').nth(1)).unwrap_or_default();
        let query = target.split_once('?').map_or("", |it| it.1);
        let codes = query.split('&').filter_map(|it| it.strip_prefix("code="));
        let fields = lines.filter_map(|it| it.split_once(':')).filter_map(|(name, value)| {
            let what = match name.to_ascii_lowercase().as_str() {
                "x-functions-key" => Private::CallerKey,
                "authorization" => Private::CallerToken,
                _ => return None,
            };
            Some((what, value.trim()))
        });
        let shown = codes.map(|it| (Private::CallerKey, it)).chain(fields);
        // What is shorter is in a test that says what it is, or in an answer by chance.
        for (what, text) in shown.filter(|it| it.1.len() >= LEAST) {
            self.search.write().unwrap().add(what, text);
        }
    }

    /// Learns the tokens that have been given out since the last time.
    fn learn_tokens(&self) {
        let all = self.emulator.tokens();
        let is_new = |it: &String| !self.tokens.read().unwrap().contains(it);
        for token in all.into_iter().filter(is_new) {
            self.search.write().unwrap().add(Private::Token, &token);
            self.tokens.write().unwrap().insert(token);
        }
    }

    fn answer(&self, answer: &Answer) {
        self.learn_tokens();
        let search = self.search.read().unwrap();
        let allowed: &[Private] = if answer.status == 200 { &[Private::Value] } else { &[] };
        for (name, value) in &answer.fields {
            search.expect_nothing(format!("{name}: {value}"), &[], "a field of an answer");
        }
        search.expect_nothing(&answer.body, allowed, "an answer");
    }

    fn output(&self, printed: &str) {
        self.learn_tokens();
        let search = self.search.read().unwrap();
        search.expect_nothing(printed, &[], "what the host printed");
    }

    /// Searches what the journal has of each call, which is all but the values of its fields and its body.
    fn calls(&self) {
        let search = self.search.read().unwrap();
        for call in self.emulator.journal() {
            // The ids of the tenant and the application are for the directory and the token source.
            let allowed: &[Private] = match call.kind {
                Kind::Token(_) | Kind::SigningKeys | Kind::Discovery => &[Private::Azure],
                Kind::Vault | Kind::Control | Kind::Nothing => &[],
            };
            search.expect_nothing(format!("{call:?}"), allowed, "a call");
            let has = |name: &str| call.headers.iter().any(|it| it == name);
            assert!(!has("x-functions-key") && !has("cookie"), "{call:?}");
            assert!(call.kind == Kind::Vault || !has("authorization"), "{call:?}");
            let is_token = matches!(call.kind, Kind::Token(_));
            assert!(is_token || call.body_length == 0, "{call:?}");
            assert!(call.kind != Kind::SigningKeys || call.credential == Credential::Absent, "{call:?}");
        }
    }
}

/// What is private before anybody has asked for anything.
fn private(emulator: &Emulator, settings: &[(&str, &str)]) -> Search {
    let mut search = Search::new();
    search.add(Private::Value, VALUE);
    search.add(Private::CallerKey, KEY);
    facts::ALL.iter().for_each(|it| search.add(Private::Azure, it));
    let everywhere = Source::ALL.iter().flat_map(|it| emulator.settings(it.1, ""));
    let chosen = settings.iter().map(|it| (it.0, it.1.to_owned()));
    for (name, value) in everywhere.chain(chosen).filter(|it| it.1.len() >= SHORTEST) {
        match name {
            "IDENTITY_HEADER" | "MSI_SECRET" | "AZURE_CLIENT_SECRET" => {
                search.add(Private::IdentitySecret, value);
            }
            "GATEWAY_KEY" => search.add(Private::CallerKey, value),
            _ => {}
        }
    }
    search
}

/// A connection that stays open from one request to the next.
pub(crate) struct Connection(BufReader<TcpStream>, Arc<Watch>);

impl Connection {
    /// A connection to `rig`'s component.
    pub(crate) fn open(rig: &Rig) -> Self {
        Self(BufReader::new(rig.connect()), Arc::clone(&rig.watch))
    }

    /// The function's test request, with the key.
    pub(crate) fn ask(&mut self) -> Answer {
        let (key, length) = (key_field(), REQUEST.len());
        let request = format!(
            "POST / HTTP/1.1\r\nHost: gateway\r\n{key}\r\n{JSON}\r\nContent-Length: {length}\r\n\r\n{REQUEST}"
        );
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut answer = Answer::head(&mut self.0);
        let mut body = vec![0; answer.field("content-length").parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer.searched(&self.1)
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut answer = Self::head(&mut reader);
        reader.read_to_string(&mut answer.body).unwrap();
        answer
    }

    fn head(reader: &mut BufReader<TcpStream>) -> Self {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status =
            line.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) => fields.push((name.to_ascii_lowercase(), value.to_owned())),
                None => break,
            }
        }
        Self { status, fields, body: String::new() }
    }

    /// The same, in which nothing is that may not be there.
    fn searched(self, watch: &Watch) -> Self {
        watch.answer(&self);
        self
    }

    /// A header field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|it| it.0 == name).map_or("", |it| it.1.as_str())
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
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{self:?}");
        assert_eq!(json["error"].as_object().map(serde_json::Map::len), Some(2), "{self:?}");
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
    let index = BOTH.iter().position(|it| *it == component).unwrap();
    let compile = || {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(component).with_extension("cwasm");
        let done = Command::new(HOST)
            .arg("compile")
            .arg(dev_host::component(component).unwrap())
            .arg("-o")
            .arg(&file)
            .status()
            .unwrap();
        assert!(done.success(), "{component} cannot be compiled");
        file
    };
    COMPILED[index].get_or_init(compile).clone()
}

/// Waits until it is so, and not for ever.
#[track_caller]
pub(crate) fn wait_for(what: &str, fits: impl Fn() -> bool) {
    let start = Instant::now();
    while !fits() {
        assert!(start.elapsed() < PATIENCE, "there is never {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Longer than any answer takes, and short enough that a hang is seen as one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
