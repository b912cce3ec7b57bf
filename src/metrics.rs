//! What this instance has done so far, as Prometheus text.

use core::cell::{Cell, RefCell};
use core::fmt::Write as _;
use std::collections::BTreeMap;

use crate::azure::Upstream;
use crate::reply::Reply;

/// Counts, which start with the instance and end with it. No label is a name that a caller chose.
#[derive(Debug, Default)]
pub struct Metrics {
    replies: RefCell<BTreeMap<(u16, &'static str), u64>>,
    lookups: RefCell<BTreeMap<&'static str, u64>>,
    identity_calls: Cell<u64>,
    vault_calls: Cell<u64>,
    directory_calls: Cell<u64>,
}

impl Metrics {
    /// Counts that start at zero.
    pub const fn new() -> Self {
        Self {
            replies: RefCell::new(BTreeMap::new()),
            lookups: RefCell::new(BTreeMap::new()),
            identity_calls: Cell::new(0),
            vault_calls: Cell::new(0),
            directory_calls: Cell::new(0),
        }
    }

    /// Counts an answer.
    pub fn replied(&self, reply: &Reply) {
        if let Ok(mut replies) = self.replies.try_borrow_mut() {
            let count = replies.entry((reply.status().as_u16(), reply.code())).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Counts a look into the cache; `found` is the word for what came of it.
    pub fn looked_up(&self, found: &'static str) {
        if let Ok(mut lookups) = self.lookups.try_borrow_mut() {
            let count = lookups.entry(found).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Counts a call.
    pub fn called(&self, upstream: Upstream) {
        let calls = match upstream {
            Upstream::Identity => &self.identity_calls,
            Upstream::Vault => &self.vault_calls,
            Upstream::Directory => &self.directory_calls,
        };
        calls.set(calls.get().saturating_add(1));
    }

    /// The counts in Prometheus' text format, with the number of values in memory and the bytes that they take.
    pub fn render(&self, (values, bytes): (usize, usize)) -> String {
        let mut text = String::from(
            "# HELP keyvault_gateway_requests_total Requests answered by this instance.\n\
             # TYPE keyvault_gateway_requests_total counter\n",
        );
        if let Ok(replies) = self.replies.try_borrow() {
            for ((status, code), count) in &*replies {
                let _ = writeln!(
                    text,
                    "keyvault_gateway_requests_total{{status=\"{status}\",code=\"{code}\"}} {count}"
                );
            }
        }
        text.push_str(
            "# HELP keyvault_gateway_cache_lookups_total Requests for a secret, by how they were answered.\n\
             # TYPE keyvault_gateway_cache_lookups_total counter\n",
        );
        if let Ok(lookups) = self.lookups.try_borrow() {
            for (found, count) in &*lookups {
                let _ = writeln!(text, "keyvault_gateway_cache_lookups_total{{found=\"{found}\"}} {count}");
            }
        }
        let _ = write!(
            text,
            "# HELP keyvault_gateway_cache_values Values in the memory of this instance.\n\
             # TYPE keyvault_gateway_cache_values gauge\n\
             keyvault_gateway_cache_values {values}\n\
             # HELP keyvault_gateway_cache_bytes What they take, in bytes.\n\
             # TYPE keyvault_gateway_cache_bytes gauge\n\
             keyvault_gateway_cache_bytes {bytes}\n\
             # HELP keyvault_gateway_upstream_calls_total Calls that this instance made to Azure.\n\
             # TYPE keyvault_gateway_upstream_calls_total counter\n\
             keyvault_gateway_upstream_calls_total{{upstream=\"identity\"}} {}\n\
             keyvault_gateway_upstream_calls_total{{upstream=\"vault\"}} {}\n\
             keyvault_gateway_upstream_calls_total{{upstream=\"directory\"}} {}\n",
            self.identity_calls.get(),
            self.vault_calls.get(),
            self.directory_calls.get(),
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn counts() {
        let metrics = Metrics::new();
        metrics.replied(&Reply::state("ok"));
        metrics.replied(&Reply::error(&Error::NoRoute));
        metrics.replied(&Reply::error(&Error::NoRoute));
        metrics.looked_up("hit");
        metrics.called(Upstream::Vault);
        assert_eq!(
            metrics.render((3, 900)),
            r#"# HELP keyvault_gateway_requests_total Requests answered by this instance.
# TYPE keyvault_gateway_requests_total counter
keyvault_gateway_requests_total{status="200",code="OK"} 1
keyvault_gateway_requests_total{status="404",code="NotFound"} 2
# HELP keyvault_gateway_cache_lookups_total Requests for a secret, by how they were answered.
# TYPE keyvault_gateway_cache_lookups_total counter
keyvault_gateway_cache_lookups_total{found="hit"} 1
# HELP keyvault_gateway_cache_values Values in the memory of this instance.
# TYPE keyvault_gateway_cache_values gauge
keyvault_gateway_cache_values 3
# HELP keyvault_gateway_cache_bytes What they take, in bytes.
# TYPE keyvault_gateway_cache_bytes gauge
keyvault_gateway_cache_bytes 900
# HELP keyvault_gateway_upstream_calls_total Calls that this instance made to Azure.
# TYPE keyvault_gateway_upstream_calls_total counter
keyvault_gateway_upstream_calls_total{upstream="identity"} 0
keyvault_gateway_upstream_calls_total{upstream="vault"} 1
keyvault_gateway_upstream_calls_total{upstream="directory"} 0
"#
        );
    }
}
