//! What is known of being ready, and how often that is found out.

use core::cell::RefCell;
use core::time::Duration;

use crate::error::Error;
use crate::host::Moment;

/// Whether a token could be had when it was last tried, and when that was.
#[derive(Debug)]
pub struct Readiness(RefCell<Known>);

#[derive(Debug)]
struct Known {
    tried: Option<Moment>,
    outcome: Result<(), Error>,
}

impl Readiness {
    /// Nothing tried yet, which is as good as no token.
    pub const fn new() -> Self {
        Self(RefCell::new(Known { tried: None, outcome: Err(Error::IdentityUnavailable(None)) }))
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
            known.outcome = Err(Error::IdentityUnavailable(None));
        }
        Some(Attempt(self))
    }

    /// What is known: that there is no token, and why if the last attempt has ended.
    pub fn known(&self) -> Result<(), Error> {
        self.0.borrow().outcome.clone()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// The one request that finds out about readiness. If it goes away before it has, nothing more is known until the pause is over:
/// whoever asks needs no key, and could ask and go away without end.
#[derive(Debug)]
pub struct Attempt<'a>(&'a Readiness);

impl Attempt<'_> {
    /// Notes what came of it.
    pub fn end(self, outcome: Result<(), Error>) -> Result<(), Error> {
        self.0.0.borrow_mut().outcome = outcome.clone();
        outcome
    }
}

/// Probes come every few seconds from every side; what they cost Azure must not grow with their number.
const READINESS_PAUSE: Duration = Duration::from_secs(5);
