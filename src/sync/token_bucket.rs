//! A token bucket, which limits how many calls to Key Vault one caller can cause.

use std::cell::Cell;
use std::time::Duration;

use crate::model::Moment;

/// The rate and the burst of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time after which one more call is free; `None` means no limit.
    interval: Option<Duration>,
    /// The calls that can be made at once.
    burst: u32,
}

/// The budget of one caller in one instance, stored as the moment at which the bucket is full again.
#[derive(Debug)]
pub struct TokenBucket {
    full_at: Cell<Moment>,
}

impl Rate {
    /// `rate` calls per second; zero means no limit.
    pub fn per_second(rate: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(rate);
        Self { interval, burst: rate.saturating_mul(BURST_SECONDS).max(MIN_BURST) }
    }

    /// `burst` calls at once, and then one per `interval`.
    pub const fn one_in(interval: Duration, burst: u32) -> Self {
        Self { interval: Some(interval), burst }
    }
}

impl TokenBucket {
    pub const fn full() -> Self {
        Self { full_at: Cell::new(Moment::EARLIEST) }
    }

    /// Takes one call from the bucket, or returns the time until one is free.
    pub fn take(&self, rate: &Rate, now: Moment) -> Result<(), Duration> {
        let Some(interval) = rate.interval else { return Ok(()) };
        let debt = self.full_at.get().since(now);
        let most = interval.saturating_mul(rate.burst.saturating_sub(1));
        if debt > most {
            return Err(debt.saturating_sub(most));
        }
        self.charge(rate, now);
        Ok(())
    }

    /// Gives back a call that was taken but not made, as a circuit breaker is open or there is no token.
    pub fn give_back(&self, rate: &Rate) {
        if let Some(interval) = rate.interval {
            self.full_at.set(self.full_at.get().minus(interval));
        }
    }

    /// Takes a call that is made in any case, such as a retry. The bucket may go below empty.
    pub fn charge(&self, rate: &Rate, now: Moment) {
        if let Some(interval) = rate.interval {
            self.full_at.set(self.full_at.get().max(now).plus(interval));
        }
    }
}

/// Key Vault takes 4,000 calls for secrets in ten seconds, per vault and region (Microsoft, "Azure Key Vault
/// service limits", "Secrets, managed storage account keys, and vault transactions"). One caller of one
/// instance gets a fortieth of that. With the usual TTL of five minutes it is enough for 3,000 secrets.
pub const DEFAULT_RATE: u32 = 10;

/// The largest rate that can be set: more than Key Vault takes from all clients together.
pub const MAX_RATE: u32 = 1000;

/// The smallest burst: an application reads all its secrets at once when it starts.
const MIN_BURST: u32 = 100;

/// The seconds of the rate that may come at once. Key Vault counts in spans of ten seconds.
const BURST_SECONDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_then_one_call_in_each_interval() {
        let (bucket, rate) = (TokenBucket::full(), Rate::per_second(10));
        for call in 0..100 {
            assert_eq!(bucket.take(&rate, at(1_000_000)), Ok(()), "{call}");
        }
        for (now, taken) in [
            (1_000_000, Err(100)),
            (1_000_050, Err(50)),
            (1_000_100, Ok(())),
            (1_000_100, Err(100)),
            (1_000_199, Err(1)),
            (1_000_300, Ok(())),
            (1_000_300, Ok(())),
            (1_000_300, Err(100)),
        ] {
            assert_eq!(bucket.take(&rate, at(now)), taken.map_err(Duration::from_millis), "{now}");
        }
    }

    #[test]
    fn a_bucket_does_not_overflow() {
        let (bucket, rate) = (TokenBucket::full(), Rate::per_second(10));
        for start in [0, 1_000_000] {
            let taken = (0..200).filter(|_| bucket.take(&rate, at(start)).is_ok()).count();
            assert_eq!(taken, 100, "{start}");
        }
    }

    #[test]
    fn a_charge_counts_even_if_the_bucket_is_empty() {
        let (bucket, rate) = (TokenBucket::full(), Rate::per_second(10));
        for _ in 0..110 {
            bucket.charge(&rate, at(0));
        }
        assert_eq!(bucket.take(&rate, at(0)), Err(Duration::from_millis(1100)));
        assert_eq!(bucket.take(&rate, at(1100)), Ok(()));
    }

    #[test]
    fn a_call_that_was_not_made_is_given_back() {
        let (bucket, rate) = (TokenBucket::full(), Rate::per_second(10));
        for _ in 0..500 {
            assert_eq!(bucket.take(&rate, at(0)), Ok(()));
            bucket.give_back(&rate);
        }
        let taken = (0..200).filter(|_| bucket.take(&rate, at(0)).is_ok()).count();
        assert_eq!(taken, 100);
    }

    #[test]
    fn a_rate_of_zero_sets_no_limit() {
        for (per_second, burst) in [(1, 100), (10, 100), (20, 200), (1000, 10_000), (0, 20_000)] {
            let (bucket, rate) = (TokenBucket::full(), Rate::per_second(per_second));
            let taken = (0..20_000).filter(|_| bucket.take(&rate, at(0)).is_ok()).count();
            assert_eq!(taken, burst, "{per_second}");
        }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::after_start(Duration::from_millis(milliseconds))
    }
}
