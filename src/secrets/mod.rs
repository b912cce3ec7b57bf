//! Finds a secret: in the cache, in the call of another request, in the shared store, or in the vault.

pub mod cache;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::client::Client;
use crate::client::retry_budget::RetryBudget;
use crate::client::token_cache::ERROR_TTL;
use crate::error::{Error, Failure, FailureKind};
use crate::host::Host;
use crate::http::cache_status::{CacheStatus, Forwarded};
use crate::model::{CacheKey, Moment, SecretName, SecretRequest};
use crate::shared_store::StoredSecret;
use crate::sync::single_flight::{Role, SingleFlight};

use cache::{Cache, CachedSecret, Freshness};

/// The cached secrets of an instance, and the reads that are in flight.
#[derive(Debug)]
pub struct Secrets {
    cache: RefCell<Cache>,
    in_flight: SingleFlight<CacheKey, Fetched>,
}

/// A secret that was found.
#[derive(Debug)]
pub struct Found {
    pub secret: Rc<CachedSecret>,
    pub age: Duration,
    pub cache_status: CacheStatus,
    /// The refresh that is due, if one is.
    pub refresh: Option<Refresh>,
}

/// Why no secret was found.
#[derive(Debug)]
pub struct ReadFailure {
    pub error: Error,
    /// How the error came about; `None` if neither the cache nor Azure was involved.
    pub cache_status: Option<CacheStatus>,
}

/// A cached secret that should be refreshed ahead of its expiry, or one that is to be cached.
#[derive(Debug)]
pub struct Refresh(SecretRequest);

impl Refresh {
    /// The secret to read.
    pub const fn name(&self) -> &SecretName {
        &self.0.name
    }

    /// The first read of a secret, before a request asks for it.
    pub const fn prefetch(name: SecretName) -> Self {
        Self(SecretRequest { name, version: None })
    }
}

/// What the leader of a read has fetched.
#[derive(Clone, Debug)]
struct Fetched {
    secret: Rc<CachedSecret>,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Vault { spread: u64 },
    SharedStore,
}

impl From<Error> for ReadFailure {
    fn from(error: Error) -> Self {
        Self { error, cache_status: None }
    }
}

impl Secrets {
    pub fn new() -> Self {
        Self { cache: RefCell::new(Cache::new()), in_flight: SingleFlight::new() }
    }

    /// The number of cached secrets, and their size in bytes.
    pub fn size(&self) -> (usize, usize) {
        self.cache.borrow().size()
    }

    /// The cached secret, if it is within its TTL.
    pub fn get_cached(&self, request: &SecretRequest, now: Moment) -> Option<Found> {
        self.within_ttl(request, &CacheKey::of(request), Freshness::WithinTtl, now)
    }

    /// The answer of the cache, if it has one that is good enough.
    pub fn find_cached(
        &self,
        request: &SecretRequest,
        freshness: Freshness,
        now: Moment,
    ) -> Option<Result<Found, ReadFailure>> {
        self.look_up(request, &CacheKey::of(request), freshness, now)
    }

    /// Finds a secret: cache, then single-flight, then shared store and vault, then stale-if-error.
    pub async fn find<H: Host>(
        &self,
        client: &Client<'_, H>,
        request: &SecretRequest,
        freshness: Freshness,
    ) -> Result<Found, ReadFailure> {
        let key = CacheKey::of(request);
        let now = client.host.now();
        if let Some(found) = self.look_up(request, &key, freshness, now) {
            return found;
        }
        let late = client.context.is_late(now);
        let mut attempt = self.fetch(client, request, &key, freshness, late).await;
        // The request tried only once since it had an expired value to fall back on. That was evicted
        // meanwhile.
        if attempt.has_lost_fallback && client.context.deadline.left(client.host.now()).is_ok() {
            if let Some(found) = self.look_up(request, &key, freshness, client.host.now()) {
                return found;
            }
            attempt = self.fetch(client, request, &key, freshness, late).await;
        }
        let now = client.host.now();
        match attempt.result {
            Ok(Fetched { secret, origin: Origin::Vault { .. } }) => {
                Ok(Found { age: secret.age(now), secret, cache_status: attempt.cache_status, refresh: None })
            }
            Ok(Fetched { secret, origin: Origin::SharedStore }) => Ok(self.hit(secret, request, &key, now)),
            Err(failure) => {
                self.stale_if_error(client, request, &key, freshness, failure.error, attempt.cache_status)
            }
        }
    }

