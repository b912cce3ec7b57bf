//! What is known of a request while it is answered.

use std::cell::Cell;
use std::time::Duration;

use crate::auth::Caller;
use crate::error::Service;
use crate::http::cache_status::CacheStatus;
use crate::http::trace::Trace;
use crate::model::{Deadline, Moment, SecretName};

/// One request, from its arrival to its line in the log.
#[derive(Debug)]
pub struct RequestContext<'a> {
    /// When it came.
    pub start: Moment,
    /// By when it has to be answered.
    pub deadline: Deadline,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Who asks.
    pub caller: Option<&'a Caller>,
    /// Whether it had waited, for its body or for the keys of a token, before it looked for the secret: then it has less time for that
    /// than others.
    pub late: Cell<bool>,
    /// For what.
    pub secret: Option<SecretName>,
    /// How the answer came about.
    pub cache: Cell<Option<CacheStatus>>,
    /// How many calls to Azure it made.
    pub calls: Cell<u32>,
    /// How many of them went to the vault.
    pub to_vault: Cell<u32>,
    /// Whether one of them was for the secret, and not only to find out who asks.
    pub asked: Cell<bool>,
}

impl RequestContext<'_> {
    /// A request that came at `start` and has no time for calls until the settings say how much.
    pub const fn new(start: Moment, trace: Trace) -> Self {
        let deadline = Deadline::new(start, Duration::ZERO);
        Self {
            start,
            deadline,
            trace,
            caller: None,
            late: Cell::new(false),
            secret: None,
            cache: Cell::new(None),
            calls: Cell::new(0),
            to_vault: Cell::new(0),
            asked: Cell::new(false),
        }
    }

    /// Notes that nothing in memory will do at `now`, so that Azure has to be asked.
    pub fn missed(&self, now: Moment) {
        self.late.set(now.since(self.start) > LATE);
    }

    /// Notes a call.
    pub fn called(&self, upstream: Service) {
        self.calls.set(self.calls.get().saturating_add(1));
        if upstream == Service::Vault {
            self.to_vault.set(self.to_vault.get().saturating_add(1));
        }
        self.asked.set(self.asked.get() || upstream != Service::Directory);
    }
}

/// A client on the same machine or in the same data centre sends its few bytes with the head, or right behind it.
const LATE: Duration = Duration::from_millis(100);
