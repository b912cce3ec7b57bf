//! Identifies the caller of a request, and decides which secrets that caller may read.
//!
//! A caller has an API key, as with Azure Functions, or a token of an issuer that the settings name: Entra
//! ID, or the platform where the caller runs. This module calls nothing: [`jwks`](crate::jwks) fetches the
//! keys that a token is verified with.

mod allowed_hosts;
mod api_key;
mod callers;
pub mod claims;
pub mod failure_limiter;
pub mod issuer;
pub mod jwt;
mod oidc;
mod scope;
mod tenant;

use std::fmt;

use subtle::{Choice, ConditionallySelectable};

use crate::azure::issuer::is_entra;
use crate::azure::vault::Vault;
use crate::env::Lookup;
use crate::error::{Error, SettingError};
use crate::http::headers::Headers;
use crate::model::{Redacted, SecretName};
use crate::sync::token_bucket::TokenBucket;

use allowed_hosts::AllowedHosts;
use api_key::KeyHash;
use claims::{Claims, Identity};
use issuer::Issuer;
use jwt::Jwt;
use oidc::{OidcIssuer, Subjects};
use scope::Pattern;
use tenant::Tenant;

/// The callers that the settings name.
#[derive(Debug)]
pub struct Callers {
    known: Vec<Caller>,
    composed: Caller,
    anonymous: Option<Caller>,
    allowed_hosts: AllowedHosts,
    trust_forwarded: bool,
    /// The issuers of callers' tokens.
    issuers: Vec<Issuer>,
}

/// A caller, and the secrets that it may read.
pub struct Caller {
    name: String,
    keys: Vec<KeyHash>,
    claims: IdentityClaims,
    scope: Vec<Pattern>,
    budget: TokenBucket,
}

/// The claims that identify a caller in a token. One match is enough.
#[derive(Default)]
struct IdentityClaims {
    /// Object ids of identities.
    oid: Vec<String>,
    /// Application ids of identities.
    appid: Vec<String>,
    /// App roles of the gateway's own application.
    roles: Vec<String>,
    /// Subjects of an OIDC issuer.
    subjects: Option<Subjects>,
}

/// The credential that a request presents.
pub enum Credentials<'a> {
    /// An API key; `None` if the request has none, or more than one.
    ApiKey(Option<Redacted>),
    /// A bearer token. Nothing of it is checked yet.
    Token(&'a str),
}

/// What a route takes in `Authorization: Bearer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// Tokens, if an issuer is set.
    Token,
    /// The same, and API keys. `/metrics` does, because Prometheus and its operator's monitors send a
    /// credential of their own in no other header (prometheus-operator, `Authorization` of
    /// `SafeAuthorization`).
    TokenOrKey,
}

/// An identified caller. The app roles of a token may identify several callers; the principal has the scope
/// of each.
pub struct Principal<'a> {
    first: &'a Caller,
    others: Vec<&'a Caller>,
}

