//! Azure: one vault, one token source and one directory, what they hold, and what goes wrong with them.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::OnceLock;

use fastrand::Rng;
use keyvault_gateway::azure::{Answer, Call};
use keyvault_gateway::error::Service;
use testkit::entra::{Application, SigningKey};

use crate::plan::{Change, Fault, Plan, Wrong};

/// Stands in everything that must not show.
pub const MARKER: &str = "MARKER";

/// The date at which a run begins, in seconds since 1970.
pub const BEGINNING: u64 = 1_800_000_000;

#[derive(Default)]
pub struct World {
    pub now: Duration,
    secrets: Vec<Secret>,
    tokens: Vec<Token>,
    revoked: usize,
    faults: Vec<Fault>,
    latency: u64,
    token_life: u64,
    refresh_in: bool,
    /// Whether tokens come with the date of their end, as App Service has it, and not with their length.
    dated: bool,
    /// What the calendar clock of the hosts says more, or less, than it should.
    pub jump: i64,
    /// How often the callers' tenant has begun to sign with another key.
    pub rotations: usize,
    /// Whether the vault has been shown a token that ended long ago, as whoever got it could know.
    pub overdue: bool,
    /// How many calls the vault takes in a second, when the last ones came, and until when it throttles.
    capacity: Option<usize>,
    recent: VecDeque<Duration>,
    throttles_until: Duration,
    random: Rng,
}

struct Secret {
    name: String,
    versions: Vec<(String, String)>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Enabled,
    Disabled,
    Deleted,
}

struct Token {
    text: String,
    until: Duration,
}

/// What a call asks for, as far as the world could see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    Token,
    /// The secret of this name in lower case, and its version if one is pinned.
    Secret(String, Option<String>),
    Keys,
}

pub enum Fate {
    Answer(Answer, Told),
    Lost,
    Hang,
}

/// What an answer told, for those who check what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Secret {
        version: String,
        value: String,
    },
    /// 403 or 404: it is not to be had.
    No(u16),
    /// 401: the token is not accepted, for no reason that would last.
    NotAccepted,
    Token,
    /// The keys of the callers' tenant after so many rotations: the one that signs, those before and after it.
    Keys(usize),
    /// 429, 408 or 5xx and the like, with the seconds after which to come back.
    Trouble(u16, Option<u64>),
    /// Anything else.
    Other(u16),
}

impl World {
    /// The world of `plan`, in which everything is well at first.
    pub fn new(plan: &Plan, seed: u64) -> Self {
        let mut world = Self {
            faults: plan.faults.clone(),
            latency: plan.latency,
            token_life: plan.token_life,
            refresh_in: plan.refresh_in,
            dated: !plan.imds,
            capacity: plan.capacity,
            random: Rng::with_seed(seed ^ 0xA2E),
            ..Self::default()
        };
        for number in 0..plan.secrets {
            world.secrets.push(Secret { name: name(number), versions: Vec::new(), state: State::Enabled });
            world.rotate(number);
        }
        world
    }

    fn rotate(&mut self, number: usize) {
        let secret = &mut self.secrets[number];
        let count = secret.versions.len();
        let version = format!("{number:016x}{count:016x}");
        secret.versions.push((version, format!("{MARKER}-value-{number}-{count}-\"\\ü")));
    }

    pub fn change(&mut self, change: Change) {
        match change {
            Change::Rotate(number) => self.rotate(number),
            Change::Disable(number) => self.secrets[number].state = State::Disabled,
            Change::Delete(number) => self.secrets[number].state = State::Deleted,
            Change::Enable(number) => self.secrets[number].state = State::Enabled,
            Change::Revoke => self.revoked = self.tokens.len(),
            Change::Jump(seconds) => self.jump += seconds,
            Change::RotateKeys => self.rotations += 1,
            Change::Recycle => {}
        }
    }

    /// Everything is well again; tokens last long.
    pub fn heal(&mut self) {
        self.faults.clear();
        self.token_life = 86_400;
        self.latency = self.latency.min(100);
    }

    /// How long a call takes to get there, or back.
    pub fn half_a_way(&mut self) -> Duration {
        let usual = self.latency * 1000;
        Duration::from_micros(self.random.u64(usual / 4..=usual))
    }

