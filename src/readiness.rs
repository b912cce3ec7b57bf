//! The readiness of an instance, and how often it is checked.

use std::cell::RefCell;
use std::time::Duration;

use crate::error::{Error, FailureKind, Service};
use crate::model::Moment;

/// The result of the last check whether a token can be fetched, and when the check began.
#[derive(Debug)]
pub struct Readiness(RefCell<State>);

#[derive(Debug)]
struct State {
    last_attempt: Option<Moment>,
    /// How many attempts in a row were abandoned, as their clients disconnected.
    abandoned: u32,
    outcome: Result<(), Error>,
}

impl Readiness {
    /// No attempt yet, which counts as no token.
    pub const fn new() -> Self {
        Self(RefCell::new(State {
            last_attempt: None,
            abandoned: 0,
            outcome: Err(Error::upstream(Service::TokenSource, FailureKind::Failing, None)),
        }))
    }

    /// Begins an attempt, unless another one began within [`MIN_INTERVAL`].
    pub fn attempt(&self, now: Moment) -> Option<Attempt<'_>> {
        let mut state = self.0.borrow_mut();
        if state.last_attempt.is_some_and(|start| now.since(start) < MIN_INTERVAL) {
            return None;
        }
        state.last_attempt = Some(now);
        // An attempt begins only if there is no valid token. So an earlier success is cleared, before other
        // requests get it.
        if state.outcome.is_ok() {
            state.outcome = Err(Error::upstream(Service::TokenSource, FailureKind::Failing, None));
        }
        Some(Attempt { readiness: self, ended: false })
    }

    /// The result of the last attempt that has ended. A success counts only until the next attempt begins.
    pub fn last_result(&self) -> Result<(), Error> {
        self.0.borrow().outcome.clone()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// An attempt by one request. If its client disconnects, another request may begin one at once, as one client
/// must not decide what others are told. `/readyz` needs no key, so a client could begin attempts and
/// disconnect without end: after [`MAX_ABANDONED`] in a row the next attempt has to wait.
#[derive(Debug)]
pub struct Attempt<'a> {
    readiness: &'a Readiness,
    ended: bool,
}

impl Attempt<'_> {
    /// Records the result of the attempt.
    pub fn end(mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        self.ended = true;
        let mut state = self.readiness.0.borrow_mut();
        state.abandoned = 0;
        state.outcome.clone_from(&outcome);
        outcome
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.readiness.0.borrow_mut();
        state.abandoned = state.abandoned.saturating_add(1);
        if state.abandoned < MAX_ABANDONED {
            state.last_attempt = None;
        } else {
            state.abandoned = 0;
        }
    }
}

/// The time between attempts. Probes come every few seconds from several sides, and the calls to Azure must
/// not grow with their number.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// Probes of some platforms do disconnect, so the first few are free.
const MAX_ABANDONED: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_three_abandoned_attempts_the_next_has_to_wait() {
        let readiness = Readiness::new();
        for round in 0..3 {
            let start = Moment::after_start(Duration::from_secs(100 + 5 * round));
            for attempt in 0..MAX_ABANDONED {
                drop(readiness.attempt(start).unwrap_or_else(|| panic!("{round} {attempt}")));
            }
            assert!(readiness.attempt(start).is_none(), "{round}");
            assert_eq!(
                readiness.last_result(),
                Err(Error::upstream(Service::TokenSource, FailureKind::Failing, None))
            );
        }
    }

    #[test]
    fn a_finished_attempt_counts_for_five_seconds() {
        let readiness = Readiness::new();
        let at = |seconds| Moment::after_start(Duration::from_secs(seconds));
        drop(readiness.attempt(at(100)));
        let attempt = readiness.attempt(at(100)).unwrap();
        assert!(readiness.attempt(at(104)).is_none());
        assert_eq!(attempt.end(Err(Error::TokenSourceUnusable)), Err(Error::TokenSourceUnusable));
        assert!(readiness.attempt(at(104)).is_none());
        assert_eq!(readiness.last_result(), Err(Error::TokenSourceUnusable));
        assert!(readiness.attempt(at(105)).is_some());
    }
}
