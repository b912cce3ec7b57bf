//! All errors. No variant contains text from outside, except for a [`Code`] and an [`Excerpt`].

mod auth_failure;

use std::fmt;
use std::time::Duration;

use crate::model::{DeadlineExceeded, SecretName, SecretVersion};

pub use auth_failure::AuthFailure;

/// Why a request failed.
///
/// The `Display` text is for the log, and may name causes that a caller does not learn.
/// [`Reply::error`](crate::http::response::Reply::error) decides what a caller learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The path belongs to no route.
    NoRoute,
    /// The route does not answer this method; it answers these.
    WrongMethod(&'static str),
    /// The target and the headers of the request are too large together.
    HeadersTooLarge,
    /// The content type of the body is not JSON.
    NotJson,
    /// The content type of the body has another charset than UTF-8.
    NotUtf8,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body did not arrive whole.
    BodyLost,
    /// The body is not one JSON object.
    NotAnObject,
    /// The object has no `Secret` that is the name of a secret.
    NoValidSecret,
    /// The object has a `Version` that is not the version of a secret.
    NoValidVersion,
    /// The object has a `Details` that is not true or false.
    NoValidDetails,
    /// The object has no `Secrets` that is a list of secrets, or it has too many of them.
    NoValidSecrets,

    /// The request came through a proxy, and the settings do not trust proxies.
    CameThroughProxy,
    /// The caller's key or token is missing or wrong, for this reason, which only the log has.
    NotAuthenticated(AuthFailure),
    /// Too many requests had no valid key or token. The caller can try again after this time.
    TooManyFailures(Duration),
    /// The request is anonymous and addresses the gateway by a name that is not allowed.
    ForeignName,
    /// The caller has caused so many calls to Key Vault that the next one has to wait this long.
    BudgetSpent(Duration),
    /// The caller's scope does not have the secret.
    OutOfScope,
    /// The value has no room in an answer with several secrets, or in the instance.
    NoRoom,

    /// A setting is missing or wrong.
    Setting(SettingError),

    /// The token source refused.
    TokenSourceRefused {
        /// The reason, as far as the source's answer says it.
        reason: TokenRefusal,
        /// The name of the token source, as in `IDENTITY_SOURCE`.
        source: &'static str,
        /// The status of its answer.
        status: u16,
        /// The code in its answer.
        code: Option<Code>,
        /// What the refused assertion says of itself, if Entra ID does not trust it.
        claims: Option<Box<Claims>>,
    },
    /// The file with the assertion, or with the key of Azure Arc, cannot be read.
    TokenFile(TokenFileError),
    /// There is no metadata service: something else answered at its address, with this status.
    TokenSourceAbsent(u16),
    /// The token source answered with something that is not a token.
    TokenSourceUnusable,

    /// The JWKS endpoint answered with something that is not a JWKS.
    JwksUnusable,
    /// The configuration of an issuer of callers' tokens is not its own, or names a JWKS on another host.
    IssuerUnusable,

    /// There is no such secret, or no such version of it.
    SecretNotFound(SecretName, Option<SecretVersion>),
    /// The secret exists but is disabled.
    SecretDisabled,
    /// The vault denied access to the secret.
    VaultDenied(Denial, Option<Code>),
    /// The vault will never accept the token, nor a new one, for this reason.
    TokenRefused(TokenMismatch, Option<Code>),
    /// The vault does not accept the token at the moment, nor a new one, and gives no final reason: a later
    /// try may succeed.
    TokenNotAccepted {
        /// When to try again, if it is known.
        retry_after: Option<Duration>,
        /// The code in its answer.
        code: Option<Code>,
    },
    /// The vault refused with a status that makes no sense for the request.
    VaultRefused(u16, Option<Code>),
    /// The vault answered with something that is not a secret.
    VaultUnusable,

    /// A service of Azure failed in a way that may pass.
    Upstream {
        service: Service,
        kind: FailureKind,
        /// When to try again: the service's `Retry-After`, or how long the circuit breaker is open.
        retry_after: Option<Duration>,
    },

    /// The host does not allow calls to the configured address, for example because of Spin's
    /// `allowed_outbound_hosts`.
    CallNotAllowed,
    /// The deadline of the request has passed.
    DeadlineExceeded,
}

