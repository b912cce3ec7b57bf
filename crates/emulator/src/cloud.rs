//! The hosts of Azure's clouds and the role of each.

use std::net::IpAddr;

/// One of Microsoft's clouds: the audience of its vaults and the host of its token authority.
///
/// Source: Microsoft Learn, "About Azure Key Vault keys, secrets and certificates", table of DNS suffixes.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) audience: &'static str,
    pub(crate) authority_host: &'static str,
}

impl Cloud {
    fn domain(&self) -> &str {
        self.audience.trim_start_matches("https://")
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum HostRole {
    Vault(&'static Cloud),
    Entra,
    Imds,
    /// Google Cloud's metadata server.
    GoogleMetadata,
    /// GitHub's issuer of tokens for jobs.
    GithubActions,
    /// A loopback address or `localhost`: serves all routes, including the control routes.
    Loopback,
    Unknown,
}

/// Returns the role of `host`, which has no port. Vaults, Entra and GitHub accept only HTTPS,
/// metadata servers only plain HTTP.
pub(crate) fn host_role(scheme: &str, host: &str) -> HostRole {
    let host = host.to_ascii_lowercase();
    let https = scheme == "https";
    let vault = host.split_once('.').filter(|(name, _)| is_vault_name(name));
    let cloud = vault.and_then(|(_, domain)| CLOUDS.iter().find(|cloud| cloud.domain() == domain));
    match cloud {
        Some(cloud) if https => HostRole::Vault(cloud),
        Some(_) => HostRole::Unknown,
        None if host == IMDS && !https => HostRole::Imds,
        None if host == GOOGLE_METADATA && !https => HostRole::GoogleMetadata,
        None if https && host.ends_with(GITHUB_ACTIONS) => HostRole::GithubActions,
        None if is_loopback(&host) => HostRole::Loopback,
        None if https && CLOUDS.iter().any(|cloud| cloud.authority_host == host) => HostRole::Entra,
        None => HostRole::Unknown,
    }
}

/// Whether Entra issues tokens for this resource: the audience of vaults or of one vault, or another service.
///
/// Key Vault accepts only one of these audiences (`AKV10022`, Azure/go-autorest issue 525).
pub(crate) fn knows_resource(resource: &str) -> bool {
    if resource.eq_ignore_ascii_case(KEY_VAULT_APP) {
        return true;
    }
    let Some(host) = resource.strip_prefix("https://") else { return false };
    let host = host.strip_suffix('/').unwrap_or(host);
    let others = ["management.azure.com", "graph.microsoft.com"];
    let is_in = |cloud: &Cloud| {
        host.strip_suffix(cloud.domain()).is_some_and(|name| name.is_empty() || name.ends_with('.'))
    };
    others.contains(&host) || CLOUDS.iter().any(is_in)
}

/// The public cloud, also used for hosts outside all clouds.
pub(crate) const PUBLIC: &Cloud = &CLOUDS[0];

/// The application id of Key Vault, which vaults accept as an audience (text of `AKV10022`,
/// argoproj-labs/argocd-vault-plugin issue 621).
pub(crate) const KEY_VAULT_APP: &str = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093";

const CLOUDS: [Cloud; 3] = [
    Cloud { audience: "https://vault.azure.net", authority_host: "login.microsoftonline.com" },
    Cloud { audience: "https://vault.azure.cn", authority_host: "login.chinacloudapi.cn" },
    Cloud { audience: "https://vault.usgovcloudapi.net", authority_host: "login.microsoftonline.us" },
];

const IMDS: &str = "169.254.169.254";
const GOOGLE_METADATA: &str = "metadata.google.internal";
/// The end of the hosts in `ACTIONS_ID_TOKEN_REQUEST_URL`.
const GITHUB_ACTIONS: &str = ".actions.githubusercontent.com";

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether Azure allows this vault name: 3 to 24 letters, digits and single hyphens, from a letter.
fn is_vault_name(name: &str) -> bool {
    let allowed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let ends_well = name.starts_with(|first: char| first.is_ascii_alphabetic()) && !name.ends_with('-');
    (3..=24).contains(&name.len()) && allowed && ends_well && !name.contains("--")
}
