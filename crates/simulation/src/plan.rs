//! What a seed draws: settings, a host, secrets and their changes, faults, and who asks for what.

use core::time::Duration;

use fastrand::Rng;
use keyvault_gateway::error::Service;

use crate::checks::RECOVERY;

#[derive(Clone, Debug)]
pub struct Plan {
    /// `GATEWAY_CACHE_TTL_SECONDS`, `GATEWAY_STALE_SECONDS` and `GATEWAY_NEGATIVE_TTL_SECONDS`.
    pub ttl: u64,
    pub stale: u64,
    pub negative: u64,
    pub entries: usize,
    pub deadline: u64,
    /// Whether the token source is the metadata service, and not App Service.
    pub imds: bool,
    pub host: HostPlan,
    pub secrets: usize,
    /// How long tokens last, in seconds.
    pub token_life: u64,
    pub rate: u32,
    /// How many calls in a second the vault takes before it throttles everything for a minute, if it counts them.
    pub capacity: Option<usize>,
    /// Whether Azure is well all the time, so that every caller but the hostile ones is answered as if it were alone.
    pub undisturbed: bool,
    pub refresh_in: bool,
    /// A usual latency, in milliseconds.
    pub latency: u64,
    pub faults: Vec<Fault>,
    pub changes: Vec<(Duration, Change)>,
    /// Whether some callers have tokens. It is so in one run of six, as signatures take most of the time of such a run.
    pub bearers: bool,
    /// Who asks for what, and when, in order.
    pub load: Vec<Ask>,
    /// When everything is well again.
    pub healed: Duration,
    /// How long after that everything is as ever.
    pub recovery: Duration,
}

/// How a host treats its instances.
#[derive(Clone, Copy, Debug)]
pub struct HostPlan {
    /// How many requests an instance serves at a time: 1 for WASI 0.2, where nothing is renewed after an answer.
    pub concurrent: usize,
    /// After how many requests it is gone.
    pub reuse: usize,
    /// After how long without one.
    pub idle: Duration,
}

const ONE_INSTANCE: HostPlan =
    HostPlan { concurrent: 1000, reuse: 1_000_000, idle: Duration::from_secs(3600) };

/// Something that goes wrong for a while with some of the calls.
#[derive(Clone, Debug)]
pub struct Fault {
    pub from: Duration,
    pub until: Duration,
    pub upstream: Service,
    /// Of a hundred calls, this many.
    pub percent: u8,
    pub what: Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Lost,
    Hang,
    /// It takes this many milliseconds more.
    Slow(u64),
    /// A status, perhaps with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// The vault refuses a good token, as it cannot check it.
    Wavering,
    /// A body that makes no sense.
    Garbage,
    /// A token that lasts for this many seconds only.
    ShortLived(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The secret has a new version.
    Rotate(usize),
    Disable(usize),
    Delete(usize),
    Enable(usize),
    /// All tokens given so far are refused from now on.
    Revoke,
    /// The callers' tenant signs with the key that was to be the next.
    RotateKeys,
    /// The calendar clock of the hosts jumps by so many seconds.
    Jump(i64),
    /// All instances that are not serving anybody are gone, and one in four that is.
    Recycle,
}

#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub at: Duration,
    pub secret: usize,
    /// The name is written in capitals.
    pub capitals: bool,
    /// The version that the secret had at first is pinned.
    pub pinned: bool,
    pub no_cache: bool,
    /// A version that does not exist is asked for.
    pub made_up: Option<u32>,
    /// The body comes so much later than the head.
    pub late: Duration,
    pub caller: Caller,
    /// The client hangs up after this time.
    pub hangs_up: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    All,
    /// May read the secrets with even numbers.
    Even,
    /// Has no valid key.
    Nobody,
    /// Has a token of the tenant, and may read everything.
    Bearer,
    /// Has a token that somebody else has signed: under the name of the tenant's key, or under one that nobody knows.
    Forger {
        known_name: bool,
    },
    Metrics,
    /// Asks for readiness, without a key.
    Probe,
}

