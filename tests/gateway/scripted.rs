//! A gateway on the fake host, with the settings of the replaced function and the API key `the-right-key`.
//!
//! Every reply, log line and call is searched for private text, which may only be sent to its destination.

use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Method;
use keyvault_gateway::azure::{Call, CallError};
use keyvault_gateway::error::{Service, TokenFileError};
use keyvault_gateway::gateway::{Answered, Gateway};
use keyvault_gateway::http::request::Head;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::read_error::ReadError;
use keyvault_gateway::secrets::{Found, Refresh};
use testkit::host::{FakeBody, FakeHost, World, poll_once};
use testkit::leaks::{Private, SHORTEST, Search};

pub use testkit::host::{BEGINNING, FakeStore, Outcome, Response, VERSION, answer, secret, token};

pub fn status(status: u16) -> Outcome {
    answer(status, "")
}

/// An empty answer with this status and `Retry-After`.
pub fn retry_after(status: u16, retry_after: &str) -> Outcome {
    let retry_after = Some(retry_after.to_owned());
    Outcome::Answer(Response { status, retry_after, ..Response::default() })
}

pub fn not_found() -> Outcome {
    answer(404, r#"{"error":{"code":"SecretNotFound","message":"m"}}"#)
}

pub fn lost() -> Outcome {
    Outcome::Failed(CallError::Lost)
}

pub fn body_of(reply: &Reply) -> String {
    String::from_utf8(reply.body().expose().clone()).unwrap()
}

pub fn field<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers().first(name).unwrap_or_default()
}

/// The value in a reply, or the code of its error.
pub fn value_or_code(reply: &Reply) -> String {
    let body: serde_json::Value = serde_json::from_slice(reply.body().expose()).unwrap();
    body["Value"].as_str().unwrap_or(reply.code()).to_owned()
}

/// The parameters of `Cache-Status`, without the name of the cache.
pub fn cache_status(reply: &Reply) -> &str {
    field(reply, "cache-status").trim_start_matches("keyvault-gateway; ")
}

pub fn outcome(reply: &Reply) -> (u16, &'static str) {
    (reply.status().as_u16(), reply.code())
}

/// The body of a request for a secret.
pub fn request_for(name: &str) -> String {
    format!(r#"{{"Secret":"{name}"}}"#)
}

pub const JSON: (&str, &str) = ("content-type", "application/json");

/// The header fields of a request with the right key.
pub const WITH_KEY: [(&str, &str); 2] = [JSON, ("x-functions-key", "the-right-key")];

/// The settings that [`Scripted::new`] starts from.
pub const DEFAULT_SETTINGS: [(&str, &str); 4] = [
    ("KeyVaultUri", "https://my-vault.vault.azure.net/"),
    ("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"),
    ("MSI_SECRET", "identity-secret"),
    ("GATEWAY_KEY", "the-right-key"),
];

/// Settings that select the Instance Metadata Service as the token source.
pub const IMDS: &[(&str, &str)] = &[("MSI_ENDPOINT", ""), ("MSI_SECRET", "")];

/// Settings of a pod with workload identity, as the webhook of AKS sets them.
pub const WORKLOAD_IDENTITY: &[(&str, &str)] = &[
    ("AZURE_CLIENT_ID", "the-client-id"),
    ("AZURE_TENANT_ID", "the-tenant"),
    ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
    ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/wi/token/azure-identity-token"),
];

/// A caller with the scope `ops-*`, and its API key.
pub const OPS: &str = r#"[{"name":"ops","secrets":["ops-*"],
    "key_sha256":["97a1525552707dffb403e9124bf88cf83ef37b5ba47a5d2ff6e933aeac1b4c5b"]}]"#;
pub const OPS_KEY: (&str, &str) = ("x-functions-key", "the-third-key");

pub type Fields<'a> = &'a [(&'static str, &'a str)];

pub struct Scripted {
    gateway: Gateway<FakeHost>,
    pub world: Rc<World>,
    refreshes: RefCell<Vec<Refresh>>,
    private: RefCell<Search>,
    searched: Cell<(usize, usize)>,
    /// All replies so far, and how many of them were immediate.
    transcript: RefCell<String>,
    immediate: Cell<usize>,
}

/// If this variable is set, requests are first sent in one synchronous call.
pub const IMMEDIATE: &str = "TEST_IMMEDIATE";

/// The folder for the transcripts of all tests, if this variable is set.
pub const TRANSCRIPTS: &str = "TEST_TRANSCRIPTS";

