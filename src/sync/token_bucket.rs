//! Limits how many calls to Key Vault one caller can cause.

use std::cell::Cell;
use std::time::Duration;

use crate::model::Moment;

/// The settings of all budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one call becomes free again; none where there is no limit.
    interval: Option<Duration>,
    /// The calls that a caller may make at once.
    burst: u32,
}

/// What one caller has left in one instance: a token bucket, kept as the moment at which it is full again.
#[derive(Debug)]
pub struct TokenBucket {
    full_at: Cell<Moment>,
}

impl Rate {
    /// `rate` calls in a second; no limit where that is zero.
    pub fn per_second(rate: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(rate);
        Self { interval, burst: rate.saturating_mul(BURST_SECONDS).max(LEAST_BURST) }
    }

    /// `burst` calls at once, and then one in each `interval`.
    pub const fn one_in(interval: Duration, burst: u32) -> Self {
        Self { interval: Some(interval), burst }
    }
}

impl TokenBucket {
    /// A full one.
    pub const fn full() -> Self {
        Self { full_at: Cell::new(Moment::EARLIEST) }
    }

    /// Takes one call from the budget, or says after which time there is one.
    pub fn take(&self, settings: &Rate, now: Moment) -> Result<(), Duration> {
        let Some(interval) = settings.interval else { return Ok(()) };
        let debt = self.full_at.get().since(now);
        let most = interval.saturating_mul(settings.burst.saturating_sub(1));
        if debt > most {
            return Err(debt.saturating_sub(most));
        }
        self.charge(settings, now);
        Ok(())
    }

    /// Gives back a call that was taken and not made, as a circuit breaker is open or there is no token.
    pub fn give_back(&self, settings: &Rate) {
        if let Some(interval) = settings.interval {
            self.full_at.set(self.full_at.get().minus(interval));
        }
    }

    /// Takes one call that is made in any case, such as another try: the budget may go below nothing.
    pub fn charge(&self, settings: &Rate, now: Moment) {
        if let Some(interval) = settings.interval {
            self.full_at.set(self.full_at.get().max(now).plus(interval));
        }
    }
}

/// Key Vault takes 4,000 calls for secrets in ten seconds, per vault and region (Microsoft, "Azure Key Vault service limits",
/// "Secrets, managed storage account keys, and vault transactions"). One caller of one instance gets a fortieth of that. With the
/// usual TTL of five minutes it is enough for 3,000 secrets.
pub const DEFAULT_RATE: u32 = 10;

/// The largest rate that can be set: more than Key Vault takes from all together.
pub const MAX_RATE: u32 = 1000;

/// An application reads its secrets when it starts, all at once.
const LEAST_BURST: u32 = 100;

/// The part of a second's limit that may come at once grows with the limit, as Key Vault counts in spans of ten seconds.
const BURST_SECONDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_one_call_per_interval() {
        let (budget, settings) = (TokenBucket::full(), Rate::per_second(10));
        for call in 0..100 {
            assert_eq!(budget.take(&settings, at(1_000_000)), Ok(()), "{call}");
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
            assert_eq!(budget.take(&settings, at(now)), taken.map_err(Duration::from_millis), "{now}");
        }
    }

    #[test]
    fn a_budget_is_never_fuller_than_full() {
        let (budget, settings) = (TokenBucket::full(), Rate::per_second(10));
        for start in [0, 1_000_000] {
            let taken = (0..200).filter(|_| budget.take(&settings, at(start)).is_ok()).count();
            assert_eq!(taken, 100, "{start}");
        }
    }

    #[test]
    fn what_is_charged_in_any_case_is_missing_later() {
        let (budget, settings) = (TokenBucket::full(), Rate::per_second(10));
        for _ in 0..110 {
            budget.charge(&settings, at(0));
        }
        assert_eq!(budget.take(&settings, at(0)), Err(Duration::from_millis(1100)));
        assert_eq!(budget.take(&settings, at(1100)), Ok(()));
    }

    #[test]
    fn a_call_that_was_not_made_is_given_back() {
        let (budget, settings) = (TokenBucket::full(), Rate::per_second(10));
        for _ in 0..500 {
            assert_eq!(budget.take(&settings, at(0)), Ok(()));
            budget.give_back(&settings);
        }
        let taken = (0..200).filter(|_| budget.take(&settings, at(0)).is_ok()).count();
        assert_eq!(taken, 100);
    }

    #[test]
    fn the_rate_can_be_set_and_switched_off() {
        for (rate, at_once) in [(1, 100), (10, 100), (20, 200), (1000, 10_000), (0, 20_000)] {
            let (budget, settings) = (TokenBucket::full(), Rate::per_second(rate));
            let taken = (0..20_000).filter(|_| budget.take(&settings, at(0)).is_ok()).count();
            assert_eq!(taken, at_once, "{rate}");
        }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::after_start(Duration::from_millis(milliseconds))
    }
}
