//! Answers one request: the only place that orders the steps.

use core::cell::{OnceCell, RefCell};
use core::time::Duration;
use std::rc::Rc;

use http::HeaderMap;

use crate::azure::identity::Token;
use crate::azure::vault::Secret;
use crate::cache::{Cache, Kept, Key, Wanted};
use crate::error::Error;
use crate::flight::{Flights, Seat};
use crate::host::{Body, Host, Moment, NoBody, within};
use crate::log::{self, Level};
use crate::metrics::Metrics;
use crate::reply::{CacheStatus, Forwarded, Reply};
use crate::request::{Head, LARGEST_BODY, Route, SecretRequest};
use crate::resilience::{Deadline, Trouble};
use crate::secret::SecretName;
use crate::settings::Settings;
use crate::trace::Trace;
use crate::upstream::{Azure, REFUSAL_PAUSE, Upstreams};
use crate::visit::Visit;

/// The gateway of one instance: its host, its settings, and what it keeps between requests.
#[derive(Debug)]
pub struct Gateway<H: Host> {
    host: H,
    settings: OnceCell<Settings>,
    cache: RefCell<Cache>,
    reads: Flights<Key, Result<Rc<Kept>, Error>, H::Signal>,
    upstreams: Upstreams<H::Signal>,
    readiness: RefCell<Readiness>,
    metrics: Metrics,
}

/// An answer, and what is left to do when it has been given.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub reply: Reply,
    /// A value to renew, on hosts that let an instance work after an answer.
    pub renewal: Option<Renewal>,
}

/// A value that was served from memory and is better renewed before it is asked for again.
#[derive(Debug)]
pub struct Renewal(SecretRequest);

/// A secret for a caller: the value, and how it was found.
struct Found {
    kept: Rc<Kept>,
    status: CacheStatus,
    renewal: Option<Renewal>,
}

impl<H: Host> Gateway<H> {
    /// A gateway that has not been asked anything yet.
    pub fn new(host: H) -> Self {
        Self {
            host,
            settings: OnceCell::new(),
            cache: RefCell::new(Cache::new()),
            reads: Flights::new(),
            upstreams: Upstreams::new(),
            readiness: RefCell::new(Readiness { tried: None, known: Err(Error::IdentityUnavailable(None)) }),
            metrics: Metrics::new(),
        }
    }

    /// Answers a request, whatever it is.
    pub async fn answer(&self, head: Head, body: impl Body) -> Answered {
        let mut visit = Visit::new(self.host.now(), Trace::of(&head.headers, || self.host.random()));
        let mut renewal = None;
        let route = head.route();
        let outcome = match &route {
            Ok(Route::Secret) => self.secret(&head, body, &mut visit).await.map(|(reply, due)| {
                renewal = due;
                reply
            }),
            Ok(Route::Health) => Ok(Reply::state("ok")),
            Ok(Route::Ready) => self.ready(&mut visit).await,
            Ok(Route::OpenApi) => Ok(Reply::document("application/json", OPENAPI)),
            Ok(Route::Metrics) => self.metrics(&head, &mut visit),
            Err(error) => Err(error.clone()),
        };
        let (mut reply, error) = match outcome {
            Ok(reply) => (reply, None),
            Err(error) if route == Ok(Route::Ready) => (Reply::not_ready(&error), Some(error)),
            Err(error) => (Reply::error(&error), Some(error)),
        };
        if let Some(status) = visit.cache.get() {
            reply.cached(status);
        }
        self.record(&visit, &reply, error.as_ref());
        Answered { reply, renewal }
    }