impl Drop for Scripted {
    /// Adds the transcript, with all log lines and calls, to the file of the test.
    fn drop(&mut self) {
        let Some(folder) = std::env::var_os(TRANSCRIPTS) else { return };
        let append = |name: &str, text: &str| {
            let file = Path::new(&folder).join(name.replace("::", "-"));
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        let all = format!("{}{:#?}{:#?}", self.transcript.borrow(), self.log(), self.calls());
        append(std::thread::current().name().unwrap(), &all);
        append(IMMEDIATE, &"x".repeat(self.immediate.get()));
    }
}

impl Scripted {
    /// Creates a gateway with these settings after [`DEFAULT_SETTINGS`].
    pub fn new(settings: &[(&str, &str)]) -> Self {
        Self::with_settings(&[&DEFAULT_SETTINGS[..], settings].concat())
    }

    /// Creates a gateway with only these settings. Its host has a key-value store if they name one.
    pub fn with_settings(settings: &[(&str, &str)]) -> Self {
        let owned = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let has_store = settings.iter().any(|(name, _)| *name == "GATEWAY_STORE");
        let store = has_store.then(FakeStore::default);
        let has_reader = settings.iter().any(|(name, _)| *name == "AZURE_FEDERATED_TOKEN_FILE");
        let world = World { settings: owned.collect(), store, has_reader, ..World::default() };
        let world = Rc::new(world);
        let gateway = Gateway::new(FakeHost(Rc::clone(&world)));
        let (refreshes, private, searched, transcript, immediate) = Default::default();
        let scripted = Self { gateway, world, refreshes, private, searched, transcript, immediate };
        for (name, value) in settings {
            let secret = ["IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET"].contains(name);
            let kind = secret.then_some(Private::IdentitySecret);
            let kind = kind.or((*name == "GATEWAY_KEY").then_some(Private::CallerKey));
            kind.into_iter().for_each(|kind| scripted.register(kind, value));
        }
        scripted
    }

    /// Creates a gateway whose host has a reader of token files, with the settings of workload identity and
    /// these. The reader returns the contents or problems in turn, and the last of them again and again.
    pub fn with_token_files(
        settings: &[(&str, &str)],
        files: &[Result<&'static str, TokenFileError>],
    ) -> Self {
        let scripted =
            Self::with_settings(&[&DEFAULT_SETTINGS[..], IMDS, WORKLOAD_IDENTITY, settings].concat());
        files.iter().flatten().for_each(|text| scripted.register(Private::IdentitySecret, text));
        scripted.world.token_files.replace(files.iter().copied().collect());
        scripted
    }

    /// Adds the outcomes of the next calls. A call without an outcome fails the test.
    pub fn script(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        for outcome in outcomes {
            self.register_outcome(&outcome);
            self.world.script.borrow_mut().push_back(outcome);
        }
    }

    /// Lets seconds pass, then adds the outcomes of the next calls.
    pub fn script_after(&self, seconds: u64, outcomes: impl IntoIterator<Item = Outcome>) {
        self.advance(Duration::from_secs(seconds));
        self.script(outcomes);
    }

    pub fn with_script(self, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        self.script(outcomes);
        self
    }

    pub fn advance(&self, time: Duration) {
        self.world.pass(time);
    }

    /// Sends a JSON body with the right key.
    pub fn post(&self, target: &str, body: &str) -> Reply {
        self.request("POST", target, &WITH_KEY, body)
    }

    /// Reads a secret with the right key and returns the status and code.
    pub fn read(&self, name: &str) -> (u16, &'static str) {
        outcome(&self.post("/", &request_for(name)))
    }

    /// Reads the secret `a` once for each row. A row has the seconds to wait, the outcomes of the calls, the
    /// expected value or error code, the expected `Cache-Status`, and the expected number of calls so far.
    #[track_caller]
    pub fn expect_reads<const N: usize>(&self, rows: [(f64, &[Outcome], &str, &str, usize); N]) {
        for (row, (seconds, outcomes, expected, status, calls)) in rows.into_iter().enumerate() {
            self.advance(Duration::from_secs_f64(seconds));
            self.script(outcomes.iter().cloned());
            let reply = self.post("/", &request_for("a"));
            let all = (value_or_code(&reply), cache_status(&reply), self.calls().len());
            assert_eq!(all, (expected.to_owned(), status, calls), "row {row}");
        }
    }

    pub fn get(&self, target: &str) -> Reply {
        self.request("GET", target, &[], "")
    }

    pub fn post_no_cache(&self, body: &str) -> Reply {
        self.request("POST", "/", &[WITH_KEY[0], WITH_KEY[1], ("cache-control", "no-cache")], body)
    }

    pub fn request(&self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> Reply {
        let answered = poll_once(self.answer(method, target, fields, body)).expect(PENDING);
        self.search_reply(&answered.reply, method == "POST");
        self.refreshes.replace(answered.refreshes);
        answered.reply
    }

    /// Starts a request without waiting for its reply. From now on, only [`Scripted::advance`] moves time.
    pub fn start<'a>(&'a self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> Pending<'a> {
        self.world.stepwise.set(true);
        let answer = Box::pin(self.answer(method, target, fields, body));
        let mut request = Pending { gateway: self, answer };
        assert!(request.reply().is_none(), "the request did not wait");
        request
    }

    /// Releases the outcome of the first held call.
    pub fn release(&self) {
        self.world.released.set(self.world.released.get() + 1);
    }

    /// Sends a request and hangs up during its first call. Returns false if the reply came without a call.
    pub fn hang_up(&self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> bool {
        let hung_up = poll_once(self.answer(method, target, fields, body)).is_none();
        self.search_rest();
        hung_up
    }

    fn answer<'a>(
        &'a self,
        method: &str,
        target: &str,
        fields: Fields<'_>,
        body: &str,
    ) -> impl Future<Output = Answered> + use<'a> {
        let is_immediate = std::env::var_os(IMMEDIATE).is_some() && self.world.body_time.get().is_zero();
        let now = is_immediate.then(|| self.answer_now(method, target, fields, body)).flatten();
        self.immediate.set(self.immediate.get() + usize::from(now.is_some()));
        let head = self.head(method, target, fields);
        let body = FakeBody(body.into(), Rc::clone(&self.world));
        async move {
            match now {
                Some(reply) => Answered { reply, refreshes: Vec::new() },
                None => self.gateway.answer(head, body).await,
            }
        }
    }

