//! A configuration value: a reference to a secret of our vault is one for another URI parser, too.

#![no_main]

use config_store::reference::Reference;
use http::Uri;
use keyvault_gateway_fuzz::*;

fuzz_target!(|value: &[u8]| -> Corpus {
    let Ok(value) = str::from_utf8(value) else { return Corpus::Reject };
    let lower = value.trim().to_ascii_lowercase();
    let Ok(parsed) = Reference::parse(value) else {
        // Only a text with the prefix of a reference is refused.
        assert!(lower.contains(PREFIX));
        return Corpus::Keep;
    };
    let Some(reference) = parsed else {
        assert!(!lower.starts_with(PREFIX));
        return Corpus::Keep;
    };
    let inside = lower.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
    let inside = inside.expect("a reference has parentheses");
    for part in [Some(reference.name), reference.version].into_iter().flatten() {
        assert!(!part.is_empty() && inside.contains(&part.to_ascii_lowercase()), "{part}");
    }
    // A reference belongs to at most one vault.
    assert!(VAULTS.iter().filter(|vault| reference.is_in(vault)).count() <= 1);
    if !reference.is_in(VAULTS[0]) {
        return Corpus::Keep;
    }
    if let Some((_, uri)) = inside.split_once('=').filter(|(key, _)| key.trim() == "secreturi") {
        let uri = uri.trim();
        // The gateway checks the name. The text before it is a URI.
        let origin = uri.split("/secrets/").next().unwrap_or_default();
        let uri: Uri = origin.parse().expect("the origin is a URI");
        assert_eq!(uri.scheme_str(), Some("https"), "{value}");
        assert_eq!(uri.host(), Some("my-vault.vault.azure.net"), "{value}");
        assert!(uri.port_u16().is_none_or(|port| port == 443) && uri.path() == "/", "{value}");
        assert!(!origin.contains(['@', '#', '?', '\\']), "{value}");
    } else {
        let named = inside.split(';').filter_map(|part| part.split_once('='));
        let vaults: Vec<_> =
            named.filter(|(key, _)| key.trim() == "vaultname").map(|(_, vault)| vault.trim()).collect();
        assert_eq!(vaults, ["my-vault"], "{value}");
    }
    // The canonical form is the same reference.
    let is_plain = |text: &str| !text.contains(['/', ')']);
    if is_plain(reference.name) && reference.version.is_none_or(is_plain) {
        let version = reference.version.map_or_else(String::new, |version| format!("/{version}"));
        let plain =
            format!("@Microsoft.KeyVault(SecretUri={}/secrets/{}{version})", VAULTS[0], reference.name);
        let again = Reference::parse(&plain).expect("no error").expect("a reference");
        assert!(again.is_in(VAULTS[0]));
        assert_eq!((again.name, again.version), (reference.name, reference.version), "{plain}");
    }
    Corpus::Keep
});

const PREFIX: &str = "@microsoft.keyvault";

const VAULTS: [&str; 5] = [
    "https://my-vault.vault.azure.net",
    "https://my-vault2.vault.azure.net",
    "https://my-vault.vault.azure.net.evil.example",
    "https://my-vault.vault.azure.net:8443",
    "http://my-vault.vault.azure.net",
];
