//! The port: what the core needs of the world.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::azure::{Answer, Call};
use crate::env::Unreadable;
use crate::model::Moment;

/// The world, as the core sees it. Each binding implements it once, and so does each test.
pub trait Host {
    /// The text of the setting `name` (an environment variable, or what the host has in its place), if it is
    /// there. Fails where the host has it but cannot tell it.
    fn setting(&self, name: &'static str) -> Result<Option<String>, Unreadable>;

    /// A clock that never goes back, for deadlines and ages.
    fn now(&self) -> Moment;

    /// Seconds since 1970-01-01T00:00:00Z by the host's calendar clock, for expiries that Azure gives as a
    /// date and for the time in a log line.
    fn unix_time(&self) -> u64;

    /// Sixty-four random bits.
    fn random(&self) -> u64;

    /// Writes `line` to the log.
    fn log(&self, line: &str);

    /// The host's stores, which outlive an instance.
    type KeyValue: KeyValue;

    /// Sends `call` and reads its whole answer, within `limit` and within [`Call::answer_limit`] bytes.
    ///
    /// The host follows no redirect and holds to `limit` by its own clock as well as by the timeouts that it
    /// sets on the request, as some hosts have phases without one.
    fn send(&self, call: Call, limit: Duration) -> impl Future<Output = Result<Answer, CallError>>;

    /// Waits until `time` has passed. A host that serves one request at a time may do so without returning.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;

    /// What [`signal`](Self::signal) gives to the one who wakes.
    type Signal;

    /// A signal, and what waits for it: the wait ends when the signal is dropped, whoever drops it and for whatever
    /// reason. This is the only way in which one request of an instance wakes another: under WASI 0.3 a waker cannot.
    fn signal(&self) -> (Self::Signal, impl Future<Output = ()>);
}

/// What `future` comes to, unless `limit` runs out first; then it is dropped.
pub async fn within<T>(host: &impl Host, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = pin!(host.sleep(limit));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Stores of entries, each with a label that its host knows. What cannot be done is not done: whoever keeps something here has to
/// do without it.
pub trait KeyValue {
    /// Whether there are any. Where there are none, nothing else is called.
    const THERE: bool;

    /// Whether the host has a store of this label that it lets us open. One that fails for another reason may be there.
    fn may_be_opened(label: &str) -> bool;

    /// The entry called `name`, if it is there.
    fn entry(label: &str, name: &str) -> Option<Vec<u8>>;

    /// The names of all entries, of ours and of others.
    fn names(label: &str) -> Vec<String>;

    /// Keeps an entry, in place of one of the same name.
    fn keep(label: &str, name: &str, entry: &[u8]);

    /// Drops an entry.
    fn forget(label: &str, name: &str);
}

/// The stores of a host that has none.
#[derive(Debug)]
pub struct NoKeyValue;

impl KeyValue for NoKeyValue {
    const THERE: bool = false;

    fn may_be_opened(_: &str) -> bool {
        false
    }

    fn entry(_: &str, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn names(_: &str) -> Vec<String> {
        Vec::new()
    }

    fn keep(_: &str, _: &str, _: &[u8]) {}

    fn forget(_: &str, _: &str) {}
}

/// A request that is being answered, as far as its host still has it: its body, and what is seldom needed.
pub trait Body {
    /// The authority that the request is for, if the host tells it apart from the `Host` field.
    fn authority(&self) -> Option<String>;

    /// Reads it whole, if it has at most `most` bytes and is there by `end`.
    fn read(self, most: usize, end: Moment) -> impl Future<Output = Result<Vec<u8>, BodyError>>;
}

/// Why a call brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No connection, or one that broke before the answer was whole.
    Lost,
    /// The host does not let calls go there.
    NotAllowed,
    /// The limit ran out.
    TimedOut,
    /// The answer is larger than the call allows.
    TooLarge,
}

/// Why the body of a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The client went away or sent something that is not a body.
    Lost,
    /// The limit ran out.
    TimedOut,
    /// It is larger than allowed.
    TooLarge,
}
