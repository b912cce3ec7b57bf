//! A gateway in virtual time, with a leak search over everything that leaves it.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use keyvault_emulator::{Emulator, Source};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::ProxyHandler;

pub(crate) use crate::wasmtime_host::{WAYS, World};

use crate::leak_search::LeakSearch;
use crate::manifest::Application;
use crate::wasmtime_host::{Clock, Host, Observed, RecordedBody};

/// The test request of the replaced function.
pub(crate) const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;

/// The secrets of the vault.
pub(crate) const SECRETS: [&str; 3] = ["Integration-Team-Blog", "db-password", "x"];

/// The values of the secrets: searchable text between characters that JSON escapes.
const VALUES: [&str; 3] = [
    "\"8f2a-value-of-the-secret\"\r\n\\ü€😀",
    "\"b61d-password-of-a-database\"\r\n\\ü€😀",
    "\"e07c-what-cannot-be-guessed\"\r\n\\ü€😀",
];

/// The API key of the caller.
pub(crate) const KEY: &str = "d41d8cd98f-the-caller-key";

/// The path of the replaced function.
pub(crate) const PATH: &str = "/api/GetKeyVaultSecret";

/// The resources of an idle instance: its standard streams and their pollables.
const IDLE_RESOURCES: usize = 4;

/// Runs a test in virtual time: when all tasks wait, the clock advances to the next timer.
pub(crate) fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

thread_local! {
    /// The responses of the running test so far, with their bodies.
    static TRANSCRIPT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs a test with the components of both worlds, in virtual time. The immediate way of `service` has to
/// give the same responses as the other way.
pub(crate) fn in_both_worlds(test: impl AsyncFn(World)) {
    let [_, service, immediate] = WAYS.map(|world| {
        TRANSCRIPT.take();
        in_virtual_time(test(world));
        // Responses of the same moment may come in another order.
        let mut transcript = TRANSCRIPT.take();
        transcript.sort();
        transcript
    });
    assert_eq!(immediate, service);
}

/// Returns an emulator whose vault has [`SECRETS`].
pub(crate) fn azure() -> Emulator {
    let emulator = Emulator::new();
    for name in SECRETS {
        emulator.set_secret(name, value_of(name)).unwrap();
    }
    emulator
}

/// Returns the value of a secret, whose name has any case.
#[track_caller]
pub(crate) fn value_of(name: &str) -> &'static str {
    let index = SECRETS.iter().position(|secret| secret.eq_ignore_ascii_case(name));
    VALUES[index.unwrap_or_else(|| panic!("there is no secret {name:?}"))]
}

/// The sources whose token takes one call.
pub(crate) const SOURCES: [Source; 5] =
    [Source::AppService2019, Source::AppService2017, Source::Imds, Source::CloudShell, Source::ClientSecret];

/// The sources that need no file: also those whose token takes a call for an assertion before.
pub(crate) const SOURCES_WITHOUT_FILE: [Source; 8] = [
    Source::AppService2019,
    Source::AppService2017,
    Source::Imds,
    Source::CloudShell,
    Source::ClientSecret,
    Source::ManagedIdentityFederation,
    Source::GithubActions,
    Source::GoogleCloud,
];

