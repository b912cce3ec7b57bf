//! The shared store: the token and the secrets, sealed, in the host's key-value store, for hosts that keep no
//! instance.
//!
//! It is read before Azure is called, and written after. Its entries count as cached ones do, with the same
//! ages and limits. A faulty store only causes cache misses. That includes one that hangs, and one that
//! ignores deletes, unless it also rejects writes.
//!
//! The futures are boxed: where a host has no store, the compiler sees that none is made, and the component
//! has none of this code.

use std::cell::Cell;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::azure::token_source::Token;
use crate::azure::vault::details;
use crate::config::{Config, StoreConfig};
use crate::host::{Host, KeyValue, KeyValueFuture, within};
use crate::model::{CacheKey, Deadline, Moment, Redacted, Secret, SecretVersion};
use crate::seal::EntryId;

/// The store of a host, for one request.
pub struct SharedStore<'a, H> {
    host: &'a H,
    config: &'a Config,
    settings: &'a StoreConfig,
    entries: &'a dyn KeyValue,
    health: &'a StoreHealth,
    by: Deadline,
}

/// What an instance knows of the store.
#[derive(Debug)]
pub struct StoreHealth {
    /// The moment until which the store is left alone, as a call took too long.
    paused_until: Cell<Moment>,
    /// The moment of the last denial whose entry may still be in the store. Older entries are not read.
    distrusted_before: Cell<Moment>,
}

impl StoreHealth {
    pub const fn new() -> Self {
        Self { paused_until: Cell::new(Moment::EARLIEST), distrusted_before: Cell::new(Moment::EARLIEST) }
    }

    /// Notes a denial at `now`, before the entry is deleted: the store may hang or be paused, and the request
    /// may be cancelled. Returns what [`trust`](Self::trust) restores.
    pub fn distrust(&self, now: Moment) -> Moment {
        self.distrusted_before.replace(now)
    }

    /// Notes that the entry which was denied at `denied` is deleted, unless there was a later denial.
    pub fn trust(&self, denied: Moment, before: Moment) {
        if self.distrusted_before.get() == denied {
            self.distrusted_before.set(before);
        }
    }
}

/// A secret of the shared store.
#[derive(Debug)]
pub struct StoredSecret {
    pub secret: Secret,
    /// The moment at which the vault was called for it.
    pub fetched_at: Moment,
    /// The random number that makes its TTL differ from others.
    pub spread: u64,
}

impl<'a, H: Host> SharedStore<'a, H> {
    /// The store, if the host has one and the settings name it. Each of its calls takes [`CALL_LIMIT`] at
    /// most and ends by `by`. `None` for a while after a call took longer.
    #[inline]
    pub fn open(host: &'a H, config: &'a Config, health: &'a StoreHealth, by: Deadline) -> Option<Self> {
        let (entries, settings) = (host.key_value()?, config.store.as_ref()?);
        let is_paused = host.now() < health.paused_until.get();
        (!is_paused).then_some(Self { host, config, settings, entries, health, by })
    }