    /// The main job.
    async fn secret(
        &self,
        head: &Head,
        body: impl Body,
        visit: &mut Visit,
    ) -> Result<(Reply, Option<Renewal>), Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);

        let caller = settings.callers.admit(&head.headers, head.query())?;
        visit.caller = Some(caller.name().to_owned());

        head.announces_json()?;
        let body = body.read(LARGEST_BODY, visit.deadline.left(self.host.now())?).await?;
        let asked = SecretRequest::parse(&body)?;
        visit.secret = Some(asked.name.clone());
        caller.may_read(&asked.name)?;

        let wanted = match head.wants_fresh() {
            true => Wanted::Since(visit.start.minus(RENEWED_AT_MOST_EVERY)),
            false => Wanted::Kept,
        };
        let Found { kept, status, renewal } = self.find(settings, &asked, wanted, visit).await?;
        visit.cache.set(Some(status));
        Ok((Reply::secret(&asked.name, &kept.secret, kept.age(self.host.now())), renewal))
    }

    /// Finds a secret: in memory, or else by a call of this request or of one that is under way.
    async fn find(
        &self,
        settings: &Settings,
        asked: &SecretRequest,
        wanted: Wanted,
        visit: &Visit,
    ) -> Result<Found, Error> {
        let key = Key::of(asked);
        loop {
            let now = self.host.now();
            let kept = self.cache.borrow_mut().value(&key, now);
            if let Some(kept) = kept.as_ref().filter(|it| it.answers(wanted, now)) {
                let status = CacheStatus { ttl: Some(kept.ttl(now)), ..CacheStatus::default() };
                let due = kept.is_due(now) && self.may_renew(&key, now);
                let renewal = due.then(|| Renewal(asked.clone()));
                return Ok(Found { kept: Rc::clone(kept), status, renewal });
            }
            let refusal = self.cache.borrow_mut().refusal(&key, wanted, now);
            if let Some(refusal) = refusal {
                let status = CacheStatus { ttl: Some(refusal.ttl(now)), ..CacheStatus::default() };
                visit.cache.set(Some(status));
                return self.settle(refusal.error, asked, &key, wanted, visit);
            }
            let forwarded = match (wanted, &kept) {
                (Wanted::Since(_), _) => Forwarded::Request,
                (Wanted::Kept, Some(_)) => Forwarded::Stale,
                (Wanted::Kept, None) => Forwarded::Miss,
            };
            let status = CacheStatus { forwarded: Some(forwarded), ..CacheStatus::default() };
            let landed = match self.reads.board(&key, now) {
                Seat::Leads(leader) => {
                    visit.cache.set(Some(status));
                    // With something else at hand, Azure need not be waited for to the end.
                    let deadline = match kept {
                        Some(_) => visit.deadline.within(now, settings.patience()),
                        None => visit.deadline,
                    };
                    let read = self.read(settings, asked, &key, deadline, visit).await;
                    // That our time is over says nothing to those who have more.
                    if !matches!(read, Err(Error::DeadlineExceeded)) {
                        leader.land(read.clone());
                    }
                    read
                }
                Seat::Follows(follower) => {
                    visit.cache.set(Some(CacheStatus { collapsed: true, ..status }));
                    let deadline = match kept {
                        Some(_) => visit.deadline.within(follower.since(), settings.patience()),
                        None => visit.deadline,
                    };
                    let landed = match deadline.left(now) {
                        Ok(left) => within(&self.host, left, follower.landed(&self.host)).await,
                        Err(_) => None,
                    };
                    match landed {
                        Some(Some(Ok(kept))) if !kept.is_from(wanted) => continue,
                        Some(Some(read)) => read,
                        // The leader vanished. Somebody else has to take over, perhaps we.
                        Some(None) => continue,
                        None => Err(Error::DeadlineExceeded),
                    }
                }
            };
            return match landed {
                Ok(kept) => {
                    let status = visit.cache.get().unwrap_or(status);
                    Ok(Found { kept, status, renewal: None })
                }
                Err(error) => self.settle(error, asked, &key, wanted, visit),
            };
        }
    }

    /// What a request gets where Azure had nothing for it: what is in memory, if `error` is an excuse for that.
    fn settle(
        &self,
        error: Error,
        asked: &SecretRequest,
        key: &Key,
        wanted: Wanted,
        visit: &Visit,
    ) -> Result<Found, Error> {
        let now = self.host.now();
        if !excuses(&error, wanted) {
            return Err(error);
        }
        // Looked up again: a no that came in the meantime has evicted it.
        let Some(kept) = self.cache.borrow_mut().value(key, now) else { return Err(error) };
        let mut status = visit.cache.get().unwrap_or_default();
        if visit.calls.get() == 0 && !status.collapsed {
            status.forwarded = None;
        }
        let status = CacheStatus { ttl: Some(kept.ttl(now)), failed: true, ..status };
        // Azure may only have been slower than our patience.
        let slow = error == Error::DeadlineExceeded && self.may_renew(key, now);
        Ok(Found { kept, status, renewal: slow.then(|| Renewal(asked.clone())) })
    }

    /// Renews a value that was served from memory. It ends within the time that a request has.
    pub async fn renew(&self, renewal: Renewal) {
        let (Ok(settings), Renewal(asked)) = (self.settings(), renewal) else { return };
        let (key, now) = (Key::of(&asked), self.host.now());
        let kept = self.cache.borrow_mut().value(&key, now);
        if !kept.is_some_and(|it| it.is_due(now)) || !self.may_renew(&key, now) {
            return;
        }
        let Seat::Leads(leader) = self.reads.board(&key, now) else { return };
        let mut visit = Visit::new(now, Trace::of(&HeaderMap::new(), || self.host.random()));
        visit.deadline = Deadline::new(now, settings.deadline);
        let read = self.read(settings, &asked, &key, visit.deadline, &visit).await;
        if !matches!(read, Err(Error::DeadlineExceeded)) {
            leader.land(read);
        }
    }

    /// Whether renewing `key` ahead could do any good at `now`.
    fn may_renew(&self, key: &Key, now: Moment) -> bool {
        !self.reads.has(key) && self.cache.borrow_mut().refusal(key, Wanted::Kept, now).is_none()
    }

    /// Reads a secret from the vault and remembers what came of it: the value, or for a while the error.
    async fn read(
        &self,
        settings: &Settings,
        asked: &SecretRequest,
        key: &Key,
        deadline: Deadline,
        visit: &Visit,
    ) -> Result<Rc<Kept>, Error> {
        let start = self.host.now();
        let read = self.ask(settings, asked, key, deadline, visit).await;
        let now = self.host.now();
        let mut cache = self.cache.borrow_mut();
        match read {
            Ok((secret, asked_at)) => {
                Ok(cache.keep(key, secret, asked_at, &settings.cache, self.host.random()))
            }
            Err(error) => {
                if is_no(&error) {
                    cache.evict(key);
                }
                let pause = match error {
                    Error::SecretNotFound(..) => settings.cache.negative_ttl,
                    // It is about this request only.
                    Error::DeadlineExceeded => Duration::ZERO,
                    _ => REFUSAL_PAUSE,
                };
                cache.refuse(key, error.clone(), start, now.plus(pause), &settings.cache);
                Err(error)
            }
        }
    }

    /// Asks the vault, with a new token once if it refuses the one at hand.
    async fn ask(
        &self,
        settings: &Settings,
        asked: &SecretRequest,
        key: &Key,
        deadline: Deadline,
        visit: &Visit,
    ) -> Result<(Secret, Moment), Error> {
        let azure = self.azure(settings, visit);
        let token = azure.token(deadline).await?;
        match azure.secret(asked, &token, deadline).await {
            Err(Error::TokenRefused) => {
                self.cache.borrow_mut().evict(key);
                azure.replace(&token)?;
                let token = azure.token(deadline).await?;
                azure.secret(asked, &token, deadline).await
            }
            answered => answered,
        }
    }

    const fn azure<'a>(&'a self, settings: &'a Settings, visit: &'a Visit) -> Azure<'a, H> {
        Azure { host: &self.host, settings, metrics: &self.metrics, upstreams: &self.upstreams, visit }
    }

    /// Whether a secret could be read: the settings are right, and a token is at hand or can be had. However many ask this
    /// instance, one of them tries in [`READINESS_PAUSE`], and the others learn what is known.
    async fn ready(&self, visit: &mut Visit) -> Result<Reply, Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);
        if self.upstreams.token_if(Token::is_valid, self.host.now()).is_none() {
            match Attempt::begin(&self.readiness, self.host.now()) {
                Ok(attempt) => {
                    let azure = self.azure(settings, visit);
                    attempt.end(azure.token(visit.deadline).await.map(drop))?;
                }
                Err(known) => known?,
            }
        }
        Ok(Reply::state("ready"))
    }

    fn metrics(&self, head: &Head, visit: &mut Visit) -> Result<Reply, Error> {
        let caller = self.settings()?.callers.admit_known(&head.headers, head.query())?;
        visit.caller = Some(caller.name().to_owned());
        let text = self.metrics.render(self.cache.borrow().size());
        Ok(Reply::document("text/plain; version=0.0.4; charset=utf-8", text))
    }

    /// The settings, read when they are first needed. Wrong ones are read again: a host may have been unable to tell.
    fn settings(&self) -> Result<&Settings, Error> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = Settings::read(&self.host).map_err(Error::Setting)?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// Counts and logs what was answered.
    fn record(&self, visit: &Visit, reply: &Reply, error: Option<&Error>) {
        self.metrics.replied(reply);
        if let Some(status) = visit.cache.get() {
            self.metrics.looked_up(status.name());
        }
        let level = if reply.status.is_server_error() { Level::Error } else { Level::Info };
        if level > self.settings.get().map_or(Level::Info, |it| it.log) {
            return;
        }
        self.host.log(&log::render(&log::Line {
            time: self.host.unix_time(),
            level,
            request: visit.trace.id(),
            caller: visit.caller.as_deref(),
            secret: visit.secret.as_ref().map(SecretName::as_str),
            status: reply.status.as_u16(),
            code: reply.code,
            cause: error,
            cache: visit.cache.get().map(CacheStatus::name),
            upstream: visit.calls.get(),
            duration: self.host.now().since(visit.start),
        }));
    }
}

