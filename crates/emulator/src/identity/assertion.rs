//! Client assertions in token requests to Entra: their checks, and Entra's refusals.
//!
//! Sources: Microsoft Learn, "Microsoft identity platform and the OAuth 2.0 client credentials flow", section
//! "Third case: Access token request with a federated credential"; "Important considerations and restrictions
//! for federated identity credentials". The order of the checks is not documented.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Issuer;
use super::entra::{EntraError, entra_error};
use super::expiry::format_time;
use crate::settings::FederatedCredential;

/// The only type that Entra documents (RFC 7523, section 2.2).
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Deserialize)]
struct Header {
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn all(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Several(audiences) => audiences,
        }
    }
}

/// Checks the client assertion `text` of the application `client_id` at `now`, in Unix seconds.
pub(super) fn check(text: &str, client_id: &str, issuer: &Issuer<'_>, now: i64) -> Result<(), EntraError> {
    let (header, claims) = parse(text).ok_or_else(malformed)?;
    check_trust(&claims, client_id, &issuer.settings.federated_credentials)?;
    let key = issuer.assertion_keys.keys().rev().find(|key| key.id() == header.kid);
    let key = key.ok_or_else(|| unknown_key(&header.kid, &claims.iss))?;
    if !key.verifies(text) {
        return Err(invalid_signature());
    }
    let begins = claims.nbf.unwrap_or_default();
    if (begins..claims.exp).contains(&now) { Ok(()) } else { Err(outside_time(now, begins, claims.exp)) }
}

fn parse(text: &str) -> Option<(Header, Claims)> {
    let mut parts = text.split('.');
    let (header, claims) = (parts.next()?, parts.next()?);
    parts.next()?;
    parts.next().is_none().then_some(())?;
    Some((decode(header)?, decode(claims)?))
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Finds the federated identity credential, by issuer, then by subject, then by audience.
fn check_trust(
    claims: &Claims,
    client_id: &str,
    credentials: &[FederatedCredential],
) -> Result<(), EntraError> {
    let own = credentials.iter().filter(|known| known.client_id.eq_ignore_ascii_case(client_id));
    let issuers: Vec<_> = own.filter(|known| known.issuer == claims.iss).collect();
    if issuers.is_empty() {
        return Err(no_match(700_211, "issuer", &claims.iss, ""));
    }
    let mut subjects = issuers.iter().filter(|known| known.subject == claims.sub).peekable();
    if subjects.peek().is_none() {
        let differs_in_case = issuers.iter().any(|known| known.subject.eq_ignore_ascii_case(&claims.sub));
        let (code, note) = if differs_in_case { (7_002_138, CASE_NOTE) } else { (700_213, "") };
        return Err(no_match(code, "subject", &claims.sub, note));
    }
    if subjects.any(|known| claims.aud.all().contains(&known.audience)) {
        return Ok(());
    }
    Err(no_match(700_212, "audience", &claims.aud.all().join(", "), ""))
}

/// Entra's texts (Azure/azure-workload-identity issue 1200 for issuer and subject, Azure/login issue 515 for
/// the case). That of the audience has the same form.
fn no_match(code: u32, claim: &str, value: &str, note: &str) -> EntraError {
    let text = format!(
        "No matching federated identity record found for presented assertion {claim} '{value}'.{note} Check \
         your federated identity credential Subject, Audience and Issuer against the presented assertion. \
         https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
    );
    entra_error(401, "invalid_client", code, text)
}

/// Entra's text (panva/openid-client issue 348). The status is not documented.
fn malformed() -> EntraError {
    entra_error(400, "invalid_request", 50_027, "JWT token is invalid or malformed.")
}

/// Entra's text (AzureAD/passport-azure-ad issue 453). The status is not documented.
pub(super) fn invalid_signature() -> EntraError {
    entra_error(401, "invalid_client", 700_027, "Client assertion contains an invalid signature.")
}

/// Entra's text (Azure/azure-workload-identity issue 1232).
fn unknown_key(key_id: &str, issuer: &str) -> EntraError {
    let text = format!(
        "The certificate with identifier {key_id} used to sign the federated credential could not be found \
         in the metadata of identity provider {issuer}. Please validate that your Identity Provider's \
         metadata exposes the key used to sign the incoming token."
    );
    entra_error(401, "invalid_client", 7_000_272, text)
}

/// Entra's text (AzureAD/microsoft-authentication-library-for-dotnet issue 4951).
fn outside_time(now: i64, begins: i64, ends: i64) -> EntraError {
    let [now, begins, ends] = [now, begins, ends]
        .map(|time| format_time("[year]-[month]-[day]T[hour]:[minute]:[second].0000000Z", time));
    let text = format!(
        "Client assertion is not within its valid time range. Current time: {now}, assertion valid from \
         {begins}, expiry time of assertion {ends}. Review the documentation at \
         https://learn.microsoft.com/entra/identity-platform/certificate-credentials ."
    );
    entra_error(401, "invalid_client", 700_024, text)
}

const CASE_NOTE: &str = " The subject matches with case-insensitive comparison, but not with case-sensitive \
                         comparison.";
