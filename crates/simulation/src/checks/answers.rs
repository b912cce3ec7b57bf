//! The invariants of a reply.

use std::time::Duration;

use keyvault_gateway::error::Service;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::jwks::FETCH_PAUSE;
use keyvault_gateway::model::MIN_CALL_TIME;

use super::{CallRecord, Checks, LEAST_SPENDING, Request, Value};
use crate::azure::{Issuer, MARKER, Target, name};
use crate::fleet::{requested_name, requested_version, visible};
use crate::plan::{Caller, PlannedRequest};

impl Checks {
    pub fn request_answered(&mut self, number: usize, reply: &Reply, now: Duration) {
        let status = reply.status().as_u16();
        let field = |name: &str| reply.headers().first(name).unwrap_or_default();
        let cache = field("cache-status").to_owned();
        self.event(
            now,
            format_args!("reply {number}: {status} {} age {} {cache}", reply.code(), field("age")),
        );
        let Request { instance, plan, start, key_rotations, .. } = self.requests[number];
        self.requests[number].ended = true;
        self.count(reply.code());

        self.expect(!visible(reply).contains(MARKER), "no leak", || visible(reply));
        if plan.also.is_some() {
            return self.items(instance, &plan, start, reply, now);
        }
        let has_credential = matches!(plan.caller, Caller::AllSecrets | Caller::EvenSecrets)
            || issuer_of(plan.caller).is_some();
        let budget_spent = status == 429 && cache.is_empty() && has_credential && {
            let requests = self.requests_by_caller.get(&(instance, plan.caller)).copied().unwrap_or_default();
            requests >= LEAST_SPENDING
        };
        if budget_spent {
            self.count("budget spent");
        }
        let normal = status == 200 && !cache.contains("detail=failed");
        let isolated = self.plan.isolation && plan.caller == Caller::AllSecrets;
        self.expect(normal || !isolated, "isolation", || format!("{status} {} {cache}", reply.code()));
        let documented = plan.caller == Caller::Readiness || DOCUMENTED.contains(&(status, reply.code()));
        self.expect(documented, "documented", || format!("{status} {}", reply.code()));
        self.expect(status != 503 || !field("retry-after").is_empty(), "documented", || {
            "no Retry-After".into()
        });
        self.expect(now <= start + self.deadline, "deadline", || format!("{:?} late", now - start));
        // A request with too little time for a call does not wait for its deadline. A late body has its own
        // limit.
        let late_body = !plan.body_delay.is_zero();
        let timely = status != 504 || late_body || now + MIN_CALL_TIME >= start + self.deadline;
        self.expect(timely, "deadline", || format!("Timeout after {:?}", now - start));

        let allowed = match plan.caller {
            Caller::WrongKey => matches!(status, 401 | 429),
            Caller::Readiness => matches!(status, 200 | 503),
            Caller::AllSecrets | Caller::EvenSecrets | Caller::AccessToken | Caller::ServiceAccount
                if budget_spent =>
            {
                true
            }
            Caller::ForgedToken { .. } | Caller::MixedToken(_) => matches!(status, 401 | 429 | 502..=504),
            // A signing key that was not published at the last fetch stays unknown for a while. A key that
            // was withdrawn while the request waited is not trusted.
            Caller::AccessToken | Caller::ServiceAccount if matches!(status, 401 | 429) => {
                self.count("new signing key unknown");
                let jwks = issuer_of(plan.caller).and_then(|issuer| self.jwks.get(&(instance, issuer)));
                jwks.is_some_and(|(known, received_at)| {
                    key_rotations > known + 1 && now <= *received_at + FETCH_PAUSE
                        || key_rotations + 1 < *known
                })
            }
            Caller::AccessToken | Caller::ServiceAccount => reply.code() != "Forbidden",
            Caller::EvenSecrets if !plan.secret.is_multiple_of(2) => {
                (status, reply.code()) == (403, "Forbidden")
            }
            Caller::Metrics => status == 200,
            Caller::AllSecrets | Caller::EvenSecrets => {
                !matches!(status, 401 | 429) && reply.code() != "Forbidden"
            }
        };
        self.expect(allowed, "scope", || format!("{status} {}", reply.code()));

        self.stale_if_error(instance, &plan, reply, now);
        if status == 200 && plan.caller == Caller::AccessToken {
            self.count("access token accepted");
        }
        if status == 401 && matches!(plan.caller, Caller::MixedToken(_)) {
            self.count("mixed token refused");
        }
        if status == 200 && plan.caller == Caller::ServiceAccount {
            self.count("service account accepted");
        }
        if status == 504 && !late_body {
            self.timeout(instance, &plan, start, now);
        }
        if status == 200 && !matches!(plan.caller, Caller::Metrics | Caller::Readiness) {
            self.value(instance, &plan, start, reply, &cache, now);
        }
        let reads_all = plan.caller == Caller::AllSecrets || issuer_of(plan.caller).is_some();
        let must_recover = reads_all && start >= self.plan.faults_end + self.plan.recovery;
        self.expect(normal || !must_recover, "recovery", || format!("{status} {} {cache}", reply.code()));
        if cache.contains("collapsed") {
            self.count("collapsed");
        }
        if cache.contains("hit") && status == 404 {
            self.count("negative cache hit");
        }
    }

