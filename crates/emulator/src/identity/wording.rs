//! What token sources say when they have no token, in each wording that has been met.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::json;

use crate::reply;

/// Each way in which a token source refuses a request, for [`Effect::RefuseToken`](crate::Effect::RefuseToken): status and body are
/// those of the live services, from the places that are named, with other ids and addresses in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRefusal {
    /// 400 of App Service and Container Apps: no such identity (constants of MSAL's end-to-end tests).
    NoUserAssigned,
    /// The same, without a correlation id, as Container Apps says it.
    NoUserAssignedShort,
    /// 400 of App Service, some years before (tests of pnp/cli-microsoft365).
    NoManagedIdentity,
    /// 400 of App Service with the protocol of 2017 (MicrosoftDocs/azure-docs issue 43543).
    NoMsi,
    /// 400 of App Service in words that have not been met yet: the text is our own.
    Reworded,
    /// 404 of Azure Machine Learning, in plain text (Azure/azure-sdk-for-net issue 49174).
    MachineLearning,
    /// 404 of Container Instances (Azure/azure-sdk-for-net issue 45547).
    DefaultIdentityNotDefined,
    /// 403 in plain text of what answers at the address of IMDS on a desktop (azidentity, its probe of IMDS).
    NoMetadataService,
    /// 401 of a proxy at the same address. The text is our own.
    Proxy,
    /// 400 of Entra: no such tenant. Its texts are those of Microsoft's list of AADSTS codes.
    Aadsts90002,
    /// 400 of Entra: the name of the tenant is malformed.
    Aadsts900023,
    /// 400 of Entra: the tenant has no such application.
    Aadsts700016,
    /// 401 of Entra: the client secret is wrong.
    Aadsts7000215,
    /// 401 of Entra: the client secret has expired.
    Aadsts7000222,
    /// 400 of Entra: Conditional Access forbids it.
    Aadsts53003,
}

impl TokenRefusal {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::NoUserAssigned,
        Self::NoUserAssignedShort,
        Self::NoManagedIdentity,
        Self::NoMsi,
        Self::Reworded,
        Self::MachineLearning,
        Self::DefaultIdentityNotDefined,
        Self::NoMetadataService,
        Self::Proxy,
        Self::Aadsts90002,
        Self::Aadsts900023,
        Self::Aadsts700016,
        Self::Aadsts7000215,
        Self::Aadsts7000222,
        Self::Aadsts53003,
    ];

    pub(crate) fn answer(self) -> Response<Bytes> {
        let correlation = "0507ee4d-6f33-4a5c-9d41-2b8c7e1f0a96";
        let app_service = |message: &str| {
            let body = json!({"statusCode": 400, "message": message, "correlationId": correlation});
            reply::json(reply::status(400), &body)
        };
        let pascal = |message: &str| {
            let body = json!({"StatusCode": 400, "Message": message, "CorrelationId": correlation});
            reply::json(reply::status(400), &body)
        };
        match self {
            Self::NoUserAssigned => app_service(
                "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.",
            ),
            Self::NoUserAssignedShort => reply::json(
                reply::status(400),
                &json!({"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found for \
                        specified ClientId/ResourceId/PrincipalId."}),
            ),
            Self::NoManagedIdentity => {
                pascal("No Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
            }
            Self::NoMsi => pascal("No MSI found for specified ClientId/ResourceId."),
            Self::Reworded => app_service("The identity that was asked for is not attached to this site."),
            Self::MachineLearning => reply::text(
                reply::status(404),
                "InternalError - :{\nInfo: Request failure status code: 404\n\n}",
            ),
            Self::DefaultIdentityNotDefined => reply::json(
                reply::status(404),
                &json!({"error": {"code": "DefaultIdentityNotDefined", "message": "DefaultIdentityNotDefined ",
                        "details": []}}),
            ),
            Self::NoMetadataService => reply::text(
                reply::status(403),
                "connecting to 192.0.2.1:80: connecting to 192.0.2.1:80: dial tcp 192.0.2.1:80: connectex: A socket operation \
                 was attempted to an unreachable network.",
            ),
            Self::Proxy => reply::text(reply::status(401), "This proxy wants to know who you are."),
            Self::Aadsts90002 => entra(400, "invalid_request", 90_002, "Tenant 'contoso' not found."),
            Self::Aadsts900023 => entra(
                400,
                "invalid_request",
                900_023,
                "Specified tenant identifier 'a b' is neither a valid DNS name, nor a valid external domain.",
            ),
            Self::Aadsts700016 => entra(
                400,
                "unauthorized_client",
                700_016,
                "Application with identifier 'c' was not found in the directory 'contoso'.",
            ),
            Self::Aadsts7000215 => {
                entra(401, "invalid_client", 7_000_215, "Invalid client secret is provided.")
            }
            Self::Aadsts7000222 => {
                entra(401, "invalid_client", 7_000_222, "The provided client secret keys are expired.")
            }
            Self::Aadsts53003 => {
                entra(400, "invalid_grant", 53_003, "Access has been blocked by Conditional Access policies.")
            }
        }
    }
}

fn entra(status: u16, error: &str, number: u64, text: &str) -> Response<Bytes> {
    let description = format!("AADSTS{number}: {text} Trace ID: 3f1d0c9b Correlation ID: 0507ee4d");
    reply::json(
        reply::status(status),
        &json!({"error": error, "error_description": description, "error_codes": [number],
                "timestamp": "2026-11-28 21:00:00Z", "trace_id": "3f1d0c9b", "correlation_id": "0507ee4d",
                "error_uri": format!("https://login.microsoftonline.com/error?code={number}")}),
    )
}
