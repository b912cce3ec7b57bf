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

    /// Begins an attempt, or tells what is known if there was one a short while ago.
    pub fn attempt(&self, now: Moment) -> Result<Attempt<'_>, Result<(), Error>> {
        let mut known = self.0.borrow_mut();
        if known.tried.is_some_and(|it| now.since(it) < READINESS_PAUSE) {
            return Err(known.outcome.clone());
        }
        known.tried = Some(now);
        Ok(Attempt { readiness: self, start: now, ended: false })
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// The one request that finds out about readiness. If it goes away before it has, the next one may try at once.
#[derive(Debug)]
pub struct Attempt<'a> {
    readiness: &'a Readiness,
    start: Moment,
    ended: bool,
}

impl Attempt<'_> {
    /// Notes what came of it.
    pub fn end(mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        self.readiness.0.borrow_mut().outcome = outcome.clone();
        self.ended = true;
        outcome
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut last = self.readiness.0.borrow_mut();
        if !self.ended && last.tried == Some(self.start) {
            last.tried = None;
        }
    }
}

/// Probes come every few seconds from every side; what they cost Azure must not grow with their number.
const READINESS_PAUSE: Duration = Duration::from_secs(5);
