//! One gateway, asked in virtual time, and searched for what it may not say.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use keyvault_emulator::{Emulator, Source};
use serde_json::Value;
use testkit::leaks::Private;
use tokio::time::{Instant, sleep, timeout};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::ProxyHandler;

pub(crate) use crate::wasmtime_host::{BOTH, World};

use crate::manifest::Application;
use crate::wasmtime_host::{Clock, Host, Record, Seen};
use crate::watch::Watch;

/// What the replaced function's own test sends.
pub(crate) const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;

/// The secrets of the vault.
pub(crate) const SECRETS: [&str; 3] = ["Integration-Team-Blog", "db-password", "x"];

/// Their values, which JSON has to escape, around words that are searched for.
const VALUES: [&str; 3] = [
    "\"8f2a-value-of-the-secret\"\r\n\\ü€😀",
    "\"b61d-password-of-a-database\"\r\n\\ü€😀",
    "\"e07c-what-cannot-be-guessed\"\r\n\\ü€😀",
];

/// The key of the one caller.
pub(crate) const KEY: &str = "d41d8cd98f-the-caller-key";

/// The function's own path.
pub(crate) const PATH: &str = "/api/GetKeyVaultSecret";

/// The resources of an instance that has nothing to do: its standard streams, and what it polls them with.
const AT_REST: usize = 4;

/// Runs a test in virtual time: whenever all tasks wait, the clock goes to the next thing that happens.
pub(crate) fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

/// Runs a test with the components of both worlds, in virtual time.
pub(crate) fn both(test: impl AsyncFn(World)) {
    BOTH.into_iter().for_each(|world| in_virtual_time(test(world)));
}

/// A vault with [`SECRETS`].
pub(crate) fn azure() -> Emulator {
    let emulator = Emulator::new();
    for name in SECRETS {
        emulator.set_secret(name, value_of(name)).unwrap();
    }
    emulator
}

/// The value of the secret that has this name, in any case.
#[track_caller]
pub(crate) fn value_of(name: &str) -> &'static str {
    let index = SECRETS.iter().position(|it| it.eq_ignore_ascii_case(name));
    VALUES[index.unwrap_or_else(|| panic!("there is no {name:?}"))]
}

