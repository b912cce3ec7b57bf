//! The `Cache-Status` of a response (RFC 9211), and what the log and the metrics call it.

/// How an answer came about (RFC 9211, "The Cache-Status HTTP Response Header Field").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Why Azure was asked, if it was.
    pub forwarded: Option<Forwarded>,
    /// The seconds for which what is answered from memory is good, negative once that is over.
    pub ttl: Option<i64>,
    /// Whether another request's call answered this one, too.
    pub collapsed: bool,
    /// Whether Azure had nothing better to offer, so that memory had to do.
    pub failed: bool,
}

/// Why Azure was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// There was nothing in memory.
    Miss,
    /// The cached value was expired.
    Expired,
    /// The caller wanted it.
    Request,
}

/// What came of looking for a secret in memory, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// It was there.
    Hit,
    /// It was not, so Azure was asked.
    Miss,
    /// It was past its time, so Azure was asked.
    Expired,
    /// The caller wanted Azure to be asked.
    Request,
    /// An expired value was served, since Azure failed.
    ServedStale,
}

impl CacheStatus {
    /// The status of a response from the cache, which is good for `ttl` seconds.
    pub const fn hit(ttl: i64) -> Self {
        Self { forwarded: None, ttl: Some(ttl), collapsed: false, failed: false }
    }

    /// The status of a response for which Azure was called, by this request or by the one that it waited for.
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

    /// What it comes to.
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
    /// The word for it in a log line and in the metrics.
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
