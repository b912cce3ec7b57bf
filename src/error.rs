//! What can fail, and who is to blame. No variant carries text that came from outside.

use core::fmt;
use core::time::Duration;

use crate::secret::{SecretName, SecretVersion};

/// Why a request is not answered with what it asked for.
///
/// The text is for the log: it may name causes that a caller does not learn. What a caller learns is decided in
/// [`Reply::error`](crate::reply::Reply::error).
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
    IdentityRefused(Refusal),
    /// The token source answered with something that is not a token.
    IdentityUnusable,
    /// The token source has had too many requests; it may have said when to come back.
    IdentityThrottled(Option<Duration>),
    /// The token source is failing; it may have said when to come back.
    IdentityUnavailable(Option<Duration>),
    /// The token source does not answer; it is not tried again before this pause, if there is one.
    IdentityUnreachable(Option<Duration>),

    /// The directory of the callers' tenant answered with something that is not its keys.
    DirectoryUnusable,
    /// The directory has had too many requests; it may have said when to come back.
    DirectoryThrottled(Option<Duration>),
    /// The directory is failing; it may have said when to come back.
    DirectoryUnavailable(Option<Duration>),
    /// The directory does not answer; it is not tried again before this pause, if there is one.
    DirectoryUnreachable(Option<Duration>),

    /// There is no such secret, or no such version of it.
    SecretNotFound(SecretName, Option<SecretVersion>),
    /// The secret is there, but disabled.
    SecretDisabled,
    /// The vault does not let us in.
    VaultDenied(Denial),
    /// The vault did not accept our token, nor a new one where there was one a short while ago or now.
    TokenRefused(Complaint),
    /// The vault refused with a status that makes no sense for our request.
    VaultRefused(u16),
    /// The vault answered with something that is not a secret.
    VaultUnusable,
    /// The vault has had too many requests; it may have said when to come back.
    VaultThrottled(Option<Duration>),
    /// The vault is failing; it may have said when to come back.
    VaultUnavailable(Option<Duration>),
    /// The vault does not answer; it is not tried again before this pause, if there is one.
    VaultUnreachable(Option<Duration>),

    /// The host does not let calls go where the settings say, for example because of Spin's `allowed_outbound_hosts`.
    CallNotAllowed,
    /// The time for this request is over.
    DeadlineExceeded,
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
pub enum Refusal {
    /// It knows no identity of the given id, or has none at all.
    NoSuchIdentity,
    /// It has several identities, and none was chosen.
    SeveralIdentities,
    /// It does not know the audience.
    Audience,
    /// It does not accept what we authenticate with: the identity header, or the client secret.
    Credential,
    /// Something else, with this status.
    Other(u16),
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

/// What the vault has against our token, as far as its answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// It is for another audience than ours, so `KEY_VAULT_RESOURCE` is not that of this vault.
    Audience,
    /// It wants claims that no managed identity has unless it says that it knows of continuous access evaluation.
    Claims,
    /// It did not say.
    Unexplained,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NoRoute => "no such route",
            Self::WrongMethod(_) => "the route has other methods",
            Self::HeadersTooLarge => "the header fields are too large",
            Self::NotJson => "the content type is not JSON",
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
            Self::IdentityRefused(refusal) => match refusal {
                Refusal::NoSuchIdentity => "the token source knows no such identity",
                Refusal::SeveralIdentities => "the token source has several identities, and none is chosen",
                Refusal::Audience => "the token source does not know the audience",
                Refusal::Credential => "the token source does not accept the credential",
                Refusal::Other(status) => return write!(f, "the token source refused with status {status}"),
            },
            Self::IdentityUnusable => "the token source answered with something that is not a token",
            Self::IdentityThrottled(_) => "the token source is throttling",
            Self::IdentityUnavailable(_) => "the token source is failing",
            Self::IdentityUnreachable(_) => "the token source does not answer",
            Self::DirectoryUnusable => {
                "the directory of callers answered with something that is not its keys"
            }
            Self::DirectoryThrottled(_) => "the directory of callers is throttling",
            Self::DirectoryUnavailable(_) => "the directory of callers is failing",
            Self::DirectoryUnreachable(_) => "the directory of callers does not answer",
            Self::SecretNotFound(..) => "no such secret",
            Self::SecretDisabled => "the secret is disabled",
            Self::VaultDenied(denial) => match denial {
                Denial::AccessPolicy => "the vault denied access: no access policy",
                Denial::RoleAssignment => "the vault denied access: no role assignment",
                Denial::Firewall => "the vault denied access: firewall",
                Denial::PrivateLink => "the vault denied access: private connections only",
                Denial::OnBehalfOf => {
                    "the vault denied access: the policy is for an application on behalf of a user"
                }
                Denial::Unexplained => "the vault denied access",
            },
            Self::TokenRefused(complaint) => match complaint {
                Complaint::Audience => "the vault did not accept the token: it wants another audience",
                Complaint::Claims => "the vault did not accept the token: it wants more claims",
                Complaint::Unexplained => "the vault did not accept the token",
            },
            Self::VaultRefused(status) => return write!(f, "the vault refused with status {status}"),
            Self::VaultUnusable => "the vault answered with something that is not a secret",
            Self::VaultThrottled(_) => "the vault is throttling",
            Self::VaultUnavailable(_) => "the vault is failing",
            Self::VaultUnreachable(_) => "the vault does not answer",
            Self::CallNotAllowed => "the host does not let calls go to this address",
            Self::DeadlineExceeded => "the deadline ran out",
        };
        f.write_str(text)
    }
}

impl core::error::Error for Error {}
