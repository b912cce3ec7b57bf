//! A gateway on the fake host, in the settings of the replaced function and with the API key `the-right-key`. Private text
//! leaves it only for its destination: replies, log lines and calls are searched.

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::rc::Rc;

use http::Method;
use keyvault_gateway::azure::Call;
use keyvault_gateway::error::Service;
use keyvault_gateway::gateway::{Answered, Gateway};
use keyvault_gateway::host::CallError;
use keyvault_gateway::http::request::Head;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::read_error::ReadError;
use keyvault_gateway::secrets::{Found, Refresh};
use testkit::host::{FakeBody, FakeHost, World, poll_once};
use testkit::leaks::{Private, SHORTEST, Search};

pub use testkit::host::{BEGINNING, Outcome, Response, VERSION, answer, secret, token};

pub fn status(status: u16) -> Outcome {
    answer(status, "")
}

/// An empty answer with this status and `Retry-After`.
pub fn pause(status: u16, retry_after: &str) -> Outcome {
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
    reply.fields().first(name).unwrap_or_default()
}

/// The value of a reply, or the code of its error.
pub fn shown_by(reply: &Reply) -> String {
    let body: serde_json::Value = serde_json::from_slice(reply.body().expose()).unwrap();
    body["Value"].as_str().unwrap_or(reply.code()).to_owned()
}

/// `Cache-Status` after the name of the cache.
pub fn cache_status(reply: &Reply) -> &str {
    field(reply, "cache-status").trim_start_matches("keyvault-gateway; ")
}

pub fn outcome(reply: &Reply) -> (u16, &'static str) {
    (reply.status().as_u16(), reply.code())
}

/// The body of a request for a secret.
pub fn asking(name: &str) -> String {
    format!(r#"{{"Secret":"{name}"}}"#)
}

pub const JSON: (&str, &str) = ("content-type", "application/json");

/// The header fields of a request with the right key.
pub const FIELDS: [(&str, &str); 2] = [JSON, ("x-functions-key", "the-right-key")];

/// The settings of every gateway but some.
pub const USUAL: [(&str, &str); 4] = [
    ("KeyVaultUri", "https://my-vault.vault.azure.net/"),
    ("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"),
    ("MSI_SECRET", "identity-secret"),
    ("GATEWAY_KEY", "the-right-key"),
];

/// Settings that leave the metadata service as the token source.
pub const IMDS: &[(&str, &str)] = &[("MSI_ENDPOINT", ""), ("MSI_SECRET", "")];

/// A caller that may read `ops-*`, and its key.
pub const OPS: &str = r#"[{"name":"ops","secrets":["ops-*"],
    "key_sha256":["97a1525552707dffb403e9124bf88cf83ef37b5ba47a5d2ff6e933aeac1b4c5b"]}]"#;
pub const OPS_KEY: (&str, &str) = ("x-functions-key", "the-third-key");

pub type Fields<'a> = &'a [(&'static str, &'a str)];

pub struct Scripted {
    gateway: Gateway<FakeHost>,
    pub world: Rc<World>,
    renewal: RefCell<Option<Refresh>>,
    private: RefCell<Search>,
    searched: Cell<(usize, usize)>,
}

impl Scripted {
    /// A gateway with more settings.
    pub fn new(settings: &[(&str, &str)]) -> Self {
        Self::only(&[&USUAL[..], settings].concat())
    }

    /// A gateway in these settings and no others.
    pub fn only(settings: &[(&str, &str)]) -> Self {
        let owned = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let world = Rc::new(World { settings: owned.collect(), ..World::default() });
        let gateway = Gateway::new(FakeHost(Rc::clone(&world)));
        let (renewal, private, searched) = Default::default();
        let scripted = Self { gateway, world, renewal, private, searched };
        for (name, value) in settings {
            let secret = ["IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET"].contains(name);
            let kind = secret.then_some(Private::IdentitySecret);
            let kind = kind.or((*name == "GATEWAY_KEY").then_some(Private::CallerKey));
            kind.into_iter().for_each(|kind| scripted.hide(kind, value));
        }
        scripted
    }