    /// The answer of the cache: a secret that is good enough, or an error that would come again.
    fn look_up(
        &self,
        request: &SecretRequest,
        key: &CacheKey,
        freshness: Freshness,
        now: Moment,
    ) -> Option<Result<Found, ReadFailure>> {
        if let Some(found) = self.within_ttl(request, key, freshness, now) {
            return Some(Ok(found));
        }
        let negative = self.cache.borrow_mut().negative(key, freshness, now)?;
        let status = CacheStatus::hit(negative.ttl(now));
        Some(self.stale_or(negative.error, request, key, freshness, status, now))
    }

    fn within_ttl(
        &self,
        request: &SecretRequest,
        key: &CacheKey,
        freshness: Freshness,
        now: Moment,
    ) -> Option<Found> {
        let cached = self.cache.borrow_mut().get(key, now);
        let secret = cached.filter(|secret| secret.satisfies(freshness, now))?;
        Some(self.hit(secret, request, key, now))
    }

    fn hit(&self, secret: Rc<CachedSecret>, request: &SecretRequest, key: &CacheKey, now: Moment) -> Found {
        let is_due = secret.is_refresh_due(now) && self.may_refresh(key, now);
        Found {
            age: secret.age(now),
            cache_status: CacheStatus::hit(secret.ttl(now)),
            refresh: is_due.then(|| Refresh(request.clone())),
            secret,
        }
    }

    /// Fetches a secret, or waits for the request that does so.
    async fn fetch<H: Host>(
        &self,
        client: &Client<'_, H>,
        request: &SecretRequest,
        key: &CacheKey,
        freshness: Freshness,
        late: bool,
    ) -> Attempt {
        let deadline = client.context.deadline;
        loop {
            let has_expired = Cell::new(self.has_value(key, client.host.now()));
            let budget = |began| self.retry_budget(client, has_expired.get(), began).late(late);
            let lead = async |began| {
                if let Some(secret) = self.load(client, key, freshness).await {
                    return Ok(Fetched { secret, origin: Origin::SharedStore });
                }
                has_expired.set(self.has_value(key, client.host.now()));
                self.fetch_as_caller(client, request, key, budget(began)).await
            };
            let wait = |began| budget(began).by;
            let (result, role) = self.in_flight.run(client.host, key, deadline.end(), wait, lead).await;
            // The leader's call began before this client asked for a fresh secret.
            if let (Ok(fetched), Role::Waiter) = (&result, role)
                && !fetched.secret.is_as_recent_as(freshness)
            {
                continue;
            }
            if let (Ok(fetched), Role::Leader) = (&result, role) {
                self.store(client, key, fetched).await;
            }
            let forwarded = match (freshness, has_expired.get()) {
                (Freshness::Since(_), _) => Forwarded::Request,
                (Freshness::WithinTtl, true) => Forwarded::Expired,
                (Freshness::WithinTtl, false) => Forwarded::Miss,
            };
            let is_local = matches!(&result, Err(failure) if failure.is_local);
            let has_lost_fallback = is_local && has_expired.get() && !self.has_value(key, client.host.now());
            return Attempt {
                result,
                cache_status: CacheStatus::forwarded(forwarded, role == Role::Waiter),
                has_lost_fallback,
            };
        }
    }

    /// A request with an expired value to fall back on does not wait for Azure to the end.
    fn retry_budget<H: Host>(&self, client: &Client<'_, H>, has_expired: bool, began: Moment) -> RetryBudget {
        if has_expired {
            RetryBudget::with_fallback(client.context.deadline, began, client.config.stale_wait())
        } else {
            RetryBudget::full(client.context.deadline)
        }
    }

