//! Refusals of token sources, with the texts of the live services.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::json;

use super::entra::error_body;
use crate::response;

/// Defines the enum, the list of its variants, and its table of status and body.
macro_rules! refusals {
    ($($(#[$doc:meta])+ $name:ident = $status:literal $body:expr;)+) => {
        /// Refusals of token sources, for [`Effect::RefuseToken`](crate::Effect::RefuseToken). Status and
        /// body are those of the live services, from the named sources, with other ids and addresses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum TokenRefusal { $($(#[$doc])+ $name,)+ }

        impl TokenRefusal {
            pub const ALL: [Self; [$($status),+].len()] = [$(Self::$name),+];

            fn table(self) -> (u16, String) {
                match self { $(Self::$name => ($status, $body.to_string()),)+ }
            }
        }
    };
}

refusals! {
    /// 400 of App Service and Container Apps: no such identity (constants of MSAL's end-to-end tests).
    NoUserAssigned = 400 json!({"statusCode": 400, "message": NO_IDENTITY, "correlationId": CORRELATION_ID});
    /// The same without a correlation id, as Container Apps sends it.
    NoUserAssignedShort = 400 json!({"statusCode": 400, "message": NO_IDENTITY});
    /// 400 of App Service in a former version (tests of pnp/cli-microsoft365).
    NoManagedIdentity = 400 json!({"StatusCode": 400, "CorrelationId": CORRELATION_ID,
        "Message": "No Managed Identity found for specified ClientId/ResourceId/PrincipalId."});
    /// 400 of App Service with the protocol of 2017 (MicrosoftDocs/azure-docs issue 43543).
    NoMsi = 400 json!({"StatusCode": 400, "CorrelationId": CORRELATION_ID,
        "Message": "No MSI found for specified ClientId/ResourceId."});
    /// 400 of App Service with a text of our own, for clients that compare the text.
    Reworded = 400 json!({"statusCode": 400, "correlationId": CORRELATION_ID,
        "message": "The requested identity is not attached to this site."});
    /// 404 of Azure Machine Learning, in plain text (Azure/azure-sdk-for-net issue 49174).
    MachineLearning = 404 "InternalError - :{\nInfo: Request failure status code: 404\n\n}";
    /// 404 of Container Instances (Azure/azure-sdk-for-net issue 45547).
    DefaultIdentityNotDefined = 404 json!({"error":
        {"code": "DefaultIdentityNotDefined", "message": "DefaultIdentityNotDefined ", "details": []}});
    /// 403 in plain text from the address of IMDS on a desktop (azidentity, its probe of IMDS).
    NoMetadataService = 403 "connecting to 192.0.2.1:80: connecting to 192.0.2.1:80: dial tcp 192.0.2.1:80: \
        connectex: A socket operation was attempted to an unreachable network.";
    /// 401 of a proxy at the same address, with a text of our own.
    Proxy = 401 "This proxy requires authentication.";
    /// 400 of Entra: no such tenant. Entra's texts are from Microsoft's list of AADSTS codes.
    Aadsts90002 = 400 error_body("invalid_request", 90_002, "Tenant 'contoso' not found.");
    /// 400 of Entra: the name of the tenant is malformed.
    Aadsts900023 = 400 error_body("invalid_request", 900_023,
        "Specified tenant identifier 'a b' is neither a valid DNS name, nor a valid external domain.");
    /// 400 of Entra: the tenant has no such application.
    Aadsts700016 = 400 error_body("unauthorized_client", 700_016,
        "Application with identifier 'c' was not found in the directory 'contoso'.");
    /// 401 of Entra: the client secret is wrong.
    Aadsts7000215 = 401 error_body("invalid_client", 7_000_215, "Invalid client secret is provided.");
    /// 401 of Entra: the client secret has expired.
    Aadsts7000222 = 401 error_body("invalid_client", 7_000_222,
        "The provided client secret keys are expired.");
    /// 400 of Entra: blocked by Conditional Access.
    Aadsts53003 = 400 error_body("invalid_grant", 53_003,
        "Access has been blocked by Conditional Access policies.");
}

impl TokenRefusal {
    pub(crate) fn response(self) -> Response<Bytes> {
        let (status, body) = self.table();
        let content_type = if body.starts_with('{') { response::JSON } else { response::TEXT };
        response::with_body(response::status_code(status), content_type, body)
    }
}

/// App Service's text for an identity that is not assigned.
pub(super) const NO_IDENTITY: &str =
    "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.";

const CORRELATION_ID: &str = "0507ee4d-6f33-4a5c-9d41-2b8c7e1f0a96";
