//! The vault: which one it is, how a secret is asked for, and what its answers mean.
//!
//! Sources: Microsoft, "Get Secret" (REST reference), "Authentication, requests and responses", "Azure Key Vault REST
//! API error codes"; the texts and codes of errors are those of recorded answers in Microsoft's SDK repositories.

use serde::Deserialize;

use super::cloud::{Cloud, PUBLIC};
use super::identity::Token;
use super::{Answer, Call, Endpoint, ErrorBody, Upstream, challenge};
use crate::error::{Complaint, Denial, Error, FailureKind, Service, SettingError};
use crate::host::NoAnswer;
use crate::secret::{Redacted, SecretName, SecretVersion};

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
/// fn ask(vault: &keyvault_gateway::azure::vault::Vault, name: &keyvault_gateway::secret::SecretName, token: &keyvault_gateway::azure::identity::Token) { vault.get(name, None, token); }
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

/// A secret as Key Vault gave it.
#[derive(Debug)]
pub struct Secret {
    /// Its value.
    pub value: Redacted,
    /// Its version.
    pub version: SecretVersion,
    plain: bool,
}

impl Secret {
    pub(crate) fn new(value: Redacted, version: SecretVersion) -> Self {
        let plain = value.expose().bytes().all(|it| it >= b' ' && it != b'"' && it != b'\\');
        Self { value, version, plain }
    }

