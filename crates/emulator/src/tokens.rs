//! The tokens given out: what each is for and how long it lasts.

use std::collections::{HashMap, VecDeque};

use crate::cloud::KEY_VAULT_APP;
use crate::signing::Life;

/// All tokens that are remembered. It has no `Debug`: its keys are the tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    /// What each is for, and when it ends, in Unix seconds.
    minted: HashMap<String, (String, i64)>,
    order: VecDeque<String>,
    kept: HashMap<Purpose, Kept>,
}

/// Whose token the platform keeps, and what it is for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Purpose {
    pub(crate) client_id: String,
    pub(crate) resource: String,
}

/// A token that the platform keeps. It has no `Debug`.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) token: String,
    pub(crate) life: Life,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Unknown,
    /// It is for another resource: the audience that it names.
    ForAnother(String),
    Expired,
}

impl Tokens {
    /// Remembers a token for `audience` until `expires`, in Unix seconds, so that a vault can say whom it is for.
    pub(crate) fn remember(&mut self, token: String, audience: &str, expires: i64) {
        self.minted.insert(token.clone(), (audience.to_owned(), expires));
        self.order.push_back(token);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.minted.remove(&oldest);
            self.kept.retain(|_, it| it.token != oldest);
        }
    }

    /// The token that is kept for `purpose` at `now`, in Unix seconds.
    pub(crate) fn kept(&self, purpose: &Purpose, now: i64) -> Option<Kept> {
        self.kept.get(purpose).filter(|it| now < it.life.expires).cloned()
    }

    /// Keeps a token that is remembered, unless one has been kept for the same in the meantime. That which is kept.
    pub(crate) fn keep(&mut self, purpose: Purpose, new: Kept, now: i64) -> Kept {
        if let Some(kept) = self.kept(&purpose, now) {
            return kept;
        }
        self.kept.insert(purpose, new.clone());
        new
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// What a vault whose tokens are for `audience` makes of `token` at `now`, in Unix seconds.
    pub(crate) fn check(&self, token: &str, audience: &str, now: i64) -> Verdict {
        match self.minted.get(token) {
            None => Verdict::Unknown,
            Some((_, expires)) if *expires <= now => Verdict::Expired,
            Some((known, _)) if known == audience || known == KEY_VAULT_APP => Verdict::Good,
            Some((known, _)) => Verdict::ForAnother(known.clone()),
        }
    }

    /// Makes every token unknown, as when the keys that signed them are withdrawn; none is kept.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The most tokens remembered, so that a load test without a token cache cannot fill the memory: 16 MB.
const MOST: usize = 10_000;
