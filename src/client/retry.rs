//! The retry loop: how often a call is made, how long it may take, and how long to wait before the next try.

use std::time::Duration;

use super::circuit_breaker::{Admission, doubled, random_part};
use super::retry_budget::RetryBudget;
use super::{Client, Upstream};
use crate::azure::{Answer, Call, CallError};
use crate::error::{Error, Failure, FailureKind, Service};
use crate::host::Host;
use crate::model::{MIN_CALL_TIME, Moment};

impl<H: Host> Client<'_, H> {
    /// Makes a call until it succeeds, or fails in a way that does not pass, or `budget` leaves no time for
    /// another try. With the result comes the moment at which the last call was made. An error for which
    /// `is_final` is true ends the loop at once and does not count against the service.
    ///
    /// Without a token nothing can be done, so a token source is called until there is no more time. It may
    /// just be starting: the metadata service of Container Instances answers seconds after them
    /// (MicrosoftDocs/azure-docs issue 61891).
    pub(super) async fn call<T>(
        &self,
        call: &dyn Fn() -> Call,
        upstream: Upstream<'_>,
        parse: impl Fn(Result<Answer, CallError>) -> Result<T, Error>,
        is_final: &mut dyn FnMut(&Error) -> bool,
        budget: RetryBudget,
    ) -> Result<(T, Moment), Failure> {
        let mut value = None;
        let mut parse = |answer| parse(answer).map(|parsed| value = Some(parsed));
        let start = self.call_until(call, upstream, &mut parse, is_final, budget).await?;
        value.map(|value| (value, start)).ok_or(Failure::local(Error::DeadlineExceeded))
    }

    /// The loop itself. It is not generic, so that the component has it once.
    async fn call_until(
        &self,
        call: &dyn Fn() -> Call,
        upstream: Upstream<'_>,
        parse: &mut dyn FnMut(Result<Answer, CallError>) -> Result<(), Error>,
        is_final: &mut dyn FnMut(&Error) -> bool,
        budget: RetryBudget,
    ) -> Result<Moment, Failure> {
        let mut tries: u32 = 0;
        loop {
            let call = call();
            let service = call.service();
            let permit = loop {
                match upstream.circuit_breaker.enter(self.host.now(), self.host.random()) {
                    Admission::Allowed(permit) => break permit,
                    Admission::Delayed(delay, error) => self.back_off(delay, budget, error).await?,
                    // The failures of this request itself have opened the circuit breaker.
                    Admission::Rejected(error) if tries > 0 && service == Service::TokenSource => {
                        let delay = error.transient().and_then(|(_, delay)| delay).unwrap_or(MIN_CALL_TIME);
                        self.back_off(delay, budget, error).await?;
                    }
                    Admission::Rejected(error) => return Err(error.into()),
                }
            };
            let start = self.host.now();
            let left = budget.by.left(start)?;
            if left < MIN_CALL_TIME {
                return Err(Error::DeadlineExceeded.into());
            }
            let limit = self.call_limit(service, left);
            if tries > 0 && service == Service::Vault {
                self.charge(start);
            }
            let result = parse(self.send(call, upstream.name, limit, budget.by).await);
            tries = tries.saturating_add(1);
            let failure = match &result {
                // Our own deadline ended the call, too early to count it against the service: the request had
                // waited before it, for its body or for another request.
                Err(Error::DeadlineExceeded) if limit < self.fair_limit(service, budget) => {
                    return Err(Error::DeadlineExceeded.into());
                }
                // The host did not even make the call.
                Err(Error::CallNotAllowed) => return Err(Error::CallNotAllowed.into()),
                Err(Error::DeadlineExceeded) => Some((FailureKind::Unreachable, None)),
                Err(error) if is_final(error) => return Err(error.clone().into()),
                Err(error) => error.transient(),
                Ok(()) => None,
            };
            permit.end(failure, self.host.now(), self.host.random());
            match result {
                Ok(()) => return Ok(start),
                Err(error) if error.transient().is_none() || tries >= max_tries(service) => {
                    return Err(error.into());
                }
                Err(error) => {
                    let retry_after = failure.and_then(|(_, delay)| delay).unwrap_or_default();
                    let delay = backoff(service, tries, self.host.random()).max(retry_after);
                    self.back_off(delay, budget, error).await?;
                }
            }
        }
    }

    /// Waits for `delay`, if the budget has retries and time for the wait and for a call after it; otherwise
    /// fails with `error`.
    pub(super) async fn back_off(
        &self,
        delay: Duration,
        budget: RetryBudget,
        error: Error,
    ) -> Result<(), Failure> {
        let left = budget.by.left(self.host.now())?;
        if !budget.retries || delay.saturating_add(MIN_CALL_TIME) >= left {
            return Err(Failure::local(error));
        }
        self.host.sleep(delay).await;
        Ok(())
    }

    /// How long a call may take: half of the time of a request, so that a vault that does not answer is
    /// called once more. A token source is sometimes slow for many seconds without having failed, so it gets
    /// all the time that is left.
    fn call_limit(&self, service: Service, left: Duration) -> Duration {
        match service {
            Service::TokenSource => left,
            Service::Vault | Service::Jwks => left.min(self.config.deadline.checked_div(2).unwrap_or(left)),
        }
    }

    /// The limit that a call must have had for its timeout to count against the service: nearly all that
    /// calls have. If less were enough, one client could open the circuit breaker for all others by sending
    /// its bodies late.
    fn fair_limit(&self, service: Service, budget: RetryBudget) -> Duration {
        let whole = self.call_limit(service, budget.stale_wait.unwrap_or(self.config.deadline));
        // Some time goes into what comes before a call.
        let tenth = whole.checked_div(10).unwrap_or_default();
        let fair = if budget.late { whole } else { whole.saturating_sub(tenth) };
        fair.max(MIN_FAIR_LIMIT)
    }
}

