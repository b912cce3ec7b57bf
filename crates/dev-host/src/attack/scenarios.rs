//! The attacks, and the limits that each has to keep.

use super::Reads;
use super::clients::{self, Answers, CLOSED};
use crate::client::Target;
use crate::rig::Shipped;
use keyvault_emulator::facts;
use std::time::Duration;

/// A kind of hostile client.
#[derive(Clone, Copy)]
enum Kind {
    /// Clients whose body never ends.
    SlowBodies { right_key: bool },
    /// Connections on which nothing is sent.
    Idle,
    /// Requests one at a time on each of so many connections, as fast as they are answered.
    Ask(What, usize, usize),
    /// Bodies beyond all measure: chunked with a wrong key, with an announced length and a right one.
    LargeBody { right_key: bool },
    /// Heads beyond all measure.
    LargeHeads,
    /// Connections on which all requests are written before the first answer is read.
    Pipelined,
    /// Clients that ask for large answers and read next to nothing of them.
    SlowReaders,
    /// Slow bodies with a right key, twice as many as there are places for.
    AllPlaces,
}

/// What a crowd asks for.
#[derive(Clone, Copy)]
enum What {
    WrongKey,
    RightKey,
    ForgedToken,
}

/// An attack and its limits.
pub(super) struct Scenario {
    pub(super) name: String,
    kind: Kind,
    /// The statuses, or what comes instead of one, that the hostile clients may get.
    pub(super) answers: &'static [&'static str],
    pub(super) settings: Vec<(&'static str, String)>,
    /// The connections that a process has to be able to open for it.
    pub(super) connections: usize,
    /// The time in which each hostile client has to have its answer, on a machine that has much to do.
    pub(super) longest: Duration,
    /// How long a request may have to wait for those that came before it.
    pub(super) wait: Duration,
    /// The memory, in bytes, that it may cost.
    pub(super) growth: u64,
}

/// How much of everything.
#[derive(Clone, Copy)]
pub(super) struct Size {
    is_small: bool,
    pub(super) slow_bodies: usize,
    idle: usize,
    forged_tokens: usize,
    pub(super) body: u64,
    /// The connections of a crowd, and the requests of all of them.
    crowd: (usize, usize),
    /// The requests on each pipelined connection.
    pipelined: usize,
    pub(super) slow_readers: usize,
    shipped: Shipped,
    /// How often each of those that take all places does so.
    rounds: usize,
    /// For how long an attack that has no other end goes on.
    pub(super) lasting: Duration,
    /// Longer than the longest attack takes on two busy cores with a host that is not optimised.
    pub(super) limit: Duration,
}

impl Size {
    /// A fraction of everything, if it is to be small.
    pub(super) fn new(shipped: Shipped, is_small: bool) -> Self {
        fn of<T>(is_small: bool, full: T, small: T) -> T {
            if is_small { small } else { full }
        }
        Self {
            is_small,
            slow_bodies: of(is_small, 200, 50),
            idle: of(is_small, 10_000, 1_000),
            forged_tokens: of(is_small, 20_000, 1_000),
            body: of(is_small, 1 << 30, 64 << 20),
            crowd: of(is_small, (1000, 200_000), (CROWD, 12_000)),
            pipelined: of(is_small, 700, 20),
            slow_readers: of(is_small, 1_000, 200),
            shipped,
            rounds: of(is_small, 3, 1),
            lasting: Duration::from_millis(of(is_small, 15_000, 1_500)),
            limit: Duration::from_secs(of(is_small, 900, 180)),
        }
    }
}

