//! The invariants of an answer.

use core::time::Duration;

use keyvault_gateway::client::LEAST_TIME;
use keyvault_gateway::error::Service;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::jwks::ASK_PAUSE;

use super::{Checks, LEAST_SPENDING, Request, Sent, Value};
use crate::fleet::{asked_name, asked_version, visible};
use crate::plan::{Ask, Caller};
use crate::world::{MARKER, Wish, name};

impl Checks {
    pub fn answered(&mut self, number: usize, reply: &Reply, now: Duration) {
        let status = reply.status().as_u16();
        let field = |name: &str| reply.fields().first(name).unwrap_or_default();
        let cache = field("cache-status").to_owned();
        self.event(
            now,
            format_args!("answer {number}: {status} {} age {} {cache}", reply.code(), field("age")),
        );
        let Request { instance, ask, start, rotations, .. } = self.requests[number];
        self.requests[number].over = true;
        self.count(reply.code());

        self.expect(!visible(reply).contains(MARKER), "nothing shows", || visible(reply));
        let keyed = matches!(ask.caller, Caller::All | Caller::Even | Caller::Bearer);
        let spent = status == 429 && cache.is_empty() && keyed && {
            let requests = self.spending.get(&(instance, ask.caller)).copied().unwrap_or_default();
            requests >= LEAST_SPENDING
        };
        if spent {
            self.count("budget spent");
        }
        let alone = status == 200 && !cache.contains("detail=failed");
        let others = self.undisturbed && ask.caller == Caller::All;
        self.expect(alone || !others, "undisturbed", || format!("{status} {} {cache}", reply.code()));
        let documented = ask.caller == Caller::Probe || DOCUMENTED.contains(&(status, reply.code()));
        self.expect(documented, "documented", || format!("{status} {}", reply.code()));
        self.expect(status != 503 || !field("retry-after").is_empty(), "documented", || {
            "no Retry-After".into()
        });
        self.expect(now <= start + self.deadline, "deadline", || format!("{:?} late", now - start));
        // Who has less left than a call needs does not wait for the end.
        // A late body has its own limit.
        let late = !ask.late.is_zero();
        let timely = status != 504 || late || now + LEAST_TIME >= start + self.deadline;
        self.expect(timely, "deadline", || format!("Timeout after {:?}", now - start));

        let allowed = match ask.caller {
            Caller::Nobody => matches!(status, 401 | 429),
            Caller::Probe => matches!(status, 200 | 503),
            Caller::All | Caller::Even | Caller::Bearer if spent => true,
            Caller::Forger { .. } => matches!(status, 401 | 429 | 502..=504),
            // A key that was not published when the instance last asked is unknown to it for a while, and one that was
            // withdrawn while a request waited is not believed.
            Caller::Bearer if matches!(status, 401 | 429) => {
                self.count("new key unknown");
                let keys = self.keys.get(&instance);
                keys.is_some_and(|it| rotations > it.0 + 1 && now <= it.2 + ASK_PAUSE || rotations + 1 < it.0)
            }
            Caller::Bearer => reply.code() != "Forbidden",
            Caller::Even if !ask.secret.is_multiple_of(2) => (status, reply.code()) == (403, "Forbidden"),
            Caller::Metrics => status == 200,
            Caller::All | Caller::Even => !matches!(status, 401 | 429) && reply.code() != "Forbidden",
        };
        self.expect(allowed, "scope", || format!("{status} {}", reply.code()));

        self.nothing_is_taken_away(instance, &ask, reply, now);
        if status == 200 && ask.caller == Caller::Bearer {
            self.count("bearer served");
        }
        if status == 504 && !late {
            self.timeout(instance, &ask, start, now);
        }
        if status == 200 && !matches!(ask.caller, Caller::Metrics | Caller::Probe) {
            self.value(instance, &ask, start, reply, &cache, now);
        }
        let normal = status == 200 && !cache.contains("detail=failed");
        let should =
            matches!(ask.caller, Caller::All | Caller::Bearer) && start >= self.healed + self.recovery;
        self.expect(normal || !should, "recovery", || format!("{status} {} {cache}", reply.code()));
        if cache.contains("collapsed") {
            self.count("collapsed");
        }
        if cache.contains("hit") && status == 404 {
            self.count("remembered 404");
        }
    }

