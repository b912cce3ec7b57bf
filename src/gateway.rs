//! Answers one request: the only place that orders the steps.

use core::cell::{OnceCell, RefCell};
use core::time::Duration;
use std::rc::Rc;

use crate::azure::identity::Token;
use crate::azure::vault::{Secret, Vault};
use crate::azure::{Answer, Call};
use crate::error::Error;
use crate::host::{Body, Host, Moment, NoAnswer, NoBody};
use crate::log::{self, Level};
use crate::metrics::Metrics;
use crate::reply::{CacheStatus, Reply};
use crate::request::{Head, LARGEST_BODY, Route, SecretRequest};
use crate::resilience::Deadline;
use crate::secret::SecretName;
use crate::settings::Settings;
use crate::trace::Trace;

/// The gateway of one instance: its host, its settings, and what it keeps between requests.
#[derive(Debug)]
pub struct Gateway<H> {
    host: H,
    settings: OnceCell<Settings>,
    token: RefCell<Option<Rc<Token>>>,
    readiness: RefCell<Readiness>,
    metrics: Metrics,
}

impl<H: Host> Gateway<H> {
    /// A gateway that has not been asked anything yet.
    pub const fn new(host: H) -> Self {
        Self {
            host,
            settings: OnceCell::new(),
            token: RefCell::new(None),
            readiness: RefCell::new(Readiness { tried: None, known: Err(Error::IdentityUnavailable(None)) }),
            metrics: Metrics::new(),
        }
    }

    /// Answers a request, whatever it is.
    pub async fn answer(&self, head: Head, body: impl Body) -> Reply {
        let mut visit = Visit::new(self.host.now(), Trace::of(&head.headers, || self.host.random()));
        let route = head.route();
        let outcome = match &route {
            Ok(Route::Secret) => self.secret(&head, body, &mut visit).await,
            Ok(Route::Health) => Ok(Reply::state("ok")),
            Ok(Route::Ready) => self.ready(&mut visit).await,
            Ok(Route::OpenApi) => Ok(Reply::document("application/json", OPENAPI)),
            Ok(Route::Metrics) => self.metrics(&head, &mut visit),
            Err(error) => Err(error.clone()),
        };
        let (reply, error) = match outcome {
            Ok(reply) => (reply, None),
            Err(error) if route == Ok(Route::Ready) => (Reply::not_ready(&error), Some(error)),
            Err(error) => (Reply::error(&error), Some(error)),
        };
        self.record(&visit, &reply, error.as_ref());
        reply
    }

