//! A fake host for the gateway's core: a test sets its settings, answers and clock.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keyvault_gateway::azure::{Answer, Call, CallError};
use keyvault_gateway::env::Setting;
use keyvault_gateway::error::TokenFileError;
use keyvault_gateway::host::{Body, BodyError, Host, KeyValue, KeyValueFuture, Signal};
use keyvault_gateway::model::{Moment, Redacted};

/// The outcome of a call. `Held` ends when the test releases it, `Late` after the limit of the call.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answer(Response),
    Failed(CallError),
    Late,
    Never,
    Held(Box<Outcome>),
    After(Duration, Box<Outcome>),
}

impl Outcome {
    pub fn held(self) -> Self {
        Self::Held(Box::new(self))
    }

    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }
}

/// An answer of Azure, with the headers `Retry-After` and `WWW-Authenticate`.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub retry_after: Option<String>,
    pub challenge: Option<String>,
    pub body: Vec<u8>,
}

pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Outcome {
    Outcome::Answer(Response { status, body: body.into(), ..Response::default() })
}

pub fn token(seconds: u64) -> Outcome {
    answer(200, format!(r#"{{"access_token":"the-token","token_type":"Bearer","expires_in":"{seconds}"}}"#))
}

/// Returns the secret `name` with `value`, in version [`VERSION`].
pub fn secret(name: &str, value: &str) -> Outcome {
    let id = format!("https://my-vault.vault.azure.net/secrets/{name}/{VERSION}");
    answer(200, serde_json::json!({"value": value, "id": id}).to_string())
}

type Answers = Box<dyn Fn(&Call) -> Outcome>;

/// The state of a fake host, which a test reads and changes.
#[derive(Default)]
pub struct World {
    /// Names and values; the last value of a name applies.
    pub settings: Vec<(String, String)>,
    /// The outcomes of the next calls, and of calls after these. A call without an outcome panics.
    pub script: RefCell<VecDeque<Outcome>>,
    pub unscripted: Option<Answers>,
    /// The time since the start, and the duration of a call and of reading a body.
    pub now: Cell<Duration>,
    pub latency: Cell<Duration>,
    pub body_time: Cell<Duration>,
    /// Whether a sleep waits until the test advances the clock, instead of advancing it.
    pub stepwise: Cell<bool>,
    /// The number of held outcomes so far, and of those that the test has released.
    pub held: Cell<u32>,
    pub released: Cell<u32>,
    /// The calls so far, with their limits.
    pub sent: RefCell<Vec<(Call, Duration)>>,
    pub log: RefCell<Vec<String>>,
    pub body_was_read: Cell<bool>,
    pub store: Option<FakeStore>,
    /// Whether there is a reader of token files, and what it returns: these in turn, and the last of them
    /// again and again.
    pub has_reader: bool,
    pub token_files: RefCell<VecDeque<Result<&'static str, TokenFileError>>>,
    /// The paths that were read.
    pub read_files: RefCell<Vec<String>>,
}

/// A key-value store of the fake host.
#[derive(Default)]
pub struct FakeStore {
    pub entries: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Whether its calls never return.
    pub hangs: Cell<bool>,
    pub calls: Cell<u32>,
}

impl FakeStore {
    fn call<'a, T: 'a>(
        &'a self,
        result: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T + 'a,
    ) -> KeyValueFuture<'a, T> {
        self.calls.set(self.calls.get() + 1);
        Box::pin(async move {
            if self.hangs.get() {
                pending::<()>().await;
            }
            result(&mut self.entries.borrow_mut())
        })
    }
}

impl KeyValue for FakeStore {
    fn may_open<'a>(&'a self, _: &'a str) -> KeyValueFuture<'a, bool> {
        Box::pin(ready(true))
    }

    fn read<'a>(&'a self, _: &'a str, name: &'a str) -> KeyValueFuture<'a, Option<Vec<u8>>> {
        self.call(|entries| entries.get(name).cloned())
    }

    fn names<'a>(&'a self, _: &'a str) -> KeyValueFuture<'a, Vec<String>> {
        self.call(|entries| entries.keys().cloned().collect())
    }

    fn write<'a>(&'a self, _: &'a str, name: &'a str, entry: &'a [u8]) -> KeyValueFuture<'a, ()> {
        self.call(|entries| drop(entries.insert(name.to_owned(), entry.to_vec())))
    }

    fn delete<'a>(&'a self, _: &'a str, name: &'a str) -> KeyValueFuture<'a, ()> {
        self.call(|entries| drop(entries.remove(name)))
    }
}

