//! Settings of a test: identities, and the format and lifetime of tokens.

use serde::{Deserialize, Serialize};

use crate::facts;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// App Service, Functions, Container Apps: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`.
    #[serde(rename = "app-service-2019")]
    #[value(name = "app-service-2019")]
    AppService2019,
    /// The former protocol of App Service, and Azure Machine Learning: `MSI_ENDPOINT` and `MSI_SECRET`.
    #[serde(rename = "app-service-2017")]
    #[value(name = "app-service-2017")]
    AppService2017,
    /// The Instance Metadata Service of virtual machines.
    Imds,
    /// Cloud Shell: `MSI_ENDPOINT` without a secret.
    CloudShell,
    /// Entra's token endpoint with a client secret, for applications outside Azure.
    ClientSecret,
    /// Entra's token endpoint with a client assertion from a file: a pod of AKS with Workload Identity.
    WorkloadIdentity,
    /// A token of IMDS as the client assertion for Entra's token endpoint. The journal shows two requests:
    /// one to [`Imds`](Self::Imds) and one to [`WorkloadIdentity`](Self::WorkloadIdentity).
    ManagedIdentityFederation,
    /// The ID token of a GitHub Actions job, as a client assertion.
    GithubActions,
    /// The identity token of a service account, from Google Cloud's metadata server, as a client assertion.
    GoogleCloud,
    /// The agent of an Azure Arc-enabled server: a challenge that names a file with a key.
    AzureArc,
}

impl Source {
    /// Each source with its name on the command line and in the control routes.
    pub const ALL: [(&str, Self); 10] = [
        ("app-service-2019", Self::AppService2019),
        ("app-service-2017", Self::AppService2017),
        ("imds", Self::Imds),
        ("cloud-shell", Self::CloudShell),
        ("client-secret", Self::ClientSecret),
        ("workload-identity", Self::WorkloadIdentity),
        ("managed-identity-federation", Self::ManagedIdentityFederation),
        ("github-actions", Self::GithubActions),
        ("google-cloud", Self::GoogleCloud),
        ("azure-arc", Self::AzureArc),
    ];
}

/// Settings that a test may change. In JSON every field is optional.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The audience of the vault on a loopback address, which belongs to none of Microsoft's clouds.
    pub audience: String,
    /// The audience of an application other than a vault, such as `api://gateway`, for which Entra issues
    /// signed tokens to its callers.
    pub caller_audience: Option<String>,
    pub system_assigned: bool,
    pub user_assigned: Vec<UserAssigned>,
    /// The trusted issuers, subjects and audiences of client assertions. Default: one for each of the
    /// emulator's issuers.
    pub federated_credentials: Vec<FederatedCredential>,
    /// The lifetime of new tokens in seconds; 0 or less means expired. Default: 24 hours, or one with a
    /// client secret.
    pub lifetime: Option<i64>,
    /// The format of `expires_on`. Default: the format of the source.
    pub expires_on: Option<ExpiresOn>,
    /// The format of `expires_in`. Default: the format of the source.
    pub expires_in: Option<ExpiresIn>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            audience: "https://vault.azure.net".to_owned(),
            caller_audience: None,
            system_assigned: true,
            user_assigned: Vec::new(),
            federated_credentials: FederatedCredential::defaults(),
            lifetime: None,
            expires_on: None,
            expires_in: None,
        }
    }
}

/// A user-assigned identity. Its three identifiers are compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserAssigned {
    pub client_id: String,
    pub object_id: String,
    /// The Azure resource id: `/subscriptions/…/userAssignedIdentities/…`.
    pub resource_id: String,
}

/// A federated identity credential of an application: the client assertions that Entra accepts for it.
/// Issuer, subject and audience are compared exactly, with case.
///
/// Source: Microsoft Learn, "Important considerations and restrictions for federated identity credentials".
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederatedCredential {
    pub client_id: String,
    pub issuer: String,
    pub subject: String,
    pub audience: String,
}

impl FederatedCredential {
    /// Returns one credential for each issuer whose assertions the emulator makes.
    fn defaults() -> Vec<Self> {
        let managed_identities = facts::managed_identity_issuer();
        let trusted = [
            (facts::CLUSTER_ISSUER, facts::CLUSTER_SUBJECT),
            (facts::GITHUB_ISSUER, facts::GITHUB_SUBJECT),
            (facts::GOOGLE_ISSUER, facts::GOOGLE_SUBJECT),
            (managed_identities.as_str(), facts::OBJECT_ID),
        ];
        let credential = |(issuer, subject): (&str, &str)| Self {
            client_id: facts::APP_ID.to_owned(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            audience: facts::EXCHANGE_AUDIENCE.to_owned(),
        };
        trusted.into_iter().map(credential).collect()
    }
}

/// Formats of `expires_on` in token responses. Azure's services send or have sent each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresOn {
    /// `"1586984735"`: App Service 2019 and IMDS.
    Text,
    /// `1586984735`: Service Fabric sends a number.
    Number,
    /// `"09/14/2017 15:04:05 PM +00:00"`, a 24-hour clock with AM or PM: go-autorest's layout for App Service
    /// 2017 (`expiresOnDateFormatPM`). The documents' sample, `09/14/2017 00:00:00 PM +00:00`, has this form,
    /// but with PM at midnight; the emulator writes AM.
    Autorest2017,
    /// `"09/14/2017 00:00:00 +00:00"`: App Service 2017 on Linux (`azure-identity` for Python,
    /// `test_app_service_2017_09_01`).
    Linux2017,
    /// `"9/14/2017 12:00:00 AM +00:00"`: App Service 2017 on Windows (the same test).
    Windows2017,
    /// `"9/14/2017 0:00:00 +00:00"`: go-autorest's other layout, and Java's.
    Unpadded,
    /// `"09/14/2017 00:00:00"` (MSAL for Go, `accesstokens/tokens.go`).
    SlashesWithoutOffset,
    /// `"2017-09-14 00:00:00"` (the same).
    DashesWithoutOffset,
    /// `"2017-09-14T00:00:00Z"` (MSAL for Go and .NET).
    Iso,
    /// `"2017-09-14T00:00:00.0000000+00:00"` (MSAL for .NET).
    IsoFraction,
    /// `"Thu, 14 Sep 2017 00:00:00 GMT"` (the C++ SDK).
    Rfc1123,
    /// Seconds from now, as a number: MSAL for .NET reads small numbers this way.
    Relative,
    Empty,
    Null,
    Absent,
}

/// Formats of `expires_in`, the remaining seconds of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresIn {
    Number,
    Text,
    /// `""`, which azidentity's `wrappedNumber` accepts.
    Empty,
    Null,
    Absent,
}
