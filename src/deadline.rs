//! How long a request may take, how much is done for it in that time, and how that fails.

use core::time::Duration;

use crate::error::Error;
use crate::host::Moment;

/// The moment by which a request has to be answered, everything included.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Moment);

impl Deadline {
    /// The deadline of a request that came at `start` and may take `limit`.
    pub const fn new(start: Moment, limit: Duration) -> Self {
        Self(start.plus(limit))
    }

    /// When it is.
    pub const fn end(self) -> Moment {
        self.0
    }

    /// The time that is left at `now`, or an error if there is none.
    pub const fn left(self, now: Moment) -> Result<Duration, Error> {
        let left = self.0.since(now);
        if left.is_zero() { Err(Error::DeadlineExceeded) } else { Ok(left) }
    }

    /// This deadline, or the moment `limit` after `start` if that is earlier.
    pub fn within(self, start: Moment, limit: Duration) -> Self {
        Self(self.0.min(start.plus(limit)))
    }
}

/// How much is done for an answer from Azure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// It has to be there by then.
    pub by: Deadline,
    /// Whether it is worth another try, and a wait before that.
    pub retries: bool,
    /// The time that there is for it at first, where that is not the whole of what a request may take.
    pub patience: Option<Duration>,
}

impl Effort {
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
pub struct Failed {
    /// Why.
    pub error: Error,
    /// Whether it was given up before its time, as nothing more could be done or was worth it. That says nothing to those who
    /// have more time, or nothing else at hand.
    pub cut_short: bool,
}

impl Failed {
    /// Given up, with what is known so far.
    pub const fn cut_short(error: Error) -> Self {
        Self { error, cut_short: true }
    }
}

impl From<Error> for Failed {
    /// The last word, unless it is that there was no time for one.
    fn from(error: Error) -> Self {
        Self { cut_short: error == Error::DeadlineExceeded, error }
    }
}

/// Whether what one request came to is so for all others.
pub const fn is_for_all<T>(outcome: &Result<T, Failed>) -> bool {
    !matches!(outcome, Err(Failed { cut_short: true, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_deadline() {
        let deadline = Deadline::new(at(100), seconds(10));
        for (now, left) in [(100, Some(10)), (109, Some(1)), (110, None), (200, None)] {
            assert_eq!(deadline.left(at(now)).ok(), left.map(seconds), "{now}");
        }
        assert_eq!(deadline.within(at(101), seconds(2)).left(at(101)), Ok(seconds(2)));
        assert_eq!(deadline.within(at(109), seconds(2)).left(at(109)), Ok(seconds(1)));
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }
}
