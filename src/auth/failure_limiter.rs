//! How often callers have failed to say who they are, so that guessing is slow.

use std::cell::Cell;
use std::time::Duration;

use crate::error::Error;
use crate::model::Moment;

/// The failures of an instance. Nobody who has shown a good key or a good token is ever asked to wait.
#[derive(Debug)]
pub struct AuthFailureLimiter {
    since: Cell<Moment>,
    failures: Cell<u32>,
}

impl AuthFailureLimiter {
    /// None so far.
    pub const fn new() -> Self {
        Self { since: Cell::new(Moment::after_start(Duration::ZERO)), failures: Cell::new(0) }
    }

    /// Notes a failure at `now`, and says what it is answered with: the first [`MOST_FAILURES`] of every [`SPAN`] that
    /// there is no access, and the rest to come back when the span is over. Whatever was shown, the answer is the same.
    pub fn record(&self, now: Moment) -> Error {
        if now.since(self.since.get()) >= SPAN || self.failures.get() == 0 {
            self.since.set(now);
            self.failures.set(0);
        }
        self.failures.set(self.failures.get().saturating_add(1));
        if self.failures.get() <= MOST_FAILURES {
            Error::NotAuthenticated
        } else {
            Error::TooManyFailures(SPAN.saturating_sub(now.since(self.since.get())))
        }
    }
}

impl Default for AuthFailureLimiter {
    fn default() -> Self {
        Self::new()
    }
}

/// Enough for the callers of a fleet that come with yesterday's key, and for a person who mistypes one.
pub const MOST_FAILURES: u32 = 20;

/// Long enough that a client which heeds `Retry-After` makes two guesses a second and no more, short enough that nobody
/// waits for long who has mended a mistake.
pub const SPAN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failures_are_told_no_and_the_rest_to_wait() {
        let guesses = AuthFailureLimiter::new();
        for span in 0..3 {
            let start = 100 + 10 * span;
            for _ in 0..MOST_FAILURES {
                assert_eq!(guesses.record(at(start)), Error::NotAuthenticated);
            }
            for (second, left) in [(0, 10), (0, 10), (4, 6), (9, 1)] {
                let error = Error::TooManyFailures(Duration::from_secs(left));
                assert_eq!(guesses.record(at(start + second)), error, "{span} {second}");
            }
        }
    }

    #[test]
    fn a_span_begins_with_a_failure() {
        let guesses = AuthFailureLimiter::new();
        assert_eq!(guesses.record(at(0)), Error::NotAuthenticated);
        for _ in 1..MOST_FAILURES {
            assert_eq!(guesses.record(at(9)), Error::NotAuthenticated);
        }
        assert_eq!(guesses.record(at(9)), Error::TooManyFailures(Duration::from_secs(1)));
        assert_eq!(guesses.record(at(10)), Error::NotAuthenticated);
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }
}
