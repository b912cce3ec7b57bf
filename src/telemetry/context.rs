//! The request context: what is known of a request while it is answered.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::auth::Caller;
use crate::error::Service;
use crate::http::trace::Trace;
use crate::model::{Deadline, Moment, SecretName};

/// One request, from its arrival to its log line.
#[derive(Debug)]
pub struct RequestContext<'a> {
    pub start: Moment,
    pub deadline: Deadline,
    /// When a request for several secrets was known. It looks for some of them much later.
    pub asked: Option<Moment>,
    pub trace: Rc<Trace>,
    pub caller: Option<&'a Caller>,
    pub secret: Option<SecretName>,
    pub calls: CallCount,
}

/// The calls to Azure that a request has made, by service.
#[derive(Debug, Default)]
pub struct CallCount {
    token_source: Cell<u32>,
    vault: Cell<u32>,
    jwks: Cell<u32>,
}

impl<'a> RequestContext<'a> {
    /// The context of a request that came at `start`. It has no time for calls until the settings say how
    /// much.
    pub fn new(start: Moment, trace: Trace) -> Self {
        let (trace, calls) = (Rc::new(trace), CallCount::default());
        let deadline = Deadline::new(start, Duration::ZERO);
        Self { start, deadline, asked: None, trace, caller: None, secret: None, calls }
    }

    /// The context of one of several secrets that a request asks for.
    pub fn of_item(&self, caller: &'a Caller, secret: SecretName) -> Self {
        let (start, deadline, trace) = (self.start, self.deadline, Rc::clone(&self.trace));
        Self {
            start,
            deadline,
            asked: self.asked,
            trace,
            caller: Some(caller),
            secret: Some(secret),
            calls: CallCount::default(),
        }
    }

    /// Whether the request is late at `now`, when it looks for its secret: it has waited for its body or for
    /// a JWKS.
    pub fn is_late(&self, now: Moment) -> bool {
        self.asked.unwrap_or(now).since(self.start) > LATE
    }
}

impl CallCount {
    pub fn add(&self, service: Service) {
        let count = match service {
            Service::TokenSource => &self.token_source,
            Service::Vault => &self.vault,
            Service::Jwks => &self.jwks,
        };
        count.set(count.get().saturating_add(1));
    }

    /// Adds the calls of an item.
    pub fn add_all(&self, item: &Self) {
        for (own, of_item) in
            [(&self.token_source, &item.token_source), (&self.vault, &item.vault), (&self.jwks, &item.jwks)]
        {
            own.set(own.get().saturating_add(of_item.get()));
        }
    }

    pub const fn vault(&self) -> u32 {
        self.vault.get()
    }

    /// The calls for the secret; those for a JWKS were made to find out who the caller is.
    pub const fn for_secret(&self) -> u32 {
        self.token_source.get().saturating_add(self.vault.get())
    }

    pub const fn total(&self) -> u32 {
        self.for_secret().saturating_add(self.jwks.get())
    }
}

/// A client on the same machine or in the same data centre sends its few bytes with the head, or right behind
/// it.
const LATE: Duration = Duration::from_millis(100);
