//! Calls to Azure: the cached token, retries, circuit breakers, and the second try after a 401.

pub mod circuit_breaker;
pub mod retry;
pub mod retry_budget;
mod sign_in;
pub mod token_cache;

use std::time::Duration;

use crate::azure::issuer::{Discovery, JwksEndpoint};
use crate::azure::jwks::SigningKeys;
use crate::azure::token_source::Token;
use crate::azure::{Answer, Call, CallError};
use crate::config::Config;
use crate::error::{Error, Failure, Service};
use crate::host::Host;
use crate::model::{CacheKey, Deadline, Moment, Secret, SecretRequest};
use crate::shared_store::{SharedStore, StoreHealth};
use crate::telemetry::context::RequestContext;
use crate::telemetry::log::{self, Level};
use crate::telemetry::metrics::Metrics;

use circuit_breaker::CircuitBreaker;
use retry_budget::RetryBudget;
use token_cache::TokenCache;

/// What the calls of one instance share: the token, and how each service of Azure does.
#[derive(Debug)]
pub struct ClientState {
    pub tokens: TokenCache,
    store: StoreHealth,
    token_source: CircuitBreaker,
    vault: CircuitBreaker,
}

/// The calls of one request.
#[derive(Debug)]
pub struct Client<'a, H> {
    pub host: &'a H,
    pub config: &'a Config,
    pub metrics: &'a Metrics,
    pub state: &'a ClientState,
    pub context: &'a RequestContext<'a>,
}

impl ClientState {
    pub const fn new() -> Self {
        Self {
            tokens: TokenCache::new(),
            store: StoreHealth::new(),
            token_source: CircuitBreaker::new(Service::TokenSource),
            vault: CircuitBreaker::new(Service::Vault),
        }
    }
}

/// What is called: its name in the log, and its circuit breaker.
#[derive(Clone, Copy)]
struct Upstream<'a> {
    name: &'static str,
    circuit_breaker: &'a CircuitBreaker,
}

