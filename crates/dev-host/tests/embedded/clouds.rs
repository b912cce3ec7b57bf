//! Azure's clouds: the addresses that a vault's name leads to.

use keyvault_emulator::{Credential, Source};

use crate::gateway::{BOTH, Gateway, azure, in_virtual_time, settings};

#[test]
fn a_vault_of_each_cloud_gets_the_tokens_of_its_cloud() {
    for (vault, audience, authority) in [
        ("demo.vault.azure.net", "https://vault.azure.net", "login.microsoftonline.com"),
        ("demo.vault.azure.cn", "https://vault.azure.cn", "login.chinacloudapi.cn"),
        ("demo.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net", "login.microsoftonline.us"),
    ] {
        let scope = format!("{audience}/.default");
        for (source, token_from, asked_for) in [
            (Source::AppService2019, ("http", "127.0.0.1:41741"), audience),
            (Source::ClientSecret, ("https", authority), scope.as_str()),
        ] {
            for (world, slash) in BOTH.into_iter().zip(["", "/"]) {
                in_virtual_time(async {
                    let emulator = azure();
                    let mut settings = settings(&emulator, source);
                    settings[0].1 = format!("https://{vault}{slash}");
                    let answer = Gateway::start(world, &emulator, &settings).ask().await;
                    assert_eq!(answer.outcome(), (200, String::new()), "{world:?} {vault}");

                    let [token] = emulator.token_calls().try_into().unwrap();
                    let [read] = emulator.vault_calls().try_into().unwrap();
                    assert_eq!((token.scheme.as_str(), token.authority.as_str()), token_from, "{world:?}");
                    assert_eq!(token.audience.as_deref(), Some(asked_for), "{world:?}");
                    assert_eq!(
                        (read.scheme.as_str(), read.authority.as_str()),
                        ("https", vault),
                        "{world:?}"
                    );
                    assert_eq!(read.credential, Credential::Right, "{world:?} {vault}");
                });
            }
        }
    }
}
