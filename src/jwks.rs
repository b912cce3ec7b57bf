//! Verifies the access tokens of callers: the JWKS cache, the limiter for unknown keys, and the tokens that
//! were verified before.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::auth::jwt::Jwt;
use crate::auth::tenant::{Claims, Tenant};
use crate::azure::jwks::SigningKeys;
use crate::client::Client;
use crate::client::retry_budget::RetryBudget;
use crate::client::token_cache::ERROR_TTL;
use crate::error::{Error, Failure, FailureKind, Service};
use crate::host::Host;
use crate::model::Moment;
use crate::sync::single_flight::SingleFlight;

/// Verifies access tokens, each once until it expires or the JWKS is fetched anew.
pub struct TokenVerifier {
    jwks: JwksCache,
    /// The claims of tokens that were verified with the JWKS of this moment, by the digest of the token.
    verified: RefCell<LruCache<[u8; 32], Rc<Claims>>>,
    verified_with: Cell<Moment>,
}

/// The JWKS cache of the tenant.
struct JwksCache {
    jwks: RefCell<Option<Jwks>>,
    in_flight: SingleFlight<(), Jwks>,
    /// Why there is no newer JWKS, and until when no request fetches one.
    failure: RefCell<Option<(Error, Moment)>>,
    /// The moment from which an old JWKS may be fetched anew, after that has failed.
    refresh_from: Cell<Moment>,
    limiter: UnknownKeyLimiter,
}

/// The JWKS as the endpoint returned it.
#[derive(Clone)]
struct Jwks {
    keys: Rc<SigningKeys>,
    fetched_at: Moment,
}

/// Limits the requests for a JWKS that tokens with unknown key ids cause, as a client without credentials can
/// invent those.
struct UnknownKeyLimiter {
    /// The moment from which an unknown key id may cause a request.
    from: Cell<Moment>,
    /// How many requests in a row were abandoned, as their clients hung up.
    abandoned: Cell<u32>,
}

impl TokenVerifier {
    pub fn new() -> Self {
        Self {
            jwks: JwksCache::new(),
            verified: RefCell::new(LruCache::unbounded()),
            verified_with: Cell::new(Moment::EARLIEST),
        }
    }

    /// What is known of `token` without a request for the JWKS: the claims of one that was verified before
    /// and is still valid, or that it is not valid.
    pub fn verified(&self, host: &impl Host, token: &str) -> Option<Option<Rc<Claims>>> {
        let Some(jwt) = Jwt::parse(token) else { return Some(None) };
        let now = host.now();
        self.jwks
            .usable(now)
            .filter(|jwks| jwks.is_fresh(now) && jwks.fetched_at == self.verified_with.get())?;
        let claims = self.verified.borrow_mut().get(&jwt.digest()).map(Rc::clone)?;
        Some(Some(claims).filter(|claims| claims.are_valid(host.unix_time())))
    }

    /// The claims of a `token` of which nothing is known, if `tenant` has issued it and it is valid.
    ///
    /// # Errors
    ///
    /// Fails if there is no JWKS to verify it with.
    pub async fn verify<H: Host>(
        &self,
        client: &Client<'_, H>,
        tenant: &Tenant,
        token: &str,
    ) -> Result<Option<Rc<Claims>>, Error> {
        let Some(jwt) = Jwt::parse(token) else { return Ok(None) };
        let digest = jwt.digest();
        let Some(jwks) = self.jwks.with_key(client, tenant, jwt.key_id()).await? else { return Ok(None) };
        let mut verified = self.verified.borrow_mut();
        if self.verified_with.replace(jwks.fetched_at) != jwks.fetched_at {
            // A token that was signed with a withdrawn key is not valid any more.
            verified.clear();
        }
        let claims = tenant.claims(&jwt, &jwks.keys, client.host.unix_time()).map(Rc::new);
        if let Some(claims) = &claims {
            verified.put(digest, Rc::clone(claims));
            if verified.len() > MAX_VERIFIED {
                verified.pop_lru();
            }
        }
        Ok(claims)
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier(..)")
    }
}

impl Jwks {
    /// Whether it need not be fetched anew.
    fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.fetched_at) < REFRESH_AFTER
    }
}

impl JwksCache {
    const fn new() -> Self {
        Self {
            jwks: RefCell::new(None),
            in_flight: SingleFlight::new(),
            failure: RefCell::new(None),
            refresh_from: Cell::new(Moment::EARLIEST),
            limiter: UnknownKeyLimiter { from: Cell::new(Moment::EARLIEST), abandoned: Cell::new(0) },
        }
    }

    /// The cached JWKS, if it may still be used.
    fn usable(&self, now: Moment) -> Option<Jwks> {
        self.jwks.borrow().as_ref().filter(|jwks| now.since(jwks.fetched_at) < MAX_AGE).cloned()
    }

    fn failure(&self, now: Moment) -> Option<Error> {
        self.failure.borrow().as_ref().filter(|(_, until)| now < *until).map(|(error, _)| error.clone())
    }

