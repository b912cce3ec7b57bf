//! The tokens that Entra gives an application for another one, as callers of a gateway bring them.
//!
//! Source: Microsoft Learn, "Access token claims reference".

use serde_json::Value;
use testkit::entra::Application;

use crate::{Emulator, facts, now};

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
        application(audience, oid, appid, roles).claims(now.unsigned_abs())
    }

    /// The same of version 2.
    pub fn caller_claims_v2(now: i64, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> Value {
        application(audience, oid, appid, roles).claims_v2(now.unsigned_abs())
    }
}

/// When a token is made and when it ends, in Unix seconds.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) issued: i64,
    pub(crate) expires: i64,
}

/// The claims of version 1 for an application that proved itself with a certificate, as managed identities do.
pub(crate) fn claims(audience: &str, oid: &str, appid: &str, roles: &[&str], life: Life) -> Value {
    let mut claims = application(audience, oid, appid, roles).claims(life.issued.unsigned_abs());
    claims["exp"] = life.expires.into();
    claims
}

fn application<'a>(audience: &'a str, oid: &'a str, appid: &'a str, roles: &'a [&'a str]) -> Application<'a> {
    Application { tenant: facts::TENANT, audience, oid, appid, roles }
}
