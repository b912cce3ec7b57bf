//! The attacks and their limits.

use super::clients::{self, CLOSED, Responses};
use crate::client::Target;
use crate::stack::{Deployment, SECRET};
use keyvault_emulator::facts;
use std::io;
use std::pin::Pin;
use std::time::Duration;

/// An attack and its limits.
pub(super) struct Scenario {
    pub(super) name: String,
    /// Runs the hostile clients.
    pub(super) run: Run,
    /// The statuses, or reasons for no response, that the hostile clients may get.
    pub(super) allowed: &'static [&'static str],
    /// The statuses that other clients may get during the attack.
    pub(super) allowed_reads: &'static [&'static str],
    pub(super) settings: Vec<(&'static str, String)>,
    /// The slowest response that a hostile client may get, on a busy machine.
    pub(super) max_response_time: Duration,
    /// How long a request may queue behind earlier requests.
    pub(super) queueing: Duration,
    /// The memory growth, in bytes, that the attack may cause.
    pub(super) max_memory_growth: u64,
}

type Run = Box<dyn Fn(Target) -> Pin<Box<dyn Future<Output = io::Result<Responses>>>>>;

/// Returns every attack, in a small form if `is_small`.
pub(super) fn scenarios(deployment: Deployment, is_small: bool) -> Vec<Scenario> {
    fn pick<T>(is_small: bool, full: T, small: T) -> T {
        if is_small { small } else { full }
    }
    let [slow, idle, forged, pipelined, readers, rounds] =
        pick(is_small, [200, MAX_CONNECTIONS, 20_000, 700, 1_000, 3], [50, 1_000, 1_000, 20, 200, 1]);
    // The connections of the largest attacks and their requests in total.
    let (connections, requests) = pick(is_small, (1000, 200_000), (MIN_CONNECTIONS, 12_000));
    let body: u64 = pick(is_small, 1 << 30, 64 << 20);
    // The period of attacks without an end of their own.
    let period = Duration::from_millis(pick(is_small, 15_000, 1_500));
    let (mib, concurrent) = (body >> 20, deployment.concurrent_requests);
    let base_growth = MAX_GROWTH_OF_REQUESTS + deployment.instances as u64 * INSTANCE_MEMORY;
    let growth_of_many = base_growth + (connections - MIN_CONNECTIONS) as u64 * CONNECTION_MEMORY;
    let deadline = vec![("GATEWAY_DEADLINE_SECONDS", DEADLINE.as_secs().to_string())];
    let callers = format!(r#"[{{"name":"named","oid":["{}"],"secrets":["*"]}}]"#, facts::OBJECT_ID);
    let tenant = vec![
        ("GATEWAY_JWT_TENANT", facts::TENANT.to_owned()),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
        ("GATEWAY_CALLERS", callers),
    ];
    let token = clients::forged_token();
    // The body's deadline is a quarter of the request's deadline.
    let queueing = DEADLINE / 4 * 2;
    let (slow_bodies, reads): (&[_], &[_]) =
        if deployment.refuses { (&["503", "504"], &["200", "503"]) } else { (&["504"], &["200"]) };
    let many = |key: &str, allowed, request: fn(&Target, usize) -> String| Scenario {
        max_memory_growth: growth_of_many,
        ..scenario(
            format!("{requests} requests with a {key} key on {connections} connections"),
            allowed,
            move |target| clients::keep_alive(target, connections, requests, 1, request),
        )
    };
    let mut attacks = vec![
        Scenario {
            settings: deadline.clone(),
            max_response_time: DEADLINE + TOLERANCE,
            ..scenario(format!("{slow} slow bodies, right key"), &["504"], move |target| {
                clients::slow_bodies(target, true, slow, period)
            })
        },
        scenario(format!("{slow} slow bodies, wrong key"), &["401", "429", CLOSED], move |target| {
            clients::slow_bodies(target, false, slow, period)
        }),
        scenario(format!("{idle} idle connections"), &["200"], move |target| {
            clients::idle_connections(target, idle, period)
        }),
        Scenario {
            settings: tenant,
            ..scenario(format!("{forged} forged tokens"), &["401", "429"], move |target| {
                let bearer = format!("Authorization: Bearer {token}\r\n");
                clients::keep_alive(target, 32, forged, 1, move |target, _| {
                    target.request(SECRET, "", &bearer)
                })
            })
        },
        // A client that keeps writing may lose the response when the server closes the connection.
        scenario(
            format!("{LARGE_BODIES} concurrent bodies of {mib} MiB, right key"),
            &["413", CLOSED],
            move |target| clients::large_bodies(target, true, body, period),
        ),
        scenario(
            format!("{LARGE_BODIES} concurrent chunked bodies of {mib} MiB, wrong key"),
            &["401", "429", CLOSED],
            move |target| clients::large_bodies(target, false, body, period),
        ),
        scenario("heads of 64 KiB, of 200 fields, of 1 MiB".to_owned(), &["431", CLOSED], move |target| {
            clients::large_heads(target, period)
        }),
        many("wrong", &["401", "429"], |target, index| target.request(SECRET, &format!("guess-{index}"), "")),
        Scenario {
            max_memory_growth: base_growth + (MIN_CONNECTIONS * pipelined) as u64 * PIPELINED_REQUEST,
            ..scenario(
                format!("{MIN_CONNECTIONS} connections with {pipelined} pipelined requests"),
                &["200"],
                move |target| {
                    let all = MIN_CONNECTIONS * pipelined;
                    clients::keep_alive(target, MIN_CONNECTIONS, all, pipelined, |target, _| {
                        target.get("/healthz")
                    })
                },
            )
        },
        // The first response was pending during the whole attack, and the host may have given it up.
        scenario(format!("{readers} slow readers of large responses"), &["200", CLOSED], move |target| {
            clients::slow_readers(target, readers, period)
        }),
        Scenario {
            settings: deadline,
            max_response_time: queueing + DEADLINE / 4 + TOLERANCE,
            queueing,
            allowed_reads: reads,
            ..scenario(
                format!("{} concurrent slow bodies for {concurrent} concurrent requests", 2 * concurrent),
                slow_bodies,
                move |target| clients::occupy_host(target, 2 * concurrent, rounds),
            )
        },
    ];
    if !is_small {
        attacks.push(many("right", &["200"], |target, _| target.request(SECRET, &target.key, "")));
    }
    attacks
}

/// Returns an attack with default limits.
fn scenario<F: Future<Output = io::Result<Responses>> + 'static>(
    name: String,
    allowed: &'static [&'static str],
    run: impl Fn(Target) -> F + 'static,
) -> Scenario {
    Scenario {
        name,
        run: Box::new(move |target| Box::pin(run(target))),
        allowed,
        allowed_reads: &["200"],
        settings: Vec::new(),
        max_response_time: TOLERANCE,
        queueing: Duration::ZERO,
        max_memory_growth: MAX_MEMORY_GROWTH,
    }
}

