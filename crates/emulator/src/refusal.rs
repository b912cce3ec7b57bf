//! What Key Vault says when it gives nothing: codes and texts as the service writes them.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::cloud::{KEY_VAULT_APP, PUBLIC};
use crate::{facts, random, reply};

/// Each way in which Key Vault refuses a request, for [`Effect::Refuse`](crate::Effect::Refuse). The texts are
/// those of the live service, from the issues and recordings that are named; the parties in them are
/// [`facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// 400 `BadParameter`: the name of the secret (aspnet/MicrosoftConfigurationBuilders issue 22).
    InvalidName,
    /// 401 `AKV10000`: no token (Azure/azure-sdk-for-net issue 39216).
    MissingToken,
    /// 401 `AKV10022`: a token for another resource (crossplane-contrib/provider-azure issue 346).
    InvalidAudience,
    /// 401 `AKV10032`: a token from another tenant (MicrosoftDocs/azure-docs issue 75410).
    InvalidIssuer,
    /// 401 `AKV10046`: a signature that cannot be checked at the moment; passes by itself
    /// (hashicorp/terraform-provider-azurerm issue 30912).
    UnresolvedKey,
    /// 401 `IDX10223`: a token that has expired (Azure/azure-sdk-for-python issue 12368).
    ExpiredToken,
    /// 401 with `insufficient_claims`: continuous access evaluation wants a newer token. The challenge is from the
    /// tests of the SDKs; the body is our own.
    InsufficientClaims,
    /// 403 `AccessDenied`: no access policy (turbot/steampipe-plugin-azure issue 127).
    AccessDenied,
    /// 403 `ForbiddenByRbac`: no role (piyushsachdeva/Terraform_AKS issue 2).
    ForbiddenByRbac,
    /// 403 `ForbiddenByFirewall`: the client's address (hashicorp/terraform-provider-azurerm issue 9738).
    ForbiddenByFirewall,
    /// 403 `ForbiddenByConnection`: no private link (microsoft/multimodal-ai issue 171).
    ForbiddenByConnection,
    /// 403 `ForbiddenByPolicy`: on behalf of a user only (SparebankenVest/azure-key-vault-to-kubernetes issue 232).
    ForbiddenByPolicy,
    /// 403 `SecretDisabled` (Azure/azure-sdk-for-js, recording of "can't get a disabled secret").
    SecretDisabled,
    /// 404 `SecretNotFound` (Azure/azure-sdk-for-net, recording of `GetNonExistentSecretNoThrow`).
    SecretNotFound,
    /// 405 `MethodNotAllowed`.
    MethodNotAllowed,
    /// 409 `ObjectIsDeletedButRecoverable` (microsoft/AzureKeyVaultExplorer issue 42).
    DeletedButRecoverable,
    /// 429 `Throttled`, without `Retry-After` as the service sends it (vcsjones/AzureSignTool issue 219).
    Throttled,
    /// 500. Key Vault documents no text of its own for what is 500 and above.
    InternalError,
    /// 503. The same.
    Unavailable,
}

impl Refusal {
    /// The refusal that a bare status stands for, if Key Vault documents one.
    pub(crate) fn of(status: StatusCode) -> Option<Self> {
        match status.as_u16() {
            400 => Some(Self::InvalidName),
            401 => Some(Self::MissingToken),
            403 => Some(Self::AccessDenied),
            404 => Some(Self::SecretNotFound),
            405 => Some(Self::MethodNotAllowed),
            409 => Some(Self::DeletedButRecoverable),
            429 => Some(Self::Throttled),
            500 => Some(Self::InternalError),
            503 => Some(Self::Unavailable),
            _ => None,
        }
    }

