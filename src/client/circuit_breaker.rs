//! When a call is worth another try, and when none is.

use std::cell::Cell;
use std::time::Duration;

use crate::error::{Error, FailureKind, Service};
use crate::model::Moment;

/// What all requests of an instance know of an upstream: whether calls go through, wait, or are not even tried.
///
/// Throttling makes every call wait for the pause that Azure asked for, or else for 1, 2, 4, 8 and 16 seconds (Microsoft,
/// "Azure Key Vault throttling guidance"). [`TROUBLES`] troubles in a row open the circuit: calls fail at once until the
/// pause is over, and then one call, the probe, finds out.
#[derive(Debug)]
pub struct CircuitBreaker {
    service: Service,
    gate: Cell<State>,
    troubles: Cell<u32>,
    /// When the last trouble was heard of. Calls from before that were in it already.
    since: Cell<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Slow { until: Moment, trouble: FailureKind },
    Open { until: Moment, trouble: FailureKind },
    Probing { trouble: FailureKind },
}

/// What a call is told that wants to go.
#[derive(Debug)]
pub enum Admission<'a> {
    /// Go.
    Free(Permit<'a>),
    /// Wait this long, and ask again; or, if there is no time for that, this error.
    Slow(Duration, Error),
    /// Do not try.
    Closed(Error),
}

/// A call that goes. If nobody says how it ended, nothing was learnt.
#[derive(Debug)]
pub struct Permit<'a> {
    circuit: &'a CircuitBreaker,
    start: Moment,
    probe: bool,
}

impl CircuitBreaker {
    /// A circuit of calls to `service`, about which nothing is known.
    pub const fn new(service: Service) -> Self {
        Self {
            service,
            gate: Cell::new(State::Closed),
            troubles: Cell::new(0),
            since: Cell::new(Moment::after_start(Duration::ZERO)),
        }
    }

    /// Asks for a call's way at `now`; `random` sets those apart that wait for the same moment.
    pub fn enter(&self, now: Moment, random: u64) -> Admission<'_> {
        if let Some(error) = self.closed(now) {
            return Admission::Closed(error);
        }
        let gate = self.gate.get();
        match gate {
            State::Slow { until, trouble } if now < until => {
                let left = until.since(now);
                let error = Error::upstream(self.service, trouble, Some(left));
                return Admission::Slow(left.saturating_add(part(left, random)), error);
            }
            State::Open { trouble, .. } => self.gate.set(State::Probing { trouble }),
            State::Closed | State::Slow { .. } | State::Probing { .. } => self.gate.set(State::Closed),
        }
        Admission::Free(Permit { circuit: self, start: now, probe: matches!(gate, State::Open { .. }) })
    }

    /// What a call is told at `now` if it may not be tried.
    pub fn closed(&self, now: Moment) -> Option<Error> {
        match self.gate.get() {
            State::Open { until, trouble } if now < until => {
                Some(Error::upstream(self.service, trouble, Some(until.since(now))))
            }
            State::Probing { trouble } => Some(Error::upstream(self.service, trouble, Some(PROBE_PAUSE))),
            State::Closed | State::Slow { .. } | State::Open { .. } => None,
        }
    }

    fn troubled(
        &self,
        start: Moment,
        probe: bool,
        met: (FailureKind, Option<Duration>),
        now: Moment,
        random: u64,
    ) {
        let (trouble, asked) = met;
        let asked = asked.map(|it| it.min(LONGEST_PAUSE));
        if !probe && self.gate.get() != State::Closed && start <= self.since.get() {
            // It is the trouble that is known already, so it counts no more; but it may last longer.
            let own = match trouble {
                FailureKind::Throttled => FIRST_PAUSE.saturating_sub(quarter(FIRST_PAUSE)),
                FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting => Duration::ZERO,
            };
            self.pause_until(now.plus(asked.unwrap_or_default().max(own)));
            return;
        }
        let troubles = self.troubles.get().saturating_add(1);
        self.troubles.set(troubles);
        self.since.set(now);
        let opens = probe || troubles >= TROUBLES;
        let rounds = match trouble {
            FailureKind::Throttled => troubles.saturating_sub(1),
            FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting => {
                troubles.saturating_sub(TROUBLES)
            }
        };
        let own = doubled(FIRST_PAUSE, rounds, LONGEST_OWN_PAUSE);
        // A quarter more or less, so that a fleet does not come back as one.
        let own =
            own.saturating_sub(quarter(own)).saturating_add(part(quarter(own).saturating_mul(2), random));
        let until = now.plus(asked.map_or(own, |it| it.max(own)));
        self.gate.set(match trouble {
            _ if opens => State::Open { until, trouble },
            FailureKind::Throttled => State::Slow { until, trouble },
            // Whoever says when to come back is believed, and by everybody.
            FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting
                if asked.is_some() =>
            {
                State::Slow { until, trouble }
            }
            FailureKind::Failing | FailureKind::Unreachable | FailureKind::NotAccepting => State::Closed,
        });
    }

    /// Makes the pause that is on last until `moment` at least.
    fn pause_until(&self, moment: Moment) {
        self.gate.set(match self.gate.get() {
            State::Slow { until, trouble } => State::Slow { until: until.max(moment), trouble },
            State::Open { until, trouble } => State::Open { until: until.max(moment), trouble },
            gate @ (State::Closed | State::Probing { .. }) => gate,
        });
    }

    fn went_well(&self, start: Moment, probe: bool) {
        // An answer to a call from before the trouble shows that it is not everywhere, but does not end a pause.
        if probe || start > self.since.get() || self.gate.get() == State::Closed {
            self.gate.set(State::Closed);
            self.troubles.set(0);
        }
    }
}

