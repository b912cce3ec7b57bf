//! The plan of one run, drawn from a seed: settings, host, secrets, changes, faults and requests.

use std::time::Duration;

use fastrand::Rng;
use keyvault_gateway::error::Service;

use crate::azure::Issuer;
use crate::checks::RECOVERY;

#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// `GATEWAY_CACHE_TTL_SECONDS`, `GATEWAY_STALE_SECONDS` and `GATEWAY_NEGATIVE_TTL_SECONDS`.
    pub ttl: u64,
    pub stale: u64,
    pub negative: u64,
    pub entries: usize,
    pub deadline: u64,
    /// Whether the token source is the Instance Metadata Service instead of App Service.
    pub imds: bool,
    /// Whether it is Entra ID instead of either, with an assertion in a file: one run in three.
    pub federated: bool,
    pub host: HostPlan,
    pub secrets: usize,
    /// The lifetime of an access token, in seconds.
    pub token_lifetime: u64,
    pub calls_per_second: u32,
    /// The calls in one second after which the vault throttles all calls for a minute, if it counts them.
    pub vault_capacity: Option<usize>,
    /// Whether Azure works all the time, so that the plain requests must succeed whatever hostile clients
    /// send.
    pub isolation: bool,
    pub refresh_in: bool,
    /// The usual latency, in milliseconds.
    pub latency: u64,
    pub faults: Vec<Fault>,
    pub changes: Vec<(Duration, Change)>,
    /// Whether some callers send access tokens: one run in six, because signatures take most of the time of
    /// such a run.
    pub access_tokens: bool,
    /// The requests of all clients, in order of time.
    pub requests: Vec<PlannedRequest>,
    /// The time at which all faults end.
    pub faults_end: Duration,
    /// The time after `faults_end` within which the gateway must recover.
    pub recovery: Duration,
}

/// The limits of a host for one instance, as in the options of `wasmtime serve`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostPlan {
    /// The most concurrent requests: 1 for WASI 0.2, where the gateway does no refresh-ahead.
    pub concurrent_reuse: usize,
    /// The most requests in the lifetime of an instance.
    pub reuse: usize,
    /// The time without a request after which the host drops the instance.
    pub idle_timeout: Duration,
}

const ONE_INSTANCE: HostPlan =
    HostPlan { concurrent_reuse: 1000, reuse: 1_000_000, idle_timeout: Duration::from_secs(3600) };

