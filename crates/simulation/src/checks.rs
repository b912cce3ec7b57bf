//! The invariants, checked at every event.
//!
//! * `value of the vault`: a 200 has a value, a version and an `Age` that the vault returned to this instance
//!   for this name
//! * `age limit`: no value is older than 1.1 × TTL, or 1.1 × TTL + stale if flagged; the flag and a negative
//!   `ttl` appear exactly when they are due
//! * `no-cache is fresh`: a request with `no-cache` gets a value that was fetched at most a second before it,
//!   unless the value is flagged
//! * `denial evicts`: a value from before a 403 or 404 of the vault is not served after it
//! * `stale-if-error`: after any failure, a 401 of the vault included, a value is served until its stale
//!   bound, unless the vault returns 403 or 404
//! * `no leak`: the marker is in no log line, no header and no body except that of a 200, which is exactly
//!   the documented one
//! * `scope`: a caller without a valid credential gets 401 or 429, a caller without the scope gets 403,
//!   neither causes a call; a caller with both never gets these
//! * `JWKS interval`: an instance that has the JWKS of an issuer does not fetch it again within
//!   [`FETCH_PAUSE`]
//! * `deadline`: a request ends by its deadline, and returns `Timeout` only when it has less than
//!   [`MIN_CALL_TIME`] left
//! * `timeout has a cause`: a request that returns `Timeout` was waiting for a call, or for a `Retry-After`
//!   of Azure
//! * `no busy loop`: a task that reads the clock [`MOST_CLOCK_READS`] times has waited in between
//! * `single-flight`: an instance never has two concurrent calls for the same secret, nor two for a token
//! * `call rate`: in one second an instance makes at most [`CALLS_PER_SECOND`] answered calls for one secret
//! * `no expired token`: the vault gets no token that expired half a minute before, where the gateway knew
//!   the lifetime
//! * `backoff`: after a 429, or a 5xx with `Retry-After`, an instance makes no call to that upstream before
//!   the time is over
//! * `call timeout`: the timeout of a call is at least [`MIN_CALL_TIME`] and at most the deadline, for the vault
//!   half of the deadline
//! * `budget`: a caller with a valid credential gets 429 only after [`LEAST_SPENDING`] requests of its own
//!   (reported as `scope`)
//! * `isolation`: where Azure works, the plain requests get 200, whatever other clients send
//! * `refresh-ahead bound`: the refreshes of an instance that run after its replies are bounded by the number
//!   of secrets
//! * `documented`: status and code are documented, and a 503 has `Retry-After`
//! * `recovery`: [`RECOVERY`] after the faults end, or [`SHORT_RECOVERY`](crate::plan::SHORT_RECOVERY) where
//!   the only fault was refused tokens, every secret is served without a flag
//! * `each item`: of several secrets in one request each has the value of the vault for this instance, or an
//!   error that a request for it alone could have; scope, age and recovery are those of one secret
//! * `nothing pending`: at the end of a run there is no task, no sleep, no call and no request

mod answers;
mod items;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Arguments;
use std::time::Duration;

use keyvault_gateway::azure::{Call, CallError};
use keyvault_gateway::error::Service;
use keyvault_gateway::jwks::FETCH_PAUSE;
use keyvault_gateway::model::MIN_CALL_TIME;

use crate::azure::{Issuer, MARKER, Meaning, Party, Target, name, target_of};
use crate::executor::Task;
use crate::plan::{Caller, Plan, PlannedRequest};

/// One flight makes three attempts, and three more after a refused token. An error is cached for a second.
pub const CALLS_PER_SECOND: usize = 6;

/// The sum of the longest waits: 60 s of `Retry-After`, 20 s of our own backoff with its jitter, and 16 s of
/// an answer that was under way when the faults ended. A token is replaced every 10 s at most, and a 404 is
/// cached for 10 s.
pub const RECOVERY: Duration = Duration::from_secs(100);

/// The fewest requests that can spend the initial budget of 100 calls.
const LEAST_SPENDING: usize = 100_usize.div_ceil(CALLS_PER_SECOND);

/// Far more reads of the clock than any task needs between two waits.
pub const MOST_CLOCK_READS: u64 = 1_000_000;

/// How often each event happened, by the name of the event.
pub type Counts = BTreeMap<&'static str, u64>;