impl Permit<'_> {
    /// Notes at `now` how the call ended: with trouble, or else with an answer, whatever that says.
    pub fn end(self, met: Option<(FailureKind, Option<Duration>)>, now: Moment, random: u64) {
        match met {
            Some(met) => self.circuit.troubled(self.start, self.probe, met, now, random),
            None => self.circuit.went_well(self.start, self.probe),
        }
    }
}

impl Drop for Permit<'_> {
    /// A probe that nobody ended leaves its place to the next.
    fn drop(&mut self) {
        if let (true, State::Probing { trouble }) = (self.probe, self.circuit.gate.get()) {
            self.circuit.gate.set(State::Open { until: self.start, trouble });
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
pub(super) fn part(time: Duration, random: u64) -> Duration {
    let thousandths = u32::try_from(random.checked_rem(1001).unwrap_or_default()).unwrap_or_default();
    time.saturating_mul(thousandths).checked_div(1000).unwrap_or_default()
}

/// How many troubles in a row open a circuit. As many as one request has tries: the first one that fails for good tells
/// all the others.
pub const TROUBLES: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause of our own making. Key Vault's guide ends at 16 seconds.
const LONGEST_OWN_PAUSE: Duration = Duration::from_secs(16);

/// The longest pause that is granted. What is longer is more likely a mistake than a plan, and one probe in a minute
/// harms nobody. IMDS comes back from an upgrade within 70 seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When to come back while the probe is under way.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trouble_closes_nothing_and_a_good_answer_ends_the_count() {
        let circuit = CircuitBreaker::new(Service::Vault);
        for round in 0..10 {
            for _ in 1..TROUBLES {
                go(&circuit, round).end(Some((FailureKind::Failing, None)), at(round), MIDDLE);
            }
            go(&circuit, round).end(None, at(round), MIDDLE);
        }
        assert_eq!(circuit.gate.get(), State::Closed);
    }

    #[test]
    fn throttling_makes_every_call_wait() {
        let circuit = CircuitBreaker::new(Service::Vault);
        go(&circuit, 100).end(Some((FailureKind::Throttled, None)), at(100), MIDDLE);
        for (now, random, wait) in [(100_000, 0, Some(1000)), (100_400, 1000, Some(1200)), (101_000, 0, None)]
        {
            match (circuit.enter(at_ms(now), random), wait) {
                (
                    Admission::Slow(pause, Error::Upstream { kind: FailureKind::Throttled, .. }),
                    Some(wait),
                ) => {
                    assert_eq!(pause, Duration::from_millis(wait), "{now}");
                }
                (Admission::Free(_), None) => {}
                (way, _) => panic!("{now}: {way:?}"),
            }
        }
    }

    #[test]
    fn who_says_when_to_come_back_is_believed_up_to_a_minute() {
        for (asked, pause) in [(0, 1), (1, 1), (7, 7), (60, 60), (61, 60), (3600, 60)] {
            for trouble in [FailureKind::Throttled, FailureKind::Failing] {
                let circuit = CircuitBreaker::new(Service::Identity);
                go(&circuit, 0).end(Some((trouble, Some(seconds(asked)))), at(0), MIDDLE);
                assert_eq!(circuit.gate.get(), State::Slow { until: at(pause), trouble }, "{asked}");
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
            let until = match circuit.gate.get() {
                State::Slow { until, .. } | State::Open { until, .. } => until,
                gate => panic!("{gate:?}"),
            };
            pauses.push(until.since(at(now)).as_secs());
            now += pauses.last().unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16, 16, 16, 16]);
    }

    #[test]
    fn calls_under_way_when_the_trouble_began_do_not_make_it_worse() {
        let circuit = CircuitBreaker::new(Service::Vault);
        let calls: Vec<_> = (0..50).map(|_| go(&circuit, 100)).collect();
        for call in calls {
            call.end(Some((FailureKind::Throttled, None)), at(101), MIDDLE);
        }
        assert_eq!(circuit.gate.get(), State::Slow { until: at(102), trouble: FailureKind::Throttled });
        assert_eq!(circuit.troubles.get(), 1);
    }

    #[test]
    fn a_throttled_call_from_before_the_trouble_makes_it_last() {
        for (trouble, left) in [(FailureKind::Failing, 100), (FailureKind::Throttled, 750)] {
            let circuit = CircuitBreaker::new(Service::Vault);
            let early = go(&circuit, 100);
            for _ in 0..TROUBLES {
                go(&circuit, 101).end(Some((FailureKind::Failing, None)), at(101), MIDDLE);
            }
            early.end(Some((trouble, None)), at_ms(101_900), MIDDLE);
            let gate = circuit.gate.get();
            assert_eq!(gate, State::Open { until: at_ms(101_900 + left), trouble: FailureKind::Failing });
        }
    }

    #[test]
    fn an_answer_from_before_the_trouble_does_not_end_it() {
        let circuit = CircuitBreaker::new(Service::Vault);
        let early = go(&circuit, 100);
        go(&circuit, 101).end(Some((FailureKind::Throttled, None)), at(102), MIDDLE);
        early.end(None, at(102), MIDDLE);
        assert!(matches!(circuit.enter(at(102), 0), Admission::Slow(..)));
    }

    #[test]
    fn three_troubles_open_the_circuit_and_one_probe_closes_it() {
        for (trouble, pause) in
            [(FailureKind::Throttled, 4), (FailureKind::Failing, 1), (FailureKind::Unreachable, 1)]
        {
            let error = |pause| Error::upstream(Service::Vault, trouble, pause);
            let circuit = open(Service::Vault, trouble);
            assert_eq!(closed(&circuit, 100), error(Some(seconds(pause))));
            let probe = go(&circuit, 100 + pause);
            assert_eq!(closed(&circuit, 100 + pause), error(Some(seconds(1))));
            probe.end(None, at(110), MIDDLE);
            drop((go(&circuit, 110), go(&circuit, 110)));
        }
    }

    #[test]
    fn a_probe_that_fails_opens_it_for_longer() {
        let circuit = open(Service::Identity, FailureKind::Failing);
        go(&circuit, 101).end(Some((FailureKind::Unreachable, None)), at(101), MIDDLE);
        assert_eq!(
            closed(&circuit, 102),
            Error::upstream(Service::Identity, FailureKind::Unreachable, Some(seconds(1)))
        );
        go(&circuit, 103).end(None, at(103), MIDDLE);
    }

    #[test]
    fn a_probe_that_vanishes_leaves_its_place_to_the_next() {
        let circuit = open(Service::Vault, FailureKind::Failing);
        drop(go(&circuit, 101));
        go(&circuit, 101).end(None, at(101), MIDDLE);
        assert_eq!(circuit.gate.get(), State::Closed);
    }

    #[test]
    fn a_pause_is_spread_by_a_quarter() {
        for (random, milliseconds) in [(0, 750), (500, 1000), (1000, 1250)] {
            let circuit = CircuitBreaker::new(Service::Vault);
            go(&circuit, 0).end(Some((FailureKind::Throttled, None)), at(0), random);
            let until = at_ms(milliseconds);
            assert_eq!(circuit.gate.get(), State::Slow { until, trouble: FailureKind::Throttled });
        }
    }

    /// A circuit that opened at second 100.
    fn open(service: Service, trouble: FailureKind) -> CircuitBreaker {
        let circuit = CircuitBreaker::new(service);
        for _ in 0..TROUBLES {
            let calls = Permit { circuit: &circuit, start: at(100), probe: false };
            circuit.gate.set(State::Closed);
            calls.end(Some((trouble, None)), at(100), MIDDLE);
        }
        circuit
    }

    fn go(circuit: &CircuitBreaker, now: u64) -> Permit<'_> {
        match circuit.enter(at(now), 0) {
            Admission::Free(pass) => pass,
            way => panic!("{now}: {way:?}"),
        }
    }

    fn closed(circuit: &CircuitBreaker, now: u64) -> Error {
        match circuit.enter(at(now), 0) {
            Admission::Closed(error) => error,
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