/// A failed attempt: its error, and whether other requests may share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub error: Error,
    /// Whether the failure is about this request alone: it had no more time, or no reason to try again.
    /// Requests that have more time, or no fallback, must not share it.
    pub is_local: bool,
}

impl Failure {
    pub const fn local(error: Error) -> Self {
        Self { error, is_local: true }
    }
}

impl From<Error> for Failure {
    /// A failure that all requests may share, unless the deadline of this one has passed.
    fn from(error: Error) -> Self {
        Self { is_local: error == Error::DeadlineExceeded, error }
    }
}

impl From<DeadlineExceeded> for Error {
    fn from(DeadlineExceeded: DeadlineExceeded) -> Self {
        Self::DeadlineExceeded
    }
}

impl From<DeadlineExceeded> for Failure {
    fn from(DeadlineExceeded: DeadlineExceeded) -> Self {
        Self::local(Error::DeadlineExceeded)
    }
}

/// A service that requests depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    TokenSource,
    Vault,
    /// The issuers of callers' tokens, which publish a JWKS.
    Jwks,
}

/// How a service failed, where the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The service has had too many requests.
    Throttled,
    /// The service answers that it fails.
    Failing,
    /// The service does not answer.
    Unreachable,
    /// The vault does not accept the token at the moment, so its answer says nothing about the secret.
    NotAccepting,
}

/// An unusable setting, by name. The error never contains its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The name of the setting.
    pub name: &'static str,
    /// The end of the sentence "The setting … ".
    pub should: &'static str,
}

/// Why a token source refused, as far as its answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// The source knows no identity with the given id, or has none at all.
    NoSuchIdentity,
    /// The source has several identities, and none was selected.
    SeveralIdentities,
    /// The source does not know the audience.
    Audience,
    /// The source does not accept the gateway's credential: the identity header, or the client secret.
    Credential,
    /// The source does not know the tenant.
    Tenant,
    /// The tenant has no such application, or has disabled it.
    Application,
    /// A policy of the tenant forbids the sign-in (Conditional Access for workload identities).
    Policy,
    /// Entra ID trusts no assertion with this issuer, subject and audience: the federated credential is
    /// missing or different, or has not spread yet.
    Trust,
    /// Entra ID does not accept the assertion, whose trust is not in doubt: it has expired, or its signature
    /// or its form is wrong.
    Assertion,
    Other,
}

/// What an assertion says of itself. None of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub issuer: Excerpt,
    pub subject: Excerpt,
    /// Several audiences are separated by question marks.
    pub audience: Excerpt,
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer: Excerpt(issuer), subject: Excerpt(subject), audience: Excerpt(audience) } = self;
        write!(f, "issuer {issuer}, subject {subject}, audience {audience}")
    }
}

/// A text from outside for the log: bounded, and of visible ASCII characters without quotation marks and
/// backslashes. Others are question marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    pub fn new(text: &str) -> Self {
        let plain = |character: char| {
            if character.is_ascii_graphic() && !matches!(character, '"' | '\\') { character } else { '?' }
        };
        let mut excerpt: String = text.chars().take(MAX_EXCERPT).map(plain).collect();
        if text.chars().nth(MAX_EXCERPT).is_some() {
            excerpt.push_str("...");
        }
        Self(excerpt)
    }
}

/// Longer than the subjects of Kubernetes, with two names of at most 63 characters, and of GitHub mostly are.
const MAX_EXCERPT: usize = 200;

/// Why the file of a token source cannot be read. The names are those of `keyvault:gateway/assertion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFileError {
    /// The name is not an absolute path of plain names.
    InvalidName,
    /// No directory that the host gives to the reader contains the file, or there is no reader.
    NoDirectory,
    /// There is no such file.
    NotFound,
    /// The host does not allow to read it: its permissions, or a link that leaves the directory.
    NotPermitted,
    /// The file is empty.
    Empty,
    /// The file is larger than a token.
    TooLarge,
    /// The file has characters that no token has.
    NotAToken,
    /// Reading failed.
    Failed,
}

/// Why the vault denied access, as far as its answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No access policy lets this identity read secrets.
    AccessPolicy,
    /// No role assignment lets this identity read secrets.
    RoleAssignment,
    /// The vault's firewall does not allow the gateway's address.
    Firewall,
    /// The vault allows only private connections.
    PrivateLink,
    /// The access policy is for an application on behalf of a user.
    OnBehalfOf,
    /// The answer gives no known reason.
    Unexplained,
}