    /// Whether the value stands in JSON as it is (RFC 8259, section 7).
    pub(crate) const fn is_plain(&self) -> bool {
        self.plain
    }
}

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
    pub(crate) fn get(&self, name: &SecretName, version: Option<&SecretVersion>, token: &Token) -> Call {
        let (name, version) = (name.as_str(), version.map_or("", SecretVersion::as_str));
        let slash = if version.is_empty() { "" } else { "/" };
        let path = format!("/secrets/{name}{slash}{version}?api-version={}", self.api_version);
        let bearer = Redacted::new(format!("Bearer {}", token.expose()));
        Call::get(Upstream::Vault, self.origin.at(path)).header("authorization", bearer)
    }

    /// What the vault's answer means for the request of `name` and `version`.
    pub(crate) fn read(
        &self,
        answer: Result<Answer, NoAnswer>,
        name: &SecretName,
        version: Option<&SecretVersion>,
        unix_time: u64,
    ) -> Result<Secret, Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(NoAnswer::TimedOut) => return Err(Error::DeadlineExceeded),
            Err(NoAnswer::Lost) => {
                return Err(Error::upstream(Service::Vault, FailureKind::Unreachable, None));
            }
            Err(NoAnswer::NotAllowed) => return Err(Error::CallNotAllowed),
            Err(NoAnswer::TooLarge) => return Err(Error::VaultUnusable),
        };
        match answer.status() {
            200 => read_secret(&answer, name, version).ok_or(Error::VaultUnusable),
            401 => Err(self.token_error(&answer, unix_time)),
            403 => Err(denial(&ErrorBody::of(&answer))),
            404 if ErrorBody::of(&answer).code == "SecretNotFound" => {
                Err(Error::SecretNotFound(name.clone(), version.cloned()))
            }
            429 => Err(Error::upstream(Service::Vault, FailureKind::Throttled, answer.pause(unix_time))),
            408 | 500..=599 => {
                Err(Error::upstream(Service::Vault, FailureKind::Failing, answer.pause(unix_time)))
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
            || Error::TokenNotAccepted { pause: answer.pause(unix_time), code: code.clone() },
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
fn read_secret(answer: &Answer, name: &SecretName, version: Option<&SecretVersion>) -> Option<Secret> {
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
mod tests {
    use super::*;
    use crate::azure::identity::tests::token;
    use crate::error::Code;

    #[test]
    fn vaults_and_their_audiences() {
        let known = [
            ("https://my-vault.vault.azure.net", "https://vault.azure.net"),
            ("https://my-vault.vault.azure.net/", "https://vault.azure.net"),
            ("https://MY-VAULT.VAULT.AZURE.NET:443/", "https://vault.azure.net"),
            ("https://my-vault.vault.azure.cn", "https://vault.azure.cn"),
            ("https://my-vault.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
        ];
        for (uri, audience) in known {
            let vault = Vault::parse("KeyVaultUri", uri, None, None).unwrap();
            assert_eq!(vault.audience().as_str(), audience, "{uri}");
        }
        for uri in ["http://127.0.0.1:8080", "https://vault.internal", "http://localhost:1/"] {
            let vault = Vault::parse("KeyVaultUri", uri, Some("https://vault.azure.net"), None).unwrap();
            assert_eq!(vault.audience().as_str(), "https://vault.azure.net", "{uri}");
        }
    }

    #[test]
    fn what_is_no_vault() {
        let resource = Some("https://vault.azure.net");
        for (uri, resource, version, setting) in [
            ("my-vault.vault.azure.net", None, None, "KeyVaultUri"),
            ("https://my-vault.vault.azure.net/secrets", None, None, "KeyVaultUri"),
            ("https://my-vault.vault.azure.net/?x=1", None, None, "KeyVaultUri"),
            ("https://me@my-vault.vault.azure.net/", None, None, "KeyVaultUri"),
            ("http://my-vault.vault.azure.net/", None, None, "KeyVaultUri"),
            ("http://my-vault.vault.azure.net/", resource, None, "KeyVaultUri"),
            ("http://10.0.0.1/", resource, None, "KeyVaultUri"),
            ("https://example.com", None, None, "KEY_VAULT_RESOURCE"),
            ("https://vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
            ("https://ab.vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
            ("https://a.my-vault.vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
            ("https://my-vault.vault.azure.net.example.com", None, None, "KEY_VAULT_RESOURCE"),
            ("https://my-vaultvault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
            ("https://my--vault.vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
            ("https://my-vault.vault.azure.net:8443", None, None, "KEY_VAULT_RESOURCE"),
            ("https://my-vault.vault.microsoftazure.de", None, None, "KEY_VAULT_RESOURCE"),
            ("https://my-hsm.managedhsm.azure.net", None, None, "KeyVaultUri"),
            ("https://my-hsm.managedhsm.azure.cn/", None, None, "KeyVaultUri"),
            ("https://MY-HSM.managedhsm.usgovcloudapi.net", resource, None, "KeyVaultUri"),
            ("http://127.0.0.1:1", None, None, "KEY_VAULT_RESOURCE"),
            (
                "https://my-vault.vault.azure.net",
                Some("https://vault.azure.net/"),
                None,
                "KEY_VAULT_RESOURCE",
            ),
            ("https://my-vault.vault.azure.net", Some("http://vault.azure.net"), None, "KEY_VAULT_RESOURCE"),
            ("https://my-vault.vault.azure.net", Some("vault"), None, "KEY_VAULT_RESOURCE"),
            (
                "https://my-vault.vault.azure.net",
                Some("https://management.azure.com"),
                None,
                "KEY_VAULT_RESOURCE",
            ),
            ("https://vault.internal", Some("https://vault.azure.net/"), None, "KEY_VAULT_RESOURCE"),
            ("https://vault.internal", Some("http://vault.azure.net"), None, "KEY_VAULT_RESOURCE"),
            ("https://my-vault.vault.azure.net", None, Some("7.4&x=1"), "KEY_VAULT_API_VERSION"),
        ] {
            let error = Vault::parse("KeyVaultUri", uri, resource, version).unwrap_err();
            assert_eq!(error.name, setting, "{uri} {resource:?} {version:?}");
        }
    }

    #[test]
    fn requests() {
        let vault =
            Vault::parse("KeyVaultUri", "https://my-vault.vault.azure.net", None, Some("7.4")).unwrap();
        let version = SecretVersion::parse(VERSION);
        for (version, path) in [
            (None, "/secrets/Db-Password?api-version=7.4".to_owned()),
            (version.as_ref(), format!("/secrets/Db-Password/{VERSION}?api-version=7.4")),
        ] {
            let call = vault.get(&name(), version, &token("secret-token"));
            assert_eq!(*call.method(), http::Method::GET);
            assert_eq!(call.upstream(), Upstream::Vault);
            let endpoint = call.endpoint();
            assert_eq!(
                (endpoint.is_tls(), endpoint.authority(), endpoint.path_and_query()),
                (true, "my-vault.vault.azure.net", path.as_str())
            );
            assert!(call.body().expose().is_empty());
            let authorization = call.headers().iter().find(|it| it.0 == "authorization").unwrap();
            assert_eq!(authorization.1.expose(), "Bearer secret-token");
        }
    }

    #[test]
    fn secrets() {
        let id = |rest: &str| {
            format!(r#"{{"value":"v\r\n\u003c\u00fc","id":"https://x.vault.azure.net:443/{rest}"}}"#)
        };
        let other = "00000000000000000000000000000000";
        for (body, pinned, version) in [
            (id(&format!("secrets/Db-Password/{VERSION}")), None, Some(VERSION)),
            (id(&format!("secrets/db-password/{VERSION}")), Some(VERSION), Some(VERSION)),
            (id(&format!("secrets/db-password/{other}")), Some(VERSION), None),
            (id(&format!("secrets/another/{VERSION}")), None, None),
            (id(&format!("keys/db-password/{VERSION}")), None, None),
            (id("secrets/db-password"), None, None),
            (id(""), None, None),
            (r#"{"value":"v"}"#.to_owned(), None, None),
            (r#"{"id":"x"}"#.to_owned(), None, None),
            (format!(r#"["v","https://x.vault.azure.net/secrets/db-password/{VERSION}"]"#), None, None),
            ("{\"value\":".to_owned(), None, None),
            ("<html>".to_owned(), None, None),
            (String::new(), None, None),
        ] {
            let pinned = pinned.and_then(SecretVersion::parse);
            let read =
                vault().read(Ok(Answer::new(200, None, body.clone().into())), &name(), pinned.as_ref(), 0);
            let read = read.map(|it| (it.value.expose().clone(), it.version.as_str().to_owned()));
            let expected = version.map(|it| ("v\r\n<ü".to_owned(), it.to_owned()));
            assert_eq!(read, expected.ok_or(Error::VaultUnusable), "{body}");
        }
    }

    #[test]
    fn errors() {
        let inner = |code: &str| {
            format!(r#"{{"error":{{"code":"Forbidden","message":"m","innererror":{{"code":"{code}"}}}}}}"#)
        };
        let code = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        let denied = |denial, code| Error::VaultDenied(denial, Code::parse(code));
        for (status, body, error) in [
            (400, code("BadParameter"), Error::VaultRefused(400, Code::parse("BadParameter"))),
            (403, inner("SecretDisabled"), Error::SecretDisabled),
            (403, inner("AccessDenied"), denied(Denial::AccessPolicy, "AccessDenied")),
            (403, inner("ForbiddenByRbac"), denied(Denial::RoleAssignment, "ForbiddenByRbac")),
            (403, inner("ForbiddenByFirewall"), denied(Denial::Firewall, "ForbiddenByFirewall")),
            (403, inner("ForbiddenByConnection"), denied(Denial::PrivateLink, "ForbiddenByConnection")),
            (403, inner("ForbiddenByPolicy"), denied(Denial::OnBehalfOf, "ForbiddenByPolicy")),
            (403, inner("ForbiddenByNewRule"), denied(Denial::Unexplained, "ForbiddenByNewRule")),
            (403, code("Forbidden"), denied(Denial::Unexplained, "Forbidden")),
            (403, "<html>".to_owned(), denied(Denial::Unexplained, "")),
            // As in the answers of 2016-10-01.
            (
                403,
                r#"{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled secret."}}"#
                    .to_owned(),
                Error::SecretDisabled,
            ),
            (404, code("SecretNotFound"), Error::SecretNotFound(name(), None)),
            (404, code("ResourceNotFound"), Error::VaultRefused(404, Code::parse("ResourceNotFound"))),
            (404, "<html>".to_owned(), Error::VaultRefused(404, None)),
            (405, code("MethodNotAllowed"), Error::VaultRefused(405, Code::parse("MethodNotAllowed"))),
            (409, code("Conflict"), Error::VaultRefused(409, Code::parse("Conflict"))),
            (301, String::new(), Error::VaultRefused(301, None)),
            (204, String::new(), Error::VaultRefused(204, None)),
            (408, String::new(), Error::upstream(Service::Vault, FailureKind::Failing, None)),
            (429, code("Throttled"), Error::upstream(Service::Vault, FailureKind::Throttled, None)),
            (500, String::new(), Error::upstream(Service::Vault, FailureKind::Failing, None)),
            (503, code("ServiceUnavailable"), Error::upstream(Service::Vault, FailureKind::Failing, None)),
        ] {
            let read = vault().read(Ok(Answer::new(status, None, body.clone().into())), &name(), None, 0);
            assert_eq!(read.unwrap_err(), error, "{status} {body}");
        }
        for (no_answer, error) in [
            (NoAnswer::Lost, Error::upstream(Service::Vault, FailureKind::Unreachable, None)),
            (NoAnswer::NotAllowed, Error::CallNotAllowed),
            (NoAnswer::TimedOut, Error::DeadlineExceeded),
            (NoAnswer::TooLarge, Error::VaultUnusable),
        ] {
            assert_eq!(vault().read(Err(no_answer), &name(), None, 0).unwrap_err(), error);
        }
    }

    #[test]
    fn a_401_is_about_the_token() {
        use Complaint::*;
        let ours =
            r#"Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net""#;
        let other =
            r#"Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.cn""#;
        let claims = r#"Bearer realm="", error="insufficient_claims", claims="e30=""#;
        // `None`: it may pass.
        for (challenge, message, complaint, code) in [
            (ours, "AKV10022: Invalid audience. Expected x, found: y.", Some(Audience), "AKV10022"),
            (ours, "AKV10032: Invalid issuer. Expected one of x, found y.", Some(Issuer), "AKV10032"),
            ("", "AKV10032: whatever it says then", Some(Issuer), "AKV10032"),
            (ours, "Error validating token: IDX10214", Some(Audience), "IDX10214"),
            (ours, "Error validating token: IDX10205.", Some(Issuer), "IDX10205"),
            (ours, "Invalid audience. Expected x, found: y.", Some(Audience), "Unauthorized"),
            (ours, "Invalid issuer. Expected x, found: y.", Some(Issuer), "Unauthorized"),
            (other, "m", Some(Audience), "Unauthorized"),
            (claims, "AKV10046: m", Some(Claims), "AKV10046"),
            (claims, "m", Some(Claims), "Unauthorized"),
            (ours, "AKV10046: Unable to resolve the key used for signature validation.", None, "AKV10046"),
            (other, "AKV10046: Unable to resolve the key.", None, "AKV10046"),
            (ours, "AKV10000: Request is missing a Bearer or PoP token.", None, "AKV10000"),
            (ours, "Error validating token: IDX10223", None, "IDX10223"),
            (ours, "AKV19999: something new", None, "AKV19999"),
            (ours, "m", None, "Unauthorized"),
        ] {
            let body = format!(r#"{{"error":{{"code":"Unauthorized","message":"{message}"}}}}"#);
            let answer = Answer::new(401, Some("7".to_owned()), body.into())
                .with_challenge(Some(challenge.to_owned()).filter(|it| !it.is_empty()));
            let read = vault().read(Ok(answer), &name(), None, 0).unwrap_err();
            let code = Code::parse(code);
            let pause = Some(core::time::Duration::from_secs(7));
            let expected = match complaint {
                Some(complaint) => Error::TokenRefused(complaint, code),
                None => Error::TokenNotAccepted { pause, code },
            };
            assert_eq!(read, expected, "{challenge} {message}");
        }
        for body in ["", "<html>", "Unauthorized", "[]"] {
            let read = vault().read(Ok(Answer::new(401, None, body.into())), &name(), None, 0);
            assert_eq!(read.unwrap_err(), Error::TokenNotAccepted { pause: None, code: None }, "{body}");
        }
    }

    fn name() -> SecretName {
        SecretName::parse("Db-Password").unwrap()
    }

    const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";

    fn vault() -> Vault {
        Vault::parse("KeyVaultUri", "https://my-vault.vault.azure.net", None, None).unwrap()
    }
}