/// How long to wait before the next try: a random part of a delay that doubles with each try (full jitter).
fn backoff(service: Service, tries: u32, random: u64) -> Duration {
    let (first, rounds) = match service {
        // Delays that doubled with each try would soon be longer than the time that is left. From the third
        // try on the circuit breaker slows the calls down.
        Service::TokenSource => (TOKEN_FIRST_BACKOFF, tries.min(2)),
        Service::Vault | Service::Jwks => (FIRST_BACKOFF, tries),
    };
    random_part(doubled(first, rounds.saturating_sub(1), MAX_BACKOFF), random)
}

const fn max_tries(service: Service) -> u32 {
    match service {
        Service::TokenSource => u32::MAX,
        Service::Vault | Service::Jwks => MAX_TRIES,
    }
}

/// How often a call is made for one request. Key Vault's and IMDS's guides have up to five retries, over half
/// a minute; within a deadline of ten seconds there is room for two.
pub const MAX_TRIES: u32 = 3;

/// The longest first wait before the vault or a JWKS is called again, as in Microsoft's client for Rust
/// (`azure_core`).
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// The longest first wait before a token is requested again, as in MSAL for .NET, for IMDS as for the other
/// sources.
const TOKEN_FIRST_BACKOFF: Duration = Duration::from_secs(1);

const MAX_BACKOFF: Duration = Duration::from_secs(16);

/// A call that is not answered in this time counts against the service.
const MIN_FAIR_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_is_a_random_part_of_a_delay_that_doubles() {
        for (service, tries, random, milliseconds) in [
            (Service::Vault, 1, 0, 0),
            (Service::Vault, 1, 500, 100),
            (Service::Vault, 1, 1000, 200),
            (Service::Vault, 1, 1001, 0),
            (Service::Jwks, 2, 1000, 400),
            (Service::Vault, 3, 1000, 800),
            (Service::Vault, 30, 1000, 16_000),
            (Service::Vault, u32::MAX, 1000, 16_000),
            (Service::TokenSource, 1, 1000, 1000),
            (Service::TokenSource, 2, 1000, 2000),
            (Service::TokenSource, 9, 1000, 2000),
        ] {
            let delay = backoff(service, tries, random);
            assert_eq!(delay, Duration::from_millis(milliseconds), "{service:?} {tries} {random}");
        }
    }
}