impl World {
    pub fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }
}

pub struct FakeHost(pub Rc<World>);

impl fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeHost(..)")
    }
}

impl Host for FakeHost {
    async fn settings(&self, names: &[&'static str]) -> Vec<Setting> {
        let text = |name: &str| self.0.settings.iter().rfind(|(known, _)| known == name);
        names.iter().map(|name| Ok(text(name).map(|(_, text)| text.clone()))).collect()
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

    fn has_reader(&self) -> bool {
        self.0.has_reader
    }

    fn read_token_file(&self, path: &str) -> Result<Redacted, TokenFileError> {
        self.0.read_files.borrow_mut().push(path.to_owned());
        let mut files = self.0.token_files.borrow_mut();
        let next = if files.len() > 1 { files.pop_front() } else { files.front().copied() };
        next.expect("there is no file").map(|text| Redacted::new(text.to_owned()))
    }

    async fn send(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let scripted = self.0.script.borrow_mut().pop_front();
        let unscripted = || self.0.unscripted.as_ref().map(|answer| answer(&call));
        let mut outcome = scripted.or_else(unscripted).expect("the script has no outcome for one more call");
        self.0.sent.borrow_mut().push((call, limit));
        self.0.pass(self.0.latency.get());
        loop {
            outcome = match outcome {
                Outcome::Answer(Response { status, retry_after, challenge, body }) => {
                    return Ok(Answer::new(status, retry_after, body).with_challenge(challenge));
                }
                Outcome::Failed(reason) => return Err(reason),
                Outcome::Late => Outcome::After(limit, Box::new(Outcome::Never)),
                Outcome::Never => pending().await,
                Outcome::Held(inner) => {
                    let number = self.0.held.replace(self.0.held.get() + 1);
                    until(|| self.0.released.get() > number).await;
                    *inner
                }
                Outcome::After(time, inner) => {
                    self.sleep(time.min(limit)).await;
                    if time < limit { *inner } else { Outcome::Failed(CallError::TimedOut) }
                }
            };
        }
    }

    async fn sleep(&self, time: Duration) {
        let end = self.0.now.get() + time;
        if self.0.stepwise.get() {
            until(|| self.0.now.get() >= end).await;
        } else {
            self.0.now.set(end);
        }
    }

    fn key_value(&self) -> Option<&dyn KeyValue> {
        self.0.store.as_ref().map(|store| store as &dyn KeyValue)
    }

    fn signal(&self) -> (Signal, impl Future<Output = ()>) {
        let signal = Rc::new(());
        let dropped = Rc::downgrade(&signal);
        (Signal::new(signal), until(move || dropped.strong_count() == 0))
    }
}

pub struct FakeBody(pub Vec<u8>, pub Rc<World>);

impl Body for FakeBody {
    fn authority(&self) -> Option<String> {
        None
    }

    async fn read(self, most: usize, end: Moment) -> Result<Vec<u8>, BodyError> {
        let Self(content, world) = self;
        world.body_was_read.set(true);
        let (whole, end) = (world.now.get() + world.body_time.get(), end.from_start());
        world.now.set(whole.min(end));
        match content.len() > most {
            _ if whole > end => Err(BodyError::TimedOut),
            true => Err(BodyError::TooLarge),
            false => Ok(content),
        }
    }
}

pub fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    if let Poll::Ready(output) = polled { Some(output) } else { None }
}

/// Waits until `done`, which a test changes between two polls.
async fn until(done: impl Fn() -> bool) {
    poll_fn(|_| if done() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// The calendar time at the start: 2024-12-31T23:59:59Z.
pub const BEGINNING: u64 = 1_735_689_599;

pub const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";