/// Returns the settings of a gateway in Azure's public cloud, as the platform of this token source sets them.
pub(crate) fn settings(emulator: &Emulator, source: Source) -> Vec<(&'static str, String)> {
    let base = match source {
        Source::AppService2019 | Source::AppService2017 => "http://127.0.0.1:41741",
        Source::CloudShell => "http://localhost:50342",
        Source::AzureArc => "http://localhost:40342",
        Source::GithubActions => "https://pipelines.actions.githubusercontent.com",
        Source::GoogleCloud => "http://metadata.google.internal",
        Source::Imds
        | Source::ClientSecret
        | Source::WorkloadIdentity
        | Source::ManagedIdentityFederation => "",
    };
    let mut settings = vec![("KeyVaultUri", "https://demo.vault.azure.net/".to_owned())];
    // The others would lead to the emulator's own addresses.
    let led =
        ["KeyVaultUri", "KEY_VAULT_RESOURCE", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST"];
    settings.extend(emulator.settings(source, base).into_iter().filter(|setting| !led.contains(&setting.0)));
    settings.push(("GATEWAY_KEY", KEY.to_owned()));
    settings
}

/// A gateway on an embedded host. Its responses, output and calls are searched for private text.
pub(crate) struct Gateway {
    handler: ProxyHandler<Host>,
    stdout: MemoryOutputPipe,
    stderr: MemoryOutputPipe,
    pub(crate) observed: Arc<Observed>,
    leaks: Mutex<LeakSearch>,
}

impl Gateway {
    /// Starts a gateway with this token source and additional settings.
    pub(crate) fn new(
        world: World,
        emulator: &Emulator,
        source: Source,
        more: &[(&'static str, &str)],
    ) -> Self {
        let mut settings = settings(emulator, source);
        settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Self::start(world, emulator, &settings)
    }

    /// Starts the component of `world` with exactly these settings, and the emulator as its network.
    pub(crate) fn start(world: World, emulator: &Emulator, settings: &[(&str, String)]) -> Self {
        Self::start_by(MANIFEST, world, emulator, settings)
    }

    /// Starts it with this manifest, if the host is Spin.
    pub(crate) fn start_by(
        manifest: &str,
        world: World,
        emulator: &Emulator,
        settings: &[(&str, String)],
    ) -> Self {
        let (stdout, stderr) = (MemoryOutputPipe::new(MAX_OUTPUT), MemoryOutputPipe::new(MAX_OUTPUT));
        let observed = Arc::new(Observed::default());
        // Spin passes no environment of its own; settings are variables there.
        let (environment, application) = if world.is_spin() {
            let values = settings.iter().map(|(name, value)| (variable_name(name), value.clone())).collect();
            let uncommented = manifest.replace("# key_value_stores", "key_value_stores");
            assert_ne!(uncommented, manifest);
            let has_store = settings.iter().any(|setting| setting.0 == "GATEWAY_STORE");
            let manifest = if has_store { &uncommented } else { manifest };
            (Vec::new(), Some(Arc::new(Application::load(manifest, &values).unwrap())))
        } else {
            let environment = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            (environment.collect(), None)
        };
        let handler = ProxyHandler::new(Host {
            world,
            environment,
            application,
            emulator: emulator.clone(),
            stdout: stdout.clone(),
            stderr: stderr.clone(),
            observed: Arc::clone(&observed),
            wall_clock: Clock::start(),
            immediate: Mutex::default(),
        });
        let leaks = Mutex::new(LeakSearch::new(emulator, settings));
        Self { handler, stdout, stderr, observed, leaks }
    }

    /// Sends the function's test request, with the key.
    pub(crate) async fn post(&self) -> Response {
        self.post_for(SECRETS[0]).await
    }

    /// Sends the function's test request for another secret.
    pub(crate) async fn post_for(&self, secret: &str) -> Response {
        self.send(request_for(secret)).await
    }

    /// Sends the test request with `Cache-Control: no-cache`.
    pub(crate) async fn post_no_cache(&self) -> Response {
        let mut request = request_for(SECRETS[0]);
        request.headers_mut().insert("cache-control", "no-cache".parse().unwrap());
        self.send(request).await
    }

    /// Sends a request and waits until the instance is idle. Checks that there was no trap, that the response
    /// is complete, and that no call is left open.
    pub(crate) async fn send(&self, request: Request<WasiBody>) -> Response {
        let response = self.exchange(request).await;
        self.wait_until_idle().await;
        response
    }

    /// Sends a request while others are in progress.
    pub(crate) async fn exchange(&self, request: Request<WasiBody>) -> Response {
        let start = Instant::now();
        let asks_for_secret = request.method() == Method::POST;
        let request_body = RecordedBody::default();
        let (head, body) = request.into_parts();
        // A server lets no request in whose body is not as long as announced.
        let mut announced = head.headers.get_all("content-length").iter();
        let length = body.size_hint().exact();
        let is_whole = length.is_some_and(|length| announced.all(|text| *text == *length.to_string()));
        let recorder = request_body.clone();
        let body = body.map_frame(move |frame| recorder.add(frame));
        let mut request = Request::from_parts(head, body.boxed_unsync());
        let mut response = None;
        if is_whole && self.has_immediate_way() {
            self.leaks().learn_request(request.headers(), request.uri());
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            response = self.handler.state().answer_now(&head, &body).await;
            request = Request::from_parts(head, full(body));
        }
        let response = match response {
            Some(response) => response,
            None => self.exchange_head(request).await,
        };
        let (parts, body) = response.into_parts();
        let body = timeout(REQUEST_TIMEOUT, body.collect()).await.expect("the body must end");
        let body = body.expect("the body must be complete");
        let (status, took) = (parts.status.as_u16(), start.elapsed());
        let response = Response { status, headers: parts.headers, body: body.to_bytes(), took };
        TRANSCRIPT.with_borrow_mut(|transcript| transcript.push(response.transcript()));
        self.search(asks_for_secret.then(|| request_body.bytes()).as_deref(), &response);
        response
    }

    /// Sends a request without reading the body of the response.
    pub(crate) async fn exchange_head(&self, request: Request<WasiBody>) -> http::Response<WasiBody> {
        self.leaks().learn_request(request.headers(), request.uri());
        let response = timeout(REQUEST_TIMEOUT, self.handler.handle((), request)).await;
        let response = response.unwrap_or_else(|_| panic!("there is no response: {}", self.diagnostics()));
        response.unwrap_or_else(|error| panic!("the host failed: {error:?}; {}", self.diagnostics()))
    }

    /// Waits until the instances are idle.
    pub(crate) async fn wait_until_idle(&self) {
        sleep(TICK).await;
        assert_eq!(self.observed.traps.lock().unwrap().as_slice(), [""; 0], "{}", self.diagnostics());
        assert_eq!(Arc::strong_count(&self.observed.open_calls), 1, "a call of a finished request is open");
    }

    /// Returns the instances' standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }

    /// Checks that one instance has served all requests and has leaked no resource.
    #[track_caller]
    pub(crate) fn expect_single_instance(&self, case: impl std::fmt::Debug) {
        assert_eq!(self.instances(), 1, "{case:?}");
        assert!(self.leaked() <= IDLE_RESOURCES, "{case:?} {}", self.leaked());
    }

    /// Whether requests go by the immediate way first: if there is an instance, as no request before the
    /// first has loaded the settings.
    fn has_immediate_way(&self) -> bool {
        self.handler.state().world == World::Immediate && self.instances() > 0
    }

    pub(crate) fn instances(&self) -> usize {
        self.observed.instances.load(Ordering::Relaxed)
    }

    /// Returns the resources that earlier requests had leaked when the last one started.
    ///
    /// The options of calls under WASI 0.2 do not count: in Wasmtime 48 `outgoing_handler::handle` itself
    /// leaves them in the table.
    fn leaked(&self) -> usize {
        let found = self.observed.resources.load(Ordering::Relaxed);
        let forgotten = match self.handler.state().world {
            World::Proxy | World::ProxyOnSpin => self.observed.timeouts.lock().unwrap().len(),
            World::Service | World::Immediate | World::ServiceOnSpin | World::FederatedOnSpin => 0,
        };
        found.saturating_sub(forgotten)
    }

    /// Returns every timeout of every call so far.
    pub(crate) fn timeouts(&self) -> Vec<Option<Duration>> {
        let calls = self.observed.timeouts.lock().unwrap();
        let timeouts = calls.iter().map(|options| options.unwrap_or_default());
        timeouts
            .flat_map(|call| [call.connect_timeout, call.first_byte_timeout, call.between_bytes_timeout])
            .collect()
    }

    /// Searches a response to a request with this body, and everything that has left since the last search.
    fn search(&self, request_body: Option<&[u8]>, response: &Response) {
        let mut leaks = self.leaks();
        leaks.search_calls(&mut self.observed.calls.lock().unwrap());
        leaks.search_response(request_body, response);
        leaks.search_output(&self.stdout.contents(), &self.stderr.contents());
    }

    /// Returns the leak search, to which a test adds private text that no response shows.
    pub(crate) fn leaks(&self) -> MutexGuard<'_, LeakSearch> {
        // A search that finds something panics with the lock held.
        self.leaks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn diagnostics(&self) -> String {
        let traps = self.observed.traps.lock().unwrap();
        format!("traps: {traps:?}, standard error: {}", self.log())
    }
}

impl Drop for Gateway {
    /// Searches the last calls, and all output again for text that has become known since.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let leaks = self.leaks.get_mut().unwrap();
            leaks.search_calls(&mut self.observed.calls.lock().unwrap());
            leaks.search_all_output(&self.stdout.contents(), &self.stderr.contents());
        }
    }
}

/// A response with its complete body.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
}

