//! What outlives an instance, where the host keeps none: the token and the values, sealed, in the host's key-value store.
//!
//! It is asked before Azure is, and told what Azure has said. Whatever it gives counts as memory does, with the same ages and
//! limits. A store that fails, lies or forgets only makes a read cold, and so does one that forgets nothing, unless it cannot be
//! written to either.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::azure::token_source::Token;
use crate::config::Config;
use crate::host::{Host, KeyValue};
use crate::model::{Moment, Redacted, Secret, SecretVersion};
use crate::seal::{About, Seal};
use crate::secrets::cache::CacheKey;

/// The store of a host, as far as the settings want it.
#[derive(Debug)]
pub struct Store<'a, H> {
    host: &'a H,
    settings: &'a Config,
    label: &'a str,
    seal: &'a Seal,
}

/// A value that was in the store.
#[derive(Debug)]
pub struct Stored {
    /// The secret.
    pub secret: Secret,
    /// When the vault was asked for it.
    pub asked: Moment,
    /// What sets its TTL apart from that of others.
    pub spread: u64,
}

impl<'a, H: Host> Store<'a, H> {
    /// The store, if there is one and the settings want it.
    pub fn of(host: &'a H, settings: &'a Config) -> Option<Self> {
        // Known when this is compiled: a build without a store has none of what follows.
        if !H::KeyValue::THERE {
            return None;
        }
        let wanted = settings.store.as_ref()?;
        Some(Self { host, settings, label: &wanted.label, seal: &wanted.seal })
    }

    /// The token that another instance has left, if it is still good.
    pub fn token(&self, now: Moment) -> Option<Token> {
        let unix_time = self.host.unix_time();
        let content = self.about_token(|about| self.read(about, unix_time))?;
        Token::unpack(&content, now, unix_time)
    }

    /// Leaves a token for other instances.
    pub fn keep_token(&self, token: &Token, now: Moment) {
        let unix_time = self.host.unix_time();
        self.about_token(|about| {
            let close = |content: &[u8], end| self.seal.close(about, end, self.nonce(), content);
            self.write(about, token.pack(now, unix_time, close));
        });
    }

    /// Drops a token that the vault refuses, unless another instance has left a new one already.
    pub fn forget_token(&self, refused: &Token, now: Moment) {
        if self.token(now).is_some_and(|it| it.is_same_as(refused)) {
            self.about_token(|about| self.drop(about));
        }
    }

    /// The value that another instance has left.
    pub fn value(&self, key: &CacheKey, now: Moment) -> Option<Stored> {
        let unix_time = self.host.unix_time();
        let content = self.about_value(key, |about| self.read(about, unix_time))?;
        let (asked, rest) = content.split_first_chunk()?;
        let (spread, rest) = rest.split_first_chunk()?;
        let (version, value) = rest.split_first_chunk::<32>()?;
        // One that is from tomorrow would last longer than it should.
        let age = unix_time.checked_sub(u64::from_be_bytes(*asked))?;
        let version = SecretVersion::parse(str::from_utf8(version).ok()?)?;
        let value = Redacted::new(str::from_utf8(value).ok()?.to_owned());
        Some(Stored {
            secret: Secret::new(value, version),
            asked: now.minus(Duration::from_secs(age)),
            spread: u64::from_be_bytes(*spread),
        })
    }

    /// Leaves a value for other instances: the vault was asked for it at `asked`.
    pub fn keep_value(&self, key: &CacheKey, secret: &Secret, asked: Moment, spread: u64, now: Moment) {
        let cache = &self.settings.cache;
        if cache.ttl.is_zero() {
            return;
        }
        // The calendar has whole seconds. One that has begun counts here, so that an age is short by a second at the most.
        let age = now.since(asked);
        let age = age.as_secs().saturating_add(u64::from(age.subsec_nanos() > 0));
        let asked = self.host.unix_time().saturating_sub(age);
        // The longest that a spread makes of it; what it really is, is memory's affair.
        let lasts = cache.ttl.saturating_mul(2).saturating_add(cache.stale).as_secs();
        let (version, value) = (secret.version.as_str().as_bytes(), secret.value.expose().as_bytes());
        let content =
            Zeroizing::new([&asked.to_be_bytes()[..], &spread.to_be_bytes(), version, value].concat());
        self.about_value(key, |about| {
            self.write(about, self.seal.close(about, asked.saturating_add(lasts), self.nonce(), &content));
            self.make_room(cache.entries, &self.seal.name(about));
        });
    }

    /// Drops a value.
    pub fn forget_value(&self, key: &CacheKey) {
        self.about_value(key, |about| self.drop(about));
    }

    /// Drops values, whichever come first, where there are more than so many, but not the token, nor what is `newest`. A tenth
    /// more goes than has to, so that the names are not looked through for each value. Entries of others stay.
    fn make_room(&self, entries: usize, newest: &str) {
        let (prefix, token) = (self.seal.prefix(), self.about_token(|about| self.seal.name(about)));
        let mut names = H::KeyValue::names(self.label);
        names.retain(|it| it.starts_with(&prefix) && *it != token && it != newest);
        if names.len() < entries {
            return;
        }
        let left = entries.saturating_sub(entries.div_ceil(10));
        for name in names.iter().skip(left) {
            H::KeyValue::forget(self.label, name);
        }
    }

    /// An entry's content. What is over, or is not what it should be, is dropped.
    fn read(&self, about: About<'_>, unix_time: u64) -> Option<Zeroizing<Vec<u8>>> {
        let name = self.seal.name(about);
        let entry = H::KeyValue::entry(self.label, &name)?;
        let content = self.seal.open(about, unix_time, &entry);
        if content.is_none() {
            H::KeyValue::forget(self.label, &name);
        }
        content
    }

    /// Drops an entry; where that fails, there is nothing in it any more.
    fn drop(&self, about: About<'_>) {
        let name = self.seal.name(about);
        H::KeyValue::keep(self.label, &name, &[]);
        H::KeyValue::forget(self.label, &name);
    }

    fn write(&self, about: About<'_>, sealed: Option<Vec<u8>>) {
        if let Some(entry) = sealed {
            H::KeyValue::keep(self.label, &self.seal.name(about), &entry);
        }
    }

    fn nonce(&self) -> [u8; 24] {
        let mut nonce = [0; 24];
        for part in nonce.as_chunks_mut::<8>().0 {
            *part = self.host.random().to_be_bytes();
        }
        nonce
    }

    /// What tells one identity's token from another's is all that the source is asked. Machines whose source is asked the same,
    /// as that of every system-assigned identity is, must not share a store and a key.
    fn about_token<T>(&self, then: impl FnOnce(About<'_>) -> T) -> T {
        self.about("token", ["", "", ""], then)
    }

    /// A value is what this vault has said to this identity.
    fn about_value<T>(&self, key: &CacheKey, then: impl FnOnce(About<'_>) -> T) -> T {
        let version = key.version().map_or("", SecretVersion::as_str);
        self.about("secret", [self.settings.vault.authority(), key.name(), version], then)
    }

    fn about<T>(&self, kind: &'static str, of_kind: [&str; 3], then: impl FnOnce(About<'_>) -> T) -> T {
        let identity = &self.settings.identity;
        let call = identity.get(self.settings.vault.audience());
        let (endpoint, form) = (call.endpoint(), str::from_utf8(call.body().expose()).unwrap_or_default());
        let [vault, name, version] = of_kind;
        let (place, path) = (endpoint.authority(), endpoint.path_and_query());
        then(About { kind, parts: &[identity.name(), place, path, form, vault, name, version] })
    }
}
