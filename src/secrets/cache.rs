//! What an instance remembers: values, their ages, and refusals, within bounds. It asks nobody and waits for nothing.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use lru::LruCache;

use crate::config::CacheConfig;
use crate::error::Error;
use crate::model::{Moment, Secret, SecretRequest, SecretVersion};

/// The memory of one instance.
pub struct Cache {
    values: LruCache<CacheKey, Rc<CachedSecret>>,
    /// Apart from the values, so that nobody drives those out by asking for names that do not exist.
    refusals: LruCache<CacheKey, NegativeEntry>,
    bytes: usize,
}

/// What a value is kept under: the name in lower case, as Key Vault's names do not depend on case, and the version if
/// the caller pinned one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    name: String,
    version: Option<SecretVersion>,
}

/// A value as it was kept.
#[derive(Debug)]
pub struct CachedSecret {
    /// The secret.
    pub secret: Secret,
    asked: Moment,
    renew_from: Moment,
    fresh_until: Moment,
    stale_until: Moment,
}

/// Which values will do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// One within its TTL.
    WithinTtl,
    /// One that the vault was asked for at this moment or later, as the caller wants a fresh one.
    Since(Moment),
}

/// An error that would be the same if Azure were asked again so soon.
#[derive(Clone, Debug)]
pub struct NegativeEntry {
    /// The error.
    pub error: Error,
    asked: Moment,
    until: Moment,
}

impl Cache {
    /// A memory that is empty.
    pub fn new() -> Self {
        Self { values: LruCache::unbounded(), refusals: LruCache::unbounded(), bytes: 0 }
    }

    /// The value for `key`, fresh or stale, if there is one that may be served at all.
    pub fn value(&mut self, key: &CacheKey, now: Moment) -> Option<Rc<CachedSecret>> {
        let kept = self.values.get(key)?;
        if now < kept.stale_until {
            return Some(Rc::clone(kept));
        }
        self.evict(key);
        None
    }

    /// What is remembered of the last refusal for `key`, if that will do.
    pub fn refusal(&mut self, key: &CacheKey, wanted: Freshness, now: Moment) -> Option<NegativeEntry> {
        let refusal = self.refusals.get(key)?;
        if now >= refusal.until {
            self.refusals.pop(key);
            return None;
        }
        wanted.allows(refusal.asked).then(|| refusal.clone())
    }

    /// Keeps what the vault gave when it was asked at `asked`, with `spread`, which is random, to set its TTL apart from
    /// that of the other instances. What was used least recently makes room.
    pub fn keep(
        &mut self,
        key: &CacheKey,
        secret: Secret,
        asked: Moment,
        settings: &CacheConfig,
        spread: u64,
    ) -> Rc<CachedSecret> {
        let kept = Rc::new(CachedSecret::new(secret, asked, settings, spread));
        self.refusals.pop(key);
        self.evict(key);
        if !settings.ttl.is_zero() {
            self.bytes = self.bytes.saturating_add(cost(key, &kept));
            self.values.put(key.clone(), Rc::clone(&kept));
            self.make_room(settings.entries, asked);
        }
        kept
    }

    /// Remembers `error`, which came of a call that began at `asked`, until `until`.
    pub fn refuse(
        &mut self,
        key: &CacheKey,
        error: Error,
        asked: Moment,
        until: Moment,
        settings: &CacheConfig,
    ) {
        if !settings.ttl.is_zero() && until > asked {
            self.refusals.put(key.clone(), NegativeEntry { error, asked, until });
            while self.refusals.len() > MOST_REFUSALS {
                self.refusals.pop_lru();
            }
        }
    }

    /// Drops the value for `key`. Its memory is overwritten as soon as no answer is being written with it.
    pub fn evict(&mut self, key: &CacheKey) {
        if let Some(kept) = self.values.pop(key) {
            self.bytes = self.bytes.saturating_sub(cost(key, &kept));
        }
    }

    /// How many values there are, and how many bytes they take.
    pub fn size(&self) -> (usize, usize) {
        (self.values.len(), self.bytes)
    }

