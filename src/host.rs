//! The port: what the core needs of its host. Each binding in `src/wasi/` implements it once, and so does
//! each test.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use crate::azure::{Answer, Call, CallError};
use crate::env::Unreadable;
use crate::error::{Error, TokenFileError};
use crate::model::{Moment, Redacted};

/// The host of an instance: its settings, clocks, random bits, log, HTTP client and key-value store.
pub trait Host {
    /// Reads the settings of these `names`, at the same time where the host can: environment variables, or
    /// what the host has in their place. A setting that is not set is `None`.
    fn settings(
        &self,
        names: &[&'static str],
    ) -> impl Future<Output = Vec<Result<Option<String>, Unreadable>>>;

    /// The time on a clock that never goes back, for deadlines and ages.
    fn now(&self) -> Moment;

    /// Seconds since 1970-01-01T00:00:00Z by the host's calendar clock, for expiries that Azure gives as a
    /// date and for the time in a log line.
    fn unix_time(&self) -> u64;

    /// Sixty-four random bits.
    fn random(&self) -> u64;

    /// Writes `line` to the log.
    fn log(&self, line: &str);

    /// The host's key-value store, which outlives an instance. Most hosts have none.
    fn key_value(&self) -> Option<&dyn KeyValue> {
        None
    }

    /// Whether the host has a reader of token files ([`read_token_file`](Self::read_token_file)).
    fn has_reader(&self) -> bool {
        false
    }

    /// Reads the token in the file with this path, anew each time. The instance stands still meanwhile, which
    /// no deadline ends: the file system has to be one that answers.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the file, or that there is no reader.
    fn read_token_file(&self, _path: &str) -> Result<Redacted, TokenFileError> {
        Err(TokenFileError::NoDirectory)
    }

    /// Sends `call` and reads its whole answer, within `limit` and within [`Call::answer_limit`] bytes.
    ///
    /// The host follows no redirect. It enforces `limit` by its own clock as well as by the timeouts that it
    /// sets on the request, as some hosts have phases without a timeout.
    fn send(&self, call: Call, limit: Duration) -> impl Future<Output = Result<Answer, CallError>>;

    /// Waits until `time` has passed. A host that serves one request at a time may block the instance
    /// meanwhile.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;

    /// Makes a signal and a future that ends when the signal is dropped, for whatever reason.
    ///
    /// This is the only way in which one request of an instance wakes another: under WASI 0.3 a waker of Rust
    /// cannot.
    fn signal(&self) -> (Signal, impl Future<Output = ()>);
}

/// One end of a wake-up: dropping it wakes the request that waits at the other end.
pub struct Signal(#[expect(dead_code, reason = "the signal is its drop")] Box<dyn Any>);

impl Signal {
    /// Wraps what the host drops to wake the waiting request.
    pub fn new(end: impl Any) -> Self {
        Self(Box::new(end))
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signal")
    }
}

/// Awaits `future` for at most `limit`, then drops it.
pub async fn within<T>(host: &impl Host, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    unless(host.sleep(limit), future).await
}

/// Awaits `future` until `end`, then drops it. If both are ready, `future` wins.
pub async fn unless<T>(end: impl Future<Output = ()>, future: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut future) = (pin!(end), pin!(future));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// A key-value store of the host, which has several, each with a label.
///
/// Best effort: errors are not reported, and entries may be missing.
pub trait KeyValue {
    /// Says whether the host has a store with this label that the component may open. A store that fails for
    /// another reason may exist, so that is `true`.
    fn may_open<'a>(&'a self, label: &'a str) -> KeyValueFuture<'a, bool>;

    /// Reads the entry called `name`, if it exists.
    fn read<'a>(&'a self, label: &'a str, name: &'a str) -> KeyValueFuture<'a, Option<Vec<u8>>>;

    /// Lists the names of all entries, including those of other applications.
    fn names<'a>(&'a self, label: &'a str) -> KeyValueFuture<'a, Vec<String>>;

    /// Writes an entry, in place of one with the same name.
    fn write<'a>(&'a self, label: &'a str, name: &'a str, entry: &'a [u8]) -> KeyValueFuture<'a, ()>;

    /// Deletes an entry.
    fn delete<'a>(&'a self, label: &'a str, name: &'a str) -> KeyValueFuture<'a, ()>;
}

/// What a call to a key-value store returns.
pub type KeyValueFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The body of a request that is being answered, not yet read.
pub trait Body {
    /// The authority that the request is for, if the host tells it apart from the `Host` header.
    fn authority(&self) -> Option<String>;

    /// Reads the whole body, if it has at most `limit` bytes and arrives by `end`.
    fn read(self, limit: usize, end: Moment) -> impl Future<Output = Result<Vec<u8>, BodyError>>;
}

/// Why the body of a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The client disconnected, or sent something that is not a body.
    Lost,
    /// The limit ran out.
    TimedOut,
    /// The body is larger than allowed.
    TooLarge,
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Lost => Self::BodyLost,
            BodyError::TimedOut => Self::DeadlineExceeded,
            BodyError::TooLarge => Self::BodyTooLarge,
        }
    }
}

impl From<BodyError> for CallError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Lost => Self::Lost,
            BodyError::TimedOut => Self::TimedOut,
            BodyError::TooLarge => Self::TooLarge,
        }
    }
}
