//! What outlives an instance, where the host keeps none: the token and the values, sealed, in the host's key-value store.
//!
//! It is asked before Azure is, and told what Azure has said. Whatever it gives counts as memory does, with the same ages and
//! limits. A store that fails, lies or forgets only makes a read cold.

use core::time::Duration;

use zeroize::Zeroizing;

use crate::azure::identity::Token;
use crate::azure::vault::Secret;
use crate::cache::Key;
use crate::host::{Host, Moment};
use crate::seal::{self, About, Seal};
use crate::secret::{Redacted, SecretVersion};
use crate::settings::Settings;

/// The store of a host, as far as the settings want it.
#[derive(Debug)]
pub struct Store<'a, H> {
    host: &'a H,
    settings: &'a Settings,
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
    pub fn of(host: &'a H, settings: &'a Settings) -> Option<Self> {
        // Known when this is compiled: a build without a store has none of what follows.
        if !H::HAS_STORE {
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

    /// Drops the token.
    pub fn forget_token(&self) {
        self.about_token(|about| self.host.forget(self.label, &self.seal.name(about)));
    }

    /// The value that another instance has left.
    pub fn value(&self, key: &Key, now: Moment) -> Option<Stored> {
        let (about, unix_time) = (self.about(key), self.host.unix_time());
        let content = self.read(About { kind: "secret", parts: &about }, unix_time)?;
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
    pub fn keep_value(&self, key: &Key, secret: &Secret, asked: Moment, spread: u64, now: Moment) {
        let cache = &self.settings.cache;
        if cache.ttl.is_zero() {
            return;
        }
        // A second that has begun counts whole, so that no value is younger than it says.
        let age = now.since(asked);
        let age = age.as_secs().saturating_add(u64::from(age.subsec_nanos() > 0));
        let asked = self.host.unix_time().saturating_sub(age);
        // The longest that a spread makes of it; what it really is, is memory's affair.
        let lasts = cache.ttl.saturating_mul(2).saturating_add(cache.stale).as_secs();
        let (version, value) = (secret.version.as_str().as_bytes(), secret.value.expose().as_bytes());
        let content =
            Zeroizing::new([&asked.to_be_bytes()[..], &spread.to_be_bytes(), version, value].concat());
        let about = self.about(key);
        let about = About { kind: "secret", parts: &about };
        let sealed = self.seal.close(about, asked.saturating_add(lasts), self.nonce(), &content);
        self.write(about, sealed);
        self.make_room(cache.entries);
    }

    /// Drops a value.
    pub fn forget_value(&self, key: &Key) {
        let about = self.about(key);
        self.host.forget(self.label, &self.seal.name(About { kind: "secret", parts: &about }));
    }

    /// Drops what is over, and then what is over soonest, where there are more than so many entries and a token.
    fn make_room(&self, entries: usize) {
        let names = self.host.stored_names(self.label);
        let mut too_many = names.len().saturating_sub(entries.saturating_add(1));
        if too_many == 0 {
            return;
        }
        let unix_time = self.host.unix_time();
        let end =
            |name: &String| self.host.stored(self.label, name).and_then(|it| seal::end(&it)).unwrap_or(0);
        let mut ends: Vec<_> = names.iter().map(|name| (end(name), name)).collect();
        ends.sort_unstable();
        for (end, name) in ends {
            if too_many == 0 && end > unix_time {
                return;
            }
            self.host.forget(self.label, name);
            too_many = too_many.saturating_sub(1);
        }
    }

    fn read(&self, about: About<'_>, unix_time: u64) -> Option<Zeroizing<Vec<u8>>> {
        let entry = self.host.stored(self.label, &self.seal.name(about))?;
        self.seal.open(about, unix_time, &entry)
    }

    fn write(&self, about: About<'_>, sealed: Option<Vec<u8>>) {
        if let Some(entry) = sealed {
            self.host.store(self.label, &self.seal.name(about), &entry);
        }
    }

    fn nonce(&self) -> [u8; 24] {
        let mut nonce = [0; 24];
        for part in nonce.as_chunks_mut::<8>().0 {
            *part = self.host.random().to_be_bytes();
        }
        nonce
    }

    /// What tells one identity's token from another's is all that the source is asked.
    fn about_token<T>(&self, then: impl FnOnce(About<'_>) -> T) -> T {
        let identity = &self.settings.identity;
        let call = identity.get(self.settings.vault.audience());
        let (endpoint, form) = (call.endpoint(), str::from_utf8(call.body().expose()).unwrap_or_default());
        let parts = [identity.name(), endpoint.authority(), endpoint.path_and_query(), form];
        then(About { kind: "token", parts: &parts })
    }

    fn about<'k>(&self, key: &'k Key) -> [&'k str; 3]
    where
        'a: 'k,
    {
        [self.settings.vault.authority(), key.name(), key.version().map_or("", SecretVersion::as_str)]
    }
}