impl Response {
    /// Returns a header field, or an empty string.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }

    /// Returns the status, the fields and the body, without what is random: versions, the jitter of ages and
    /// times, and the part of a second at which the token was issued.
    fn transcript(&self) -> String {
        let fields = self.headers.iter().map(|(name, value)| {
            let is_random =
                |letter: char| letter.is_ascii_digit() || (name == "etag" && letter.is_ascii_hexdigit());
            format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()).replace(is_random, ""))
        });
        let mut fields: Vec<_> = fields.collect();
        fields.sort();
        let body = String::from_utf8_lossy(&self.body);
        let lines = body.lines().filter(|line| !line.starts_with("keyvault_gateway_token_left_seconds "));
        format!("{} {}{}", self.status, fields.concat(), lines.collect::<Vec<_>>().join("\n"))
    }

    /// Returns whether the response came after `time`, with the tolerance of the clock.
    pub(crate) fn took_about(&self, time: Duration) -> bool {
        (time..time + Duration::from_millis(10)).contains(&self.took)
    }

    /// Checks the status and the error code.
    #[track_caller]
    pub(crate) fn expect(&self, (status, code): (u16, &str), case: impl std::fmt::Debug) {
        assert_eq!(self.outcome(), (status, code.to_owned()), "{case:?} {self:?}");
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Returns the status and the error code, and checks the shape of errors and the value of a secret.
    #[track_caller]
    fn outcome(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(self.field("content-type"), "application/json; charset=utf-8", "{self:?}");
        assert_eq!(self.field("cache-control"), "no-store", "{self:?}");
        assert_eq!(self.field("x-content-type-options"), "nosniff", "{self:?}");
        assert_eq!(self.field("content-length"), self.body.len().to_string(), "{self:?}");
        if self.status == 200 && json["Secrets"].is_array() {
            return (200, String::new());
        }
        if self.status == 200 {
            let value = value_of(json["Secret"].as_str().unwrap_or_default());
            assert_eq!((&json["Value"], json.as_object().unwrap().len()), (&value.into(), 2), "{self:?}");
            return (200, String::new());
        }
        let names = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&json), ["error"], "{self:?}");
        assert_eq!(names(&json["error"]), ["code", "message"], "{self:?}");
        let text = |name: &str| json["error"][name].as_str().filter(|text| !text.is_empty());
        assert!(text("message").is_some(), "{self:?}");
        (self.status, text("code").unwrap_or_else(|| panic!("{self:?}")).to_owned())
    }
}

