//! The attacks.

use super::clients::{
    GUESSERS, LARGE_BODIES, ask_on, forged_token, hold, large_bodies, large_heads, slow_bodies, speak,
};
use super::crowds::{pipelined, slow_readers, take_places};
use super::others::{self, Reads};
use crate::client::{Answer, Target};
use crate::rig::Shipped;
use keyvault_emulator::facts;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// A kind of hostile client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hostile {
    /// Clients whose body never ends.
    SlowBodies(Key),
    /// Connections on which nothing is said, or half a head.
    Idle(Said),
    /// As many idle connections as the host takes if nobody tells it to take more.
    IdleUnderDefaults,
    /// Requests with wrong keys, as fast as they are answered.
    WrongKeys,
    /// Requests with tokens that somebody else has signed in the tenant's name, as fast as they are answered.
    ForgedTokens,
    /// Bodies beyond all measure.
    LargeBody(Key, Length),
    /// Heads beyond all measure.
    LargeHeads,
    /// So many connections that stay open, with one request at a time on each, as fast as they are answered.
    Crowd(What, usize),
    /// Connections on which all requests are written before the first answer is read.
    Pipelined,
    /// Clients that ask for large answers and read next to nothing of them.
    SlowReaders,
    /// Slow bodies with a right key, so many times as many as there are places for.
    AllPlaces(usize),
}

/// What a crowd asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    WrongKey,
    RightKey,
    NoRoute,
}

/// Whether a hostile client has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Right,
    Wrong,
}

/// What is said on an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    HalfAHead,
}

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Announced,
    Chunked,
}

/// How much of everything.
pub(super) struct Size {
    pub(super) slow_bodies: usize,
    pub(super) idle: usize,
    pub(super) wrong_keys: usize,
    pub(super) forged_tokens: usize,
    pub(super) body: u64,
    /// The requests of all connections of a crowd.
    pub(super) crowd: usize,
    /// The requests on each pipelined connection.
    pub(super) pipelined: usize,
    pub(super) slow_readers: usize,
    /// The requests that the host lets be in progress.
    pub(super) places: usize,
    /// The instances that these need at most.
    pub(super) instances: usize,
    /// How often each of those that take all places does so.
    pub(super) rounds: usize,
    /// For how long an attack that has no other end goes on.
    pub(super) lasting: Duration,
    /// Longer than the longest attack takes on two busy cores with a host that is not optimised.
    pub(super) limit: Duration,
}

impl Size {
    pub(super) const fn full(shipped: Shipped) -> Self {
        Self {
            slow_bodies: 200,
            idle: 10_000,
            wrong_keys: 100_000,
            forged_tokens: 20_000,
            body: 1 << 30,
            crowd: 200_000,
            pipelined: 700,
            slow_readers: 1_000,
            places: shipped.places,
            instances: shipped.instances,
            rounds: 3,
            lasting: Duration::from_secs(15),
            limit: Duration::from_secs(900),
        }
    }

    pub(super) const fn small(shipped: Shipped) -> Self {
        Self {
            slow_bodies: 50,
            idle: 1_000,
            wrong_keys: 5_000,
            forged_tokens: 1_000,
            body: 64 << 20,
            crowd: 12_000,
            pipelined: 20,
            slow_readers: 200,
            places: shipped.places,
            instances: shipped.instances,
            rounds: 1,
            lasting: Duration::from_millis(1500),
            limit: Duration::from_secs(180),
        }
    }
}

/// How an attack was answered.
#[derive(Default)]
pub(super) struct Answers {
    /// Statuses, or what came instead of one, and how often.
    pub(super) counts: BTreeMap<String, usize>,
    /// The longest time that one took.
    pub(super) longest: Duration,
    /// The most bytes of a large body that one client could send.
    pub(super) sent: u64,
}

impl Answers {
    pub(super) fn add(&mut self, start: Instant, answer: io::Result<Answer>) {
        self.longest = self.longest.max(start.elapsed());
        let answer = match answer {
            Ok(answer) => answer.status.to_string(),
            Err(problem) if problem.kind() == io::ErrorKind::TimedOut => NOTHING.to_owned(),
            Err(_) => CLOSED.to_owned(),
        };
        *self.counts.entry(answer).or_default() += 1;
    }

