//! Verifies tokens of callers: the JWKS cache of each issuer, the limiter for unknown keys, and the tokens
//! that were verified before.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::auth::claims::Claims;
use crate::auth::issuer::Issuer;
use crate::auth::jwt::{Jwt, digest};
use crate::azure::issuer::{JwksEndpoint, JwksSource};
use crate::azure::jwks::SigningKeys;
use crate::client::Client;
use crate::client::circuit_breaker::CircuitBreaker;
use crate::client::retry_budget::RetryBudget;
use crate::client::token_cache::ERROR_TTL;
use crate::error::{AuthFailure, Error, Failure, FailureKind, Service};
use crate::host::Host;
use crate::model::Moment;
use crate::sync::single_flight::SingleFlight;

/// The claims of a token, or why it is not accepted.
pub type Verified = Result<Rc<Claims>, AuthFailure>;

/// Verifies tokens, each once until it expires or the JWKS of its issuer is fetched anew.
pub struct TokenVerifier {
    /// A cache for each issuer of the settings, in their order.
    caches: OnceCell<Box<[JwksCache]>>,
    /// Tokens that were verified, by their digest.
    verified: RefCell<LruCache<[u8; 32], Known>>,
}

/// A token that was verified.
struct Known {
    /// The index of its issuer.
    issuer: usize,
    /// When the JWKS was fetched that it was verified with.
    fetched_at: Moment,
    claims: Rc<Claims>,
}

/// The JWKS cache of an issuer.
struct JwksCache {
    jwks: RefCell<Option<Jwks>>,
    /// The address of the JWKS, as the issuer's configuration has named it.
    discovered: RefCell<Option<JwksEndpoint>>,
    in_flight: SingleFlight<(), Jwks>,
    circuit_breaker: CircuitBreaker,
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
        Self { caches: OnceCell::new(), verified: RefCell::new(LruCache::unbounded()) }
    }

    /// What is known of `token` without a request for a JWKS, if that is enough: the claims of one that was
    /// verified before, or why it is not accepted.
    pub fn verified(&self, host: &impl Host, token: &str) -> Option<Verified> {
        let now = host.now();
        let mut verified = self.verified.borrow_mut();
        let known = verified.get(&digest(token))?;
        let jwks = self.caches.get()?.get(known.issuer)?.usable(now)?;
        // A token that was signed with a withdrawn key is not valid any more.
        let is_current = jwks.is_fresh(now) && jwks.fetched_at == known.fetched_at;
        is_current.then(|| known.claims.check(host.unix_time()).map(|()| Rc::clone(&known.claims)))
    }

    /// The claims of a token of which nothing is known.
    ///
    /// # Errors
    ///
    /// Fails if there is no JWKS to verify it with.
    pub async fn verify<H: Host>(&self, client: &Client<'_, H>, jwt: &Jwt<'_>) -> Result<Verified, Error> {
        let issuers = client.config.callers.issuers();
        let caches = self.caches.get_or_init(|| issuers.iter().map(|_| JwksCache::new()).collect());
        let found = issuers
            .iter()
            .zip(caches)
            .enumerate()
            .find(|(_, (issuer, _))| jwt.issuer().is_some_and(|name| issuer.has_name(name)));
        let Some((index, (issuer, cache))) = found else { return Ok(Err(AuthFailure::Issuer)) };
        if !issuer.accepts(jwt) {
            return Ok(Err(AuthFailure::NotAToken));
        }
        let Some(jwks) = cache.with_key(client, issuer, jwt.key_id()).await? else {
            return Ok(Err(AuthFailure::Key));
        };
        Ok(issuer.claims(jwt, &jwks.keys, client.host.unix_time()).map(|claims| {
            let claims = Rc::new(claims);
            // A shared issuer signs valid tokens for strangers. They take no room here.
            if client.config.callers.with_claims(&claims).is_none() {
                return claims;
            }
            let known = Known { issuer: index, fetched_at: jwks.fetched_at, claims: Rc::clone(&claims) };
            let mut verified = self.verified.borrow_mut();
            verified.put(jwt.digest(), known);
            if verified.len() > MAX_VERIFIED {
                verified.pop_lru();
            }
            claims
        }))
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
            discovered: RefCell::new(None),
            in_flight: SingleFlight::new(),
            circuit_breaker: CircuitBreaker::new(Service::Jwks),
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

    /// The issuer's JWKS, if it has the key `key_id`: the cached one, or a new one if that is old or lacks
    /// the key.
    async fn with_key<H: Host>(
        &self,
        client: &Client<'_, H>,
        issuer: &Issuer,
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
            return Ok(match self.fetch(client, issuer, budget).await {
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
        // With a fresh JWKS the key id is most likely made up: one call, and no retries.
        let retries = self.usable(now).is_none_or(|jwks| !jwks.is_fresh(now));
        let jwks = self.fetch(client, issuer, RetryBudget { retries, ..RetryBudget::full(deadline) }).await;
        jwks.map(|jwks| Some(jwks).filter(has_key)).map_err(|failure| failure.error)
    }

    /// Fetches the JWKS, or waits for the request that does so.
    async fn fetch<H: Host>(
        &self,
        client: &Client<'_, H>,
        issuer: &Issuer,
        budget: RetryBudget,
    ) -> Result<Jwks, Failure> {
        let lead = async |_| self.fetch_as_leader(client, issuer, budget).await;
        self.in_flight.run(client.host, &(), budget.by.end(), |_| budget.by, lead).await.0
    }

    async fn fetch_as_leader<H: Host>(
        &self,
        client: &Client<'_, H>,
        issuer: &Issuer,
        budget: RetryBudget,
    ) -> Result<Jwks, Failure> {
        let start = client.host.now();
        // The leaders before this one may all have been abandoned.
        if let Some(error) = self.failure(start) {
            return Err(error.into());
        }
        // With a fresh JWKS the key id is unknown, so the next fetch waits longer, whatever happens. With an
        // old one a failed fetch waits longer, too, as there is a fallback.
        let usable = self.usable(start);
        let is_unknown_key = usable.as_ref().is_some_and(|jwks| jwks.is_fresh(start));
        let pause = |is_long| if is_long { FETCH_PAUSE } else { ERROR_TTL };
        let attempt = Attempt { cache: self, until: start.plus(pause(is_unknown_key)), has_ended: false };
        let result = self.fetch_from(client, issuer.source(), budget).await;
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
                    // An answer that is not a JWKS will be the same in a second.
                    let is_long = usable.is_some() || failure.error.transient().is_none();
                    self.failure.replace(Some((failure.error.clone(), now.plus(pause(is_long)))));
                }
                Err(failure)
            }
        }
    }
}

