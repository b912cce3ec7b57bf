//! How long a request may take, when a call is worth another try, and when none is.

use core::cell::Cell;
use core::time::Duration;

use crate::azure::Upstream;
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

    /// This deadline, or the moment `limit` after `start` if that is earlier.
    pub fn within(self, start: Moment, limit: Duration) -> Self {
        Self(self.0.min(start.plus(limit)))
    }
}

/// What is wrong with the other side, so that the same call may go well later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has had too many requests.
    Throttled,
    /// It answers that it fails.
    Failing,
    /// It does not answer.
    Unreachable,
}

impl Trouble {
    /// The trouble behind `error`, and the pause that Azure asked for.
    ///
    /// These are the errors that Microsoft's clients retry: 408, 429, 5xx and lost connections, and 404 and 410 of IMDS.
    pub const fn behind(error: &Error) -> Option<(Self, Option<Duration>)> {
        match error {
            Error::IdentityThrottled(pause) | Error::VaultThrottled(pause) => Some((Self::Throttled, *pause)),
            Error::IdentityUnavailable(pause) | Error::VaultUnavailable(pause) => {
                Some((Self::Failing, *pause))
            }
            Error::IdentityUnreachable(pause) | Error::VaultUnreachable(pause) => {
                Some((Self::Unreachable, *pause))
            }
            _ => None,
        }
    }

    /// What a request is told that is not even tried, as it would meet this trouble at `upstream`.
    const fn error(self, upstream: Upstream, left: Duration) -> Error {
        match (upstream, self) {
            (Upstream::Identity, Self::Throttled) => Error::IdentityThrottled(Some(left)),
            (Upstream::Identity, Self::Failing) => Error::IdentityUnavailable(Some(left)),
            (Upstream::Identity, Self::Unreachable) => Error::IdentityUnreachable(Some(left)),
            (Upstream::Vault, Self::Throttled) => Error::VaultThrottled(Some(left)),
            (Upstream::Vault, Self::Failing) => Error::VaultUnavailable(Some(left)),
            (Upstream::Vault, Self::Unreachable) => Error::VaultUnreachable(Some(left)),
        }
    }
}

/// How long to wait before a call is tried again: a random part of `first` doubled with each try (full jitter).
pub fn backoff(first: Duration, tries: u32, random: u64) -> Duration {
    part(doubled(first, tries.saturating_sub(1), LONGEST_BACKOFF), random)
}

/// What all requests of an instance know of an upstream: whether calls go through, wait, or are not even tried.
///
/// Throttling makes every call wait for the pause that Azure asked for, or else for 1, 2, 4, 8 and 16 seconds (Microsoft,
/// "Azure Key Vault throttling guidance"). [`TROUBLES`] troubles in a row open the circuit: calls fail at once until the
/// pause is over, and then one call, the probe, finds out.
#[derive(Debug)]
pub struct Circuit {
    upstream: Upstream,
    gate: Cell<Gate>,
    troubles: Cell<u32>,
    /// When the last trouble was heard of. Calls from before that were in it already.
    since: Cell<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Closed,
    Slow { until: Moment },
    Open { until: Moment, trouble: Trouble },
    Probing { trouble: Trouble },
}

/// What a call is told that wants to go.
#[derive(Debug)]
pub enum Way<'a> {
    /// Go.
    Free(Pass<'a>),
    /// Wait this long, and ask again; or, if there is no time for that, this error.
    Slow(Duration, Error),
    /// Do not try.
    Closed(Error),
}

/// A call that goes. If nobody says how it ended, nothing was learnt.
#[derive(Debug)]
pub struct Pass<'a> {
    circuit: &'a Circuit,
    start: Moment,
    probe: bool,
}