/// A fault of one upstream, for a while and for a share of its calls.
#[derive(Clone, Debug)]
pub struct Fault {
    pub from: Duration,
    pub until: Duration,
    pub upstream: Service,
    /// The percentage of calls that are affected.
    pub percent: u8,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Lost,
    Hang,
    /// Additional latency, in milliseconds.
    Slow(u64),
    /// A status, perhaps with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// A 401 of the vault for a valid token, which the vault cannot verify at the moment.
    RefusesToken,
    /// A body that is not JSON.
    Garbage,
    /// A token with this lifetime, in seconds.
    ShortLived(u64),
    /// The host cannot read the token file.
    NoTokenFile,
    /// A refusal of the assertion, with this AADSTS code.
    RefusesAssertion(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a version to the secret.
    Rotate(usize),
    Disable(usize),
    Delete(usize),
    Enable(usize),
    /// Revokes all access tokens that the token source has issued so far.
    RevokeTokens,
    /// Makes both issuers sign with their next keys.
    RotateSigningKeys,
    /// Moves the calendar clock of the hosts by this many seconds.
    MoveClock(i64),
    /// Drops all idle instances and one in four of the others.
    RecycleInstances,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct PlannedRequest {
    pub at: Duration,
    pub secret: usize,
    /// Further secrets, if the request asks for several: in one of them twice for one.
    pub also: Option<[usize; 3]>,
    /// Whether the name is written in upper case.
    pub uppercase: bool,
    /// Whether the request pins the first version of the secret.
    pub pinned: bool,
    pub no_cache: bool,
    /// The number of a version that does not exist.
    pub made_up_version: Option<u32>,
    /// The time between the head and the body.
    pub body_delay: Duration,
    pub caller: Caller,
    /// The time after which the client hangs up.
    pub hangs_up: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// Has an API key for all secrets.
    #[default]
    AllSecrets,
    /// Has an API key for the secrets with even numbers.
    EvenSecrets,
    WrongKey,
    /// Has an access token of the tenant for all secrets.
    AccessToken,
    /// Has a token of the cluster's issuer for all secrets.
    ServiceAccount,
    /// Has a token of one issuer with a key of the other.
    MixedToken(Issuer),
    /// Has an access token with a foreign signature, under a published key id or an unknown one.
    ForgedToken {
        known_key_id: bool,
    },
    Metrics,
    /// Requests readiness with a wrong key.
    Readiness,
}

impl Plan {
    /// Draws the plan of `seed`. One plan in fifty is large.
    pub fn draw(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x5EED);
        let large = seed % 50 == 49;
        let random = &mut random;
        let secrets = if large { random.usize(5..60) } else { random.usize(1..6) };
        let faults_end = Duration::from_secs(random.u64(20..if large { 60 } else { 120 }));
        let ttl = *pick(random, &[0, 1, 3, 5, 10, 20, 300]);
        let mut plan = Self {
            ttl,
            stale: *pick(random, &[0, 2, 10, 30, 60, 3600]),
            negative: *pick(random, &[0, 1, 5, 10]),
            entries: *pick(random, &[1, 2, 1000, 1000, 1000]),
            deadline: *pick(random, &[1, 2, 5, 10, 10, 10]),
            imds: random.bool(),
            federated: seed % 3 == 1,
            host: draw_host(random),
            secrets,
            token_lifetime: *pick(random, &[5, 30, 600, 3600, 86_400]),
            calls_per_second: *pick(random, &[0, 1, 10, 10]),
            vault_capacity: None,
            isolation: false,
            refresh_in: random.u8(..4) == 0,
            latency: *pick(random, &[1, 10, 100, 300]),
            faults: Vec::new(),
            changes: Vec::new(),
            access_tokens: random.u8(..6) == 0,
            requests: Vec::new(),
            faults_end,
            recovery: RECOVERY,
        };
        for _ in 0..random.usize(0..8) {
            plan.faults.push(draw_fault(random, faults_end));
        }
        for _ in 0..if plan.federated { random.usize(0..4) } else { 0 } {
            plan.faults.push(draw_assertion_fault(random, faults_end));
        }
        for _ in 0..random.usize(0..10) {
            let at = moment(random, faults_end);
            plan.changes.push((at, draw_change(random, secrets)));
        }
        plan.changes.extend((0..secrets).map(|secret| (faults_end, Change::Enable(secret))));
        plan.changes.sort_by_key(|change| change.0);
        let bursts = if large { random.usize(20..60) } else { random.usize(5..30) };
        for _ in 0..bursts {
            draw_burst(random, &mut plan, large);
        }
        plan.requests.sort_by_key(|request| request.at);
        plan
    }

    /// Whether a token comes with its lifetime, and not with the date of its expiry.
    pub const fn knows_lifetime(&self) -> bool {
        self.imds || self.federated
    }

    /// Draws the plan of `seed` with a load spike: thousands of requests within a second, for all secrets, on
    /// many instances.
    pub fn load_spike(seed: u64) -> Self {
        let mut plan = Self::draw(seed);
        plan.host = HostPlan { concurrent_reuse: 16, reuse: 128, idle_timeout: Duration::from_secs(1) };
        let mut random = Rng::with_seed(seed ^ 0xC0);
        let start = moment(&mut random, plan.faults_end);
        plan.requests.extend((0..5000).map(|number| PlannedRequest {
            at: start + Duration::from_micros(number * 200),
            secret: random.usize(..plan.secrets),
            no_cache: random.u8(..10) == 0,
            hangs_up: (random.u8(..20) == 0).then(|| Duration::from_millis(random.u64(0..1000))),
            ..plain_request(0, start)
        }));
        plan.requests.sort_by_key(|request| request.at);
        plan
    }

    /// Draws a plan with hostile clients beside a few plain requests that must all succeed.
    ///
    /// Unauthenticated clients send wrong keys and forged tokens and request readiness. One caller with a
    /// narrow scope requests versions that do not exist, sends `no-cache` and sends its bodies late. Both
    /// hang up. Azure is slow, works all the time, and throttles all calls for a minute when it gets too many
    /// in a second.
    pub fn hostile_clients(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0xBAD);
        let random = &mut random;
        let secrets = random.usize(2..6);
        let end = Duration::from_secs(random.u64(20..60));
        let slow = [(Service::TokenSource, 1200), (Service::Vault, 900), (Service::Jwks, 1500)];
        let faults = slow.map(|(upstream, most)| {
            let kind = FaultKind::Slow(random.u64(0..most));
            Fault { from: Duration::ZERO, until: end, upstream, percent: 100, kind }
        });
        let mut plan = Self {
            deadline: 10,
            calls_per_second: 10,
            vault_capacity: Some(250),
            isolation: true,
            entries: 1000,
            host: ONE_INSTANCE,
            secrets,
            token_lifetime: *pick(random, &[30, 600, 86_400]),
            latency: *pick(random, &[1, 10, 100]),
            faults: faults.to_vec(),
            changes: Vec::new(),
            access_tokens: random.bool(),
            requests: Vec::new(),
            faults_end: end,
            ..Self::draw(seed)
        };
        for _ in 0..random.usize(400..1500) {
            let caller = match random.u8(..8) {
                0 | 1 => Caller::WrongKey,
                2 if plan.access_tokens => Caller::ForgedToken { known_key_id: random.bool() },
                2 | 3 => Caller::Readiness,
                _ => Caller::EvenSecrets,
            };
            let narrow = caller == Caller::EvenSecrets;
            // The hostile requests come in bursts of a second, one every 20 seconds.
            let at = Duration::from_secs(random.u64(0..end.as_secs()) / 20 * 20)
                + Duration::from_micros(random.u64(0..900_000));
            plan.requests.push(PlannedRequest {
                at,
                secret: 0,
                uppercase: random.bool(),
                no_cache: narrow && random.u8(..4) == 0,
                made_up_version: (narrow && random.u8(..4) > 0).then(|| random.u32(..)),
                body_delay: Duration::from_millis(if narrow && random.u8(..3) == 0 {
                    random.u64(0..4000)
                } else {
                    0
                }),
                caller,
                hangs_up: (random.u8(..4) == 0).then(|| Duration::from_millis(random.u64(0..3000))),
                ..plain_request(0, at)
            });
        }
        for _ in 0..random.usize(10..40) {
            let at = moment(random, end);
            plan.requests.push(plain_request(random.usize(..secrets), at));
        }
        plan.requests.sort_by_key(|request| request.at);
        plan
    }