    /// The next calls are answered with these, in order; one more fails the test.
    pub fn will_answer(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        for outcome in outcomes {
            self.learn(&outcome);
            self.world.script.borrow_mut().push_back(outcome);
        }
    }

    /// The same, so many seconds later.
    pub fn then(&self, seconds: u64, outcomes: impl IntoIterator<Item = Outcome>) {
        self.pass(Duration::from_secs(seconds));
        self.will_answer(outcomes);
    }

    /// The same for a new gateway.
    pub fn answering(self, outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        self.will_answer(outcomes);
        self
    }

    pub fn pass(&self, time: Duration) {
        self.world.pass(time);
    }

    /// A request with a JSON body and the right key.
    pub fn post(&self, target: &str, body: &str) -> Reply {
        self.request("POST", target, &FIELDS, body)
    }

    /// The outcome of a read of `name` with the right key.
    pub fn read(&self, name: &str) -> (u16, &'static str) {
        outcome(&self.post("/", &asking(name)))
    }

    /// Reads `a` once for each row: so many seconds later, with these outcomes of its calls. The reply is the value or the code
    /// of the error, with this `Cache-Status` after the name of the cache, and there have been so many calls.
    #[track_caller]
    pub fn plays<const N: usize>(&self, rows: [(f64, &[Outcome], &str, &str, usize); N]) {
        for (row, (seconds, outcomes, shown, status, calls)) in rows.into_iter().enumerate() {
            self.pass(Duration::from_secs_f64(seconds));
            self.will_answer(outcomes.iter().cloned());
            let reply = self.post("/", &asking("a"));
            let all = (shown_by(&reply), cache_status(&reply), self.calls().len());
            assert_eq!(all, (shown.to_owned(), status, calls), "row {row}");
        }
    }

    pub fn get(&self, target: &str) -> Reply {
        self.request("GET", target, &[], "")
    }

    pub fn post_no_cache(&self, body: &str) -> Reply {
        self.request("POST", "/", &[FIELDS[0], FIELDS[1], ("cache-control", "no-cache")], body)
    }

    pub fn request(&self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> Reply {
        let answered = poll_once(self.answer(method, target, fields, body)).expect(WAITS);
        self.search_reply(&answered.reply, method == "POST");
        self.renewal.replace(answered.renewal);
        answered.reply
    }

    /// A request that others may overtake. From now on time passes only when the test lets it.
    pub fn begin<'a>(&'a self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> Begun<'a> {
        self.world.stepwise.set(true);
        let answer = Box::pin(self.answer(method, target, fields, body));
        let mut begun = Begun { gateway: self, answer };
        assert!(begun.reply().is_none(), "answered at once");
        begun
    }

    /// Lets the first call that is held have its answer, when its request is polled next.
    pub fn release(&self) {
        self.world.released.set(self.world.released.get() + 1);
    }