    /// Sends a whole request in one synchronous call. Without a reply the call has no side effects: no log
    /// line, no call, and no change of metrics and limiters, as far as their debug output shows it.
    pub fn answer_now(&self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> Option<Reply> {
        let state = || {
            let state = format!("{:?} {:?} {:?} {:?}", self.gateway, self.log(), self.calls(), self.now());
            // Every look-up drops a value that may not be served any more.
            let (start, rest) = state.split_once("Cache { size: ").unwrap();
            [start, rest.split_once("), ..").unwrap().1].concat()
        };
        let before = state();
        let reply = self.gateway.answer_now(&self.head(method, target, fields), None, body.as_bytes());
        if reply.is_none() {
            assert_eq!(state(), before, "{method} {target} {fields:?} {body}");
        }
        reply
    }

    fn head(&self, method: &str, target: &str, fields: Fields<'_>) -> Head {
        self.register_request(target, fields);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Head { method, target: target.to_owned(), headers: fields.iter().copied().collect() }
    }

    /// Reads a secret through the component API.
    pub fn component_read(&self, name: &str, version: Option<&str>) -> Result<String, ReadError> {
        self.lookup(name, version, false).map(|found| found.secret.secret.value.expose().clone())
    }

    /// Reads a secret through the component API, with its age and cache status.
    pub fn lookup(&self, name: &str, version: Option<&str>, refresh: bool) -> Result<Found, ReadError> {
        let mut read = poll_once(self.gateway.read(name, version, refresh)).expect(PENDING);
        self.search_rest();
        let refresh = read.as_mut().ok().and_then(|found| found.refresh.take());
        self.refreshes.replace(refresh.into_iter().collect());
        read
    }

    /// Reads several secrets through the component API.
    pub fn component_read_many(&self, names: &[&str]) -> Vec<Result<String, ReadError>> {
        let requests: Vec<_> = names.iter().map(|name| ((*name).to_owned(), None)).collect();
        let read = poll_once(self.gateway.read_many(&requests)).expect(PENDING);
        self.search_rest();
        let value = |found: Found| found.secret.secret.value.expose().clone();
        read.into_iter().map(|read| read.map(value)).collect()
    }

    /// Returns the cached value for the component API, without a call.
    pub fn get_cached(&self, name: &str, version: Option<&str>) -> Option<String> {
        self.gateway.get_cached(name, version).map(|kept| kept.secret.value.expose().clone())
    }

    pub fn vault(&self) -> Result<String, ReadError> {
        poll_once(self.gateway.vault()).expect(PENDING)
    }

    /// Does the refresh-ahead of the last reply, as a host with WASI 0.3 does. Returns whether there was one.
    pub fn refresh_ahead(&self) -> bool {
        let refreshes = self.refreshes.take();
        let any = !refreshes.is_empty();
        for refresh in refreshes {
            poll_once(self.gateway.refresh(refresh)).expect(PENDING);
        }
        self.search_rest();
        any
    }

    pub fn now(&self) -> Duration {
        self.world.now.get()
    }

    /// Method and address of each call.
    pub fn calls(&self) -> Vec<String> {
        self.world.sent.borrow().iter().map(|(call, _)| address(call)).collect()
    }

    /// The header fields of each call.
    pub fn headers(&self) -> Vec<Vec<String>> {
        let sent = self.world.sent.borrow();
        let fields = sent.iter().map(|(call, _)| call.headers().iter());
        fields
            .map(|fields| fields.map(|(name, value)| format!("{name}: {}", value.expose())).collect())
            .collect()
    }

    /// The timeout of each call.
    pub fn timeouts(&self) -> Vec<Duration> {
        self.world.sent.borrow().iter().map(|(_, limit)| *limit).collect()
    }

    pub fn log(&self) -> Vec<String> {
        self.world.log.borrow().clone()
    }

    fn register(&self, kind: Private, text: &str) {
        if text.len() >= SHORTEST {
            self.private.borrow_mut().add(kind, text);
        }
    }

    /// Registers the token or the value of a scripted answer as private.
    fn register_outcome(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Held(inner) | Outcome::After(_, inner) => self.register_outcome(inner),
            Outcome::Answer(Response { body, .. }) => {
                let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
                for (name, kind) in [("access_token", Private::Token), ("value", Private::Value)] {
                    self.register(kind, body[name].as_str().unwrap_or_default());
                }
            }
            Outcome::Failed(_) | Outcome::Late | Outcome::Never => {}
        }
    }

