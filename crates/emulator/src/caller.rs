//! The tokens that Entra gives an application for another one, as callers of a gateway bring them.
//!
//! Source: Microsoft Learn, "Access token claims reference".

use serde_json::{Value, json};

use crate::{Emulator, facts, now, random};

impl Emulator {
    /// The token with which the managed identity `oid` of the application `appid` calls `audience`, in which it has
    /// these roles. It is of version 1, as an audience that asks for nothing else gets it, and good for 24 hours of
    /// the calendar.
    pub fn caller_token(&self, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> String {
        self.caller_token_at(now(), audience, oid, appid, roles)
    }

    /// The same, given out at `now`, in Unix seconds: for who has a clock of its own.
    pub fn caller_token_at(
        &self,
        now: i64,
        audience: &str,
        oid: &str,
        appid: &str,
        roles: &[&str],
    ) -> String {
        self.sign(&self.signing_header(), &Self::caller_claims(now, audience, oid, appid, roles))
    }

    /// [`Emulator::caller_token`] of version 2, in which the audience is usually the id of an application.
    pub fn caller_token_v2(&self, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> String {
        self.sign(&self.signing_header(), &Self::caller_claims_v2(now(), audience, oid, appid, roles))
    }

    /// The claims of [`Emulator::caller_token_at`], for a test to change and to [sign](Emulator::sign).
    pub fn caller_claims(now: i64, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> Value {
        claims(audience, oid, appid, roles, Life { now, expires: now.saturating_add(LIFETIME) })
    }

    /// The same of version 2.
    pub fn caller_claims_v2(now: i64, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> Value {
        let mut claims = Self::caller_claims(now, audience, oid, appid, roles);
        claims["iss"] = format!("https://login.microsoftonline.com/{}/v2.0", facts::TENANT).into();
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

/// When a token is given out and when it ends, in Unix seconds.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) now: i64,
    pub(crate) expires: i64,
}

/// The claims of version 1 for an application that proved itself with a certificate, as managed identities do.
pub(crate) fn claims(audience: &str, oid: &str, appid: &str, roles: &[&str], life: Life) -> Value {
    let issuer = format!("https://sts.windows.net/{}/", facts::TENANT);
    let issued = life.now.saturating_sub(ALLOWANCE);
    let mut claims = json!({
        "aud": audience,
        "iss": issuer,
        "iat": issued,
        "nbf": issued,
        "exp": life.expires,
        "aio": random::letters::<40>(),
        "appid": appid,
        "appidacr": "2",
        "idp": issuer,
        "idtyp": "app",
        "oid": oid,
        "rh": format!("1.{}.", random::letters::<28>()),
        "sub": oid,
        "tid": facts::TENANT,
        "uti": random::letters::<22>(),
        "ver": "1.0",
    });
    if !roles.is_empty() {
        claims["roles"] = roles.into();
    }
    claims
}

/// Seconds: 24 hours, as for every token of a managed identity.
const LIFETIME: i64 = 24 * 60 * 60;

/// Seconds: for clocks that are late a token has begun five minutes before it is given out. The samples of the claims
/// reference live 3,900 seconds, of which a client is told 3,599.
const ALLOWANCE: i64 = 5 * 60;
