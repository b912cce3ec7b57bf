//! The tenant whose applications may ask, and which tokens of theirs are good.

use std::fmt;

use super::jwt::{Jwt, Members};
use crate::azure::jwks::{JwksEndpoint, SigningKeys};
use crate::azure::vault::Vault;
use crate::env::Lookup;
use crate::error::SettingError;

/// A tenant of Entra ID, and the application in it that stands for this gateway.
pub struct Tenant {
    id: String,
    audience: String,
    issuers: [String; 2],
    jwks_endpoint: JwksEndpoint,
}

/// What a good token says of the application that it was given to.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The object id of its identity.
    pub(super) oid: String,
    /// Its application id.
    pub(super) appid: String,
    /// The roles that it has in the application that stands for this gateway.
    pub(super) roles: Vec<String>,
    not_before: u64,
    expires: u64,
}

impl Tenant {
    /// Reads `GATEWAY_JWT_TENANT` and `GATEWAY_JWT_AUDIENCE`; `vault` says which cloud this is.
    pub(super) fn parse(settings: Lookup<'_>, vault: &Vault) -> Result<Option<Self>, SettingError> {
        let both = |name| SettingError {
            name,
            should: "must be set together with the other setting of Entra callers",
        };
        let id = settings.text("GATEWAY_JWT_TENANT")?;
        let audience = settings.header_text("GATEWAY_JWT_AUDIENCE")?;
        let wrong = SettingError {
            name: "GATEWAY_JWT_TENANT",
            should: "must be the id of a tenant, a GUID, as tokens have no other name of it",
        };
        let id = id.map(|it| guid(&it).ok_or(wrong)).transpose()?;
        let (id, audience) = match (id, audience) {
            (None, None) => return Ok(None),
            (Some(id), Some(audience)) => (id, audience.expose().clone()),
            (Some(_), None) => return Err(both("GATEWAY_JWT_AUDIENCE")),
            (None, Some(_)) => return Err(both("GATEWAY_JWT_TENANT")),
        };
        if vault.has_tokens_for(&audience) {
            return Err(SettingError {
                name: "GATEWAY_JWT_AUDIENCE",
                should: "must be an application of your own, as whoever gets a token could read the vault with it",
            });
        }
        let jwks_endpoint = JwksEndpoint::parse(settings, vault, &id)?;
        Ok(Some(Self { issuers: jwks_endpoint.issuers(&id), id, audience, jwks_endpoint }))
    }

    /// Where its keys are.
    pub const fn jwks_endpoint(&self) -> &JwksEndpoint {
        &self.jwks_endpoint
    }

    /// The claims of `jwt`, if it is signed by one of `keys` and good at `unix_time`.
    ///
    /// The signature comes first, so that nobody learns what of a forged token would have been right. Then: who issued it
    /// (`iss`, `tid`), whom it is for (`aud`), and when (`nbf`, `exp`); and that it was given to an application for itself.
    pub fn claims(&self, jwt: &Jwt<'_>, keys: &SigningKeys, unix_time: u64) -> Option<Claims> {
        let members = jwt.verify(keys)?;
        let issuer = members.text("iss")?;
        let ours = self.issuers.iter().any(|it| it == issuer)
            && members.text("tid")?.eq_ignore_ascii_case(&self.id)
            && members.text("aud")? == self.audience;
        let claims = Claims {
            oid: members.text("oid")?.to_owned(),
            appid: application(&members)?.to_owned(),
            roles: members.texts("roles")?.to_vec(),
            not_before: members.number("nbf")?,
            expires: members.number("exp")?,
        };
        (ours && for_itself(&members) && claims.are_good(unix_time)).then_some(claims)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenant(..)")
    }
}

impl Claims {
    /// Whether the token was good at `unix_time` already, and still is.
    pub const fn are_good(&self, unix_time: u64) -> bool {
        self.not_before.saturating_sub(SKEW) <= unix_time && unix_time < self.expires.saturating_add(SKEW)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

/// Whether a token was given to an application for itself. One that it has on behalf of a user names an application that
/// did not ask, and anybody may be its user.
///
/// Microsoft, "Secure applications and APIs by validating claims": `idtyp` is `app`. That claim is optional, and not there
/// unless the registration of the audience asks for it; then the subject of the token has to be the application itself, `sub`
/// being `oid`. A user's token has `scp`, mostly, and a `sub` that is another for each application.
fn for_itself(members: &Members) -> bool {
    let said = match members.has("idtyp") {
        true => members.text("idtyp") == Some("app"),
        false => members.text("sub").is_some_and(|it| members.text("oid") == Some(it)),
    };
    said && !members.has("scp")
}

/// The application that has the token: `appid` in the first version of tokens, `azp` in the second.
fn application(members: &Members) -> Option<&str> {
    match (members.has("appid"), members.has("azp")) {
        (true, false) => members.text("appid"),
        (false, true) => members.text("azp"),
        // Two could differ, and none names nobody.
        (true, true) | (false, false) => None,
    }
}

/// Accepts a GUID, in the form that Entra ID writes; in lower case.
pub(super) fn guid(text: &str) -> Option<String> {
    let mut groups = text.split('-');
    let right = [8, 4, 4, 4, 12].iter().all(|digits| {
        groups.next().is_some_and(|it| it.len() == *digits && it.bytes().all(|it| it.is_ascii_hexdigit()))
    });
    (right && groups.next().is_none()).then(|| text.to_ascii_lowercase())
}

/// How far Entra's clock and the host's may differ, in seconds. Microsoft's own libraries allow five minutes; hosts in
/// Azure have the time from Azure, so a minute is plenty.
const SKEW: u64 = 60;
