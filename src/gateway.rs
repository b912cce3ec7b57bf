//! Answers one request: the script that orders the steps.

mod authentication;
mod batch;
mod log;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

use crate::auth::Principal;
use crate::auth::failure_limiter::AuthFailureLimiter;
use crate::azure::token_source::Token;
use crate::client::retry_budget::RetryBudget;
use crate::client::{Client, ClientState};
use crate::config::Config;
use crate::error::{AuthFailure, Error, Failure};
use crate::host::{Body, Host};
use crate::http::cache_status::{CacheOutcome, CacheStatus};
use crate::http::request::{Head, MAX_BODY, Route, SingleRequest};
use crate::http::response::Reply;
use crate::http::trace::Trace;
use crate::jwks::TokenVerifier;
use crate::model::{Deadline, Moment, SecretName, SecretRequest, SecretVersion};
use crate::read_error::ReadError;
use crate::readiness::Readiness;
use crate::secrets::cache::{CachedSecret, Freshness};
use crate::secrets::{Found, ReadFailure, Refresh, Secrets};
use crate::sync::single_flight::SingleFlight;
use crate::telemetry::context::RequestContext;
use crate::telemetry::log::Level;
use crate::telemetry::metrics::Metrics;
use authentication::Identity;
use batch::{Batches, Items};
use log::level_of;

/// The gateway of one instance: its host, its configuration, and what it keeps between requests.
#[derive(Debug)]
pub struct Gateway<H> {
    host: H,
    config: OnceCell<Config>,
    loading: SingleFlight<(), ()>,
    verifier: TokenVerifier,
    auth_failures: AuthFailureLimiter,
    secrets: Secrets,
    client: ClientState,
    readiness: Readiness,
    metrics: Metrics,
    batches: Batches,
    prefetched: Cell<bool>,
}

/// The answer to a request, and the work that is left after it has been given.
#[derive(Debug)]
pub struct Answered {
    pub reply: Reply,
    /// The secrets to refresh, on hosts that let an instance work after an answer.
    pub refreshes: Vec<Refresh>,
}

/// What a route answers.
#[derive(Default)]
struct Outcome {
    cache_status: Option<CacheStatus>,
    refreshes: Vec<Refresh>,
    /// Of several secrets, how many have which code, and the worst error.
    items: Option<Items>,
}

impl<H: Host> Gateway<H> {
    pub fn new(host: H) -> Self {
        Self {
            host,
            config: OnceCell::new(),
            loading: SingleFlight::new(),
            verifier: TokenVerifier::new(),
            auth_failures: AuthFailureLimiter::new(),
            secrets: Secrets::new(),
            client: ClientState::new(),
            readiness: Readiness::new(),
            metrics: Metrics::new(),
            batches: Batches::default(),
            prefetched: Cell::new(false),
        }
    }

    /// Answers any request.
    pub async fn answer(&self, head: Head, body: impl Body) -> Answered {
        let mut context = RequestContext::new(self.host.now(), Trace::of(&head.headers));
        let route = head.route();
        let result = match &route {
            Ok(Route::Secret) => self.secret(&head, body, &mut context).await,
            Ok(Route::Secrets) => self.secrets(&head, body, &mut context).await,
            Ok(Route::Health) => Ok((Reply::state("ok"), Outcome::default())),
            Ok(Route::Ready) => self.ready(&mut context).await,
            Ok(Route::OpenApi) => Ok((Reply::document("application/json", OPENAPI), Outcome::default())),
            Ok(Route::Metrics) => self.metrics(&head, &mut context).await,
            Err(error) => Err(error.clone().into()),
        };
        let mut answered = self.finish(&context, route.as_ref().ok(), result);
        if context.caller.is_some() {
            answered.refreshes.extend(self.prefetch());
        }
        answered
    }

    /// The secrets that the settings want to be read when the first request of a known caller has been
    /// answered.
    fn prefetch(&self) -> impl Iterator<Item = Refresh> + use<H> {
        let config = self.config.get().filter(|_| !self.prefetched.replace(true));
        let names = config.map(|config| config.prefetch.clone()).unwrap_or_default();
        names.into_iter().map(Refresh::prefetch)
    }

