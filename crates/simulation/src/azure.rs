//! The simulated Azure: one vault, one token source, and two issuers of callers' tokens, with the faults of
//! the plan.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Duration;

use fastrand::Rng;
use keyvault_gateway::azure::{Answer, Call};
use keyvault_gateway::error::Service;
use serde_json::{Value, json};
use testkit::entra::{Application, SigningKey};
use testkit::oidc;

use crate::plan::{Change, FaultKind, Plan};

/// The marker in every secret text. The checks search the output for it.
pub const MARKER: &str = "MARKER";

/// The calendar clock at the start of a run, in Unix seconds.
pub const BEGINNING: u64 = 1_800_000_000;

#[derive(Default)]
pub struct Azure {
    plan: Plan,
    now: Duration,
    secrets: Vec<Secret>,
    tokens: Vec<Token>,
    revoked: usize,
    /// The error of the hosts' calendar clock, in seconds.
    pub clock_offset: i64,
    /// The number of times that both issuers have changed their signing keys.
    pub key_rotations: usize,
    /// Whether the vault got a token that had expired [`EXPIRY_GRACE`] before, by a lifetime that the gateway
    /// knew.
    pub got_expired_token: bool,
    /// The calls to the vault in the last second, if it counts them, and the end of its throttling.
    recent_calls: VecDeque<Duration>,
    throttled_until: Duration,
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
    expires: Duration,
}

/// The resource that a call requests, as Azure parses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Token,
    /// The name of the secret in lower case and its version, if the call pins one.
    Secret(String, Option<String>),
    Jwks(Issuer),
    /// The configuration of the cluster's issuer.
    Configuration,
}

/// An issuer of callers' tokens: the tenant of Entra ID, or a cluster of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Issuer {
    Tenant,
    Cluster,
}

/// The party that a call is for. Each has a circuit breaker of its own.
pub type Party = (Service, Option<Issuer>);

impl Target {
    /// Returns the party that answers.
    pub const fn party(&self) -> Party {
        match self {
            Self::Token => (Service::TokenSource, None),
            Self::Secret(..) => (Service::Vault, None),
            Self::Jwks(issuer) => (Service::Jwks, Some(*issuer)),
            Self::Configuration => (Service::Jwks, Some(Issuer::Cluster)),
        }
    }
}

pub enum Response {
    Answer(Answer, Meaning),
    Lost,
    Hang,
}

/// The meaning of an answer, for the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Secret {
        version: String,
        value: String,
    },
    /// A 403 or 404 of the vault.
    Denied(u16),
    /// A 401 of the vault, without a final reason.
    TokenRefused,
    Token,
    /// The JWKS of an issuer after this many key rotations: the current key, the one before it and the next
    /// one.
    Jwks(Issuer, usize),
    /// A 408, 429 or 5xx, with the seconds of `Retry-After`.
    Failure(u16, Option<u64>),
    Other(u16),
}

