//! A host for the gateway's core whose settings, answers and clock a test decides.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keyvault_gateway::azure::{Answer, Call};
use keyvault_gateway::env::Unreadable;
use keyvault_gateway::host::{Body, BodyError, CallError, Host, NoKeyValue};
use keyvault_gateway::model::Moment;

/// The outcome of a call. A held one comes when the test releases it, a late one not within the limit of the call.
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

/// An answer of Azure: the status, `Retry-After`, `WWW-Authenticate` and the body.
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

/// The secret `name` with `value`, in the version [`VERSION`].
pub fn secret(name: &str, value: &str) -> Outcome {
    let id = format!("https://my-vault.vault.azure.net/secrets/{name}/{VERSION}");
    answer(200, serde_json::json!({"value": value, "id": id}).to_string())
}

type Answers = Box<dyn Fn(&Call) -> Outcome>;

/// The world around a gateway, which a test reads and changes.
#[derive(Default)]
pub struct World {
    /// The last setting of a name counts.
    pub settings: Vec<(String, String)>,
    /// The names of the settings that the gateway has looked up.
    pub asked: RefCell<Vec<&'static str>>,
    /// The outcomes of the next calls, and the outcome of a call for which the script has none; without it, a panic.
    pub script: RefCell<VecDeque<Outcome>>,
    pub unscripted: Option<Answers>,
    /// The time since the start, and how long a call and the body of a request take.
    pub now: Cell<Duration>,
    pub latency: Cell<Duration>,
    pub body_time: Cell<Duration>,
    /// Whether a sleep waits until the test has let that time pass.
    pub stepwise: Cell<bool>,
    /// How many outcomes have been held, and how many of them the test has released.
    pub held: Cell<u32>,
    pub released: Cell<u32>,
    /// The calls so far, each with its limit.
    pub sent: RefCell<Vec<(Call, Duration)>>,
    pub log: RefCell<Vec<String>>,
    pub body_was_read: Cell<bool>,
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
    type KeyValue = NoKeyValue;
    type Signal = Rc<()>;

    fn setting(&self, name: &'static str) -> Result<Option<String>, Unreadable> {
        self.0.asked.borrow_mut().push(name);
        Ok(self.0.settings.iter().rfind(|setting| setting.0 == name).map(|setting| setting.1.clone()))
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

    fn signal(&self) -> (Rc<()>, impl Future<Output = ()>) {
        let signal = Rc::new(());
        let dropped = Rc::downgrade(&signal);
        (signal, until(move || dropped.strong_count() == 0))
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

/// Waits for what a test does between two polls.
async fn until(done: impl Fn() -> bool) {
    poll_fn(|_| if done() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// The calendar clock at the start: 2024-12-31T23:59:59Z.
pub const BEGINNING: u64 = 1_735_689_599;

pub const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";
