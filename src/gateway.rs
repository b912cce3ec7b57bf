//! Answers one request: the only place that orders the steps.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

use crate::auth::failure_limiter::AuthFailureLimiter;
use crate::auth::{Caller, Credentials, Principal};
use crate::azure::token_source::Token;
use crate::client::retry_budget::RetryBudget;
use crate::client::{Client, UpstreamState};
use crate::config::Config;
use crate::error::Error;
use crate::host::{Body, BodyError, Host};
use crate::http::cache_status::{CacheOutcome, CacheStatus};
use crate::http::request::{Head, LARGEST_BODY, Route};
use crate::http::response::Reply;
use crate::http::trace::Trace;
use crate::jwks::TokenVerifier;
use crate::model::{Deadline, Moment, SecretName, SecretRequest, SecretVersion};
use crate::read_error::ReadError;
use crate::readiness::Readiness;
use crate::secrets::cache::{CachedSecret, Freshness};
use crate::secrets::{Found, Refresh, Secrets};
use crate::telemetry::context::RequestContext;
use crate::telemetry::log::{self, Level};
use crate::telemetry::metrics::Metrics;

/// The gateway of one instance: its host, its settings, and what it keeps between requests.
#[derive(Debug)]
pub struct Gateway<H: Host> {
    host: H,
    settings: OnceCell<Config>,
    bearers: TokenVerifier<H::Signal>,
    guesses: AuthFailureLimiter,
    secrets: Secrets<H::Signal>,
    upstreams: UpstreamState<H::Signal>,
    readiness: Readiness,
    metrics: Metrics,
}

/// An answer, and what is left to do when it has been given.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub reply: Reply,
    /// A value to renew, on hosts that let an instance work after an answer.
    pub renewal: Option<Refresh>,
}

impl<H: Host> Gateway<H> {
    /// A gateway that has not been asked anything yet.
    pub fn new(host: H) -> Self {
        Self {
            host,
            settings: OnceCell::new(),
            bearers: TokenVerifier::new(),
            guesses: AuthFailureLimiter::new(),
            secrets: Secrets::new(),
            upstreams: UpstreamState::new(),
            readiness: Readiness::new(),
            metrics: Metrics::new(),
        }
    }