    /// A request whose client hangs up while a call is under way. False if it was answered before that.
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
        self.learn_request(target, fields);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let head = Head { method, target: target.to_owned(), fields: fields.iter().copied().collect() };
        self.gateway.answer(head, FakeBody(body.into(), Rc::clone(&self.world)))
    }

    /// A read by the component that is composed with the gateway.
    pub fn value(&self, name: &str, version: Option<&str>) -> Result<String, ReadError> {
        self.found(name, version, false).map(|found| found.kept.secret.value.expose().clone())
    }

    /// The same with what there is to know of it; `again` has the vault asked.
    pub fn found(&self, name: &str, version: Option<&str>, again: bool) -> Result<Found, ReadError> {
        let mut read = poll_once(self.gateway.read(name, version, again)).expect(WAITS);
        self.search_rest();
        self.renewal.replace(read.as_mut().ok().and_then(|found| found.renewal.take()));
        read
    }

    /// The value that this component can have without a wait.
    pub fn at_hand(&self, name: &str, version: Option<&str>) -> Option<String> {
        self.gateway.at_hand(name, version).map(|kept| kept.secret.value.expose().clone())
    }

    pub fn vault(&self) -> Result<String, ReadError> {
        self.gateway.vault()
    }

    /// Refreshes ahead after the last answer, as a host of WASI 0.3 does; false if there is nothing to refresh.
    pub fn renew(&self) -> bool {
        let renewal = self.renewal.take().map(|renewal| poll_once(self.gateway.renew(renewal)).expect(WAITS));
        self.search_rest();
        renewal.is_some()
    }

    pub fn now(&self) -> Duration {
        self.world.now.get()
    }

    /// Method and address of each call.
    pub fn calls(&self) -> Vec<String> {
        self.world.sent.borrow().iter().map(|(call, _)| address(call)).collect()
    }

    /// The header fields of each call.
    pub fn fields(&self) -> Vec<Vec<String>> {
        let sent = self.world.sent.borrow();
        let fields = sent.iter().map(|(call, _)| call.headers().iter());
        fields
            .map(|fields| fields.map(|(name, value)| format!("{name}: {}", value.expose())).collect())
            .collect()
    }

    /// The limit of each call.
    pub fn limits(&self) -> Vec<Duration> {
        self.world.sent.borrow().iter().map(|(_, limit)| *limit).collect()
    }

    pub fn log(&self) -> Vec<String> {
        self.world.log.borrow().clone()
    }

    fn hide(&self, what: Private, text: &str) {
        if text.len() >= SHORTEST {
            self.private.borrow_mut().add(what, text);
        }
    }

    /// Learns the token or the value of an answer that is to come.
    fn learn(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Held(inner) | Outcome::After(_, inner) => self.learn(inner),
            Outcome::Answer(Response { body, .. }) => {
                let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
                for (name, what) in [("access_token", Private::Token), ("value", Private::Value)] {
                    self.hide(what, body[name].as_str().unwrap_or_default());
                }
            }
            Outcome::Failed(_) | Outcome::Late | Outcome::Never => {}
        }
    }

    /// Learns the key and the token of a request, right or wrong.
    fn learn_request(&self, target: &str, fields: Fields<'_>) {
        let query = target.split_once('?').map_or("", |parts| parts.1).split('&');
        query
            .filter_map(|pair| pair.strip_prefix("code="))
            .for_each(|key| self.hide(Private::CallerKey, key));
        for (name, value) in fields {
            match *name {
                "x-functions-key" => self.hide(Private::CallerKey, value),
                "authorization" => self.hide(Private::CallerToken, value.trim_start_matches("Bearer ")),
                _ => {}
            }
        }
    }

    fn search_reply(&self, reply: &Reply, reads_secret: bool) {
        let private = self.private.borrow();
        let allowed: &[_] = if reads_secret && reply.status() == 200 { &[Private::Value] } else { &[] };
        for (name, value) in reply.fields().as_list() {
            private.expect_nothing([name.as_bytes(), b": ", value].concat(), &[], "a field of a reply");
        }
        private.expect_nothing(reply.body().expose(), allowed, "a reply");
        self.search_rest();
    }

    /// Searches the lines and the calls since the last time.
    fn search_rest(&self) {
        let (private, log, sent) = (self.private.borrow(), self.world.log.borrow(), self.world.sent.borrow());
        let (old_lines, old_calls) = self.searched.replace((log.len(), sent.len()));
        log[old_lines..].iter().for_each(|line| private.expect_nothing(line, &[], "a line"));
        for (call, _) in &sent[old_calls..] {
            let allowed: &[_] = match call.upstream() {
                Service::Vault => &[Private::Token],
                Service::Identity => &[Private::IdentitySecret],
                Service::Directory => &[],
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

/// A request under way.
pub struct Begun<'a> {
    gateway: &'a Scripted,
    answer: Pin<Box<dyn Future<Output = Answered> + 'a>>,
}

impl Begun<'_> {
    /// Its reply, if there is one by now.
    pub fn reply(&mut self) -> Option<Reply> {
        let polled = self.answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answered) = polled else { return None };
        self.gateway.search_reply(&answered.reply, true);
        Some(answered.reply)
    }
}

const WAITS: &str = "a request waits for time that the test has to let pass";