impl Azure {
    pub fn new(plan: &Plan, seed: u64) -> Self {
        let mut azure = Self { plan: plan.clone(), random: Rng::with_seed(seed ^ 0xA2E), ..Self::default() };
        for number in 0..plan.secrets {
            azure.secrets.push(Secret { name: name(number), versions: Vec::new(), state: State::Enabled });
            azure.rotate(number);
        }
        azure
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
            Change::RevokeTokens => self.revoked = self.tokens.len(),
            Change::MoveClock(seconds) => self.clock_offset += seconds,
            Change::RotateSigningKeys => self.key_rotations += 1,
            Change::RecycleInstances => {}
        }
    }

    /// Ends all faults and issues tokens with a long lifetime from now on.
    pub fn end_faults(&mut self) {
        self.plan.faults.clear();
        self.plan.token_lifetime = 86_400;
        self.plan.latency = self.plan.latency.min(100);
    }

    /// Draws the latency of one direction of a call.
    pub fn one_way_latency(&mut self) -> Duration {
        let usual = self.plan.latency * 1000;
        Duration::from_micros(self.random.u64(usual / 4..=usual))
    }

    /// Answers a call that has arrived, with additional latency if a fault adds some.
    pub fn answer(&mut self, call: &Call, now: Duration) -> (Target, Response, Duration) {
        self.now = now;
        let target = target_of(call);
        let upstream = call.service();
        if upstream == Service::Vault && self.is_throttling() {
            return (target, refusal(upstream, 429, Some(60)), Duration::ZERO);
        }
        let fault = self.plan.faults.iter().find(|fault| {
            let active = fault.upstream == upstream && fault.from <= self.now && self.now < fault.until;
            active && self.random.u8(..100) < fault.percent
        });
        let mut delay = Duration::ZERO;
        let response = match fault.map(|fault| fault.kind) {
            Some(FaultKind::Lost) => Response::Lost,
            Some(FaultKind::Hang) => Response::Hang,
            Some(FaultKind::Status(status, retry_after)) => refusal(upstream, status, retry_after),
            Some(FaultKind::RefusesToken) => refusal(upstream, 401, None),
            Some(FaultKind::Garbage) => answered(200, None, format!("{MARKER} <html>"), Meaning::Other(200)),
            Some(FaultKind::ShortLived(seconds)) if upstream == Service::TokenSource => {
                self.token(call, seconds)
            }
            Some(FaultKind::Slow(milliseconds)) => {
                delay = Duration::from_millis(milliseconds);
                self.working_answer(call, &target)
            }
            Some(FaultKind::RefusesAssertion(code)) => refused_assertion(code),
            Some(FaultKind::ShortLived(_) | FaultKind::NoTokenFile) | None => {
                self.working_answer(call, &target)
            }
        };
        (target, response, delay)
    }

    /// The content of the token file, which is renewed every [`RENEWAL`], if it can be read.
    pub fn assertion(&mut self, now: Duration) -> Option<String> {
        let is_gone = self.plan.faults.iter().any(|fault| {
            let active = fault.kind == FaultKind::NoTokenFile && fault.from <= now && now < fault.until;
            active && self.random.u8(..100) < fault.percent
        });
        (!is_gone).then(|| format!("{ASSERTION}{}", now.as_secs() / RENEWAL.as_secs()))
    }

    /// Counts a call to the vault. Returns whether the vault throttles it.
    fn is_throttling(&mut self) -> bool {
        let Some(capacity) = self.plan.vault_capacity else { return false };
        self.recent_calls.push_back(self.now);
        while self.recent_calls.front().is_some_and(|first| *first + Duration::from_secs(1) <= self.now) {
            self.recent_calls.pop_front();
        }
        if self.recent_calls.len() > capacity {
            self.throttled_until = self.now + Duration::from_secs(60);
        }
        self.now < self.throttled_until
    }

    fn working_answer(&mut self, call: &Call, target: &Target) -> Response {
        match target {
            Target::Token => self.token(call, self.plan.token_lifetime),
            Target::Secret(name, version) => self.secret(call, name, version.as_deref()),
            Target::Jwks(issuer) => {
                let last = self.key_rotations.saturating_sub(1);
                let keys = (last..=self.key_rotations + 1).map(|number| signing_key(*issuer, number));
                let document = match issuer {
                    Issuer::Tenant => testkit::entra::document(TENANT, keys),
                    Issuer::Cluster => {
                        json!({"keys": keys.map(|key| oidc::published(&key)).collect::<Vec<_>>()})
                    }
                };
                answered(200, None, document.to_string(), Meaning::Jwks(*issuer, self.key_rotations))
            }
            Target::Configuration => {
                let body = json!({"issuer": CLUSTER, "jwks_uri": format!("{CLUSTER}jwks")});
                answered(200, None, body.to_string(), Meaning::Other(200))
            }
        }
    }

    /// Issues a token, unless the call has an assertion that has expired.
    fn token(&mut self, call: &Call, life: u64) -> Response {
        if assertion_end(call).is_some_and(|end| end <= self.now) {
            return refused_assertion(700_024);
        }
        let text = format!("{MARKER}-token-{}", self.tokens.len());
        let refresh =
            if self.plan.refresh_in { format!(r#","refresh_in":"{}""#, life / 3) } else { String::new() };
        // App Service returns the date of expiry, the metadata service and Entra ID the lifetime.
        let end = if self.plan.knows_lifetime() {
            format!(r#""expires_in":"{life}""#)
        } else {
            format!(r#""expires_on":"{}""#, BEGINNING + self.now.as_secs() + life)
        };
        let body = format!(r#"{{"access_token":"{text}","token_type":"Bearer",{end}{refresh}}}"#);
        self.tokens.push(Token { text, expires: self.now + Duration::from_secs(life) });
        answered(200, None, body, Meaning::Token)
    }

    fn secret(&mut self, call: &Call, name: &str, version: Option<&str>) -> Response {
        let is_sent = |token: &Token| authorization(call) == Some(&format!("Bearer {}", token.text));
        // The gateway may read its clock a little before the call, so the vault accepts a token half a minute
        // longer.
        let known = self
            .tokens
            .iter()
            .skip(self.revoked)
            .any(|token| is_sent(token) && self.now < token.expires + Duration::from_secs(30));
        // Where the expiry is a date and the calendar clock jumps, the gateway cannot know it.
        let expired = |token: &Token| is_sent(token) && self.now >= token.expires + EXPIRY_GRACE;
        self.got_expired_token |= self.plan.knows_lifetime() && self.tokens.iter().any(expired);
        if !known {
            return refusal(Service::Vault, 401, None);
        }
        let Some(secret) = self.secrets.iter().find(|secret| secret.name == name) else {
            return refusal(Service::Vault, 404, None);
        };
        let found = match version {
            Some(wanted) => secret.versions.iter().find(|(version, _)| version == wanted),
            None => secret.versions.last(),
        };
        match (secret.state, found) {
            (State::Disabled, _) => refusal(Service::Vault, 403, None),
            (State::Deleted, _) | (_, None) => refusal(Service::Vault, 404, None),
            (State::Enabled, Some((version, value))) => {
                let body = json!({
                    "value": value,
                    "id": format!("https://sim.vault.azure.net/secrets/{name}/{version}"),
                    "attributes": {"enabled": true},
                });
                let meaning = Meaning::Secret { version: version.clone(), value: value.clone() };
                answered(200, None, body.to_string(), meaning)
            }
        }
    }
}

/// Returns when the assertion in a call expires, if it has one.
fn assertion_end(call: &Call) -> Option<Duration> {
    let form = String::from_utf8_lossy(call.body().expose());
    let number =
        form.split('&').find_map(|field| field.strip_prefix("client_assertion=")?.strip_prefix(ASSERTION));
    let number: u32 = number?.parse().expect("the number of an assertion");
    Some(RENEWAL * number + ASSERTION_LIFE)
}

/// A token that an issuer signs after this many key rotations.
pub fn access_token(issuer: Issuer, key_rotations: usize) -> &'static str {
    static TOKENS: [OnceLock<String>; 2 * KEYS] = [const { OnceLock::new() }; 2 * KEYS];
    TOKENS[key_number(issuer, key_rotations)].get_or_init(|| {
        let key = signing_key(issuer, key_rotations);
        key.token(&key.header(), &claims(issuer))
    })
}

/// A token of one issuer for its caller, signed with the key of the other.
pub fn mixed_token(issuer: Issuer) -> &'static str {
    static TOKENS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    let (index, other) = match issuer {
        Issuer::Tenant => (0, Issuer::Cluster),
        Issuer::Cluster => (1, Issuer::Tenant),
    };
    TOKENS[index].get_or_init(|| {
        let key = signing_key(other, 0);
        key.token(&key.header(), &claims(issuer))
    })
}

/// An access token with a foreign signature, under a published key id or an unknown one.
pub fn forged_token(known_key_id: bool) -> &'static str {
    static TOKENS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    TOKENS[usize::from(known_key_id)].get_or_init(|| {
        let stranger = SigningKey::stranger();
        let mut header = stranger.header();
        if known_key_id {
            header["kid"] = signing_key(Issuer::Tenant, 0).id().into();
        }
        stranger.token(&header, &claims(Issuer::Tenant))
    })
}

/// The claims of a caller with access to all secrets, valid by every clock of a run.
fn claims(issuer: Issuer) -> Value {
    let caller = Application { tenant: TENANT, audience: AUDIENCE, oid: CALLER, appid: CALLER, roles: &[] };
    let mut claims = match issuer {
        Issuer::Tenant => caller.claims(BEGINNING),
        Issuer::Cluster => oidc::service_account(CLUSTER, AUDIENCE, ACCOUNT, BEGINNING),
    };
    claims["nbf"] = (BEGINNING - YEAR).into();
    claims["exp"] = (BEGINNING + YEAR).into();
    claims
}

fn signing_key(issuer: Issuer, key_rotations: usize) -> SigningKey {
    SigningKey::number(key_number(issuer, key_rotations))
}

const fn key_number(issuer: Issuer, key_rotations: usize) -> usize {
    match issuer {
        Issuer::Tenant => key_rotations % KEYS,
        Issuer::Cluster => KEYS + key_rotations % KEYS,
    }
}

/// The tenant, the audience and the object id of callers with access tokens.
pub const TENANT: &str = "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42";
pub const AUDIENCE: &str = "api://keyvault-gateway";
pub const CALLER: &str = "d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05";

/// The issuer of the cluster, and the service account that is a caller.
pub const CLUSTER: &str = "https://oidc.example/cluster/";
pub const ACCOUNT: &str = "system:serviceaccount:billing:app";

/// The number of signing keys that an issuer uses in turn. With five, a key is unpublished between its uses.
const KEYS: usize = 5;

/// The longest use of an expired token: a request may wait for its deadline and for a `Retry-After` after it
/// read the token.
const EXPIRY_GRACE: Duration = Duration::from_secs(30);

/// The time after which the token file has another assertion, and for which an assertion is valid. A gateway
/// that reads the file for each call has ten seconds or more until it expires; one that keeps it has none.
const RENEWAL: Duration = Duration::from_secs(10);
const ASSERTION_LIFE: Duration = Duration::from_secs(20);

/// The start of an assertion, before its number.
const ASSERTION: &str = "MARKER-assertion-";

const YEAR: u64 = 365 * 86_400;

/// The name of a secret. The even numbers share a prefix, which is the scope of a caller.
pub fn name(number: usize) -> String {
    if number.is_multiple_of(2) { format!("even-{number}") } else { format!("odd-{number}") }
}

/// Parses the target of a call. Panics if Azure would not accept the call.
pub fn target_of(call: &Call) -> Target {
    let endpoint = call.endpoint();
    let path = endpoint.path_and_query();
    match call.service() {
        Service::TokenSource => {
            let form = String::from_utf8_lossy(call.body().expose());
            let is_federated = assertion_end(call).is_some();
            let parameters = if is_federated { &*form } else { path };
            assert!(parameters.contains("=https%3A%2F%2Fvault.azure.net"), "{parameters}");
            assert_eq!(authorization(call), None, "token sent to the token source");
            Target::Token
        }
        Service::Vault => {
            assert_eq!((endpoint.is_tls(), endpoint.authority()), (true, "sim.vault.azure.net"));
            let path = path.split('?').next().unwrap_or_default();
            let mut parts = path.trim_start_matches("/secrets/").split('/');
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            Target::Secret(name, parts.next().map(str::to_owned))
        }
        Service::Jwks => {
            assert!(endpoint.is_tls() && authorization(call).is_none(), "token sent to an issuer");
            assert!(call.headers().iter().all(|header| header.0 != "traceparent"), "trace sent to an issuer");
            match (endpoint.authority(), path) {
                ("login.microsoftonline.com", _) => Target::Jwks(Issuer::Tenant),
                ("oidc.example", "/cluster/.well-known/openid-configuration") => Target::Configuration,
                ("oidc.example", "/cluster/jwks") => Target::Jwks(Issuer::Cluster),
                other => panic!("a call to {other:?}"),
            }
        }
    }
}

fn authorization(call: &Call) -> Option<&str> {
    let header = call.headers().iter().find(|header| header.0 == "authorization")?;
    Some(header.1.expose().as_str())
}

fn refusal(upstream: Service, status: u16, retry_after: Option<u64>) -> Response {
    let (code, inner) = match status {
        403 => ("Forbidden", r#","innererror":{"code":"SecretDisabled"}"#),
        404 => ("SecretNotFound", ""),
        _ => ("Error", ""),
    };
    let number = if status == 401 { "AKV10046: " } else { "" };
    let body = format!(r#"{{"error":{{"code":"{code}","message":"{number}{MARKER}"{inner}}}}}"#);
    let meaning = match status {
        401 if upstream == Service::Vault => Meaning::TokenRefused,
        403 | 404 if upstream == Service::Vault => Meaning::Denied(status),
        408 | 429 | 500..=599 => Meaning::Failure(status, retry_after),
        _ => Meaning::Other(status),
    };
    answered(status, retry_after, body, meaning)
}

/// Entra ID's refusal of an assertion, with this AADSTS code.
fn refused_assertion(code: u32) -> Response {
    let body = format!(r#"{{"error":"invalid_client","error_codes":[{code}],"trace_id":"{MARKER}"}}"#);
    answered(401, None, body, Meaning::Other(401))
}

fn answered(status: u16, retry_after: Option<u64>, body: String, meaning: Meaning) -> Response {
    Response::Answer(
        Answer::new(status, retry_after.map(|seconds| seconds.to_string()), body.into_bytes()),
        meaning,
    )
}
