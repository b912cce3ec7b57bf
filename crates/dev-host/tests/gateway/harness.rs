//! A component under `wasmtime serve` or the gateway's own host, with the emulator as its Azure.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use dev_host::{Host, Launch, Server};
use keyvault_emulator::{Emulator, Served, Source, facts};
use serde_json::Value;
use testkit::leaks::{Private, SHORTEST, Search};
use tokio::runtime::Runtime;

/// The components under `wasmtime serve`, and `service-federated` on the gateway's own host.
pub(crate) const ALL: [&str; 3] = ["proxy", "service", OWN_HOST];

pub(crate) const OWN_HOST: &str = "own host";

/// The test request of the replaced function, and its secret in the emulated vault.
pub(crate) const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;
pub(crate) const SECRET: &str = "Integration-Team-Blog";
pub(crate) const VALUE: &str = "https://example.com/blog?a=1&b=\"2\"";

/// The API key of the caller.
pub(crate) const KEY: &str = "the-caller-key";

/// A running component. Every response and all output of the host are searched for private text.
pub(crate) struct Harness {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    /// The version of [`SECRET`].
    pub(crate) version: String,
    private: Search,
    /// The listeners of the emulator.
    pub(crate) served: Served,
    component: String,
    _runtime: Runtime,
}

impl Harness {
    /// Starts `component` with this token source, additional settings and reused instances. A later setting
    /// of the same name wins, and an empty one counts as missing.
    pub(crate) fn start(component: &str, source: Source, settings: &[(&str, &str)]) -> Self {
        let options: &[_] = if component == OWN_HOST { &[] } else { &REUSED_INSTANCES };
        Self::start_with(component, source, settings, options)
    }

    /// Starts `component` with options of its host, in which `{vault}`, `{version}`, `{proxy}` and `{ca}`
    /// stand for the vault's address, the version of [`SECRET`], the emulator's proxy and its certification
    /// authority.
    pub(crate) fn start_with(
        component: &str,
        source: Source,
        settings: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let (runtime, emulator) = (Runtime::new().unwrap(), Emulator::new());
        let version = emulator.set_secret(SECRET, VALUE).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let base = served.http_base();
        let vault = base.trim_end_matches('/');
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&ca, &served.ca_pem).unwrap();
        let fill = |text: &str| {
            let text = text.replace("{vault}", vault).replace("{version}", &version);
            let text = text.replace("{https}", served.https_base().trim_end_matches('/'));
            text.replace("{proxy}", &served.proxy_base()).replace("{ca}", ca.path().to_str().unwrap())
        };
        let launch = if component == OWN_HOST {
            Launch::new(HOST, dev_host::component("service-federated").unwrap()).host(Host::Gateway)
        } else {
            Launch::new(HOST, compiled(component)).options(["--allow-precompiled"])
        };
        let launch = launch
            .options(options.iter().map(|option| fill(option)))
            .environment([("GATEWAY_KEY", KEY)])
            .environment(served.settings(source))
            .environment(settings.iter().map(|(name, text)| (*name, fill(text))));
        let server = launch.start().unwrap_or_else(|error| panic!("{error}"));
        let private = private(&emulator);
        let component = component.to_owned();
        Self { server, emulator, version, private, served, component, _runtime: runtime }
    }

    /// Starts `component` with Azure's own names, which its host resolves with the emulator as HTTPS proxy.
    pub(crate) fn start_behind_proxy(component: &str) -> Self {
        let settings = [
            ("KeyVaultUri", "https://my-vault.vault.azure.net"),
            ("AZURE_AUTHORITY_HOST", ""),
            ("HTTPS_PROXY", "{proxy}"),
        ];
        Self::start_with(component, Source::ClientSecret, &settings, &["--ca-file", "{ca}"])
    }

    /// Sends a signal to the host.
    pub(crate) fn kill(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.server.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Sends the function's test request with the key.
    pub(crate) fn post(&self) -> Response {
        self.send("POST /api/GetKeyVaultSecret", &[&key_field(), JSON], REQUEST.as_bytes())
    }

    /// Sends a request of method and path, header fields and body, and adds `Host`, `Connection` and
    /// `Content-Length`.
    pub(crate) fn send(&self, request: &str, fields: &[&str], body: &[u8]) -> Response {
        self.send_raw(&request_bytes(request, fields, body))
    }

    /// Sends exactly these bytes.
    pub(crate) fn send_raw(&self, bytes: &[u8]) -> Response {
        self.read(self.begin(bytes))
    }

    /// Sends exactly these bytes and does not wait for the response.
    pub(crate) fn begin(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        // The server may close the connection before it has read all bytes.
        let _ = stream.write_all(bytes);
        stream
    }

    /// Reads a response until the connection closes.
    pub(crate) fn read(&self, stream: TcpStream) -> Response {
        let mut reader = BufReader::new(stream);
        let mut response = Response::head(&mut reader);
        reader.read_to_string(&mut response.body).unwrap();
        self.search_response(response)
    }

    /// Sends the function's test request with the key on a keep-alive connection.
    pub(crate) fn post_on(&self, connection: &mut BufReader<TcpStream>) -> Response {
        let fields = [&key_field(), JSON, "Connection: keep-alive"];
        connection.get_mut().write_all(&request_bytes("POST /", &fields, REQUEST.as_bytes())).unwrap();
        let mut response = Response::head(connection);
        let mut body = vec![0; response.field("content-length").parse().unwrap()];
        connection.read_exact(&mut body).unwrap();
        response.body = String::from_utf8(body).unwrap();
        self.search_response(response)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT)).unwrap();
        stream
    }

    /// Returns the number of instances in the log: `wasmtime serve` starts each line with the number of the
    /// instance. It writes prefix and line separately, so that another instance's prefix may come between
    /// them.
    pub(crate) fn instances(&self) -> usize {
        let log = self.server.log();
        if self.component == OWN_HOST {
            return 1 + log.iter().filter(|line| line.contains("replaced the instance")).count();
        }
        let prefixes = log.iter().flat_map(|line| line.split("stderr [").skip(1));
        prefixes.filter_map(|prefix| Some(prefix.split_once("] :: ")?.0)).collect::<BTreeSet<_>>().len()
    }

    /// Returns the numbers of token calls and vault calls.
    pub(crate) fn calls(&self) -> (usize, usize) {
        (self.emulator.token_calls().len(), self.emulator.vault_calls().len())
    }

    /// Searches a response for private text.
    fn search_response(&self, response: Response) -> Response {
        let fields = response.fields.iter().map(|(name, value)| format!("{name}: {value}\n"));
        self.expect_nothing_private(response.status, &fields.collect::<String>(), &response.body);
        response
    }

    /// Fails if a response contains private text. The body of a 200 may contain a value.
    pub(crate) fn expect_nothing_private(&self, status: u16, fields: &str, body: &str) {
        let search = self.search();
        search.expect_nothing(fields, &[], "the fields of an answer");
        search.expect_nothing(body, if status == 200 { &[Private::Value] } else { &[] }, "an answer");
    }

    /// Returns a search for all private text, including the tokens so far.
    fn search(&self) -> Search {
        let mut search = self.private.clone();
        self.emulator.tokens().iter().for_each(|token| search.add(Private::Token, token));
        let assertions = self.emulator.assertions();
        assertions.iter().for_each(|assertion| search.add(Private::IdentitySecret, assertion));
        search
    }
}