    fn nothing_is_taken_away(&mut self, instance: usize, ask: &Ask, reply: &Reply, now: Duration) {
        let key = (instance, Wish::Secret(name(ask.secret), asked_version(ask)));
        let Some(given) = self.given.get(&key) else { return };
        let reads = ask.caller == Caller::All && ask.made_up.is_none();
        let last = given.values.last().filter(|it| given.no.is_none_or(|no| no < it.came));
        let lasts = last.is_some_and(|it| now < it.asked + self.ttl - self.ttl / 10 + self.stale);
        let (held, refused) = (reads && lasts && self.roomy && ask.late.is_zero(), given.not_accepted);
        // Who wants a fresh value gets an old one only where Azure cannot be reached, or cannot tell.
        let failed = reply.status() == 503 || reply.status() == 504;
        let (code, fresh) = (reply.code(), ask.no_cache);
        self.expect(!failed || !held || fresh, "nothing is taken away", || format!("{key:?} {code}"));
        if held && refused && reply.status() == 200 {
            self.count("kept through a 401");
        }
    }

    fn timeout(&mut self, instance: usize, ask: &Ask, start: Duration, now: Duration) {
        let pinned = asked_version(ask);
        let wish = Wish::Secret(name(ask.secret), pinned);
        let settled = self.given.get(&(instance, wish.clone())).and_then(|it| it.settled);
        let Some(settled) = settled.filter(|it| *it >= start && *it < now) else { return };
        let ours = |it: &Sent| {
            it.instance == instance && (it.wish == wish || matches!(it.wish, Wish::Token | Wish::Keys))
        };
        let since = |it: &Sent| ours(it) && (it.under_way || it.ended > settled);
        let paused = self.pauses.get(&(instance, Service::Vault)).is_some_and(|it| *it > settled);
        let reason = paused || self.calls.iter().any(since);
        self.expect(reason, "nobody waits for nothing", || {
            format!("all was said {:?} before", now - settled)
        });
    }

    fn value(
        &mut self,
        instance: usize,
        ask: &Ask,
        start: Duration,
        reply: &Reply,
        cache: &str,
        now: Duration,
    ) {
        let field = |name: &str| reply.fields().first(name).unwrap_or_default();
        let age = field("age").parse::<u64>().unwrap_or(u64::MAX);
        let pinned = asked_version(ask);
        let key = (instance, Wish::Secret(name(ask.secret), pinned));
        let body = String::from_utf8_lossy(reply.body().expose()).into_owned();
        let given = self.given.get(&key);
        let right = |it: &&Value| {
            let expected = serde_json::json!({"Secret": asked_name(ask), "Value": it.value});
            (now - it.asked).as_secs() == age
                && field("etag").trim_matches('"') == it.version
                && serde_json::from_str::<serde_json::Value>(&body).is_ok_and(|it| it == expected)
        };
        let found = given.and_then(|it| it.values.iter().rev().find(right)).map(|it| (it.asked, it.came));
        let no = given.and_then(|it| it.no);
        let Some((asked, came)) = found else {
            self.expect(false, "the vault's own value", || format!("{key:?} {age} {} {body}", field("etag")));
            return;
        };
        self.expect(no.is_none_or(|it| came >= it), "a no is final", || format!("{key:?}"));

        let fresh = self.ttl + self.ttl / 10;
        let old = now - asked;
        let failed = cache.contains("detail=failed");
        let ttl = cache.split("ttl=").nth(1).and_then(|it| it.split(';').next()?.parse::<i64>().ok());
        let past = ttl.is_some_and(|it| it < 0);
        let forwarded = cache.contains("fwd=") && !failed;
        // What has just been read has no limit but the time that it took.
        let most = if past {
            fresh + self.stale
        } else if forwarded {
            self.deadline
        } else {
            fresh
        };
        let least = if past { self.ttl - self.ttl / 10 } else { Duration::ZERO };
        let marked = !past || failed;
        self.expect(least <= old && old <= most && marked, "within its age", || format!("{old:?} {cache}"));
        let recent = failed || !ask.no_cache || asked + Duration::from_secs(1) >= start;
        self.expect(recent, "fresh for who wants it", || format!("asked {:?} before", start - asked));

        match (failed, past, ask.no_cache, forwarded) {
            (true, true, ..) => self.count("served past its time"),
            (true, false, ..) => self.count("served as Azure cannot be reached"),
            (false, _, true, false) => self.count("no-cache limited"),
            (false, _, true, true) => self.count("no-cache asked"),
            (false, _, false, false) => self.count("hit"),
            (false, _, false, true) => self.count("read"),
        }
    }
}

const DOCUMENTED: [(u16, &str); 13] = [
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
