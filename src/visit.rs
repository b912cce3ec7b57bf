//! What is known of a request while it is answered.

use core::cell::Cell;
use core::time::Duration;

use crate::access::Caller;
use crate::azure::Upstream;
use crate::deadline::Deadline;
use crate::host::Moment;
use crate::reply::CacheStatus;
use crate::secret::SecretName;
use crate::trace::Trace;

/// One request, from its arrival to its line in the log.
#[derive(Debug)]
pub struct Visit<'a> {
    /// When it came.
    pub start: Moment,
    /// By when it has to be answered.
    pub deadline: Deadline,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Who asks.
    pub caller: Option<&'a Caller>,
    /// Whether its body came late, so that it has less time than others for reasons of its own.
    pub late: bool,
    /// For what.
    pub secret: Option<SecretName>,
    /// How the answer came about.
    pub cache: Cell<Option<CacheStatus>>,
    /// How many calls to Azure it made.
    pub calls: Cell<u32>,
    /// Whether one of them was for the secret, and not only to find out who asks.
    pub asked: Cell<bool>,
}

impl Visit<'_> {
    /// A request that came at `start` and has no time for calls until the settings say how much.
    pub const fn new(start: Moment, trace: Trace) -> Self {
        let deadline = Deadline::new(start, Duration::ZERO);
        Self {
            start,
            deadline,
            trace,
            caller: None,
            late: false,
            secret: None,
            cache: Cell::new(None),
            calls: Cell::new(0),
            asked: Cell::new(false),
        }
    }

    /// Notes a call.
    pub fn called(&self, upstream: Upstream) {
        self.calls.set(self.calls.get().saturating_add(1));
        self.asked.set(self.asked.get() || upstream != Upstream::Directory);
    }
}
