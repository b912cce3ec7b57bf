//! What can fail, and who is to blame. No variant carries text that came from outside, but for a [`Code`].

use std::fmt;
use std::time::Duration;

use crate::model::{DeadlineExceeded, SecretName, SecretVersion};

/// Why a request is not answered with what it asked for.
///
/// The text is for the log: it may name causes that a caller does not learn. What a caller learns is decided in
/// [`Reply::error`](crate::http::response::Reply::error).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The path is none of ours.
    NoRoute,
    /// The path is ours, the method is not; these are.
    WrongMethod(&'static str),
    /// The header fields of the request are too large together.
    HeadersTooLarge,
    /// The body is not said to be JSON.
    NotJson,
    /// The body is said to be in another encoding of characters than UTF-8.
    NotUtf8,
    /// The body is larger than a request can be.
    BodyTooLarge,
    /// The body did not arrive whole.
    BodyLost,
    /// The body is not one JSON object.
    NotAnObject,
    /// The object has no `Secret` that is the name of a secret.
    NoValidSecret,
    /// The object has a `Version` that is not the version of a secret.
    NoValidVersion,

    /// The request came through a proxy, and nobody said that this is trusted.
    CameThroughProxy,
    /// The caller's key or token is missing or wrong.
    NotAuthenticated,
    /// That has happened too often; it is worth to come back after this time.
    TooManyFailures(Duration),
    /// The request has no key and calls the gateway by a name that is not its own.
    ForeignName,
    /// The caller has had so many calls made to Key Vault that the next one has to wait this long.
    BudgetSpent(Duration),
    /// This caller may not read this secret.
    OutOfScope,

    /// A setting is missing or wrong.
    Setting(SettingError),

    /// The token source refused.
    TokenSourceRefused {
        /// Why, as far as its answer tells.
        reason: TokenRefusal,
        /// Which one it is, as `IDENTITY_SOURCE` has it.
        source: &'static str,
        /// The status of its answer.
        status: u16,
        /// The code in its answer.
        code: Option<Code>,
    },
    /// There is no metadata service here: something else answered at its address, with this status.
    TokenSourceAbsent(u16),
    /// The token source answered with something that is not a token.
    TokenSourceUnusable,

    /// The directory of the callers' tenant answered with something that is not its keys.
    JwksUnusable,

    /// There is no such secret, or no such version of it.
    SecretNotFound(SecretName, Option<SecretVersion>),
    /// The secret is there, but disabled.
    SecretDisabled,
    /// The vault does not let us in.
    VaultDenied(Denial, Option<Code>),
    /// The vault will never accept our token, nor a new one, for this reason.
    TokenRefused(Complaint, Option<Code>),
    /// The vault does not accept our token at the moment, nor a new one, and gives no reason that would last: a later try may go well.
    TokenNotAccepted {
        /// When to try again, if it is known.
        retry_after: Option<Duration>,
        /// The code in its answer.
        code: Option<Code>,
    },
    /// The vault refused with a status that makes no sense for our request.
    VaultRefused(u16, Option<Code>),
    /// The vault answered with something that is not a secret.
    VaultUnusable,

    /// A service of Azure's failed in a way that may pass.
    Upstream {
        /// Which one.
        service: Service,
        /// How.
        kind: FailureKind,
        /// When to try again: what the service asked for, or how long the circuit breaker is open.
        retry_after: Option<Duration>,
    },

    /// The host does not let calls go where the settings say, for example because of Spin's `allowed_outbound_hosts`.
    CallNotAllowed,
    /// The time for this request is over.
    DeadlineExceeded,
}

/// A failed attempt: its error, and whether other requests may take that for their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub error: Error,
    /// Whether the failure is about this request alone: it had no more time, or no reason to try again. Requests that have more time,
    /// or no fallback, must not take it for theirs.
    pub is_local: bool,
}

impl Failure {
    /// A failure that is about this request alone.
    pub const fn local(error: Error) -> Self {
        Self { error, is_local: true }
    }
}

impl From<Error> for Failure {
    /// A failure that all requests may share, unless the request's own time was over.
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

/// A service of Azure's that a request depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    TokenSource,
    Vault,
    /// The endpoint that publishes the keys with which access tokens of callers are signed.
    Jwks,
}

/// How a service failed, where the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It has had too many requests.
    Throttled,
    /// It answers that it fails.
    Failing,
    /// It does not answer.
    Unreachable,
    /// It does not accept our token at the moment, so what it would say of a secret is not known.
    NotAccepting,
}

/// A setting that cannot be used, by name; its value is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The name of the setting.
    pub name: &'static str,
    /// What it should be, to follow "The setting … ".
    pub should: &'static str,
}

/// Why a token source refused, as far as its answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// It knows no identity of the given id, or has none at all.
    NoSuchIdentity,
    /// It has several identities, and none was chosen.
    SeveralIdentities,
    /// It does not know the audience.
    Audience,
    /// It does not accept what we authenticate with: the identity header, or the client secret.
    Credential,
    /// The tenant is not known to it.
    Tenant,
    /// The tenant has no such application, or has disabled it.
    Application,
    /// A policy of the tenant forbids it (Conditional Access for workload identities).
    Policy,
    /// Something else.
    Other,
}