    /// The tenant's JWKS, if it has the key `key_id`: the cached one, or a new one if that is old or lacks
    /// the key.
    async fn with_key<H: Host>(
        &self,
        client: &Client<'_, H>,
        tenant: &Tenant,
        key_id: &str,
    ) -> Result<Option<Jwks>, Error> {
        let now = client.host.now();
        let deadline = client.context.deadline;
        let has_key = |jwks: &Jwks| jwks.keys.contains(key_id);
        if let Some(cached) = self.usable(now).filter(has_key) {
            if cached.is_fresh(now) || now < self.refresh_from.get() {
                return Ok(Some(cached));
            }
            // An old JWKS is a fallback: the request for a new one may take no longer than the stale wait.
            let budget = RetryBudget::with_fallback(deadline, now, client.config.stale_wait());
            return Ok(match self.fetch(client, tenant, budget).await {
                Ok(jwks) => Some(jwks).filter(has_key),
                Err(_) => Some(cached),
            });
        }
        if self.limiter.refuses(now) {
            return Ok(None);
        }
        if let Some(error) = self.failure(now) {
            return Err(error);
        }
        let jwks = self.fetch(client, tenant, RetryBudget::full(deadline)).await;
        jwks.map(|jwks| Some(jwks).filter(has_key)).map_err(|failure| failure.error)
    }

    /// Fetches the JWKS, or waits for the request that does so.
    async fn fetch<H: Host>(
        &self,
        client: &Client<'_, H>,
        tenant: &Tenant,
        budget: RetryBudget,
    ) -> Result<Jwks, Failure> {
        let lead = async |_| self.fetch_as_leader(client, tenant, budget).await;
        self.in_flight.run(client.host, &(), budget.by.end(), |_| budget.by, lead).await.0
    }

    async fn fetch_as_leader<H: Host>(
        &self,
        client: &Client<'_, H>,
        tenant: &Tenant,
        budget: RetryBudget,
    ) -> Result<Jwks, Failure> {
        let start = client.host.now();
        // The leaders before this one may all have been abandoned.
        if let Some(error) = self.failure(start) {
            return Err(error.into());
        }
        // With a fresh JWKS the key id is unknown, so the next request waits longer, whatever happens.
        let is_unknown_key = self.usable(start).is_some_and(|jwks| jwks.is_fresh(start));
        let pause = if is_unknown_key { FETCH_PAUSE } else { ERROR_TTL };
        let attempt = Attempt { cache: self, until: start.plus(pause), has_ended: false };
        let result = client.fetch_jwks(tenant.jwks_endpoint(), budget).await;
        attempt.end();
        let now = client.host.now();
        match result {
            Ok((keys, fetched_at)) => {
                let jwks = Jwks { keys: Rc::new(keys), fetched_at };
                self.jwks.replace(Some(jwks.clone()));
                self.limiter.from.set(now.plus(FETCH_PAUSE));
                Ok(jwks)
            }
            Err(failure) => {
                self.refresh_from.set(now.plus(FETCH_PAUSE));
                let has_said_something = failure.error != Error::DeadlineExceeded;
                if !failure.is_local || (is_unknown_key && has_said_something) {
                    self.failure.replace(Some((failure.error.clone(), now.plus(pause))));
                }
                Err(failure)
            }
        }
    }
}

impl UnknownKeyLimiter {
    /// Whether a token with an unknown key id is refused without a request for a JWKS.
    fn refuses(&self, now: Moment) -> bool {
        now < self.from.get()
    }

    /// Counts a request that was abandoned, and says whether the next one has to wait.
    fn abandon(&self) -> bool {
        let abandoned = self.abandoned.get().saturating_add(1);
        self.abandoned.set(abandoned);
        abandoned >= MAX_ABANDONED
    }
}

/// The request for a JWKS. Any client can cause it, without a valid token, and can hang up before the answer,
/// again and again: after [`MAX_ABANDONED`] in a row there is no request for a while.
struct Attempt<'a> {
    cache: &'a JwksCache,
    until: Moment,
    has_ended: bool,
}

impl Attempt<'_> {
    /// Notes that there was an answer, or none in time.
    fn end(mut self) {
        self.cache.limiter.abandoned.set(0);
        self.has_ended = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_ended && self.cache.limiter.abandon() {
            let error = Error::upstream(Service::Jwks, FailureKind::Unreachable, None);
            self.cache.failure.replace(Some((error, self.until)));
            self.cache.refresh_from.set(self.until);
        }
    }
}

/// A JWKS is fetched anew after this time, so that a withdrawn key is not trusted for longer. Microsoft,
/// "Signing key rollover", has applications do so every 24 hours.
pub const REFRESH_AFTER: Duration = Duration::from_secs(3600);

/// A JWKS is used for this long, where there is no newer one.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Keys are published long before tokens are signed with them, so no caller with a valid token has to wait
/// for this.
pub const FETCH_PAUSE: Duration = Duration::from_secs(30);

/// Some clients do hang up, so the first few are free.
const MAX_ABANDONED: u32 = 3;

/// A token for each caller, some 300 bytes each.
const MAX_VERIFIED: usize = 1000;
