//! The way to Client: a token that is kept, and calls that are tried as often as they are worth it.

pub mod circuit_breaker;
pub mod retry;
pub mod retry_budget;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::azure::jwks::{JwksEndpoint, SigningKeys};
use crate::azure::token_source::Token;
use crate::azure::{Answer, Call};
use crate::client::circuit_breaker::{Admission, CircuitBreaker};
use crate::client::retry::{TRIES, backoff};
use crate::client::retry_budget::{Failure, RetryBudget, is_for_all};
use crate::config::Config;
use crate::error::{Error, FailureKind, Service};
use crate::host::{CallError, Host, KeyValue, within};
use crate::model::{Deadline, Moment, Secret, SecretRequest};
use crate::shared_store::Store;
use crate::sync::single_flight::{Outcome, Role, SingleFlight, Waiter};
use crate::sync::token_bucket::{Rate, TokenBucket};
use crate::telemetry::context::RequestContext;
use crate::telemetry::log::{self, Level};
use crate::telemetry::metrics::Metrics;

/// What an instance keeps of Azure between requests: a token, and how Azure has been doing.
#[derive(Debug)]
pub struct UpstreamState<S> {
    token: RefCell<Option<Rc<Token>>>,
    requests: SingleFlight<(), Result<Rc<Token>, Failure>, S>,
    /// The token that the vault has refused last, which a store may still have.
    refused: RefCell<Option<Rc<Token>>>,
    /// Why there is no token, and until when nobody asks again.
    refusal: RefCell<Option<(Error, Moment)>>,
    /// When a token that is still good may be renewed again, after that has failed.
    renew_from: Cell<Moment>,
    /// How often a token that the vault refuses may still be replaced.
    replacements: TokenBucket,
    identity: CircuitBreaker,
    vault: CircuitBreaker,
    directory: CircuitBreaker,
}

/// One request's way to Azure.
#[derive(Debug)]
pub struct Client<'a, H: Host> {
    /// The world.
    pub host: &'a H,
    /// The settings.
    pub settings: &'a Config,
    /// The counts.
    pub metrics: &'a Metrics,
    /// What the instance knows already.
    pub upstreams: &'a UpstreamState<H::Signal>,
    /// The request.
    pub visit: &'a RequestContext<'a>,
}

impl<S> UpstreamState<S> {
    /// Nothing kept, nothing known.
    pub const fn new() -> Self {
        let start = Moment::after_start(Duration::ZERO);
        Self {
            token: RefCell::new(None),
            refused: RefCell::new(None),
            requests: SingleFlight::new(),
            refusal: RefCell::new(None),
            renew_from: Cell::new(start),
            replacements: TokenBucket::full(),
            identity: CircuitBreaker::new(Service::Identity),
            vault: CircuitBreaker::new(Service::Vault),
            directory: CircuitBreaker::new(Service::Directory),
        }
    }

    /// The token in memory, if it is `usable` at `now`.
    pub fn token_if(&self, usable: impl Fn(&Token, Moment) -> bool, now: Moment) -> Option<Rc<Token>> {
        self.token.borrow().as_ref().filter(|it| usable(it, now)).map(Rc::clone)
    }

    /// Whether a request for a token is under way.
    pub fn is_token_under_way(&self) -> bool {
        self.requests.has(&())
    }

    fn refusal(&self, now: Moment) -> Option<Error> {
        self.refusal.borrow().as_ref().filter(|it| now < it.1).map(|it| it.0.clone())
    }

    const fn circuit(&self, upstream: Service) -> &CircuitBreaker {
        match upstream {
            Service::Identity => &self.identity,
            Service::Vault => &self.vault,
            Service::Directory => &self.directory,
        }
    }
}

