//! The token cache: one token for the vault, shared by all requests of an instance.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::Client;
use super::retry_budget::RetryBudget;
use crate::azure::token_source::Token;
use crate::error::{Error, Failure};
use crate::host::Host;
use crate::model::{Deadline, Moment};
use crate::sync::single_flight::{Role, SingleFlight};
use crate::sync::token_bucket::{Rate, TokenBucket};

/// The token of an instance, and what is known of getting one.
#[derive(Debug)]
pub struct TokenCache {
    token: RefCell<Option<Rc<Token>>>,
    in_flight: SingleFlight<(), Rc<Token>>,
    /// The token that the vault refused last. The shared store may still hold it.
    refused: RefCell<Option<Rc<Token>>>,
    /// Why there is no token, and until when no request asks for one. A local failure is here if it is good
    /// for all requests that have less time than others.
    failure: RefCell<Option<(Failure, Moment)>>,
    /// The moment from which a valid token may be refreshed again, after a refresh has failed.
    refresh_from: Cell<Moment>,
    replacements: TokenBucket,
}

impl TokenCache {
    pub const fn new() -> Self {
        Self {
            token: RefCell::new(None),
            in_flight: SingleFlight::new(),
            refused: RefCell::new(None),
            failure: RefCell::new(None),
            refresh_from: Cell::new(Moment::EARLIEST),
            replacements: TokenBucket::full(),
        }
    }

    /// The cached token, if it is still good enough.
    pub fn get(&self, is_usable: impl Fn(&Token, Moment) -> bool, now: Moment) -> Option<Rc<Token>> {
        self.token.borrow().as_ref().filter(|token| is_usable(token, now)).map(Rc::clone)
    }

    /// Whether a request for a token is in flight.
    pub fn is_requested(&self) -> bool {
        self.in_flight.has(&())
    }

    /// Drops a token that the vault refuses, so that the next request fetches a new one. Says whether there
    /// can be a new one.
    ///
    /// The token may have been revoked, or signed with a key that the vault does not know yet. Another
    /// request may have replaced it already. A token source may return the same token again, for a day, so
    /// there is a bound: [`REPLACEMENTS`].
    pub(super) fn replace(&self, token: &Rc<Token>, now: Moment) -> bool {
        let mut cached = self.token.borrow_mut();
        if cached.as_ref().is_some_and(|cached| Rc::ptr_eq(cached, token)) {
            if self.replacements.take(&REPLACEMENTS, now).is_err() {
                return false;
            }
            *cached = None;
            self.refused.replace(Some(Rc::clone(token)));
        }
        true
    }

    /// Caches a token of the shared store, if it lasts longer than the cached one and the vault has not
    /// refused it.
    fn accept(&self, stored: Token, now: Moment) {
        let is_refused = self.refused.borrow().as_ref().is_some_and(|refused| refused.is_same_as(&stored));
        let mut cached = self.token.borrow_mut();
        if !is_refused && cached.as_ref().is_none_or(|cached| cached.left(now) < stored.left(now)) {
            *cached = Some(Rc::new(stored));
        }
    }

    /// The remembered failure, if it is good for a request with `budget`.
    fn failure(&self, budget: RetryBudget, now: Moment) -> Option<Failure> {
        let failure = self.failure.borrow();
        let (failure, _) = failure.as_ref().filter(|(_, until)| now < *until)?;
        (!failure.is_local || budget.signs_in_again && !budget.is_whole()).then(|| failure.clone())
    }
}

