//! The vault: which one it is, how a secret is asked for, and what its answers mean.
//!
//! Sources: Microsoft, "Get Secret" (REST reference), "Authentication, requests and responses", "Azure Key Vault REST
//! API error codes"; the texts and codes of errors are those of recorded answers in Microsoft's SDK repositories.

use serde::Deserialize;

use super::cloud::{Cloud, PUBLIC};
use super::token_source::Token;
use super::{Answer, Call, Endpoint, ErrorBody, challenge};
use crate::azure::CallError;
use crate::error::{Complaint, Denial, Error, FailureKind, Service, SettingError};
use crate::model::{Redacted, Secret, SecretName, SecretVersion};

/// The configured vault. A token goes nowhere else.
///
/// ```
/// fn look(vault: &keyvault_gateway::azure::vault::Vault) -> String {
///     format!("{}", vault.audience().as_str())
/// }
/// ```
///
/// Its address is a setting. Other modules cannot read or change it, or ask the vault with a token:
///
/// ```compile_fail,E0451
/// fn update(vault: keyvault_gateway::azure::vault::Vault, origin: keyvault_gateway::azure::Endpoint) -> keyvault_gateway::azure::vault::Vault { keyvault_gateway::azure::vault::Vault { origin, ..vault } }
/// ```
/// ```compile_fail,E0616
/// fn origin(vault: &keyvault_gateway::azure::vault::Vault) -> &keyvault_gateway::azure::Endpoint { &vault.origin }
/// ```
/// ```compile_fail,E0616
/// fn lead(vault: &mut keyvault_gateway::azure::vault::Vault, elsewhere: keyvault_gateway::azure::Endpoint) { vault.origin = elsewhere }
/// ```
/// ```compile_fail,E0624
/// fn parse() -> Option<keyvault_gateway::azure::vault::Vault> { keyvault_gateway::azure::vault::Vault::parse("KeyVaultUri", "https://attacker.example", None, None).ok() }
/// ```
/// ```compile_fail,E0624
/// fn ask(vault: &keyvault_gateway::azure::vault::Vault, name: &keyvault_gateway::model::SecretName, token: &keyvault_gateway::azure::token_source::Token) { vault.call(name, None, token); }
/// ```
#[derive(Clone, Debug)]
pub struct Vault {
    origin: Endpoint,
    audience: Audience,
    api_version: String,
    cloud: &'static Cloud,
}

/// Whom a token is for: the `resource` of a token request, `https://` and a host without a slash at the end, since
/// Key Vault refuses tokens for its name with a slash (`AKV10022`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(String);

impl Vault {
    /// The vault at `uri`, which the setting `name` gives; `resource` and `api_version` are settings, too.
    pub(crate) fn parse(
        name: &'static str,
        uri: &str,
        resource: Option<&str>,
        api_version: Option<&str>,
    ) -> Result<Self, SettingError> {
        let wrong = SettingError { name, should: "must be the https address of a vault, without a path" };
        let origin = Endpoint::parse(uri).filter(Endpoint::is_origin).ok_or(wrong)?;
        if !origin.is_tls() && !origin.is_loopback() {
            return Err(SettingError { name, should: "may be plain http only for a loopback address" });
        }
        if origin.host().contains(".managedhsm.") {
            return Err(SettingError {
                name,
                should: "is the address of a Managed HSM, which has keys and no secrets; it must be that of a vault",
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
    pub(crate) fn uri(&self) -> String {
        let scheme = if self.origin.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.origin.authority())
    }

    /// The vault's host and port, which tell it from others.
    pub(crate) fn authority(&self) -> &str {
        self.origin.authority()
    }

    /// Whom a token for this vault is for.
    pub const fn audience(&self) -> &Audience {
        &self.audience
    }

    /// The cloud that the vault is in.
    pub(super) const fn cloud(&self) -> &'static Cloud {
        self.cloud
    }

    /// Whether a token for `audience` could be one for a vault: ours, one of Azure's clouds, or Key Vault's own application.
    pub(crate) fn has_tokens_for(&self, audience: &str) -> bool {
        let audience = audience.trim_end_matches('/');
        audience.eq_ignore_ascii_case(&self.audience.0)
            || audience.eq_ignore_ascii_case(KEY_VAULT_APP)
            || Cloud::of_audience(&audience.to_ascii_lowercase()).is_some()
    }

    /// Asks for a secret, the latest version or the given one. The token is sent at once: with a managed identity, an
    /// unauthenticated first request would teach us nothing.
    pub(crate) fn call(&self, name: &SecretName, version: Option<&SecretVersion>, token: &Token) -> Call {
        let (name, version) = (name.as_str(), version.map_or("", SecretVersion::as_str));
        let slash = if version.is_empty() { "" } else { "/" };
        let path = format!("/secrets/{name}{slash}{version}?api-version={}", self.api_version);
        let bearer = Redacted::new(format!("Bearer {}", token.expose()));
        Call::get(Service::Vault, self.origin.at(path)).header("authorization", bearer)
    }

    /// What the vault's answer means for the request of `name` and `version`.
    pub(crate) fn parse_secret(
        &self,
        answer: Result<Answer, CallError>,
        name: &SecretName,
        version: Option<&SecretVersion>,
        unix_time: u64,
    ) -> Result<Secret, Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(CallError::TimedOut) => return Err(Error::DeadlineExceeded),
            Err(CallError::Lost) => {
                return Err(Error::upstream(Service::Vault, FailureKind::Unreachable, None));
            }
            Err(CallError::NotAllowed) => return Err(Error::CallNotAllowed),
            Err(CallError::TooLarge) => return Err(Error::VaultUnusable),
        };
        match answer.status() {
            200 => parse_body(&answer, name, version).ok_or(Error::VaultUnusable),
            401 => Err(self.token_error(&answer, unix_time)),
            403 => Err(denial(&ErrorBody::of(&answer))),
            404 if ErrorBody::of(&answer).code == "SecretNotFound" => {
                Err(Error::SecretNotFound(name.clone(), version.cloned()))
            }
            429 => {
                Err(Error::upstream(Service::Vault, FailureKind::Throttled, answer.retry_after(unix_time)))
            }
            408 | 500..=599 => {
                Err(Error::upstream(Service::Vault, FailureKind::Failing, answer.retry_after(unix_time)))
            }
            status => Err(Error::VaultRefused(status, ErrorBody::of(&answer).operator_code())),
        }
    }

