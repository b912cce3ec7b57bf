//! What Entra says of an application in the tokens that it gives it for another one.

use serde_json::{Value, json};

/// An application in a tenant, as its tokens for another one have it.
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// Whom the token is for.
    pub audience: &'a str,
    /// The object id of the application's identity.
    pub oid: &'a str,
    /// Its application id.
    pub appid: &'a str,
    /// Its roles in the application that the token is for.
    pub roles: &'a [&'a str],
}

impl Application<'_> {
    /// The claims of a token of version 1, as an audience that asks for nothing else gets it, that is given out at `now`
    /// and ends 24 hours later. The application proved itself with a certificate, as managed identities do. Times are in
    /// Unix seconds.
    pub fn claims(&self, now: u64) -> Value {
        let issuer = format!("https://sts.windows.net/{}/", self.tenant);
        let issued = now.saturating_sub(ALLOWANCE);
        let mut claims = json!({
            "aud": self.audience,
            "iss": issuer,
            "iat": issued,
            "nbf": issued,
            "exp": now.saturating_add(LIFETIME),
            "aio": "k2BgYPhZ4bVq4P7sYlmJ9RjWzG0LAA==",
            "appid": self.appid,
            "appidacr": "2",
            "idp": issuer,
            "idtyp": "app",
            "oid": self.oid,
            "rh": "1.AVwAXE8bbwsvbk-dDDpbjn0cQg.",
            "sub": self.oid,
            "tid": self.tenant,
            "uti": "Zr1aVbqk0k6l3y8nQ2wSAA",
            "ver": "1.0",
        });
        if !self.roles.is_empty() {
            claims["roles"] = self.roles.into();
        }
        claims
    }

    /// The same of version 2, in which the audience is usually the id of an application.
    pub fn claims_v2(&self, now: u64) -> Value {
        let mut claims = self.claims(now);
        claims["iss"] = format!("https://login.microsoftonline.com/{}/v2.0", self.tenant).into();
        claims["ver"] = "2.0".into();
        if let Some(claims) = claims.as_object_mut() {
            for (older, newer) in [("appid", "azp"), ("appidacr", "azpacr")] {
                let value = claims.remove(older).unwrap_or_default();
                claims.insert(newer.to_owned(), value);
            }
            // Who is its own identity provider is not named, and `idtyp` comes only to who asks for it.
            claims.remove("idp");
            claims.remove("idtyp");
        }
        claims
    }
}

/// Seconds: 24 hours, as for every token of a managed identity.
const LIFETIME: u64 = 24 * 60 * 60;

/// Seconds: for clocks that are late a token has begun five minutes before it is given out. The samples of the claims
/// reference live 3,900 seconds, of which a client is told 3,599.
const ALLOWANCE: u64 = 5 * 60;
