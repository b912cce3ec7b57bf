//! The tokens given out: what each is for and how long it lasts.

use std::collections::{HashMap, VecDeque};

use crate::cloud::KEY_VAULT_APP;
use crate::random;

/// All tokens that are remembered. It has no `Debug`: its keys are the tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    minted: HashMap<String, Minted>,
    order: VecDeque<String>,
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
    /// A new token for `audience` until `expires`, in Unix seconds.
    pub(crate) fn mint(&mut self, audience: &str, expires: i64) -> String {
        let token = random::token();
        self.remember(token.clone(), audience, expires);
        token
    }

    /// Remembers a token that was made elsewhere, so that a vault can say whom it is for.
    pub(crate) fn remember(&mut self, token: String, audience: &str, expires: i64) {
        self.minted.insert(token.clone(), Minted { audience: audience.to_owned(), expires });
        self.order.push_back(token);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.minted.remove(&oldest);
        }
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

    /// Makes every token unknown, as when the keys that signed them are withdrawn.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The most tokens remembered, so that a load test without a token cache cannot fill the memory: 16 MB.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_audience_until_it_expires() {
        let mut tokens = Tokens::default();
        let token = tokens.mint("https://vault.azure.net", 100);
        let slash = tokens.mint("https://vault.azure.net/", 100);
        let app = tokens.mint(KEY_VAULT_APP, 100);

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

    #[test]
    fn the_oldest_token_goes_first() {
        let mut tokens = Tokens::default();
        let first = tokens.mint("a", 100);
        let second = tokens.mint("a", 100);
        for _ in 2..=MOST {
            tokens.mint("a", 100);
        }
        assert_eq!(tokens.check(&first, "a", 0), Verdict::Unknown);
        assert_eq!(tokens.check(&second, "a", 0), Verdict::Good);
    }
}