    pub(super) fn join(mut self, other: Self) -> Self {
        self.longest = self.longest.max(other.longest);
        self.sent = self.sent.max(other.sent);
        for (answer, count) in other.counts {
            *self.counts.entry(answer).or_default() += count;
        }
        self
    }
}

impl Hostile {
    pub(super) const ALL: [Self; 20] = [
        Self::SlowBodies(Key::Right),
        Self::SlowBodies(Key::Wrong),
        Self::Idle(Said::Nothing),
        Self::Idle(Said::HalfAHead),
        Self::IdleUnderDefaults,
        Self::WrongKeys,
        Self::ForgedTokens,
        Self::LargeBody(Key::Right, Length::Announced),
        Self::LargeBody(Key::Right, Length::Chunked),
        Self::LargeBody(Key::Wrong, Length::Announced),
        Self::LargeBody(Key::Wrong, Length::Chunked),
        Self::LargeHeads,
        Self::Crowd(What::WrongKey, CROWD),
        Self::Crowd(What::RightKey, CROWD),
        Self::Crowd(What::NoRoute, CROWD),
        Self::Crowd(What::WrongKey, HOSTS_CONNECTIONS),
        Self::Pipelined,
        Self::SlowReaders,
        Self::AllPlaces(1),
        Self::AllPlaces(2),
    ];

    /// Whether it is part of the attack with a fraction of everything, which leaves out what is much like another one.
    pub(super) fn is_in_small(self) -> bool {
        !matches!(
            self,
            Self::Idle(Said::HalfAHead)
                | Self::WrongKeys
                | Self::LargeBody(Key::Right, Length::Chunked)
                | Self::LargeBody(Key::Wrong, Length::Announced)
                | Self::Crowd(What::RightKey | What::NoRoute, _)
                | Self::Crowd(_, HOSTS_CONNECTIONS)
                | Self::AllPlaces(1)
        )
    }

    pub(super) fn name(self, size: &Size) -> String {
        let key = |key| match key {
            Key::Right => "a right key",
            Key::Wrong => "a wrong key",
        };
        match self {
            Self::SlowBodies(it) => format!("{} slow bodies at a time, {}", size.slow_bodies, key(it)),
            Self::Idle(Said::Nothing) => format!("{} idle connections", size.idle),
            Self::Idle(Said::HalfAHead) => format!("{} connections with half a head", size.idle),
            Self::IdleUnderDefaults => format!("{HOSTS_CONNECTIONS} idle connections, host's defaults"),
            Self::WrongKeys => format!("{} wrong keys", size.wrong_keys),
            Self::ForgedTokens => format!("{} forged tokens", size.forged_tokens),
            Self::LargeBody(it, Length::Announced) => {
                format!("{LARGE_BODIES} bodies of {} MiB at a time, {}", size.body >> 20, key(it))
            }
            Self::LargeBody(it, Length::Chunked) => {
                format!("{LARGE_BODIES} chunked bodies of {} MiB at a time, {}", size.body >> 20, key(it))
            }
            Self::LargeHeads => "heads of 64 KiB, of 200 fields, of 1 MiB".to_owned(),
            Self::Crowd(what, connections) => {
                let what = match what {
                    What::WrongKey => "with a wrong key",
                    What::RightKey => "with a right key",
                    What::NoRoute => "for what is not there",
                };
                format!("{} requests {what} on {connections} connections", size.crowd)
            }
            Self::Pipelined => format!("{CROWD} connections with {} requests in one go", size.pipelined),
            Self::SlowReaders => format!("{} slow readers of large answers", size.slow_readers),
            Self::AllPlaces(times) => {
                format!("{} slow bodies at a time for {} places", times * size.places, size.places)
            }
        }
    }

    /// The files that a process has to be able to open for it.
    pub(super) fn files(self, size: &Size) -> usize {
        let connections = match self {
            Self::Idle(_) => size.idle,
            Self::IdleUnderDefaults => HOSTS_CONNECTIONS,
            Self::Crowd(_, connections) => connections,
            Self::Pipelined => CROWD,
            Self::SlowReaders => size.slow_readers,
            Self::AllPlaces(times) => times * size.places * size.rounds,
            Self::SlowBodies(_)
            | Self::WrongKeys
            | Self::ForgedTokens
            | Self::LargeBody(..)
            | Self::LargeHeads => 0,
        };
        connections + OTHER_FILES
    }

