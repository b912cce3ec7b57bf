//! The invariants, checked at every event.
//!
//! | invariant | what |
//! |---|---|
//! | `the vault's own value` | a 200 has a value, a version and an `Age` that the vault gave to this very instance for that very name |
//! | `within its age` | no value is older than 1.1 × TTL, or 1.1 × TTL + stale with a mark; the mark and a negative `ttl` are there just when they should be |
//! | `fresh for who wants it` | a request with `no-cache` gets a value that was asked for a second before it, or later, unless it is marked |
//! | `a no is final` | a value from before a 403 or 404 of the vault is not served after it |
//! | `nothing is taken away` | whatever fails, and a 401 of the vault as well, a value is served until its time is over, unless the vault says 403 or 404 |
//! | `nothing shows` | the marker is in no log line, no header and no body but that of a 200, which is exactly the documented one |
//! | `scope` | who has no key and no good token gets 401 or 429, who may not have a secret gets 403, and neither makes a call; who has one never does |
//! | `keys seldom` | an instance that has got the keys of callers' tokens does not ask for them again within [`ASK_PAUSE`] |
//! | `deadline` | a request ends by its deadline, and says `Timeout` only when less than [`LEAST_TIME`] of its own is left |
//! | `nobody waits for nothing` | who says `Timeout` was waiting for a call, or for a pause that Azure made |
//! | `nobody runs in a circle` | who looks at the clock [`MOST_LOOKS`] times has waited for something in between |
//! | `one flight` | an instance never has two calls for the same secret, nor two for a token |
//! | `call bound` | in one second an instance makes at most [`CALLS_A_SECOND`] calls for one secret that are answered |
//! | `no token past its end` | the vault is not shown a token that ended half a minute before, where its length was told |
//! | `pause` | after a 429, or a 5xx with `Retry-After`, an instance makes no call to that place before the pause is over |
//! | `limits` | a call has at least [`LEAST_TIME`] and at most what is left, and one to the vault at most half of the deadline |
//! | `budget` | a caller with a key gets 429 only for what it has asked itself: it has made [`LEAST_SPENDING`] requests of its own |
//! | `undisturbed` | where Azure is well, a caller that asks for little gets 200, whatever others send |
//! | `little left` | what an instance still does after its answers is bounded by the number of secrets |
//! | `documented` | status and code are documented, and a 503 has `Retry-After` |
//! | `recovery` | [`RECOVERY`] after, or [`SOON`](crate::plan::SOON) where all that failed was a vault that refused good tokens, the world has healed every secret is served, unmarked |
//! | `nothing left` | when all is over there is no task, no sleeper and no call |

mod answers;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use keyvault_gateway::azure::Call;
use keyvault_gateway::client::LEAST_TIME;
use keyvault_gateway::error::Service;
use keyvault_gateway::host::CallError;
use keyvault_gateway::jwks::ASK_PAUSE;

use crate::executor::Task;
use crate::plan::{Ask, Caller, Plan};
use crate::world::{MARKER, Told, Wish, name, wish};

/// A secret that fails is asked for three times in one flight, and once more three times if the vault has refused a token
/// on the way. What came of it is remembered for a second.
pub const CALLS_A_SECOND: usize = 6;

/// The longest pause that Azure is granted is a minute, our own longest is 20 seconds with its spread, an answer may have
/// been under way for 16 seconds when all was well again, a token is replaced once in ten, and a 404 is remembered for ten.
pub const RECOVERY: Duration = Duration::from_secs(100);

/// A request makes three calls at the most, and three more with another token, of the hundred that are free.
const LEAST_SPENDING: usize = 100_usize.div_ceil(CALLS_A_SECOND);

/// Far more than anybody has reason to.
pub const MOST_LOOKS: u64 = 1_000_000;

/// What has happened so far, and the first thing that should not have.
#[derive(Default)]
pub struct Checks {
    ttl: Duration,
    stale: Duration,
    deadline: Duration,
    /// Whether what is read is remembered at all, and stays in memory until its time is over.
    roomy: bool,
    secrets: usize,
    undisturbed: bool,
    /// How many requests of a caller have come to an instance.
    spending: BTreeMap<(usize, Caller), usize>,
    healed: Duration,
    recovery: Duration,
    requests: Vec<Request>,
    calls: Vec<Sent>,
    under_way: Vec<usize>,
    given: BTreeMap<(usize, Wish), Given>,
    pauses: BTreeMap<(usize, Service), Duration>,
    /// Which keys an instance was told of last, when it asked and when they came.
    keys: BTreeMap<usize, (usize, Duration, Duration)>,
    counts: BTreeMap<&'static str, u64>,
    events: VecDeque<String>,
    /// A number that two runs have in common only if they were the same.
    pub digest: u64,
    violation: Option<String>,
}