/// The history of a run and its first violation.
#[derive(Default)]
pub struct Checks {
    plan: Plan,
    ttl: Duration,
    stale: Duration,
    deadline: Duration,
    /// Whether the cache keeps every value and every error until it expires.
    cache_holds_all: bool,
    /// The number of requests by instance and caller.
    requests_by_caller: BTreeMap<(usize, Caller), usize>,
    requests: Vec<Request>,
    calls: Vec<CallRecord>,
    histories: BTreeMap<(usize, Target), History>,
    /// The end of the backoff that an upstream asked an instance for.
    backoff_until: BTreeMap<(usize, Party), Duration>,
    /// The key rotations that the JWKS of an instance includes, and the time at which it was received.
    jwks: BTreeMap<(usize, Issuer), (usize, Duration)>,
    pub counts: Counts,
    events: VecDeque<String>,
    /// A hash of all events, equal for two runs only if they are the same.
    pub digest: u64,
    violation: Option<String>,
}

struct Request {
    instance: usize,
    plan: PlannedRequest,
    /// The key rotations at the start, which select the signing key of the access token.
    key_rotations: usize,
    start: Duration,
    ended: bool,
}

struct CallRecord {
    instance: usize,
    target: Target,
    upstream: Service,
    start: Duration,
    task: Option<Task>,
    ended: Option<Duration>,
}

/// The answers that an instance has received for one target.
#[derive(Default)]
struct History {
    values: Vec<Value>,
    denied_at: Option<Duration>,
    /// Whether the last answer was a 401.
    token_refused: bool,
    answers_of_last_second: VecDeque<Duration>,
    /// The end of the last call, if no retry follows it.
    settled_at: Option<Duration>,
}

struct Value {
    fetched_at: Duration,
    received_at: Duration,
    version: String,
    value: String,
}

impl Checks {
    pub fn new(plan: &Plan) -> Self {
        Self {
            ttl: Duration::from_secs(plan.ttl),
            stale: Duration::from_secs(plan.stale),
            deadline: Duration::from_secs(plan.deadline),
            cache_holds_all: plan.ttl > 0 && plan.negative > 0 && plan.entries >= 2 * plan.secrets,
            plan: plan.clone(),
            digest: 0xcbf2_9ce4_8422_2325,
            ..Self::default()
        }
    }

    /// The first violation, with the events before it.
    pub fn violation(&self) -> Option<String> {
        let violation = self.violation.as_ref()?;
        let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
        Some(format!("{}\n{violation}", events.join("\n")))
    }

    pub fn count(&mut self, event: &'static str) {
        *self.counts.entry(event).or_default() += 1;
    }

    pub fn request_started(
        &mut self,
        instance: usize,
        plan: PlannedRequest,
        key_rotations: usize,
        now: Duration,
    ) -> usize {
        let number = self.requests.len();
        let items = 1 + plan.also.map_or(0, |also| also.len());
        *self.requests_by_caller.entry((instance, plan.caller)).or_default() += items;
        self.event(now, format_args!("request {number} to instance {instance}: {plan:?}"));
        self.requests.push(Request { instance, plan, key_rotations, start: now, ended: false });
        number
    }

    pub fn request_cancelled(&mut self, number: usize) {
        if !std::mem::replace(&mut self.requests[number].ended, true) {
            self.count("client hung up");
        }
    }

    pub fn line_logged(&mut self, line: &str) {
        self.expect(!line.contains(MARKER), "no leak", || line.to_owned());
        let denied = line.contains("\"code\":\"Unauthorized\"") || line.contains("\"code\":\"Forbidden\"");
        // An access token needs a call for the JWKS before it can be rejected.
        let called = !line.contains("\"upstream\":0") && !line.contains("bbbbbbbbbbbbbbbb");
        self.expect(!denied || !called, "scope", || line.to_owned());
    }

    /// Checks the refreshes of an instance when it gets a request.
    pub fn refreshes_running(&mut self, refreshes: usize, requests: usize) {
        // Each secret may be cached with and without a version. A refresh with nothing to do ends when it is
        // polled.
        let most = 2 * self.plan.secrets + requests;
        let detail = || format!("{refreshes} refreshes, {requests} requests");
        self.expect(refreshes <= most, "refresh-ahead bound", detail);
    }