/// The settings of a gateway in Azure's public cloud that gets its tokens from `source`, as that place sets them.
pub(crate) fn settings(emulator: &Emulator, source: Source) -> Vec<(&'static str, String)> {
    let base = match source {
        Source::AppService2019 | Source::AppService2017 => "http://127.0.0.1:41741",
        Source::CloudShell => "http://localhost:50342",
        Source::Imds | Source::ClientSecret => "",
    };
    let mut settings = vec![("KeyVaultUri", "https://demo.vault.azure.net/".to_owned())];
    // The rest leads to an emulator at another address than Azure's own.
    let led =
        ["KeyVaultUri", "KEY_VAULT_RESOURCE", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST"];
    settings.extend(emulator.settings(source, base).into_iter().filter(|it| !led.contains(&it.0)));
    settings.push(("GATEWAY_KEY", KEY.to_owned()));
    settings
}

/// A gateway on an embedded host. Nothing that is private may leave it, whatever a test is about: each answer, all that it
/// prints and every call are searched.
pub(crate) struct Gateway {
    handler: ProxyHandler<Host>,
    stdout: MemoryOutputPipe,
    stderr: MemoryOutputPipe,
    pub(crate) seen: Arc<Seen>,
    watch: Mutex<Watch>,
}

impl Gateway {
    /// A gateway that gets its tokens from `source`, with these settings more.
    pub(crate) fn of(
        world: World,
        emulator: &Emulator,
        source: Source,
        more: &[(&'static str, &str)],
    ) -> Self {
        let mut settings = settings(emulator, source);
        settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Self::start(world, emulator, &settings)
    }

    /// `world`'s component with these settings and no others, and the emulator for its network.
    pub(crate) fn start(world: World, emulator: &Emulator, settings: &[(&str, String)]) -> Self {
        let (stdout, stderr) = (MemoryOutputPipe::new(MOST_OUTPUT), MemoryOutputPipe::new(MOST_OUTPUT));
        let seen = Arc::new(Seen::default());
        // Spin does not pass on its own environment; settings are variables there.
        let (environment, application) = if world.is_spin() {
            let values = settings.iter().map(|(name, value)| (lower_snake(name), value.clone())).collect();
            let uncommented = MANIFEST.replace("# key_value_stores", "key_value_stores");
            assert_ne!(uncommented, MANIFEST);
            let has_store = settings.iter().any(|it| it.0 == "GATEWAY_STORE");
            let manifest = if has_store { &uncommented } else { MANIFEST };
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
            seen: Arc::clone(&seen),
            calendar: Clock::start(),
        });
        let watch = Mutex::new(Watch::new(emulator, settings));
        Self { handler, stdout, stderr, seen, watch }
    }

    /// Makes `text` private, too.
    pub(crate) fn hide(&self, what: Private, text: &str) {
        self.watch().hide(what, text);
    }

    /// Says that the secret `name` has `value`, where an answer with it is too long to be learnt from.
    pub(crate) fn hold(&self, name: &str, value: &str) {
        self.watch().hold(name, value);
    }

    /// How many calls have been searched so far, and how many bytes of answers and output.
    pub(crate) fn searched(&self) -> (usize, usize) {
        self.watch().searched()
    }

    /// The function's test request, with the key.
    pub(crate) async fn ask(&self) -> Answer {
        self.ask_for(SECRETS[0]).await
    }

    /// The function's test request for another secret.
    pub(crate) async fn ask_for(&self, secret: &str) -> Answer {
        self.send(request_for(secret)).await
    }

    /// The same, for a value that has just been read.
    pub(crate) async fn ask_past_the_cache(&self) -> Answer {
        let mut request = request_for(SECRETS[0]);
        request.headers_mut().insert("cache-control", "no-cache".parse().unwrap());
        self.send(request).await
    }

    /// Any request. It is answered without a trap or an error code, its answer's body is whole, and when all is done
    /// that the instance has to do, no call is open.
    pub(crate) async fn send(&self, request: Request<WasiBody>) -> Answer {
        let answer = self.begin(request).await;
        self.settle().await;
        answer
    }

    /// The same while other requests are under way.
    pub(crate) async fn begin(&self, request: Request<WasiBody>) -> Answer {
        let start = Instant::now();
        let asks_for_secret = request.method() == Method::POST;
        let asked = Record::default();
        let (head, body) = request.into_parts();
        let seen = asked.clone();
        let request = Request::from_parts(head, body.map_frame(move |it| seen.see(it)).boxed_unsync());
        let (parts, body) = self.begin_unread(request).await.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.expect("a body that ends").expect("a whole body");
        let (status, took) = (parts.status.as_u16(), start.elapsed());
        let answer = Answer { status, headers: parts.headers, body: body.to_bytes(), took };
        self.search(asks_for_secret.then(|| asked.seen()).as_deref(), &answer);
        answer
    }

    /// The same without reading the answer's body.
    pub(crate) async fn begin_unread(&self, request: Request<WasiBody>) -> Response<WasiBody> {
        self.watch().request(request.headers(), request.uri());
        let answered = timeout(PATIENCE, self.handler.handle((), request)).await;
        let answered = answered.unwrap_or_else(|_| panic!("no answer: {}", self.circumstances()));
        answered.unwrap_or_else(|it| panic!("an error for an answer: {it:?}; {}", self.circumstances()))
    }

    /// Lets the instances do what they still have to do.
    pub(crate) async fn settle(&self) {
        sleep(MOMENT).await;
        assert_eq!(self.seen.deaths.lock().unwrap().as_slice(), [""; 0], "{}", self.circumstances());
        assert_eq!(Arc::strong_count(&self.seen.open_calls), 1, "calls that no request waits for");
    }

    /// What the instances have written to standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
    }

    /// Checks that one instance has answered all requests, and that they have left nothing behind.
    #[track_caller]
    pub(crate) fn expect_one_clean_instance(&self, case: impl std::fmt::Debug) {
        assert_eq!(self.instances(), 1, "{case:?}");
        assert!(self.left_behind() <= AT_REST, "{case:?} {}", self.left_behind());
    }

    /// How many instances there have been.
    pub(crate) fn instances(&self) -> usize {
        self.seen.instances.load(Ordering::Relaxed)
    }

    /// How many resources the last request found that earlier ones have left.
    ///
    /// The options of a call under WASI 0.2 are not counted, as Wasmtime 48 itself forgets them: its
    /// `outgoing_handler::handle` looks at them and leaves them in the table.
    fn left_behind(&self) -> usize {
        let found = self.seen.resources.load(Ordering::Relaxed);
        let forgotten = match self.handler.state().world {
            World::Proxy | World::ProxyOnSpin => self.seen.timeouts.lock().unwrap().len(),
            World::Service | World::ServiceOnSpin => 0,
        };
        found.saturating_sub(forgotten)
    }

    /// Each of the timeouts of each call so far.
    pub(crate) fn timeouts(&self) -> Vec<Option<Duration>> {
        let calls = self.seen.timeouts.lock().unwrap();
        let timeouts = calls.iter().map(|it| it.unwrap_or_default());
        timeouts
            .flat_map(|it| [it.connect_timeout, it.first_byte_timeout, it.between_bytes_timeout])
            .collect()
    }

    /// Looks for what is private in an answer to a request with the body `asked`, and in all that has left since the last one.
    fn search(&self, asked: Option<&[u8]>, answer: &Answer) {
        let mut watch = self.watch();
        watch.calls(&mut self.seen.sent.lock().unwrap());
        watch.answer(asked, answer);
        watch.output(&self.stdout.contents(), &self.stderr.contents());
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        // A search that has found something has ended the test.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circumstances(&self) -> String {
        let deaths = self.seen.deaths.lock().unwrap();
        format!("deaths: {deaths:?}, standard error: {}", self.log())
    }
}

impl Drop for Gateway {
    /// What left last is searched as well, and what was printed once more, for what has become known since.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let watch = self.watch.get_mut().unwrap();
            watch.calls(&mut self.seen.sent.lock().unwrap());
            watch.all_output(&self.stdout.contents(), &self.stderr.contents());
        }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
}

