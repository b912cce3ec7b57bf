//! Verifies the tokens that callers bear: what an instance knows of the keys that they are signed with, and of those that
//! it has verified already.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::auth::jwt::Jwt;
use crate::auth::tenant::{Claims, Tenant};
use crate::azure::jwks::SigningKeys;
use crate::client::retry_budget::{Failure, RetryBudget, is_for_all};
use crate::client::{Client, REFUSAL_PAUSE};
use crate::error::{Error, FailureKind, Service};
use crate::host::Host;
use crate::model::Moment;
use crate::sync::single_flight::{Outcome, Role, SingleFlight};

/// The keys of the tenant, and the tokens that were signed with them.
pub struct TokenVerifier<S> {
    keys: RefCell<Option<Keys>>,
    requests: SingleFlight<(), Result<Keys, Failure>, S>,
    /// Before that, a name that is in none of the keys is not asked for.
    ask_from: Cell<Moment>,
    /// Before that, keys that are old are not asked for again, after that has failed.
    renew_from: Cell<Moment>,
    /// Why there are no newer keys, and until when nobody asks again.
    refusal: RefCell<Option<(Error, Moment)>>,
    /// How many have asked, in a row, who went away before they were answered.
    abandoned: Cell<u32>,
    /// By their digests.
    verified: RefCell<LruCache<[u8; 32], Rc<Claims>>>,
}

/// The keys as the directory gave them.
#[derive(Clone)]
struct Keys {
    signing: Rc<SigningKeys>,
    asked: Moment,
}

impl<S> TokenVerifier<S> {
    /// No keys yet, and no tokens.
    pub fn new() -> Self {
        let start = Moment::after_start(Duration::ZERO);
        Self {
            keys: RefCell::new(None),
            requests: SingleFlight::new(),
            ask_from: Cell::new(start),
            renew_from: Cell::new(start),
            refusal: RefCell::new(None),
            abandoned: Cell::new(0),
            verified: RefCell::new(LruCache::unbounded()),
        }
    }

