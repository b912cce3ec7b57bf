//! Key Vault's error responses, with the codes and texts of the live service.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::{facts, random, response};

/// Defines the enum and its table of status, code, inner code and text.
macro_rules! refusals {
    ($($(#[$doc:meta])+ $name:ident = $status:literal $code:literal $inner:literal $text:literal;)+) => {
        /// Key Vault's refusals, for [`Effect::Refuse`](crate::Effect::Refuse). The texts are those of the
        /// live service, from the named issues and recordings, with the identifiers of [`facts`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Refusal { $($(#[$doc])+ $name,)+ }

        impl Refusal {
            /// Returns the first refusal with this status, if Key Vault documents one.
            pub(crate) fn of(status: StatusCode) -> Option<Self> {
                [$(Self::$name),+].into_iter().find(|refusal| refusal.table().0 == status.as_u16())
            }

            fn table(self) -> (u16, &'static str, &'static str, &'static str) {
                match self { $(Self::$name => ($status, $code, $inner, $text),)+ }
            }
        }
    };
}

refusals! {
    /// 400 `BadParameter`: the name of the secret (aspnet/MicrosoftConfigurationBuilders issue 22).
    InvalidName = 400 "BadParameter" "" "The request URI contains an invalid name: {name}";
    /// 401 `AKV10000`: no token (Azure/azure-sdk-for-net issue 39216).
    MissingToken = 401 "Unauthorized" "" "AKV10000: Request is missing a Bearer or PoP token.";
    /// 401 `AKV10022`: a token for another resource (crossplane-contrib/provider-azure issue 346).
    InvalidAudience = 401 "Unauthorized" "" "AKV10022: Invalid audience. Expected https://vault.azure.net or \
        cfa8b339-82a2-471a-a3c9-0fc0be7a4093, found: https://management.azure.com/.";
    /// 401 `AKV10032`: a token from another tenant (MicrosoftDocs/azure-docs issue 75410).
    InvalidIssuer = 401 "Unauthorized" "" "AKV10032: Invalid issuer. Expected one of \
        https://sts.windows.net/{tenant}/, found https://sts.windows.net/{guid}/.";
    /// 401 `AKV10046`: a transient error (hashicorp/terraform-provider-azurerm issue 30912).
    UnresolvedKey = 401 "Unauthorized" "" "AKV10046: Unable to resolve the key used for signature \
        validation. EncodedJwtHeader: '{header}'.";
    /// 401 `IDX10223`: a token that has expired (Azure/azure-sdk-for-python issue 12368).
    ExpiredToken = 401 "Unauthorized" "" "Error validating token: IDX10223";
    /// 401 with `insufficient_claims`: continuous access evaluation. The challenge is from the SDKs' tests.
    InsufficientClaims = 401 "Unauthorized" ""
        "Continuous access evaluation resulted in a claims challenge.";
    /// 403 `AccessDenied`: no access policy (turbot/steampipe-plugin-azure issue 127).
    AccessDenied = 403 "Forbidden" "AccessDenied" "The user, group or application '{caller}' does not have \
        secrets get permission on key vault '{vault}'. For help resolving this issue, please see \
        https://go.microsoft.com/fwlink/?linkid=2125287";
    /// 403 `ForbiddenByRbac`: no role (piyushsachdeva/Terraform_AKS issue 2).
    ForbiddenByRbac = 403 "Forbidden" "ForbiddenByRbac" "Caller is not authorized to perform action on \
        resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please \
        observe propagation time.\r\nCaller: {caller}\r\nAction: \
        'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\nResource: '/secrets/{name}'\r\nAssignment: \
        (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: \
        {vault}\r\n";
    /// 403 `ForbiddenByFirewall`: the client's address (hashicorp/terraform-provider-azurerm issue 9738).
    ForbiddenByFirewall = 403 "Forbidden" "ForbiddenByFirewall" "Client address is not authorized and caller \
        is not a trusted service.\r\nClient address: {address}\r\nCaller: {caller}\r\nVault: {vault}";
    /// 403 `ForbiddenByConnection`: no private link (microsoft/multimodal-ai issue 171).
    ForbiddenByConnection = 403 "Forbidden" "ForbiddenByConnection" "Public network access is disabled and \
        request is not from a trusted service nor via an approved private link.\r\nCaller: \
        {caller}\r\nVault: {vault}";
    /// 403 `ForbiddenByPolicy`: no on-behalf-of flow (SparebankenVest/azure-key-vault-to-kubernetes issue
    /// 232).
    ForbiddenByPolicy = 403 "Forbidden" "ForbiddenByPolicy" "The policy requires the caller '{caller}' to \
        use on-behalf-of (OBO) flow. For more information on OBO, please see \
        https://go.microsoft.com/fwlink/?linkid=2152310";
    /// 403 `SecretDisabled` (Azure/azure-sdk-for-js, recording of "can't get a disabled secret").
    SecretDisabled = 403 "Forbidden" "SecretDisabled" "Operation get is not allowed on a disabled secret.";
    /// 404 `SecretNotFound` (Azure/azure-sdk-for-net, recording of `GetNonExistentSecretNoThrow`).
    SecretNotFound = 404 "SecretNotFound" "" "A secret with (name/id) {name} was not found in this key \
        vault. If you recently deleted this secret you may be able to recover it using the correct recovery \
        command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182";
    /// 405 `MethodNotAllowed`: no such operation.
    MethodNotAllowed = 405 "MethodNotAllowed" "" "HTTP PUT not allowed";
    /// 409 `ObjectIsDeletedButRecoverable` (microsoft/AzureKeyVaultExplorer issue 42).
    DeletedButRecoverable = 409 "Conflict" "ObjectIsDeletedButRecoverable" "Secret {name} is currently in a \
        deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be \
        recovered or purged.";
    /// 429 `Throttled`, without `Retry-After` as the service sends it (vcsjones/AzureSignTool issue 219).
    Throttled = 429 "Throttled" "" "Request was not processed because too many requests were received. \
        Reason: VaultRequestTypeLimitReached";
    /// 500 with a text of our own: Key Vault documents none for 5xx.
    InternalError = 500 "InternalServerError" "" "An error occurred in vault {vault}.";
    /// 503 with a text of our own.
    Unavailable = 503 "ServiceUnavailable" "" "The vault {vault} is not available.";
}

impl Refusal {
    /// Builds the error for a request for the secret `name`, or `name/version`.
    pub(crate) fn error(self, name: &str) -> VaultError {
        let tenant = facts::TENANT;
        let caller =
            format!("appid={};oid={};iss=https://sts.windows.net/{tenant}/", facts::APP_ID, facts::OBJECT_ID);
        let (status, code, inner, text) = self.table();
        let message = [
            ("{caller}", caller.as_str()),
            ("{tenant}", tenant),
            ("{guid}", &random::guid()),
            ("{vault}", facts::VAULT),
            ("{address}", facts::CLIENT_ADDRESS),
            ("{header}", random::TOKEN_HEADER),
            ("{name}", name),
        ];
        let message = message.iter().fold(text.to_owned(), |text, (key, value)| text.replace(key, value));
        let error = VaultError::new(status, code, message);
        VaultError { claims: self == Self::InsufficientClaims, inner, ..error }
    }
}

pub(crate) struct VaultError {
    pub(crate) status: StatusCode,
    /// Whether the challenge requires claims.
    pub(crate) claims: bool,
    code: &'static str,
    /// The inner code; empty if none.
    inner: &'static str,
    message: String,
}

impl VaultError {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let status = response::status_code(status);
        Self { status, claims: false, code, inner: "", message: message.into() }
    }

    /// Builds the response: `KeyVaultError` of the REST specification.
    pub(crate) fn response(&self) -> Response<Bytes> {
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.inner.is_empty() {
            error["innererror"] = json!({"code": self.inner});
        }
        response::json(self.status, &json!({"error": error}))
    }
}

/// Azure documents the texts of a 400 for a name, an api-version and a backup; the others are ours.
pub(crate) fn bad_parameter(message: impl Into<String>) -> VaultError {
    VaultError::new(400, "BadParameter", message)
}

pub(crate) fn deleted_not_found(name: &str) -> VaultError {
    VaultError::new(404, "SecretNotFound", format!("Deleted Secret not found: {name}"))
}

/// A backup of an existing secret (Azure/azure-sdk-for-js, recording of "can restore a secret").
pub(crate) fn restore_conflict(id: &str) -> VaultError {
    let message = format!(
        "There was a conflict restoring the secret '{id}'. This can happen if either: a second secret with \
         the same name was created after the first secret was deleted; thus trying to restore a secret whose \
         name is already in use. To fix this, rename the second secret to something else so that the restore \
         works. The second probable cause of this exception is when multiple operations are performed in \
         parallel against the secret. To avoid this error, perform operations against a secret in a \
         sequential manner."
    );
    VaultError::new(409, "Conflict", message)
}