    /// Drops from the end that was used least recently: what is too much, and what may not be served any more.
    fn make_room(&mut self, entries: usize, now: Moment) {
        while let Some((_, last)) = self.values.peek_lru() {
            let too_much = self.values.len() > entries || self.bytes > MOST_BYTES;
            if !too_much && now < last.stale_until {
                return;
            }
            if let Some((key, kept)) = self.values.pop_lru() {
                self.bytes = self.bytes.saturating_sub(cost(&key, &kept));
            }
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl CacheKey {
    /// The key of what is asked for.
    pub fn of(asked: &SecretRequest) -> Self {
        Self { name: asked.name.as_str().to_ascii_lowercase(), version: asked.version.clone() }
    }

    /// The name, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, if one is pinned.
    pub const fn version(&self) -> Option<&SecretVersion> {
        self.version.as_ref()
    }
}

impl CachedSecret {
    fn new(secret: Secret, asked: Moment, settings: &CacheConfig, spread: u64) -> Self {
        let ttl = spread_ttl(settings.ttl, spread);
        let fresh_until = asked.plus(ttl);
        Self {
            secret,
            asked,
            renew_from: fresh_until.minus(ttl.checked_div(RENEWED_PART).unwrap_or_default()),
            fresh_until,
            stale_until: fresh_until.plus(settings.stale),
        }
    }

    /// When the vault was asked for it.
    pub const fn asked(&self) -> Moment {
        self.asked
    }

    /// The time since the vault was asked for it. The vault had this value then or a little later, so it is never older.
    pub const fn age(&self, now: Moment) -> Duration {
        now.since(self.asked)
    }

    /// The whole seconds of TTL that are left at `now`, negative once it is over.
    pub fn ttl(&self, now: Moment) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        if now < self.fresh_until {
            return seconds(self.fresh_until.since(now));
        }
        // Past its TTL by less than a second is past it, too.
        seconds(now.since(self.fresh_until)).saturating_neg().saturating_sub(1)
    }

    /// Whether it will do at `now`.
    pub fn answers(&self, wanted: Freshness, now: Moment) -> bool {
        self.is_from(wanted) && now < self.fresh_until
    }

    /// Whether the vault was asked for it before `moment`.
    pub fn is_older_than(&self, moment: Moment) -> bool {
        self.asked < moment
    }

    /// Whether it was asked for as late as `wanted`.
    pub fn is_from(&self, wanted: Freshness) -> bool {
        wanted.allows(self.asked)
    }

    /// Whether it is in the last part of its TTL, in which it is renewed ahead if somebody asks for it.
    pub fn is_due(&self, now: Moment) -> bool {
        now >= self.renew_from
    }
}

impl Freshness {
    fn allows(self, asked: Moment) -> bool {
        match self {
            Self::WithinTtl => true,
            Self::Since(moment) => asked >= moment,
        }
    }
}

impl NegativeEntry {
    /// Whether Azure was asked at `asked` or later.
    pub fn is_from(&self, asked: Moment) -> bool {
        self.asked >= asked
    }

    /// The whole seconds for which it is remembered from `now` on.
    pub fn ttl(&self, now: Moment) -> i64 {
        i64::try_from(self.until.since(now).as_secs()).unwrap_or(i64::MAX)
    }
}

/// `ttl`, less or more by up to a tenth, so that a fleet that started together does not ask together for ever.
fn spread_ttl(ttl: Duration, spread: u64) -> Duration {
    let part = u32::try_from(spread.checked_rem(2001).unwrap_or_default()).unwrap_or_default();
    ttl.saturating_mul(part.saturating_add(9000)).checked_div(10_000).unwrap_or_default()
}

/// What a value takes, in bytes, roughly.
fn cost(key: &CacheKey, kept: &CachedSecret) -> usize {
    let text = key.name.len().saturating_add(kept.secret.value.expose().len());
    text.saturating_add(ENTRY_BYTES)
}

/// How many refusals are remembered. They last for seconds, so this is for hundreds of different ones in a second.
const MOST_REFUSALS: usize = 1000;

/// The part of its TTL, at the end, in which a value is renewed ahead: a tenth.
const RENEWED_PART: u32 = 10;

/// What an entry takes besides its name and value: the key twice, the version, four moments and the table's links.
const ENTRY_BYTES: usize = 256;

/// A thousand secrets of the usual few hundred bytes take less than one MiB, and Key Vault's largest, 25 KiB each, more
/// than this. A host may run a hundred instances; this is what they may take of its memory.
const MOST_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Redacted, SecretName};