struct Request {
    instance: usize,
    ask: Ask,
    /// Which key its token is signed with, if it has one.
    rotations: usize,
    start: Duration,
    over: bool,
}

struct Sent {
    instance: usize,
    wish: Wish,
    upstream: Service,
    at: Duration,
    task: Option<Task>,
    under_way: bool,
    ended: Duration,
}

/// What the vault has told an instance of a secret.
#[derive(Default)]
struct Given {
    values: Vec<Value>,
    no: Option<Duration>,
    /// Whether the last that it said was that it does not accept the token.
    not_accepted: bool,
    answered: VecDeque<Duration>,
    /// When the last call for it was over, in a way that leaves nothing to wait for.
    settled: Option<Duration>,
}

struct Value {
    asked: Duration,
    came: Duration,
    version: String,
    value: String,
}

impl Checks {
    pub fn new(plan: &Plan) -> Self {
        Self {
            ttl: Duration::from_secs(plan.ttl),
            stale: Duration::from_secs(plan.stale),
            deadline: Duration::from_secs(plan.deadline),
            roomy: plan.ttl > 0 && plan.negative > 0 && plan.entries >= 2 * plan.secrets,
            secrets: plan.secrets,
            undisturbed: plan.undisturbed,
            healed: plan.healed,
            recovery: plan.recovery,
            digest: 0xcbf2_9ce4_8422_2325,
            ..Self::default()
        }
    }

    /// Whether something has happened that should not have.
    pub const fn failed(&self) -> bool {
        self.violation.is_some()
    }

    /// The first thing that should not have happened, with what went before.
    pub fn violation(&self) -> Option<String> {
        let violation = self.violation.as_ref()?;
        let events: Vec<&str> = self.events.iter().map(String::as_str).collect();
        Some(format!("{}\n{violation}", events.join("\n")))
    }

    /// How often interesting things have happened.
    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn asked(&mut self, instance: usize, ask: Ask, rotations: usize, now: Duration) -> usize {
        let number = self.requests.len();
        *self.spending.entry((instance, ask.caller)).or_default() += 1;
        self.event(now, format_args!("request {number} to instance {instance}: {ask:?}"));
        self.requests.push(Request { instance, ask, rotations, start: now, over: false });
        number
    }

    pub fn logged(&mut self, line: &str) {
        self.expect(!line.contains(MARKER), "nothing shows", || line.to_owned());
        let unasked = line.contains("\"code\":\"Unauthorized\"") || line.contains("\"code\":\"Forbidden\"");
        // A token is not known to be good or bad before its keys are there.
        let asked = !line.contains("\"upstream\":0") && !line.contains("bbbbbbbbbbbbbbbb");
        self.expect(!unasked || !asked, "scope", || line.to_owned());
    }

    /// A request comes while an instance does so much for requests, and so much after answers.
    pub fn left_after_answers(&mut self, renewals: usize, requests: usize) {
        // Each secret may be asked for by its version as well. A renewal that has nothing to do ends when it has its turn.
        let most = 2 * self.secrets + requests;
        self.expect(renewals <= most, "little left", || format!("{renewals} renewals, {requests} requests"));
    }

    pub fn hung_up(&mut self, number: usize) {
        if !std::mem::replace(&mut self.requests[number].over, true) {
            self.count("hung up");
        }
    }

    pub fn called(
        &mut self,
        instance: usize,
        call: &Call,
        limit: Duration,
        now: Duration,
        task: Option<Task>,
    ) -> usize {
        let number = self.calls.len();
        let upstream = call.upstream();
        let wish = wish(call);
        if upstream == Service::Identity {
            self.count("token call");
        }
        self.event(now, format_args!("call {number} of instance {instance}: {wish:?} within {limit:?}"));
        let same = |it: &&usize| self.calls[**it].instance == instance && self.calls[**it].wish == wish;
        let twice = self.under_way.iter().any(|it| same(&it));
        self.expect(!twice, "one flight", || format!("{wish:?}"));
        let pause = self.pauses.get(&(instance, upstream)).copied().unwrap_or_default();
        self.expect(now >= pause, "pause", || format!("{:?} too early", pause - now));
        let keys = self.keys.get(&instance).filter(|_| upstream == Service::Directory);
        let seldom = keys.is_none_or(|it| now >= it.2 + ASK_PAUSE);
        self.expect(seldom, "keys seldom", || "asked again".to_owned());
        let most = if upstream == Service::Identity { self.deadline } else { self.deadline / 2 };
        self.expect(limit <= most && limit >= LEAST_TIME, "limits", || format!("{limit:?}"));
        self.under_way.push(number);
        self.calls.push(Sent {
            instance,
            wish,
            upstream,
            at: now,
            task,
            under_way: true,
            ended: Duration::ZERO,
        });
        number
    }

