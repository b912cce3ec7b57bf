//! References to secrets, as Azure App Service and Azure Functions have them in application settings.
//!
//! Source: Microsoft, "Use Key Vault references as app settings in Azure App Service, Azure Functions, and Azure Logic Apps
//! (Standard)", section "Understand source app settings from Key Vault": `@Microsoft.KeyVault(SecretUri=…)` and
//! `@Microsoft.KeyVault(VaultName=…;SecretName=…;SecretVersion=…)`, the version being optional in both.

/// A secret that a value of the configuration refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    vault: Vault<'a>,
    /// The secret's name, not checked.
    pub name: &'a str,
    /// The secret's version, not checked; the latest, if there is none.
    pub version: Option<&'a str>,
}

/// How a reference names the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vault<'a> {
    /// By its address, without a slash at the end.
    Uri(&'a str),
    /// By its name.
    Name(&'a str),
}

/// A value that begins like a reference and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAReference;

impl<'a> Reference<'a> {
    /// The reference in a value of the configuration; nothing, if the value does not begin like one.
    pub fn parse(value: &'a str) -> Result<Option<Self>, NotAReference> {
        // A mark that somebody's quotes or editor stand before is meant to be one, and is no password.
        let bare = value.trim_start_matches(|it: char| it.is_whitespace() || "\"'\u{feff}".contains(it));
        if !starts_with(bare, MARK) {
            return Ok(None);
        }
        let inside = value.trim().split_at_checked(MARK.len()).filter(|it| starts_with(it.0, MARK));
        let inside = inside.and_then(|it| it.1.strip_prefix('(')?.strip_suffix(')'));
        let rest = inside.ok_or(NotAReference)?;
        let reference = match rest.split_once('=') {
            Some((name, uri)) if name.trim().eq_ignore_ascii_case("SecretUri") => Self::of_uri(uri.trim()),
            _ => Self::of_parts(rest),
        };
        reference.map(Some).ok_or(NotAReference)
    }

    /// `https://my-vault.vault.azure.net/secrets/name`, perhaps with a version, and with a slash at the end or not.
    fn of_uri(uri: &'a str) -> Option<Self> {
        let (_, rest) = uri.split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        let vault = uri.strip_suffix(path)?.strip_suffix('/')?;
        let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
        let (collection, name, version) = (segments.next()?, segments.next()?, segments.next());
        let right = !authority.is_empty()
            && collection.eq_ignore_ascii_case("secrets")
            && ![Some(name), version].contains(&Some(""))
            && segments.next().is_none();
        right.then_some(Self { vault: Vault::Uri(vault), name, version })
    }

    /// `VaultName=…;SecretName=…;SecretVersion=…`, in any order.
    fn of_parts(parts: &'a str) -> Option<Self> {
        let (mut vault, mut name, mut version) = (None, None, None);
        for part in parts.split(';').filter(|it| !it.trim().is_empty()) {
            let (key, value) = part.split_once('=')?;
            let (key, value) = (key.trim(), value.trim());
            let is = |name| key.eq_ignore_ascii_case(name);
            let place = match () {
                () if is("VaultName") => &mut vault,
                () if is("SecretName") => &mut name,
                () if is("SecretVersion") => &mut version,
                () => return None,
            };
            // Nobody could say which of two counts.
            if value.is_empty() || place.replace(value).is_some() {
                return None;
            }
        }
        Some(Self { vault: Vault::Name(vault?), name: name?, version })
    }

    /// Whether the secret is in the vault with this address: `https://my-vault.vault.azure.net`, without a slash at the end.
    pub fn is_in(&self, uri: &str) -> bool {
        let uri = without_usual_port(uri);
        match self.vault {
            Vault::Uri(vault) => without_usual_port(vault).eq_ignore_ascii_case(uri),
            Vault::Name(name) => {
                let host = uri.strip_prefix("https://").and_then(|it| it.split_once('.'));
                host.is_some_and(|it| it.0.eq_ignore_ascii_case(name) && DOMAINS.contains(&it.1))
            }
        }
    }
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start))
}

/// An address, whose port need not be said where it is that of `https`.
fn without_usual_port(uri: &str) -> &str {
    uri.strip_suffix(":443").filter(|it| starts_with(it, "https://")).unwrap_or(uri)
}

const MARK: &str = "@Microsoft.KeyVault";