impl<H: Host> Client<'_, H> {
    /// A token for the vault: the cached one, or a new one. Concurrent requests share one call to the token
    /// source.
    ///
    /// A token that is valid when it is time for a new one is used while one request refreshes it, and as
    /// long as it is valid if there is no new one.
    pub async fn token(&self, budget: RetryBudget) -> Result<Rc<Token>, Failure> {
        let cache = &self.state.tokens;
        let now = self.host.now();
        if let Some(token) = cache.get(Token::is_fresh, now) {
            return Ok(token);
        }
        if let Some(store) = self.shared_store(budget.by)
            && let Some(stored) = store.read_token().await
        {
            cache.accept(stored, self.host.now());
        }
        let now = self.host.now();
        if let Some(token) = cache.get(Token::is_fresh, now) {
            return Ok(token);
        }
        if let Some(token) = cache.get(Token::is_valid, now) {
            return Ok(self.refresh_token(budget, now).await.unwrap_or(token));
        }
        if let Some(failure) = cache.failure(budget, now) {
            return Err(failure);
        }
        // A request with a fallback does not wait for one that tries again and again.
        if !budget.retries
            && cache.is_requested()
            && let Some(error) = self.state.token_source.open_error(now)
        {
            return Err(Failure::local(error));
        }
        let lead = async |_| match cache.failure(budget, self.host.now()) {
            // The leader before this one has just learned it, and all that wait would ask in turn.
            Some(failure) => Err(failure),
            None => self.fetch_token(budget).await,
        };
        let (token, role) = cache.in_flight.run(self.host, &(), budget.by.end(), |_| budget.by, lead).await;
        if role == Role::Leader
            && let Ok(token) = &token
        {
            self.store_token(token, budget.by).await;
        }
        token
    }

    /// Waits for a token that another request is fetching, without ever fetching one. `None` if no request
    /// does.
    pub async fn wait_for_token(&self, by: Deadline) -> Option<Result<Rc<Token>, Failure>> {
        self.state.tokens.in_flight.wait(self.host, &(), by).await
    }

    /// Fetches a new token in place of one that is still valid, unless a request does so already or one has
    /// just failed.
    async fn refresh_token(&self, budget: RetryBudget, now: Moment) -> Option<Rc<Token>> {
        let cache = &self.state.tokens;
        if now < cache.refresh_from.get() {
            return None;
        }
        let budget = RetryBudget::with_fallback(budget.by, now, self.config.stale_wait()).late(budget.late);
        // There is no hurry: the request uses the token that it has.
        let budget = RetryBudget { signs_in_again: false, ..budget };
        let lead = async || {
            cache.refresh_from.set(now.plus(REFRESH_RETRY));
            // A failure says nothing to a request that has no token.
            self.fetch_token(budget).await.map_err(|failure| Failure::local(failure.error))
        };
        let token = cache.in_flight.run_if_idle(&(), now, lead).await?.ok()?;
        self.store_token(&token, budget.by).await;
        Some(token)
    }

    /// Fetches a token from the token source and caches it; or remembers for a while why there is none.
    async fn fetch_token(&self, budget: RetryBudget) -> Result<Rc<Token>, Failure> {
        let cache = &self.state.tokens;
        match self.sign_in(budget).await {
            Ok(token) => {
                let token = Rc::new(token);
                cache.token.replace(Some(Rc::clone(&token)));
                Ok(token)
            }
            Err(failure) => {
                // A readiness probe, which asks once, learns too little for others.
                let is_refused = matches!(failure.error, Error::TokenSourceRefused { .. });
                if !failure.is_local || is_refused && budget.signs_in_again {
                    let until = self.host.now().plus(ERROR_TTL);
                    cache.failure.replace(Some((failure.clone(), until)));
                }
                Err(failure)
            }
        }
    }

    async fn store_token(&self, token: &Token, by: Deadline) {
        if let Some(store) = self.shared_store(by) {
            store.write_token(token).await;
        }
    }

    /// Deletes a token that the vault refused from the shared store.
    pub(super) async fn delete_stored_token(&self, token: &Token, by: Deadline) {
        if let Some(store) = self.shared_store(by) {
            store.delete_token(token).await;
        }
    }
}

/// How long an error is remembered, where no `Retry-After` says so. Callers are told to wait as long.
pub const ERROR_TTL: Duration = Duration::from_secs(1);

/// A token that is still valid is refreshed long before its end, so there is no hurry where that fails.
const REFRESH_RETRY: Duration = Duration::from_secs(30);

/// How often an instance replaces a token that the vault refuses: five times at once, and then once in ten
/// seconds. The metadata service answers twenty requests for tokens in a second, for all that run on a
/// machine (Microsoft, "Azure Instance Metadata Service", "Rate limiting"): a vault that refuses all tokens
/// makes a hundred instances ask ten times in a second.
const REPLACEMENTS: Rate = Rate::one_in(Duration::from_secs(10), 5);
