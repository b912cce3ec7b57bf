//! The cache of one instance: values with their ages, and errors, within bounds. It is pure: the time and the
//! random bits are arguments.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::config::CacheConfig;
use crate::error::Error;
use crate::model::{CacheKey, Moment, Secret};

/// The cache of one instance.
pub struct Cache {
    values: LruCache<CacheKey, Rc<CachedSecret>>,
    /// Apart from the values, so that requests for names that do not exist evict no value.
    negative: LruCache<CacheKey, NegativeEntry>,
    bytes: usize,
}

/// A secret in the cache.
#[derive(Debug)]
pub struct CachedSecret {
    pub secret: Secret,
    fetched_at: Moment,
    refresh_from: Moment,
    expires_at: Moment,
    stale_until: Moment,
}

/// How recent a value must be for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Any value within its TTL.
    WithinTtl,
    /// A value that was fetched at this moment or later, as the client asks for a fresh one.
    Since(Moment),
}

/// An error that would come again if Azure were called so soon (negative cache).
#[derive(Clone, Debug)]
pub struct NegativeEntry {
    pub error: Error,
    fetched_at: Moment,
    until: Moment,
}

impl Cache {
    pub fn new() -> Self {
        Self { values: LruCache::unbounded(), negative: LruCache::unbounded(), bytes: 0 }
    }

    /// The value for `key`, within its TTL or expired, if it may be served at all.
    pub fn get(&mut self, key: &CacheKey, now: Moment) -> Option<Rc<CachedSecret>> {
        let cached = self.values.get(key)?;
        if now < cached.stale_until {
            return Some(Rc::clone(cached));
        }
        self.evict(key);
        None
    }

    /// The negative entry for `key`, if it is recent enough.
    pub fn negative(&mut self, key: &CacheKey, freshness: Freshness, now: Moment) -> Option<NegativeEntry> {
        let entry = self.negative.get(key)?;
        if now >= entry.until {
            self.negative.pop(key);
            return None;
        }
        freshness.allows(entry.fetched_at).then(|| entry.clone())
    }

    /// Caches a secret that was fetched at `fetched_at`. `spread` is random and makes its TTL differ from
    /// that of other instances. The least recently used values make room.
    pub fn insert(
        &mut self,
        key: &CacheKey,
        secret: Secret,
        fetched_at: Moment,
        settings: &CacheConfig,
        spread: u64,
    ) -> Rc<CachedSecret> {
        let cached = Rc::new(CachedSecret::new(secret, fetched_at, settings, spread));
        self.negative.pop(key);
        self.evict(key);
        if !settings.ttl.is_zero() {
            self.bytes = self.bytes.saturating_add(cost(key, &cached));
            self.values.put(key.clone(), Rc::clone(&cached));
            self.make_room(settings.entries, fetched_at);
        }
        cached
    }

    /// Caches the error of a call that began at `fetched_at`, until `until`.
    pub fn insert_negative(
        &mut self,
        key: &CacheKey,
        error: Error,
        fetched_at: Moment,
        until: Moment,
        settings: &CacheConfig,
    ) {
        if !settings.ttl.is_zero() && until > fetched_at {
            self.negative.put(key.clone(), NegativeEntry { error, fetched_at, until });
            while self.negative.len() > MAX_NEGATIVE_ENTRIES {
                self.negative.pop_lru();
            }
        }
    }

    /// Drops the value for `key`. Its memory is overwritten as soon as no response is being written from it.
    pub fn evict(&mut self, key: &CacheKey) {
        if let Some(cached) = self.values.pop(key) {
            self.bytes = self.bytes.saturating_sub(cost(key, &cached));
        }
    }