    /// Answers a request, whatever it is.
    pub async fn answer(&self, head: Head, body: impl Body) -> Answered {
        let mut visit = RequestContext::new(self.host.now(), Trace::of(&head.fields));
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
            Ok(Route::Metrics) => self.metrics(&head, &mut visit).await,
            Err(error) => Err(error.clone()),
        };
        let (mut reply, error) = match outcome {
            Ok(reply) => (reply, None),
            Err(error) if route == Ok(Route::Ready) => {
                (Reply::not_ready(&error, self.unused(Some(&error))), Some(error))
            }
            Err(error) => (Reply::error(&error), Some(error)),
        };
        if let Some(status) = visit.cache.get() {
            reply.cached(status);
        }
        self.record(&visit, &reply, error.as_ref());
        Answered { reply, renewal }
    }

    /// The main job.
    async fn secret<'a>(
        &'a self,
        head: &Head,
        body: impl Body,
        visit: &mut RequestContext<'a>,
    ) -> Result<(Reply, Option<Refresh>), Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);

        let admitted = self.admit(settings, head, visit).await?;
        visit.caller = Some(admitted.caller());
        if admitted.is_anybody() {
            settings.callers.expect_own_name(body.authority().as_deref(), &head.fields)?;
        }

        head.announces_json()?;
        let body_deadline = visit.deadline.within(visit.start, settings.patience());
        let body = body.read(LARGEST_BODY, body_deadline.end()).await?;
        let asked = SecretRequest::parse(&body)?;
        visit.secret = Some(asked.name.clone());
        visit.caller = Some(admitted.may_read(&asked.name)?);

        let wanted = wanted(head.wants_fresh(), visit.start);
        let Found { kept, age, status, renewal } =
            self.secrets.find(&self.azure(settings, visit), &asked, wanted).await?;
        visit.cache.set(Some(status));
        Ok((Reply::secret(&asked.name, &kept.secret, age), renewal))
    }

    /// Reads a secret for the component that is composed with us: the same job without a request. With `again` the vault is
    /// asked, whatever is in memory.
    pub async fn read(&self, name: &str, version: Option<&str>, again: bool) -> Result<Found, ReadError> {
        let mut visit = RequestContext::new(self.host.now(), Trace::none());
        let found = self.find(name, version, again, &mut visit).await;
        match &found {
            // A line would take longer than a read from memory does.
            Ok(found) if found.status.outcome() == CacheOutcome::Hit => {}
            Ok(found) => {
                visit.cache.set(Some(found.status));
                self.log(&visit, Level::Info, StatusCode::OK, Reply::OK, None);
            }
            Err(error) => {
                let reply = Reply::error(error);
                self.log(&visit, level_of(&reply), reply.status(), reply.code(), Some(error));
            }
        }
        found.map_err(|it| (&it).into())
    }

    async fn find<'a>(
        &'a self,
        name: &str,
        version: Option<&str>,
        again: bool,
        visit: &mut RequestContext<'a>,
    ) -> Result<Found, Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);
        let caller = settings.callers.composed();
        visit.caller = Some(caller.caller());
        let asked = asked(name, version)?;
        // Only a line of the log needs the name, and what is found here has none.
        if !again
            && caller.may_read(&asked.name).is_ok()
            && let Some(fresh) = self.secrets.fresh(&asked, visit.start)
        {
            return Ok(fresh);
        }
        visit.secret = Some(asked.name.clone());
        caller.may_read(&asked.name)?;
        self.secrets.find(&self.azure(settings, visit), &asked, wanted(again, visit.start)).await
    }

    /// The value for that component, if memory has it within its TTL and it need not be renewed.
    pub fn at_hand(&self, name: &str, version: Option<&str>) -> Option<Rc<CachedSecret>> {
        let settings = self.settings().ok()?;
        let asked = asked(name, version).ok()?;
        settings.callers.composed().may_read(&asked.name).ok()?;
        let found = self.secrets.fresh(&asked, self.host.now())?;
        found.renewal.is_none().then_some(found.kept)
    }

    /// The vault that secrets are read from.
    pub fn vault(&self) -> Result<String, ReadError> {
        self.settings().map(|it| it.vault.uri()).map_err(|it| (&it).into())
    }

    /// Who asks. This comes before everything that costs anything. Whoever has shown a good key or a good token gets in,
    /// however many others have failed to.
    async fn admit<'a>(
        &self,
        settings: &'a Config,
        head: &Head,
        visit: &RequestContext<'_>,
    ) -> Result<Principal<'a>, Error> {
        let callers = &settings.callers;
        let admitted = match callers.shown(&head.fields, head.query())? {
            Credentials::Key(key) => callers.with_key(key.as_ref()),
            Credentials::Token(tenant, token) => {
                let claims = self.bearers.verify(&self.azure(settings, visit), tenant, token).await;
                match (claims, callers.anybody()) {
                    (Ok(claims), _) => claims.and_then(|it| callers.with_claims(&it)),
                    (Err(_), Some(anybody)) => Some(anybody),
                    (Err(error), None) => return Err(error),
                }
            }
        };
        admitted.or_else(|| callers.anybody()).ok_or_else(|| self.guesses.failed(self.host.now()))
    }

    /// Renews a value that was served from memory. It ends within the time that a request has.
    pub async fn renew(&self, renewal: Refresh) {
        let (Ok(settings), now) = (self.settings(), self.host.now()) else { return };
        let mut visit = RequestContext::new(now, Trace::none());
        visit.deadline = Deadline::new(now, settings.deadline);
        self.secrets.renew(&self.azure(settings, &visit), renewal).await;
    }

    const fn azure<'a>(&'a self, settings: &'a Config, visit: &'a RequestContext<'a>) -> Client<'a, H> {
        Client { host: &self.host, settings, metrics: &self.metrics, upstreams: &self.upstreams, visit }
    }

    /// Whether a secret could be read: the settings are right, and a token is at hand or can be had. However many ask this
    /// instance, one of them tries in five seconds, once, and the others learn what comes of it or what is known.
    async fn ready(&self, visit: &mut RequestContext<'_>) -> Result<Reply, Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);
        let azure = self.azure(settings, visit);
        while self.upstreams.token_if(Token::is_valid, self.host.now()).is_none() {
            if let Some(attempt) = self.readiness.attempt(self.host.now()) {
                let token = azure.token(RetryBudget::one_try(visit.deadline)).await;
                attempt.end(token.map(drop).map_err(|failed| failed.error))?;
                break;
            }
            if !self.upstreams.is_token_under_way() {
                self.readiness.known()?;
                break;
            }
            // What comes of a request that is under way costs nothing to wait for. Its client may hang up: then look again.
            azure.token_under_way(visit.deadline).await.map_err(|failed| failed.error)?;
        }
        Ok(Reply::state("ready"))
    }

    /// What this instance has done so far. That is not for everybody, even where everybody may ask for secrets.
    async fn metrics<'a>(&'a self, head: &Head, visit: &mut RequestContext<'a>) -> Result<Reply, Error> {
        let settings = self.settings()?;
        visit.deadline = Deadline::new(visit.start, settings.deadline);
        let admitted = self.admit(settings, head, visit).await?;
        if admitted.is_anybody() {
            return Err(self.guesses.failed(self.host.now()));
        }
        visit.caller = Some(admitted.caller());
        let now = self.host.now();
        let token = self.upstreams.token_if(Token::is_valid, now).map(|it| (it.age(now), it.left(now)));
        let text = self.metrics.render(self.secrets.size(), token);
        Ok(Reply::document("text/plain; version=0.0.4; charset=utf-8", text))
    }

    /// The settings, read when they are first needed. Wrong ones are read again: a host may have been unable to tell.
    fn settings(&self) -> Result<&Config, Error> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = Config::read(&self.host).map_err(Error::Setting)?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// Counts and logs what was answered.
    fn record(&self, visit: &RequestContext<'_>, reply: &Reply, error: Option<&Error>) {
        let duration = self.host.now().since(visit.start);
        self.metrics.replied(reply, visit.cache.get().map(CacheStatus::outcome), duration);
        self.log(visit, level_of(reply), reply.status(), reply.code(), error);
    }

    /// The variables that were set and not used, where `error` is that there is no token.
    fn unused(&self, error: Option<&Error>) -> &[&'static str] {
        let no_token = || self.upstreams.token_if(Token::is_valid, self.host.now()).is_none();
        match (self.settings.get(), error) {
            (Some(settings), Some(error))
                if error.is_about_identity() || (*error == Error::DeadlineExceeded && no_token()) =>
            {
                settings.identity.unused()
            }
            _ => &[],
        }
    }

    /// Logs what was answered, unless the settings want less than that.
    fn log(
        &self,
        visit: &RequestContext<'_>,
        level: Level,
        status: StatusCode,
        code: &'static str,
        error: Option<&Error>,
    ) {
        if level > self.settings.get().map_or(Level::Info, |it| it.log) {
            return;
        }
        self.host.log(&log::render(&log::Line {
            time: self.host.unix_time(),
            level,
            request: visit.trace.id(|| self.host.random()),
            caller: visit.caller.map(Caller::name),
            secret: visit.secret.as_ref().map(SecretName::as_str),
            status: status.as_u16(),
            code,
            cause: error,
            unused: self.unused(error),
            cache: visit.cache.get().map(|it| it.outcome().name()),
            upstream: visit.calls.get(),
            duration: self.host.now().since(visit.start),
        }));
    }
}