    fn stale_if_error(&mut self, instance: usize, plan: &PlannedRequest, reply: &Reply, now: Duration) {
        let key = (instance, Target::Secret(name(plan.secret), requested_version(plan)));
        let Some(history) = self.histories.get(&key) else { return };
        let last = history.values.last();
        let last = last.filter(|value| history.denied_at.is_none_or(|denied| denied < value.received_at));
        let usable = last.is_some_and(|value| now < value.fetched_at + self.ttl - self.ttl / 10 + self.stale);
        let reads = plan.caller == Caller::AllSecrets && plan.made_up_version.is_none();
        let held = reads && usable && self.cache_holds_all && plan.body_delay.is_zero();
        let token_refused = history.token_refused;
        // A request with `no-cache` gets a cached value only if Azure is unreachable or refuses the token.
        let failed = (reply.status() == 503 || reply.status() == 504) && !plan.no_cache;
        self.expect(!failed || !held, "stale-if-error", || format!("{key:?} {}", reply.code()));
        if held && token_refused && reply.status() == 200 {
            self.count("kept after a 401");
        }
    }

    fn timeout(&mut self, instance: usize, plan: &PlannedRequest, start: Duration, now: Duration) {
        let target = Target::Secret(name(plan.secret), requested_version(plan));
        let history = self.histories.get(&(instance, target.clone()));
        let settled_at = history.and_then(|history| history.settled_at);
        let Some(settled_at) = settled_at.filter(|at| *at >= start && *at < now) else { return };
        let waited_for = |call: &CallRecord| {
            let relevant = call.target == target || !matches!(call.target, Target::Secret(..));
            call.instance == instance && relevant && call.ended.is_none_or(|ended| ended > settled_at)
        };
        let jwks = issuer_of(plan.caller).map(|issuer| (Service::Jwks, Some(issuer)));
        let mut parties = [Some((Service::Vault, None)), jwks].into_iter().flatten();
        let backs_off = parties
            .any(|party| self.backoff_until.get(&(instance, party)).is_some_and(|until| *until > settled_at));
        let cause = backs_off || self.calls.iter().any(waited_for);
        self.expect(cause, "timeout has a cause", || format!("last answer {:?} before", now - settled_at));
    }

    fn value(
        &mut self,
        instance: usize,
        plan: &PlannedRequest,
        start: Duration,
        reply: &Reply,
        cache: &str,
        now: Duration,
    ) {
        let field = |name: &str| reply.headers().first(name).unwrap_or_default();
        let age = field("age").parse::<u64>().unwrap_or(u64::MAX);
        let key = (instance, Target::Secret(name(plan.secret), requested_version(plan)));
        let body = String::from_utf8_lossy(reply.body().expose()).into_owned();
        let history = self.histories.get(&key);
        let is_served = |value: &&Value| {
            let expected = serde_json::json!({"Secret": requested_name(plan), "Value": value.value});
            (now - value.fetched_at).as_secs() == age
                && field("etag").trim_matches('"') == value.version
                && serde_json::from_str::<serde_json::Value>(&body).is_ok_and(|body| body == expected)
        };
        let served = history.and_then(|history| history.values.iter().rev().find(is_served));
        let denied_at = history.and_then(|history| history.denied_at);
        let Some((fetched_at, received_at)) = served.map(|value| (value.fetched_at, value.received_at))
        else {
            self.expect(false, "value of the vault", || format!("{key:?} {age} {} {body}", field("etag")));
            return;
        };
        let valid = denied_at.is_none_or(|denied_at| received_at >= denied_at);
        self.expect(valid, "denial evicts", || format!("{key:?}"));

        let longest_ttl = self.ttl + self.ttl / 10;
        let old = now - fetched_at;
        let failed = cache.contains("detail=failed");
        let ttl = cache.split("ttl=").nth(1).and_then(|rest| rest.split(';').next()?.parse::<i64>().ok());
        let expired = ttl.is_some_and(|seconds| seconds < 0);
        let forwarded = cache.contains("fwd=") && !failed;
        // A value that this request has fetched is at most as old as the request.
        let most = if expired {
            longest_ttl + self.stale
        } else if forwarded {
            self.deadline
        } else {
            longest_ttl
        };
        let least = if expired { self.ttl - self.ttl / 10 } else { Duration::ZERO };
        let flagged = !expired || failed;
        self.expect(least <= old && old <= most && flagged, "age limit", || format!("{old:?} {cache}"));
        let fresh = failed || !plan.no_cache || fetched_at + Duration::from_secs(1) >= start;
        self.expect(fresh, "no-cache is fresh", || format!("fetched {:?} before", start - fetched_at));

        match (failed, expired, plan.no_cache, forwarded) {
            (true, true, ..) => self.count("served stale"),
            (true, false, ..) => self.count("served while Azure fails"),
            (false, _, true, false) => self.count("no-cache limited"),
            (false, _, true, true) => self.count("no-cache fetched"),
            (false, _, false, false) => self.count("hit"),
            (false, _, false, true) => self.count("miss"),
        }
    }
}

/// The issuer of a caller's valid token, if it has one.
const fn issuer_of(caller: Caller) -> Option<Issuer> {
    match caller {
        Caller::AccessToken => Some(Issuer::Tenant),
        Caller::ServiceAccount => Some(Issuer::Cluster),
        Caller::AllSecrets
        | Caller::EvenSecrets
        | Caller::WrongKey
        | Caller::MixedToken(_)
        | Caller::ForgedToken { .. }
        | Caller::Metrics
        | Caller::Readiness => None,
    }
}

pub(super) const DOCUMENTED: [(u16, &str); 13] = [
    (200, "OK"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (403, "SecretDisabled"),
    (403, "VaultAccessDenied"),
    (404, "SecretNotFound"),
    (429, "TooManyRequests"),
    (502, "IdentityError"),
    (502, "VaultError"),
    (503, "IdentityThrottled"),
    (503, "Unavailable"),
    (503, "VaultThrottled"),
    (504, "Timeout"),
];
