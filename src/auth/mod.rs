//! Who asks, and what may they have.
//!
//! A caller shows a key, as with Azure Functions, or a token of Entra ID. Nothing here asks anybody anything: a token has
//! been verified by [`bearers`](crate::jwks) before its claims come here.

mod api_key;

pub mod jwt;

pub mod tenant;

mod callers;

mod scope;

mod allowed_hosts;

pub mod failure_limiter;

use std::fmt;

use subtle::{Choice, ConditionallySelectable};

use crate::azure::vault::Vault;
use crate::env::Lookup;
use crate::error::{Error, SettingError};
use crate::http::headers::Headers;
use crate::model::{Redacted, SecretName};

use crate::sync::token_bucket::TokenBucket;
use allowed_hosts::AllowedHosts;
use api_key::KeyHash;
use scope::Pattern;
use tenant::{Claims, Tenant};

/// Everybody who may ask.
#[derive(Debug)]
pub struct Callers {
    known: Vec<Caller>,
    composed: Caller,
    anonymous: Option<Caller>,
    allowed_hosts: AllowedHosts,
    trust_forwarded: bool,
    tenant: Option<Tenant>,
}

/// Somebody who may ask for some secrets.
pub struct Caller {
    name: String,
    keys: Vec<KeyHash>,
    claims: Claimed,
    scope: Vec<Pattern>,
    budget: TokenBucket,
}

/// What names a caller in a token of Entra ID; one of these is enough.
#[derive(Default)]
struct Claimed {
    /// Object ids of identities.
    oid: Vec<String>,
    /// Application ids of identities.
    appid: Vec<String>,
    /// Roles of our own application that an identity may have.
    roles: Vec<String>,
}

/// What a request shows of who sends it.
pub enum Credentials<'a> {
    /// A key, or nothing that could count.
    ApiKey(Option<Redacted>),
    /// A token, and the tenant that it should be of.
    AccessToken(&'a Tenant, &'a str),
}

/// Who has shown who they are. The roles of a token may stand for several callers; it has the scope of each.
pub struct Principal<'a> {
    first: &'a Caller,
    others: Vec<&'a Caller>,
}

impl Callers {
    /// Reads the settings that say who may ask; `vault` says which cloud this is.
    pub(crate) fn parse(settings: Lookup<'_>, vault: &Vault) -> Result<Self, SettingError> {
        let mut known = callers::parse(settings)?;
        let composed = known.iter().position(|it| it.name == COMPOSED).map(|it| known.remove(it));
        if let Some(key) = settings.header_text("GATEWAY_KEY")? {
            known.push(Caller::for_everything(KEY_HOLDER, vec![KeyHash::of(key.expose())]));
        }
        if has_a_key_twice(&known) {
            return Err(SettingError { name: "GATEWAY_CALLERS", should: "must not have a key twice" });
        }
        let tenant = Tenant::parse(settings, vault)?;
        match (&tenant, known.iter().any(|it| it.claims.is_any())) {
            (Some(_), true) | (None, false) => {}
            (None, true) => {
                let should = "must be set, as GATEWAY_CALLERS names callers by their tokens";
                return Err(SettingError { name: "GATEWAY_JWT_TENANT", should });
            }
            (Some(_), false) => {
                let should = "must name a caller by oid, appid or roles, as GATEWAY_JWT_TENANT is set";
                return Err(SettingError { name: "GATEWAY_CALLERS", should });
            }
        }
        let anonymous = settings.switch("GATEWAY_ALLOW_ANONYMOUS")?;
        // Where callers over HTTP are named, so is this one: there are hosts that let others call whatever a component exports.
        let everything = known.is_empty() && !anonymous && composed.is_none();
        let scope = if everything { vec![Pattern::everything()] } else { Vec::new() };
        let composed = composed.unwrap_or_else(|| Caller::new(COMPOSED, Vec::new(), scope));
        Ok(Self {
            known,
            composed,
            anonymous: anonymous.then(|| Caller::for_everything(ANONYMOUS, Vec::new())),
            allowed_hosts: AllowedHosts::parse(&settings.text(HOSTS)?.unwrap_or_default()).ok_or(
                SettingError {
                    name: HOSTS,
                    should: "must be names of hosts, without ports, with commas between them",
                },
            )?,
            trust_forwarded: settings.switch("GATEWAY_TRUST_FORWARDED")?,
            tenant,
        })
    }

