//! The `Cache-Status` of a response (RFC 9211), and what the log and the metrics call it.

/// Where a response comes from (RFC 9211, "The Cache-Status HTTP Response Header Field").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Why Azure was called, if it was.
    pub forwarded: Option<Forwarded>,
    /// The seconds until the cached value expires, negative after that.
    pub ttl: Option<i64>,
    /// Whether the request shared the call of another one (single-flight).
    pub collapsed: bool,
    /// Whether the value was served stale, as Azure failed.
    pub failed: bool,
}

/// Why Azure was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache had no value.
    Miss,
    /// The cached value was expired.
    Expired,
    /// The caller requested a refresh.
    Request,
}

/// The outcome of the cache lookup, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The cache had a value.
    Hit,
    /// The cache had no value, so Azure was called.
    Miss,
    /// The cached value was expired, so Azure was called.
    Expired,
    /// The caller requested a refresh, so Azure was called.
    Request,
    /// An expired value was served, as Azure failed (stale-if-error).
    ServedStale,
}

impl CacheStatus {
    /// The status of a response from the cache, whose value expires in `ttl` seconds.
    pub const fn hit(ttl: i64) -> Self {
        Self { forwarded: None, ttl: Some(ttl), collapsed: false, failed: false }
    }

    /// The status of a response for which Azure was called, by this request or by the leader that it waited
    /// for.
    pub const fn forwarded(reason: Forwarded, collapsed: bool) -> Self {
        Self { forwarded: Some(reason), ttl: None, collapsed, failed: false }
    }

    /// The value of the `Cache-Status` field.
    pub(crate) fn field(self) -> String {
        let mut text = String::from("keyvault-gateway");
        text.push_str(match self.forwarded {
            None => "; hit",
            Some(Forwarded::Miss) => "; fwd=miss",
            Some(Forwarded::Expired) => "; fwd=stale",
            Some(Forwarded::Request) => "; fwd=request",
        });
        if let Some(ttl) = self.ttl {
            text.push_str("; ttl=");
            text.push_str(&ttl.to_string());
        }
        text.push_str(if self.collapsed { "; collapsed" } else { "" });
        text.push_str(if self.failed { "; detail=failed" } else { "" });
        text
    }

    /// The outcome, for the log and the metrics.
    pub const fn outcome(self) -> CacheOutcome {
        match self {
            Self { failed: true, .. } => CacheOutcome::ServedStale,
            Self { forwarded: None, .. } => CacheOutcome::Hit,
            Self { forwarded: Some(Forwarded::Miss), .. } => CacheOutcome::Miss,
            Self { forwarded: Some(Forwarded::Expired), .. } => CacheOutcome::Expired,
            Self { forwarded: Some(Forwarded::Request), .. } => CacheOutcome::Request,
        }
    }
}

impl CacheOutcome {
    /// The word for the log and the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Expired => "expired",
            Self::Request => "request",
            Self::ServedStale => "served-stale",
        }
    }
}
