//! A gateway whose host answers from a script and passes time when told to.

use core::cell::{Cell, RefCell};
use core::future::{Future, pending, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use http::Method;
use keyvault_gateway::azure::{Answer, Call};
use keyvault_gateway::composed::NoValue;
use keyvault_gateway::gateway::{Answered, Gateway};
use keyvault_gateway::host::{Body, Host, Moment, NoAnswer, NoBody, NoStores, Unreadable};
use keyvault_gateway::reply::Reply;
use keyvault_gateway::request::Head;
use keyvault_gateway::secrets::{Found, Renewal};
use leaks::{Private, SHORTEST, Search};

/// What the gateway sees of a call.
#[derive(Clone)]
pub enum Seen {
    /// An answer: status, `Retry-After`, body.
    Answer(u16, Option<&'static str>, String),
    /// None.
    Nothing(NoAnswer),
    /// None until the limit of the call is over.
    Late,
    /// None while anybody waits.
    Never,
    /// This one, when the test [releases](Scripted::release) it.
    Held(Box<Seen>),
    /// This one, so much later, if the limit of the call is not over before.
    After(Duration, Box<Seen>),
}

impl Seen {
    /// The same, when the test [releases](Scripted::release) it.
    pub fn held(self) -> Self {
        Self::Held(Box::new(self))
    }

    /// The same, so much later.
    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }
}

/// A token that lasts `seconds`.
pub fn token(seconds: u64) -> Seen {
    let body = format!(r#"{{"access_token":"the-token","token_type":"Bearer","expires_in":"{seconds}"}}"#);
    Seen::Answer(200, None, body)
}

/// The secret `name` with `value`.
pub fn secret(name: &str, value: &str) -> Seen {
    let id = format!("https://my-vault.vault.azure.net/secrets/{name}/3d76eb676e0a40429c7aa2b4b7912a5d");
    Seen::Answer(200, None, serde_json::json!({"value": value, "id": id}).to_string())
}

pub fn body_of(reply: &Reply) -> String {
    String::from_utf8(reply.body().expose().clone()).unwrap()
}

pub fn field<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.fields().first(name).unwrap_or_default()
}

/// A gateway in the settings of the replaced function, with the caller key `the-right-key`. Nothing that is
/// private may leave it but for where it belongs: its replies, its log and its calls are searched.
pub struct Scripted {
    gateway: Gateway<InWorld>,
    renewal: RefCell<Option<Renewal>>,
    world: Rc<World>,
}

impl Scripted {
    /// The same with more settings.
    pub fn new(settings: &[(&'static str, &'static str)]) -> Self {
        let mut all = vec![
            ("KeyVaultUri", "https://my-vault.vault.azure.net/"),
            ("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"),
            ("MSI_SECRET", "identity-secret"),
            ("GATEWAY_KEY", "the-right-key"),
        ];
        all.extend_from_slice(settings);
        Self::only(&all)
    }

    /// A gateway in these settings and no others.
    pub fn only(settings: &[(&'static str, &'static str)]) -> Self {
        let world = World { settings: settings.to_vec(), ..World::default() };
        for (name, value) in &world.settings {
            match *name {
                "IDENTITY_HEADER" | "MSI_SECRET" | "AZURE_CLIENT_SECRET" => {
                    world.hide(Private::IdentitySecret, value);
                }
                "GATEWAY_KEY" => world.hide(Private::CallerKey, value),
                _ => {}
            }
        }
        let world = Rc::new(world);
        Self { gateway: Gateway::new(InWorld(Rc::clone(&world))), renewal: RefCell::new(None), world }
    }

    /// The next calls are answered with these, in order; one more fails the test.
    pub fn will_answer(&self, answers: impl IntoIterator<Item = Seen>) {
        let answers: Vec<Seen> = answers.into_iter().collect();
        answers.iter().for_each(|it| self.world.learn(it));
        self.world.answers.borrow_mut().extend(answers);
    }

    /// Each call takes this long.
    pub fn will_take(&self, time: Duration) {
        self.world.latency.set(time);
    }

    /// The body of each request takes this long.
    pub fn bodies_take(&self, time: Duration) {
        self.world.body_time.set(time);
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.world.now.set(self.world.now.get() + time);
    }

    /// A JSON body with the right key.
    pub fn post(&self, target: &str, body: &str) -> Reply {
        self.request(
            "POST",
            target,
            &[("content-type", "application/json"), ("x-functions-key", "the-right-key")],
            body,
        )
    }

    pub fn request(&self, method: &str, target: &str, fields: &[(&'static str, &str)], body: &str) -> Reply {
        let (head, body) = self.parts(method, target, fields, body);
        match pin!(self.gateway.answer(head, body)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answered) => {
                self.world.search_reply(&answered.reply, method == "POST");
                self.world.search_rest();
                self.renewal.replace(answered.renewal);
                answered.reply
            }
            Poll::Pending => panic!("nothing in this world takes a second poll"),
        }
    }

    /// A request that others may overtake: it goes on when it is [looked at](Begun::reply). From now on, time passes only when a
    /// test says so.
    pub fn begin<'a>(
        &'a self,
        method: &str,
        target: &str,
        fields: &[(&'static str, &str)],
        body: &str,
    ) -> Begun<'a> {
        self.begin_if_waits(method, target, fields, body).expect("answered at once")
    }

    /// The same, if it is not answered at once.
    pub fn begin_if_waits<'a>(
        &'a self,
        method: &str,
        target: &str,
        fields: &[(&'static str, &str)],
        body: &str,
    ) -> Option<Begun<'a>> {
        self.world.in_steps.set(true);
        let (head, body) = self.parts(method, target, fields, body);
        let mut begun = Begun { gateway: self, answer: Box::pin(self.gateway.answer(head, body)) };
        begun.reply().is_none().then_some(begun)
    }

    /// Lets the first call that is held have its answer, as soon as its request is looked at.
    pub fn release(&self) {
        self.world.released.set(self.world.released.get() + 1);
    }

    /// A read of the component that is composed with the gateway.
    pub fn read(&self, name: &str, version: Option<&str>) -> Result<String, NoValue> {
        self.found(name, version, false).map(|it| it.kept.secret.value.expose().clone())
    }

    /// The same with what there is to know of it; `again` has the vault asked.
    pub fn found(&self, name: &str, version: Option<&str>, again: bool) -> Result<Found, NoValue> {
        let read = self.gateway.read(name, version, again);
        match pin!(read).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(mut read) => {
                self.world.search_rest();
                self.renewal.replace(read.as_mut().ok().and_then(|it| it.renewal.take()));
                read
            }
            Poll::Pending => panic!("nothing in this world takes a second poll"),
        }
    }

    /// What that component can have at once.
    pub fn at_hand(&self, name: &str, version: Option<&str>) -> Option<String> {
        self.gateway.at_hand(name, version).map(|it| it.secret.value.expose().clone())
    }

    /// What that component is told of the vault.
    pub fn vault(&self) -> Result<String, NoValue> {
        self.gateway.vault()
    }

    /// A request whose client hangs up while a call is under way. False if it was answered before that.
    pub fn hang_up(&self, method: &str, target: &str, fields: &[(&'static str, &str)], body: &str) -> bool {
        let (head, body) = self.parts(method, target, fields, body);
        let hung_up =
            pin!(self.gateway.answer(head, body)).poll(&mut Context::from_waker(Waker::noop())).is_pending();
        self.world.search_rest();
        hung_up
    }

    fn parts(
        &self,
        method: &str,
        target: &str,
        fields: &[(&'static str, &str)],
        body: &str,
    ) -> (Head, ScriptedBody) {
        self.world.learn_request(target, fields);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let fields = fields.iter().copied().collect();
        let head = Head { method, target: target.to_owned(), fields };
        (head, ScriptedBody { content: body.as_bytes().to_vec(), world: Rc::clone(&self.world) })
    }

    /// The same for who wants a fresh value.
    pub fn post_no_cache(&self, body: &str) -> Reply {
        let fields = [
            ("content-type", "application/json"),
            ("x-functions-key", "the-right-key"),
            ("cache-control", "no-cache"),
        ];
        self.request("POST", "/", &fields, body)
    }

    /// Does what was left to do after the last answer, as a host of WASI 0.3 does; false if that was nothing.
    pub fn renew(&self) -> bool {
        let Some(renewal) = self.renewal.take() else { return false };
        match pin!(self.gateway.renew(renewal)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => {
                self.world.search_rest();
                true
            }
            Poll::Pending => panic!("nothing in this world takes a second poll"),
        }
    }

    /// The steady clock's time.
    pub fn now(&self) -> Duration {
        self.world.now.get()
    }

    /// Method and address of each call.
    pub fn calls(&self) -> Vec<String> {
        self.world.calls.borrow().iter().map(|it| it.address.clone()).collect()
    }

    /// The header fields of each call.
    pub fn fields(&self) -> Vec<Vec<String>> {
        self.world.calls.borrow().iter().map(|it| it.fields.clone()).collect()
    }

    /// The limit of each call.
    pub fn limits(&self) -> Vec<Duration> {
        self.world.calls.borrow().iter().map(|it| it.limit).collect()
    }

    pub fn log(&self) -> Vec<String> {
        self.world.log.borrow().clone()
    }

    pub fn body_was_read(&self) -> bool {
        self.world.body_was_read.get()
    }
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
        self.gateway.world.search_reply(&answered.reply, true);
        self.gateway.world.search_rest();
        Some(answered.reply)
    }
}

/// The calendar clock of the host when a test begins, in Unix seconds.
pub const BEGINNING: u64 = 1_735_689_599;

#[derive(Default)]
struct World {
    settings: Vec<(&'static str, &'static str)>,
    now: Cell<Duration>,
    latency: Cell<Duration>,
    body_time: Cell<Duration>,
    /// Whether a sleep lasts until the test has let that time pass.
    in_steps: Cell<bool>,
    held: Cell<u32>,
    released: Cell<u32>,
    answers: RefCell<VecDeque<Seen>>,
    calls: RefCell<Vec<SeenCall>>,
    log: RefCell<Vec<String>>,
    body_was_read: Cell<bool>,
    private: RefCell<Search>,
    searched: Cell<(usize, usize)>,
}

impl World {
    fn hide(&self, what: Private, text: &str) {
        // A shorter one is a word that could be anywhere.
        if text.len() >= SHORTEST {
            self.private.borrow_mut().add(what, text);
        }
    }

    /// Learns the token or the value of an answer that is to come.
    fn learn(&self, answer: &Seen) {
        let body = match answer {
            Seen::Answer(_, _, body) => body,
            Seen::Held(answer) | Seen::After(_, answer) => return self.learn(answer),
            Seen::Nothing(_) | Seen::Late | Seen::Never => return,
        };
        let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else { return };
        for (name, what) in [("access_token", Private::Token), ("value", Private::Value)] {
            if let Some(text) = body[name].as_str() {
                self.hide(what, text);
            }
        }
    }

    /// Learns the key and the token that a request shows, right or wrong.
    fn learn_request(&self, target: &str, fields: &[(&'static str, &str)]) {
        let query = target.split_once('?').map_or("", |it| it.1);
        for code in query.split('&').filter_map(|it| it.strip_prefix("code=")) {
            self.hide(Private::CallerKey, code);
        }
        for (name, value) in fields {
            match *name {
                "x-functions-key" => self.hide(Private::CallerKey, value),
                "authorization" => {
                    self.hide(Private::CallerToken, value.strip_prefix("Bearer ").unwrap_or(value));
                }
                _ => {}
            }
        }
    }

    /// Looks for what is private in a reply.
    fn search_reply(&self, reply: &Reply, asks_for_secret: bool) {
        let private = self.private.borrow();
        let has_value = asks_for_secret && reply.status() == 200;
        let allowed: &[Private] = if has_value { &[Private::Value] } else { &[] };
        for (name, value) in reply.fields().as_list() {
            private.expect_nothing(name, &[], "the name of a reply's field");
            private.expect_nothing(value, &[], "a field of a reply");
        }
        private.expect_nothing(reply.body().expose(), allowed, "a reply");
    }

    /// The same in the lines and the calls since the last time.
    fn search_rest(&self) {
        let private = self.private.borrow();
        let (lines, calls) = (self.log.borrow(), self.calls.borrow());
        let (old_lines, old_calls) = self.searched.replace((lines.len(), calls.len()));
        lines[old_lines..].iter().for_each(|it| private.expect_nothing(it, &[], "a line"));
        for SeenCall { address, fields, body, .. } in &calls[old_calls..] {
            let own: &[Private] = if address.starts_with("GET https://my-vault.") {
                &[Private::Token]
            } else if address.ends_with("/discovery/v2.0/keys") {
                // The directory's keys are for everybody, so that nobody has to show anything.
                &[]
            } else {
                &[Private::IdentitySecret]
            };
            private.expect_nothing(format!("{address} {fields:?}"), own, "a call");
            private.expect_nothing(body, own, "the body of a call");
        }
    }
}

struct SeenCall {
    address: String,
    fields: Vec<String>,
    body: Vec<u8>,
    limit: Duration,
}

struct InWorld(Rc<World>);

impl Host for InWorld {
    type Stores = NoStores;

    fn setting(&self, name: &'static str) -> Result<Option<String>, Unreadable> {
        Ok(self.0.settings.iter().rfind(|it| it.0 == name).map(|it| it.1.to_owned()))
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.0.now.get())
    }

    fn unix_time(&self) -> u64 {
        BEGINNING + self.0.now.get().as_secs()
    }

    fn random(&self) -> u64 {
        7
    }

    fn log(&self, line: &str) {
        self.0.log.borrow_mut().push(line.to_owned());
    }

    async fn send(&self, call: Call, limit: Duration) -> Result<Answer, NoAnswer> {
        let endpoint = call.endpoint();
        let scheme = if endpoint.is_tls() { "https" } else { "http" };
        let address =
            format!("{} {scheme}://{}{}", call.method(), endpoint.authority(), endpoint.path_and_query());
        let fields =
            call.headers().iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect();
        let body = call.body().expose().clone();
        self.0.calls.borrow_mut().push(SeenCall { address, fields, body, limit });
        self.0.now.set(self.0.now.get() + self.0.latency.get());
        let mut answer = self.0.answers.borrow_mut().pop_front();
        if let Some(Seen::Held(held)) = answer {
            let number = self.0.held.get();
            self.0.held.set(number + 1);
            until(|| self.0.released.get() > number).await;
            answer = Some(*held);
        }
        if let Some(Seen::After(time, seen)) = answer {
            self.sleep(time.min(limit)).await;
            answer = Some(if time < limit { *seen } else { Seen::Nothing(NoAnswer::TimedOut) });
        }
        match answer {
            Some(Seen::Answer(status, retry_after, body)) => {
                Ok(Answer::new(status, retry_after.map(str::to_owned), body.into_bytes()))
            }
            Some(Seen::Nothing(reason)) => Err(reason),
            Some(Seen::Late) => {
                self.sleep(limit).await;
                Err(NoAnswer::TimedOut)
            }
            Some(Seen::Never) => pending().await,
            Some(Seen::Held(_) | Seen::After(..)) => panic!("one in the other"),
            None => panic!("one call more than the script has answers"),
        }
    }

    async fn sleep(&self, time: Duration) {
        let end = self.0.now.get() + time;
        if self.0.in_steps.get() {
            until(|| self.0.now.get() >= end).await;
        } else {
            self.0.now.set(end);
        }
    }

    type Signal = Rc<()>;

    fn signal(&self) -> (Rc<()>, impl Future<Output = ()>) {
        let signal = Rc::new(());
        let dropped = Rc::downgrade(&signal);
        (signal, until(move || dropped.strong_count() == 0))
    }
}

/// Waits for what a test does between two looks.
async fn until(done: impl Fn() -> bool) {
    poll_fn(|_| if done() { Poll::Ready(()) } else { Poll::Pending }).await;
}

struct ScriptedBody {
    content: Vec<u8>,
    world: Rc<World>,
}

impl Body for ScriptedBody {
    fn authority(&self) -> Option<String> {
        None
    }

    async fn read(self, most: usize, end: Moment) -> Result<Vec<u8>, NoBody> {
        self.world.body_was_read.set(true);
        let whole = self.world.now.get() + self.world.body_time.get();
        self.world.now.set(whole.min(end.from_start()));
        if whole > end.from_start() {
            return Err(NoBody::TimedOut);
        }
        if self.content.len() > most { Err(NoBody::TooLarge) } else { Ok(self.content) }
    }
}
