//! A value of the configuration: what is taken for a secret of our vault is one, as another parser of addresses sees it.

#![no_main]

use config_store::reference::Reference;
use http::Uri;
use keyvault_gateway_fuzz::*;

fuzz_target!(|value: &[u8]| -> Corpus {
    let Ok(value) = str::from_utf8(value) else { return Corpus::Reject };
    let lower = value.trim().to_ascii_lowercase();
    let Ok(parsed) = Reference::parse(value) else {
        // It is refused because of the mark and for nothing else.
        assert!(lower.contains(MARK));
        return Corpus::Keep;
    };
    let Some(reference) = parsed else {
        assert!(!lower.starts_with(MARK));
        return Corpus::Keep;
    };
    let inside = lower.strip_prefix(MARK).and_then(|it| it.strip_prefix('(')?.strip_suffix(')'));
    let inside = inside.expect("it is a reference as it stands");
    for part in [Some(reference.name), reference.version].into_iter().flatten() {
        assert!(!part.is_empty() && inside.contains(&part.to_ascii_lowercase()), "{part}");
    }
    // However it is written, it is in one vault at the most.
    assert!(VAULTS.iter().filter(|it| reference.is_in(it)).count() <= 1);
    if !reference.is_in(VAULTS[0]) {
        return Corpus::Keep;
    }
    if let Some((_, uri)) = inside.split_once('=').filter(|it| it.0.trim() == "secreturi") {
        let uri = uri.trim();
        // A name that no secret has is the gateway's to refuse. Up to there it is an address.
        let origin = uri.split("/secrets/").next().unwrap_or_default();
        let uri: Uri = origin.parse().expect("it is an address");
        assert_eq!(uri.scheme_str(), Some("https"), "{value}");
        assert_eq!(uri.host(), Some("my-vault.vault.azure.net"), "{value}");
        assert!(uri.port_u16().is_none_or(|it| it == 443) && uri.path() == "/", "{value}");
        assert!(!origin.contains(['@', '#', '?', '\\']), "{value}");
    } else {
        let named = inside.split(';').filter_map(|it| it.split_once('='));
        let vaults: Vec<_> = named.filter(|it| it.0.trim() == "vaultname").map(|it| it.1.trim()).collect();
        assert_eq!(vaults, ["my-vault"], "{value}");
    }
    // Written plainly, it is the same.
    if !reference.name.contains(['/', ')']) && !reference.version.is_some_and(|it| it.contains(['/', ')'])) {
        let version = reference.version.map_or_else(String::new, |it| format!("/{it}"));
        let plain =
            format!("@Microsoft.KeyVault(SecretUri={}/secrets/{}{version})", VAULTS[0], reference.name);
        let again = Reference::parse(&plain).expect("it is a reference").expect("it is one");
        assert!(again.is_in(VAULTS[0]));
        assert_eq!((again.name, again.version), (reference.name, reference.version), "{plain}");
    }
    Corpus::Keep
});

const MARK: &str = "@microsoft.keyvault";

const VAULTS: [&str; 5] = [
    "https://my-vault.vault.azure.net",
    "https://my-vault2.vault.azure.net",
    "https://my-vault.vault.azure.net.evil.example",
    "https://my-vault.vault.azure.net:8443",
    "http://my-vault.vault.azure.net",
];