/// Every attack.
pub(super) fn scenarios(size: &Size) -> Vec<Scenario> {
    let plain = |name: String, kind, answers| Scenario {
        name,
        kind,
        answers,
        settings: Vec::new(),
        connections: 0,
        longest: SLACK,
        wait: Duration::ZERO,
        growth: MOST_GROWTH,
    };
    let deadline = |time: Duration| vec![("GATEWAY_DEADLINE_SECONDS", time.as_secs().to_string())];
    let (slow, mib) = (format!("{} slow bodies at a time", size.slow_bodies), size.body >> 20);
    let callers = format!(r#"[{{"name":"named","oid":["{}"],"secrets":["*"]}}]"#, facts::OBJECT_ID);
    let tenant = vec![
        ("GATEWAY_JWT_TENANT", facts::TENANT.to_owned()),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
        ("GATEWAY_CALLERS", callers),
    ];
    let ((crowd, requests), forged) = (size.crowd, size.forged_tokens);
    let of_a_crowd = MOST_GROWTH_OF_A_CROWD + size.shipped.instances as u64 * MEMORY_OF_AN_INSTANCE;
    let asked = |what, name: &str, answers| Scenario {
        connections: crowd,
        growth: of_a_crowd + (crowd - CROWD) as u64 * MEMORY_OF_A_CONNECTION,
        ..plain(
            format!("{requests} requests with a {name} key on {crowd} connections"),
            Kind::Ask(what, crowd, requests),
            answers,
        )
    };
    let places = size.shipped.places;
    // A body has a quarter of the deadline.
    let wait = DEADLINE_IN_PLACES / 4 * 2;
    let mut all = vec![
        Scenario {
            settings: deadline(DEADLINE),
            longest: DEADLINE + SLACK,
            ..plain(format!("{slow}, a right key"), Kind::SlowBodies { right_key: true }, &["504"])
        },
        plain(format!("{slow}, a wrong key"), Kind::SlowBodies { right_key: false }, &["401", "429", CLOSED]),
        Scenario {
            connections: size.idle,
            ..plain(format!("{} idle connections", size.idle), Kind::Idle, &["200"])
        },
        Scenario {
            settings: tenant,
            ..plain(
                format!("{forged} forged tokens"),
                Kind::Ask(What::ForgedToken, 32, forged),
                &["401", "429"],
            )
        },
        // A client that writes on may lose the answer when the connection is closed.
        plain(
            format!("{LARGE_BODIES} bodies of {mib} MiB at a time, a right key"),
            Kind::LargeBody { right_key: true },
            &["413", CLOSED],
        ),
        plain(
            format!("{LARGE_BODIES} chunked bodies of {mib} MiB at a time, a wrong key"),
            Kind::LargeBody { right_key: false },
            &["401", "429", CLOSED],
        ),
        plain("heads of 64 KiB, of 200 fields, of 1 MiB".to_owned(), Kind::LargeHeads, &["431", CLOSED]),
        asked(What::WrongKey, "wrong", &["401", "429"]),
        Scenario {
            connections: CROWD,
            growth: of_a_crowd + (CROWD * size.pipelined) as u64 * SENT_AHEAD,
            ..plain(
                format!("{CROWD} connections with {} requests in one go", size.pipelined),
                Kind::Pipelined,
                &["200"],
            )
        },
        // The first answer was under way for as long as the attack lasted, and may have been given up.
        Scenario {
            connections: size.slow_readers,
            ..plain(
                format!("{} slow readers of large answers", size.slow_readers),
                Kind::SlowReaders,
                &["200", CLOSED],
            )
        },
        Scenario {
            settings: deadline(DEADLINE_IN_PLACES),
            connections: 2 * places * size.rounds,
            longest: wait + DEADLINE_IN_PLACES / 4 + SLACK,
            wait,
            ..plain(
                format!("{} slow bodies at a time for {places} places", 2 * places),
                Kind::AllPlaces,
                &["504"],
            )
        },
    ];
    if !size.is_small {
        all.push(asked(What::RightKey, "right", &["200"]));
    }
    all
}

impl Scenario {
    /// Attacks, while other clients read.
    pub(super) async fn run(&self, target: &Target, size: &Size) -> (Answers, Reads) {
        let attack: std::pin::Pin<Box<dyn Future<Output = Answers>>> = match self.kind {
            Kind::SlowBodies { right_key } => Box::pin(clients::slow_bodies(target, right_key, size)),
            Kind::Idle => Box::pin(clients::idle(target, size.idle, size.lasting)),
            Kind::Ask(what, connections, all) => {
                let token = clients::forged_token();
                let request = move |target: &Target, index| match what {
                    What::WrongKey => target.request(&format!("guess-{index}"), ""),
                    What::RightKey => target.request(&target.key, ""),
                    What::ForgedToken => target.request_with_token(&token),
                };
                Box::pin(clients::ask_on(target, connections, all, request))
            }
            Kind::LargeBody { right_key } => Box::pin(clients::large_bodies(target, right_key, size)),
            Kind::LargeHeads => Box::pin(clients::large_heads(target, size)),
            Kind::Pipelined => Box::pin(clients::pipelined(target, CROWD, size.pipelined)),
            Kind::SlowReaders => Box::pin(clients::slow_readers(target, size)),
            Kind::AllPlaces => Box::pin(clients::take_places(target, 2 * size.shipped.places, size.rounds)),
        };
        Reads::during(target, attack).await
    }
}

/// The audience of callers' tokens.
pub(super) const AUDIENCE: &str = "api://attacked-gateway";

/// How many send large bodies at the same time.
pub(super) const LARGE_BODIES: usize = 8;

/// `GATEWAY_DEADLINE_SECONDS` of those that slow bodies attack: shorter than by default, so that they attack often.
const DEADLINE: Duration = Duration::from_secs(5);

/// `GATEWAY_DEADLINE_SECONDS` of those whose places are all taken.
const DEADLINE_IN_PLACES: Duration = Duration::from_secs(4);

/// The connections of the smallest crowd: many more than there are places, and few enough that its memory is not theirs.
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

/// What two cores with other things to do may take longer.
const SLACK: Duration = Duration::from_secs(15);