impl JwksCache {
    /// Fetches the JWKS from its address. If the issuer's configuration names that address, the configuration
    /// is fetched first, and again only after a fetch of the JWKS has failed: the JWKS may have moved.
    async fn fetch_from<H: Host>(
        &self,
        client: &Client<'_, H>,
        source: &JwksSource,
        budget: RetryBudget,
    ) -> Result<(SigningKeys, Moment), Failure> {
        let endpoint = match source {
            JwksSource::At(endpoint) => endpoint.clone(),
            JwksSource::Discovered(discovery) => {
                let known = self.discovered.borrow().clone();
                match known {
                    Some(endpoint) => endpoint,
                    None => {
                        let endpoint = client.discover(discovery, &self.circuit_breaker, budget).await?;
                        self.discovered.replace(Some(endpoint.clone()));
                        endpoint
                    }
                }
            }
        };
        let result = client.fetch_jwks(&endpoint, &self.circuit_breaker, budget).await;
        if result.is_err() {
            self.discovered.take();
        }
        result
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

/// Entra ID publishes keys long before it signs with them, so none of its callers has to wait for this. Other
/// issuers may not: with one of them a caller with a new key may get 401 for this long.
pub const FETCH_PAUSE: Duration = Duration::from_secs(30);

/// Some clients do hang up, so the first few are free.
const MAX_ABANDONED: u32 = 3;

/// A token for each caller, of some 300 bytes, or 2 KiB with the longest subject.
const MAX_VERIFIED: usize = 1000;
