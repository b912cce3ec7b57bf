//! The token sources: each at its address in Azure, in each cloud, with each identity.

use keyvault_emulator::{Credential, Source, UserAssigned, facts};

use crate::gateway::{Gateway, SECRETS, azure, in_both_worlds, settings};

#[test]
fn each_token_source_is_called_once_at_its_address() {
    let entra = format!("/{}/oauth2/v2.0/token", facts::TENANT);
    for (source, scheme, authority, path, api_version) in [
        (Source::AppService2019, "http", "127.0.0.1:41741", "/msi/token", Some("2019-08-01")),
        (Source::AppService2017, "http", "127.0.0.1:41741", "/msi/token", Some("2017-09-01")),
        (Source::Imds, "http", "169.254.169.254", "/metadata/identity/oauth2/token", Some("2018-02-01")),
        (Source::CloudShell, "http", "localhost:50342", "/oauth2/token", None),
        (Source::ClientSecret, "https", "login.microsoftonline.com", &entra, None),
    ] {
        in_both_worlds(async |world| {
            let emulator = azure();
            let gateway = Gateway::new(world, &emulator, source, &[]);
            for secret in SECRETS {
                gateway.post_for(secret).await.expect((200, ""), (world, source));
            }
            assert_eq!(emulator.vault_calls().len(), SECRETS.len(), "{world:?} {source:?}");
            let [token] = emulator.token_calls().try_into().unwrap();
            let address = (token.scheme.as_str(), token.authority.as_str(), token.path.as_str());
            assert_eq!(address, (scheme, authority, path), "{world:?}");
            assert_eq!(token.credential, Credential::Right, "{world:?} {source:?}");
            let version = token.query.iter().find(|(name, _)| name == "api-version");
            assert_eq!(version.map(|(_, value)| value.as_str()), api_version, "{world:?} {source:?}");
        });
    }
}

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
            in_both_worlds(async |world| {
                let emulator = azure();
                let mut settings = settings(&emulator, source);
                settings[0].1 = format!("https://{vault}");
                Gateway::start(world, &emulator, &settings).post().await.expect((200, ""), (world, vault));
                let [token] = emulator.token_calls().try_into().unwrap();
                let [read] = emulator.vault_calls().try_into().unwrap();
                assert_eq!((token.scheme.as_str(), token.authority.as_str()), token_from, "{world:?}");
                assert_eq!(token.audience.as_deref(), Some(asked_for), "{world:?}");
                assert_eq!((read.scheme.as_str(), read.authority.as_str()), ("https", vault), "{world:?}");
                assert_eq!(read.credential, Credential::Right, "{world:?} {vault}");
            });
        }
    }
}

#[test]
fn user_assigned_identities_are_selected_and_never_replaced() {
    let (client, object) = ("c0000000-0000-4000-8000-000000000001", "0b000000-0000-4000-8000-000000000001");
    let resource = "/subscriptions/50000000-0000-4000-8000-000000000000/resourcegroups/rg/providers/\
                    Microsoft.ManagedIdentity/userAssignedIdentities/identity-1";
    for (source, setting, value, parameter) in [
        (Source::AppService2019, "AZURE_CLIENT_ID", client, "client_id"),
        (Source::AppService2019, "IDENTITY_OBJECT_ID", object, "principal_id"),
        (Source::AppService2019, "IDENTITY_RESOURCE_ID", resource, "mi_res_id"),
        (Source::AppService2017, "AZURE_CLIENT_ID", client, "clientid"),
        (Source::AppService2017, "DEFAULT_IDENTITY_CLIENT_ID", client, "clientid"),
        (Source::Imds, "AZURE_CLIENT_ID", client, "client_id"),
        (Source::Imds, "IDENTITY_OBJECT_ID", object, "object_id"),
        (Source::Imds, "IDENTITY_RESOURCE_ID", resource, "msi_res_id"),
    ] {
        in_both_worlds(async |world| {
            let emulator = azure();
            emulator.configure(|settings| {
                settings.system_assigned = false;
                settings.user_assigned = vec![UserAssigned {
                    client_id: client.to_owned(),
                    object_id: object.to_owned(),
                    resource_id: resource.to_owned(),
                }];
            });
            let selected = Gateway::new(world, &emulator, source, &[(setting, value)]);
            selected.post().await.expect((200, ""), (world, source, setting));
            let [token] = emulator.token_calls().try_into().unwrap();
            let chosen = (parameter.to_owned(), value.to_owned());
            assert!(token.query.contains(&chosen), "{world:?} {source:?}: {:?}", token.query);
            let another = [("AZURE_CLIENT_ID", "c0000000-0000-4000-8000-000000000009")];
            let response = Gateway::new(world, &emulator, source, &another).post().await;
            response.expect((502, "IdentityError"), (world, source));
        });
    }
}