    /// Fetches a secret on the budget of the caller. If that is spent, the next waiter leads, on its own
    /// budget.
    async fn fetch_as_caller<H: Host>(
        &self,
        client: &Client<'_, H>,
        request: &SecretRequest,
        key: &CacheKey,
        budget: RetryBudget,
    ) -> Result<Fetched, Failure> {
        client.take_call(client.host.now()).map_err(Failure::local)?;
        let calls = client.context.calls.vault();
        let result = self.fetch_from_vault(client, request, key, budget).await;
        if client.context.calls.vault() == calls {
            client.give_back_call();
        }
        result
    }

    /// Fetches a secret from the vault and caches the result: the secret, or for a while the error.
    async fn fetch_from_vault<H: Host>(
        &self,
        client: &Client<'_, H>,
        request: &SecretRequest,
        key: &CacheKey,
        budget: RetryBudget,
    ) -> Result<Fetched, Failure> {
        let settings = &client.config.cache;
        let start = client.host.now();
        let result = client.get_secret(request, budget).await;
        let now = client.host.now();
        let mut failure = match result {
            Ok((secret, fetched_at)) => {
                let spread = client.host.random();
                let secret = self.cache.borrow_mut().insert(key, secret, fetched_at, settings, spread);
                return Ok(Fetched { secret, origin: Origin::Vault { spread } });
            }
            Err(failure) => failure,
        };
        let is_denial = is_denial(&failure.error);
        {
            let mut cache = self.cache.borrow_mut();
            if is_denial {
                cache.evict(key);
            }
            // All requests that have an expired value to fall back on make one short attempt, so its failure
            // is good for all of them, unless our own deadline ended it.
            let has_expired = cache.get(key, now).is_some();
            failure.is_local &= !has_expired || failure.error == Error::DeadlineExceeded;
            if !failure.is_local {
                let is_missing = matches!(failure.error, Error::SecretNotFound(..));
                let ttl = if is_missing { settings.negative_ttl } else { ERROR_TTL };
                cache.insert_negative(key, failure.error.clone(), start, now.plus(ttl), settings);
            }
        }
        if is_denial {
            client.delete_stored_secret(key).await;
        }
        Err(failure)
    }

    /// Loads a secret from the shared store into the cache, and returns it if it is good enough.
    async fn load<H: Host>(
        &self,
        client: &Client<'_, H>,
        key: &CacheKey,
        freshness: Freshness,
    ) -> Option<Rc<CachedSecret>> {
        let store = client.shared_store(client.context.deadline)?;
        let StoredSecret { secret, fetched_at, spread } = store.read_secret(key).await?;
        let now = client.host.now();
        let mut cache = self.cache.borrow_mut();
        let negative = cache.negative(key, Freshness::WithinTtl, now);
        let is_refused = negative.is_some_and(|negative| negative.is_newer_than(fetched_at));
        let is_newer = cache.get(key, now).is_none_or(|cached| cached.is_older_than(fetched_at));
        if is_refused || !is_newer {
            return None;
        }
        let secret = cache.insert(key, secret, fetched_at, &client.config.cache, spread);
        secret.satisfies(freshness, now).then_some(secret)
    }

    /// Writes a secret of the vault to the shared store.
    async fn store<H: Host>(&self, client: &Client<'_, H>, key: &CacheKey, fetched: &Fetched) {
        if let Origin::Vault { spread } = fetched.origin
            && let Some(store) = client.shared_store(client.context.deadline)
        {
            store.write_secret(key, &fetched.secret.secret, fetched.secret.fetched_at(), spread).await;
        }
    }

    /// What a request gets after Azure has failed with `error`.
    fn stale_if_error<H: Host>(
        &self,
        client: &Client<'_, H>,
        request: &SecretRequest,
        key: &CacheKey,
        freshness: Freshness,
        error: Error,
        mut status: CacheStatus,
    ) -> Result<Found, ReadFailure> {
        let was_forwarded = client.context.calls.for_secret() > 0 || status.collapsed;
        if !was_forwarded {
            status.forwarded = None;
        }
        let mut result = self.stale_or(error, request, key, freshness, status, client.host.now());
        // No call was made, since a circuit breaker is open: the error comes neither from the cache nor from
        // Azure.
        if let Err(failure) = &mut result
            && !was_forwarded
        {
            failure.cache_status = None;
        }
        result
    }