impl Callers {
    /// The names of the callers that have a key, an identity or a role.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(Caller::name)
    }

    /// The issuers of the callers' tokens.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Parses the settings of callers; `vault` determines the cloud.
    pub(crate) fn parse(settings: Lookup<'_>, vault: &Vault) -> Result<Self, SettingError> {
        let mut known = callers::parse(settings)?;
        let composed = known.iter().position(|caller| caller.name == COMPOSED);
        let composed = composed.map(|index| known.remove(index));
        if let Some(key) = settings.header_text("GATEWAY_KEY")? {
            known.push(Caller::with_every_secret(KEY_HOLDER, vec![KeyHash::of(key.expose())]));
        }
        if has_duplicate_key(&known) {
            return Err(SettingError { name: "GATEWAY_CALLERS", should: "must not have the same key twice" });
        }
        let issuers = parse_issuers(settings, vault, &known)?;
        let anonymous = settings.switch("GATEWAY_ALLOW_ANONYMOUS")?;
        // If the settings name callers over HTTP, they must name the composed component as well: some hosts
        // let other components call every export of a component.
        let everything = known.is_empty() && !anonymous && composed.is_none();
        let scope = if everything { vec![Pattern::everything()] } else { Vec::new() };
        let composed = composed.unwrap_or_else(|| Caller::new(COMPOSED, Vec::new(), scope));
        Ok(Self {
            known,
            composed,
            anonymous: anonymous.then(|| Caller::with_every_secret(ANONYMOUS, Vec::new())),
            allowed_hosts: AllowedHosts::parse(&settings.text(ALLOWED_HOSTS)?.unwrap_or_default()).ok_or(
                SettingError {
                    name: ALLOWED_HOSTS,
                    should: "must be names of hosts, without ports, with commas between them",
                },
            )?,
            trust_forwarded: settings.switch("GATEWAY_TRUST_FORWARDED")?,
            issuers,
        })
    }

    /// The credential of a request: the API key in `x-functions-key`, or else what the route takes as
    /// `bearer`, or else the API key in the query.
    ///
    /// The gateway refuses a request that came through a proxy without looking at its credential.
    pub fn credentials<'a>(
        &'a self,
        headers: &'a Headers,
        query: Option<&str>,
        takes: Bearer,
    ) -> Result<Credentials<'a>, Error> {
        if !self.trust_forwarded && came_through_proxy(headers) {
            return Err(Error::CameThroughProxy);
        }
        let takes_tokens = !self.issuers.is_empty();
        let takes_keys = takes == Bearer::TokenOrKey;
        Ok(match bearer(headers).filter(|_| !headers.has(api_key::HEADER)) {
            // No API key has the form of a token.
            Some(text) if takes_keys && !(takes_tokens && Jwt::parse(text).is_some()) => {
                Credentials::ApiKey(Some(Redacted::new(text.to_owned())).filter(|_| !text.is_empty()))
            }
            Some(token) if takes_tokens => Credentials::Token(token),
            _ => Credentials::ApiKey(api_key::presented(headers, query)),
        })
    }

    /// The caller with `key`. A wrong key takes the same time as none.
    pub fn with_key(&self, key: Option<&Redacted>) -> Option<Principal<'_>> {
        let is_present = Choice::from(u8::from(key.is_some()));
        let key = KeyHash::of(key.map_or("", |key| key.expose()));
        // Constant time: compare all keys without an early exit. A missing key takes the same path.
        let mut found = u32::MAX;
        for (index, caller) in (0_u32..).zip(&self.known) {
            for hash in &caller.keys {
                found.conditional_assign(&index, is_present & hash.matches(&key));
            }
        }
        let caller = usize::try_from(found).ok().and_then(|index| self.known.get(index));
        caller.map(Principal::one)
    }

    /// The callers that the claims of a token identify.
    pub fn with_claims(&self, claims: &Claims) -> Option<Principal<'_>> {
        let mut named = self.known.iter().filter(|caller| caller.claims.identify(claims));
        named.next().map(|first| Principal { first, others: named.collect() })
    }

    /// The component that is composed with the gateway. The composition identifies it, not a credential.
    pub const fn composed(&self) -> Principal<'_> {
        Principal::one(&self.composed)
    }

    /// Refuses an anonymous request that addresses the gateway by a name that is not allowed.
    pub fn check_host(&self, authority: Option<&str>, headers: &Headers) -> Result<(), Error> {
        if self.allowed_hosts.allow(authority, headers) { Ok(()) } else { Err(Error::ForeignName) }
    }

    /// The anonymous caller, if the settings allow one.
    pub fn anonymous(&self) -> Option<Principal<'_>> {
        self.anonymous.as_ref().map(Principal::one)
    }
}

impl<'a> Principal<'a> {
    const fn one(first: &'a Caller) -> Self {
        Self { first, others: Vec::new() }
    }

    /// The caller for the log: the first, if there are several.
    pub const fn caller(&self) -> &'a Caller {
        self.first
    }

    pub fn is_anonymous(&self) -> bool {
        self.first.name == ANONYMOUS
    }

    /// The caller whose scope has the secret `name`. The error is the same whether the secret exists or not.
    pub fn authorize(&self, name: &SecretName) -> Result<&'a Caller, Error> {
        let mut callers = std::iter::once(&self.first).chain(&self.others);
        let caller = callers.find(|caller| caller.scope.iter().any(|pattern| pattern.matches(name)));
        caller.copied().ok_or(Error::OutOfScope)
    }
}

impl Caller {
    fn new(name: &str, keys: Vec<KeyHash>, scope: Vec<Pattern>) -> Self {
        Self {
            name: name.to_owned(),
            keys,
            claims: IdentityClaims::default(),
            scope,
            budget: TokenBucket::full(),
        }
    }

    fn with_every_secret(name: &str, keys: Vec<KeyHash>) -> Self {
        Self::new(name, keys, vec![Pattern::everything()])
    }

