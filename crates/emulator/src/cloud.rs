//! Which host a request was sent to, and what that host serves.

use std::net::IpAddr;

/// One of Microsoft's clouds: where its vaults are, the audience of their tokens, and what signs those.
///
/// Source: Microsoft Learn, "About Azure Key Vault keys, secrets and certificates", table of DNS suffixes.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) audience: &'static str,
    login: &'static str,
}

impl Cloud {
    fn domain(&self) -> &str {
        self.audience.trim_start_matches("https://")
    }

    /// The address that a challenge names: who gives tokens for `tenant`.
    pub(crate) fn authority(&self, tenant: &str) -> String {
        format!("https://{}/{tenant}", self.login)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Vault(&'static Cloud),
    Login,
    Imds,
    /// Everything, the control routes too: an address on loopback, or `localhost`.
    Here,
    Stranger,
}

/// Whose host `host` is, which has no port, for a client that comes by `scheme`: Azure's vaults and Entra are there by HTTPS
/// only, IMDS by plain HTTP only.
pub(crate) fn place(scheme: &str, host: &str) -> Place {
    let host = host.to_ascii_lowercase();
    let https = scheme == "https";
    let vault = host.split_once('.').filter(|(name, _)| is_vault_name(name));
    let cloud = vault.and_then(|(_, domain)| CLOUDS.iter().find(|cloud| cloud.domain() == domain));
    match cloud {
        Some(cloud) if https => Place::Vault(cloud),
        Some(_) => Place::Stranger,
        None if host == IMDS && !https => Place::Imds,
        None if is_loopback(&host) => Place::Here,
        None if https && CLOUDS.iter().any(|cloud| cloud.login == host) => Place::Login,
        None => Place::Stranger,
    }
}

/// Whether Entra knows a resource of this name: a vault's audience, with or without a slash, one vault's own
/// address, and two of its other services.
///
/// A token is minted for all of these; that Key Vault takes only one of them shows at the vault
/// (`AKV10022`, Azure/go-autorest issue 525).
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

/// The public cloud, which also stands for a host that is in no cloud.
pub(crate) const PUBLIC: &Cloud = &CLOUDS[0];

/// Key Vault's own application, accepted as an audience (text of `AKV10022`,
/// argoproj-labs/argocd-vault-plugin issue 621).
pub(crate) const KEY_VAULT_APP: &str = "cfa8b339-82a2-471a-a3c9-0fc0be7a4093";

const CLOUDS: [Cloud; 3] = [
    Cloud { audience: "https://vault.azure.net", login: "login.microsoftonline.com" },
    Cloud { audience: "https://vault.azure.cn", login: "login.chinacloudapi.cn" },
    Cloud { audience: "https://vault.usgovcloudapi.net", login: "login.microsoftonline.us" },
];

const IMDS: &str = "169.254.169.254";

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// A vault's name: 3 to 24 letters, digits and single hyphens, first a letter, last no hyphen.
fn is_vault_name(name: &str) -> bool {
    let allowed = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
    let ends_well = name.starts_with(|it: char| it.is_ascii_alphabetic()) && !name.ends_with('-');
    (3..=24).contains(&name.len()) && allowed && ends_well && !name.contains("--")
}
