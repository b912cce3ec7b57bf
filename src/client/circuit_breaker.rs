//! The circuit breaker: when calls to a service of Azure are made, delayed or rejected.

use std::cell::Cell;
use std::time::Duration;

use crate::error::{Error, FailureKind, Service};
use crate::model::Moment;

/// What all requests of an instance know of one service.
///
/// Throttling delays every call by the `Retry-After` of the service, or else by 1, 2, 4, 8 and 16 seconds
/// (Microsoft, "Azure Key Vault throttling guidance"). [`FAILURES_TO_OPEN`] failures in a row open the
/// circuit breaker: calls are rejected until the pause is over. Then it is half-open: one call, the probe,
/// finds out whether it closes.
#[derive(Debug)]
pub struct CircuitBreaker {
    service: Service,
    state: Cell<State>,
    failures: Cell<u32>,
    /// When the last failure was recorded. Calls that were made before belong to the same incident.
    since: Cell<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Paused { until: Moment, kind: FailureKind },
    Open { until: Moment, kind: FailureKind },
    HalfOpen { kind: FailureKind },
}

/// Whether a call may be made.
#[derive(Debug)]
pub enum Admission<'a> {
    Allowed(Permit<'a>),
    /// The call has to wait this long and then ask again; if there is no time for that, it fails with this
    /// error.
    Delayed(Duration, Error),
    Rejected(Error),
}

/// The permission for one call. A call that does not report its end changes nothing.
#[derive(Debug)]
pub struct Permit<'a> {
    circuit: &'a CircuitBreaker,
    start: Moment,
    probe: bool,
}

impl CircuitBreaker {
    pub const fn new(service: Service) -> Self {
        Self {
            service,
            state: Cell::new(State::Closed),
            failures: Cell::new(0),
            since: Cell::new(Moment::after_start(Duration::ZERO)),
        }
    }

    /// Asks whether a call may be made at `now`. `random` spreads calls that wait for the same moment.
    pub fn enter(&self, now: Moment, random: u64) -> Admission<'_> {
        if let Some(error) = self.open_error(now) {
            return Admission::Rejected(error);
        }
        let state = self.state.get();
        match state {
            State::Paused { until, kind } if now < until => {
                let left = until.since(now);
                let error = Error::upstream(self.service, kind, Some(left));
                return Admission::Delayed(left.saturating_add(random_part(left, random)), error);
            }
            State::Open { kind, .. } => self.state.set(State::HalfOpen { kind }),
            State::Closed | State::Paused { .. } | State::HalfOpen { .. } => self.state.set(State::Closed),
        }
        Admission::Allowed(Permit { circuit: self, start: now, probe: matches!(state, State::Open { .. }) })
    }

    /// The error of a call that is rejected at `now`, if it is.
    pub fn open_error(&self, now: Moment) -> Option<Error> {
        match self.state.get() {
            State::Open { until, kind } if now < until => {
                Some(Error::upstream(self.service, kind, Some(until.since(now))))
            }
            State::HalfOpen { kind } => Some(Error::upstream(self.service, kind, Some(HALF_OPEN_RETRY))),
            State::Closed | State::Paused { .. } | State::Open { .. } => None,
        }
    }

    fn record_failure(
        &self,
        start: Moment,
        probe: bool,
        failure: (FailureKind, Option<Duration>),
        now: Moment,
        random: u64,
    ) {
        let (kind, retry_after) = failure;
        let retry_after = retry_after.map(|delay| delay.min(MAX_RETRY_AFTER));
        if !probe && self.state.get() != State::Closed && start <= self.since.get() {
            // The same incident: the count of failures stays, but the pause may become longer.
            let own = match kind {
                FailureKind::Throttled => FIRST_PAUSE.saturating_sub(quarter(FIRST_PAUSE)),
                FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting => Duration::ZERO,
            };
            self.extend_pause(now.plus(retry_after.unwrap_or_default().max(own)));
            return;
        }
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        self.since.set(now);
        let opens = probe || failures >= FAILURES_TO_OPEN;
        let rounds = match kind {
            FailureKind::Throttled => failures.saturating_sub(1),
            FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting => {
                failures.saturating_sub(FAILURES_TO_OPEN)
            }
        };
        let own = doubled(FIRST_PAUSE, rounds, MAX_OWN_PAUSE);
        // A quarter more or less, so that a fleet does not come back as one.
        let own = own
            .saturating_sub(quarter(own))
            .saturating_add(random_part(quarter(own).saturating_mul(2), random));
        let until = now.plus(retry_after.map_or(own, |delay| delay.max(own)));
        self.state.set(match kind {
            _ if opens => State::Open { until, kind },
            FailureKind::Throttled => State::Paused { until, kind },
            // An explicit Retry-After pauses all requests of the instance.
            FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting
                if retry_after.is_some() =>
            {
                State::Paused { until, kind }
            }
            FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting => State::Closed,
        });
    }

    /// Extends a pause to `moment` at least.
    fn extend_pause(&self, moment: Moment) {
        self.state.set(match self.state.get() {
            State::Paused { until, kind } => State::Paused { until: until.max(moment), kind },
            State::Open { until, kind } => State::Open { until: until.max(moment), kind },
            state @ (State::Closed | State::HalfOpen { .. }) => state,
        });
    }

    fn record_success(&self, start: Moment, probe: bool) {
        // The success of a call from before the incident does not end a pause.
        if probe || start > self.since.get() || self.state.get() == State::Closed {
            self.state.set(State::Closed);
            self.failures.set(0);
        }
    }
}

