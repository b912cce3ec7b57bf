//! The configured vault: the request for a secret, and what the answers mean.
//!
//! Sources: Microsoft, "Get Secret" (REST reference), "Authentication, requests and responses", "Azure Key
//! Vault REST API error codes". The texts and codes of errors are those of recorded answers in Microsoft's
//! SDK repositories.

pub(crate) mod details;

use super::cloud::{Cloud, PUBLIC};
use super::token_source::Token;
use super::{Answer, Call, CallError, Endpoint, ErrorBody, challenge};
use crate::error::{Denial, Error, Service, SettingError, TokenMismatch};
use crate::model::{Redacted, Secret, SecretName, SecretVersion};

/// The configured vault. A token is sent nowhere else.
///
/// ```
/// # use keyvault_gateway::azure::vault::Vault;
/// fn audience(vault: &Vault) -> String { vault.audience().as_str().to_owned() }
/// ```
///
/// Its address is a setting. Other modules cannot read or change it, or make a call with a token:
///
/// ```compile_fail,E0451
/// # use keyvault_gateway::azure::{Endpoint, vault::Vault};
/// fn update(vault: Vault, origin: Endpoint) -> Vault { Vault { origin, ..vault } }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, vault::Vault};
/// fn origin(vault: &Vault) -> &Endpoint { &vault.origin }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, vault::Vault};
/// fn redirect(vault: &mut Vault, elsewhere: Endpoint) { vault.origin = elsewhere }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::azure::vault::Vault;
/// fn parse() -> Option<Vault> { Vault::parse("KeyVaultUri", "https://attacker.example", None, None).ok() }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::{azure::{token_source::Token, vault::Vault}, model::SecretName};
/// fn call(vault: &Vault, name: &SecretName, token: &Token) { vault.call(name, None, token); }
/// ```
#[derive(Clone, Debug)]
pub struct Vault {
    origin: Endpoint,
    audience: Audience,
    api_version: String,
    cloud: &'static Cloud,
}

/// The audience of a token: the `resource` of a token request, `https://` and a host without a slash at the
/// end. Key Vault refuses tokens for its name with a slash (`AKV10022`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(String);

impl Vault {
    /// The address of the vault, without a path.
    pub const fn origin(&self) -> &Endpoint {
        &self.origin
    }

    /// Parses the address `uri`, which is the value of the setting `name`, and the settings `resource` and
    /// `api_version`.
    pub(crate) fn parse(
        name: &'static str,
        uri: &str,
        resource: Option<&str>,
        api_version: Option<&str>,
    ) -> Result<Self, SettingError> {
        let invalid = SettingError { name, should: "must be the https address of a vault, without a path" };
        let origin = Endpoint::parse(uri).filter(Endpoint::is_origin).ok_or(invalid)?;
        if !origin.is_tls() && !origin.is_loopback() {
            return Err(SettingError { name, should: "may be plain http only for a loopback address" });
        }
        if origin.host().contains(".managedhsm.") {
            return Err(SettingError {
                name,
                should: "is the address of a Managed HSM, which has keys and no secrets; it must be that \
                         of a vault",
            });
        }
        let cloud = Cloud::of_vault(&origin);
        let audience = match (resource, cloud) {
            (Some(resource), Some(cloud)) if resource != cloud.audience => {
                return Err(SettingError {
                    name: "KEY_VAULT_RESOURCE",
                    should: "must be the audience of the vault's cloud",
                });
            }
            (Some(resource), _) => Audience::parse(resource).ok_or(SettingError {
                name: "KEY_VAULT_RESOURCE",
                should: "must be https:// and a host, without a slash at the end",
            })?,
            (None, Some(cloud)) => Audience(cloud.audience.to_owned()),
            (None, None) => {
                return Err(SettingError {
                    name: "KEY_VAULT_RESOURCE",
                    should: "must be set, as the vault has none of the known Key Vault host names",
                });
            }
        };
        let cloud = cloud.or_else(|| Cloud::of_audience(&audience.0));
        Ok(Self {
            origin,
            audience,
            api_version: parse_api_version(api_version.unwrap_or(DEFAULT_API_VERSION)).ok_or(
                SettingError {
                    name: "KEY_VAULT_API_VERSION",
                    should: "must be an API version such as 2025-07-01 or 7.4",
                },
            )?,
            cloud: cloud.unwrap_or(PUBLIC),
        })
    }