    /// What becomes of `call`, which is where it wanted to go. The part of the way that goes wrong may add to its time.
    pub fn answer(&mut self, call: &Call) -> (Wish, Fate, Duration) {
        let wish = wish(call);
        let upstream = call.upstream();
        if upstream == Service::Vault && self.is_throttling() {
            return (wish, refusal(upstream, 429, Some(60)), Duration::ZERO);
        }
        let wrong = self
            .faults
            .iter()
            .filter(|it| it.upstream == upstream && it.from <= self.now && self.now < it.until)
            .map(|it| (it.what, it.percent))
            .collect::<Vec<_>>();
        let wrong = wrong.into_iter().find(|it| self.random.u8(..100) < it.1).map(|it| it.0);
        let mut delay = Duration::ZERO;
        let fate = match wrong {
            Some(Wrong::Lost) => Fate::Lost,
            Some(Wrong::Hang) => Fate::Hang,
            Some(Wrong::Status(status, retry_after)) => refusal(upstream, status, retry_after),
            Some(Wrong::Wavering) => refusal(upstream, 401, None),
            Some(Wrong::Garbage) => told(200, None, format!("{MARKER} <html>"), Told::Other(200)),
            Some(Wrong::ShortLived(seconds)) if upstream == Service::Identity => self.token(seconds),
            Some(Wrong::Slow(milliseconds)) => {
                delay = Duration::from_millis(milliseconds);
                self.truth(call, &wish)
            }
            Some(Wrong::ShortLived(_)) | None => self.truth(call, &wish),
        };
        (wish, fate, delay)
    }

    /// Counts a call to the vault, and says whether it is one too many.
    fn is_throttling(&mut self) -> bool {
        let Some(capacity) = self.capacity else { return false };
        self.recent.push_back(self.now);
        while self.recent.front().is_some_and(|first| *first + Duration::from_secs(1) <= self.now) {
            self.recent.pop_front();
        }
        if self.recent.len() > capacity {
            self.throttles_until = self.now + Duration::from_secs(60);
        }
        self.now < self.throttles_until
    }

    fn truth(&mut self, call: &Call, wish: &Wish) -> Fate {
        match wish {
            Wish::Token => self.token(self.token_life),
            Wish::Secret(name, version) => self.secret(call, name, version.as_deref()),
            Wish::Keys => {
                let last = self.rotations.saturating_sub(1);
                let keys = (last..=self.rotations + 1).map(signing_key);
                let told_of = Told::Keys(self.rotations);
                told(200, None, testkit::entra::document(TENANT, keys).to_string(), told_of)
            }
        }
    }