    /// What a request with these header fields and this query shows: a key in `x-functions-key`, or else a bearer token
    /// where those are taken, or else a key in the query. What came through a proxy is not even looked at.
    pub fn credentials<'a>(
        &'a self,
        fields: &'a Headers,
        query: Option<&str>,
    ) -> Result<Credentials<'a>, Error> {
        if !self.trust_forwarded && came_through_proxy(fields) {
            return Err(Error::CameThroughProxy);
        }
        let token = self.tenant.as_ref().filter(|_| !fields.has(api_key::FIELD)).zip(bearer(fields));
        Ok(match token {
            Some((tenant, token)) => Credentials::AccessToken(tenant, token),
            None => Credentials::ApiKey(api_key::presented(fields, query)),
        })
    }

    /// The caller who has `key`. It needs the same time for a wrong key as for none.
    pub fn with_key(&self, key: Option<&Redacted>) -> Option<Principal<'_>> {
        let is_present = Choice::from(u8::from(key.is_some()));
        let key = KeyHash::of(key.map_or("", |it| it.expose()));
        // Every key is compared, none is left out once one fits, and no key is compared like one.
        let mut found = u32::MAX;
        for (index, caller) in (0_u32..).zip(&self.known) {
            for hash in &caller.keys {
                found.conditional_assign(&index, is_present & hash.is(&key));
            }
        }
        let caller = usize::try_from(found).ok().and_then(|it| self.known.get(it));
        caller.map(Principal::one)
    }

    /// The callers that the claims of a token name.
    pub fn with_claims(&self, claims: &Claims) -> Option<Principal<'_>> {
        let mut named = self.known.iter().filter(|it| it.claims.name(claims));
        named.next().map(|first| Principal { first, others: named.collect() })
    }

    /// The component that is composed with the gateway. Whoever composes them says who that is.
    pub const fn composed(&self) -> Principal<'_> {
        Principal::one(&self.composed)
    }

    /// Refuses a request without a key that calls the gateway by a name that is not its own.
    pub fn check_host(&self, authority: Option<&str>, fields: &Headers) -> Result<(), Error> {
        if self.allowed_hosts.allow(authority, fields) { Ok(()) } else { Err(Error::ForeignName) }
    }

    /// Whoever comes, where that is allowed.
    pub fn anonymous(&self) -> Option<Principal<'_>> {
        self.anonymous.as_ref().map(Principal::one)
    }
}

impl<'a> Principal<'a> {
    const fn one(first: &'a Caller) -> Self {
        Self { first, others: Vec::new() }
    }

    /// The caller, for the log: the first of them, where there are several.
    pub const fn caller(&self) -> &'a Caller {
        self.first
    }

    /// Whether nothing is known of who asks.
    pub fn is_anonymous(&self) -> bool {
        self.first.name == ANONYMOUS
    }

    /// The caller who may have the secret, or that nobody of them may, whether it exists or not.
    pub fn authorize(&self, name: &SecretName) -> Result<&'a Caller, Error> {
        let mut callers = std::iter::once(&self.first).chain(&self.others);
        callers.find(|it| it.scope.iter().any(|it| it.fits(name))).copied().ok_or(Error::OutOfScope)
    }
}

impl Caller {
    fn new(name: &str, keys: Vec<KeyHash>, scope: Vec<Pattern>) -> Self {
        Self { name: name.to_owned(), keys, claims: Claimed::default(), scope, budget: TokenBucket::full() }
    }

    fn for_everything(name: &str, keys: Vec<KeyHash>) -> Self {
        Self::new(name, keys, vec![Pattern::everything()])
    }

    /// The caller's name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the caller may still cost Key Vault in this instance.
    pub const fn budget(&self) -> &TokenBucket {
        &self.budget
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Claimed {
    const fn is_any(&self) -> bool {
        !(self.oid.is_empty() && self.appid.is_empty() && self.roles.is_empty())
    }

    /// Whether `claims` name this caller.
    fn name(&self, claims: &Claims) -> bool {
        self.oid.iter().any(|it| claims.oid.eq_ignore_ascii_case(it))
            || self.appid.iter().any(|it| claims.appid.eq_ignore_ascii_case(it))
            || self.roles.iter().any(|it| claims.roles.contains(it))
    }
}

/// Whether two callers, or one of them twice, have the same key: nobody could say which scope it stands for.
fn has_a_key_twice(callers: &[Caller]) -> bool {
    let mut keys: Vec<_> = callers.iter().flat_map(|it| &it.keys).collect();
    keys.sort_unstable();
    keys.windows(2).any(|it| it.first() == it.last())
}

/// Whether the request carries a field that a proxy adds. A request that somebody was made to send for somebody else is
/// how server-side request forgery looks from here.
fn came_through_proxy(fields: &Headers) -> bool {
    fields.names().any(|name| {
        let (exact, starts): (&[&str], &[&str]) = match name.as_bytes().first().map(u8::to_ascii_lowercase) {
            Some(b'x') => (&X_FIELDS, &X_STARTS),
            Some(b'c') => (&[], &["cf-"]),
            Some(b'd' | b'f' | b't' | b'v') => (&OTHER_FIELDS, &[]),
            _ => return false,
        };
        exact.iter().any(|field| name.eq_ignore_ascii_case(field))
            || starts
                .iter()
                .any(|start| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start)))
    })
}

/// The bearer token of a request (RFC 6750, section 2.1), if it has one and no second authorization.
fn bearer(fields: &Headers) -> Option<&str> {
    let mut fields = fields.all("authorization");
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, token) = field?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

/// Fields that proxies add: RFC 7239, RFC 9110 (7.6.3), Akamai and Cloudflare, Fastly, App Service.
const OTHER_FIELDS: [&str; 5] = ["forwarded", "via", "true-client-ip", "fastly-client-ip", "disguised-host"];

/// Those of nginx and others, and of IIS.
const X_FIELDS: [&str; 4] = ["x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-rewrite-url"];

/// How the names of others begin: the usual ones, nginx and Application Gateway, Azure Front Door, Envoy (also Container Apps and
/// service meshes), App Service. Cloudflare's begin with `cf-`.
const X_STARTS: [&str; 5] = ["x-forwarded-", "x-original-", "x-azure-", "x-envoy-", "x-arr-"];

const HOSTS: &str = "GATEWAY_ALLOWED_HOSTS";

/// The name of whoever has `GATEWAY_KEY`.
const KEY_HOLDER: &str = "key";

/// The name of whoever comes without a key, where that is allowed.
const ANONYMOUS: &str = "anonymous";

/// The name of the component that is composed with the gateway.
const COMPOSED: &str = "composed";

#[cfg(test)]
mod tests;