impl<S> Default for UpstreamState<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Host> Client<'_, H> {
    /// What outlives an instance, if there is a place for it.
    pub fn store(&self) -> Option<Store<'_, H>> {
        Store::of(self.host, self.settings)
    }

    /// A token for the vault: the one in memory, or a new one. However many need one, one of them asks.
    ///
    /// A token that is still good when it is time for a new one is used on while another request asks, and for as long as
    /// it is good if there is no new one to be had.
    pub async fn token(&self, effort: RetryBudget) -> Result<Rc<Token>, Failure> {
        let mut looked = false;
        // Whether it is for us to lead, as who did has gone.
        let mut inherited = None;
        loop {
            let now = self.host.now();
            if let Some(token) = self.upstreams.token_if(Token::is_fresh, now) {
                return Ok(token);
            }
            if H::KeyValue::THERE && !looked {
                looked = true;
                if self.learn_token(now) {
                    continue;
                }
            }
            if let Some(token) = self.upstreams.token_if(Token::is_valid, now) {
                return Ok(self.renewed(token, effort, now).await);
            }
            if let Some(error) = self.upstreams.refusal(now) {
                return Err(error.into());
            }
            // Who has something else at hand does not wait for one who asks again and again.
            let closed = self
                .upstreams
                .identity
                .closed(now)
                .filter(|_| !effort.retries && self.upstreams.is_token_under_way());
            if let Some(error) = closed {
                return Err(Failure::cut_short(error));
            }
            let board = || self.upstreams.requests.board(&(), now, effort.by.end());
            match inherited.take().map_or_else(board, Role::Leads) {
                Role::Leads(leader) => return leader.land_if(self.fetch_token(effort).await, is_for_all),
                Role::Follows(follower) => match self.landed(follower, effort.by).await? {
                    Outcome::With(fetched) => return fetched,
                    Outcome::Leads(leader) => inherited = Some(leader),
                },
            }
        }
    }

    /// The token that somebody is asking for, for whoever would not ask for one; none if nobody is, or if nobody takes over from
    /// who did.
    pub async fn token_under_way(&self, by: Deadline) -> Result<Option<Rc<Token>>, Failure> {
        let Some(follower) = self.upstreams.requests.look_on(&()) else { return Ok(None) };
        match self.landed(follower, by).await? {
            Outcome::With(fetched) => fetched.map(Some),
            Outcome::Leads(_) => Ok(None),
        }
    }

    /// What comes of a flight, if that is in time. Who would lead without the time to do better lets go of the lead.
    pub async fn landed<'a, K: Ord + Clone, T: Clone>(
        &self,
        follower: Waiter<'a, K, T, H::Signal>,
        by: Deadline,
    ) -> Result<Outcome<'a, K, T, H::Signal>, Error> {
        let left = by.left(self.host.now())?;
        let landed = within(self.host, left, follower.landed(|| self.host.signal())).await;
        match landed.ok_or(Error::DeadlineExceeded)? {
            Outcome::Leads(_) if by.left(self.host.now())? < LEAST_TIME => Err(Error::DeadlineExceeded),
            landing @ (Outcome::With(_) | Outcome::Leads(_)) => Ok(landing),
        }
    }

    /// Takes a token from the store into memory, if it lasts longer than the one there, and is not one that the vault refuses.
    fn learn_token(&self, now: Moment) -> bool {
        let Some(stored) = self.store().and_then(|it| it.token(now)) else { return false };
        let refused = self.upstreams.refused.borrow().as_ref().is_some_and(|it| it.is_same_as(&stored));
        let mut kept = self.upstreams.token.borrow_mut();
        let better = !refused && kept.as_ref().is_none_or(|it| it.left(now) < stored.left(now));
        if better {
            *kept = Some(Rc::new(stored));
        }
        better
    }

    /// A new token in place of `token`, if nobody is asking for one already and there is one to be had shortly.
    async fn renewed(&self, token: Rc<Token>, effort: RetryBudget, now: Moment) -> Rc<Token> {
        if now < self.upstreams.renew_from.get() {
            return token;
        }
        let Role::Leads(leader) = self.upstreams.requests.board(&(), now, now) else { return token };
        self.upstreams.renew_from.set(now.plus(RENEWAL_PAUSE));
        let renewed = self.fetch_token(RetryBudget::slight(effort.by, now, self.settings.patience())).await;
        leader.land_if(renewed, Result::is_ok).unwrap_or(token)
    }

    async fn fetch_token(&self, effort: RetryBudget) -> Result<Rc<Token>, Failure> {
        let source = &self.settings.identity;
        let call = || source.get(self.settings.vault.audience());
        let read = |answer| source.read(answer, self.host.now(), self.host.unix_time());
        match self.ask(call, source.name(), read, |_| false, effort).await {
            Ok((token, _)) => {
                if let Some(store) = self.store() {
                    store.keep_token(&token, self.host.now());
                }
                let token = Rc::new(token);
                self.upstreams.token.replace(Some(Rc::clone(&token)));
                Ok(token)
            }
            Err(failed) => {
                if !failed.cut_short {
                    let until = self.host.now().plus(REFUSAL_PAUSE);
                    self.upstreams.refusal.replace(Some((failed.error.clone(), until)));
                }
                Err(failed)
            }
        }
    }

    /// Drops a token that the vault refuses, so that there can be a new one; whether that is worth it.
    ///
    /// It may have been revoked, or signed with a key that the vault does not know yet. Another request may have replaced it
    /// already. A token source may give the same token again, for a day, so there is a bound: [`REPLACEMENTS`].
    fn replace(&self, token: &Rc<Token>) -> bool {
        let now = self.host.now();
        let mut kept = self.upstreams.token.borrow_mut();
        if kept.as_ref().is_some_and(|it| Rc::ptr_eq(it, token)) {
            if self.upstreams.replacements.take(&REPLACEMENTS, now).is_err() {
                return false;
            }
            *kept = None;
            if let Some(store) = self.store() {
                store.forget_token(token, now);
                self.upstreams.refused.replace(Some(Rc::clone(token)));
            }
        }
        true
    }

    /// Reads a secret; with it comes the moment at which the vault was asked. A token that the vault refuses is replaced, once for
    /// each read.
    pub async fn secret(
        &self,
        asked: &SecretRequest,
        effort: RetryBudget,
    ) -> Result<(Secret, Moment), Failure> {
        let (name, version) = (&asked.name, asked.version.as_ref());
        let vault = &self.settings.vault;
        let read = |answer| vault.read(answer, name, version, self.host.unix_time());
        let replaced = Cell::new(false);
        loop {
            let token = self.token(effort).await?;
            let first = !replaced.get();
            // What is wrong with a token says nothing of the vault as long as there can be another one.
            let is_replaced = |error: &Error| {
                let about_token = matches!(error, Error::TokenRefused(..) | Error::TokenNotAccepted { .. });
                replaced.set(first && about_token && self.replace(&token));
                replaced.get()
            };
            let read =
                self.ask(|| vault.get(name, version, &token), "vault", read, is_replaced, effort).await;
            if !(first && replaced.get()) {
                return read;
            }
            self.charge(self.host.now());
        }
    }

    /// Asks for the keys that a tenant's tokens are signed with; with them comes the moment at which that was.
    pub async fn signing_keys(
        &self,
        directory: &JwksEndpoint,
        effort: RetryBudget,
    ) -> Result<(SigningKeys, Moment), Failure> {
        let read = |answer| JwksEndpoint::keys(answer, self.host.unix_time());
        self.ask(|| directory.get(), "signing-keys", read, |_| false, effort).await
    }

    /// Makes a call until it is answered, or not worth another try, or `effort` leaves no time for one. An error for which
    /// `is_ours` is true ends it at once, and says nothing of the upstream.
    ///
    /// Without a token nothing can be done, so a token source is asked until there is no more time. It may just be starting: the
    /// metadata service of Container Instances answers seconds after them (MicrosoftDocs/azure-docs issue 61891).
    async fn ask<T>(
        &self,
        call: impl Fn() -> Call,
        name: &'static str,
        read: impl Fn(Result<Answer, CallError>) -> Result<T, Error>,
        is_ours: impl Fn(&Error) -> bool,
        effort: RetryBudget,
    ) -> Result<(T, Moment), Failure> {
        let mut tries: u32 = 0;
        loop {
            let call = call();
            let upstream = call.upstream();
            let circuit = self.upstreams.circuit(upstream);
            let pass = loop {
                match circuit.enter(self.host.now(), self.host.random()) {
                    Admission::Free(pass) => break pass,
                    Admission::Slow(wait, error) => self.pause(wait, effort, error).await?,
                    // It is what this request has met itself that has closed the way.
                    Admission::Closed(error) if tries > 0 && upstream == Service::Identity => {
                        let wait = error.transient().and_then(|it| it.1).unwrap_or(LEAST_TIME);
                        self.pause(wait, effort, error).await?;
                    }
                    Admission::Closed(error) => return Err(error.into()),
                }
            };
            let start = self.host.now();
            let left = effort.by.left(start)?;
            if left < LEAST_TIME {
                return Err(Error::DeadlineExceeded.into());
            }
            let limit = self.limit(upstream, left);
            if tries > 0 && upstream == Service::Vault {
                self.charge(start);
            }
            let outcome = read(self.send(call, name, limit, effort.by).await);
            tries = tries.saturating_add(1);
            let most = if upstream == Service::Identity { u32::MAX } else { TRIES };
            let now = self.host.now();
            let met = match &outcome {
                // Our own deadline ended the call, too soon to count it against the upstream: the request had waited before it, for
                // its body or for another request.
                Err(Error::DeadlineExceeded) if limit < self.fair_time(upstream, effort) => {
                    return Err(Error::DeadlineExceeded.into());
                }
                // It was the host that did not even try.
                Err(Error::CallNotAllowed) => return Err(Error::CallNotAllowed.into()),
                Err(Error::DeadlineExceeded) => Some((FailureKind::Unreachable, None)),
                Err(error) if is_ours(error) => return Err(error.clone().into()),
                Err(error) => error.transient(),
                Ok(_) => None,
            };
            pass.end(met, now, self.host.random());
            match outcome {
                Ok(read) => return Ok((read, start)),
                Err(error) if error.transient().is_none() || tries >= most => return Err(error.into()),
                Err(error) => {
                    let first_pause = match upstream {
                        Service::Identity => IDENTITY_FIRST_PAUSE,
                        Service::Vault | Service::Directory => VAULT_FIRST_PAUSE,
                    };
                    let asked = met.and_then(|it| it.1).unwrap_or_default();
                    // Pauses that doubled with each try for a token would soon be longer than the time that is left; from the third try
                    // on it is the circuit breaker that slows them down.
                    let rounds = if upstream == Service::Identity { tries.min(2) } else { tries };
                    let wait = backoff(first_pause, rounds, self.host.random()).max(asked);
                    self.pause(wait, effort, error).await?;
                }
            }
        }
    }

    /// Waits for `wait`, if that is worth it and there is time for it and for a call after it; otherwise it is given up, with
    /// `error`.
    async fn pause(&self, wait: Duration, effort: RetryBudget, error: Error) -> Result<(), Failure> {
        let left = effort.by.left(self.host.now())?;
        if !effort.retries || wait.saturating_add(LEAST_TIME) >= left {
            return Err(Failure::cut_short(error));
        }
        self.host.sleep(wait).await;
        Ok(())
    }

    /// How long a call may take: half of what a request may, so that a vault that does not answer is asked once more. A
    /// token source is sometimes slow for many seconds without having failed, so it gets all the time there is.
    fn limit(&self, upstream: Service, left: Duration) -> Duration {
        match upstream {
            Service::Identity => left,
            Service::Vault | Service::Directory => {
                left.min(self.settings.deadline.checked_div(2).unwrap_or(left))
            }
        }
    }

    /// The time that a call has to have had for its end to say something about the upstream: nearly all that calls have. If the
    /// rest of a request's time were enough, one client could close a slow upstream to all others by sending its bodies late.
    fn fair_time(&self, upstream: Service, effort: RetryBudget) -> Duration {
        let all = self.limit(upstream, effort.patience.unwrap_or(self.settings.deadline));
        // Some time goes into what comes before a call.
        let tenth = all.checked_div(10).unwrap_or_default();
        let fair = if self.visit.late.get() { all } else { all.saturating_sub(tenth) };
        fair.max(LEAST_FAIR_TIME)
    }

    /// Charges a call to Key Vault to the caller, which is made in any case.
    pub fn charge(&self, now: Moment) {
        if let Some(caller) = self.visit.caller {
            caller.budget().charge(&self.settings.budget, now);
        }
    }

    /// Gives back a call that was taken and not made.
    pub fn give_back(&self) {
        if let Some(caller) = self.visit.caller {
            caller.budget().give_back(&self.settings.budget);
        }
    }

    /// Takes a call to Key Vault from the caller's budget. A renewal after an answer has no caller.
    pub fn spend(&self, now: Moment) -> Result<(), Error> {
        let Some(caller) = self.visit.caller else { return Ok(()) };
        caller.budget().take(&self.settings.budget, now).map_err(Error::BudgetSpent)
    }

    /// Sends a call and notes that.
    async fn send(
        &self,
        call: Call,
        name: &'static str,
        limit: Duration,
        by: Deadline,
    ) -> Result<Answer, CallError> {
        let start = self.host.now();
        let upstream = call.upstream();
        self.visit.called(upstream);
        self.metrics.called(upstream);
        let answer = self.host.send(call.traced(&self.visit.trace), limit).await;
        let now = self.host.now();
        let duration = now.since(start);
        self.metrics.ended(upstream, duration);
        if self.settings.log >= Level::Debug {
            self.host.log(&log::render(&log::CallLine {
                time: self.host.unix_time(),
                level: Level::Debug,
                request: self.visit.trace.id(|| self.host.random()),
                call: name,
                status: answer.as_ref().ok().map(Answer::status),
                duration,
            }));
        }
        match answer {
            // The call had its time, and the request has some left: it is as if the connection had broken.
            Err(CallError::TimedOut) if by.left(now).is_ok() => Err(CallError::Lost),
            answer => answer,
        }
    }
}

/// How long an error is remembered, where nothing else says so. It is what callers are told to wait for.
pub const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// A token that is still good is renewed long before its end, so there is no hurry where that fails.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// How often an instance replaces a token that the vault refuses: five times at once, and then once in ten seconds. The metadata
/// service answers twenty requests for tokens in a second, for all that run on a machine (Microsoft, "Azure Instance Metadata
/// Service", "Rate limiting"): a vault that refuses all tokens makes a hundred instances ask ten times in a second.
const REPLACEMENTS: Rate = Rate::one_in(Duration::from_secs(10), 5);

/// The first pause before a call to the vault, or to a directory, is tried again, as in Microsoft's client for Rust (`azure_core`).
const VAULT_FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The first pause before a token is asked for again, as in MSAL for .NET, for IMDS as for the other sources.
const IDENTITY_FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A call that is not answered in this time is not answered for a reason of the other side's.
const LEAST_FAIR_TIME: Duration = Duration::from_secs(1);

/// What has to be left for a call. With less, the error that is known says more than a timeout would; and of all who wait for a
/// vault that hangs, each would ask it anew when its time is nearly over.
pub const LEAST_TIME: Duration = Duration::from_millis(100);