/// Why the vault will never accept a token, as far as its answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMismatch {
    /// The token is for another audience than the vault's, so `KEY_VAULT_RESOURCE` is wrong.
    Audience,
    /// The token is from another tenant than the vault's.
    Issuer,
    /// The token lacks claims. Managed identities get them only if they say that they support continuous
    /// access evaluation.
    Claims,
}

/// A code from an answer of Azure, for the log: 1 to 64 ASCII letters, digits and underscores, so that it
/// cannot carry any text. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl Code {
    /// Parses the text of a code.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (allowed && (1..=MAX_CODE_LENGTH).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const MAX_CODE_LENGTH: usize = 64;

impl Error {
    /// The error of a `service` that failed in a way that may pass.
    pub(crate) const fn upstream(service: Service, kind: FailureKind, retry_after: Option<Duration>) -> Self {
        match kind {
            FailureKind::NotAccepting => Self::TokenNotAccepted { retry_after, code: None },
            FailureKind::Throttled | FailureKind::Failing | FailureKind::Unreachable => {
                Self::Upstream { service, kind, retry_after }
            }
        }
    }

    /// The error of a `service` whose answer makes no sense.
    pub(crate) const fn unusable(service: Service) -> Self {
        match service {
            Service::TokenSource => Self::TokenSourceUnusable,
            Service::Vault => Self::VaultUnusable,
            Service::Jwks => Self::JwksUnusable,
        }
    }

    /// How a service failed, and its `Retry-After`, if the same call may succeed later.
    ///
    /// These are the errors that Microsoft's clients retry: 408, 429, 5xx and lost connections, and 404 and
    /// 410 of IMDS ([`TokenSource`](crate::azure::token_source::TokenSource) tells its sources apart); and a
    /// 401 of the vault without a final reason ([`Vault`](crate::azure::vault::Vault)).
    pub const fn transient(&self) -> Option<(FailureKind, Option<Duration>)> {
        match self {
            Self::Upstream { kind, retry_after, .. } => Some((*kind, *retry_after)),
            Self::TokenNotAccepted { retry_after, .. } => Some((FailureKind::NotAccepting, *retry_after)),
            _ => None,
        }
    }

