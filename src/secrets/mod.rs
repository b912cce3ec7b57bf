//! Finds a secret: in memory, or by one call for everybody who wants it.

pub mod cache;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::client::retry_budget::{Failure, RetryBudget, is_for_all};
use crate::client::{Client, REFUSAL_PAUSE};
use crate::error::{Error, FailureKind};
use crate::host::{Host, KeyValue};
use crate::http::cache_status::{CacheStatus, Forwarded};
use crate::model::{Moment, SecretRequest};
use crate::secrets::cache::{Cache, CacheKey, CachedSecret, Freshness};
use crate::shared_store::Stored;
use crate::sync::single_flight::{Outcome, Role, SingleFlight};

/// The secrets that an instance has in memory, and those that it is reading.
#[derive(Debug)]
pub struct Secrets<S> {
    cache: RefCell<Cache>,
    reads: SingleFlight<CacheKey, Result<Rc<CachedSecret>, Failure>, S>,
}

/// A value that was served from memory and is better renewed before it is asked for again.
#[derive(Debug)]
pub struct Refresh(SecretRequest);

/// A secret for a caller.
#[derive(Debug)]
pub struct Found {
    /// The value.
    pub kept: Rc<CachedSecret>,
    /// How old it is.
    pub age: Duration,
    /// How it was found.
    pub status: CacheStatus,
    /// Whether it is better renewed.
    pub renewal: Option<Refresh>,
}

impl<S> Secrets<S> {
    /// None yet.
    pub fn new() -> Self {
        Self { cache: RefCell::new(Cache::new()), reads: SingleFlight::new() }
    }

    /// How many values there are in memory, and how many bytes they take.
    pub fn size(&self) -> (usize, usize) {
        self.cache.borrow().size()
    }

    /// What memory has for a request that asks for no more than that, if it is within its TTL.
    pub fn fresh(&self, asked: &SecretRequest, now: Moment) -> Option<Found> {
        self.within_ttl(asked, &CacheKey::of(asked), Freshness::WithinTtl, now)
    }

    fn within_ttl(
        &self,
        asked: &SecretRequest,
        key: &CacheKey,
        wanted: Freshness,
        now: Moment,
    ) -> Option<Found> {
        let kept = self.cache.borrow_mut().value(key, now).filter(|it| it.answers(wanted, now))?;
        let due = kept.is_due(now) && self.may_renew(key, now);
        let status = hit(kept.ttl(now));
        let renewal = due.then(|| Refresh(asked.clone()));
        Some(Found { age: kept.age(now), kept, status, renewal })
    }