/// Why the vault does not let us in, as far as its answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No access policy lets this identity read secrets.
    AccessPolicy,
    /// No role assignment lets this identity read secrets.
    RoleAssignment,
    /// The vault's firewall does not know our address.
    Firewall,
    /// The vault takes only private connections.
    PrivateLink,
    /// An access policy wants an application to act on behalf of a user.
    OnBehalfOf,
    /// It did not say.
    Unexplained,
}

/// What the vault has against our token, where that will not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// It is for another audience than the vault's, so `KEY_VAULT_RESOURCE` is wrong.
    Audience,
    /// It is of another tenant than the vault's.
    Issuer,
    /// It lacks claims that no managed identity has unless it says that it knows of continuous access evaluation.
    Claims,
}

/// A code from an answer of Azure's, for the operator: 1 to 64 ASCII letters, digits and underscores, so that no text comes with it.
/// It is for the log and nothing else, so its `Debug` is blind.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl Code {
    /// Accepts what is a code.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
        (allowed && (1..=LONGEST_CODE).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// In bytes.
const LONGEST_CODE: usize = 64;

impl Error {
    /// `service` failed in a way that may pass.
    pub(crate) const fn upstream(service: Service, kind: FailureKind, retry_after: Option<Duration>) -> Self {
        match kind {
            FailureKind::NotAccepting => Self::TokenNotAccepted { retry_after, code: None },
            FailureKind::Throttled | FailureKind::Failing | FailureKind::Unreachable => {
                Self::Upstream { service, kind, retry_after }
            }
        }
    }

    /// How a service failed and when to try again, where the same call may succeed later.
    ///
    /// These are the errors that Microsoft's clients retry: 408, 429, 5xx and lost connections, and 404 and 410 of IMDS
    /// ([`TokenSource`](crate::azure::token_source::TokenSource) tells its sources apart); and a 401 of the vault that gives no reason
    /// that would last ([`Vault::read`](crate::azure::vault::Vault)).
    pub const fn transient(&self) -> Option<(FailureKind, Option<Duration>)> {
        match self {
            Self::Upstream { kind, retry_after, .. } => Some((*kind, *retry_after)),
            Self::TokenNotAccepted { retry_after, .. } => Some((FailureKind::NotAccepting, *retry_after)),
            _ => None,
        }
    }

    /// Whether it is a token that is missing, and the token source that has none.
    pub const fn is_about_token_source(&self) -> bool {
        matches!(
            self,
            Self::TokenSourceRefused { .. }
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
            Self::CameThroughProxy => {
                "the request came through a proxy, and GATEWAY_TRUST_FORWARDED is not set"
            }
            Self::NotAuthenticated => "the caller's key or token is missing or wrong",
            Self::TooManyFailures(_) => "the caller's key or token is missing or wrong, as too often before",
            Self::ForeignName => {
                "a request without a key is for a name, or from a site, that is neither loopback nor in GATEWAY_ALLOWED_HOSTS"
            }
            Self::BudgetSpent(_) => "the caller has had too many calls made to Key Vault",
            Self::OutOfScope => "the secret is out of the caller's scope",
            Self::Setting(SettingError { name, should }) => {
                return write!(f, "the setting {name} {should}");
            }
            Self::TokenSourceRefused { reason, source, status, code } => {
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
                    TokenRefusal::Other => "the token source refused",
                };
                return write!(f, "{reason} ({source}, status {status}{})", ShownCode(code.as_ref()));
            }
            Self::TokenSourceAbsent(status) => {
                return write!(f, "there is no metadata service at its address (imds, status {status})");
            }
            Self::TokenSourceUnusable => "the token source answered with something that is not a token",
            Self::JwksUnusable => "the directory of callers answered with something that is not its keys",
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
                    return write!(f, "the vault denied access (status 403{})", ShownCode(code.as_ref()));
                }
            },
            Self::TokenRefused(complaint, code) => {
                let wanted = match complaint {
                    Complaint::Audience => "it wants another audience",
                    Complaint::Issuer => "it wants one of another tenant",
                    Complaint::Claims => "it wants more claims",
                };
                let code = ShownCode(code.as_ref());
                return write!(f, "the vault did not accept the token: {wanted} (status 401{code})");
            }
            Self::TokenNotAccepted { code, .. } => {
                let code = ShownCode(code.as_ref());
                return write!(f, "the vault does not accept the token at the moment (status 401{code})");
            }
            Self::VaultRefused(status, code) => {
                return write!(f, "the vault refused (status {status}{})", ShownCode(code.as_ref()));
            }
            Self::VaultUnusable => "the vault answered with something that is not a secret",
            Self::Upstream { service, kind, .. } => {
                let service = match service {
                    Service::TokenSource => "the token source",
                    Service::Vault => "the vault",
                    Service::Jwks => "the directory of callers",
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

/// A code behind a status, if there is one.
struct ShownCode<'a>(Option<&'a Code>);

impl fmt::Display for ShownCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, ", code {}", code.as_str()))
    }
}