    /// The main job.
    async fn secret(&self, head: &Head, body: impl Body, visit: &mut Visit) -> Result<Reply, Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);

        let caller = settings.callers.admit(&head.headers, head.query())?;
        visit.caller = Some(caller.name().to_owned());

        head.announces_json()?;
        let body = body.read(LARGEST_BODY, visit.deadline.left(self.host.now())?).await?;
        let asked = SecretRequest::parse(&body)?;
        visit.secret = Some(asked.name.clone());
        caller.may_read(&asked.name)?;

        let status = if head.wants_fresh() { CacheStatus::Request } else { CacheStatus::Miss };
        visit.cache = Some(status);
        let secret = self.read(settings, &asked, visit).await?;
        Ok(Reply::secret(&asked.name, &secret, Duration::ZERO, status))
    }

    /// Reads a secret from the vault. A token that the vault refuses is replaced once: it may have been revoked, or
    /// signed with a key that the vault does not know yet (`AKV10046`).
    async fn read(
        &self,
        settings: &Settings,
        asked: &SecretRequest,
        visit: &mut Visit,
    ) -> Result<Secret, Error> {
        let token = self.token(settings, visit).await?;
        match self.ask(settings, asked, &token, visit).await {
            Err(Error::TokenRefused) => {
                self.forget(&token);
                let token = self.token(settings, visit).await?;
                self.ask(settings, asked, &token, visit).await
            }
            answered => answered,
        }
    }

    async fn ask(
        &self,
        settings: &Settings,
        asked: &SecretRequest,
        token: &Token,
        visit: &mut Visit,
    ) -> Result<Secret, Error> {
        let call = settings.vault.get(&asked.name, asked.version.as_ref(), token);
        let answer = self.send(call, "vault", settings, visit).await?;
        Vault::read(answer, &asked.name, asked.version.as_ref(), self.host.unix_time())
    }

    /// A token for the vault: the one in memory while it is fresh, or else a new one. Where there is no new one to be had
    /// for the moment, the one in memory is used for as long as it is valid.
    async fn token(&self, settings: &Settings, visit: &mut Visit) -> Result<Rc<Token>, Error> {
        if let Some(token) = self.token_if(Token::is_fresh) {
            return Ok(token);
        }
        let source = &settings.identity;
        let answer = self.send(source.get(settings.vault.audience()), source.name(), settings, visit).await?;
        match source.read(answer, self.host.now(), self.host.unix_time()) {
            Ok(token) => {
                let token = Rc::new(token);
                self.token.replace(Some(Rc::clone(&token)));
                Ok(token)
            }
            Err(error @ (Error::IdentityThrottled(_) | Error::IdentityUnavailable(_))) => {
                self.token_if(Token::is_valid).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn token_if(&self, usable: impl Fn(&Token, Moment) -> bool) -> Option<Rc<Token>> {
        self.token.borrow().as_ref().filter(|it| usable(it, self.host.now())).map(Rc::clone)
    }

    /// Drops `token`, unless another request has replaced it in the meantime.
    fn forget(&self, token: &Rc<Token>) {
        self.token.borrow_mut().take_if(|it| Rc::ptr_eq(it, token));
    }

    /// Sends a call, if there is time for it, and notes that.
    async fn send(
        &self,
        call: Call,
        name: &'static str,
        settings: &Settings,
        visit: &mut Visit,
    ) -> Result<Result<Answer, NoAnswer>, Error> {
        let start = self.host.now();
        let left = visit.deadline.left(start)?;
        visit.calls = visit.calls.saturating_add(1);
        self.metrics.called(call.upstream());
        let answer = self.host.send(call.traced(&visit.trace), left).await;
        if settings.log >= Level::Debug {
            self.host.log(&log::render(&log::CallLine {
                time: self.host.unix_time(),
                level: Level::Debug,
                request: visit.trace.id(),
                call: name,
                status: answer.as_ref().ok().map(Answer::status),
                duration: self.host.now().since(start),
            }));
        }
        Ok(answer)
    }

    /// Whether a secret could be read: the settings are right, and a token is at hand or can be had. However many ask this
    /// instance, one of them tries in [`READINESS_PAUSE`], and the others learn what is known.
    async fn ready(&self, visit: &mut Visit) -> Result<Reply, Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);
        if self.token_if(Token::is_fresh).is_none() {
            match Attempt::begin(&self.readiness, self.host.now()) {
                Ok(attempt) => attempt.end(self.token(settings, visit).await.map(drop))?,
                Err(known) => known?,
            }
        }
        Ok(Reply::state("ready"))
    }

    fn metrics(&self, head: &Head, visit: &mut Visit) -> Result<Reply, Error> {
        let caller = self.settings()?.callers.admit_known(&head.headers, head.query())?;
        visit.caller = Some(caller.name().to_owned());
        Ok(Reply::document("text/plain; version=0.0.4; charset=utf-8", self.metrics.render()))
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
            cache: visit.cache.map(CacheStatus::name),
            upstream: visit.calls,
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

/// What is known of a request while it is answered.
struct Visit {
    start: Moment,
    deadline: Deadline,
    trace: Trace,
    caller: Option<String>,
    secret: Option<SecretName>,
    cache: Option<CacheStatus>,
    calls: u32,
}

impl Visit {
    /// A request that came at `start` and has no time for calls until the settings say how much.
    const fn new(start: Moment, trace: Trace) -> Self {
        let deadline = Deadline::new(start, Duration::ZERO);
        Self { start, deadline, trace, caller: None, secret: None, cache: None, calls: 0 }
    }
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

/// The description of the contract (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");