    /// Finds a secret: in memory, or else by a call of this request or of one that is under way.
    pub async fn find<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        asked: &SecretRequest,
        wanted: Freshness,
    ) -> Result<Found, Error> {
        let key = CacheKey::of(asked);
        let (mut looked, mut missed) = (false, false);
        // Since when Azure has been waited for, and whether it is for us to lead, as who did has gone.
        let (mut since, mut inherited) = (None, None);
        loop {
            if let Some(remembered) = self.remembered(azure, asked, &key, wanted) {
                return remembered;
            }
            let now = azure.host.now();
            if !missed {
                missed = true;
                azure.visit.missed(now);
            }
            if H::KeyValue::THERE && !looked {
                looked = true;
                let stored = azure.store().and_then(|it| it.value(&key, now));
                if stored.is_some_and(|it| self.learn(azure, &key, it, now)) {
                    continue;
                }
            }
            let at_hand = self.cache.borrow_mut().value(&key, now).is_some();
            let forwarded = match (wanted, at_hand) {
                (Freshness::Since(_), _) => Forwarded::Request,
                (Freshness::WithinTtl, true) => Forwarded::Stale,
                (Freshness::WithinTtl, false) => Forwarded::Miss,
            };
            let board = || self.reads.board(&key, now, azure.visit.deadline.end());
            let seat = inherited.take().map_or_else(board, Role::Leads);
            let collapsed = matches!(seat, Role::Follows(_));
            let status = CacheStatus { forwarded: Some(forwarded), collapsed, ..CacheStatus::default() };
            azure.visit.cache.set(Some(status));
            let begun = match &seat {
                Role::Leads(_) => now,
                Role::Follows(follower) => follower.since(),
            };
            let effort = self.effort(azure, *since.get_or_insert(begun), at_hand);
            let read = match seat {
                // The next one leads then, on its own budget.
                Role::Leads(leader) => match azure.spend(now) {
                    Ok(()) => {
                        let before = azure.visit.to_vault.get();
                        let read = self.read(azure, asked, &key, effort).await;
                        if azure.visit.to_vault.get() == before {
                            azure.give_back();
                        }
                        leader.land_if(read, is_for_all)
                    }
                    Err(error) => Err(error.into()),
                },
                Role::Follows(follower) => match azure.landed(follower, effort.by).await {
                    // It was waited for in vain, which is no part of the patience with the next.
                    Ok(Outcome::With(Ok(kept))) if !kept.is_from(wanted) => {
                        since = None;
                        continue;
                    }
                    Ok(Outcome::With(read)) => read,
                    Ok(Outcome::Leads(leader)) => {
                        inherited = Some(leader);
                        continue;
                    }
                    Err(error) => Err(error.into()),
                },
            };
            return match read {
                Ok(kept) => Ok(Found { age: kept.age(azure.host.now()), kept, status, renewal: None }),
                // What was at hand is gone, and there is time for more than the little that was done because of it.
                Err(Failure { cut_short: true, .. }) if at_hand && self.has_gone(azure, &key) => continue,
                Err(Failure { error, .. }) => self.settle(azure, error, asked, &key, wanted),
            };
        }
    }

    /// Takes a value from the store into memory, if that has none or an older one, and no newer refusal.
    fn learn<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        key: &CacheKey,
        stored: Stored,
        now: Moment,
    ) -> bool {
        let mut cache = self.cache.borrow_mut();
        let refused =
            cache.refusal(key, Freshness::WithinTtl, now).is_some_and(|it| it.is_from(stored.asked));
        let better = !refused && cache.value(key, now).is_none_or(|it| it.is_older_than(stored.asked));
        if better {
            cache.keep(key, stored.secret, stored.asked, &azure.settings.cache, stored.spread);
        }
        better
    }

    /// Whether there is no value for `key` any more, and time to get one.
    fn has_gone<H: Host<Signal = S>>(&self, azure: &Client<'_, H>, key: &CacheKey) -> bool {
        let now = azure.host.now();
        azure.visit.deadline.left(now).is_ok() && self.cache.borrow_mut().value(key, now).is_none()
    }

    /// What memory has for a request: a value that will do, or an error that would come again.
    fn remembered<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        asked: &SecretRequest,
        key: &CacheKey,
        wanted: Freshness,
    ) -> Option<Result<Found, Error>> {
        let now = azure.host.now();
        if let Some(found) = self.within_ttl(asked, key, wanted, now) {
            return Some(Ok(found));
        }
        let refusal = self.cache.borrow_mut().refusal(key, wanted, now)?;
        azure.visit.cache.set(Some(hit(refusal.ttl(now))));
        Some(self.settle(azure, refusal.error, asked, key, wanted))
    }

    /// With something else `at_hand`, Azure need not be waited for to the end.
    fn effort<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        start: Moment,
        at_hand: bool,
    ) -> RetryBudget {
        if at_hand {
            RetryBudget::slight(azure.visit.deadline, start, azure.settings.patience())
        } else {
            RetryBudget::full(azure.visit.deadline)
        }
    }

    /// What a request gets where Azure had nothing for it: what is in memory, if `error` is an excuse for that.
    fn settle<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        error: Error,
        asked: &SecretRequest,
        key: &CacheKey,
        wanted: Freshness,
    ) -> Result<Found, Error> {
        let (now, visit) = (azure.host.now(), azure.visit);
        let mut status = visit.cache.get().unwrap_or_default();
        // Nobody was asked where Azure is left alone for a while.
        let forwarded = visit.asked.get() || status.collapsed;
        // Looked up again: a no that came in the meantime has evicted it.
        let kept = excuses(&error, wanted).then(|| self.cache.borrow_mut().value(key, now)).flatten();
        let Some(kept) = kept else {
            visit.cache.set(visit.cache.get().filter(|it| it.forwarded.is_none() || forwarded));
            // Another request may have found it out, which had the name in other letters.
            return Err(match error {
                Error::SecretNotFound(..) => Error::SecretNotFound(asked.name.clone(), asked.version.clone()),
                error => error,
            });
        };
        if !forwarded {
            status.forwarded = None;
        }
        let status = CacheStatus { ttl: Some(kept.ttl(now)), failed: true, ..status };
        // Azure may only have been slower than our patience.
        let slow = error == Error::DeadlineExceeded && self.may_renew(key, now);
        Ok(Found { age: kept.age(now), kept, status, renewal: slow.then(|| Refresh(asked.clone())) })
    }

    /// Renews a value that was served from memory, unless somebody does that already.
    pub async fn renew<H: Host<Signal = S>>(&self, azure: &Client<'_, H>, Refresh(asked): Refresh) {
        let (key, now) = (CacheKey::of(&asked), azure.host.now());
        let kept = self.cache.borrow_mut().value(&key, now);
        if !kept.is_some_and(|it| it.is_due(now)) || !self.may_renew(&key, now) {
            return;
        }
        let deadline = azure.visit.deadline;
        let Role::Leads(leader) = self.reads.board(&key, now, deadline.end()) else { return };
        let read = self.read(azure, &asked, &key, RetryBudget::full(deadline)).await;
        drop(leader.land_if(read, is_for_all));
    }

    /// Whether renewing `key` ahead could do any good at `now`.
    fn may_renew(&self, key: &CacheKey, now: Moment) -> bool {
        !self.reads.has(key) && self.cache.borrow_mut().refusal(key, Freshness::WithinTtl, now).is_none()
    }

    /// Reads a secret from the vault and remembers what came of it: the value, or for a while the error.
    async fn read<H: Host<Signal = S>>(
        &self,
        azure: &Client<'_, H>,
        asked: &SecretRequest,
        key: &CacheKey,
        effort: RetryBudget,
    ) -> Result<Rc<CachedSecret>, Failure> {
        let settings = &azure.settings.cache;
        let start = azure.host.now();
        let read = azure.secret(asked, effort).await;
        let now = azure.host.now();
        let mut cache = self.cache.borrow_mut();
        match read {
            Ok((secret, asked_at)) => {
                let spread = azure.host.random();
                if let Some(store) = azure.store() {
                    store.keep_value(key, &secret, asked_at, spread, now);
                }
                Ok(cache.keep(key, secret, asked_at, settings, spread))
            }
            Err(mut failed) => {
                if is_no(&failed.error) {
                    evict(azure, &mut cache, key);
                }
                // With a value at hand nobody does more than that. It is only our own time that says nothing about theirs.
                let at_hand = cache.value(key, now).is_some();
                failed.cut_short &= !at_hand || failed.error == Error::DeadlineExceeded;
                if !failed.cut_short {
                    let is_missing = matches!(failed.error, Error::SecretNotFound(..));
                    let pause = if is_missing { settings.negative_ttl } else { REFUSAL_PAUSE };
                    cache.refuse(key, failed.error.clone(), start, now.plus(pause), settings);
                }
                Err(failed)
            }
        }
    }
}

