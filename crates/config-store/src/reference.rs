//! Key Vault references, as in the application settings of Azure App Service and Azure Functions.
//!
//! Source: Microsoft, "Use Key Vault references as app settings in Azure App Service, Azure Functions, and
//! Azure Logic Apps (Standard)", section "Understand source app settings from Key Vault":
//! `@Microsoft.KeyVault(SecretUri=…)` and `@Microsoft.KeyVault(VaultName=…;SecretName=…;SecretVersion=…)`,
//! the version being optional in both.

/// A reference to a secret in a configuration value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    vault: Vault<'a>,
    /// The name of the secret, unchecked.
    pub name: &'a str,
    /// The version of the secret, unchecked. Without one, it is the latest.
    pub version: Option<&'a str>,
}

/// The vault in a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vault<'a> {
    /// The address, without a slash at the end.
    Uri(&'a str),
    Name(&'a str),
}

/// The error of a value that begins like a reference but is not a valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidReference;

impl<'a> Reference<'a> {
    /// Parses a configuration value. Returns `None` if it does not begin like a reference.
    pub fn parse(value: &'a str) -> Result<Option<Self>, InvalidReference> {
        // A prefix after quotes or a byte order mark is a mistake in a reference, not the start of a
        // password.
        let bare = value.trim_start_matches(|character: char| {
            character.is_whitespace() || "\"'\u{feff}".contains(character)
        });
        if !starts_with(bare, PREFIX) {
            return Ok(None);
        }
        let inside =
            value.trim().split_at_checked(PREFIX.len()).filter(|(prefix, _)| starts_with(prefix, PREFIX));
        let inside = inside.and_then(|(_, rest)| rest.strip_prefix('(')?.strip_suffix(')'));
        let parts = inside.ok_or(InvalidReference)?;
        let reference = match parts.split_once('=') {
            Some((name, uri)) if name.trim().eq_ignore_ascii_case("SecretUri") => Self::parse_uri(uri.trim()),
            _ => Self::parse_parts(parts),
        };
        reference.map(Some).ok_or(InvalidReference)
    }

    /// Parses `https://my-vault.vault.azure.net/secrets/name`, with an optional version and final slash.
    fn parse_uri(uri: &'a str) -> Option<Self> {
        let (_, rest) = uri.split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        let vault = uri.strip_suffix(path)?.strip_suffix('/')?;
        let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
        let (collection, name, version) = (segments.next()?, segments.next()?, segments.next());
        let valid = !authority.is_empty()
            && collection.eq_ignore_ascii_case("secrets")
            && ![Some(name), version].contains(&Some(""))
            && segments.next().is_none();
        valid.then_some(Self { vault: Vault::Uri(vault), name, version })
    }

    /// Parses `VaultName=…;SecretName=…;SecretVersion=…`, in any order.
    fn parse_parts(parts: &'a str) -> Option<Self> {
        let (mut vault, mut name, mut version) = (None, None, None);
        for part in parts.split(';').filter(|part| !part.trim().is_empty()) {
            let (key, value) = part.split_once('=')?;
            let (key, value) = (key.trim(), value.trim());
            let is = |name| key.eq_ignore_ascii_case(name);
            let place = match () {
                () if is("VaultName") => &mut vault,
                () if is("SecretName") => &mut name,
                () if is("SecretVersion") => &mut version,
                () => return None,
            };
            // A duplicate part is ambiguous.
            if value.is_empty() || place.replace(value).is_some() {
                return None;
            }
        }
        Some(Self { vault: Vault::Name(vault?), name: name?, version })
    }

    /// Returns whether the secret is in the vault with this address: `https://my-vault.vault.azure.net`,
    /// without a final slash.
    pub fn is_in(&self, uri: &str) -> bool {
        let uri = without_default_port(uri);
        match self.vault {
            Vault::Uri(vault) => without_default_port(vault).eq_ignore_ascii_case(uri),
            Vault::Name(name) => {
                let host = uri.strip_prefix("https://").and_then(|host| host.split_once('.'));
                host.is_some_and(|(vault, domain)| {
                    vault.eq_ignore_ascii_case(name) && DOMAINS.contains(&domain)
                })
            }
        }
    }
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(start))
}

/// Removes the default port of `https` from an address.
fn without_default_port(uri: &str) -> &str {
    uri.strip_suffix(":443").filter(|rest| starts_with(rest, "https://")).unwrap_or(uri)
}

const PREFIX: &str = "@Microsoft.KeyVault";

/// The DNS suffixes of vaults that a reference names (Microsoft, "About keys, secrets, and certificates",
/// table "DNS suffixes for object identifiers").
const DOMAINS: [&str; 3] = ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"];

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: &str = "https://my-vault.vault.azure.net";
    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn parses_references() {
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
    fn ignores_plain_values() {
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
    fn rejects_malformed_references() {
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
            assert_eq!(Reference::parse(&value), Err(InvalidReference), "{value}");
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
            assert_eq!(Reference::parse(value), Err(InvalidReference), "{value}");
        }
    }

    #[test]
    fn recognizes_other_vaults() {
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
    fn matches_vault_names_in_azure_and_default_ports() {
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