    /// Options of `wasmtime serve`.
    pub(super) fn host_options(self) -> &'static [&'static str] {
        match self {
            Self::IdleUnderDefaults => &[],
            _ => &CONNECTIONS,
        }
    }

    /// Settings of the component.
    pub(super) fn settings(self) -> Vec<(&'static str, String)> {
        match self {
            Self::SlowBodies(Key::Right) => {
                vec![("GATEWAY_DEADLINE_SECONDS", DEADLINE.as_secs().to_string())]
            }
            Self::AllPlaces(_) => {
                vec![("GATEWAY_DEADLINE_SECONDS", DEADLINE_IN_PLACES.as_secs().to_string())]
            }
            Self::ForgedTokens => vec![
                ("GATEWAY_JWT_TENANT", facts::TENANT.to_owned()),
                ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
                (
                    "GATEWAY_CALLERS",
                    format!(r#"[{{"name":"named","oid":["{}"],"secrets":["*"]}}]"#, facts::OBJECT_ID),
                ),
            ],
            Self::SlowBodies(Key::Wrong)
            | Self::Idle(_)
            | Self::IdleUnderDefaults
            | Self::WrongKeys
            | Self::LargeBody(..)
            | Self::LargeHeads
            | Self::Crowd(..)
            | Self::Pipelined
            | Self::SlowReaders => Vec::new(),
        }
    }

    /// Whether this is an answer, or none, that the attack has to expect.
    pub(super) fn may_be_answered(self, answer: &str) -> bool {
        let right: &[&str] = match self {
            Self::SlowBodies(Key::Right) | Self::AllPlaces(_) => &["504"],
            Self::WrongKeys | Self::ForgedTokens | Self::Crowd(What::WrongKey, _) => &["401", "429"],
            Self::Crowd(What::RightKey, _) | Self::Pipelined => &["200"],
            Self::Crowd(What::NoRoute, _) => &["404"],
            // The first answer was under way for as long as the attack lasted, and may have been given up.
            Self::SlowReaders => &["200", CLOSED],
            // They have said something after all.
            Self::Idle(_) | Self::IdleUnderDefaults => &["200"],
            // Whoever writes on and on may lose the answer when the connection is closed.
            Self::LargeBody(Key::Right, _) => &["413", CLOSED],
            Self::SlowBodies(Key::Wrong) | Self::LargeBody(Key::Wrong, _) => &["401", "429", CLOSED],
            Self::LargeHeads => &["431", CLOSED],
        };
        right.contains(&answer)
    }

    /// The time in which each has to have its answer, on a machine that has much to do.
    pub(super) fn longest_answer(self) -> Duration {
        match self {
            Self::SlowBodies(Key::Right) => DEADLINE + SLACK,
            Self::AllPlaces(_) => self.wait_for_a_place() + DEADLINE_IN_PLACES / 4 + SLACK,
            _ => SLACK,
        }
    }

    /// How long a request may have to wait for those that came before it.
    pub(super) fn wait_for_a_place(self) -> Duration {
        match self {
            // A body has a quarter of the deadline.
            Self::AllPlaces(times) => DEADLINE_IN_PLACES / 4 * times as u32,
            _ => Duration::ZERO,
        }
    }

    /// The memory, in bytes, that it may cost.
    pub(super) fn most_growth(self, size: &Size) -> u64 {
        let instances = size.instances as u64 * MEMORY_OF_AN_INSTANCE;
        match self {
            Self::Crowd(_, connections) => {
                MOST_GROWTH_OF_A_CROWD
                    + instances
                    + connections.saturating_sub(CROWD) as u64 * MEMORY_OF_A_CONNECTION
            }
            Self::Pipelined => {
                let ahead = (CROWD * size.pipelined) as u64 * SENT_AHEAD;
                MOST_GROWTH_OF_A_CROWD + instances + ahead
            }
            _ => MOST_GROWTH,
        }
    }

    /// Whether others cannot be answered while it lasts. This is a limit of the host: it has a number of connections, and
    /// no time for any of them.
    pub(super) fn shuts_others_out(self) -> bool {
        self == Self::IdleUnderDefaults
    }

    /// Attacks, while others read.
    pub(super) async fn attack(self, target: &Target, size: &Size) -> (Answers, Reads) {
        match self {
            Self::SlowBodies(key) => {
                let attack = slow_bodies(target, key, size.slow_bodies, size.lasting);
                others::read_during(target, attack).await
            }
            Self::Idle(said) => {
                let attack = async {
                    let held = hold(target, said, size.idle).await;
                    tokio::time::sleep(size.lasting).await;
                    speak(target, said, held).await
                };
                others::read_during(target, attack).await
            }
            Self::IdleUnderDefaults => {
                let held = hold(target, Said::Nothing, HOSTS_CONNECTIONS).await;
                let reads = others::read_impatiently(target, IMPATIENT, IMPATIENCE).await;
                (speak(target, Said::Nothing, held).await, reads)
            }
            Self::WrongKeys => {
                let request = |target: &Target, index| target.request(&format!("guess-{index}"), "");
                others::read_during(target, ask_on(target, GUESSERS, size.wrong_keys, request)).await
            }
            Self::ForgedTokens => {
                let token = forged_token();
                let request = move |target: &Target, _| target.request_with_token(&token);
                others::read_during(target, ask_on(target, GUESSERS, size.forged_tokens, request)).await
            }
            Self::LargeBody(key, length) => {
                others::read_during(target, large_bodies(target, key, length, size)).await
            }
            Self::LargeHeads => others::read_during(target, large_heads(target, size)).await,
            Self::Crowd(what, connections) => {
                let request = move |target: &Target, index| match what {
                    What::WrongKey => target.request(&format!("guess-{index}"), ""),
                    What::RightKey => target.request(&target.key, ""),
                    What::NoRoute => target.get("/nothing"),
                };
                others::read_during(target, ask_on(target, connections, size.crowd, request)).await
            }
            Self::Pipelined => others::read_during(target, pipelined(target, CROWD, size.pipelined)).await,
            Self::SlowReaders => {
                others::read_during(target, slow_readers(target, size.slow_readers, size.lasting)).await
            }
            Self::AllPlaces(times) => {
                let attack = take_places(target, times * size.places, size.rounds);
                others::read_during(target, attack).await
            }
        }
    }
}

