//! How long a request may take.

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

    /// The time that is left at `now`, or an error if there is none.
    pub const fn left(self, now: Moment) -> Result<Duration, Error> {
        let left = self.0.since(now);
        if left.is_zero() { Err(Error::DeadlineExceeded) } else { Ok(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_deadline() {
        let at = |seconds| Moment::after_start(Duration::from_secs(seconds));
        let deadline = Deadline::new(at(100), Duration::from_secs(10));
        for (now, left) in [(100, Some(10)), (109, Some(1)), (110, None), (200, None)] {
            assert_eq!(deadline.left(at(now)).ok(), left.map(Duration::from_secs), "{now}");
        }
    }
}