    /// The vault's address, without a slash at the end.
    pub fn uri(&self) -> String {
        let scheme = if self.origin.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.origin.authority())
    }

    /// The vault's host and port, which identify it.
    pub(crate) fn authority(&self) -> &str {
        self.origin.authority()
    }

    /// The audience of a token for this vault.
    pub const fn audience(&self) -> &Audience {
        &self.audience
    }

    /// The cloud that the vault is in.
    pub(super) const fn cloud(&self) -> &'static Cloud {
        self.cloud
    }

    /// Whether a token for `audience` may be one for a vault: for this one, for one in Azure's clouds, or for
    /// Key Vault's own application.
    pub(crate) fn accepts_audience(&self, audience: &str) -> bool {
        let audience = audience.trim_end_matches('/');
        audience.eq_ignore_ascii_case(&self.audience.0)
            || audience.eq_ignore_ascii_case(KEY_VAULT_APP)
            || Cloud::of_audience(&audience.to_ascii_lowercase()).is_some()
    }

    /// The request for a secret, in the latest version or the given one. It has the token at once: with a
    /// managed identity, the answer to a request without a token would say nothing new.
    pub(crate) fn call(&self, name: &SecretName, version: Option<&SecretVersion>, token: &Token) -> Call {
        let (name, version) = (name.as_str(), version.map_or("", SecretVersion::as_str));
        let slash = if version.is_empty() { "" } else { "/" };
        let path = format!("/secrets/{name}{slash}{version}?api-version={}", self.api_version);
        let bearer = Redacted::new(format!("Bearer {}", token.expose()));
        Call::get(Service::Vault, self.origin.at(path)).header("authorization", bearer)
    }

    /// Parses the vault's answer to the request for `name` and `version`.
    pub(crate) fn parse_secret(
        &self,
        answer: Result<Answer, CallError>,
        name: &SecretName,
        version: Option<&SecretVersion>,
        unix_time: u64,
    ) -> Result<Secret, Error> {
        let answer = Answer::from_call(Service::Vault, answer, unix_time)?;
        match answer.status() {
            200 => parse_body(&answer, name, version).ok_or(Error::VaultUnusable),
            401 => Err(self.token_error(&answer, unix_time)),
            403 => Err(denial(&ErrorBody::of(&answer))),
            404 if ErrorBody::of(&answer).code == "SecretNotFound" => {
                Err(Error::SecretNotFound(name.clone(), version.cloned()))
            }
            status => Err(Error::VaultRefused(status, ErrorBody::of(&answer).operator_code())),
        }
    }

    /// The error of a 401, which is about the token and never about the secret.
    ///
    /// Some reasons are final: the vault will never accept such a token. All others may pass, as a vault also
    /// answers 401 while it cannot check a token: one and the same token was refused and accepted within a
    /// second (`AKV10046`, Azure-Samples/azuresandbox issue 362).
    fn token_error(&self, answer: &Answer, unix_time: u64) -> Error {
        let body = ErrorBody::of(answer);
        let by_challenge = challenge::mismatch(answer.challenge.as_deref(), self.audience.as_str());
        let numbered = body.number.as_deref();
        let by_code =
            FINAL_CODES.iter().find(|(code, _)| numbered == Some(*code)).map(|(_, mismatch)| *mismatch);
        let by_message =
            || MESSAGES.iter().find(|(text, _)| body.text.contains(text)).map(|(_, mismatch)| *mismatch);
        let mismatch = match by_challenge {
            Some(TokenMismatch::Claims) => by_challenge,
            _ if numbered == Some(KEY_NOT_FOUND) => None,
            _ => by_code.or(by_challenge).or_else(by_message),
        };
        let code = body.operator_code();
        mismatch.map_or_else(
            || Error::TokenNotAccepted { retry_after: answer.retry_after(unix_time), code: code.clone() },
            |mismatch| Error::TokenRefused(mismatch, code.clone()),
        )
    }
}