    /// Registers the API key and the access token of a request as private, valid or not.
    fn register_request(&self, target: &str, fields: Fields<'_>) {
        let query = target.split_once('?').map_or("", |parts| parts.1).split('&');
        query
            .filter_map(|pair| pair.strip_prefix("code="))
            .for_each(|key| self.register(Private::CallerKey, key));
        for (name, value) in fields {
            match *name {
                "x-functions-key" => self.register(Private::CallerKey, value),
                "authorization" => self.register(Private::CallerToken, value.trim_start_matches("Bearer ")),
                _ => {}
            }
        }
    }

    fn search_reply(&self, reply: &Reply, reads_secret: bool) {
        let private = self.private.borrow();
        let allowed: &[_] = if reads_secret && reply.status() == 200 { &[Private::Value] } else { &[] };
        for (name, value) in reply.headers().as_list() {
            private.expect_nothing([name.as_bytes(), b": ", value].concat(), &[], "a field of a reply");
        }
        private.expect_nothing(reply.body().expose(), allowed, "a reply");
        let headers = reply.headers().as_list();
        *self.transcript.borrow_mut() += &format!("{} {headers:?}\n{}\n", reply.status(), body_of(reply));
        self.search_rest();
    }

    /// Searches the log lines and calls since the last search.
    fn search_rest(&self) {
        let (private, log, sent) = (self.private.borrow(), self.world.log.borrow(), self.world.sent.borrow());
        let (old_lines, old_calls) = self.searched.replace((log.len(), sent.len()));
        log[old_lines..].iter().for_each(|line| private.expect_nothing(line, &[], "a log line"));
        for (call, _) in &sent[old_calls..] {
            let allowed: &[_] = match call.service() {
                Service::Vault => &[Private::Token],
                Service::TokenSource => &[Private::IdentitySecret],
                Service::Jwks => &[],
            };
            private.expect_nothing(address(call), allowed, "an address");
            for (name, value) in call.headers() {
                private.expect_nothing(format!("{name}: {}", value.expose()), allowed, "a field of a call");
            }
            private.expect_nothing(call.body().expose(), allowed, "the body of a call");
        }
    }
}

fn address(call: &Call) -> String {
    let scheme = if call.endpoint().is_tls() { "https" } else { "http" };
    let to = call.endpoint();
    format!("{} {scheme}://{}{}", call.method(), to.authority(), to.path_and_query())
}

/// A request without a reply so far.
pub struct Pending<'a> {
    gateway: &'a Scripted,
    answer: Pin<Box<dyn Future<Output = Answered> + 'a>>,
}

impl Pending<'_> {
    /// Polls the request and returns its reply, if it has one.
    pub fn reply(&mut self) -> Option<Reply> {
        let polled = self.answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answered) = polled else { return None };
        self.gateway.search_reply(&answered.reply, true);
        Some(answered.reply)
    }
}

const PENDING: &str = "the request waits for time to pass";