    /// What a 401 means. It is about the token and never about the secret.
    ///
    /// Some reasons last: such a token will never do. All others may pass, since a vault says 401 as well where it cannot check a
    /// token at the moment: one and the same token was refused and accepted within a second (`AKV10046`,
    /// Azure-Samples/azuresandbox issue 362).
    fn token_error(&self, answer: &Answer, unix_time: u64) -> Error {
        let body = ErrorBody::of(answer);
        let challenged = challenge::complaint(answer.challenge.as_deref(), self.audience.as_str());
        let numbered = body.number.as_deref();
        let coded = LASTING.iter().find(|it| numbered == Some(it.0)).map(|it| it.1);
        let worded = || SENTENCES.iter().find(|it| body.text.contains(it.0)).map(|it| it.1);
        let complaint = match challenged {
            Some(Complaint::Claims) => challenged,
            _ if numbered == Some(PASSING) => None,
            _ => coded.or(challenged).or_else(worded),
        };
        let code = body.operator_code();
        complaint.map_or_else(
            || Error::TokenNotAccepted { retry_after: answer.retry_after(unix_time), code: code.clone() },
            |complaint| Error::TokenRefused(complaint, code.clone()),
        )
    }
}

impl Audience {
    fn parse(text: &str) -> Option<Self> {
        let endpoint = Endpoint::parse(text)?;
        (endpoint.is_tls() && endpoint.is_origin() && !text.ends_with('/')).then(|| Self(text.to_owned()))
    }

    /// The audience, as token sources take it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the secret, if the answer is about the one that was asked for.
fn parse_body(answer: &Answer, name: &SecretName, version: Option<&SecretVersion>) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Bundle {
        value: Redacted,
        id: String,
    }
    let Bundle { value, id } = answer.json()?;
    let mut segments = id.rsplit('/');
    let read = SecretVersion::parse(segments.next()?)?;
    let about_it = name.is_same_as(segments.next()?) && segments.next()? == "secrets";
    let right_version = version.is_none_or(|it| *it == read);
    (about_it && right_version).then(|| Secret::new(value, read))
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
    let allowed = text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'.');
    ((1..=32).contains(&text.len()) && allowed).then(|| text.to_owned())
}

/// The codes of Key Vault, and of the library that it checks tokens with (Microsoft.IdentityModel), for what a token will never do.
const LASTING: [(&str, Complaint); 4] = [
    ("AKV10022", Complaint::Audience),
    ("AKV10032", Complaint::Issuer),
    ("IDX10214", Complaint::Audience),
    ("IDX10205", Complaint::Issuer),
];

/// The vault cannot find the key to check a signature with, which passes by itself.
const PASSING: &str = "AKV10046";

/// The same as [`LASTING`] where there is no code, as in the answers of 2019.
const SENTENCES: [(&str, Complaint); 2] =
    [("Invalid audience", Complaint::Audience), ("Invalid issuer", Complaint::Issuer)];

/// Key Vault's own application, which it accepts as an audience (text of its error `AKV10022`).
const KEY_VAULT_APP: &str = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093";

/// What a released client asks for (Azure.Security.KeyVault.Secrets 4.9.0). Later ones have 2026-04-01 (azure-keyvault-secrets
/// 4.12.0).
const DEFAULT_API_VERSION: &str = "2025-07-01";

#[cfg(test)]
mod tests;