    /// Whether there is no token because of the token source.
    pub const fn is_about_token_source(&self) -> bool {
        matches!(
            self,
            Self::TokenSourceRefused { .. }
                | Self::TokenFile(_)
                | Self::TokenSourceAbsent(_)
                | Self::TokenSourceUnusable
                | Self::Upstream { service: Service::TokenSource, .. }
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoRoute => "no such route",
            Self::WrongMethod(_) => "the route has other methods",
            Self::HeadersTooLarge => "the header fields are too large",
            Self::NotJson => "the content type is not JSON",
            Self::NotUtf8 => "the charset of the content type is not UTF-8",
            Self::BodyTooLarge => "the body is too large",
            Self::BodyLost => "the body did not arrive whole",
            Self::NotAnObject => "the body is not a JSON object",
            Self::NoValidSecret => "no valid secret name",
            Self::NoValidVersion => "no valid secret version",
            Self::NoValidDetails => "Details is neither true nor false",
            Self::NoValidSecrets => "no valid list of secrets",
            Self::CameThroughProxy => {
                "the request came through a proxy, and GATEWAY_TRUST_FORWARDED is not set"
            }
            Self::NotAuthenticated(failure) => failure.text(),
            Self::TooManyFailures(_) => "too many requests had no valid key or token",
            Self::ForeignName => {
                "a request without a key is for a name, or from a site, that is neither loopback nor in \
                 GATEWAY_ALLOWED_HOSTS"
            }
            Self::BudgetSpent(_) => "the caller has caused too many calls to Key Vault",
            Self::OutOfScope => "the secret is out of the caller's scope",
            Self::NoRoom => "the value has no room among the others",
            Self::Setting(SettingError { name, should }) => {
                return write!(f, "the setting {name} {should}");
            }
            Self::TokenFile(error) => match error {
                TokenFileError::InvalidName => "the token file has a name that the reader does not take",
                TokenFileError::NoDirectory => "the host gives the reader no directory with the token file",
                TokenFileError::NotFound => "there is no token file",
                TokenFileError::NotPermitted => "the host does not let the reader read the token file",
                TokenFileError::Empty => "the token file is empty",
                TokenFileError::TooLarge => "the token file is larger than a token",
                TokenFileError::NotAToken => "the token file has something that is not a token",
                TokenFileError::Failed => "the token file could not be read",
            },
            Self::TokenSourceRefused { reason, source, status, code, claims } => {
                let reason = match reason {
                    TokenRefusal::NoSuchIdentity => "the token source knows no such identity",
                    TokenRefusal::SeveralIdentities => {
                        "the token source has several identities, and none is chosen"
                    }
                    TokenRefusal::Audience => "the token source does not know the audience",
                    TokenRefusal::Credential => "the token source does not accept the credential",
                    TokenRefusal::Tenant => "the token source does not know the tenant",
                    TokenRefusal::Application => {
                        "the token source knows no such application, or it is disabled"
                    }
                    TokenRefusal::Policy => "a policy of the tenant forbids the sign-in",
                    TokenRefusal::Trust => "no federated credential trusts the assertion",
                    TokenRefusal::Assertion => "the token source does not accept the assertion",
                    TokenRefusal::Other => "the token source refused",
                };
                write!(f, "{reason} ({source}, status {status}{})", CodeSuffix(code.as_ref()))?;
                return claims.as_ref().map_or(Ok(()), |claims| write!(f, ": {claims}"));
            }
            Self::TokenSourceAbsent(status) => {
                return write!(f, "there is no metadata service at its address (imds, status {status})");
            }
            Self::TokenSourceUnusable => "the token source answered with something that is not a token",
            Self::JwksUnusable => "the JWKS endpoint answered with something that is not a JWKS",
            Self::IssuerUnusable => {
                "the configuration of the token's issuer is not its own, or names a JWKS on another host"
            }
            Self::SecretNotFound(..) => "no such secret",
            Self::SecretDisabled => "the secret is disabled",
            Self::VaultDenied(denial, code) => match denial {
                Denial::AccessPolicy => "the vault denied access: no access policy",
                Denial::RoleAssignment => "the vault denied access: no role assignment",
                Denial::Firewall => "the vault denied access: firewall",
                Denial::PrivateLink => "the vault denied access: private connections only",
                Denial::OnBehalfOf => {
                    "the vault denied access: the policy is for an application on behalf of a user"
                }
                Denial::Unexplained => {
                    return write!(f, "the vault denied access (status 403{})", CodeSuffix(code.as_ref()));
                }
            },
            Self::TokenRefused(mismatch, code) => {
                let reason = match mismatch {
                    TokenMismatch::Audience => "it wants another audience",
                    TokenMismatch::Issuer => "it wants one of another tenant",
                    TokenMismatch::Claims => "it wants more claims",
                };
                let code = CodeSuffix(code.as_ref());
                return write!(f, "the vault did not accept the token: {reason} (status 401{code})");
            }
            Self::TokenNotAccepted { code, .. } => {
                let code = CodeSuffix(code.as_ref());
                return write!(f, "the vault does not accept the token at the moment (status 401{code})");
            }
            Self::VaultRefused(status, code) => {
                return write!(f, "the vault refused (status {status}{})", CodeSuffix(code.as_ref()));
            }
            Self::VaultUnusable => "the vault answered with something that is not a secret",
            Self::Upstream { service, kind, .. } => {
                let service = match service {
                    Service::TokenSource => "the token source",
                    Service::Vault => "the vault",
                    Service::Jwks => "the JWKS endpoint",
                };
                let kind = match kind {
                    FailureKind::Throttled => "is throttling",
                    FailureKind::Failing => "is failing",
                    FailureKind::Unreachable => "does not answer",
                    FailureKind::NotAccepting => "does not accept the token at the moment",
                };
                return write!(f, "{service} {kind}");
            }
            Self::CallNotAllowed => "the host does not let calls go to this address",
            Self::DeadlineExceeded => "the deadline ran out",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Error {}

/// The code after a status, if there is one.
struct CodeSuffix<'a>(Option<&'a Code>);

impl fmt::Display for CodeSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, ", code {}", code.as_str()))
    }
}
