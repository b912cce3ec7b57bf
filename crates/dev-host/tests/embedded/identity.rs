//! The token sources, each where it is in Azure, in each cloud, with each identity.

use std::time::Duration;

use keyvault_emulator::{Credential, ExpiresIn, ExpiresOn, Source, UserAssigned, facts};

use crate::gateway::{Gateway, SECRETS, azure, both, calls, settings};

#[test]
fn each_source_is_asked_at_its_own_address_and_once() {
    let entra = format!("/{}/oauth2/v2.0/token", facts::TENANT);
    for (source, scheme, authority, path, api_version) in [
        (Source::AppService2019, "http", "127.0.0.1:41741", "/msi/token", Some("2019-08-01")),
        (Source::AppService2017, "http", "127.0.0.1:41741", "/msi/token", Some("2017-09-01")),
        (Source::Imds, "http", "169.254.169.254", "/metadata/identity/oauth2/token", Some("2018-02-01")),
        (Source::CloudShell, "http", "localhost:50342", "/oauth2/token", None),
        (Source::ClientSecret, "https", "login.microsoftonline.com", &entra, None),
    ] {
        both(async |world| {
            let emulator = azure();
            let gateway = Gateway::of(world, &emulator, source, &[]);
            for secret in SECRETS {
                gateway.ask_for(secret).await.expect((200, ""), (world, source));
            }
            assert_eq!(emulator.vault_calls().len(), SECRETS.len(), "{world:?} {source:?}");
            let [token] = emulator.token_calls().try_into().unwrap();
            let address = (token.scheme.as_str(), token.authority.as_str(), token.path.as_str());
            assert_eq!(address, (scheme, authority, path), "{world:?}");
            assert_eq!(token.credential, Credential::Right, "{world:?} {source:?}");
            let asked = token.query.iter().find(|it| it.0 == "api-version").map(|it| it.1.as_str());
            assert_eq!(asked, api_version, "{world:?} {source:?}");
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
            both(async |world| {
                let emulator = azure();
                let mut settings = settings(&emulator, source);
                settings[0].1 = format!("https://{vault}");
                Gateway::start(world, &emulator, &settings).ask().await.expect((200, ""), (world, vault));
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

/// A day's token is used for a day, less the five minutes in which it is renewed ahead.
#[test]
fn a_token_is_kept_for_as_long_as_its_answer_says_in_whatever_form() {
    for expires_on in EXPIRES_ON {
        for expires_in in EXPIRES_IN {
            both(async |world| {
                let case = format!("{world:?} {expires_on:?} {expires_in:?}");
                let emulator = azure();
                emulator.configure(|settings| {
                    settings.lifetime = Some(24 * 60 * 60);
                    settings.expires_on = Some(expires_on);
                    settings.expires_in = Some(expires_in);
                });
                let gateway = Gateway::of(world, &emulator, Source::AppService2017, &[]);
                let answer = gateway.ask_for(SECRETS[0]).await;
                use {ExpiresIn as In, ExpiresOn as On};
                let says_when = matches!(expires_in, In::Number | In::Text)
                    || !matches!(expires_on, On::Empty | On::Null | On::Absent);
                if !says_when {
                    return answer.expect((502, "IdentityError"), case);
                }
                answer.expect((200, ""), &case);
                for (secret, pause, token_calls) in [
                    (SECRETS[1], Duration::ZERO, 1),
                    (SECRETS[1], Duration::from_secs((12 * 60 - 6) * 60), 1),
                    // A token of a day is renewed at noon.
                    (SECRETS[2], Duration::from_secs(12 * 60), 2),
                ] {
                    tokio::time::sleep(pause).await;
                    gateway.ask_for(secret).await.expect((200, ""), &case);
                    assert_eq!(emulator.token_calls().len(), token_calls, "{case} {pause:?}");
                }
                assert_eq!(gateway.instances(), 1, "{case}");
            });
        }
    }
}

#[test]
fn a_user_assigned_identity_is_selected_as_its_source_wants_it_and_never_replaced_by_another() {
    let [client, object, resource] = ["AZURE_CLIENT_ID", "IDENTITY_OBJECT_ID", "IDENTITY_RESOURCE_ID"];
    let machine_learning = "DEFAULT_IDENTITY_CLIENT_ID";
    let (setting, refused) = ((500, "ConfigurationError"), (502, "IdentityError"));
    let none = "knows no such managed identity";
    // The settings with the number of the identity that each selects; there are two of them, 0 and 1. Then the parameter of the
    // call for a token, or what the message has.
    for (source, selectors, outcome, told) in [
        (Source::AppService2019, vec![(client, 1)], (200, ""), "client_id"),
        (Source::AppService2019, vec![(object, 1)], (200, ""), "principal_id"),
        (Source::AppService2019, vec![(resource, 1)], (200, ""), "mi_res_id"),
        (Source::AppService2017, vec![(client, 1)], (200, ""), "clientid"),
        (Source::AppService2017, vec![(machine_learning, 1)], (200, ""), "clientid"),
        (Source::Imds, vec![(client, 1)], (200, ""), "client_id"),
        (Source::Imds, vec![(object, 1)], (200, ""), "object_id"),
        (Source::Imds, vec![(resource, 1)], (200, ""), "msi_res_id"),
        (Source::AppService2017, vec![(object, 1)], setting, object),
        (Source::AppService2017, vec![(resource, 1)], setting, resource),
        (Source::CloudShell, vec![(client, 1)], setting, client),
        (Source::CloudShell, vec![(object, 1)], setting, object),
        (Source::CloudShell, vec![(resource, 1)], setting, resource),
        (Source::ClientSecret, vec![(object, 1)], setting, object),
        (Source::Imds, vec![(client, 1), (object, 1)], setting, object),
        (Source::AppService2019, vec![(client, 9)], refused, none),
        (Source::AppService2017, vec![(client, 9)], refused, none),
        (Source::Imds, vec![(client, 9)], refused, none),
        (Source::AppService2019, vec![], refused, none),
        (Source::AppService2017, vec![], refused, none),
        (Source::Imds, vec![], refused, "has several managed identities, and none is chosen"),
    ] {
        both(async |world| {
            let case = format!("{world:?} {source:?} {selectors:?}");
            let emulator = azure();
            emulator.configure(|settings| {
                settings.system_assigned = false;
                settings.user_assigned = [0, 1]
                    .map(|number| UserAssigned {
                        client_id: id(client, number),
                        object_id: id(object, number),
                        resource_id: id(resource, number),
                    })
                    .into();
            });
            let mut settings = settings(&emulator, source);
            settings.extend(selectors.iter().map(|(name, number)| (*name, id(name, *number))));
            let answer = Gateway::start(world, &emulator, &settings).ask().await;
            answer.expect(outcome, &case);
            if outcome.0 == 200 {
                let [token] = emulator.token_calls().try_into().unwrap();
                let chosen = (told.to_owned(), id(selectors[0].0, 1));
                assert!(token.query.contains(&chosen), "{case}: {:?}", token.query);
            } else {
                let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
                assert!(message.contains(told), "{case}: {message}");
                assert_eq!(emulator.vault_calls(), [], "{case}");
            }
        });
    }
}

fn id(setting: &str, number: u8) -> String {
    match setting {
        "AZURE_CLIENT_ID" | "DEFAULT_IDENTITY_CLIENT_ID" => {
            format!("c0000000-0000-4000-8000-00000000000{number}")
        }
        "IDENTITY_OBJECT_ID" => format!("0b000000-0000-4000-8000-00000000000{number}"),
        _ => format!(
            "/subscriptions/50000000-0000-4000-8000-000000000000/resourcegroups/rg/providers/\
             Microsoft.ManagedIdentity/userAssignedIdentities/identity-{number}"
        ),
    }
}

#[test]
fn a_wrong_credential_is_an_error_of_the_identity() {
    for (source, setting) in [
        (Source::AppService2017, "MSI_SECRET"),
        (Source::AppService2019, "IDENTITY_HEADER"),
        (Source::ClientSecret, "AZURE_CLIENT_SECRET"),
    ] {
        both(async |world| {
            let emulator = azure();
            let mut settings = settings(&emulator, source);
            let own = settings.iter_mut().find(|it| it.0 == setting).unwrap();
            own.1 = "not-the-credential-of-this-place".to_owned();
            let answer = Gateway::start(world, &emulator, &settings).ask().await;
            answer.expect((502, "IdentityError"), (world, source));
            let message = "The token source does not accept the gateway's credential.";
            assert_eq!(answer.json()["error"]["message"], message, "{world:?} {source:?}");
            assert_eq!(calls(&emulator), (1, 0), "{world:?} {source:?}");
        });
    }
}

#[rustfmt::skip]
const EXPIRES_ON: [ExpiresOn; 15] = [
    ExpiresOn::Text, ExpiresOn::Number, ExpiresOn::Autorest2017, ExpiresOn::Linux2017, ExpiresOn::Windows2017,
    ExpiresOn::Unpadded, ExpiresOn::SlashesWithoutOffset, ExpiresOn::DashesWithoutOffset, ExpiresOn::Iso,
    ExpiresOn::IsoFraction, ExpiresOn::Rfc1123, ExpiresOn::Relative, ExpiresOn::Empty, ExpiresOn::Null, ExpiresOn::Absent,
];

const EXPIRES_IN: [ExpiresIn; 5] =
    [ExpiresIn::Number, ExpiresIn::Text, ExpiresIn::Empty, ExpiresIn::Null, ExpiresIn::Absent];
