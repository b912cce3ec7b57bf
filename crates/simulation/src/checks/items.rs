//! The invariants of a reply with several secrets.

use std::time::Duration;

use keyvault_gateway::http::response::Reply;

use super::answers::DOCUMENTED;
use super::{Checks, LEAST_SPENDING};
use crate::azure::{Target, name};
use crate::fleet::requested_name;
use crate::plan::{Caller, PlannedRequest};

impl Checks {
    pub(super) fn items(
        &mut self,
        instance: usize,
        plan: &PlannedRequest,
        start: Duration,
        reply: &Reply,
        now: Duration,
    ) {
        self.count("several secrets");
        self.expect(now <= start + self.deadline, "deadline", || format!("{:?} late", now - start));
        let body: serde_json::Value = serde_json::from_slice(reply.body().expose()).unwrap_or_default();
        let entries = body["Secrets"].as_array().cloned().unwrap_or_default();
        let secrets: Vec<_> = std::iter::once(plan.secret).chain(plan.also.into_iter().flatten()).collect();
        let is_whole = reply.status() == 200 && entries.len() == secrets.len();
        self.expect(is_whole, "each item", || format!("{} {body}", reply.status()));
        let mut needs_pause = false;
        for (index, (secret, entry)) in secrets.into_iter().zip(&entries).enumerate() {
            let asked = if index == 0 { requested_name(plan) } else { name(secret) };
            self.expect(entry["Secret"] == asked, "each item", || format!("{entry}"));
            let code = entry["Error"]["code"].as_str();
            let in_scope = plan.caller != Caller::EvenSecrets || secret.is_multiple_of(2);
            self.expect(in_scope == (code != Some("Forbidden")), "scope", || format!("{entry}"));
            match code {
                None => self.item_value(instance, secret, entry, start, now),
                Some(code) => self.item_error(instance, plan, code),
            }
            let code = code.unwrap_or("OK");
            needs_pause |=
                ["Unavailable", "VaultThrottled", "IdentityThrottled", "TooManyRequests"].contains(&code);
            let must_recover =
                plan.caller == Caller::AllSecrets && start >= self.plan.faults_end + self.plan.recovery;
            self.expect(code == "OK" || !must_recover, "recovery", || format!("{entry}"));
        }
        let has_pause = reply.headers().has("retry-after");
        self.expect(has_pause == needs_pause, "documented", || format!("Retry-After {has_pause} {body}"));
    }

    /// An item may have been found long before the last one, and so before a denial that another request got.
    fn item_value(
        &mut self,
        instance: usize,
        secret: usize,
        entry: &serde_json::Value,
        start: Duration,
        now: Duration,
    ) {
        let history = self.histories.get(&(instance, Target::Secret(name(secret), None)));
        let values = history.into_iter().flat_map(|history| history.values.iter().rev());
        let served = values
            .into_iter()
            .find(|value| entry["Value"] == value.value && entry["Details"]["Version"] == value.version);
        let denied_at = history.and_then(|history| history.denied_at);
        let served = served.map(|value| (value.fetched_at, value.received_at));
        let is_known = served.is_some();
        let is_denied =
            served.zip(denied_at).is_some_and(|(value, denied_at)| value.1 < denied_at && denied_at < start);
        let oldest = self.ttl + self.ttl / 10 + self.stale + self.deadline;
        let is_old = served.is_some_and(|value| now - value.0 > oldest);
        self.expect(is_known, "value of the vault", || format!("{entry}"));
        self.expect(!is_denied, "denial evicts", || format!("{entry}"));
        self.expect(!is_old, "age limit", || format!("{entry}"));
    }

    fn item_error(&mut self, instance: usize, plan: &PlannedRequest, code: &str) {
        let is_known = DOCUMENTED.iter().any(|(_, known)| *known == code) && code != "Unauthorized";
        self.expect(is_known, "documented", || code.to_owned());
        let requests = self.requests_by_caller.get(&(instance, plan.caller)).copied().unwrap_or_default();
        let is_spent = code != "TooManyRequests" || requests >= LEAST_SPENDING;
        self.expect(is_spent, "scope", || format!("{code} after {requests}"));
    }
}