impl From<BodyError> for Error {
    fn from(reason: BodyError) -> Self {
        match reason {
            BodyError::Lost => Self::BodyLost,
            BodyError::TimedOut => Self::DeadlineExceeded,
            BodyError::TooLarge => Self::BodyTooLarge,
        }
    }
}

/// What a component asks for that is composed with us.
fn asked(name: &str, version: Option<&str>) -> Result<SecretRequest, Error> {
    let name = SecretName::parse(name).ok_or(Error::NoValidSecret)?;
    let version = version
        .filter(|text| !text.is_empty())
        .map(|it| SecretVersion::parse(it).ok_or(Error::NoValidVersion))
        .transpose()?;
    Ok(SecretRequest { name, version })
}

/// Which values will do at `now` for whoever wants a fresh one, or does not.
const fn wanted(fresh: bool, now: Moment) -> Freshness {
    if fresh { Freshness::Since(now.minus(RENEWED_AT_MOST_EVERY)) } else { Freshness::WithinTtl }
}

/// How much has to be logged for an answer to be.
fn level_of(reply: &Reply) -> Level {
    if reply.status().is_server_error() { Level::Error } else { Level::Info }
}

/// A caller may have a secret read again this often, however often it asks for that.
const RENEWED_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// The description of the contract (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");