    /// Draws a plan whose vault refuses valid tokens, some or all of them, for up to a minute, and has no
    /// other fault.
    pub fn refused_tokens(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x401);
        let random = &mut random;
        let secrets = random.usize(1..6);
        let from = Duration::from_secs(random.u64(0..10));
        let faults_end = from + Duration::from_secs(random.u64(5..60));
        let percent = *pick(random, &[10, 30, 50, 90, 100]);
        let (upstream, kind) = (Service::Vault, FaultKind::RefusesToken);
        let fault = Fault { from, until: faults_end, upstream, percent, kind };
        let mut plan = Self {
            ttl: *pick(random, &[1, 3, 10]),
            stale: 3600,
            negative: 10,
            deadline: 10,
            calls_per_second: 0,
            entries: 1000,
            host: ONE_INSTANCE,
            secrets,
            token_lifetime: 86_400,
            refresh_in: false,
            latency: *pick(random, &[1, 10, 100]),
            faults: vec![fault],
            changes: Vec::new(),
            access_tokens: false,
            requests: Vec::new(),
            faults_end,
            recovery: SHORT_RECOVERY,
            ..Self::draw(seed)
        };
        let end = faults_end + SHORT_RECOVERY + Duration::from_secs(20);
        for _ in 0..random.usize(50..400) {
            let at = moment(random, end);
            plan.requests.push(PlannedRequest {
                no_cache: random.u8(..10) == 0,
                ..plain_request(random.usize(..secrets), at)
            });
        }
        plan.requests.sort_by_key(|request| request.at);
        plan
    }
}

/// The recovery time after refused tokens: the longest backoff of the circuit breaker with its jitter, and
/// one second of cached errors.
pub const SHORT_RECOVERY: Duration = Duration::from_secs(16 + 4 + 1);

/// A request for the latest version by a caller with access to all secrets.
pub fn plain_request(secret: usize, at: Duration) -> PlannedRequest {
    PlannedRequest { at, secret, ..PlannedRequest::default() }
}

fn draw_host(random: &mut Rng) -> HostPlan {
    let idle_timeout = Duration::from_secs(*pick(random, &[1, 60, 3600]));
    match random.u8(..4) {
        0 => HostPlan { concurrent_reuse: 1, reuse: *pick(random, &[1, 1000]), idle_timeout },
        1 => HostPlan { concurrent_reuse: 16, reuse: 128, idle_timeout: Duration::from_secs(1) },
        2 => ONE_INSTANCE,
        _ => HostPlan { concurrent_reuse: random.usize(2..20), reuse: random.usize(5..500), idle_timeout },
    }
}

