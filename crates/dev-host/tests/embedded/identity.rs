//! The token sources, each where it is in Azure.

use std::time::Duration;

use keyvault_emulator::{Credential, Emulator, ExpiresIn, ExpiresOn, Source, UserAssigned, facts};

use crate::gateway::{BOTH, Gateway, SECRETS, World, azure, in_virtual_time, settings};

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
        for world in BOTH {
            in_virtual_time(async {
                let emulator = azure();
                let gateway = Gateway::start(world, &emulator, &settings(&emulator, source));
                for secret in SECRETS {
                    let answer = gateway.ask_for(secret).await;
                    assert_eq!(answer.outcome(), (200, String::new()), "{world:?} {source:?}");
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
}

/// A day's token is used for a day, less the five minutes in which it is renewed ahead.
#[test]
fn a_token_is_kept_for_as_long_as_its_answer_says_in_whatever_form() {
    for expires_on in EXPIRES_ON {
        for expires_in in EXPIRES_IN {
            for world in BOTH {
                let case = format!("{world:?} {expires_on:?} {expires_in:?}");
                in_virtual_time(async {
                    let emulator = azure();
                    emulator.configure(|it| {
                        it.lifetime = Some(24 * 60 * 60);
                        it.expires_on = Some(expires_on);
                        it.expires_in = Some(expires_in);
                    });
                    let settings = settings(&emulator, Source::AppService2017);
                    let gateway = Gateway::start(world, &emulator, &settings);
                    let answer = gateway.ask_for(SECRETS[0]).await;
                    if !says_when(expires_on, expires_in) {
                        assert_eq!(answer.outcome(), (502, "IdentityError".to_owned()), "{case}");
                        return;
                    }
                    assert_eq!(answer.outcome(), (200, String::new()), "{case}");
                    for (secret, pause, token_calls) in [
                        (SECRETS[1], Duration::ZERO, 1),
                        (SECRETS[1], Duration::from_secs((12 * 60 - 6) * 60), 1),
                        // A token of a day is renewed at noon.
                        (SECRETS[2], Duration::from_secs(12 * 60), 2),
                    ] {
                        tokio::time::sleep(pause).await;
                        assert_eq!(gateway.ask_for(secret).await.outcome(), (200, String::new()), "{case}");
                        assert_eq!(emulator.token_calls().len(), token_calls, "{case} {pause:?}");
                    }
                    assert_eq!(gateway.instances(), 1, "{case}");
                });
            }
        }
    }
}

#[test]
fn a_user_assigned_identity_is_selected_as_its_source_wants_it() {
    let [client, object, resource] =
        ["AZURE_CLIENT_ID", "IDENTITY_OBJECT_ID", "IDENTITY_RESOURCE_ID"].map(|it| (it, id(it, 1)));
    for (source, selector, parameter) in [
        (Source::AppService2019, &client, "client_id"),
        (Source::AppService2019, &object, "principal_id"),
        (Source::AppService2019, &resource, "mi_res_id"),
        (Source::AppService2017, &client, "clientid"),
        (Source::Imds, &client, "client_id"),
        (Source::Imds, &object, "object_id"),
        (Source::Imds, &resource, "msi_res_id"),
    ] {
        for world in BOTH {
            in_virtual_time(async {
                let emulator = with_user_assigned();
                let answer = ask_as(world, &emulator, source, std::slice::from_ref(selector)).await;
                assert_eq!(answer.0, 200, "{world:?} {source:?} {parameter}: {}", answer.2);
                let [token] = emulator.token_calls().try_into().unwrap();
                let chosen = (parameter.to_owned(), selector.1.clone());
                assert!(token.query.contains(&chosen), "{world:?} {source:?}: {:?}", token.query);
            });
        }
    }
}

#[test]
fn an_identity_that_cannot_be_selected_is_never_replaced_by_another() {
    let [client, object, resource] =
        ["AZURE_CLIENT_ID", "IDENTITY_OBJECT_ID", "IDENTITY_RESOURCE_ID"].map(|it| (it, id(it, 1)));
    let unknown = ("AZURE_CLIENT_ID", id("AZURE_CLIENT_ID", 9));
    let setting = (500, "ConfigurationError");
    let refused = (502, "IdentityError");
    for (source, selectors, outcome, told) in [
        (Source::AppService2017, vec![object.clone()], setting, "IDENTITY_OBJECT_ID"),
        (Source::AppService2017, vec![resource.clone()], setting, "IDENTITY_RESOURCE_ID"),
        (Source::CloudShell, vec![client.clone()], setting, "AZURE_CLIENT_ID"),
        (Source::CloudShell, vec![object.clone()], setting, "IDENTITY_OBJECT_ID"),
        (Source::CloudShell, vec![resource.clone()], setting, "IDENTITY_RESOURCE_ID"),
        (Source::ClientSecret, vec![object.clone()], setting, "IDENTITY_OBJECT_ID"),
        (Source::Imds, vec![client, object], setting, "IDENTITY_OBJECT_ID"),
        (Source::AppService2019, vec![unknown.clone()], refused, "knows no such managed identity"),
        (Source::AppService2017, vec![unknown.clone()], refused, "knows no such managed identity"),
        (Source::Imds, vec![unknown], refused, "knows no such managed identity"),
        (Source::AppService2019, vec![], refused, "knows no such managed identity"),
        (Source::AppService2017, vec![], refused, "knows no such managed identity"),
        (Source::Imds, vec![], refused, "has several managed identities, and none is chosen"),
    ] {
        for world in BOTH {
            in_virtual_time(async {
                let emulator = with_user_assigned();
                let (status, code, message) = ask_as(world, &emulator, source, &selectors).await;
                assert_eq!((status, code.as_str()), outcome, "{world:?} {source:?} {selectors:?}");
                assert!(message.contains(told), "{world:?} {source:?} {selectors:?}: {message}");
                assert_eq!(emulator.vault_calls(), [], "{world:?} {source:?} {selectors:?}");
            });
        }
    }
}

/// Whether an answer with these says when its token ends.
fn says_when(expires_on: ExpiresOn, expires_in: ExpiresIn) -> bool {
    let on = match expires_on {
        ExpiresOn::Text
        | ExpiresOn::Number
        | ExpiresOn::Autorest2017
        | ExpiresOn::Linux2017
        | ExpiresOn::Windows2017
        | ExpiresOn::Unpadded
        | ExpiresOn::SlashesWithoutOffset
        | ExpiresOn::DashesWithoutOffset
        | ExpiresOn::Iso
        | ExpiresOn::IsoFraction
        | ExpiresOn::Rfc1123
        | ExpiresOn::Relative => true,
        ExpiresOn::Empty | ExpiresOn::Null | ExpiresOn::Absent => false,
    };
    match expires_in {
        ExpiresIn::Number | ExpiresIn::Text => true,
        ExpiresIn::Empty | ExpiresIn::Null | ExpiresIn::Absent => on,
    }
}

/// The vault of a place that has two user-assigned identities and none of its own.
fn with_user_assigned() -> Emulator {
    let emulator = azure();
    let identity = |number| UserAssigned {
        client_id: id("AZURE_CLIENT_ID", number),
        object_id: id("IDENTITY_OBJECT_ID", number),
        resource_id: id("IDENTITY_RESOURCE_ID", number),
    };
    emulator.configure(|it| {
        it.system_assigned = false;
        it.user_assigned = vec![identity(0), identity(1)];
    });
    emulator
}

fn id(setting: &str, number: u8) -> String {
    match setting {
        "AZURE_CLIENT_ID" => format!("c0000000-0000-4000-8000-00000000000{number}"),
        "IDENTITY_OBJECT_ID" => format!("0b000000-0000-4000-8000-00000000000{number}"),
        _ => format!(
            "/subscriptions/50000000-0000-4000-8000-000000000000/resourcegroups/rg/providers/\
             Microsoft.ManagedIdentity/userAssignedIdentities/identity-{number}"
        ),
    }
}

/// The status, code and message of the answer to a gateway that selects so.
async fn ask_as(
    world: World,
    emulator: &Emulator,
    source: Source,
    selectors: &[(&'static str, String)],
) -> (u16, String, String) {
    let mut settings = settings(emulator, source);
    settings.extend(selectors.iter().cloned());
    let answer = Gateway::start(world, emulator, &settings).ask().await;
    let (status, code) = answer.outcome();
    (status, code, answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
}

const EXPIRES_ON: [ExpiresOn; 15] = [
    ExpiresOn::Text,
    ExpiresOn::Number,
    ExpiresOn::Autorest2017,
    ExpiresOn::Linux2017,
    ExpiresOn::Windows2017,
    ExpiresOn::Unpadded,
    ExpiresOn::SlashesWithoutOffset,
    ExpiresOn::DashesWithoutOffset,
    ExpiresOn::Iso,
    ExpiresOn::IsoFraction,
    ExpiresOn::Rfc1123,
    ExpiresOn::Relative,
    ExpiresOn::Empty,
    ExpiresOn::Null,
    ExpiresOn::Absent,
];

const EXPIRES_IN: [ExpiresIn; 5] =
    [ExpiresIn::Number, ExpiresIn::Text, ExpiresIn::Empty, ExpiresIn::Null, ExpiresIn::Absent];