    /// What is said when this befalls a request for the secret `name`.
    pub(crate) fn about(self, name: &str) -> Refused {
        let (app, object, tenant) = (facts::APP_ID, facts::OBJECT_ID, facts::TENANT);
        let caller = format!("appid={app};oid={object};iss=https://sts.windows.net/{tenant}/");
        let (address, vault) = (facts::CLIENT_ADDRESS, facts::VAULT);
        match self {
            Self::InvalidName => invalid_name(name),
            Self::MissingToken => {
                unauthorized("AKV10000: Request is missing a Bearer or PoP token.".to_owned())
            }
            Self::InvalidAudience => wrong_audience(PUBLIC.audience, "https://management.azure.com/"),
            Self::InvalidIssuer => unauthorized(format!(
                "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{tenant}/, found \
                 https://sts.windows.net/{}/.",
                random::guid(),
            )),
            Self::UnresolvedKey => unauthorized(format!(
                "AKV10046: Unable to resolve the key used for signature validation. EncodedJwtHeader: '{}'.",
                random::TOKEN_HEADER,
            )),
            Self::ExpiredToken => unauthorized("Error validating token: IDX10223".to_owned()),
            Self::InsufficientClaims => Refused {
                claims: true,
                ..unauthorized("Continuous access evaluation resulted in a claims challenge.".to_owned())
            },
            Self::AccessDenied => forbidden(
                "AccessDenied",
                format!(
                    "The user, group or application '{caller}' does not have secrets get permission on key vault \
                     '{vault}'. For help resolving this issue, please see \
                     https://go.microsoft.com/fwlink/?linkid=2125287"
                ),
            ),
            Self::ForbiddenByRbac => forbidden(
                "ForbiddenByRbac",
                format!(
                    "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny \
                     assignments or role definitions were changed recently, please observe propagation time.\r\n\
                     Caller: {caller}\r\nAction: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n\
                     Resource: '/secrets/{name}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n\
                     DecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: {vault}\r\n"
                ),
            ),
            Self::ForbiddenByFirewall => forbidden(
                "ForbiddenByFirewall",
                format!(
                    "Client address is not authorized and caller is not a trusted service.\r\n\
                     Client address: {address}\r\nCaller: {caller}\r\nVault: {vault}"
                ),
            ),
            Self::ForbiddenByConnection => forbidden(
                "ForbiddenByConnection",
                format!(
                    "Public network access is disabled and request is not from a trusted service nor via an \
                     approved private link.\r\nCaller: {caller}\r\nVault: {vault}"
                ),
            ),
            Self::ForbiddenByPolicy => forbidden(
                "ForbiddenByPolicy",
                format!(
                    "The policy requires the caller '{caller}' to use on-behalf-of (OBO) flow. For more \
                     information on OBO, please see https://go.microsoft.com/fwlink/?linkid=2152310"
                ),
            ),
            Self::SecretDisabled => {
                forbidden("SecretDisabled", "Operation get is not allowed on a disabled secret.".to_owned())
            }
            Self::SecretNotFound => not_found(name),
            Self::MethodNotAllowed => method_not_allowed("PUT"),
            Self::DeletedButRecoverable => Refused::new(
                409,
                "Conflict",
                Some("ObjectIsDeletedButRecoverable"),
                format!(
                    "Secret {name} is currently in a deleted but recoverable state, and its name cannot be \
                     reused; in this state, the secret can only be recovered or purged."
                ),
            ),
            Self::Throttled => Refused::new(
                429,
                "Throttled",
                None,
                "Request was not processed because too many requests were received. Reason: \
                 VaultRequestTypeLimitReached"
                    .to_owned(),
            ),
            Self::InternalError => {
                Refused::new(500, "InternalServerError", None, format!("An error occurred in vault {vault}."))
            }
            Self::Unavailable => {
                Refused::new(503, "ServiceUnavailable", None, format!("The vault {vault} is not available."))
            }
        }
    }
}

/// A refusal in Key Vault's words.
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// Whether the challenge asks for claims.
    pub(crate) claims: bool,
    code: &'static str,
    inner: Option<&'static str>,
    message: String,
}

impl Refused {
    fn new(status: u16, code: &'static str, inner: Option<&'static str>, message: String) -> Self {
        Self { status: reply::status(status), claims: false, code, inner, message }
    }

    /// `{"error":{"code","message","innererror"}}`: `KeyVaultError` of the REST specification.
    pub(crate) fn answer(&self) -> Response<Bytes> {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(inner) = self.inner {
            error["innererror"] = json!({"code": inner});
        }
        reply::json(self.status, &json!({"error": error}))
    }
}

/// 400 `BadParameter`. Except for an invalid name and an api-version the texts of these are our own: none are documented.
pub(crate) fn bad_parameter(message: String) -> Refused {
    Refused::new(400, "BadParameter", None, message)
}

pub(crate) fn invalid_name(name: &str) -> Refused {
    bad_parameter(format!("The request URI contains an invalid name: {name}"))
}

/// The request is larger than anything that may be asked.
pub(crate) fn too_large() -> Refused {
    Refused::new(413, "RequestEntityTooLarge", None, "The request is too large.".to_owned())
}

pub(crate) fn wrong_audience(expected: &str, found: &str) -> Refused {
    unauthorized(format!(
        "AKV10022: Invalid audience. Expected {expected} or {KEY_VAULT_APP}, found: {found}."
    ))
}

/// `name` is a secret's, or `name/version`.
pub(crate) fn not_found(name: &str) -> Refused {
    Refused::new(
        404,
        "SecretNotFound",
        None,
        format!(
            "A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret \
             you may be able to recover it using the correct recovery command. For help resolving this issue, \
             please see https://go.microsoft.com/fwlink/?linkid=2125182"
        ),
    )
}

pub(crate) fn deleted_not_found(name: &str) -> Refused {
    Refused::new(404, "SecretNotFound", None, format!("Deleted Secret not found: {name}"))
}

pub(crate) fn method_not_allowed(method: &str) -> Refused {
    Refused::new(405, "MethodNotAllowed", None, format!("HTTP {method} not allowed"))
}

fn unauthorized(message: String) -> Refused {
    Refused::new(401, "Unauthorized", None, message)
}

fn forbidden(inner: &'static str, message: String) -> Refused {
    Refused::new(403, "Forbidden", Some(inner), message)
}
