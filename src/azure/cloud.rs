//! Azure's clouds: their vaults, their audiences, and their addresses of Entra ID.

use super::Endpoint;
use crate::env::Lookup;
use crate::error::SettingError;

/// One of Azure's clouds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    suffix: &'static str,
    /// The audience of a token for a vault.
    pub(super) audience: &'static str,
    /// The address of Entra ID.
    authority: &'static str,
    /// The audience of an assertion for Entra ID.
    pub(super) exchange: &'static str,
    /// The part of an issuer before the tenant, in version 1 of tokens.
    pub(super) issuer_v1: &'static str,
    /// The same in version 2 of tokens.
    pub(super) issuer_v2: &'static str,
}

impl Cloud {
    /// The cloud of `vault`, if it has one of the known host names.
    pub(super) fn of_vault(vault: &Endpoint) -> Option<&'static Self> {
        CLOUDS.iter().find(|cloud| cloud.contains(vault))
    }

    /// The cloud whose vaults have this audience.
    pub(super) fn of_audience(audience: &str) -> Option<&'static Self> {
        CLOUDS.iter().find(|cloud| cloud.audience == audience)
    }

    /// The address of Entra ID: the one of `AZURE_AUTHORITY_HOST`, or this cloud's.
    ///
    /// Plain http is allowed only for a loopback address: client secrets are sent there, and the keys that
    /// verify callers' tokens come from there.
    pub(super) fn authority(&self, settings: Lookup<'_>) -> Result<Endpoint, SettingError> {
        let name = "AZURE_AUTHORITY_HOST";
        let host = settings.text(name)?;
        Endpoint::parse(host.as_deref().unwrap_or(self.authority))
            .filter(|endpoint| endpoint.is_origin() && (endpoint.is_tls() || endpoint.is_loopback()))
            .ok_or(SettingError { name, should: "must be the https address of a host, without a path" })
    }

    /// Whether `origin` is a vault of this cloud: `https`, a vault's name, the suffix, and no port but 443.
    fn contains(&self, origin: &Endpoint) -> bool {
        origin.is_tls()
            && origin.port().is_none_or(|port| port == "443")
            && origin.host().strip_suffix(self.suffix).is_some_and(is_vault_name)
    }
}

/// Whether tokens of Entra ID have issuers at `host`, in any cloud.
pub(super) fn has_issuer_at(host: &str) -> bool {
    let issuers = CLOUDS.iter().flat_map(|cloud| [cloud.issuer_v1, cloud.issuer_v2, cloud.authority]);
    issuers.filter_map(|issuer| issuer.strip_prefix("https://")).any(|known| known == host)
}

/// Whether `name` can be a vault's name (Microsoft, "About keys, secrets, and certificates", section "Object
/// identifiers"): 3 to 24 letters, digits and hyphens, which start with a letter, end with a letter or a
/// digit, and have no two hyphens in a row.
fn is_vault_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && !name.ends_with('-')
        && !name.contains("--")
}

/// The public cloud, which is the default.
pub(super) const PUBLIC: &Cloud = &CLOUDS[0];

/// Suffixes and audiences: Microsoft, "About keys, secrets, and certificates", table "DNS suffixes for object
/// identifiers". Authorities: Microsoft, "Microsoft Entra authentication and national clouds". Issuers: the
/// member `issuer` of each authority's OpenID configuration, without and with `/v2.0` in its address, as
/// Microsoft's MSAL libraries and the Azure Toolkit have them. Audiences of assertions: Microsoft, "Configure
/// an application to trust a managed identity", table of clouds.
///
/// Microsoft Cloud Germany (`vault.microsoftazure.de`) closed on 2021-10-29 and is not listed.
const CLOUDS: [Cloud; 3] = [
    Cloud {
        suffix: ".vault.azure.net",
        audience: "https://vault.azure.net",
        authority: "https://login.microsoftonline.com",
        exchange: "api://AzureADTokenExchange",
        issuer_v1: "https://sts.windows.net",
        issuer_v2: "https://login.microsoftonline.com",
    },
    Cloud {
        suffix: ".vault.azure.cn",
        audience: "https://vault.azure.cn",
        authority: "https://login.chinacloudapi.cn",
        exchange: "api://AzureADTokenExchangeChina",
        issuer_v1: "https://sts.chinacloudapi.cn",
        issuer_v2: "https://login.partner.microsoftonline.cn",
    },
    Cloud {
        suffix: ".vault.usgovcloudapi.net",
        audience: "https://vault.usgovcloudapi.net",
        authority: "https://login.microsoftonline.us",
        exchange: "api://AzureADTokenExchangeUSGov",
        issuer_v1: "https://sts.windows.net",
        issuer_v2: "https://login.microsoftonline.us",
    },
];
