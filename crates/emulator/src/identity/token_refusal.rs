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
    /// 401 of Entra: there is neither a client secret nor an assertion
    /// (Azure-Samples/active-directory-dotnet-native-aspnetcore issue 22).
    Aadsts7000218 = 401 error_body("invalid_client", 7_000_218,
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.");
    /// 401 of Entra: the client secret has expired.
    Aadsts7000222 = 401 error_body("invalid_client", 7_000_222,
        "The provided client secret keys are expired.");
    /// 400 of Entra: blocked by Conditional Access.
    Aadsts53003 = 400 error_body("invalid_grant", 53_003,
        "Access has been blocked by Conditional Access policies.");
    /// 400 of Entra: the same by a security policy of the tenant. The status is not documented.
    Aadsts530032 = 400 error_body("invalid_grant", 530_032,
        "The tenant admin has configured a security policy that blocks this request.");
    /// 400 of Entra: the client repeats the same request (Microsoft Learn, "What's new for authentication?").
    Aadsts50196 = 400 error_body("invalid_grant", 50_196,
        "The server terminated an operation because it encountered a loop while processing a request.");
    /// 429 of Entra: the tenant is throttled. The status is not documented.
    Aadsts90055 = 429 error_body("temporarily_unavailable", 90_055, "There are too many incoming requests.");
    /// 400 of Entra: the application is disabled. The status is not documented.
    Aadsts7000112 = 400 error_body("unauthorized_client", 7_000_112, "Application is disabled.");
    /// 400 of Entra: the tenant does not know the resource.
    Aadsts500011 = 400 error_body("invalid_resource", 500_011,
        "The resource principal named r was not found in the tenant named contoso.");
    /// 400 of Entra: the scope is malformed.
    Aadsts70011 = 400 error_body("invalid_scope", 70_011, "The provided value for scope s is not valid.");
    /// 400 of Entra: a scope with several resources. The status is not documented.
    Aadsts700022 = 400 error_body("invalid_request", 700_022,
        "The provided value for the input parameter scope is not valid because it contains more than one \
        resource.");
    /// 400 of Entra: a scope without a resource. The status is not documented.
    Aadsts700023 = 400 error_body("invalid_request", 700_023,
        "The provided value for the input parameter scope is not valid because it contains no resource.");
    /// 400 of Entra: the client assertion is not a JWT (panva/openid-client issue 348).
    Aadsts50027 = 400 error_body("invalid_request", 50_027, "JWT token is invalid or malformed.");
    /// 400 of Entra: no credential matches the assertion, in a former version that does not name the
    /// difference (Azure/azure-workload-identity issue 616).
    Aadsts70021 = 400 error_body("invalid_request", 70_021, &format!("{NO_MATCH}. Assertion Issuer: 'i'. \
        Assertion Subject: 's'. Assertion Audience: 'a'. {FEDERATION}"));
    /// 401 of Entra: no credential has this issuer (Azure/azure-workload-identity issue 1200).
    Aadsts700211 = 401 error_body("invalid_client", 700_211, &format!("{NO_MATCH} issuer 'i'. {CHECK}"));
    /// 401 of Entra: the credential has another audience.
    Aadsts700212 = 401 error_body("invalid_client", 700_212, &format!("{NO_MATCH} audience 'a'. {CHECK}"));
    /// 401 of Entra: no credential has this subject, or it is not in effect yet (kedacore/keda issue 8152).
    Aadsts700213 = 401 error_body("invalid_client", 700_213, &format!("{NO_MATCH} subject 's'. {CHECK}"));
    /// 401 of Entra: no credential has this subject, which is of a service of Microsoft (microsoft/Agents
    /// issue 202).
    Aadsts7002137 = 401 error_body("invalid_client", 7_002_137, &format!("{NO_MATCH} subject 's'. Please \
        make sure the federated identity credential Subject is 't'."));
    /// 401 of Entra: the subject differs in case only (Azure/login issue 515).
    Aadsts7002138 = 401 error_body("invalid_client", 7_002_138, &format!("{NO_MATCH} subject 'S'. The \
        subject matches with case-insensitive comparison, but not with case-sensitive comparison. {CHECK}"));
    /// 401 of Entra: the assertion is not valid yet, or no longer (Azure/login issue 180).
    Aadsts700024 = 401 error_body("invalid_client", 700_024,
        "Client assertion is not within its valid time range.");
    /// 401 of Entra: the signature is wrong (AzureAD/passport-azure-ad issue 453).
    Aadsts700027 = 401 error_body("invalid_client", 700_027,
        "Client assertion contains an invalid signature.");
    /// 401 of Entra: the issuer publishes no such key (Azure/azure-workload-identity issue 1232).
    Aadsts7000272 = 401 error_body("invalid_client", 7_000_272,
        "The certificate with identifier k used to sign the federated credential could not be found in the \
        metadata of identity provider i.");
    /// 400 of Entra: it cannot read the issuer's documents (Azure/azure-workload-identity issue 642).
    Aadsts50166 = 400 error_body("invalid_request", 50_166, "Request to External OIDC endpoint failed.");
    /// The same with another code (Azure/login issue 283).
    Aadsts501661 = 400 error_body("invalid_request", 501_661, "Request to External OIDC endpoint failed.");
    /// The same with the former code (Azure/azure-workload-identity issue 605).
    Aadsts90061 = 400 error_body("invalid_request", 90_061, "Request to External OIDC endpoint failed.");
    /// 401 of Entra: an assertion of Entra, in a former version (MicrosoftDocs/azure-docs issue 116459). The
    /// status of this and of the following refusals is not documented.
    Aadsts700222 = 401 error_body("invalid_client", 700_222,
        "AAD-issued tokens may not be used for federated identity flows.");
    /// 401 of Entra: an assertion of Entra that is not the token of a managed identity.
    Aadsts700226 = 401 error_body("invalid_client", 700_226,
        "Only MSI tokens may be used as Federated Identity Credentials for AAD issuer.");
    /// 401 of Entra: an assertion of Entra that is a user's token (MicrosoftDocs/azure-docs issue 109083).
    Aadsts700229 = 401 error_body("invalid_client", 700_229,
        "Forbidden token type. Only app-only tokens may be used as Federated Identity Credentials for AAD \
        issuer.");
    /// 401 of Entra: the managed identity and the application belong to different tenants.
    Aadsts700236 = 401 error_body("invalid_client", 700_236,
        "Entra ID tokens issued by issuer 'i' may not be used for federated identity credential flows for \
        applications or managed identities registered in this tenant.");
    /// 401 of Entra: the managed identity's token has another audience; a text of our own.
    Aadsts7002206 = 401 error_body("invalid_client", 7_002_206,
        "The audience of the Entra ID token is not that of a federated identity credential.");
    /// 401 of Entra: a policy of the tenant forbids federation (Microsoft Learn, "Troubleshoot Azure Resource
    /// Manager workload identity service connections"); a text of our own.
    Aadsts700223 = 401 error_body("invalid_client", 700_223,
        "A policy of the tenant does not allow federated identity credentials.");
    /// 401 of Entra: the same for an issuer; a text of our own.
    Aadsts700238 = 401 error_body("invalid_client", 700_238,
        "A policy of the tenant does not allow federated identity credentials of issuer 'i'.");
    /// 401 of Entra: the tenant requires a claim of GitHub's tokens.
    Aadsts7002381 = 401 error_body("invalid_client", 7_002_381,
        "Federated identity credentials issued by 'https://token.actions.githubusercontent.com/' for \
        applications or managed identities registered in this tenant must contain the enterprise claim with \
        value 'e' but actual value is ''.");
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

const NO_MATCH: &str = "No matching federated identity record found for presented assertion";
const CHECK: &str = "Check your federated identity credential Subject, Audience and Issuer against the \
                     presented assertion. \
                     https://learn.microsoft.com/entra/workload-id/workload-identity-federation";
const FEDERATION: &str = "https://docs.microsoft.com/en-us/azure/active-directory/develop/\
                          workload-identity-federation";

const CORRELATION_ID: &str = "0507ee4d-6f33-4a5c-9d41-2b8c7e1f0a96";
