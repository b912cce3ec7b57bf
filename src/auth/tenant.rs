//! The tenant whose applications are callers, and the checks of their access tokens.

use std::fmt;

use super::jwt::{Jwt, Members};
use crate::azure::jwks::{JwksEndpoint, SigningKeys};
use crate::azure::vault::Vault;
use crate::env::Lookup;
use crate::error::SettingError;

/// A tenant of Entra ID, and the application in it that represents this gateway.
pub struct Tenant {
    id: String,
    audience: String,
    issuers: [String; 2],
    jwks_endpoint: JwksEndpoint,
}

/// The claims of a valid access token, about the application that it was issued to.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The object id of its identity.
    pub(super) oid: String,
    /// The id of the application.
    pub(super) appid: String,
    /// The app roles that it has in the application that represents this gateway.
    pub(super) roles: Vec<String>,
    not_before: u64,
    expires: u64,
}

impl Tenant {
    /// Parses `GATEWAY_JWT_TENANT` and `GATEWAY_JWT_AUDIENCE`; `vault` determines the cloud.
    pub(super) fn parse(settings: Lookup<'_>, vault: &Vault) -> Result<Option<Self>, SettingError> {
        let must_be_set = |name| SettingError {
            name,
            should: "must be set together with the other setting of Entra callers",
        };
        let id = settings.text("GATEWAY_JWT_TENANT")?;
        let audience = settings.header_text("GATEWAY_JWT_AUDIENCE")?;
        let invalid = SettingError {
            name: "GATEWAY_JWT_TENANT",
            should: "must be the id of a tenant, a GUID, as tokens have no other identifier of it",
        };
        let id = id.map(|id| guid(&id).ok_or(invalid)).transpose()?;
        let (id, audience) = match (id, audience) {
            (None, None) => return Ok(None),
            (Some(id), Some(audience)) => (id, audience.expose().clone()),
            (Some(_), None) => return Err(must_be_set("GATEWAY_JWT_AUDIENCE")),
            (None, Some(_)) => return Err(must_be_set("GATEWAY_JWT_TENANT")),
        };
        if vault.accepts_audience(&audience) {
            return Err(SettingError {
                name: "GATEWAY_JWT_AUDIENCE",
                should: "must be an application of your own, as a token for Key Vault could read the vault",
            });
        }
        let jwks_endpoint = JwksEndpoint::parse(settings, vault, &id)?;
        Ok(Some(Self { issuers: jwks_endpoint.issuers(&id), id, audience, jwks_endpoint }))
    }

    /// The endpoint that publishes the tenant's JWKS.
    pub const fn jwks_endpoint(&self) -> &JwksEndpoint {
        &self.jwks_endpoint
    }

    /// The claims of `jwt`, if one of `keys` has signed it and it is valid at `unix_time`.
    ///
    /// The signature comes first, so that a forged token does not reveal which of its claims are right. Then
    /// come the issuer (`iss`, `tid`), the audience (`aud`), the time (`nbf`, `exp`), and that the token is
    /// app-only.
    pub fn claims(&self, jwt: &Jwt<'_>, keys: &SigningKeys, unix_time: u64) -> Option<Claims> {
        let members = jwt.verify(keys)?;
        let issuer = members.text("iss")?;
        let is_ours = self.issuers.iter().any(|known| known == issuer)
            && members.text("tid")?.eq_ignore_ascii_case(&self.id)
            && members.text("aud")? == self.audience;
        let claims = Claims {
            oid: members.text("oid")?.to_owned(),
            appid: app_id(&members)?.to_owned(),
            roles: members.texts("roles")?,
            not_before: members.number("nbf")?,
            expires: members.number("exp")?,
        };
        (is_ours && is_app_only(&members) && claims.are_valid(unix_time)).then_some(claims)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenant(..)")
    }
}

impl Claims {
    /// Whether `unix_time` is between `nbf` and `exp`, with a tolerance of [`SKEW`].
    pub const fn are_valid(&self, unix_time: u64) -> bool {
        self.not_before.saturating_sub(SKEW) <= unix_time && unix_time < self.expires.saturating_add(SKEW)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

/// Whether a token is app-only: the application has it for itself. A token on behalf of a user names the
/// application as well, but any user may be behind it.
///
/// Microsoft, "Secure applications and APIs by validating claims": `idtyp` is `app`. That claim is optional:
/// it is absent unless the registration of the audience asks for it. Without it, the subject of the token
/// must be the application itself: `sub` equals `oid`. A user's token mostly has `scp`, and its `sub` differs
/// between applications.
fn is_app_only(members: &Members) -> bool {
    let is_app = match members.has("idtyp") {
        true => members.text("idtyp") == Some("app"),
        false => members.text("sub").is_some_and(|subject| members.text("oid") == Some(subject)),
    };
    is_app && !members.has("scp")
}

/// The id of the application: `appid` in version 1 of tokens, `azp` in version 2.
fn app_id(members: &Members) -> Option<&str> {
    match (members.has("appid"), members.has("azp")) {
        (true, false) => members.text("appid"),
        (false, true) => members.text("azp"),
        // Reject tokens with both claims (ambiguous) or with neither.
        (true, true) | (false, false) => None,
    }
}

/// Parses a GUID in the form that Entra ID writes, into lower case.
pub(super) fn guid(text: &str) -> Option<String> {
    let mut groups = text.split('-');
    let valid = [8, 4, 4, 4, 12].iter().all(|digits| {
        groups
            .next()
            .is_some_and(|group| group.len() == *digits && group.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    (valid && groups.next().is_none()).then(|| text.to_ascii_lowercase())
}

/// How far Entra ID's clock and the host's may differ, in seconds. Microsoft's own libraries allow five
/// minutes. Hosts in Azure have the time from Azure, so a minute is plenty.
const SKEW: u64 = 60;