impl Answer {
    /// A header field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().expect("text"))
    }

    /// Whether it came after `time`, within the few milliseconds in which the clock and its waits differ.
    pub(crate) fn took_about(&self, time: Duration) -> bool {
        (time..time + Duration::from_millis(10)).contains(&self.took)
    }

    /// Checks the status and the code.
    #[track_caller]
    pub(crate) fn expect(&self, (status, code): (u16, &str), case: impl std::fmt::Debug) {
        assert_eq!(self.outcome(), (status, code.to_owned()), "{case:?} {self:?}");
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The status and the code of an answer. An error has the shape of all errors, and a secret is the one in the vault.
    #[track_caller]
    fn outcome(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(self.field("content-type"), "application/json; charset=utf-8", "{self:?}");
        assert_eq!(self.field("cache-control"), "no-store", "{self:?}");
        assert_eq!(self.field("x-content-type-options"), "nosniff", "{self:?}");
        assert_eq!(self.field("content-length"), self.body.len().to_string(), "{self:?}");
        if self.status == 200 {
            let value = value_of(json["Secret"].as_str().unwrap_or_default());
            assert_eq!((&json["Value"], json.as_object().unwrap().len()), (&value.into(), 2), "{self:?}");
            return (200, String::new());
        }
        let names = |it: &Value| it.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(&json), Some(vec!["error".to_owned()]), "{self:?}");
        assert_eq!(names(&json["error"]), Some(vec!["code".to_owned(), "message".to_owned()]), "{self:?}");
        let text = |name: &str| json["error"][name].as_str().filter(|it| !it.is_empty());
        assert!(text("message").is_some(), "{self:?}");
        (self.status, text("code").unwrap_or_else(|| panic!("{self:?}")).to_owned())
    }
}

/// How many calls there were: for tokens, and to the vault.
pub(crate) fn calls(emulator: &Emulator) -> (usize, usize) {
    (emulator.token_calls().len(), emulator.vault_calls().len())
}

/// A request for the secret that `body` names, with the key.
pub(crate) fn request(body: WasiBody) -> Request<WasiBody> {
    let request = Request::post(PATH).header("host", "gateway").header("content-type", "application/json");
    request.header("x-functions-key", KEY).body(body).unwrap()
}

/// The same for the secret with this name.
pub(crate) fn request_for(secret: &str) -> Request<WasiBody> {
    request(full(REQUEST.replace(SECRETS[0], secret)))
}

/// The name of the variable that stands for a setting.
fn lower_snake(name: &str) -> String {
    match name {
        "KeyVaultUri" => "key_vault_uri".to_owned(),
        name => name.to_ascii_lowercase(),
    }
}

/// A body that comes whole.
pub(crate) fn full(content: impl Into<Bytes>) -> WasiBody {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The application for Spin.
pub(crate) const MANIFEST: &str = include_str!("../../../../spin.toml");

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The shortest time that Tokio can wait, in which all tasks come to rest.
const MOMENT: Duration = Duration::from_millis(1);

/// Bytes of log lines that are kept.
const MOST_OUTPUT: usize = 64 * 1024 * 1024;
