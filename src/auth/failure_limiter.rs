//! The failed-authentication limiter, which slows down guessing of keys and tokens.

use std::cell::Cell;
use std::time::Duration;

use crate::error::{AuthFailure, Error};
use crate::model::Moment;

/// The failed authentications of an instance. A request with a valid key or token is never limited.
#[derive(Debug)]
pub struct AuthFailureLimiter {
    window_start: Cell<Moment>,
    failures: Cell<u32>,
}

impl AuthFailureLimiter {
    pub const fn new() -> Self {
        Self { window_start: Cell::new(Moment::after_start(Duration::ZERO)), failures: Cell::new(0) }
    }

    /// Counts a failure at `now` and returns its error. The first [`MAX_FAILURES`] of a [`WINDOW`] are
    /// refused without a `Retry-After`; further ones get the time until the end of the window. The error does
    /// not depend on the credential, but for the `reason` in the log.
    pub fn record(&self, reason: AuthFailure, now: Moment) -> Error {
        if now.since(self.window_start.get()) >= WINDOW || self.failures.get() == 0 {
            self.window_start.set(now);
            self.failures.set(0);
        }
        self.failures.set(self.failures.get().saturating_add(1));
        if self.failures.get() <= MAX_FAILURES {
            Error::NotAuthenticated(reason)
        } else {
            Error::TooManyFailures(WINDOW.saturating_sub(now.since(self.window_start.get())))
        }
    }
}

impl Default for AuthFailureLimiter {
    fn default() -> Self {
        Self::new()
    }
}

/// Enough for the callers of a fleet that still have yesterday's key, and for a person who mistypes one.
pub const MAX_FAILURES: u32 = 20;

/// Long enough to allow a client that respects `Retry-After` no more than two guesses per second, and short
/// enough not to lock out a caller that has fixed its key.
pub const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_beyond_the_limit_get_a_retry_after() {
        let limiter = AuthFailureLimiter::new();
        for window in 0..3 {
            let start = 100 + 10 * window;
            for _ in 0..MAX_FAILURES {
                assert_eq!(limiter.record(KEY, at(start)), Error::NotAuthenticated(KEY));
            }
            for (second, left) in [(0, 10), (0, 10), (4, 6), (9, 1)] {
                let error = Error::TooManyFailures(Duration::from_secs(left));
                assert_eq!(limiter.record(KEY, at(start + second)), error, "{window} {second}");
            }
        }
    }

    #[test]
    fn a_window_begins_with_a_failure() {
        let limiter = AuthFailureLimiter::new();
        assert_eq!(limiter.record(KEY, at(0)), Error::NotAuthenticated(KEY));
        for _ in 1..MAX_FAILURES {
            assert_eq!(limiter.record(KEY, at(9)), Error::NotAuthenticated(KEY));
        }
        assert_eq!(limiter.record(KEY, at(9)), Error::TooManyFailures(Duration::from_secs(1)));
        assert_eq!(limiter.record(KEY, at(10)), Error::NotAuthenticated(KEY));
    }

    const KEY: AuthFailure = AuthFailure::ApiKey;

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }
}