    pub fn call_started(
        &mut self,
        instance: usize,
        call: &Call,
        timeout: Duration,
        now: Duration,
        task: Option<Task>,
    ) -> usize {
        let number = self.calls.len();
        let upstream = call.service();
        let target = target_of(call);
        if upstream == Service::TokenSource {
            self.count("token call");
        }
        self.event(now, format_args!("call {number} of instance {instance}: {target:?} within {timeout:?}"));
        let same =
            |call: &CallRecord| call.ended.is_none() && call.instance == instance && call.target == target;
        let concurrent = self.calls.iter().any(same);
        self.expect(!concurrent, "single-flight", || format!("{target:?}"));
        let until = self.backoff_until.get(&(instance, target.party())).copied().unwrap_or_default();
        self.expect(now >= until, "backoff", || format!("{:?} too early", until - now));
        let jwks = target.party().1.and_then(|issuer| self.jwks.get(&(instance, issuer)));
        let seldom = jwks.is_none_or(|(_, received_at)| now >= *received_at + FETCH_PAUSE);
        self.expect(seldom, "JWKS interval", || "fetched again".to_owned());
        let most = if upstream == Service::TokenSource { self.deadline } else { self.deadline / 2 };
        self.expect(timeout <= most && timeout >= MIN_CALL_TIME, "call timeout", || format!("{timeout:?}"));
        self.calls.push(CallRecord { instance, target, upstream, start: now, task, ended: None });
        number
    }

    /// Records the end of a call, with the meaning of its answer if it has one.
    pub fn call_ended(
        &mut self,
        number: usize,
        answer: Option<(Target, Meaning)>,
        error: Option<&CallError>,
        now: Duration,
    ) {
        let shown = answer.as_ref().map(|(_, meaning)| meaning);
        self.event(now, format_args!("call {number} ended: {shown:?} {error:?}"));
        self.calls[number].ended = Some(now);
        let CallRecord { instance, upstream, start, .. } = self.calls[number];
        let Some((target, meaning)) = answer else {
            self.count(if error == Some(&CallError::TimedOut) { "call timed out" } else { "call lost" });
            return;
        };
        let party = target.party();
        let history = self.histories.entry((instance, target)).or_default();
        let recent = &mut history.answers_of_last_second;
        recent.push_back(now);
        while recent.front().is_some_and(|first| *first + Duration::from_secs(1) <= now) {
            recent.pop_front();
        }
        let answers = recent.len();
        let retried = matches!(meaning, Meaning::Failure(..) | Meaning::TokenRefused);
        history.settled_at = (!retried).then_some(now);
        history.token_refused = meaning == Meaning::TokenRefused;
        match meaning {
            Meaning::Secret { version, value } => {
                history.values.push(Value { fetched_at: start, received_at: now, version, value });
            }
            Meaning::Denied(_) => history.denied_at = Some(now),
            Meaning::Jwks(issuer, key_rotations) => {
                self.jwks.insert((instance, issuer), (key_rotations, now));
            }
            Meaning::Token | Meaning::Other(_) | Meaning::TokenRefused => {}
            Meaning::Failure(status, retry_after) => {
                let requested = retry_after.map(|seconds| Duration::from_secs(seconds.min(60)));
                let until = self.backoff_until.entry((instance, party)).or_default();
                // Our own backoff is at least 0.75 s, and an answer that was under way does not extend it.
                let own = (status == 429 && *until <= now).then_some(Duration::from_millis(750));
                if let Some(backoff) = requested.max(own) {
                    *until = (*until).max(now + backoff);
                    self.count("backoff requested");
                }
            }
        }
        let bound = upstream != Service::Vault || !self.cache_holds_all || answers <= CALLS_PER_SECOND;
        self.expect(bound, "call rate", || format!("{answers} calls in a second"));
    }

    /// Records that a call was cancelled together with its request.
    pub fn call_cancelled(&mut self, number: usize, now: Duration) {
        self.calls[number].ended = Some(now);
        let CallRecord { instance, ref target, task, .. } = self.calls[number];
        self.digest ^= task.unwrap_or_default();
        self.histories.entry((instance, target.clone())).or_default().settled_at = Some(now);
        let Target::Secret(wanted, _) = target else { return };
        let waiters = self.requests.iter().filter(|request| !request.ended && request.instance == instance);
        if waiters.filter(|request| name(request.plan.secret) == *wanted).count() > 1 {
            self.count("leader cancelled");
        }
    }

    pub fn run_ended(&mut self, tasks: usize, sleeps: usize) {
        let calls = self.calls.iter().filter(|call| call.ended.is_none()).count();
        let requests = self.requests.iter().filter(|request| !request.ended).count();
        let pending = (tasks, sleeps, calls, requests);
        self.expect(pending == (0, 0, 0, 0), "nothing pending", || format!("{pending:?}"));
    }

    fn event(&mut self, now: Duration, event: Arguments<'_>) {
        let text = format!("{:>10.3} {event}", now.as_secs_f64());
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.violation.is_none() {
            self.events.push_back(text);
            if self.events.len() > EVENTS_SHOWN {
                self.events.pop_front();
            }
        }
    }

    pub fn expect(&mut self, holds: bool, invariant: &str, detail: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(format!("violated: {invariant}: {}", detail()));
        }
    }
}

const EVENTS_SHOWN: usize = 60;