impl Drop for Harness {
    /// Searches all output of the host.
    fn drop(&mut self) {
        let printed = self.server.stop().join("\n");
        if !std::thread::panicking() {
            self.search().expect_nothing(printed, &[], "what the host printed");
        }
    }
}

/// The settings that are credentials for a token source.
const IDENTITY_SECRETS: [&str; 4] =
    ["IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"];

/// Returns a search for the text that is private from the start.
fn private(emulator: &Emulator) -> Search {
    let mut search = Search::new();
    search.add(Private::Value, VALUE);
    search.add(Private::CallerKey, KEY);
    facts::ALL.iter().for_each(|fact| search.add(Private::Azure, fact));
    let everywhere = Source::ALL.iter().flat_map(|source| emulator.settings(source.1, ""));
    for (name, value) in everywhere.filter(|setting| setting.1.len() >= SHORTEST) {
        if IDENTITY_SECRETS.contains(&name) {
            search.add(Private::IdentitySecret, value);
        }
    }
    search
}

/// Returns a request with `Host` and `Connection: close`, unless `fields` has others.
pub(crate) fn request_bytes(request: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let default = |name: &str, line: &'static str| {
        if fields.iter().any(|field| field.starts_with(name)) { "" } else { line }
    };
    let (host, close) =
        (default("Host:", "Host: gateway\r\n"), default("Connection:", "Connection: close\r\n"));
    let mut head = format!("{request} HTTP/1.1\r\n{host}{close}");
    fields.iter().for_each(|field| head += &format!("{field}\r\n"));
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A response as received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
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

    /// Returns a header field, or an empty string.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|field| field.0 == name).map_or("", |field| field.1.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Returns the status and the error code, and checks the shape of errors.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(self.field("content-type"), "application/json; charset=utf-8");
        assert_eq!(self.field("cache-control"), "no-store");
        let members = [&json, &json["error"]].map(|json| json.as_object().map(serde_json::Map::len));
        assert_eq!(members, [Some(1), Some(2)], "{self:?}");
        assert!(json["error"]["message"].is_string(), "{self:?}");
        (self.status, json["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    /// Returns the value of a secret.
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

/// Compiles a component once for all tests, because each test starts a host of its own.
fn compiled(component: &str) -> PathBuf {
    static COMPILED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // Other tests wait here during the compilation.
    let mut compiled = COMPILED.lock().unwrap();
    let file = || dev_host::component(component).unwrap();
    let compile = || dev_host::compile(HOST, &[], &file(), env!("CARGO_TARGET_TMPDIR")).unwrap();
    compiled.entry(component.to_owned()).or_insert_with(compile).clone()
}

/// The options that reuse an instance for further requests.
pub(crate) const REUSED_INSTANCES: [&str; 4] =
    ["--max-instance-reuse-count", "100000", "--idle-instance-timeout", "60s"];

/// The timeout of a response: longer than any correct one, and short enough to report a hang.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const HOST: &str = env!("CARGO_BIN_EXE_dev-host");
