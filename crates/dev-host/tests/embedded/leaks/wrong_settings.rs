//! Settings that are wrong, with a mark in each.

use keyvault_emulator::facts;

use super::{SCOPED_KEY_HASH, SETTING, callers};

/// Settings of which one is wrong, which its answer names. Each wrong one holds a mark.
pub(super) fn wrong_settings() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let alone = [
        ("KeyVaultUri", format!("https://{SETTING}/{SETTING}")),
        ("KeyVaultUri", format!("https://{SETTING}@demo.vault.azure.net")),
        ("KeyVaultUri", format!("http://{SETTING}.vault.azure.net")),
        ("KeyVaultUri", SETTING.to_owned()),
        ("KEY_VAULT_URI", format!("https://{SETTING}.vault.azure.net")),
        ("KEY_VAULT_RESOURCE", format!("https://{SETTING}")),
        ("KEY_VAULT_API_VERSION", format!("7.4&{SETTING}")),
        ("IDENTITY_SOURCE", SETTING.to_owned()),
        ("IDENTITY_ENDPOINT", SETTING.to_owned()),
        ("IDENTITY_HEADER", format!("{SETTING} {SETTING}")),
        ("GATEWAY_KEY", format!("{SETTING} {SETTING}")),
        ("GATEWAY_CALLERS", SETTING.to_owned()),
        ("GATEWAY_CALLERS", format!("{{\"{SETTING}\":1}}")),
        ("GATEWAY_CALLERS", format!("[\"{SETTING}\"]")),
        ("GATEWAY_CALLERS", format!("[{{\"name\":[\"{SETTING}\"]}}]")),
        ("GATEWAY_CALLERS", format!("[{{\"name\":\"{SETTING}\",\"{SETTING}\":1,\"secrets\":[]}}]")),
        ("GATEWAY_CALLERS", callers(SETTING)),
        ("GATEWAY_CALLERS", callers(SCOPED_KEY_HASH).replace("db-*", &format!("{SETTING}/*"))),
        ("GATEWAY_CALLERS", callers(SCOPED_KEY_HASH).replace("]}]", &format!("]}}]{SETTING}"))),
        ("GATEWAY_ALLOW_ANONYMOUS", SETTING.to_owned()),
        ("GATEWAY_TRUST_FORWARDED", SETTING.to_owned()),
        ("GATEWAY_JWT_TENANT", format!("{SETTING} {SETTING}")),
        ("GATEWAY_JWT_AUDIENCE", format!("{SETTING} {SETTING}")),
        ("GATEWAY_CALLERS", callers(SCOPED_KEY_HASH).replace(facts::OBJECT_ID, SETTING)),
        ("GATEWAY_CACHE_TTL_SECONDS", SETTING.to_owned()),
        ("GATEWAY_STALE_SECONDS", SETTING.to_owned()),
        ("GATEWAY_NEGATIVE_TTL_SECONDS", SETTING.to_owned()),
        ("GATEWAY_CACHE_ENTRIES", SETTING.to_owned()),
        ("GATEWAY_DEADLINE_SECONDS", SETTING.to_owned()),
        ("GATEWAY_STORE_KEY", SETTING.to_owned()),
        ("GATEWAY_LOG", SETTING.to_owned()),
    ];
    let mut wrong: Vec<_> = alone.into_iter().map(|it| (it.0, vec![it])).collect();
    for wrong_settings in wrong.iter_mut().filter(|it| it.0 == "GATEWAY_STORE_KEY") {
        wrong_settings.1.push(("GATEWAY_STORE", SETTING.to_owned()));
    }
    // The token source that IDENTITY_SOURCE names has its own settings.
    let mut of = |source: &str, name, others: &[(&'static str, &str)]| {
        let mut settings = vec![("IDENTITY_SOURCE", source.to_owned())];
        settings.extend(others.iter().map(|it| (it.0, it.1.to_owned())));
        wrong.push((name, settings));
    };
    let spaced = format!("{SETTING} {SETTING}");
    of("app-service-2017", "MSI_ENDPOINT", &[("MSI_ENDPOINT", SETTING), ("MSI_SECRET", SETTING)]);
    of("app-service-2017", "MSI_SECRET", &[("MSI_ENDPOINT", "http://127.0.0.1:1"), ("MSI_SECRET", &spaced)]);
    of("cloud-shell", "MSI_ENDPOINT", &[("MSI_ENDPOINT", SETTING)]);
    of("imds", "AZURE_POD_IDENTITY_AUTHORITY_HOST", &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", SETTING)]);
    of("imds", "AZURE_CLIENT_ID", &[("AZURE_CLIENT_ID", &spaced)]);
    of("imds", "IDENTITY_OBJECT_ID", &[("IDENTITY_OBJECT_ID", &spaced)]);
    of("imds", "IDENTITY_RESOURCE_ID", &[("IDENTITY_RESOURCE_ID", &spaced)]);
    let client = |wrong: (&'static str, &'static str)| {
        let right =
            [("AZURE_TENANT_ID", SETTING), ("AZURE_CLIENT_ID", SETTING), ("AZURE_CLIENT_SECRET", SETTING)];
        right.into_iter().filter(|it| it.0 != wrong.0).chain([wrong]).collect::<Vec<_>>()
    };
    for name in ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_AUTHORITY_HOST"] {
        of("client-secret", name, &client((name, "marked-77d0/a setting's value")));
    }
    wrong
}
