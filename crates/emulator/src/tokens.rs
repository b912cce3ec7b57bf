//! The issued tokens, with the audience and the end of each.

use std::collections::{HashMap, VecDeque};

use crate::cloud::KEY_VAULT_APP;
use crate::signing::Lifetime;

/// The issued tokens. The type has no `Debug`, because its keys are tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    /// The audience of each token, and its end in Unix seconds.
    issued: HashMap<String, (String, i64)>,
    /// All issued access tokens, oldest first.
    pub(crate) order: VecDeque<String>,
    /// The last signed assertions, oldest first.
    pub(crate) assertions: VecDeque<String>,
    cached: HashMap<CacheKey, CachedToken>,
}

/// The key of the platform's token cache: an identity and a resource.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) client_id: String,
    pub(crate) resource: String,
}

/// A token in the platform's cache, and its lifetime.
pub(crate) type CachedToken = (String, Lifetime);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenStatus {
    Valid,
    Unknown,
    /// The token is for another resource: this audience.
    WrongAudience(String),
    Expired,
}

impl Tokens {
    /// Records an issued token for `audience` that ends at `expires`, in Unix seconds.
    pub(crate) fn record(&mut self, token: String, audience: &str, expires: i64) {
        self.issued.insert(token.clone(), (audience.to_owned(), expires));
        self.order.push_back(token);
        if self.order.len() > MAX_TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.issued.remove(&oldest);
            self.cached.retain(|_, (token, _)| *token != oldest);
        }
    }

    /// Records a signed assertion.
    pub(crate) fn record_assertion(&mut self, assertion: String) {
        self.assertions.push_back(assertion);
        if self.assertions.len() > MAX_TOKENS {
            self.assertions.pop_front();
        }
    }

    /// Returns the cached token for `key` that has not expired at `now`, in Unix seconds.
    pub(crate) fn cached(&self, key: &CacheKey, now: i64) -> Option<CachedToken> {
        self.cached.get(key).filter(|(_, lifetime)| now < lifetime.expires).cloned()
    }

    /// Caches a recorded token, unless another request has cached one for `key`. Returns the cached token.
    pub(crate) fn cache(&mut self, key: CacheKey, new: CachedToken, now: i64) -> CachedToken {
        if let Some(cached) = self.cached(&key, now) {
            return cached;
        }
        self.cached.insert(key, new.clone());
        new
    }

    /// Checks `token` for a vault that expects `audience`, at `now` in Unix seconds.
    pub(crate) fn check(&self, token: &str, audience: &str, now: i64) -> TokenStatus {
        match self.issued.get(token) {
            None => TokenStatus::Unknown,
            Some((_, expires)) if *expires <= now => TokenStatus::Expired,
            Some((known, _)) if known == audience || known == KEY_VAULT_APP => TokenStatus::Valid,
            Some((known, _)) => TokenStatus::WrongAudience(known.clone()),
        }
    }
}

/// The limit of recorded tokens, 16 MB, for load tests of clients without a token cache.
const MAX_TOKENS: usize = 10_000;