impl Permit<'_> {
    /// Reports at `now` how the call ended: with a failure and perhaps a `Retry-After`, or with an answer.
    pub fn end(self, failure: Option<(FailureKind, Option<Duration>)>, now: Moment, random: u64) {
        match failure {
            Some(failure) => self.circuit.record_failure(self.start, self.probe, failure, now, random),
            None => self.circuit.record_success(self.start, self.probe),
        }
    }
}

impl Drop for Permit<'_> {
    /// A probe that is dropped without an end lets the next call probe.
    fn drop(&mut self) {
        if let (true, State::HalfOpen { kind }) = (self.probe, self.circuit.state.get()) {
            self.circuit.state.set(State::Open { until: self.start, kind });
        }
    }
}

pub(super) fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(16))).min(most)
}

const fn quarter(time: Duration) -> Duration {
    match time.checked_div(4) {
        Some(quarter) => quarter,
        None => Duration::ZERO,
    }
}

/// A random part of `time`, from nothing to all of it.
pub(super) fn random_part(time: Duration, random: u64) -> Duration {
    let thousandths = u32::try_from(random.checked_rem(1001).unwrap_or_default()).unwrap_or_default();
    time.saturating_mul(thousandths).checked_div(1000).unwrap_or_default()
}

/// How many failures in a row open the circuit breaker: as many as one request has tries, so that the first
/// request that fails spares all others.
pub const FAILURES_TO_OPEN: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause without a `Retry-After`. Key Vault's guide ends at 16 seconds.
const MAX_OWN_PAUSE: Duration = Duration::from_secs(16);