    /// The cached secret, however old, if `error` allows that (stale-if-error); otherwise the error.
    fn stale_or(
        &self,
        error: Error,
        request: &SecretRequest,
        key: &CacheKey,
        freshness: Freshness,
        status: CacheStatus,
        now: Moment,
    ) -> Result<Found, ReadFailure> {
        // A denial that came meanwhile has evicted the value.
        let stale = allows_stale(&error, freshness).then(|| self.cache.borrow_mut().get(key, now)).flatten();
        let Some(secret) = stale else {
            return Err(ReadFailure { error: in_words_of(request, error), cache_status: Some(status) });
        };
        // Azure may only have been slower than the stale wait.
        let refresh = (error == Error::DeadlineExceeded && self.may_refresh(key, now))
            .then(|| Refresh(request.clone()));
        let cache_status = CacheStatus { ttl: Some(secret.ttl(now)), failed: true, ..status };
        Ok(Found { age: secret.age(now), secret, cache_status, refresh })
    }

    /// Refreshes a cached secret ahead of its expiry, or reads one that is not cached, unless a request does so
    /// already. Returns the error of the vault or of the token source.
    pub async fn refresh<H: Host>(
        &self,
        client: &Client<'_, H>,
        Refresh(request): &Refresh,
    ) -> Option<Error> {
        let (key, now) = (CacheKey::of(request), client.host.now());
        let cached = self.cache.borrow_mut().get(&key, now);
        let is_missing = cached.is_none();
        if cached.is_some_and(|secret| !secret.is_refresh_due(now)) || !self.may_refresh(&key, now) {
            return None;
        }
        let budget = RetryBudget::full(client.context.deadline);
        let lead = async || {
            if is_missing && let Some(secret) = self.load(client, &key, Freshness::WithinTtl).await {
                return Ok(Fetched { secret, origin: Origin::SharedStore });
            }
            self.fetch_from_vault(client, request, &key, budget).await
        };
        let fetched = match self.in_flight.run_if_idle(&key, now, lead).await? {
            Ok(fetched) => fetched,
            Err(failure) => return Some(failure.error),
        };
        self.store(client, &key, &fetched).await;
        None
    }

    /// Whether a refresh could succeed: no read is in flight, and none has just failed.
    fn may_refresh(&self, key: &CacheKey, now: Moment) -> bool {
        !self.in_flight.has(key) && self.cache.borrow_mut().negative(key, Freshness::WithinTtl, now).is_none()
    }

    fn has_value(&self, key: &CacheKey, now: Moment) -> bool {
        self.cache.borrow_mut().get(key, now).is_some()
    }
}

/// One attempt to fetch a secret.
struct Attempt {
    result: Result<Fetched, Failure>,
    cache_status: CacheStatus,
    /// The attempt was short, since there was an expired value to fall back on, and that is gone.
    has_lost_fallback: bool,
}

/// Whether a cached secret may be served in place of `error`. A denial never allows that, nor does an answer
/// that makes no sense. A client that wants a fresh secret gets a cached one only if Azure cannot be reached,
/// or cannot tell.
fn allows_stale(error: &Error, freshness: Freshness) -> bool {
    match (error.transient(), freshness) {
        (Some((FailureKind::Unreachable | FailureKind::NotAccepting, _)), _) => true,
        (Some((FailureKind::Throttled | FailureKind::Failing, _)), freshness) => {
            freshness == Freshness::WithinTtl
        }
        (None, _) => {
            matches!(error, Error::DeadlineExceeded | Error::TokenSourceAbsent(_) | Error::TokenFile(_))
        }
    }
}

/// The error with the name as `request` spells it: another one may have found out, with another spelling.
pub fn in_words_of(request: &SecretRequest, error: Error) -> Error {
    match error {
        Error::SecretNotFound(..) => Error::SecretNotFound(request.name.clone(), request.version.clone()),
        error => error,
    }
}

/// Whether the vault denies the secret, or a new token for good, so that a cached value must not be served
/// any more.
fn is_denial(error: &Error) -> bool {
    matches!(
        error,
        Error::TokenRefused(..)
            | Error::VaultDenied(..)
            | Error::SecretDisabled
            | Error::SecretNotFound(..)
            | Error::VaultRefused(404, _)
    )
}
