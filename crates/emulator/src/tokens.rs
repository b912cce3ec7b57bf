//! The tokens given out: what each is for and how long it lasts.

use std::collections::{HashMap, VecDeque};

use crate::caller::Life;
use crate::cloud::KEY_VAULT_APP;
use crate::identity::Form;

/// All tokens that are remembered. It has no `Debug`: its keys are the tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    minted: HashMap<String, Minted>,
    order: VecDeque<String>,
    kept: HashMap<Purpose, Kept>,
}

/// Whose token the platform keeps, and what it is for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Purpose {
    pub(crate) client_id: String,
    pub(crate) resource: String,
    pub(crate) form: Form,
}

/// A token that the platform keeps. It has no `Debug`.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) token: String,
    pub(crate) life: Life,
    /// When another one is made, in Unix seconds.
    pub(crate) until: i64,
}

struct Minted {
    audience: String,
    /// Unix seconds.
    expires: i64,
}

/// What a vault makes of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Unknown,
    /// It is for somebody else: the audience that it names.
    ForAnother(String),
    Expired,
}

impl Tokens {
    /// Remembers a token for `audience` until `expires`, in Unix seconds, so that a vault can say whom it is for.
    pub(crate) fn remember(&mut self, token: String, audience: &str, expires: i64) {
        self.minted.insert(token.clone(), Minted { audience: audience.to_owned(), expires });
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
        self.kept.get(purpose).filter(|it| now < it.until).cloned()
    }

    /// Keeps a token that is remembered, unless one has been kept for the same in the meantime. That which is kept.
    pub(crate) fn keep(&mut self, purpose: Purpose, new: Kept, now: i64) -> Kept {
        if let Some(kept) = self.kept(&purpose, now) {
            return kept;
        }
        self.kept.insert(purpose, new.clone());
        new
    }

    /// Every token that is remembered.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// What a vault whose tokens are for `audience` makes of `token` at `now`, in Unix seconds.
    pub(crate) fn check(&self, token: &str, audience: &str, now: i64) -> Verdict {
        let Some(minted) = self.minted.get(token) else { return Verdict::Unknown };
        if minted.expires <= now {
            return Verdict::Expired;
        }
        if minted.audience != audience && minted.audience != KEY_VAULT_APP {
            return Verdict::ForAnother(minted.audience.clone());
        }
        Verdict::Good
    }

    /// Makes every token unknown, as when the keys that signed them are withdrawn; none is kept.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The most tokens remembered, so that a load test without a token cache cannot fill the memory: 16 MB.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn minted(tokens: &mut Tokens, audience: &str) -> String {
        let token = crate::random::token();
        tokens.remember(token.clone(), audience, 100);
        token
    }

    #[test]
    fn a_token_is_good_for_its_audience_until_it_expires() {
        let mut tokens = Tokens::default();
        let token = minted(&mut tokens, "https://vault.azure.net");
        let slash = minted(&mut tokens, "https://vault.azure.net/");
        let app = minted(&mut tokens, KEY_VAULT_APP);

        let check = |token: &str, now| tokens.check(token, "https://vault.azure.net", now);
        assert_eq!(check(&token, 99), Verdict::Good);
        assert_eq!(check(&token, 100), Verdict::Expired);
        assert_eq!(check(&slash, 99), Verdict::ForAnother("https://vault.azure.net/".to_owned()));
        assert_eq!(check(&app, 99), Verdict::Good);
        assert_eq!(check("abc", 99), Verdict::Unknown);
        assert_eq!(tokens.all().collect::<Vec<_>>(), [&token, &slash, &app]);

        tokens.forget();
        assert_eq!(tokens.check(&token, "https://vault.azure.net", 99), Verdict::Unknown);
    }

    fn purpose(resource: &str) -> Purpose {
        Purpose { client_id: "c".to_owned(), resource: resource.to_owned(), form: Form::Opaque }
    }

    fn kept(token: &str, until: i64) -> Kept {
        Kept { token: token.to_owned(), life: Life { issued: 0, expires: 100 }, until }
    }

    #[test]
    fn the_first_token_is_kept_until_it_is_time_for_another() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.keep(purpose("a"), kept("one", 50), 0).token, "one");
        assert_eq!(tokens.keep(purpose("a"), kept("two", 50), 49).token, "one");
        assert_eq!(tokens.kept(&purpose("a"), 49).map(|it| it.token), Some("one".to_owned()));
        assert_eq!(tokens.kept(&purpose("a"), 50).map(|it| it.token), None);
        assert_eq!(tokens.kept(&purpose("b"), 0).map(|it| it.token), None);
        assert_eq!(tokens.keep(purpose("a"), kept("two", 99), 50).token, "two");
        tokens.forget();
        assert_eq!(tokens.kept(&purpose("a"), 50).map(|it| it.token), None);
    }

    #[test]
    fn the_oldest_token_goes_first() {
        let mut tokens = Tokens::default();
        let first = minted(&mut tokens, "a");
        let second = minted(&mut tokens, "a");
        for (resource, token) in [("a", &first), ("b", &second)] {
            tokens.keep(purpose(resource), kept(token, 100), 0);
        }
        for _ in 2..=MOST {
            minted(&mut tokens, "a");
        }
        assert_eq!(tokens.check(&first, "a", 0), Verdict::Unknown);
        assert_eq!(tokens.check(&second, "a", 0), Verdict::Good);
        // Nobody is given one that no vault knows any more.
        assert_eq!(tokens.kept(&purpose("a"), 0).map(|it| it.token), None);
        assert_eq!(tokens.kept(&purpose("b"), 0).map(|it| it.token), Some(second));
    }
}