    /// Reads the token that another instance has written, if it is still valid.
    pub fn read_token(self) -> KeyValueFuture<'a, Option<Token>> {
        Box::pin(async move { self.token().await })
    }

    async fn token(&self) -> Option<Token> {
        let content = self.read(self.token_id()).await?;
        Token::unpack(&content, self.host.now(), self.host.unix_time())
    }

    /// Writes a token for other instances.
    pub fn write_token(self, token: &Token) -> KeyValueFuture<'a, ()> {
        let id = self.token_id();
        let seal = |content: &[u8], end| self.settings.seal.close(id, end, self.nonce(), content);
        let entry = token.pack(self.host.now(), self.host.unix_time(), seal);
        Box::pin(async move { self.write(id, entry).await })
    }

    /// Deletes a token that the vault refused, unless another instance has written a new one.
    pub fn delete_token<'b>(self, refused: &'b Token) -> KeyValueFuture<'b, ()>
    where
        'a: 'b,
    {
        Box::pin(async move {
            if self.token().await.is_some_and(|token| token.is_same_as(refused)) {
                self.delete(self.token_id()).await;
            }
        })
    }

    /// Reads the secret that another instance has written.
    pub fn read_secret<'b>(self, key: &'b CacheKey) -> KeyValueFuture<'b, Option<StoredSecret>>
    where
        'a: 'b,
    {
        Box::pin(async move { self.secret(key).await })
    }

    async fn secret(&self, key: &CacheKey) -> Option<StoredSecret> {
        let content = self.read(self.secret_id(key)).await?;
        let (fetched_at, rest) = content.split_first_chunk()?;
        let (spread, rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk::<32>()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (packed, value) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        // An entry with a date in the future would last longer than it should.
        let age = self.host.unix_time().checked_sub(u64::from_be_bytes(*fetched_at))?;
        let version = SecretVersion::parse(str::from_utf8(version).ok()?)?;
        let value = Redacted::new(str::from_utf8(value).ok()?.to_owned());
        let fetched_at = self.host.now().minus(Duration::from_secs(age));
        if fetched_at < self.health.distrusted_before.get() {
            return None;
        }
        let secret = Secret::new(value, version, details::unpack(packed)?);
        Some(StoredSecret { secret, fetched_at, spread: u64::from_be_bytes(*spread) })
    }

    /// Writes a secret for other instances; the vault was called for it at `fetched_at`.
    pub fn write_secret(
        self,
        key: &CacheKey,
        secret: &Secret,
        fetched_at: Moment,
        spread: u64,
    ) -> KeyValueFuture<'a, ()> {
        let cache = &self.config.cache;
        // The calendar has whole seconds. A second that has begun counts, so that an age is short by a second
        // at the most.
        let age = self.host.now().since(fetched_at);
        let age = age.as_secs().saturating_add(u64::from(age.subsec_nanos() > 0));
        let fetched_at = self.host.unix_time().saturating_sub(age);
        // The longest TTL that a spread makes; the cache applies the real one.
        let lasts = cache.ttl.saturating_mul(2).saturating_add(cache.stale).as_secs();
        let (version, value) = (secret.version.as_str().as_bytes(), secret.value.expose().as_bytes());
        let packed = details::pack(&secret.details);
        let length = u32::try_from(packed.len()).unwrap_or_default().to_be_bytes();
        let (fetched, spread) = (fetched_at.to_be_bytes(), spread.to_be_bytes());
        let content = Zeroizing::new([&fetched[..], &spread, version, &length, &packed, value].concat());
        let id = self.secret_id(key);
        let end = fetched_at.saturating_add(lasts);
        let entry = self.settings.seal.close(id, end, self.nonce(), &content);
        Box::pin(async move {
            if !cache.ttl.is_zero() {
                self.write(id, entry).await;
                self.make_room(cache.entries, id).await;
            }
        })
    }

    /// Deletes a secret, and says whether the store has answered.
    pub fn delete_secret(self, key: &CacheKey) -> KeyValueFuture<'a, bool> {
        let id = self.secret_id(key);
        Box::pin(async move { self.delete(id).await })
    }

    /// Deletes secrets, in the order of the store, where there are more than `entries`, but neither the token
    /// nor `newest`. A tenth more goes than has to, so that the names are not listed for each value. Entries
    /// of other applications stay.
    async fn make_room(&self, entries: usize, newest: EntryId) {
        let seal = &self.settings.seal;
        let (prefix, token, newest) = (seal.prefix(), seal.name(self.token_id()), seal.name(newest));
        let Some(mut names) = self.limited(self.entries.names(&self.settings.label)).await else { return };
        names.retain(|name| name.starts_with(&prefix) && *name != token && *name != newest);
        if names.len() < entries {
            return;
        }
        let kept = entries.saturating_sub(entries.div_ceil(10));
        for name in names.iter().skip(kept) {
            if self.limited(self.entries.delete(&self.settings.label, name)).await.is_none() {
                return;
            }
        }
    }

    /// The content of an entry. An entry that has ended or is forged is deleted.
    async fn read(&self, id: EntryId) -> Option<Zeroizing<Vec<u8>>> {
        let (label, name) = (&self.settings.label, self.settings.seal.name(id));
        let entry = self.limited(self.entries.read(label, &name)).await??;
        let content = self.settings.seal.open(id, self.host.unix_time(), &entry);
        if content.is_none() {
            self.limited(self.entries.delete(label, &name)).await;
        }
        content
    }

    /// Deletes an entry; if the store ignores that, the entry is empty. Says whether the store has answered.
    async fn delete(&self, id: EntryId) -> bool {
        let (label, name) = (&self.settings.label, self.settings.seal.name(id));
        let is_empty = self.limited(self.entries.write(label, &name, &[])).await.is_some();
        self.limited(self.entries.delete(label, &name)).await.is_some() || is_empty
    }

    async fn write(&self, id: EntryId, sealed: Option<Vec<u8>>) {
        if let Some(entry) = sealed {
            let name = self.settings.seal.name(id);
            self.limited(self.entries.write(&self.settings.label, &name, &entry)).await;
        }
    }

    /// Awaits a call to the store, as long as it may take. After a call that takes the whole limit there is
    /// none for a while. A request with less time left says nothing about the store.
    async fn limited<T>(&self, call: KeyValueFuture<'_, T>) -> Option<T> {
        let now = self.host.now();
        let left = self.by.left(now).ok()?;
        if now < self.health.paused_until.get() {
            return None;
        }
        let result = within(self.host, left.min(CALL_LIMIT), call).await;
        if result.is_none() && left >= CALL_LIMIT {
            self.health.paused_until.set(self.host.now().plus(PAUSE));
        }
        result
    }

    fn nonce(&self) -> [u8; 24] {
        let mut nonce = [0; 24];
        for part in nonce.as_chunks_mut::<8>().0 {
            *part = self.host.random().to_be_bytes();
        }
        nonce
    }

    /// The id of the token: all that its source is asked tells one identity's token from another's. Machines
    /// whose source is asked the same, as that of every system-assigned identity is, must not share a store
    /// and a key.
    fn token_id(&self) -> EntryId {
        self.id("token", ["", "", ""])
    }

    /// The id of a secret: a value is what this vault returned to this identity.
    fn secret_id(&self, key: &CacheKey) -> EntryId {
        let version = key.version().map_or("", SecretVersion::as_str);
        self.id("secret with details", [self.config.vault.authority(), key.name(), version])
    }

    fn id(&self, kind: &str, of_kind: [&str; 3]) -> EntryId {
        let source = &self.config.token_source;
        // An assertion changes; the issuer, and with it the identity, is that of the name of the source.
        let call = source.call(self.config.vault.audience(), "");
        let (endpoint, form) = (call.endpoint(), str::from_utf8(call.body().expose()).unwrap_or_default());
        let [vault, name, version] = of_kind;
        let parts =
            [source.name(), endpoint.authority(), endpoint.path_and_query(), form, vault, name, version];
        self.settings.seal.id(kind, &parts)
    }
}

/// How long one call to the store may take. A store that is slower than Azure is of no use.
pub const CALL_LIMIT: Duration = Duration::from_secs(1);

/// How long the store is left alone after a call took longer, so that it does not slow down every read.
const PAUSE: Duration = Duration::from_secs(10);