    /// The caller's name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The calls to Key Vault that the caller may still cause in this instance.
    pub const fn budget(&self) -> &TokenBucket {
        &self.budget
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl IdentityClaims {
    /// Whether there are claims of applications of Entra ID.
    const fn is_application(&self) -> bool {
        !(self.oid.is_empty() && self.appid.is_empty() && self.roles.is_empty())
    }

    const fn is_any(&self) -> bool {
        self.is_application() || self.subjects.is_some()
    }

    /// Whether `claims` identify this caller.
    fn identify(&self, claims: &Claims) -> bool {
        match &claims.identity {
            Identity::Application { oid, appid, roles } => {
                self.oid.iter().any(|known| oid.eq_ignore_ascii_case(known))
                    || self.appid.iter().any(|known| appid.eq_ignore_ascii_case(known))
                    || self.roles.iter().any(|known| roles.contains(known))
            }
            Identity::Subject { issuer, subject } => {
                self.subjects.as_ref().is_some_and(|subjects| subjects.contain(issuer, subject))
            }
        }
    }
}

/// Parses the issuers of callers' tokens. Each must have a caller, and each caller with claims its issuer.
fn parse_issuers(settings: Lookup<'_>, vault: &Vault, known: &[Caller]) -> Result<Vec<Issuer>, SettingError> {
    let tenant = Tenant::parse(settings, vault)?;
    match (&tenant, known.iter().any(|caller| caller.claims.is_application())) {
        (Some(_), true) | (None, false) => {}
        (None, true) => {
            let should = "must be set, as GATEWAY_CALLERS names callers by oid, appid or roles";
            return Err(SettingError { name: "GATEWAY_JWT_TENANT", should });
        }
        (Some(_), false) => {
            let should = "must name a caller by oid, appid or roles, as GATEWAY_JWT_TENANT is set";
            return Err(SettingError { name: "GATEWAY_CALLERS", should });
        }
    }
    let oidc = OidcIssuer::parse_all(settings)?;
    let invalid = |should| SettingError { name: "GATEWAY_OIDC", should };
    if oidc.iter().any(|issuer| vault.accepts_audience(issuer.audience())) {
        return Err(invalid("must have audiences of the gateway's own, and not that of Key Vault"));
    }
    // A token of Entra ID may be a user's: only the claims of the tenant tell.
    if oidc.iter().any(|issuer| is_entra(issuer.issuer())) {
        return Err(invalid("must not name Entra ID, whose tokens GATEWAY_JWT_TENANT accepts"));
    }
    let named: Vec<_> = known.iter().filter_map(|caller| caller.claims.subjects.as_ref()).collect();
    if named.iter().any(|subjects| !oidc.iter().any(|issuer| issuer.issuer() == subjects.issuer)) {
        return Err(invalid("must name the issuer of each iss in GATEWAY_CALLERS, letter by letter"));
    }
    if oidc.iter().any(|issuer| !named.iter().any(|subjects| subjects.issuer == issuer.issuer())) {
        let should = "must name a caller by iss and sub for each issuer of GATEWAY_OIDC, letter by letter";
        return Err(SettingError { name: "GATEWAY_CALLERS", should });
    }
    Ok(tenant.map(Issuer::Tenant).into_iter().chain(oidc.into_iter().map(Issuer::Oidc)).collect())
}

/// Whether a key occurs twice, at two callers or at one. The scope of that key would be ambiguous.
fn has_duplicate_key(callers: &[Caller]) -> bool {
    let keys: Vec<_> = callers.iter().flat_map(|caller| &caller.keys).collect();
    // Sorting them would be 8 KiB of code, for some dozens of keys.
    (1..).zip(&keys).any(|(next, key)| keys.iter().skip(next).any(|other| other == key))
}

/// Whether the request has a header that proxies add. This is how server-side request forgery looks from
/// here: one service sends a request that another client has made it send.
fn came_through_proxy(headers: &Headers) -> bool {
    headers.names().any(|name| {
        let (exact, prefixes): (&[&str], &[&str]) = match name.as_bytes().first().map(u8::to_ascii_lowercase)
        {
            Some(b'x') => (&X_HEADERS, &X_PREFIXES),
            Some(b'c') => (&[], &["cf-"]),
            Some(b'd' | b'f' | b't' | b'v') => (&OTHER_HEADERS, &[]),
            _ => return false,
        };
        exact.iter().any(|header| name.eq_ignore_ascii_case(header))
            || prefixes.iter().any(|prefix| {
                name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            })
    })
}

/// The bearer token of a request (RFC 6750, section 2.1), if the request has exactly one `Authorization`
/// header.
fn bearer(headers: &Headers) -> Option<&str> {
    let mut values = headers.all("authorization");
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

/// Headers that proxies add: RFC 7239, RFC 9110 (section 7.6.3), Akamai and Cloudflare, Fastly, App Service.
const OTHER_HEADERS: [&str; 5] = ["forwarded", "via", "true-client-ip", "fastly-client-ip", "disguised-host"];

/// Further headers, of nginx and others, and of IIS.
const X_HEADERS: [&str; 4] = ["x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-rewrite-url"];

/// Prefixes of further headers: the usual ones, nginx and Application Gateway, Azure Front Door, Envoy (also
/// Container Apps and service meshes), App Service. Cloudflare's headers begin with `cf-`.
const X_PREFIXES: [&str; 5] = ["x-forwarded-", "x-original-", "x-azure-", "x-envoy-", "x-arr-"];

const ALLOWED_HOSTS: &str = "GATEWAY_ALLOWED_HOSTS";

/// The name of the caller with `GATEWAY_KEY`.
const KEY_HOLDER: &str = "key";

/// The name of the anonymous caller.
const ANONYMOUS: &str = "anonymous";

/// The name of the composed component.
const COMPOSED: &str = "composed";

#[cfg(test)]
mod tests;
