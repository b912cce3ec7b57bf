//! An issuer of callers' tokens: the tenant of Entra ID, or an OIDC issuer.

use super::claims::Claims;
use super::jwt::Jwt;
use super::oidc::OidcIssuer;
use super::tenant::Tenant;
use crate::azure::issuer::JwksSource;
use crate::azure::jwks::SigningKeys;
use crate::error::AuthFailure;

/// An issuer whose tokens are credentials. Each has claims of its own.
#[derive(Debug)]
pub enum Issuer {
    Tenant(Tenant),
    Oidc(OidcIssuer),
}

impl Issuer {
    /// Whether its tokens have this `iss`.
    pub fn has_name(&self, issuer: &str) -> bool {
        match self {
            Self::Tenant(tenant) => tenant.has_issuer(issuer),
            Self::Oidc(oidc) => oidc.issuer() == issuer,
        }
    }

    /// Whether it signs tokens such as `jwt`.
    pub fn accepts(&self, jwt: &Jwt<'_>) -> bool {
        match self {
            Self::Tenant(_) => Tenant::accepts(jwt),
            Self::Oidc(_) => true,
        }
    }

    /// Where it publishes its JWKS.
    pub const fn source(&self) -> &JwksSource {
        match self {
            Self::Tenant(tenant) => tenant.source(),
            Self::Oidc(oidc) => oidc.source(),
        }
    }

    /// The claims of `jwt`, which has this issuer's name, if one of `keys` has signed it and it is valid at
    /// `unix_time`.
    pub fn claims(&self, jwt: &Jwt<'_>, keys: &SigningKeys, unix_time: u64) -> Result<Claims, AuthFailure> {
        match self {
            Self::Tenant(tenant) => tenant.claims(jwt, keys, unix_time),
            Self::Oidc(oidc) => oidc.claims(jwt, keys, unix_time),
        }
    }
}