    #[test]
    fn a_value_is_fresh_then_stale_then_gone() {
        let mut cache = Cache::new();
        // In the middle of the spread.
        let kept = cache.keep(&key("a"), secret("v"), at(1000), &SETTINGS, 1000);
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
                    kept.answers(Freshness::WithinTtl, now),
                    kept.is_due(now)
                ),
                (age, ttl, fresh, due),
                "{now:?}"
            );
            assert_eq!(cache.value(&key("a"), now).is_some(), there, "{now:?}");
        }
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn who_wants_a_fresh_value_gets_one_that_was_asked_for_lately() {
        let kept = Cache::new().keep(&key("a"), secret("v"), at(1000), &SETTINGS, 1000);
        assert!(kept.answers(Freshness::Since(at(1000)), at(1000)));
        assert!(!kept.answers(Freshness::Since(at(1001)), at(1001)));
        assert!(!kept.answers(Freshness::Since(at(1000)), at(1100)));
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
    fn names_are_the_same_in_any_case_and_versions_are_not_the_latest() {
        let mut cache = Cache::new();
        cache.keep(&key("Db-Password"), secret("v"), at(0), &SETTINGS, 0);
        assert!(cache.value(&key("dB-pASSWORD"), at(1)).is_some());
        let pinned = CacheKey { version: SecretVersion::parse(&"0".repeat(32)), ..key("Db-Password") };
        assert!(cache.value(&pinned, at(1)).is_none());
    }

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let mut cache = Cache::new();
        let settings = CacheConfig { entries: 2, ..SETTINGS };
        for name in ["a", "b"] {
            cache.keep(&key(name), secret("v"), at(0), &settings, 0);
        }
        assert!(cache.value(&key("a"), at(1)).is_some());
        cache.keep(&key("c"), secret("v"), at(1), &settings, 0);
        let left: Vec<_> =
            ["a", "b", "c"].into_iter().filter(|it| cache.value(&key(it), at(2)).is_some()).collect();
        assert_eq!((left, cache.size().0), (vec!["a", "c"], 2));
    }

    #[test]
    fn bytes_have_a_bound_too() {
        let mut cache = Cache::new();
        let settings = CacheConfig { entries: 100_000, ..SETTINGS };
        let value = "v".repeat(25 * 1024);
        for number in 0..1000 {
            cache.keep(&key(&format!("{number}")), secret(&value), at(0), &settings, 0);
        }
        let (values, bytes) = cache.size();
        assert!((300..330).contains(&values), "{values}");
        assert!(bytes <= MOST_BYTES && bytes > MOST_BYTES - 26 * 1024, "{bytes}");
        assert!(cache.value(&key("999"), at(1)).is_some());
        for number in 0..1000 {
            cache.evict(&key(&format!("{number}")));
        }
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn the_same_key_again_counts_once() {
        let mut cache = Cache::new();
        for value in ["first", "v"] {
            cache.keep(&key("a"), secret(value), at(0), &SETTINGS, 0);
        }
        assert_eq!(cache.size(), (1, 1 + 1 + ENTRY_BYTES));
        assert_eq!(cache.value(&key("a"), at(1)).unwrap().secret.value.expose(), "v");
    }

    #[test]
    fn what_may_not_be_served_any_more_makes_room_first() {
        let mut cache = Cache::new();
        cache.keep(&key("old"), secret("v"), at(0), &SETTINGS, 0);
        cache.keep(&key("new"), secret("v"), at(1000), &SETTINGS, 0);
        assert_eq!(cache.size().0, 1);
    }

    #[test]
    fn a_refusal_is_remembered_for_a_while() {
        let mut cache = Cache::new();
        cache.refuse(&key("a"), Error::SecretDisabled, at(10), at(12), &SETTINGS);
        for (wanted, now, remembered) in [
            (Freshness::WithinTtl, 11, true),
            (Freshness::Since(at(10)), 11, true),
            (Freshness::Since(at(11)), 11, false),
            (Freshness::WithinTtl, 12, false),
        ] {
            let refusal = cache.refusal(&key("a"), wanted, at(now));
            assert_eq!(refusal.map(|it| it.error), remembered.then_some(Error::SecretDisabled), "{now}");
        }
    }

    #[test]
    fn refusals_drive_no_value_out_and_have_a_bound() {
        let mut cache = Cache::new();
        let settings = CacheConfig { entries: 1, ..SETTINGS };
        cache.keep(&key("a"), secret("v"), at(0), &settings, 0);
        for number in 0..=MOST_REFUSALS {
            let name = format!("missing-{number}");
            cache.refuse(&key(&name), Error::SecretDisabled, at(0), at(10), &settings);
        }
        assert!(cache.value(&key("a"), at(1)).is_some());
        assert!(cache.refusal(&key("missing-0"), Freshness::WithinTtl, at(1)).is_none());
        assert!(cache.refusal(&key("missing-1"), Freshness::WithinTtl, at(1)).is_some());
    }

    #[test]
    fn a_value_ends_a_refusal() {
        let mut cache = Cache::new();
        cache.refuse(&key("a"), Error::SecretDisabled, at(0), at(10), &SETTINGS);
        cache.keep(&key("a"), secret("v"), at(1), &SETTINGS, 0);
        assert!(cache.refusal(&key("a"), Freshness::WithinTtl, at(2)).is_none());
    }

    #[test]
    fn switched_off_it_remembers_nothing() {
        let mut cache = Cache::new();
        let settings = CacheConfig { ttl: Duration::ZERO, ..SETTINGS };
        let kept = cache.keep(&key("a"), secret("v"), at(0), &settings, 0);
        cache.refuse(&key("b"), Error::SecretDisabled, at(0), at(10), &settings);
        assert_eq!(kept.secret.value.expose(), "v");
        assert!(cache.value(&key("a"), at(0)).is_none());
        assert!(cache.refusal(&key("b"), Freshness::WithinTtl, at(0)).is_none());
    }

    #[test]
    fn no_value_shows() {
        let mut cache = Cache::new();
        let kept = cache.keep(&key("a"), secret("marker"), at(0), &SETTINGS, 0);
        assert!(!format!("{cache:?} {kept:?}").contains("marker"));
    }

    fn key(name: &str) -> CacheKey {
        CacheKey::of(&SecretRequest { name: SecretName::parse(name).unwrap(), version: None })
    }

    fn secret(value: &str) -> Secret {
        let version = SecretVersion::parse("3d76eb676e0a40429c7aa2b4b7912a5d").unwrap();
        Secret::new(Redacted::new(value.to_owned()), version)
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