fn draw_fault(random: &mut Rng, faults_end: Duration) -> Fault {
    let from = moment(random, faults_end);
    let until = (from + Duration::from_millis(random.u64(200..40_000))).min(faults_end);
    let upstream = match random.u8(..6) {
        0..3 => Service::Vault,
        3 | 4 => Service::TokenSource,
        _ => Service::Jwks,
    };
    let retry_after = match random.u8(..4) {
        0 => Some(random.u64(0..4)),
        1 => Some(random.u64(4..100)),
        _ => None,
    };
    let kind = match random.u8(..13) {
        0 | 1 => FaultKind::Lost,
        2 | 3 => FaultKind::Hang,
        4 => FaultKind::Slow(random.u64(100..15_000)),
        5 | 6 => FaultKind::Status(429, retry_after),
        7 => FaultKind::Status(*pick(random, &[500, 502, 503, 504, 408]), retry_after),
        8 => FaultKind::Status(*pick(random, &[400, 401, 403, 404, 410, 418]), None),
        9 => FaultKind::Garbage,
        10 => FaultKind::ShortLived(random.u64(0..20)),
        11 if upstream == Service::Vault => FaultKind::RefusesToken,
        _ => FaultKind::Status(503, None),
    };
    Fault { from, until, upstream, percent: *pick(random, &[10, 50, 90, 100, 100]), kind }
}

/// Draws a fault of the assertion: of its file, or of Entra ID that does not accept it.
fn draw_assertion_fault(random: &mut Rng, faults_end: Duration) -> Fault {
    let from = moment(random, faults_end);
    let until = (from + Duration::from_millis(random.u64(200..20_000))).min(faults_end);
    let kind = match random.u8(..3) {
        0 => FaultKind::NoTokenFile,
        _ => FaultKind::RefusesAssertion(*pick(random, &[70_021, 700_211, 700_213, 700_024, 700_212])),
    };
    let percent = *pick(random, &[2, 10, 50, 100]);
    Fault { from, until, upstream: Service::TokenSource, percent, kind }
}

fn draw_change(random: &mut Rng, secrets: usize) -> Change {
    let secret = random.usize(..secrets);
    match random.u8(..14) {
        0..4 => Change::Rotate(secret),
        4 | 5 => Change::Disable(secret),
        6 => Change::Delete(secret),
        7 => Change::Enable(secret),
        8 => Change::RevokeTokens,
        9 => Change::MoveClock(*pick(random, &[-100_000, -3600, -1, 1, 3600, 100_000])),
        10 | 11 => Change::RecycleInstances,
        _ => Change::RotateSigningKeys,
    }
}

fn draw_burst(random: &mut Rng, plan: &mut Plan, large: bool) {
    let start = moment(random, plan.faults_end);
    let many = match random.u8(..10) {
        0..5 => 1,
        5..8 => random.usize(2..8),
        _ if large => random.usize(50..200),
        _ => random.usize(8..30),
    };
    let width = *pick(random, &[0, 1, 50, 1000, 10_000]);
    let one_secret = random.u8(..3) > 0;
    let first = random.usize(..plan.secrets);
    let hang_ups = random.u8(..4) == 0;
    let no_cache = *pick(random, &[0, 0, 20, 100]);
    for _ in 0..many {
        let hangs_up = (hang_ups && random.u8(..3) == 0).then(|| Duration::from_millis(random.u64(0..3000)));
        let also = (random.u8(..10) == 0).then(|| [(); 3].map(|()| random.usize(..plan.secrets)));
        plan.requests.push(PlannedRequest {
            at: start + Duration::from_millis(random.u64(0..=width)),
            secret: if one_secret { first } else { random.usize(..plan.secrets) },
            also,
            uppercase: random.u8(..10) == 0,
            pinned: also.is_none() && random.u8(..12) == 0,
            no_cache: random.u8(..100) < no_cache,
            caller: match random.u8(if also.is_some() { 1..4 } else { 0..25 }) {
                0 => Caller::WrongKey,
                1 => Caller::EvenSecrets,
                2 | 3 if also.is_none() => Caller::EvenSecrets,
                4 => Caller::Metrics,
                5..9 if plan.access_tokens => Caller::AccessToken,
                9..12 if plan.access_tokens => Caller::ServiceAccount,
                13 if plan.access_tokens => {
                    Caller::MixedToken(*pick(random, &[Issuer::Tenant, Issuer::Cluster]))
                }
                12 if plan.access_tokens => Caller::ForgedToken { known_key_id: random.bool() },
                _ => Caller::AllSecrets,
            },
            hangs_up,
            ..plain_request(0, start)
        });
    }
}

fn moment(random: &mut Rng, before: Duration) -> Duration {
    Duration::from_millis(random.u64(0..u64::try_from(before.as_millis()).unwrap_or(u64::MAX)))
}

fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(..from.len())]
}