    /// The number of values, and their size in bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.values.len(), self.bytes)
    }

    /// Drops the least recently used values: those over a bound, and those that may not be served any more.
    fn make_room(&mut self, entries: usize, now: Moment) {
        while let Some((_, oldest)) = self.values.peek_lru() {
            let over_bound = self.values.len() > entries || self.bytes > MAX_BYTES;
            if !over_bound && now < oldest.stale_until {
                return;
            }
            if let Some((key, cached)) = self.values.pop_lru() {
                self.bytes = self.bytes.saturating_sub(cost(&key, &cached));
            }
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl CachedSecret {
    fn new(secret: Secret, fetched_at: Moment, settings: &CacheConfig, spread: u64) -> Self {
        let ttl = spread_ttl(settings.ttl, spread);
        let expires_at = fetched_at.plus(ttl);
        Self {
            secret,
            fetched_at,
            refresh_from: expires_at.minus(ttl.checked_div(REFRESH_PART).unwrap_or_default()),
            expires_at,
            stale_until: expires_at.plus(settings.stale),
        }
    }

    /// The moment at which the vault was called for it.
    pub const fn fetched_at(&self) -> Moment {
        self.fetched_at
    }

    /// The time since the vault was called. The vault had this value then or a little later, so it is never
    /// older.
    pub const fn age(&self, now: Moment) -> Duration {
        now.since(self.fetched_at)
    }

    /// The whole seconds of TTL that are left at `now`, negative once it is over.
    pub fn ttl(&self, now: Moment) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        if now < self.expires_at {
            return seconds(self.expires_at.since(now));
        }
        // Less than a second past the TTL is past it, too.
        seconds(now.since(self.expires_at)).saturating_neg().saturating_sub(1)
    }

    /// Whether it is within its TTL at `now`, and as recent as `freshness` demands.
    pub fn satisfies(&self, freshness: Freshness, now: Moment) -> bool {
        self.is_as_recent_as(freshness) && now < self.expires_at
    }

    pub fn is_older_than(&self, moment: Moment) -> bool {
        self.fetched_at < moment
    }

    pub fn is_as_recent_as(&self, freshness: Freshness) -> bool {
        freshness.allows(self.fetched_at)
    }

    /// Whether it is in the last part of its TTL, in which a request refreshes it ahead.
    pub fn is_refresh_due(&self, now: Moment) -> bool {
        now >= self.refresh_from
    }
}

impl Freshness {
    fn allows(self, fetched_at: Moment) -> bool {
        match self {
            Self::WithinTtl => true,
            Self::Since(moment) => fetched_at >= moment,
        }
    }
}

impl NegativeEntry {
    /// Whether the call that failed began at `moment` or later.
    pub fn is_newer_than(&self, moment: Moment) -> bool {
        self.fetched_at >= moment
    }

    /// The whole seconds for which the entry lasts from `now` on.
    pub fn ttl(&self, now: Moment) -> i64 {
        i64::try_from(self.until.since(now).as_secs()).unwrap_or(i64::MAX)
    }
}

/// `ttl`, less or more by up to a tenth, so that a fleet that started together does not call the vault
/// together for ever.
fn spread_ttl(ttl: Duration, spread: u64) -> Duration {
    let part = u32::try_from(spread.checked_rem(2001).unwrap_or_default()).unwrap_or_default();
    ttl.saturating_mul(part.saturating_add(9000)).checked_div(10_000).unwrap_or_default()
}

/// The approximate size of an entry, in bytes.
fn cost(key: &CacheKey, cached: &CachedSecret) -> usize {
    let texts = [key.name().len(), cached.secret.value.expose().len(), cached.secret.details.bytes()];
    texts.into_iter().fold(ENTRY_BYTES, usize::saturating_add)
}

/// How many errors are cached. They last for seconds, so this is for hundreds of different ones in a second.
const MAX_NEGATIVE_ENTRIES: usize = 1000;

/// The part of its TTL, at the end, in which a value is refreshed ahead: a tenth.
const REFRESH_PART: u32 = 10;

/// What an entry takes besides its texts: the key twice, the version, eight times and the table's links.
const ENTRY_BYTES: usize = 384;

/// A thousand secrets of the usual few hundred bytes take less than one MiB, and Key Vault's largest, 25 KiB
/// each, more than this. A host may run a hundred instances; this is what each may take of its memory.
const MAX_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Details, Redacted, SecretName, SecretRequest, SecretVersion};

    #[test]
    fn a_value_expires_and_is_then_served_stale() {
        let mut cache = Cache::new();
        // In the middle of the spread.
        let kept = cache.insert(&key("a"), secret("v"), at(1000), &SETTINGS, 1000);
        for (now, age, ttl, fresh, due, there) in [
            (1000, 0, 100, true, false, true),
            (1089, 89, 11, true, false, true),
            (1090, 90, 10, true, true, true),
            (1099, 99, 1, true, true, true),
            (1100, 100, -1, false, true, true),
            (1101, 101, -2, false, true, true),
            (1149, 149, -50, false, true, true),
            (1150, 150, -51, false, true, false),
        ] {
            let now = at(now);
            assert_eq!(
                (
                    kept.age(now).as_secs(),
                    kept.ttl(now),
                    kept.satisfies(Freshness::WithinTtl, now),
                    kept.is_refresh_due(now)
                ),
                (age, ttl, fresh, due),
                "{now:?}"
            );
            assert_eq!(cache.get(&key("a"), now).is_some(), there, "{now:?}");
        }
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn a_fresh_value_was_fetched_lately() {
        let kept = Cache::new().insert(&key("a"), secret("v"), at(1000), &SETTINGS, 1000);
        assert!(kept.satisfies(Freshness::Since(at(1000)), at(1000)));
        assert!(!kept.satisfies(Freshness::Since(at(1001)), at(1001)));
        assert!(!kept.satisfies(Freshness::Since(at(1000)), at(1100)));
    }

    #[test]
    fn a_ttl_is_spread_by_a_tenth() {
        let ttl = Duration::from_secs(300);
        for (spread, milliseconds) in
            [(0, 270_000), (1000, 300_000), (2000, 330_000), (2001, 270_000), (u64::MAX, 288_090)]
        {
            assert_eq!(spread_ttl(ttl, spread), Duration::from_millis(milliseconds), "{spread}");
        }
    }

    #[test]
    fn names_ignore_case_and_versions_have_own_entries() {
        let mut cache = Cache::new();
        cache.insert(&key("Db-Password"), secret("v"), at(0), &SETTINGS, 0);
        assert!(cache.get(&key("dB-pASSWORD"), at(1)).is_some());
        let pinned = CacheKey::of(&SecretRequest {
            name: SecretName::parse("Db-Password").unwrap(),
            version: SecretVersion::parse(&"0".repeat(32)),
        });
        assert!(cache.get(&pinned, at(1)).is_none());
    }

    #[test]
    fn the_least_recently_used_value_is_evicted() {
        let mut cache = Cache::new();
        let settings = CacheConfig { entries: 2, ..SETTINGS };
        for name in ["a", "b"] {
            cache.insert(&key(name), secret("v"), at(0), &settings, 0);
        }
        assert!(cache.get(&key("a"), at(1)).is_some());
        cache.insert(&key("c"), secret("v"), at(1), &settings, 0);
        let left: Vec<_> =
            ["a", "b", "c"].into_iter().filter(|name| cache.get(&key(name), at(2)).is_some()).collect();
        assert_eq!((left, cache.size().0), (vec!["a", "c"], 2));
    }

    #[test]
    fn bytes_have_a_bound() {
        let mut cache = Cache::new();
        let settings = CacheConfig { entries: 100_000, ..SETTINGS };
        let value = "v".repeat(25 * 1024);
        for number in 0..1000 {
            cache.insert(&key(&format!("{number}")), secret(&value), at(0), &settings, 0);
        }
        let (values, bytes) = cache.size();
        assert!((300..330).contains(&values), "{values}");
        assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES - 26 * 1024, "{bytes}");
        assert!(cache.get(&key("999"), at(1)).is_some());
        for number in 0..1000 {
            cache.evict(&key(&format!("{number}")));
        }
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn the_same_key_again_counts_once() {
        let mut cache = Cache::new();
        for value in ["first", "v"] {
            cache.insert(&key("a"), secret(value), at(0), &SETTINGS, 0);
        }
        assert_eq!(cache.size(), (1, 1 + 1 + ENTRY_BYTES));
        assert_eq!(cache.get(&key("a"), at(1)).unwrap().secret.value.expose(), "v");
    }

    #[test]
    fn values_past_the_stale_bound_go_first() {
        let mut cache = Cache::new();
        cache.insert(&key("old"), secret("v"), at(0), &SETTINGS, 0);
        cache.insert(&key("new"), secret("v"), at(1000), &SETTINGS, 0);
        assert_eq!(cache.size().0, 1);
    }

    #[test]
    fn an_error_is_cached_for_its_time() {
        let mut cache = Cache::new();
        cache.insert_negative(&key("a"), Error::SecretDisabled, at(10), at(12), &SETTINGS);
        for (wanted, now, remembered) in [
            (Freshness::WithinTtl, 11, true),
            (Freshness::Since(at(10)), 11, true),
            (Freshness::Since(at(11)), 11, false),
            (Freshness::WithinTtl, 12, false),
        ] {
            let refusal = cache.negative(&key("a"), wanted, at(now));
            assert_eq!(
                refusal.map(|entry| entry.error),
                remembered.then_some(Error::SecretDisabled),
                "{now}"
            );
        }
    }

    #[test]
    fn negative_entries_evict_no_value_and_have_a_bound() {
        let mut cache = Cache::new();
        let settings = CacheConfig { entries: 1, ..SETTINGS };
        cache.insert(&key("a"), secret("v"), at(0), &settings, 0);
        for number in 0..=MAX_NEGATIVE_ENTRIES {
            let name = format!("missing-{number}");
            cache.insert_negative(&key(&name), Error::SecretDisabled, at(0), at(10), &settings);
        }
        assert!(cache.get(&key("a"), at(1)).is_some());
        assert!(cache.negative(&key("missing-0"), Freshness::WithinTtl, at(1)).is_none());
        assert!(cache.negative(&key("missing-1"), Freshness::WithinTtl, at(1)).is_some());
    }

    #[test]
    fn a_value_replaces_a_negative_entry() {
        let mut cache = Cache::new();
        cache.insert_negative(&key("a"), Error::SecretDisabled, at(0), at(10), &SETTINGS);
        cache.insert(&key("a"), secret("v"), at(1), &SETTINGS, 0);
        assert!(cache.negative(&key("a"), Freshness::WithinTtl, at(2)).is_none());
    }

    #[test]
    fn a_ttl_of_zero_caches_nothing() {
        let mut cache = Cache::new();
        let settings = CacheConfig { ttl: Duration::ZERO, ..SETTINGS };
        let kept = cache.insert(&key("a"), secret("v"), at(0), &settings, 0);
        cache.insert_negative(&key("b"), Error::SecretDisabled, at(0), at(10), &settings);
        assert_eq!(kept.secret.value.expose(), "v");
        assert!(cache.get(&key("a"), at(0)).is_none());
        assert!(cache.negative(&key("b"), Freshness::WithinTtl, at(0)).is_none());
    }

    #[test]
    fn no_value_shows() {
        let mut cache = Cache::new();
        let kept = cache.insert(&key("a"), secret("marker"), at(0), &SETTINGS, 0);
        assert!(!format!("{cache:?} {kept:?}").contains("marker"));
    }

    fn key(name: &str) -> CacheKey {
        CacheKey::of(&SecretRequest { name: SecretName::parse(name).unwrap(), version: None })
    }

    fn secret(value: &str) -> Secret {
        let version = SecretVersion::parse("3d76eb676e0a40429c7aa2b4b7912a5d").unwrap();
        Secret::new(Redacted::new(value.to_owned()), version, Details::default())
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    const SETTINGS: CacheConfig = CacheConfig {
        ttl: Duration::from_secs(100),
        stale: Duration::from_secs(50),
        negative_ttl: Duration::from_secs(10),
        entries: 1000,
    };
}
