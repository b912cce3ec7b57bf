//! What a test may choose: identities, the shape and life of tokens.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// App Service, Functions, Container Apps: `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`.
    #[serde(rename = "app-service-2019")]
    #[value(name = "app-service-2019")]
    AppService2019,
    /// The App Service of old, and Azure Machine Learning: `MSI_ENDPOINT` and `MSI_SECRET`.
    #[serde(rename = "app-service-2017")]
    #[value(name = "app-service-2017")]
    AppService2017,
    /// Virtual machines and what runs on them: the Instance Metadata Service.
    Imds,
    /// Cloud Shell: `MSI_ENDPOINT` alone.
    CloudShell,
    /// An application's secret, at Entra's token endpoint: outside Azure.
    ClientSecret,
}

impl Source {
    /// Every source with the name that the command line and the control routes know it by.
    pub const ALL: [(&str, Self); 5] = [
        ("app-service-2019", Self::AppService2019),
        ("app-service-2017", Self::AppService2017),
        ("imds", Self::Imds),
        ("cloud-shell", Self::CloudShell),
        ("client-secret", Self::ClientSecret),
    ];
}

/// What a test may choose. In JSON every field may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The audience of a vault that is in none of Microsoft's clouds, which an address on loopback is.
    pub audience: String,
    /// The audience of an application that is no vault, such as `api://gateway`. A client that asks for a token for it
    /// gets one that is signed, as its callers bring it. Without it Entra does not know such an application.
    pub caller_audience: Option<String>,
    pub system_assigned: bool,
    pub user_assigned: Vec<UserAssigned>,
    /// How long new tokens live, in seconds; 0 and less: they have expired when they are given out. Without it a
    /// managed identity's token lives 24 hours and Entra's an hour.
    pub lifetime: Option<i64>,
    /// How `expires_on` is written. Without it, as the source that is asked writes it.
    pub expires_on: Option<ExpiresOn>,
    /// How `expires_in` is written. Without it, as the source that is asked writes it.
    pub expires_in: Option<ExpiresIn>,
}

impl Default for Settings {
    /// One system-assigned identity, and tokens as each source gives them.
    fn default() -> Self {
        Self {
            audience: "https://vault.azure.net".to_owned(),
            caller_audience: None,
            system_assigned: true,
            user_assigned: Vec::new(),
            lifetime: None,
            expires_on: None,
            expires_in: None,
        }
    }
}

/// A user-assigned identity, by each of its names. They are compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserAssigned {
    pub client_id: String,
    pub object_id: String,
    /// Its place in Azure: `/subscriptions/…/userAssignedIdentities/…`.
    pub resource_id: String,
}

/// How a token answer writes the moment when the token ends. All of these are met in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresOn {
    /// `"1586984735"`: App Service 2019, IMDS.
    Text,
    /// `1586984735`: Service Fabric.
    Number,
    /// `"09/14/2017 15:04:05 PM +00:00"`, a 24-hour clock and a half of the day besides: go-autorest's layout for
    /// App Service 2017 (`expiresOnDateFormatPM`). The documents' sample, `09/14/2017 00:00:00 PM +00:00`, has this
    /// form, but no clock writes PM at midnight: here it is AM then.
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
    /// Seconds from now, as a number: MSAL for .NET reads small numbers so.
    Relative,
    Empty,
    Null,
    Absent,
}

/// How a token answer writes the seconds that the token has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresIn {
    Number,
    Text,
    /// `""`: not a number and not an error (azidentity's `wrappedNumber`).
    Empty,
    Null,
    Absent,
}