impl<H: Host> Client<'_, H> {
    /// Fetches a secret from the vault. With it comes the moment at which the vault was called.
    ///
    /// A token that the vault refuses is replaced, once for each read.
    pub async fn get_secret(
        &self,
        request: &SecretRequest,
        budget: RetryBudget,
    ) -> Result<(Secret, Moment), Failure> {
        let token = self.token(budget).await?;
        let mut is_replaced = false;
        // What is wrong with a token says nothing of the vault, as long as there can be another one.
        let mut replace = |error: &Error| {
            let about_token = matches!(error, Error::TokenRefused(..) | Error::TokenNotAccepted { .. });
            is_replaced = about_token && self.state.tokens.replace(&token, self.host.now());
            is_replaced
        };
        let result = self.call_vault(request, &token, &mut replace, budget).await;
        if !is_replaced {
            return result;
        }
        self.delete_stored_token(&token, budget.by).await;
        let token = self.token(budget).await?;
        self.charge(self.host.now());
        self.call_vault(request, &token, &mut |_| false, budget).await
    }

    async fn call_vault(
        &self,
        request: &SecretRequest,
        token: &Token,
        is_final: &mut dyn FnMut(&Error) -> bool,
        budget: RetryBudget,
    ) -> Result<(Secret, Moment), Failure> {
        let (name, version) = (&request.name, request.version.as_ref());
        let vault = &self.config.vault;
        let parse = |answer| vault.parse_secret(answer, name, version, self.host.unix_time());
        let upstream = Upstream { name: "vault", circuit_breaker: &self.state.vault };
        self.call(&|| vault.call(name, version, token), upstream, parse, is_final, budget).await
    }

    /// The token source.
    const fn token_source(&self) -> Upstream<'_> {
        let name = self.config.token_source.name();
        Upstream { name, circuit_breaker: &self.state.token_source }
    }

    /// Fetches the JWKS of an issuer. Each issuer has a circuit breaker of its own, so that one that fails
    /// does not stop the others. With the JWKS comes the moment at which it was requested.
    pub async fn fetch_jwks(
        &self,
        endpoint: &JwksEndpoint,
        circuit_breaker: &CircuitBreaker,
        budget: RetryBudget,
    ) -> Result<(SigningKeys, Moment), Failure> {
        let parse = |answer| SigningKeys::parse(answer, self.host.unix_time());
        let upstream = Upstream { name: "signing-keys", circuit_breaker };
        self.call(&|| endpoint.call(), upstream, parse, &mut |_| false, budget).await
    }

    /// Fetches the address of the JWKS from the configuration of an issuer.
    pub async fn discover(
        &self,
        discovery: &Discovery,
        circuit_breaker: &CircuitBreaker,
        budget: RetryBudget,
    ) -> Result<JwksEndpoint, Failure> {
        let parse = |answer| discovery.parse(answer, self.host.unix_time());
        let upstream = Upstream { name: "issuer", circuit_breaker };
        let (endpoint, _) = self.call(&|| discovery.call(), upstream, parse, &mut |_| false, budget).await?;
        Ok(endpoint)
    }

    /// The host's store, if it has one and the settings name it. Its calls end by `by`.
    pub fn shared_store(&self, by: Deadline) -> Option<SharedStore<'_, H>> {
        SharedStore::open(self.host, self.config, &self.state.store, by)
    }

    /// Deletes a secret that the vault denied from the shared store. Until that is done, this instance reads
    /// nothing from the store that is older than the denial.
    pub async fn delete_stored_secret(&self, key: &CacheKey) {
        let now = self.host.now();
        let before = self.state.store.distrust(now);
        if let Some(store) = self.shared_store(self.context.deadline)
            && store.delete_secret(key).await
        {
            self.state.store.trust(now, before);
        }
    }

    /// Takes a call to Key Vault from the caller's budget. A refresh after a response has no caller.
    ///
    /// # Errors
    ///
    /// [`Error::BudgetSpent`] if the caller has none left.
    pub fn take_call(&self, now: Moment) -> Result<(), Error> {
        let Some(caller) = self.context.caller else { return Ok(()) };
        caller.budget().take(&self.config.caller_rate, now).map_err(Error::BudgetSpent)
    }

    /// Gives back a call that was taken and not made.
    pub fn give_back_call(&self) {
        if let Some(caller) = self.context.caller {
            caller.budget().give_back(&self.config.caller_rate);
        }
    }

    /// Charges the caller for a call to Key Vault that is made in any case.
    fn charge(&self, now: Moment) {
        if let Some(caller) = self.context.caller {
            caller.budget().charge(&self.config.caller_rate, now);
        }
    }

    /// Sends one call, counts it, and logs it at level `debug`.
    async fn send(
        &self,
        call: Call,
        name: &'static str,
        limit: Duration,
        by: Deadline,
    ) -> Result<Answer, CallError> {
        let start = self.host.now();
        let service = call.service();
        self.context.calls.add(service);
        self.metrics.call_started(service);
        // Nothing of a caller goes to an issuer, which need not be Azure's.
        let call = if service == Service::Jwks { call } else { call.traced(&self.context.trace) };
        let answer = self.host.send(call, limit).await;
        let now = self.host.now();
        let duration = now.since(start);
        self.metrics.call_ended(service, duration);
        if self.config.log >= Level::Debug {
            let line = log::CallLine {
                time: self.host.unix_time(),
                level: Level::Debug,
                request: self.context.trace.id(|| self.host.random()),
                call: name,
                status: answer.as_ref().ok().map(Answer::status),
            };
            self.host.log(&log::render(&line, duration));
        }
        match answer {
            // The call had its time, and the request has some left: as if the connection had broken.
            Err(CallError::TimedOut) if by.left(now).is_ok() => Err(CallError::Lost),
            answer => answer,
        }
    }
}
