//! How much work one request may still do for an answer from Azure.

use std::time::Duration;

use crate::model::{Deadline, Moment};

/// How long a request may wait for Azure, and whether it may try again.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// The moment by which the answer must have arrived.
    pub by: Deadline,
    /// Whether the request may try again, and wait before that.
    pub retries: bool,
    /// Whether a sign-in that Entra ID refuses for no lasting reason may be tried again, after a wait. An
    /// expired value is not served after a refusal, so a request that has one waits too.
    pub signs_in_again: bool,
    /// The whole time that this request had for Azure, where that is less than the whole time of a request.
    pub stale_wait: Option<Duration>,
    /// Whether the request was late: it had waited, for its body or for a JWKS, before it looked for the
    /// secret. So it has less time for Azure than other requests have.
    pub late: bool,
}

impl RetryBudget {
    /// Retries until `by`.
    pub const fn full(by: Deadline) -> Self {
        Self { by, retries: true, signs_in_again: true, stale_wait: None, late: false }
    }

    /// One try without a wait, for a readiness probe.
    pub const fn one_try(by: Deadline) -> Self {
        Self { by, retries: false, signs_in_again: false, stale_wait: None, late: false }
    }

    /// One try without a wait, but for a sign-in, for a request that has a fallback and may wait for
    /// `stale_wait` from `start` on.
    pub fn with_fallback(by: Deadline, start: Moment, stale_wait: Duration) -> Self {
        Self {
            by: by.within(start, stale_wait),
            retries: false,
            signs_in_again: true,
            stale_wait: Some(stale_wait),
            late: false,
        }
    }

    /// Whether the request tries as much as any other, so that all others may share its failure.
    pub const fn is_whole(self) -> bool {
        self.retries && !self.late
    }

    /// The same budget, for a request that is `late` or not.
    #[must_use]
    pub const fn late(self, late: bool) -> Self {
        Self { late, ..self }
    }
}
