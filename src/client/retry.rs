//! When a call is made again.

use std::time::Duration;

use super::circuit_breaker::{doubled, part};

/// How long to wait before a call is tried again: a random part of `first` doubled with each try (full jitter).
pub fn backoff(first: Duration, tries: u32, random: u64) -> Duration {
    part(doubled(first, tries.saturating_sub(1), LONGEST_BACKOFF), random)
}

/// How often a call is made for one request. Key Vault's and IMDS's guides have up to five retries, over half a minute;
/// within a deadline of ten seconds there is room for two.
pub const TRIES: u32 = 3;

const LONGEST_BACKOFF: Duration = Duration::from_secs(16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_is_a_random_part_of_a_pause_that_doubles() {
        for (tries, random, milliseconds) in [
            (1, 0, 0),
            (1, 500, 100),
            (1, 1000, 200),
            (1, 1001, 0),
            (2, 1000, 400),
            (3, 1000, 800),
            (30, 1000, 16_000),
            (u32::MAX, 1000, 16_000),
        ] {
            let pause = backoff(Duration::from_millis(200), tries, random);
            assert_eq!(pause, Duration::from_millis(milliseconds), "{tries} {random}");
        }
    }
}