    /// A task has looked at the clock more often than [`MOST_LOOKS`] without waiting.
    pub fn in_a_circle(&mut self) {
        self.expect(false, "nobody runs in a circle", || "it never waits".to_owned());
    }

    /// The vault has been shown a token, which had not ended long before.
    pub fn shown_a_token(&mut self, good: bool) {
        self.expect(good, "no token past its end", || "it ended long before".to_owned());
    }

    /// A call has come back, with what it told if it was answered.
    pub fn came_back(
        &mut self,
        number: usize,
        told: Option<(Wish, Told)>,
        nothing: Option<&CallError>,
        now: Duration,
    ) {
        let what = told.as_ref().map(|it| &it.1);
        self.event(now, format_args!("call {number} came back: {what:?} {nothing:?}"));
        let Sent { instance, upstream, at, .. } = self.calls[number];
        self.calls[number].under_way = false;
        self.under_way.retain(|it| *it != number);
        self.calls[number].ended = now;
        let Some((wish, told)) = told else {
            self.count(if nothing == Some(&CallError::TimedOut) { "timed out" } else { "lost" });
            return;
        };
        let given = self.given.entry((instance, wish)).or_default();
        given.answered.push_back(now);
        while given.answered.front().is_some_and(|it| *it + Duration::from_secs(1) <= now) {
            given.answered.pop_front();
        }
        let answered = given.answered.len();
        given.settled = (!matches!(told, Told::Trouble(..) | Told::NotAccepted)).then_some(now);
        given.not_accepted = told == Told::NotAccepted;
        match told {
            Told::Secret { version, value } => {
                given.values.push(Value { asked: at, came: now, version, value });
            }
            Told::No(_) => given.no = Some(now),
            Told::Keys(rotations) => {
                self.keys.insert(instance, (rotations, at, now));
            }
            Told::Token | Told::Other(_) | Told::NotAccepted => {}
            Told::Trouble(status, retry_after) => {
                let asked = retry_after.map(|it| Duration::from_secs(it.min(60)));
                let until = self.pauses.entry((instance, upstream)).or_default();
                // Our own pause is at least three quarters of a second, and is not made longer by what was under way.
                let own = (status == 429 && *until <= now).then_some(Duration::from_millis(750));
                if let Some(pause) = asked.max(own) {
                    *until = (*until).max(now + pause);
                    self.count("told to pause");
                }
            }
        }
        let bound = upstream != Service::Vault || !self.roomy || answered <= CALLS_A_SECOND;
        self.expect(bound, "call bound", || format!("{answered} calls in a second"));
    }

    /// A call has been dropped, as its request is gone.
    pub fn dropped(&mut self, number: usize, now: Duration) {
        self.calls[number].under_way = false;
        self.under_way.retain(|it| *it != number);
        self.calls[number].ended = now;
        let Sent { instance, ref wish, task, .. } = self.calls[number];
        self.digest ^= task.unwrap_or_default();
        self.given.entry((instance, wish.clone())).or_default().settled = Some(now);
        let Wish::Secret(wanted, _) = wish else { return };
        let others = self.requests.iter().filter(|it| !it.over && it.instance == instance);
        if others.filter(|it| name(it.ask.secret) == *wanted).count() > 1 {
            self.count("leader vanished");
        }
    }

    pub fn over(&mut self, tasks: usize, sleepers: usize) {
        let calls = self.calls.iter().filter(|it| it.under_way).count();
        let requests = self.requests.iter().filter(|it| !it.over).count();
        let left = (tasks, sleepers, calls, requests);
        self.expect(left == (0, 0, 0, 0), "nothing left", || format!("{left:?}"));
    }

    fn event(&mut self, now: Duration, what: core::fmt::Arguments<'_>) {
        let text = format!("{:>10.3} {what}", now.as_secs_f64());
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

    fn expect(&mut self, holds: bool, invariant: &str, detail: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(format!("violated: {invariant}: {}", detail()));
        }
    }
}

const EVENTS_SHOWN: usize = 60;
