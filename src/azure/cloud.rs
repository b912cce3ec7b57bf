//! Azure's clouds: where their vaults are, and who signs people in there.

use super::Endpoint;
use crate::env::Lookup;
use crate::error::SettingError;

/// One of Azure's clouds, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    suffix: &'static str,
    /// Whom a token for a vault is for.
    pub(super) audience: &'static str,
    /// The address of Entra ID.
    authority: &'static str,
    /// What stands before the tenant in the issuer of a token of the first version.
    pub(super) issuer_v1: &'static str,
    /// The same of the second version.
    pub(super) issuer_v2: &'static str,
}

impl Cloud {
    /// The cloud that `vault` is in.
    pub(super) fn of_vault(vault: &Endpoint) -> Option<&'static Self> {
        CLOUDS.iter().find(|it| it.has(vault))
    }

    /// The cloud in which tokens for vaults are for `audience`.
    pub(super) fn of_audience(audience: &str) -> Option<&'static Self> {
        CLOUDS.iter().find(|it| it.audience == audience)
    }

    /// The address of Entra ID: the one of `AZURE_AUTHORITY_HOST`, or this cloud's.
    ///
    /// It is asked over plain http only on a loopback address: a client's secret goes there, and the keys that callers'
    /// tokens are signed with come from there.
    pub(super) fn authority(&self, settings: Lookup<'_>) -> Result<Endpoint, SettingError> {
        let name = "AZURE_AUTHORITY_HOST";
        let host = settings.text(name)?;
        Endpoint::parse(host.as_deref().unwrap_or(self.authority))
            .filter(|it| it.is_origin() && (it.is_tls() || it.is_loopback()))
            .ok_or(SettingError { name, should: "must be the https address of a host, without a path" })
    }

    /// Whether `origin` is a vault of this cloud: `https`, a vault's name, the suffix, and no port but the usual one.
    fn has(&self, origin: &Endpoint) -> bool {
        origin.is_tls()
            && origin.port().is_none_or(|it| it == "443")
            && origin.host().strip_suffix(self.suffix).is_some_and(is_vault_name)
    }
}

/// Microsoft, "About keys, secrets, and certificates", section "Object identifiers": 3 to 24 letters, digits and
/// hyphens, which start with a letter, end with a letter or a digit, and have no two hyphens in a row.
fn is_vault_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
        && name.starts_with(|it: char| it.is_ascii_alphabetic())
        && !name.ends_with('-')
        && !name.contains("--")
}

/// The cloud of everybody who is in none of the others.
pub(super) const PUBLIC: &Cloud = &CLOUDS[0];

/// Suffixes and audiences: Microsoft, "About keys, secrets, and certificates", table "DNS suffixes for object
/// identifiers". Authorities: Microsoft, "Microsoft Entra authentication and national clouds". Issuers: the field `issuer`
/// of each authority's OpenID configuration, without and with `/v2.0` in its address, as Microsoft's MSAL libraries and
/// the Azure Toolkit have them.
///
/// Microsoft Cloud Germany (`vault.microsoftazure.de`) closed on 2021-10-29 and is none of them.
const CLOUDS: [Cloud; 3] = [
    Cloud {
        suffix: ".vault.azure.net",
        audience: "https://vault.azure.net",
        authority: "https://login.microsoftonline.com",
        issuer_v1: "https://sts.windows.net",
        issuer_v2: "https://login.microsoftonline.com",
    },
    Cloud {
        suffix: ".vault.azure.cn",
        audience: "https://vault.azure.cn",
        authority: "https://login.chinacloudapi.cn",
        issuer_v1: "https://sts.chinacloudapi.cn",
        issuer_v2: "https://login.partner.microsoftonline.cn",
    },
    Cloud {
        suffix: ".vault.usgovcloudapi.net",
        audience: "https://vault.usgovcloudapi.net",
        authority: "https://login.microsoftonline.us",
        issuer_v1: "https://sts.windows.net",
        issuer_v2: "https://login.microsoftonline.us",
    },
];