/// The most connections of any attack.
pub(super) const MAX_CONNECTIONS: usize = 10_000;

/// The audience of callers' access tokens.
pub(super) const AUDIENCE: &str = "api://attacked-gateway";

/// The number of clients that send large bodies concurrently.
pub(super) const LARGE_BODIES: usize = 8;

/// `GATEWAY_DEADLINE_SECONDS` under slow bodies: shorter than the default, for more attacks in the same time.
const DEADLINE: Duration = Duration::from_secs(4);

/// The fewest connections: many more than concurrent requests, with little memory of their own.
const MIN_CONNECTIONS: usize = 345;

/// The default limit of memory growth. docs/reference/hostile-input.md explains its parts.
const MAX_MEMORY_GROWTH: u64 = 200 << 20;

/// The memory of an instance. `proxy` has one instance for each concurrent request.
const INSTANCE_MEMORY: u64 = 200 << 10;

/// The memory growth of [`MIN_CONNECTIONS`] connections, for any number of requests. Measured: 17 to 30 MiB.
/// A leak of finished requests, as there once was, adds 2 KiB per request.
const MAX_GROWTH_OF_REQUESTS: u64 = 32 << 20;

/// The bytes of a pipelined request that the host's HTTP server reads ahead and keeps.
const PIPELINED_REQUEST: u64 = 50;

/// The host's memory for each active connection, measured with groups of two sizes.
const CONNECTION_MEMORY: u64 = 24 << 10;

/// The additional time that two busy cores may take.
const TOLERANCE: Duration = Duration::from_secs(15);