/// Returns the numbers of token calls and vault calls.
pub(crate) fn calls(emulator: &Emulator) -> (usize, usize) {
    (emulator.token_calls().len(), emulator.vault_calls().len())
}

/// Returns a POST request with this body and the key.
pub(crate) fn request(body: WasiBody) -> Request<WasiBody> {
    let request = Request::post(PATH).header("host", "gateway").header("content-type", "application/json");
    request.header("x-functions-key", KEY).body(body).unwrap()
}

/// Returns a request for the secret of this name.
pub(crate) fn request_for(secret: &str) -> Request<WasiBody> {
    request(full(REQUEST.replace(SECRETS[0], secret)))
}

/// Returns the name of the variable for a setting.
fn variable_name(name: &str) -> String {
    match name {
        "KeyVaultUri" => "key_vault_uri".to_owned(),
        name => name.to_ascii_lowercase(),
    }
}

/// Returns a body of one frame.
pub(crate) fn full(content: impl Into<Bytes>) -> WasiBody {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The manifest of the application for Spin.
pub(crate) const MANIFEST: &str = include_str!("../../../../spin.toml");

/// The timeout of a request in virtual time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The shortest sleep of Tokio. All ready tasks run before it ends.
const TICK: Duration = Duration::from_millis(1);

/// The maximum of captured output, in bytes.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;
