//! The tenant whose applications are callers, and the checks of their access tokens.

use std::fmt;

use super::claims::{Claims, Identity, Validity};
use super::jwt::{Jwt, Members};
use crate::azure::issuer::JwksSource;
use crate::azure::jwks::{Algorithm, SigningKeys};
use crate::azure::vault::Vault;
use crate::env::Lookup;
use crate::error::{AuthFailure, SettingError};

/// A tenant of Entra ID, and the application in it that represents this gateway.
pub struct Tenant {
    id: String,
    audience: String,
    issuers: [String; 2],
    source: JwksSource,
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
        let (source, issuers) = JwksSource::of_tenant(settings, vault, &id)?;
        Ok(Some(Self { id, audience, issuers, source }))
    }

    /// Whether the tenant's tokens have this issuer.
    pub(super) fn has_issuer(&self, issuer: &str) -> bool {
        self.issuers.iter().any(|known| known == issuer)
    }

    /// Whether `jwt` is signed as Entra ID signs: with RS256, and with no other type than JWT.
    pub(super) fn accepts(jwt: &Jwt<'_>) -> bool {
        jwt.algorithm() == Algorithm::Rs256 && !jwt.is_jose()
    }

    /// Where the tenant publishes its JWKS.
    pub(super) const fn source(&self) -> &JwksSource {
        &self.source
    }

    /// The claims of `jwt`, which has an issuer of this tenant, if one of `keys` has signed it and it is
    /// valid at `unix_time`.
    ///
    /// The signature comes first. Then come the tenant (`tid`), the audience (`aud`), the time (`nbf`,
    /// `exp`), and that the token is app-only.
    pub(super) fn claims(
        &self,
        jwt: &Jwt<'_>,
        keys: &SigningKeys,
        unix_time: u64,
    ) -> Result<Claims, AuthFailure> {
        let members = jwt.verify(keys)?;
        let tenant = members.text("tid").ok_or(AuthFailure::Claims)?;
        if !tenant.eq_ignore_ascii_case(&self.id) {
            return Err(AuthFailure::Tenant);
        }
        // Entra ID writes no list.
        if members.text("aud") != Some(&self.audience) {
            return Err(AuthFailure::Audience);
        }
        let claims = application(members).ok_or(AuthFailure::Claims)?;
        claims.validity.check(unix_time)?;
        if is_app_only(members) { Ok(claims) } else { Err(AuthFailure::NotAppOnly) }
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenant(..)")
    }
}

/// The claims about the application that the token was issued to.
fn application(members: &Members) -> Option<Claims> {
    let identity = Identity::Application {
        oid: members.text("oid")?.to_owned(),
        appid: app_id(members)?.to_owned(),
        roles: members.texts("roles")?,
    };
    let validity = Validity { not_before: members.number("nbf")?, expires: members.number("exp")? };
    Some(Claims { identity, validity })
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