impl Plan {
    /// What `seed` draws. One in fifty is large.
    pub fn draw(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x5EED);
        let large = seed % 50 == 49;
        let random = &mut random;
        let secrets = if large { random.usize(5..60) } else { random.usize(1..6) };
        let healed = Duration::from_secs(random.u64(20..if large { 60 } else { 120 }));
        let ttl = *pick(random, &[0, 1, 3, 5, 10, 20, 300]);
        let mut plan = Self {
            ttl,
            stale: *pick(random, &[0, 2, 10, 30, 60, 3600]),
            negative: *pick(random, &[0, 1, 5, 10]),
            entries: *pick(random, &[1, 2, 1000, 1000, 1000]),
            deadline: *pick(random, &[1, 2, 5, 10, 10, 10]),
            imds: random.bool(),
            host: draw_host(random),
            secrets,
            token_life: *pick(random, &[5, 30, 600, 3600, 86_400]),
            rate: *pick(random, &[0, 1, 10, 10]),
            capacity: None,
            undisturbed: false,
            refresh_in: random.u8(..4) == 0,
            latency: *pick(random, &[1, 10, 100, 300]),
            faults: Vec::new(),
            changes: Vec::new(),
            bearers: random.u8(..6) == 0,
            load: Vec::new(),
            healed,
            recovery: RECOVERY,
        };
        for _ in 0..random.usize(0..8) {
            plan.faults.push(draw_fault(random, healed));
        }
        for _ in 0..random.usize(0..10) {
            let at = moment(random, healed);
            plan.changes.push((at, draw_change(random, secrets)));
        }
        // What was taken away comes back.
        plan.changes.extend((0..secrets).map(|it| (healed, Change::Enable(it))));
        plan.changes.sort_by_key(|it| it.0);
        let bursts = if large { random.usize(20..60) } else { random.usize(5..30) };
        for _ in 0..bursts {
            draw_burst(random, &mut plan, large);
        }
        plan.load.sort_by_key(|it| it.at);
        plan
    }

    /// What `seed` draws, and a crowd: thousands of requests within a second, for all secrets, over many instances.
    pub fn crowd(seed: u64) -> Self {
        let mut plan = Self::draw(seed);
        plan.host = HostPlan { concurrent: 16, reuse: 128, idle: Duration::from_secs(1) };
        let mut random = Rng::with_seed(seed ^ 0xC0);
        let start = moment(&mut random, plan.healed);
        plan.load.extend((0..5000).map(|number| Ask {
            at: start + Duration::from_micros(number * 200),
            secret: random.usize(..plan.secrets),
            no_cache: random.u8(..10) == 0,
            hangs_up: (random.u8(..20) == 0).then(|| Duration::from_millis(random.u64(0..1000))),
            ..ordinary(0, start)
        }));
        plan.load.sort_by_key(|it| it.at);
        plan
    }

    /// Hostile clients, and a few others who must not notice: strangers with wrong keys, forged tokens and probes that hang up, and a
    /// caller with a narrow scope that makes versions up, wants everything afresh, sends its bodies late and hangs up. Azure is well
    /// all the time, although slow, and throttles everything for a minute when it gets too many calls in a second.
    pub fn hostile(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0xBAD);
        let random = &mut random;
        let secrets = random.usize(2..6);
        let end = Duration::from_secs(random.u64(20..60));
        let slow = |upstream, most: u64, random: &mut Rng| Fault {
            from: Duration::ZERO,
            until: end,
            upstream,
            percent: 100,
            what: Wrong::Slow(random.u64(0..most)),
        };
        let faults = vec![
            slow(Service::Identity, 1200, random),
            slow(Service::Vault, 900, random),
            slow(Service::Directory, 1500, random),
        ];
        let mut plan = Self {
            deadline: 10,
            rate: 10,
            capacity: Some(250),
            undisturbed: true,
            entries: 1000,
            host: ONE_INSTANCE,
            secrets,
            token_life: *pick(random, &[30, 600, 86_400]),
            latency: *pick(random, &[1, 10, 100]),
            faults,
            changes: Vec::new(),
            bearers: random.bool(),
            load: Vec::new(),
            healed: end,
            ..Self::draw(seed)
        };
        for _ in 0..random.usize(400..1500) {
            let caller = match random.u8(..8) {
                0 | 1 => Caller::Nobody,
                2 if plan.bearers => Caller::Forger { known_name: random.bool() },
                2 | 3 => Caller::Probe,
                _ => Caller::Even,
            };
            let narrow = caller == Caller::Even;
            // Many at once, and then none for a while.
            let at = Duration::from_secs(random.u64(0..end.as_secs()) / 20 * 20)
                + Duration::from_micros(random.u64(0..900_000));
            plan.load.push(Ask {
                at,
                secret: 0,
                capitals: random.bool(),
                no_cache: narrow && random.u8(..4) == 0,
                made_up: (narrow && random.u8(..4) > 0).then(|| random.u32(..)),
                late: if narrow && random.u8(..3) == 0 {
                    Duration::from_millis(random.u64(0..4000))
                } else {
                    Duration::ZERO
                },
                caller,
                hangs_up: (random.u8(..4) == 0).then(|| Duration::from_millis(random.u64(0..3000))),
                ..ordinary(0, at)
            });
        }
        for _ in 0..random.usize(10..40) {
            let at = moment(random, end);
            plan.load.push(ordinary(random.usize(..secrets), at));
        }
        plan.load.sort_by_key(|ask| ask.at);
        plan
    }

    /// A vault that refuses good tokens, now and then or all of them, for up to a minute, and is well otherwise.
    pub fn wavering(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x401);
        let random = &mut random;
        let secrets = random.usize(1..6);
        let from = Duration::from_secs(random.u64(0..10));
        let healed = from + Duration::from_secs(random.u64(5..60));
        let percent = *pick(random, &[10, 30, 50, 90, 100]);
        let mut plan = Self {
            ttl: *pick(random, &[1, 3, 10]),
            stale: 3600,
            negative: 10,
            deadline: 10,
            rate: 0,
            entries: 1000,
            host: ONE_INSTANCE,
            secrets,
            token_life: 86_400,
            refresh_in: false,
            latency: *pick(random, &[1, 10, 100]),
            faults: vec![Fault {
                from,
                until: healed,
                upstream: Service::Vault,
                percent,
                what: Wrong::Wavering,
            }],
            changes: Vec::new(),
            bearers: false,
            load: Vec::new(),
            healed,
            recovery: SOON,
            ..Self::draw(seed)
        };
        let end = healed + SOON + Duration::from_secs(20);
        for _ in 0..random.usize(50..400) {
            let at = moment(random, end);
            plan.load.push(Ask { no_cache: random.u8(..10) == 0, ..ordinary(random.usize(..secrets), at) });
        }
        plan.load.sort_by_key(|ask| ask.at);
        plan
    }
}