    /// Answers a request if that takes no waiting: with a cached secret, or with what is known before any
    /// call to Azure. `None` has no side effect but to drop a value that may not be served any more.
    pub fn answer_now(&self, head: &Head, authority: Option<&str>, body: &[u8]) -> Option<Reply> {
        let mut context = RequestContext::new(self.host.now(), Trace::of(&head.headers));
        let route = head.route();
        let result = match &route {
            Ok(Route::Secrets) => return None,
            Ok(Route::Secret) => self.secret_now(head, authority, body, &mut context).transpose()?,
            Ok(Route::Health) => Ok((Reply::state("ok"), Outcome::default())),
            Ok(Route::Ready) => {
                let _ = self.config_now(&mut context)?;
                self.has_token().then(|| Ok((Reply::state("ready"), Outcome::default())))?
            }
            Ok(Route::OpenApi) => Ok((Reply::document("application/json", OPENAPI), Outcome::default())),
            Ok(Route::Metrics) => self.metrics_now(head, &mut context).transpose()?,
            Err(error) => Err(error.clone().into()),
        };
        Some(self.finish(&context, route.as_ref().ok(), result).reply)
    }

    /// Makes the reply, counts it and logs it.
    fn finish(
        &self,
        context: &RequestContext<'_>,
        route: Option<&Route>,
        result: Result<(Reply, Outcome), ReadFailure>,
    ) -> Answered {
        let (mut reply, outcome, error) = match result {
            Ok((reply, outcome)) => (reply, outcome, None),
            Err(ReadFailure { error, cache_status }) => {
                let reply = if route == Some(&Route::Ready) {
                    Reply::not_ready(&error, self.unused(Some(&error)))
                } else {
                    Reply::error(&error)
                };
                (reply, Outcome { cache_status, ..Outcome::default() }, Some(error))
            }
        };
        if let Some(status) = outcome.cache_status {
            reply.add_cache_status(status);
        }
        let duration = self.host.now().since(context.start);
        self.metrics.replied(&reply, outcome.cache_status.map(CacheStatus::outcome), duration);
        let items = outcome.items.unwrap_or_default();
        let (level, error) = match (error.as_ref(), items.worst.as_ref()) {
            (None, Some(worst)) => (Level::Error, Some(worst)),
            (error, _) => (level_of(&reply), error),
        };
        self.log(context, level, (reply.status(), reply.code(), &items), outcome.cache_status, error);
        Answered { reply, refreshes: outcome.refreshes }
    }

