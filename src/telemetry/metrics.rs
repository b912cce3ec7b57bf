//! The metrics of an instance, as Prometheus text.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::time::Duration;

use crate::error::Service;
use crate::http::cache_status::CacheOutcome;
use crate::http::response::Reply;

/// Counters and histograms, which start with the instance and end with it. No label is a name that a caller
/// chose.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By status and code, in this order.
    replies: RefCell<Vec<((u16, &'static str), u64)>>,
    /// The items of requests for several secrets, by code, in this order.
    items: RefCell<Vec<(&'static str, u64)>>,
    requests: Requests,
    calls: Calls,
}

/// How long requests took, by cache outcome.
#[derive(Debug, Default)]
struct Requests {
    hit: Histogram,
    miss: Histogram,
    expired: Histogram,
    request: Histogram,
    served_stale: Histogram,
    /// The cache was not asked: another route, or a request that was refused before.
    none: Histogram,
}

/// The calls to each service: how many were started, and how long those took that ended.
#[derive(Debug, Default)]
struct Calls {
    token_source: (Cell<u64>, Histogram),
    vault: (Cell<u64>, Histogram),
    jwks: (Cell<u64>, Histogram),
}

/// A histogram of durations. Each counts in one bucket only, so that recording adds to two numbers.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [Cell<u64>; BUCKETS.len()],
    beyond: Cell<u64>,
    sum: Cell<Duration>,
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a response that took `duration`, with the cache outcome if the cache was asked.
    pub fn replied(&self, reply: &Reply, cache: Option<CacheOutcome>, duration: Duration) {
        count_one(&self.replies, (reply.status().as_u16(), reply.code()));
        self.requests.of(cache).record(duration);
    }

    /// Counts an item of a request for several secrets.
    pub fn item(&self, code: &'static str) {
        count_one(&self.items, code);
    }

    pub fn call_started(&self, service: Service) {
        add_one(&self.calls.of(service).0);
    }

    /// Counts a call that has ended, with or without an answer. A call whose request is cancelled never ends.
    pub fn call_ended(&self, service: Service, duration: Duration) {
        self.calls.of(service).1.record(duration);
    }

    /// Renders everything in Prometheus' text format, with the number and the bytes of cached `values`, and
    /// with the age and the remaining lifetime of the `token`, if there is one.
    pub fn render(&self, values: (usize, usize), token: Option<(Duration, Duration)>) -> String {
        let mut text = String::with_capacity(USUAL_TEXT);
        // Writing to a string does not fail.
        let _ = self.write(&mut text, values, token);
        text
    }

    fn write(
        &self,
        text: &mut String,
        (values, bytes): (usize, usize),
        token: Option<(Duration, Duration)>,
    ) -> std::fmt::Result {
        let name = "keyvault_gateway_requests_total";
        family(text, name, "counter", "Requests answered by this instance.")?;
        if let Ok(replies) = self.replies.try_borrow() {
            for ((status, code), count) in &*replies {
                writeln!(text, "{name}{{status=\"{status}\",code=\"{code}\"}} {count}")?;
            }
        }

        let name = "keyvault_gateway_items_total";
        family(text, name, "counter", "Secrets in requests for several, by code.")?;
        if let Ok(items) = self.items.try_borrow() {
            for (code, count) in &*items {
                writeln!(text, "{name}{{code=\"{code}\"}} {count}")?;
            }
        }

        let name = "keyvault_gateway_request_duration_seconds";
        let help = "How long requests took, by cache outcome.";
        family(text, name, "histogram", help)?;
        for (outcome, histogram) in self.requests.all() {
            histogram.write(text, name, "cache", outcome)?;
        }

        let name = "keyvault_gateway_cache_lookups_total";
        family(text, name, "counter", "Requests for a secret, by cache outcome.")?;
        for (outcome, histogram) in self.requests.lookups() {
            writeln!(text, "{name}{{cache=\"{outcome}\"}} {}", histogram.count())?;
        }

        let name = "keyvault_gateway_cache_values";
        family(text, name, "gauge", "Values in the cache of this instance.")?;
        writeln!(text, "{name} {values}")?;

        let name = "keyvault_gateway_cache_bytes";
        family(text, name, "gauge", "The size of the cached values, in bytes.")?;
        writeln!(text, "{name} {bytes}")?;

        let name = "keyvault_gateway_upstream_calls_total";
        family(text, name, "counter", "Calls that this instance made to Azure.")?;
        for (upstream, (begun, _)) in self.calls.all() {
            writeln!(text, "{name}{{upstream=\"{upstream}\"}} {}", begun.get())?;
        }

        let name = "keyvault_gateway_upstream_duration_seconds";
        family(text, name, "histogram", "How long the calls took that have ended.")?;
        for (upstream, (_, ended)) in self.calls.all() {
            ended.write(text, name, "upstream", upstream)?;
        }

        if let Some((age, left)) = token {
            let name = "keyvault_gateway_token_age_seconds";
            family(text, name, "gauge", "How long this instance has had its token for the vault.")?;
            writeln!(text, "{name} {}", age.as_secs())?;

            let name = "keyvault_gateway_token_left_seconds";
            family(text, name, "gauge", "How long the token of this instance can still be used.")?;
            writeln!(text, "{name} {}", left.as_secs())?;
        }
        Ok(())
    }
}

impl Requests {
    const fn of(&self, cache: Option<CacheOutcome>) -> &Histogram {
        match cache {
            Some(CacheOutcome::Hit) => &self.hit,
            Some(CacheOutcome::Miss) => &self.miss,
            Some(CacheOutcome::Expired) => &self.expired,
            Some(CacheOutcome::Request) => &self.request,
            Some(CacheOutcome::ServedStale) => &self.served_stale,
            None => &self.none,
        }
    }

    /// The requests that asked the cache.
    fn lookups(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        OUTCOMES.into_iter().map(|outcome| (outcome.name(), self.of(Some(outcome))))
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        self.lookups().chain([("none", &self.none)])
    }
}

impl Calls {
    const fn of(&self, service: Service) -> &(Cell<u64>, Histogram) {
        match service {
            Service::TokenSource => &self.token_source,
            Service::Vault => &self.vault,
            Service::Jwks => &self.jwks,
        }
    }

    const fn all(&self) -> [(&'static str, &(Cell<u64>, Histogram)); 3] {
        [("identity", &self.token_source), ("vault", &self.vault), ("directory", &self.jwks)]
    }
}

impl Histogram {
    /// Runs for every request, so it allocates nothing.
    fn record(&self, duration: Duration) {
        let fits = BUCKETS.iter().zip(&self.buckets).find(|(bucket, _)| duration <= bucket.0);
        add_one(fits.map_or(&self.beyond, |(_, bucket)| bucket));
        self.sum.set(self.sum.get().saturating_add(duration));
    }

    fn count(&self) -> u64 {
        self.buckets.iter().fold(self.beyond.get(), |count, bucket| count.saturating_add(bucket.get()))
    }

    /// The series of this histogram. Prometheus has each bucket hold all that is in the smaller ones, too.
    fn write(&self, text: &mut String, name: &str, label: &str, value: &str) -> std::fmt::Result {
        let mut count: u64 = 0;
        for ((_, le), bucket) in BUCKETS.iter().zip(&self.buckets) {
            count = count.saturating_add(bucket.get());
            writeln!(text, "{name}_bucket{{{label}=\"{value}\",le=\"{le}\"}} {count}")?;
        }
        let (count, sum) = (self.count(), self.sum.get());
        writeln!(text, "{name}_bucket{{{label}=\"{value}\",le=\"+Inf\"}} {count}")?;
        writeln!(text, "{name}_sum{{{label}=\"{value}\"}} {}.{:09}", sum.as_secs(), sum.subsec_nanos())?;
        writeln!(text, "{name}_count{{{label}=\"{value}\"}} {count}")
    }
}

/// Counts one of `kind`, in the order of kinds.
fn count_one<K: Ord + Copy>(counts: &RefCell<Vec<(K, u64)>>, kind: K) {
    let Ok(mut counts) = counts.try_borrow_mut() else { return };
    let index = counts.partition_point(|(known, _)| *known < kind);
    match counts.get_mut(index) {
        Some((known, count)) if *known == kind => *count = count.saturating_add(1),
        Some(_) | None => counts.insert(index, (kind, 1)),
    }
}

fn add_one(count: &Cell<u64>) {
    count.set(count.get().saturating_add(1));
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

/// In the order in which they are written.
const OUTCOMES: [CacheOutcome; 5] = [
    CacheOutcome::Hit,
    CacheOutcome::Miss,
    CacheOutcome::Expired,
    CacheOutcome::Request,
    CacheOutcome::ServedStale,
];

/// The buckets' upper bounds, as durations and as Prometheus 3 writes them, which version 2 leaves as they
/// are.
///
/// Up to a millisecond is what a cached read takes, alone and under load. From there to a quarter of a second
/// are calls to a vault, near and far, and a token call before. The others are times of the gateway itself,
/// for the default deadline of ten seconds: a quarter is the stale wait, half is the limit of one call to the
/// vault, and beyond all of it the deadline is exceeded.
const BUCKETS: [(Duration, &str); 13] = [
    (Duration::from_micros(100), "0.0001"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_millis(1000), "1.0"),
    (Duration::from_millis(2500), "2.5"),
    (Duration::from_millis(5000), "5.0"),
    (Duration::from_millis(10_000), "10.0"),
];

/// The text has some 150 lines of 80 bytes, whatever was counted, so that its buffer need not grow.
const USUAL_TEXT: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn counts() {
        let metrics = Metrics::new();
        for micros in [40, 100, 101] {
            metrics.replied(&Reply::state("ok"), Some(CacheOutcome::Hit), Duration::from_micros(micros));
        }
        metrics.replied(&Reply::error(&Error::NoRoute), None, Duration::from_nanos(1));
        metrics.replied(&Reply::error(&Error::NoRoute), None, Duration::from_secs(11));
        ["OK", "SecretNotFound", "OK"].into_iter().for_each(|code| metrics.item(code));
        metrics.call_started(Service::Vault);
        metrics.call_started(Service::Vault);
        metrics.call_ended(Service::Vault, Duration::from_millis(5));
        let text = metrics.render((3, 900), Some((Duration::from_millis(61_999), Duration::from_secs(3538))));

        assert_eq!(
            without_histograms(&text),
            r#"# HELP keyvault_gateway_requests_total Requests answered by this instance.
# TYPE keyvault_gateway_requests_total counter
keyvault_gateway_requests_total{status="200",code="OK"} 3
keyvault_gateway_requests_total{status="404",code="NotFound"} 2
# HELP keyvault_gateway_items_total Secrets in requests for several, by code.
# TYPE keyvault_gateway_items_total counter
keyvault_gateway_items_total{code="OK"} 2
keyvault_gateway_items_total{code="SecretNotFound"} 1
# HELP keyvault_gateway_request_duration_seconds How long requests took, by cache outcome.
# TYPE keyvault_gateway_request_duration_seconds histogram
# HELP keyvault_gateway_cache_lookups_total Requests for a secret, by cache outcome.
# TYPE keyvault_gateway_cache_lookups_total counter
keyvault_gateway_cache_lookups_total{cache="hit"} 3
keyvault_gateway_cache_lookups_total{cache="miss"} 0
keyvault_gateway_cache_lookups_total{cache="expired"} 0
keyvault_gateway_cache_lookups_total{cache="request"} 0
keyvault_gateway_cache_lookups_total{cache="served-stale"} 0
# HELP keyvault_gateway_cache_values Values in the cache of this instance.
# TYPE keyvault_gateway_cache_values gauge
keyvault_gateway_cache_values 3
# HELP keyvault_gateway_cache_bytes The size of the cached values, in bytes.
# TYPE keyvault_gateway_cache_bytes gauge
keyvault_gateway_cache_bytes 900
# HELP keyvault_gateway_upstream_calls_total Calls that this instance made to Azure.
# TYPE keyvault_gateway_upstream_calls_total counter
keyvault_gateway_upstream_calls_total{upstream="identity"} 0
keyvault_gateway_upstream_calls_total{upstream="vault"} 2
keyvault_gateway_upstream_calls_total{upstream="directory"} 0
# HELP keyvault_gateway_upstream_duration_seconds How long the calls took that have ended.
# TYPE keyvault_gateway_upstream_duration_seconds histogram
# HELP keyvault_gateway_token_age_seconds How long this instance has had its token for the vault.
# TYPE keyvault_gateway_token_age_seconds gauge
keyvault_gateway_token_age_seconds 61
# HELP keyvault_gateway_token_left_seconds How long the token of this instance can still be used.
# TYPE keyvault_gateway_token_left_seconds gauge
keyvault_gateway_token_left_seconds 3538
"#
        );
        assert_eq!(
            histogram(&text, "keyvault_gateway_request_duration_seconds", "cache=\"hit\""),
            r#"_bucket{cache="hit",le="0.0001"} 2
_bucket{cache="hit",le="0.001"} 3
_bucket{cache="hit",le="0.005"} 3
_bucket{cache="hit",le="0.01"} 3
_bucket{cache="hit",le="0.025"} 3
_bucket{cache="hit",le="0.05"} 3
_bucket{cache="hit",le="0.1"} 3
_bucket{cache="hit",le="0.25"} 3
_bucket{cache="hit",le="0.5"} 3
_bucket{cache="hit",le="1.0"} 3
_bucket{cache="hit",le="2.5"} 3
_bucket{cache="hit",le="5.0"} 3
_bucket{cache="hit",le="10.0"} 3
_bucket{cache="hit",le="+Inf"} 3
_sum{cache="hit"} 0.000241000
_count{cache="hit"} 3
"#
        );
        assert_eq!(
            histogram(&text, "keyvault_gateway_request_duration_seconds", "cache=\"none\""),
            r#"_bucket{cache="none",le="0.0001"} 1
_bucket{cache="none",le="0.001"} 1
_bucket{cache="none",le="0.005"} 1
_bucket{cache="none",le="0.01"} 1
_bucket{cache="none",le="0.025"} 1
_bucket{cache="none",le="0.05"} 1
_bucket{cache="none",le="0.1"} 1
_bucket{cache="none",le="0.25"} 1
_bucket{cache="none",le="0.5"} 1
_bucket{cache="none",le="1.0"} 1
_bucket{cache="none",le="2.5"} 1
_bucket{cache="none",le="5.0"} 1
_bucket{cache="none",le="10.0"} 1
_bucket{cache="none",le="+Inf"} 2
_sum{cache="none"} 11.000000001
_count{cache="none"} 2
"#
        );
        assert_eq!(
            histogram(&text, "keyvault_gateway_upstream_duration_seconds", "upstream=\"vault\""),
            r#"_bucket{upstream="vault",le="0.0001"} 0
_bucket{upstream="vault",le="0.001"} 0
_bucket{upstream="vault",le="0.005"} 1
_bucket{upstream="vault",le="0.01"} 1
_bucket{upstream="vault",le="0.025"} 1
_bucket{upstream="vault",le="0.05"} 1
_bucket{upstream="vault",le="0.1"} 1
_bucket{upstream="vault",le="0.25"} 1
_bucket{upstream="vault",le="0.5"} 1
_bucket{upstream="vault",le="1.0"} 1
_bucket{upstream="vault",le="2.5"} 1
_bucket{upstream="vault",le="5.0"} 1
_bucket{upstream="vault",le="10.0"} 1
_bucket{upstream="vault",le="+Inf"} 1
_sum{upstream="vault"} 0.005000000
_count{upstream="vault"} 1
"#
        );
    }

    #[test]
    fn each_outcome_has_a_histogram_of_its_own() {
        let metrics = Metrics::new();
        for (times, cache) in OUTCOMES.into_iter().map(Some).chain([None]).enumerate() {
            for _ in 0..=times {
                metrics.replied(&Reply::state("ok"), cache, Duration::ZERO);
            }
        }
        let counts: Vec<_> =
            metrics.requests.all().map(|(outcome, histogram)| (outcome, histogram.count())).collect();
        let expected =
            [("hit", 1), ("miss", 2), ("expired", 3), ("request", 4), ("served-stale", 5), ("none", 6)];
        assert_eq!(counts, expected);
    }

    #[test]
    fn each_upstream_has_a_histogram_of_its_own() {
        let metrics = Metrics::new();
        for (times, upstream) in [(1, Service::TokenSource), (2, Service::Vault), (3, Service::Jwks)] {
            for _ in 0..times {
                metrics.call_ended(upstream, Duration::ZERO);
            }
        }
        let counts = metrics.calls.all().map(|(upstream, (_, ended))| (upstream, ended.count()));
        assert_eq!(counts, [("identity", 1), ("vault", 2), ("directory", 3)]);
    }

    #[test]
    fn buckets_grow_and_are_called_what_they_are() {
        assert!(BUCKETS.is_sorted_by(|one, next| one.0 < next.0));
        for (bound, le) in BUCKETS {
            assert_eq!(format!("{:?}", bound.as_secs_f64()), le);
        }
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_that_it_fits_in() {
        for (index, (bound, _)) in BUCKETS.into_iter().enumerate() {
            let histogram = Histogram::default();
            histogram.record(bound);
            histogram.record(bound + Duration::from_nanos(1));
            assert_eq!(histogram.buckets[index].get(), 1);
            assert_eq!(histogram.buckets.get(index + 1).unwrap_or(&histogram.beyond).get(), 1);
        }
    }

    #[test]
    fn says_nothing_of_a_token_where_there_is_none() {
        assert!(!Metrics::new().render((0, 0), None).contains("token"));
    }

    #[test]
    fn the_text_fits_into_its_buffer() {
        let metrics = Metrics::new();
        metrics.replied(&Reply::state("ok"), None, Duration::MAX);
        let text = metrics.render((usize::MAX, usize::MAX), Some((Duration::MAX, Duration::MAX)));
        assert!((USUAL_TEXT / 2..USUAL_TEXT - 2048).contains(&text.len()), "{}", text.len());
    }

    fn without_histograms(text: &str) -> String {
        let is_histogram = |line: &&str| !line.starts_with('#') && line.contains("_duration_seconds_");
        text.lines().filter(|line| !is_histogram(line)).map(|line| format!("{line}\n")).collect()
    }

    /// The lines of one histogram, without the name of its family.
    fn histogram(text: &str, name: &str, label: &str) -> String {
        let lines =
            text.lines().filter_map(|line| line.strip_prefix(name)).filter(|line| line.contains(label));
        lines.map(|line| format!("{line}\n")).collect()
    }
}