/// The longest pause of our own making, with its spread, and the second for which an error is remembered.
pub const SOON: Duration = Duration::from_secs(16 + 4 + 1);

/// A request of a caller that may read everything.
pub const fn ordinary(secret: usize, at: Duration) -> Ask {
    Ask {
        at,
        secret,
        capitals: false,
        pinned: false,
        no_cache: false,
        made_up: None,
        late: Duration::ZERO,
        caller: Caller::All,
        hangs_up: None,
    }
}

fn draw_host(random: &mut Rng) -> HostPlan {
    let idle = Duration::from_secs(*pick(random, &[1, 60, 3600]));
    match random.u8(..4) {
        0 => HostPlan { concurrent: 1, reuse: *pick(random, &[1, 1000]), idle },
        1 => HostPlan { concurrent: 16, reuse: 128, idle: Duration::from_secs(1) },
        2 => ONE_INSTANCE,
        _ => HostPlan { concurrent: random.usize(2..20), reuse: random.usize(5..500), idle },
    }
}

fn draw_fault(random: &mut Rng, healed: Duration) -> Fault {
    let from = moment(random, healed);
    let until = (from + Duration::from_millis(random.u64(200..40_000))).min(healed);
    let upstream = match random.u8(..6) {
        0..3 => Service::Vault,
        3 | 4 => Service::Identity,
        _ => Service::Directory,
    };
    let retry_after = match random.u8(..4) {
        0 => Some(random.u64(0..4)),
        1 => Some(random.u64(4..100)),
        _ => None,
    };
    let what = match random.u8(..13) {
        0 | 1 => Wrong::Lost,
        2 | 3 => Wrong::Hang,
        4 => Wrong::Slow(random.u64(100..15_000)),
        5 | 6 => Wrong::Status(429, retry_after),
        7 => Wrong::Status(*pick(random, &[500, 502, 503, 504, 408]), retry_after),
        8 => Wrong::Status(*pick(random, &[400, 401, 403, 404, 410, 418]), None),
        9 => Wrong::Garbage,
        10 => Wrong::ShortLived(random.u64(0..20)),
        11 if upstream == Service::Vault => Wrong::Wavering,
        _ => Wrong::Status(503, None),
    };
    Fault { from, until, upstream, percent: *pick(random, &[10, 50, 90, 100, 100]), what }
}

fn draw_change(random: &mut Rng, secrets: usize) -> Change {
    let secret = random.usize(..secrets);
    match random.u8(..14) {
        0..4 => Change::Rotate(secret),
        4 | 5 => Change::Disable(secret),
        6 => Change::Delete(secret),
        7 => Change::Enable(secret),
        8 => Change::Revoke,
        9 => Change::Jump(*pick(random, &[-100_000, -3600, -1, 1, 3600, 100_000])),
        10 | 11 => Change::Recycle,
        _ => Change::RotateKeys,
    }
}

fn draw_burst(random: &mut Rng, plan: &mut Plan, large: bool) {
    let start = moment(random, plan.healed);
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
        plan.load.push(Ask {
            at: start + Duration::from_millis(random.u64(0..=width)),
            secret: if one_secret { first } else { random.usize(..plan.secrets) },
            capitals: random.u8(..10) == 0,
            pinned: random.u8(..12) == 0,
            no_cache: random.u8(..100) < no_cache,
            caller: match random.u8(..25) {
                0 => Caller::Nobody,
                1..4 => Caller::Even,
                4 => Caller::Metrics,
                5..12 if plan.bearers => Caller::Bearer,
                12 if plan.bearers => Caller::Forger { known_name: random.bool() },
                _ => Caller::All,
            },
            hangs_up,
            ..ordinary(0, start)
        });
    }
}

fn moment(random: &mut Rng, before: Duration) -> Duration {
    Duration::from_millis(random.u64(0..u64::try_from(before.as_millis()).unwrap_or(u64::MAX)))
}

fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(..from.len())]
}
