//! What is known of being ready, and how often that is found out.

use std::cell::RefCell;
use std::time::Duration;

use crate::error::{Error, FailureKind, Service};
use crate::model::Moment;

/// Whether a token could be had when it was last tried, and when that was.
#[derive(Debug)]
pub struct Readiness(RefCell<Known>);

#[derive(Debug)]
struct Known {
    tried: Option<Moment>,
    /// How many attempts in a row were abandoned, as their clients hung up.
    abandoned: u32,
    outcome: Result<(), Error>,
}

impl Readiness {
    /// Nothing tried yet, which is as good as no token.
    pub const fn new() -> Self {
        Self(RefCell::new(Known {
            tried: None,
            abandoned: 0,
            outcome: Err(Error::upstream(Service::TokenSource, FailureKind::Failing, None)),
        }))
    }

    /// Begins an attempt, unless there was one a short while ago.
    pub fn attempt(&self, now: Moment) -> Option<Attempt<'_>> {
        let mut known = self.0.borrow_mut();
        if known.tried.is_some_and(|it| now.since(it) < READINESS_PAUSE) {
            return None;
        }
        known.tried = Some(now);
        // There is no token, or nobody would have to try. What was once is no answer for who asks meanwhile.
        if known.outcome.is_ok() {
            known.outcome = Err(Error::upstream(Service::TokenSource, FailureKind::Failing, None));
        }
        Some(Attempt { readiness: self, ended: false })
    }

    /// What is known: that there is no token, and why if the last attempt has ended.
    pub fn last_result(&self) -> Result<(), Error> {
        self.0.borrow().outcome.clone()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// The one request that finds out about readiness. If its client hangs up, another request may find out at once, as what one client
/// does must not decide what others are told. `/readyz` needs no key, and a client could ask and hang up without end: after
/// [`MOST_ABANDONED`] in a row the next attempt has to wait.
#[derive(Debug)]
pub struct Attempt<'a> {
    readiness: &'a Readiness,
    ended: bool,
}

impl Attempt<'_> {
    /// Notes what came of it.
    pub fn end(mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        self.ended = true;
        let mut known = self.readiness.0.borrow_mut();
        known.abandoned = 0;
        known.outcome.clone_from(&outcome);
        outcome
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut known = self.readiness.0.borrow_mut();
        known.abandoned = known.abandoned.saturating_add(1);
        if known.abandoned < MOST_ABANDONED {
            known.tried = None;
        } else {
            known.abandoned = 0;
        }
    }
}

/// Probes come every few seconds from every side; what they cost Azure must not grow with their number.
const READINESS_PAUSE: Duration = Duration::from_secs(5);

/// Probes of some platforms do hang up, so the first few cost nothing.
const MOST_ABANDONED: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_attempt_leaves_its_place_up_to_three_times() {
        let readiness = Readiness::new();
        for round in 0..3 {
            let start = Moment::after_start(Duration::from_secs(100 + 5 * round));
            for attempt in 0..MOST_ABANDONED {
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
    fn an_attempt_that_ends_is_the_only_one_for_a_while() {
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