/// Whether a token could be had when it was last tried, and when that was.
#[derive(Debug)]
struct Readiness {
    tried: Option<Moment>,
    known: Result<(), Error>,
}

/// The one request that finds out about readiness. If it goes away before it has, the next one may try at once.
struct Attempt<'a> {
    readiness: &'a RefCell<Readiness>,
    start: Moment,
    ended: bool,
}

impl<'a> Attempt<'a> {
    /// Begins, or tells what is known if there was an attempt a short while ago.
    fn begin(readiness: &'a RefCell<Readiness>, now: Moment) -> Result<Self, Result<(), Error>> {
        let mut last = readiness.borrow_mut();
        if last.tried.is_some_and(|it| now.since(it) < READINESS_PAUSE) {
            return Err(last.known.clone());
        }
        last.tried = Some(now);
        Ok(Self { readiness, start: now, ended: false })
    }

    /// Notes what came of it.
    fn end(mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        self.readiness.borrow_mut().known = outcome.clone();
        self.ended = true;
        outcome
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut last = self.readiness.borrow_mut();
        if !self.ended && last.tried == Some(self.start) {
            last.tried = None;
        }
    }
}

/// Whether `error` lets a value from memory be served in its place. A no never does, nor does an answer that makes no
/// sense. Who wants a fresh value gets one from memory only if Azure cannot be reached.
fn excuses(error: &Error, wanted: Wanted) -> bool {
    match (Trouble::behind(error), wanted) {
        (Some((Trouble::Unreachable, _)), _) => true,
        (Some((Trouble::Throttled | Trouble::Failing, _)), wanted) => wanted == Wanted::Kept,
        (None, _) => *error == Error::DeadlineExceeded,
    }
}

/// Whether the vault said no, so that what it gave before is not served any more.
fn is_no(error: &Error) -> bool {
    matches!(
        error,
        Error::TokenRefused | Error::VaultDenied(_) | Error::SecretDisabled | Error::SecretNotFound(..)
    )
}

impl From<NoBody> for Error {
    fn from(reason: NoBody) -> Self {
        match reason {
            NoBody::Lost => Self::BodyLost,
            NoBody::TimedOut => Self::DeadlineExceeded,
            NoBody::TooLarge => Self::BodyTooLarge,
        }
    }
}

/// Probes come every few seconds from every side; what they cost Azure must not grow with their number.
const READINESS_PAUSE: Duration = Duration::from_secs(5);

/// A caller may have a secret read again this often, however often it asks for that.
const RENEWED_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// The description of the contract (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");