    /// Answers the main route.
    async fn secret<'a>(
        &'a self,
        head: &Head,
        body: impl Body,
        context: &mut RequestContext<'a>,
    ) -> Result<(Reply, Outcome), ReadFailure> {
        let (config, principal, body) = self.receive(head, body, MAX_BODY, context).await?;
        let request = authorize(&principal, &body, context)?;
        let freshness = freshness(head.has_no_cache(), context.start);
        let found = self.secrets.find(&self.client(config, context), &request.secret, freshness).await?;
        Ok(secret_reply(&request, found))
    }

    /// Identifies the caller of a request for secrets, checks its head, and only then reads its body.
    async fn receive<'a>(
        &'a self,
        head: &Head,
        body: impl Body,
        max_body: usize,
        context: &mut RequestContext<'a>,
    ) -> Result<(&'a Config, Principal<'a>, Vec<u8>), Error> {
        let config = self.config(context).await?;
        let principal = self.authenticate(config, head, context).await?;
        let authority = principal.is_anonymous().then(|| body.authority()).flatten();
        check_head(config, &principal, head, authority.as_deref(), max_body, context)?;
        let body_deadline = context.deadline.within(context.start, config.stale_wait());
        let body = body.read(max_body, body_deadline.end()).await?;
        Ok((config, principal, body))
    }

    /// Answers the main route if that takes no waiting.
    fn secret_now<'a>(
        &'a self,
        head: &Head,
        authority: Option<&str>,
        body: &[u8],
        context: &mut RequestContext<'a>,
    ) -> Result<Option<(Reply, Outcome)>, ReadFailure> {
        let Some(config) = self.config_now(context) else { return Ok(None) };
        let Identity::Known(principal) = self.identify(config, head)? else { return Ok(None) };
        check_head(config, &principal, head, authority, MAX_BODY, context)?;
        // The first request goes the other way if something is to be read after it.
        if !config.prefetch.is_empty() && !self.prefetched.get() {
            return Ok(None);
        }
        if body.len() > MAX_BODY {
            return Err(Error::BodyTooLarge.into());
        }
        let request = authorize(&principal, body, context)?;
        let freshness = freshness(head.has_no_cache(), context.start);
        match self.secrets.find_cached(&request.secret, freshness, context.start).transpose()? {
            // After an immediate answer there is no time in which to refresh a secret.
            Some(found) if found.refresh.is_none() => Ok(Some(secret_reply(&request, found))),
            _ => Ok(None),
        }
    }

    /// Reads a secret for the component that is composed with the gateway. With `refresh` the vault is called
    /// even if the secret is cached.
    pub async fn read(&self, name: &str, version: Option<&str>, refresh: bool) -> Result<Found, ReadError> {
        let mut context = RequestContext::new(self.host.now(), Trace::none());
        let result = self.find(name, version, refresh, &mut context).await;
        match &result {
            // A log line would take longer than the cached read.
            Ok(found) if found.cache_status.outcome() == CacheOutcome::Hit => {}
            Ok(found) => {
                let outcome = (StatusCode::OK, Reply::OK, &Items::default());
                self.log(&context, Level::Info, outcome, Some(found.cache_status), None);
            }
            Err(ReadFailure { error, cache_status }) => {
                let reply = Reply::error(error);
                let outcome = (reply.status(), reply.code(), &Items::default());
                self.log(&context, level_of(&reply), outcome, *cache_status, Some(error));
            }
        }
        result.map_err(|not_found| (&not_found.error).into())
    }

    async fn find<'a>(
        &'a self,
        name: &str,
        version: Option<&str>,
        refresh: bool,
        context: &mut RequestContext<'a>,
    ) -> Result<Found, ReadFailure> {
        let config = self.config(context).await?;
        let principal = config.callers.composed();
        context.caller = Some(principal.caller());
        let request = parse_request(name, version)?;
        let authorized = principal.authorize(&request.name);
        if !refresh
            && authorized.is_ok()
            && let Some(cached) = self.secrets.get_cached(&request, context.start)
        {
            return Ok(cached);
        }
        // Only the log needs the name, and a cached read has no log line.
        context.secret = Some(request.name.clone());
        authorized?;
        let freshness = freshness(refresh, context.start);
        self.secrets.find(&self.client(config, context), &request, freshness).await
    }

    /// The cached secret for the component that is composed with the gateway, if it is within its TTL and no
    /// refresh is due. `None` before the configuration is loaded.
    pub fn get_cached(&self, name: &str, version: Option<&str>) -> Option<Rc<CachedSecret>> {
        let config = self.config.get()?;
        let request = parse_request(name, version).ok()?;
        config.callers.composed().authorize(&request.name).ok()?;
        let found = self.secrets.get_cached(&request, self.host.now())?;
        found.refresh.is_none().then_some(found.secret)
    }

    /// The address of the vault that secrets are read from.
    pub async fn vault(&self) -> Result<String, ReadError> {
        let mut context = RequestContext::new(self.host.now(), Trace::none());
        let config = self.config(&mut context).await.map_err(|error| ReadError::from(&error))?;
        Ok(config.vault.uri())
    }

    /// Refreshes a cached secret after the answer. It ends within the time of a request.
    pub async fn refresh(&self, refresh: Refresh) {
        let mut context = RequestContext::new(self.host.now(), Trace::none());
        let Ok(config) = self.config(&mut context).await else { return };
        let error = self.secrets.refresh(&self.client(config, &context), &refresh).await;
        if let Some(error) = &error {
            let reply = Reply::error(error);
            let item = (reply.code(), Some(error), None);
            let duration = self.host.now().since(context.start);
            self.log_item(&context, level_of(&reply), Some(refresh.name()), item, duration);
        }
    }

    const fn client<'a>(&'a self, config: &'a Config, context: &'a RequestContext<'a>) -> Client<'a, H> {
        Client { host: &self.host, config, metrics: &self.metrics, state: &self.client, context }
    }

    /// Says whether a secret could be read: the settings are right, and there is a token or one can be
    /// fetched. Of all probes of this instance one fetches a token in five seconds, once, and the others
    /// learn the result or what is known.
    async fn ready(&self, context: &mut RequestContext<'_>) -> Result<(Reply, Outcome), ReadFailure> {
        let config = self.config(context).await?;
        let client = self.client(config, context);
        while !self.has_token() {
            if let Some(attempt) = self.readiness.attempt(self.host.now()) {
                let token = client.token(RetryBudget::one_try(context.deadline)).await;
                attempt.end(token.map(drop).map_err(|failure| failure.error))?;
                break;
            }
            if !self.client.tokens.is_requested() {
                self.readiness.last_result()?;
                break;
            }
            // Waiting for a request that is in flight costs nothing. Its client may hang up: then look again.
            if let Some(Err(Failure { error, .. })) = client.wait_for_token(context.deadline).await {
                return Err(error.into());
            }
        }
        Ok((Reply::state("ready"), Outcome::default()))
    }

    fn has_token(&self) -> bool {
        self.client.tokens.get(Token::is_valid, self.host.now()).is_some()
    }

    async fn metrics<'a>(
        &'a self,
        head: &Head,
        context: &mut RequestContext<'a>,
    ) -> Result<(Reply, Outcome), ReadFailure> {
        let config = self.config(context).await?;
        let principal = self.authenticate(config, head, context).await?;
        self.render_metrics(&principal, context)
    }

    /// Answers the metrics if that takes no waiting.
    fn metrics_now<'a>(
        &'a self,
        head: &Head,
        context: &mut RequestContext<'a>,
    ) -> Result<Option<(Reply, Outcome)>, ReadFailure> {
        let Some(config) = self.config_now(context) else { return Ok(None) };
        let Identity::Known(principal) = self.identify(config, head)? else { return Ok(None) };
        self.render_metrics(&principal, context).map(Some)
    }

    /// Answers the metrics. They need a credential even where anonymous callers may read secrets.
    fn render_metrics<'a>(
        &self,
        principal: &Principal<'a>,
        context: &mut RequestContext<'a>,
    ) -> Result<(Reply, Outcome), ReadFailure> {
        if principal.is_anonymous() {
            return Err(self.auth_failures.record(AuthFailure::ApiKey, self.host.now()).into());
        }
        context.caller = Some(principal.caller());
        let now = self.host.now();
        let token = self.client.tokens.get(Token::is_valid, now);
        let token = token.map(|token| (token.age(now), token.left(now)));
        let text = self.metrics.render(self.secrets.size(), token);
        Ok((Reply::document("text/plain; version=0.0.4; charset=utf-8", text), Outcome::default()))
    }

    /// The configuration, which also sets the deadline of the request. It is loaded when it is first needed.
    /// A wrong one is loaded again for the next request, as a host may have been unable to read a setting.
    async fn config<'a>(&'a self, context: &mut RequestContext<'_>) -> Result<&'a Config, Error> {
        if self.config.get().is_none() {
            let deadline = Deadline::new(context.start, LOAD_LIMIT);
            let load = async |_| {
                let config = Config::load(&self.host, deadline).await?;
                let _ = self.config.set(config);
                Ok(())
            };
            let (result, _) = self.loading.run(&self.host, &(), deadline.end(), |_| deadline, load).await;
            result.map_err(|failure| failure.error)?;
        }
        self.config_now(context).ok_or(Error::DeadlineExceeded)
    }

    /// The configuration, if it is loaded. It sets the deadline of the request.
    fn config_now<'a>(&'a self, context: &mut RequestContext<'_>) -> Option<&'a Config> {
        let config = self.config.get()?;
        context.deadline = Deadline::new(context.start, config.deadline);
        Some(config)
    }
}

