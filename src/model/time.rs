//! Points in time on the host's clock, and the deadline of a request.

use std::time::Duration;

/// A point in time on the host's steady clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment before all others.
    pub const EARLIEST: Self = Self(Duration::ZERO);

    /// The moment `elapsed` after the clock's start.
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(BEFORE_START.saturating_add(elapsed))
    }

    /// The moment `time` later.
    pub const fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// The moment `time` earlier. Another instance may have fetched something before this clock's start, by a
    /// year at the most.
    pub const fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }

    /// The time from the clock's start to this moment.
    pub const fn from_start(self) -> Duration {
        self.0.saturating_sub(BEFORE_START)
    }

    /// The time that has passed since `earlier`; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The span of moments before a clock's start. It is longer than any entry is kept.
const BEFORE_START: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The moment by which a request must be answered.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Moment);

impl Deadline {
    /// The deadline of a request that came at `start` and may take `limit`.
    pub const fn new(start: Moment, limit: Duration) -> Self {
        Self(start.plus(limit))
    }

    /// The moment at which the time is over.
    pub const fn end(self) -> Moment {
        self.0
    }

    /// The time left at `now`.
    ///
    /// # Errors
    ///
    /// Fails if no time is left.
    pub const fn left(self, now: Moment) -> Result<Duration, DeadlineExceeded> {
        let left = self.0.since(now);
        if left.is_zero() { Err(DeadlineExceeded) } else { Ok(left) }
    }

    /// This deadline, or the moment `limit` after `start` if that is earlier.
    pub fn within(self, start: Moment, limit: Duration) -> Self {
        Self(self.0.min(start.plus(limit)))
    }
}

/// The error of a deadline with no time left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineExceeded;

/// The time that must be left to start a call. With less, the error that is known says more than a timeout
/// would; and of all requests that wait for a vault that hangs, each would call it again when its time is
/// nearly over.
pub const MIN_CALL_TIME: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_tells_the_time_left() {
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
