//! How long a request may take, how much is done for it in that time, and how that fails.

use std::time::Duration;

use crate::error::Error;
use crate::model::{Deadline, Moment};

/// How much is done for an answer from Azure.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// It has to be there by then.
    pub by: Deadline,
    /// Whether it is worth another try, and a wait before that.
    pub retries: bool,
    /// The time that there is for it at first, where that is not the whole of what a request may take.
    pub patience: Option<Duration>,
}

impl RetryBudget {
    /// All that there is time for until `by`.
    pub const fn full(by: Deadline) -> Self {
        Self { by, retries: true, patience: None }
    }

    /// One try and no wait, for who only asks whether it goes well.
    pub const fn one_try(by: Deadline) -> Self {
        Self { by, retries: false, patience: None }
    }

    /// One try and no wait, for who has something else at hand and `patience` since `start`.
    pub fn slight(by: Deadline, start: Moment, patience: Duration) -> Self {
        Self { by: by.within(start, patience), retries: false, patience: Some(patience) }
    }
}

/// What was done, and brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// Whether it was given up before its time, as nothing more could be done or was worth it. That says nothing to those who
    /// have more time, or nothing else at hand.
    pub cut_short: bool,
}

impl Failure {
    /// Given up, with what is known so far.
    pub const fn cut_short(error: Error) -> Self {
        Self { error, cut_short: true }
    }
}

impl From<Error> for Failure {
    /// The last word, unless it is that there was no time for one.
    fn from(error: Error) -> Self {
        Self { cut_short: error == Error::DeadlineExceeded, error }
    }
}

/// Whether what one request came to is so for all others.
pub const fn is_for_all<T>(outcome: &Result<T, Failure>) -> bool {
    !matches!(outcome, Err(Failure { cut_short: true, .. }))
}