/// Checks what the head of a request for a secret says, before any of its body is read.
fn check_head<'a>(
    config: &Config,
    principal: &Principal<'a>,
    head: &Head,
    authority: Option<&str>,
    max_body: usize,
    context: &mut RequestContext<'a>,
) -> Result<(), Error> {
    context.caller = Some(principal.caller());
    if principal.is_anonymous() {
        config.callers.check_host(authority, &head.headers)?;
    }
    head.check_content(max_body)
}

/// Parses the body, and checks that the caller may read the secret.
fn authorize<'a>(
    principal: &Principal<'a>,
    body: &[u8],
    context: &mut RequestContext<'a>,
) -> Result<SingleRequest, Error> {
    let request = SingleRequest::parse(body)?;
    context.secret = Some(request.secret.name.clone());
    context.caller = Some(principal.authorize(&request.secret.name)?);
    Ok(request)
}

fn secret_reply(request: &SingleRequest, found: Found) -> (Reply, Outcome) {
    let reply = Reply::secret(&request.secret.name, &found.secret.secret, found.age, request.details);
    let (cache_status, refreshes) = (Some(found.cache_status), found.refresh.into_iter().collect());
    (reply, Outcome { cache_status, refreshes, items: None })
}

/// The request of a component that is composed with the gateway.
fn parse_request(name: &str, version: Option<&str>) -> Result<SecretRequest, Error> {
    let name = SecretName::parse(name).ok_or(Error::NoValidSecret)?;
    let version = version
        .filter(|text| !text.is_empty())
        .map(|text| SecretVersion::parse(text).ok_or(Error::NoValidVersion))
        .transpose()?;
    Ok(SecretRequest { name, version })
}

const fn freshness(wants_fresh: bool, now: Moment) -> Freshness {
    if wants_fresh { Freshness::Since(now.minus(MIN_REFRESH_INTERVAL)) } else { Freshness::WithinTtl }
}

/// A caller may have a secret fetched again this often, however often it asks for that.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The description of the contract (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// How long a request may wait for the settings: the default deadline, as the real one is among them.
const LOAD_LIMIT: Duration = Duration::from_secs(10);