impl<S> Default for Secrets<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Drops a value, wherever it is kept.
fn evict<H: Host>(azure: &Client<'_, H>, cache: &mut Cache, key: &CacheKey) {
    cache.evict(key);
    if let Some(store) = azure.store() {
        store.forget_value(key);
    }
}

/// It was in memory, and is good for these seconds.
fn hit(ttl: i64) -> CacheStatus {
    CacheStatus { ttl: Some(ttl), ..CacheStatus::default() }
}

/// Whether `error` lets a value from memory be served in its place. A no never does, nor does an answer that makes no
/// sense. Who wants a fresh value gets one from memory only if Azure cannot be reached, or cannot tell.
fn excuses(error: &Error, wanted: Freshness) -> bool {
    match (error.transient(), wanted) {
        (Some((FailureKind::Unreachable | FailureKind::NotAccepting, _)), _) => true,
        (Some((FailureKind::Throttled | FailureKind::Failing, _)), wanted) => wanted == Freshness::WithinTtl,
        (None, _) => matches!(error, Error::DeadlineExceeded | Error::IdentityAbsent(_)),
    }
}

/// Whether the vault said no, so that what it gave before is not served any more: to the secret, or to a new token for good.
fn is_no(error: &Error) -> bool {
    matches!(
        error,
        Error::TokenRefused(..)
            | Error::VaultDenied(..)
            | Error::SecretDisabled
            | Error::SecretNotFound(..)
            | Error::VaultRefused(404, _)
    )
}