/// Whom callers' tokens are for.
pub(super) const AUDIENCE: &str = "api://attacked-gateway";

const CLOSED: &str = "closed";

const NOTHING: &str = "no answer";

/// Takes more connections than an attack has.
const CONNECTIONS: [&str; 2] = ["--max-concurrent-connections", "15000"];

/// The connections that Wasmtime 48 takes by itself, which the attack fills.
const HOSTS_CONNECTIONS: usize = 1000;

/// Files that are not idle connections, with much room to spare.
const OTHER_FILES: usize = 500;

/// `GATEWAY_DEADLINE_SECONDS` of those whom slow bodies attack: shorter than by itself, so that they attack often.
const DEADLINE: Duration = Duration::from_secs(5);

/// The connections of a crowd: many more than there are places, and few enough that the memory that it costs is not theirs.
const CROWD: usize = 345;

/// The memory that an attack may cost. See docs/hostile-input.md for what it is made of.
const MOST_GROWTH: u64 = 200 << 20;

/// An instance of the component, of which `proxy` has one for each request in progress.
const MEMORY_OF_AN_INSTANCE: u64 = 200 << 10;

/// The memory that a crowd of [`CROWD`] connections may cost, however many requests it makes. Measured are 17 to 30 MiB; where
/// finished requests leave something behind, as they once did, it is 2 KiB more with each.
const MOST_GROWTH_OF_A_CROWD: u64 = 32 << 20;

/// The bytes of a request that a client sends ahead, which the host's HTTP server reads and keeps.
const SENT_AHEAD: u64 = 50;

/// What the host has for each connection with requests on it, as measured with crowds of two sizes.
const MEMORY_OF_A_CONNECTION: u64 = 24 << 10;

/// `GATEWAY_DEADLINE_SECONDS` of those whose places are all taken.
const DEADLINE_IN_PLACES: Duration = Duration::from_secs(4);

/// Those who find out whether nobody is answered, and how long they wait.
const IMPATIENT: usize = 5;

const IMPATIENCE: Duration = Duration::from_secs(3);

/// What two cores with other things to do may take longer.
const SLACK: Duration = Duration::from_secs(15);