/// The longest `Retry-After` that is respected. A longer one is more likely a mistake, and one probe in a
/// minute does no harm. IMDS comes back from an upgrade within 70 seconds.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The `Retry-After` while the circuit breaker is half-open.
const HALF_OPEN_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_resets_the_count_of_failures() {
        let circuit = CircuitBreaker::new(Service::Vault);
        for round in 0..10 {
            for _ in 1..FAILURES_TO_OPEN {
                go(&circuit, round).end(Some((FailureKind::Failing, None)), at(round), MIDDLE);
            }
            go(&circuit, round).end(None, at(round), MIDDLE);
        }
        assert_eq!(circuit.state.get(), State::Closed);
    }

    #[test]
    fn throttling_delays_every_call() {
        let circuit = CircuitBreaker::new(Service::Vault);
        go(&circuit, 100).end(Some((FailureKind::Throttled, None)), at(100), MIDDLE);
        for (now, random, wait) in [(100_000, 0, Some(1000)), (100_400, 1000, Some(1200)), (101_000, 0, None)]
        {
            match (circuit.enter(at_ms(now), random), wait) {
                (
                    Admission::Delayed(pause, Error::Upstream { kind: FailureKind::Throttled, .. }),
                    Some(wait),
                ) => {
                    assert_eq!(pause, Duration::from_millis(wait), "{now}");
                }
                (Admission::Allowed(_), None) => {}
                (way, _) => panic!("{now}: {way:?}"),
            }
        }
    }

    #[test]
    fn a_retry_after_is_respected_up_to_a_minute() {
        for (asked, pause) in [(0, 1), (1, 1), (7, 7), (60, 60), (61, 60), (3600, 60)] {
            for kind in [FailureKind::Throttled, FailureKind::Failing] {
                let circuit = CircuitBreaker::new(Service::TokenSource);
                go(&circuit, 0).end(Some((kind, Some(seconds(asked)))), at(0), MIDDLE);
                assert_eq!(circuit.state.get(), State::Paused { until: at(pause), kind }, "{asked}");
            }
        }
    }

    #[test]
    fn pauses_double_from_one_to_sixteen_seconds() {
        let circuit = CircuitBreaker::new(Service::Vault);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            go(&circuit, now).end(Some((FailureKind::Throttled, None)), at(now), MIDDLE);
            let until = match circuit.state.get() {
                State::Paused { until, .. } | State::Open { until, .. } => until,
                state => panic!("{state:?}"),
            };
            pauses.push(until.since(at(now)).as_secs());
            now += pauses.last().unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16, 16, 16, 16]);
    }

    #[test]
    fn calls_of_one_incident_count_once() {
        let circuit = CircuitBreaker::new(Service::Vault);
        let calls: Vec<_> = (0..50).map(|_| go(&circuit, 100)).collect();
        for call in calls {
            call.end(Some((FailureKind::Throttled, None)), at(101), MIDDLE);
        }
        assert_eq!(circuit.state.get(), State::Paused { until: at(102), kind: FailureKind::Throttled });
        assert_eq!(circuit.failures.get(), 1);
    }

    #[test]
    fn an_early_throttled_call_extends_the_pause() {
        for (kind, left) in [(FailureKind::Failing, 100), (FailureKind::Throttled, 750)] {
            let circuit = CircuitBreaker::new(Service::Vault);
            let early = go(&circuit, 100);
            for _ in 0..FAILURES_TO_OPEN {
                go(&circuit, 101).end(Some((FailureKind::Failing, None)), at(101), MIDDLE);
            }
            early.end(Some((kind, None)), at_ms(101_900), MIDDLE);
            let state = circuit.state.get();
            assert_eq!(state, State::Open { until: at_ms(101_900 + left), kind: FailureKind::Failing });
        }
    }

    #[test]
    fn the_success_of_an_early_call_ends_no_pause() {
        let circuit = CircuitBreaker::new(Service::Vault);
        let early = go(&circuit, 100);
        go(&circuit, 101).end(Some((FailureKind::Throttled, None)), at(102), MIDDLE);
        early.end(None, at(102), MIDDLE);
        assert!(matches!(circuit.enter(at(102), 0), Admission::Delayed(..)));
    }

    #[test]
    fn three_failures_open_the_circuit_and_one_probe_closes_it() {
        for (kind, pause) in
            [(FailureKind::Throttled, 4), (FailureKind::Failing, 1), (FailureKind::Unreachable, 1)]
        {
            let error = |pause| Error::upstream(Service::Vault, kind, pause);
            let circuit = open(Service::Vault, kind);
            assert_eq!(open_error(&circuit, 100), error(Some(seconds(pause))));
            let probe = go(&circuit, 100 + pause);
            assert_eq!(open_error(&circuit, 100 + pause), error(Some(seconds(1))));
            probe.end(None, at(110), MIDDLE);
            drop((go(&circuit, 110), go(&circuit, 110)));
        }
    }

    #[test]
    fn a_failed_probe_opens_it_for_longer() {
        let circuit = open(Service::TokenSource, FailureKind::Failing);
        go(&circuit, 101).end(Some((FailureKind::Unreachable, None)), at(101), MIDDLE);
        assert_eq!(
            open_error(&circuit, 102),
            Error::upstream(Service::TokenSource, FailureKind::Unreachable, Some(seconds(1)))
        );
        go(&circuit, 103).end(None, at(103), MIDDLE);
    }

    #[test]
    fn a_dropped_probe_lets_the_next_call_probe() {
        let circuit = open(Service::Vault, FailureKind::Failing);
        drop(go(&circuit, 101));
        go(&circuit, 101).end(None, at(101), MIDDLE);
        assert_eq!(circuit.state.get(), State::Closed);
    }

    #[test]
    fn a_pause_is_spread_by_a_quarter() {
        for (random, milliseconds) in [(0, 750), (500, 1000), (1000, 1250)] {
            let circuit = CircuitBreaker::new(Service::Vault);
            go(&circuit, 0).end(Some((FailureKind::Throttled, None)), at(0), random);
            let until = at_ms(milliseconds);
            assert_eq!(circuit.state.get(), State::Paused { until, kind: FailureKind::Throttled });
        }
    }

    /// A circuit that opened at second 100.
    fn open(service: Service, kind: FailureKind) -> CircuitBreaker {
        let circuit = CircuitBreaker::new(service);
        for _ in 0..FAILURES_TO_OPEN {
            let calls = Permit { circuit: &circuit, start: at(100), probe: false };
            circuit.state.set(State::Closed);
            calls.end(Some((kind, None)), at(100), MIDDLE);
        }
        circuit
    }

    fn go(circuit: &CircuitBreaker, now: u64) -> Permit<'_> {
        match circuit.enter(at(now), 0) {
            Admission::Allowed(pass) => pass,
            way => panic!("{now}: {way:?}"),
        }
    }

    fn open_error(circuit: &CircuitBreaker, now: u64) -> Error {
        match circuit.enter(at(now), 0) {
            Admission::Rejected(error) => error,
            way => panic!("{now}: {way:?}"),
        }
    }

    fn at(seconds: u64) -> Moment {
        at_ms(seconds * 1000)
    }

    fn at_ms(milliseconds: u64) -> Moment {
        Moment::after_start(Duration::from_millis(milliseconds))
    }

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// Random bits that leave a pause as it is.
    const MIDDLE: u64 = 500;
}
