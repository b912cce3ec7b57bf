//! The attacks, and the limits that each has to keep.

use super::clients::{self, Answers, CLOSED};
use crate::client::Target;
use crate::rig::Shipped;
use keyvault_emulator::facts;
use std::pin::Pin;
use std::time::Duration;

/// An attack and its limits.
pub(super) struct Scenario {
    pub(super) name: String,
    /// Runs the hostile clients.
    pub(super) run: Run,
    /// The statuses, or what comes instead of one, that the hostile clients may get.
    pub(super) answers: &'static [&'static str],
    pub(super) settings: Vec<(&'static str, String)>,
    /// The time in which each hostile client has to have its answer, on a machine that has much to do.
    pub(super) longest: Duration,
    /// How long a request may have to wait for those that came before it.
    pub(super) wait: Duration,
    /// The memory, in bytes, that it may cost.
    pub(super) growth: u64,
}

type Run = Box<dyn Fn(Target) -> Pin<Box<dyn Future<Output = Answers>>>>;

/// Every attack, with a fraction of everything if it is to be small.
pub(super) fn scenarios(shipped: Shipped, is_small: bool) -> Vec<Scenario> {
    fn of<T>(is_small: bool, full: T, small: T) -> T {
        if is_small { small } else { full }
    }
    let [slow, idle, forged, pipelined, readers, rounds] =
        of(is_small, [200, IDLE, 20_000, 700, 1_000, 3], [50, 1_000, 1_000, 20, 200, 1]);
    // The connections of a crowd, and the requests of all of them.
    let (crowd, requests) = of(is_small, (1000, 200_000), (CROWD, 12_000));
    let body: u64 = of(is_small, 1 << 30, 64 << 20);
    // For how long an attack that has no other end goes on.
    let lasting = Duration::from_millis(of(is_small, 15_000, 1_500));
    let (mib, places) = (body >> 20, shipped.places);
    let of_a_crowd = MOST_GROWTH_OF_A_CROWD + shipped.instances as u64 * MEMORY_OF_AN_INSTANCE;
    let growth_of_requests = of_a_crowd + (crowd - CROWD) as u64 * MEMORY_OF_A_CONNECTION;
    let deadline = |time: Duration| vec![("GATEWAY_DEADLINE_SECONDS", time.as_secs().to_string())];
    let callers = format!(r#"[{{"name":"named","oid":["{}"],"secrets":["*"]}}]"#, facts::OBJECT_ID);
    let tenant = vec![
        ("GATEWAY_JWT_TENANT", facts::TENANT.to_owned()),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
        ("GATEWAY_CALLERS", callers),
    ];
    let token = clients::forged_token();
    // A body has a quarter of the deadline.
    let wait = DEADLINE_IN_PLACES / 4 * 2;
    let mut all = vec![
        Scenario {
            settings: deadline(DEADLINE),
            longest: DEADLINE + SLACK,
            ..plain(format!("{slow} slow bodies at a time, a right key"), &["504"], move |target| {
                clients::slow_bodies(target, true, slow, lasting)
            })
        },
        plain(format!("{slow} slow bodies at a time, a wrong key"), &["401", "429", CLOSED], move |target| {
            clients::slow_bodies(target, false, slow, lasting)
        }),
        plain(format!("{idle} idle connections"), &["200"], move |target| {
            clients::idle(target, idle, lasting)
        }),
        Scenario {
            settings: tenant,
            ..plain(format!("{forged} forged tokens"), &["401", "429"], move |target| {
                let bearer = format!("Authorization: Bearer {token}\r\n");
                clients::ask_on(target, 32, forged, move |target, _| target.request("", &bearer))
            })
        },
        // A client that writes on may lose the answer when the connection is closed.
        plain(
            format!("{LARGE_BODIES} bodies of {mib} MiB at a time, a right key"),
            &["413", CLOSED],
            move |target| clients::large_bodies(target, true, body, lasting),
        ),
        plain(
            format!("{LARGE_BODIES} chunked bodies of {mib} MiB at a time, a wrong key"),
            &["401", "429", CLOSED],
            move |target| clients::large_bodies(target, false, body, lasting),
        ),
        plain("heads of 64 KiB, of 200 fields, of 1 MiB".to_owned(), &["431", CLOSED], move |target| {
            clients::large_heads(target, lasting)
        }),
        Scenario {
            growth: growth_of_requests,
            ..plain(
                format!("{requests} requests with a wrong key on {crowd} connections"),
                &["401", "429"],
                move |target| {
                    clients::ask_on(target, crowd, requests, |target, index| {
                        target.request(&format!("guess-{index}"), "")
                    })
                },
            )
        },
        Scenario {
            growth: of_a_crowd + (CROWD * pipelined) as u64 * SENT_AHEAD,
            ..plain(
                format!("{CROWD} connections with {pipelined} requests in one go"),
                &["200"],
                move |target| clients::pipelined(target, CROWD, pipelined),
            )
        },
        // The first answer was under way for as long as the attack lasted, and may have been given up.
        plain(format!("{readers} slow readers of large answers"), &["200", CLOSED], move |target| {
            clients::slow_readers(target, readers, lasting)
        }),
        Scenario {
            settings: deadline(DEADLINE_IN_PLACES),
            longest: wait + DEADLINE_IN_PLACES / 4 + SLACK,
            wait,
            ..plain(
                format!("{} slow bodies at a time for {places} places", 2 * places),
                &["504"],
                move |target| clients::take_places(target, 2 * places, rounds),
            )
        },
    ];
    if !is_small {
        all.push(Scenario {
            growth: growth_of_requests,
            ..plain(
                format!("{requests} requests with a right key on {crowd} connections"),
                &["200"],
                move |target| {
                    clients::ask_on(target, crowd, requests, |target, _| target.request(&target.key, ""))
                },
            )
        });
    }
    all
}

/// An attack with the usual limits.
fn plain<F: Future<Output = Answers> + 'static>(
    name: String,
    answers: &'static [&'static str],
    run: impl Fn(Target) -> F + 'static,
) -> Scenario {
    Scenario {
        name,
        run: Box::new(move |target| Box::pin(run(target))),
        answers,
        settings: Vec::new(),
        longest: SLACK,
        wait: Duration::ZERO,
        growth: MOST_GROWTH,
    }
}

/// The most connections that an attack has.
pub(super) const IDLE: usize = 10_000;

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