impl Circuit {
    /// A circuit of calls to `upstream`, about which nothing is known.
    pub const fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            gate: Cell::new(Gate::Closed),
            troubles: Cell::new(0),
            since: Cell::new(Moment::after_start(Duration::ZERO)),
        }
    }

    /// Asks for a call's way at `now`; `random` sets those apart that wait for the same moment.
    pub fn enter(&self, now: Moment, random: u64) -> Way<'_> {
        match self.gate.get() {
            Gate::Closed => Way::Free(Pass { circuit: self, start: now, probe: false }),
            Gate::Slow { until } if now < until => {
                let left = until.since(now);
                let error = Trouble::Throttled.error(self.upstream, left);
                Way::Slow(left.saturating_add(part(left, random)), error)
            }
            Gate::Slow { .. } => {
                self.gate.set(Gate::Closed);
                Way::Free(Pass { circuit: self, start: now, probe: false })
            }
            Gate::Open { until, trouble } if now < until => {
                Way::Closed(trouble.error(self.upstream, until.since(now)))
            }
            Gate::Open { trouble, .. } => {
                self.gate.set(Gate::Probing { trouble });
                Way::Free(Pass { circuit: self, start: now, probe: true })
            }
            Gate::Probing { trouble } => Way::Closed(trouble.error(self.upstream, PROBE_PAUSE)),
        }
    }

    fn troubled(
        &self,
        start: Moment,
        probe: bool,
        met: (Trouble, Option<Duration>),
        now: Moment,
        random: u64,
    ) {
        let (trouble, asked) = met;
        if !probe && self.gate.get() != Gate::Closed && start < self.since.get() {
            return;
        }
        let troubles = self.troubles.get().saturating_add(1);
        self.troubles.set(troubles);
        self.since.set(now);
        let asked = asked.map(|it| it.min(LONGEST_PAUSE));
        let opens = probe || troubles >= TROUBLES;
        let rounds = if opens { troubles.saturating_sub(TROUBLES) } else { troubles.saturating_sub(1) };
        let own = doubled(FIRST_PAUSE, rounds, LONGEST_OWN_PAUSE);
        // A quarter more or less, so that a fleet does not come back as one.
        let own =
            own.saturating_sub(quarter(own)).saturating_add(part(quarter(own).saturating_mul(2), random));
        let until = now.plus(asked.map_or(own, |it| it.max(own)));
        self.gate.set(match trouble {
            _ if opens => Gate::Open { until, trouble },
            Trouble::Throttled => Gate::Slow { until },
            // Whoever says when to come back is believed, and by everybody.
            Trouble::Failing | Trouble::Unreachable if asked.is_some() => Gate::Slow { until },
            Trouble::Failing | Trouble::Unreachable => Gate::Closed,
        });
    }

    fn went_well(&self, start: Moment, probe: bool) {
        if probe || start >= self.since.get() {
            self.gate.set(Gate::Closed);
            self.troubles.set(0);
        }
    }
}

impl Pass<'_> {
    /// Notes at `now` how the call ended: with trouble, or else with an answer, whatever that says.
    pub fn end(self, met: Option<(Trouble, Option<Duration>)>, now: Moment, random: u64) {
        match met {
            Some(met) => self.circuit.troubled(self.start, self.probe, met, now, random),
            None => self.circuit.went_well(self.start, self.probe),
        }
    }
}

impl Drop for Pass<'_> {
    /// A probe that nobody ended leaves its place to the next.
    fn drop(&mut self) {
        if let (true, Gate::Probing { trouble }) = (self.probe, self.circuit.gate.get()) {
            self.circuit.gate.set(Gate::Open { until: self.start, trouble });
        }
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(16))).min(most)
}

const fn quarter(time: Duration) -> Duration {
    match time.checked_div(4) {
        Some(quarter) => quarter,
        None => Duration::ZERO,
    }
}

/// A random part of `time`, from nothing to all of it.
fn part(time: Duration, random: u64) -> Duration {
    let thousandths = u32::try_from(random.checked_rem(1001).unwrap_or_default()).unwrap_or_default();
    time.saturating_mul(thousandths).checked_div(1000).unwrap_or_default()
}

/// How many troubles in a row open a circuit. As many as one request has tries: the first one that fails for good tells
/// all the others.
pub const TROUBLES: u32 = 3;

/// How often a call is made for one request. Key Vault's and IMDS's guides have up to five retries, over half a minute;
/// within a deadline of ten seconds there is room for two.
pub const TRIES: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause of our own making. Key Vault's guide ends at 16 seconds.
const LONGEST_OWN_PAUSE: Duration = Duration::from_secs(16);

/// The longest pause that is granted. What is longer is more likely a mistake than a plan, and one probe in a minute
/// harms nobody. IMDS comes back from an upgrade within 70 seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

const LONGEST_BACKOFF: Duration = Duration::from_secs(16);

/// When to come back while the probe is under way.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