    fn token(&mut self, life: u64) -> Fate {
        let text = format!("{MARKER}-token-{}", self.tokens.len());
        let refresh =
            if self.refresh_in { format!(r#","refresh_in":"{}""#, life / 3) } else { String::new() };
        let end = if self.dated {
            format!(r#""expires_on":"{}""#, BEGINNING + self.now.as_secs() + life)
        } else {
            format!(r#""expires_in":"{life}""#)
        };
        let body = format!(r#"{{"access_token":"{text}","token_type":"Bearer",{end}{refresh}}}"#);
        self.tokens.push(Token { text, until: self.now + Duration::from_secs(life) });
        told(200, None, body, Told::Token)
    }

    fn secret(&mut self, call: &Call, name: &str, version: Option<&str>) -> Fate {
        let bearer =
            call.headers().iter().find(|it| it.0 == "authorization").map(|it| it.1.expose().as_str());
        let known = self.tokens.iter().enumerate().any(|(index, token)| {
            // A host may be slower to notice than the vault is; a second is nothing to anybody.
            index >= self.revoked
                && bearer == Some(&format!("Bearer {}", token.text))
                && self.now < token.until + Duration::from_secs(30)
        });
        // Where the end of a token is a date and calendars jump, nobody can know it.
        let ended =
            |it: &Token| bearer == Some(&format!("Bearer {}", it.text)) && self.now >= it.until + OVERDUE;
        self.overdue |= !self.dated && self.tokens.iter().any(ended);
        if !known {
            return refusal(Service::Vault, 401, None);
        }
        let Some(secret) = self.secrets.iter().find(|it| it.name == name) else {
            return refusal(Service::Vault, 404, None);
        };
        let found = match version {
            Some(version) => secret.versions.iter().find(|it| it.0 == version),
            None => secret.versions.last(),
        };
        match (secret.state, found) {
            (State::Disabled, _) => refusal(Service::Vault, 403, None),
            (State::Deleted, _) | (_, None) => refusal(Service::Vault, 404, None),
            (State::Enabled, Some((version, value))) => {
                let body = serde_json::json!({
                    "value": value,
                    "id": format!("https://sim.vault.azure.net/secrets/{name}/{version}"),
                    "attributes": {"enabled": true},
                });
                let told_of = Told::Secret { version: version.clone(), value: value.clone() };
                told(200, None, body.to_string(), told_of)
            }
        }
    }
}

/// A token that the callers' tenant gives after so many rotations.
pub fn bearer(rotations: usize) -> &'static str {
    static TOKENS: [OnceLock<String>; KEYS] = [const { OnceLock::new() }; KEYS];
    TOKENS[rotations % KEYS].get_or_init(|| {
        let key = signing_key(rotations);
        key.token(&key.header(), &claims())
    })
}

/// A token that somebody else has signed, under the name of one of the tenant's keys or under one that nobody knows.
pub fn forged(known_name: bool) -> &'static str {
    static TOKENS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    TOKENS[usize::from(known_name)].get_or_init(|| {
        let stranger = SigningKey::stranger();
        let mut header = stranger.header();
        if known_name {
            header["kid"] = signing_key(0).id().into();
        }
        stranger.token(&header, &claims())
    })
}

/// The claims of one who may read everything, good whatever the clocks say.
fn claims() -> serde_json::Value {
    let caller = Application { tenant: TENANT, audience: AUDIENCE, oid: CALLER, appid: CALLER, roles: &[] };
    let mut claims = caller.claims(BEGINNING);
    claims["nbf"] = (BEGINNING - YEAR).into();
    claims["exp"] = (BEGINNING + YEAR).into();
    claims
}

fn signing_key(rotations: usize) -> SigningKey {
    SigningKey::number(rotations % KEYS)
}

/// The tenant of callers with tokens, whom their tokens are for, and who has one.
pub const TENANT: &str = "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42";
pub const AUDIENCE: &str = "api://keyvault-gateway";
pub const CALLER: &str = "d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05";

/// How many keys a tenant has in turn: enough for two changes between which one is neither published before nor after.
const KEYS: usize = 5;

/// A request may have waited for its deadline with the token in its hands, and for the pauses of Azure.
const OVERDUE: Duration = Duration::from_secs(30);

const YEAR: u64 = 365 * 86_400;

/// The name of a secret. Those with even numbers share the start of their names.
pub fn name(number: usize) -> String {
    if number.is_multiple_of(2) { format!("even-{number}") } else { format!("odd-{number}") }
}

/// What `call` asks for, or a panic that says why this is no request that Azure would take.
pub fn wish(call: &Call) -> Wish {
    let endpoint = call.endpoint();
    let path = endpoint.path_and_query();
    match call.upstream() {
        Service::Identity => {
            assert!(path.contains("resource=https%3A%2F%2Fvault.azure.net"), "{path}");
            assert!(!call.headers().iter().any(|it| it.0 == "authorization"), "a token for the token source");
            Wish::Token
        }
        Service::Vault => {
            assert_eq!((endpoint.is_tls(), endpoint.authority()), (true, "sim.vault.azure.net"));
            let path = path.split('?').next().unwrap_or_default();
            let mut parts = path.trim_start_matches("/secrets/").split('/');
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            Wish::Secret(name, parts.next().map(str::to_owned))
        }
        Service::Directory => {
            assert_eq!((endpoint.is_tls(), endpoint.authority()), (true, "login.microsoftonline.com"));
            assert!(!call.headers().iter().any(|it| it.0 == "authorization"), "a token for the directory");
            Wish::Keys
        }
    }
}

fn refusal(upstream: Service, status: u16, retry_after: Option<u64>) -> Fate {
    let (code, inner) = match status {
        403 => ("Forbidden", r#","innererror":{"code":"SecretDisabled"}"#),
        404 => ("SecretNotFound", ""),
        _ => ("Error", ""),
    };
    let number = if status == 401 { "AKV10046: " } else { "" };
    let body = format!(r#"{{"error":{{"code":"{code}","message":"{number}{MARKER}"{inner}}}}}"#);
    let what = match status {
        401 if upstream == Service::Vault => Told::NotAccepted,
        403 | 404 if upstream == Service::Vault => Told::No(status),
        408 | 429 | 500..=599 => Told::Trouble(status, retry_after),
        _ => Told::Other(status),
    };
    told(status, retry_after, body, what)
}

fn told(status: u16, retry_after: Option<u64>, body: String, what: Told) -> Fate {
    Fate::Answer(Answer::new(status, retry_after.map(|it| it.to_string()), body.into_bytes()), what)
}