impl Audience {
    fn parse(text: &str) -> Option<Self> {
        let endpoint = Endpoint::parse(text)?;
        (endpoint.is_tls() && endpoint.is_origin() && !text.ends_with('/')).then(|| Self(text.to_owned()))
    }

    /// The audience of an assertion for Entra ID in this cloud, in place of a vault's.
    pub(super) fn of_assertion(cloud: &Cloud) -> Self {
        Self(cloud.exchange.to_owned())
    }

    /// The audience, as token sources take it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parses the secret, if the answer is about the requested one.
fn parse_body(answer: &Answer, name: &SecretName, version: Option<&SecretVersion>) -> Option<Secret> {
    let mut bundle = answer.json()?;
    let value = bundle.take_text("value")?;
    let mut segments = bundle.get("id").as_text()?.rsplit('/');
    let actual = SecretVersion::parse(segments.next()?)?;
    let is_named = name.is_same_as(segments.next()?) && segments.next()? == "secrets";
    let is_version = version.is_none_or(|pinned| *pinned == actual);
    (is_named && is_version).then(|| Secret::new(value, actual, details::parse(&bundle)))
}

fn denial(body: &ErrorBody) -> Error {
    let denial = match body.inner_code.as_str() {
        "SecretDisabled" => return Error::SecretDisabled,
        "AccessDenied" => Denial::AccessPolicy,
        "ForbiddenByRbac" => Denial::RoleAssignment,
        "ForbiddenByFirewall" => Denial::Firewall,
        "ForbiddenByConnection" => Denial::PrivateLink,
        "ForbiddenByPolicy" => Denial::OnBehalfOf,
        // Versions of the API before 7.0 have no inner code.
        "" if body.text.contains("on a disabled secret") => return Error::SecretDisabled,
        _ => Denial::Unexplained,
    };
    Error::VaultDenied(denial, body.operator_code())
}

fn parse_api_version(text: &str) -> Option<String> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    ((1..=32).contains(&text.len()) && allowed).then(|| text.to_owned())
}

/// Codes of Key Vault, and of the library with which it checks tokens (Microsoft.IdentityModel), for a token
/// that it will never accept.
const FINAL_CODES: [(&str, TokenMismatch); 4] = [
    ("AKV10022", TokenMismatch::Audience),
    ("AKV10032", TokenMismatch::Issuer),
    ("IDX10214", TokenMismatch::Audience),
    ("IDX10205", TokenMismatch::Issuer),
];

/// The vault cannot find the key to check a signature with. That passes by itself.
const KEY_NOT_FOUND: &str = "AKV10046";

/// Texts with the meaning of [`FINAL_CODES`] in answers without a code, as in those of 2019.
const MESSAGES: [(&str, TokenMismatch); 2] =
    [("Invalid audience", TokenMismatch::Audience), ("Invalid issuer", TokenMismatch::Issuer)];

/// Key Vault's own application, which it accepts as an audience (text of its error `AKV10022`).
const KEY_VAULT_APP: &str = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093";

/// The version that a released client requests (Azure.Security.KeyVault.Secrets 4.9.0). Later ones request
/// 2026-04-01 (azure-keyvault-secrets 4.12.0).
const DEFAULT_API_VERSION: &str = "2025-07-01";

#[cfg(test)]
mod tests;