/// Where a vault is that is known by its name alone (Microsoft, "About keys, secrets, and certificates", table "DNS suffixes for
/// object identifiers").
const DOMAINS: [&str; 3] = ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"];

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: &str = "https://my-vault.vault.azure.net";
    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn what_refers_to_a_secret() {
        let with_version = format!("@Microsoft.KeyVault(SecretUri={VAULT}/secrets/db/{VERSION})");
        let all_parts =
            format!("@Microsoft.KeyVault(VaultName=my-vault;SecretName=db;SecretVersion={VERSION})");
        for (value, version) in [
            ("@Microsoft.KeyVault(SecretUri=https://my-vault.vault.azure.net/secrets/db)", None),
            ("@Microsoft.KeyVault(SecretUri=https://my-vault.vault.azure.net/secrets/db/)", None),
            ("@Microsoft.KeyVault(SecretUri=https://MY-VAULT.vault.azure.net/secrets/db)", None),
            (" @Microsoft.KeyVault( secreturi = https://my-vault.vault.azure.net/secrets/db )\n", None),
            (&with_version, Some(VERSION)),
            ("@microsoft.keyvault(VaultName=my-vault;SecretName=db)", None),
            ("@Microsoft.KeyVault(SecretName=db; VaultName=My-Vault;)", None),
            (&all_parts, Some(VERSION)),
        ] {
            let reference = Reference::parse(value).unwrap().unwrap();
            assert_eq!((reference.name, reference.version), ("db", version), "{value}");
            assert!(reference.is_in(VAULT), "{value}");
        }
    }

    #[test]
    fn what_does_not() {
        for value in [
            "",
            "hunter2",
            "@Microsoft.KeyVaul",
            "@Microsoft",
            "x@Microsoft.KeyVault(SecretUri=x)",
            "ä ö ü ä ö ü ä ö ü",
        ] {
            assert_eq!(Reference::parse(value), Ok(None), "{value}");
        }
    }

    #[test]
    fn what_begins_like_one_and_is_none() {
        for inside in [
            "",
            "db",
            "SecretUri=",
            "SecretUri=my-vault.vault.azure.net/secrets/db",
            "SecretUri=https:///secrets/db",
            "SecretUri=https://my-vault.vault.azure.net",
            "SecretUri=https://my-vault.vault.azure.net/secrets/",
            "SecretUri=https://my-vault.vault.azure.net/secrets//",
            "SecretUri=https://my-vault.vault.azure.net/secrets/db//",
            "SecretUri=https://my-vault.vault.azure.net/keys/db",
            "SecretUri=https://my-vault.vault.azure.net/secrets/db/1/2",
            "SecretName=db",
            "VaultName=my-vault",
            "VaultName=my-vault;SecretName=",
            "VaultName=my-vault;SecretName=db;SecretName=other",
            "VaultName=my-vault;SecretName=db;Else=x",
            "VaultName=my-vault;SecretName=db;SecretUri=x",
        ] {
            let value = format!("@Microsoft.KeyVault({inside})");
            assert_eq!(Reference::parse(&value), Err(NotAReference), "{value}");
        }
        for value in [
            "@Microsoft.KeyVault",
            "@Microsoft.KeyVault(VaultName=a;SecretName=b",
            "@Microsoft.KeyVault (VaultName=a;SecretName=b)",
            "@Microsoft.KeyVault(VaultName=a;SecretName=b) and more",
            "\"@Microsoft.KeyVault(VaultName=a;SecretName=b)\"",
            " '@microsoft.keyvault(VaultName=a;SecretName=b)'",
            "\u{feff}@Microsoft.KeyVault(VaultName=a;SecretName=b)",
        ] {
            assert_eq!(Reference::parse(value), Err(NotAReference), "{value}");
        }
    }

    #[test]
    fn secrets_of_other_vaults() {
        for inside in [
            "SecretUri=https://other.vault.azure.net/secrets/db",
            "SecretUri=http://my-vault.vault.azure.net/secrets/db",
            "SecretUri=https://my-vault.vault.azure.net:8443/secrets/db",
            "SecretUri=https://my-vault.vault.azure.net.evil.example/secrets/db",
            "SecretUri=https://my-vault.vault.azure.net./secrets/db",
            "SecretUri=https://my-vault.vault.azure.net@evil.example/secrets/db",
            "SecretUri=https://evil.example#@my-vault.vault.azure.net/secrets/db",
            "SecretUri=https://evil.example?my-vault.vault.azure.net/secrets/db",
            "SecretUri=https://my-vault%2evault.azure.net/secrets/db",
            "SecretUri=https://my\u{2010}vault.vault.azure.net/secrets/db",
            "SecretUri=https://my-vault.vault.azure.net:443:443/secrets/db",
            "VaultName=other;SecretName=db",
            "VaultName=my-vault.vault;SecretName=db",
            "VaultName=https://my-vault;SecretName=db",
        ] {
            let value = format!("@Microsoft.KeyVault({inside})");
            let reference = Reference::parse(&value).unwrap().unwrap();
            assert!(!reference.is_in(VAULT), "{value}");
        }
    }

    #[test]
    fn a_name_is_that_of_a_vault_of_azure_and_a_port_need_not_be_said() {
        let reference = |inside: &str| format!("@Microsoft.KeyVault({inside})");
        let (by_name, by_uri) =
            ("VaultName=prod;SecretName=db", "SecretUri=https://prod.vault.azure.net/secrets/db");
        let with_port = "SecretUri=https://prod.vault.azure.net:443/secrets/db";
        for (inside, vault, is_in) in [
            (by_name, "https://prod.vault.azure.net", true),
            (by_name, "https://prod.vault.azure.net:443", true),
            (by_name, "https://prod.vault.usgovcloudapi.net", true),
            (by_name, "https://prod.vault.microsoftazure.de", false),
            (by_name, "https://prod.vault.azure.net:8443", false),
            (by_name, "https://prod.internal.example", false),
            (by_name, "http://prod.vault.azure.net", false),
            ("VaultName=127;SecretName=db", "http://127.0.0.1:8200", false),
            ("VaultName=10;SecretName=db", "https://10.0.0.4", false),
            (by_uri, "https://prod.vault.azure.net:443", true),
            (with_port, "https://prod.vault.azure.net", true),
            ("SecretUri=http://127.0.0.1:443/secrets/db", "http://127.0.0.1", false),
        ] {
            let reference = reference(inside);
            let reference = Reference::parse(&reference).unwrap().unwrap();
            assert_eq!(reference.is_in(vault), is_in, "{inside} {vault}");
        }
    }
}