    /// The claims of `token`, if it is a good one of `tenant`.
    ///
    /// A token that was good is so until it expires, or until the keys are asked for again.
    pub async fn verify<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        tenant: &Tenant,
        token: &str,
    ) -> Result<Option<Rc<Claims>>, Error> {
        let Some(jwt) = Jwt::parse(token) else { return Ok(None) };
        let digest = jwt.digest();
        if self.kept(azure.host.now()).is_some_and(|it| it.1)
            && let Some(claims) = self.verified.borrow_mut().get(&digest)
        {
            return Ok(claims.are_good(azure.host.unix_time()).then(|| Rc::clone(claims)));
        }
        let Some(keys) = self.keys(azure, tenant, jwt.key_id()).await? else { return Ok(None) };
        let claims = tenant.claims(&jwt, &keys, azure.host.unix_time()).map(Rc::new);
        if let Some(claims) = &claims {
            let mut verified = self.verified.borrow_mut();
            verified.put(digest, Rc::clone(claims));
            if verified.len() > MOST_VERIFIED {
                verified.pop_lru();
            }
        }
        Ok(claims)
    }

    /// The keys that are in memory at `now` and may still be used, and whether they need not be asked for again.
    fn kept(&self, now: Moment) -> Option<(Rc<SigningKeys>, bool)> {
        let keys = self.keys.borrow();
        let keys = keys.as_ref().filter(|it| now.since(it.asked) < LONGEST_USE)?;
        Some((Rc::clone(&keys.signing), now.since(keys.asked) < ASKED_EVERY))
    }

    fn refusal(&self, now: Moment) -> Option<Error> {
        self.refusal.borrow().as_ref().filter(|it| now < it.1).map(|it| it.0.clone())
    }

    /// The tenant's keys, if one of them is called `name`.
    ///
    /// They are asked for when there are none, when they are old, and when there is none of this name: a new key may have
    /// been published, or somebody has made the name up, so that happens once in [`ASK_PAUSE`].
    async fn keys<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        tenant: &Tenant,
        name: &str,
    ) -> Result<Option<Rc<SigningKeys>>, Error> {
        let named = |keys: Rc<SigningKeys>| keys.have(name).then_some(keys);
        let start = azure.host.now();
        // Whether it is for us to ask, as who did has gone.
        let mut inherited = None;
        loop {
            let now = azure.host.now();
            let (known, fresh) = match self.kept(now) {
                Some((keys, fresh)) => (named(keys), fresh),
                None => (None, false),
            };
            match &known {
                Some(_) if fresh || now < self.renew_from.get() => return Ok(known),
                Some(_) => {}
                None if now < self.ask_from.get() => return Ok(None),
                None => {
                    if let Some(error) = self.refusal(now) {
                        return Err(error);
                    }
                }
            }
            let effort = match &known {
                Some(_) => RetryBudget::slight(azure.visit.deadline, start, azure.settings.patience()),
                None => RetryBudget::full(azure.visit.deadline),
            };
            let board = || self.requests.board(&(), now, effort.by.end());
            let asked = match inherited.take().map_or_else(board, Role::Leads) {
                Role::Leads(leader) => leader.land_if(self.ask(azure, tenant, effort).await, is_for_all),
                // Old keys are not good enough while somebody gets new ones, anybody can be that somebody, and another one takes over:
                // so this may take as long as our patience.
                Role::Follows(follower) => match azure.landed(follower, effort.by).await {
                    Ok(Outcome::With(asked)) => asked,
                    Ok(Outcome::Leads(leader)) => {
                        inherited = Some(leader);
                        continue;
                    }
                    Err(error) => Err(error.into()),
                },
            };
            return match (asked, known) {
                (Ok(keys), _) => Ok(named(keys.signing)),
                (Err(_), Some(known)) => Ok(Some(known)),
                (Err(failed), None) => Err(failed.error),
            };
        }
    }

    /// Asks the directory, and remembers what came of it.
    async fn ask<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        tenant: &Tenant,
        effort: RetryBudget,
    ) -> Result<Keys, Failure> {
        let start = azure.host.now();
        // Where there are keys, somebody asks for one that is not among them, and is refused it for longer, whatever happened.
        let (pause, in_any_case) = match self.kept(start) {
            Some((_, true)) => (ASK_PAUSE, true),
            Some((_, false)) | None => (REFUSAL_PAUSE, false),
        };
        let attempt = Attempt { bearers: self, start, pause, ended: false };
        let asked = azure.signing_keys(tenant.directory(), effort).await;
        attempt.end();
        let now = azure.host.now();
        match asked {
            Ok((signing, asked)) => {
                let keys = Keys { signing: Rc::new(signing), asked };
                self.keys.replace(Some(keys.clone()));
                self.ask_from.set(now.plus(ASK_PAUSE));
                // What was signed with a key that is withdrawn is not good any more.
                self.verified.borrow_mut().clear();
                Ok(keys)
            }
            Err(failed) => {
                self.renew_from.set(now.plus(ASK_PAUSE));
                if !failed.cut_short || (in_any_case && failed.error != Error::DeadlineExceeded) {
                    self.refusal.replace(Some((failed.error.clone(), now.plus(pause))));
                }
                Err(failed)
            }
        }
    }
}

/// The one request that asks for keys. Whoever has no key can be that one, and can hang up before the answer, over and
/// over: from the [`MOST_ABANDONED`]th time in a row, nobody asks for a while.
struct Attempt<'a, S> {
    bearers: &'a TokenVerifier<S>,
    start: Moment,
    pause: Duration,
    ended: bool,
}

impl<S> Attempt<'_, S> {
    /// Notes that there was an answer, or none in time.
    fn end(mut self) {
        self.bearers.abandoned.set(0);
        self.ended = true;
    }
}

impl<S> Drop for Attempt<'_, S> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let Self { bearers, start, pause, .. } = self;
        let abandoned = bearers.abandoned.get().saturating_add(1);
        bearers.abandoned.set(abandoned);
        if abandoned >= MOST_ABANDONED {
            let until = start.plus(*pause);
            bearers
                .refusal
                .replace(Some((Error::upstream(Service::Directory, FailureKind::Unreachable, None), until)));
            bearers.renew_from.set(until);
        }
    }
}

impl<S> Default for TokenVerifier<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for TokenVerifier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenVerifier(..)")
    }
}

/// Keys are asked for again after this time, so that one that is withdrawn is not trusted for longer. Microsoft, "Signing
/// key rollover", has applications do so every 24 hours.
pub const ASKED_EVERY: Duration = Duration::from_secs(3600);

/// Keys are used for so long where there are no newer ones to be had.
pub const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);

/// Keys are published long before tokens are signed with them, so nobody with a good token has to wait for this.
pub const ASK_PAUSE: Duration = Duration::from_secs(30);

/// Some clients do hang up, so the first few cost nobody anything.
const MOST_ABANDONED: u32 = 3;

/// A token for each caller that anybody has; some 300 bytes each.
const MOST_VERIFIED: usize = 1000;
