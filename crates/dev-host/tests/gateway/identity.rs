//! Every source of tokens, every identity, every way to fail.

use keyvault_emulator::{Credential, Kind, Settings, Source, UserAssigned};

use crate::rig::{BOTH, Rig, VALUE};

#[test]
fn every_source_gives_a_token() {
    for component in BOTH {
        for (name, source) in Source::ALL {
            let rig = Rig::start(component, source, &[]);
            assert_eq!(rig.ask().value(), VALUE, "{component}: {name}");
            let [call] = rig.emulator.token_calls().try_into().unwrap();
            assert_eq!((call.kind, call.credential), (Kind::Token(source), Credential::Right));
            let audience = match source {
                Source::ClientSecret => "https://vault.azure.net/.default",
                _ => "https://vault.azure.net",
            };
            assert_eq!(call.audience.as_deref(), Some(audience), "{component}: {name}");
        }
    }
}

#[test]
fn both_pairs_of_app_service_mean_the_newer_protocol() {
    for component in BOTH {
        let rig = Rig::start(
            component,
            Source::AppService2019,
            &[("MSI_ENDPOINT", "http://127.0.0.1:1"), ("MSI_SECRET", "x")],
        );
        assert_eq!(rig.ask().value(), VALUE);
        assert_eq!(rig.emulator.token_calls()[0].kind, Kind::Token(Source::AppService2019), "{component}");
    }
}

#[test]
fn user_assigned_identities_are_asked_for_by_their_ids() {
    let identity = UserAssigned {
        client_id: "5e29463d-71da-4fe0-8e69-999b57db23b0".to_owned(),
        object_id: "11111111-71da-4fe0-8e69-999b57db23b0".to_owned(),
        resource_id:
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
                .to_owned(),
    };
    let client = ("AZURE_CLIENT_ID", identity.client_id.clone());
    let object = ("IDENTITY_OBJECT_ID", identity.object_id.clone());
    let resource = ("IDENTITY_RESOURCE_ID", identity.resource_id.clone());
    let cases = [
        (Source::AppService2019, &client, "client_id"),
        (Source::AppService2019, &object, "principal_id"),
        (Source::AppService2019, &resource, "mi_res_id"),
        (Source::AppService2017, &client, "clientid"),
        (Source::Imds, &client, "client_id"),
        (Source::Imds, &object, "object_id"),
        (Source::Imds, &resource, "msi_res_id"),
    ];
    for (index, (source, (setting, id), parameter)) in cases.into_iter().enumerate() {
        // The bindings do not differ in this, so each takes every other case.
        let component = BOTH[index % 2];
        let rig = Rig::start(component, source, &[(setting, id), ("GATEWAY_CACHE_TTL_SECONDS", "0")]);
        rig.emulator.configure(|it| {
            *it = Settings { system_assigned: false, user_assigned: vec![identity.clone()], ..it.clone() };
        });
        assert_eq!(rig.ask().value(), VALUE, "{source:?} {setting}");
        let query = &rig.emulator.token_calls()[0].query;
        assert!(query.contains(&(parameter.to_owned(), id.clone())), "{source:?} {query:?}");

        rig.emulator.configure(|it| it.user_assigned[0] = other(&identity));
        rig.emulator.forget_tokens();
        assert_eq!(rig.ask().error(), (502, "IdentityError".to_owned()), "{source:?} {setting}");
    }
}

#[test]
fn a_wrong_credential_is_an_identity_error() {
    for (index, (source, setting)) in [
        (Source::AppService2017, "MSI_SECRET"),
        (Source::AppService2019, "IDENTITY_HEADER"),
        (Source::ClientSecret, "AZURE_CLIENT_SECRET"),
    ]
    .into_iter()
    .enumerate()
    {
        let rig = Rig::start(BOTH[index % 2], source, &[(setting, "not-the-credential-of-this-place")]);
        let answer = rig.ask();
        assert_eq!(answer.error(), (502, "IdentityError".to_owned()), "{source:?}");
        assert_eq!(
            answer.json()["error"]["message"],
            "The token source does not accept the gateway's credential.",
            "{source:?}"
        );
        assert_eq!(rig.calls(), (1, 0));
    }
}

fn other(identity: &UserAssigned) -> UserAssigned {
    UserAssigned {
        client_id: "22222222-71da-4fe0-8e69-999b57db23b0".to_owned(),
        object_id: "33333333-71da-4fe0-8e69-999b57db23b0".to_owned(),
        resource_id: format!("{}-other", identity.resource_id),
    }
}
