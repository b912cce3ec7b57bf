//! Failures that people have had where a managed identity reads a vault, under the real host.

use std::time::{Duration, Instant};

use keyvault_emulator::{Effect, Fault, Refusal, Source, TokenRefusal, Upstream, UserAssigned};

use crate::rig::{BOTH, JSON, REQUEST, Rig, VALUE, key_field, wait_for};

/// The emulated platform gives the same token again, as a real one does for a day, and the vault refuses and accepts it in turns.
#[test]
fn a_vault_that_refuses_and_accepts_one_token_in_turns_gives_every_secret() {
    for component in BOTH {
        for refusal in [Refusal::UnresolvedKey, Refusal::MissingToken, Refusal::ExpiredToken] {
            let rig = Rig::start(component, Source::AppService2019, &[("GATEWAY_CACHE_TTL_SECONDS", "0")]);
            rig.emulator.fault(Fault::refuse(refusal).every(2));
            for round in 0..20 {
                assert_eq!(rig.ask().value(), VALUE, "{component} {refusal:?} {round}");
            }
            assert_eq!(rig.emulator.tokens().len(), 1, "{component} {refusal:?}");
        }
    }
}

#[test]
fn a_value_outlives_a_vault_that_refuses_every_token() {
    for component in BOTH {
        let settings = [("GATEWAY_CACHE_TTL_SECONDS", "1"), ("GATEWAY_STALE_SECONDS", "600")];
        let rig = Rig::start(component, Source::AppService2019, &settings);
        assert_eq!(rig.ask().value(), VALUE);
        rig.emulator.fault(Fault::refuse(Refusal::UnresolvedKey));
        // Under 0.2 another instance may answer, which has nothing.
        wait_for("the value, past its time", || {
            let answer = rig.ask();
            answer.status == 200 && answer.field("cache-status").contains("ttl=-")
        });
        let fresh = [&key_field(), JSON, "Cache-Control: no-cache"];
        wait_for("the value, for one who wants a fresh one", || {
            let answer = rig.send("POST /", &fresh, REQUEST.as_bytes());
            answer.status == 200 && answer.field("cache-status").ends_with("detail=failed")
        });
        rig.emulator.clear_faults();
        wait_for("a new value", || {
            let answer = rig.ask();
            answer.status == 200 && !answer.field("cache-status").contains("detail=failed")
        });
    }
}

#[test]
fn each_wording_of_a_token_source_has_its_cause() {
    let no_identity = "the token source knows no such identity";
    let (newer, older) = (Source::AppService2019, Source::AppService2017);
    for (source, refusal, cause) in [
        (newer, TokenRefusal::NoUserAssigned, no_identity),
        (newer, TokenRefusal::NoUserAssignedShort, no_identity),
        (newer, TokenRefusal::NoManagedIdentity, no_identity),
        (newer, TokenRefusal::Reworded, no_identity),
        (older, TokenRefusal::NoMsi, no_identity),
        (older, TokenRefusal::Reworded, no_identity),
        (
            older,
            TokenRefusal::MachineLearning,
            "the token source knows no such identity (app-service-2017, status 404)",
        ),
        (
            Source::Imds,
            TokenRefusal::DefaultIdentityNotDefined,
            "the token source knows no such identity (imds, status 404, code DefaultIdentityNotDefined)",
        ),
        (
            Source::ClientSecret,
            TokenRefusal::Aadsts90002,
            "the token source does not know the tenant (client-secret, status 400, code AADSTS90002)",
        ),
        (Source::ClientSecret, TokenRefusal::Aadsts900023, "the token source does not know the tenant"),
        (Source::ClientSecret, TokenRefusal::Aadsts700016, "the token source knows no such application"),
        (
            Source::ClientSecret,
            TokenRefusal::Aadsts7000215,
            "the token source does not accept the credential",
        ),
        (
            Source::ClientSecret,
            TokenRefusal::Aadsts7000222,
            "the token source does not accept the credential",
        ),
        (Source::ClientSecret, TokenRefusal::Aadsts53003, "a policy of the tenant forbids the sign-in"),
    ] {
        for component in BOTH {
            let mut rig = Rig::start_without_memory(component, source, &[]);
            rig.emulator.fault(Fault::new(Upstream::Token, Effect::RefuseToken(refusal)));
            let answer = rig.ask();
            assert_eq!(answer.error(), (502, "IdentityError".to_owned()), "{component} {refusal:?}");
            let log = rig.server.end().join("\n");
            assert!(log.contains(&format!(r#""cause":"{cause}"#)), "{component} {refusal:?} {log}");
        }
    }
}

#[test]
fn what_stands_in_place_of_the_metadata_service_is_named() {
    for refusal in [TokenRefusal::NoMetadataService, TokenRefusal::Proxy] {
        for component in BOTH {
            let settings = [("IDENTITY_HEADER", "a-header-without-its-endpoint")];
            let mut rig = Rig::start_without_memory(component, Source::Imds, &settings);
            rig.emulator.fault(Fault::new(Upstream::Token, Effect::RefuseToken(refusal)));
            let answer = rig.ask();
            assert_eq!(answer.error(), (503, "Unavailable".to_owned()), "{component} {refusal:?}");
            assert_eq!((answer.field("retry-after"), rig.calls()), ("1", (1, 0)), "{component} {refusal:?}");
            let ready = rig.send("GET /readyz", &[], b"");
            assert_eq!(ready.error(), (503, "Unavailable".to_owned()));
            let message = ready.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.ends_with("Set and not used: IDENTITY_HEADER."), "{message}");
            let log = rig.server.end().join("\n");
            assert!(log.contains("there is no metadata service at its address (imds, status 40"), "{log}");
            assert!(log.contains(r#""unused":["IDENTITY_HEADER"]"#), "{log}");
        }
    }
}

#[test]
fn half_a_pair_of_variables_is_passed_over_and_shown_to_no_one() {
    for (setting, value) in [
        ("IDENTITY_HEADER", "a-header-without-its-endpoint"),
        ("MSI_SECRET", "a-secret-without-its-endpoint"),
        ("IDENTITY_ENDPOINT", "http://192.0.2.1/an-endpoint-without-its-header"),
        ("AZURE_CLIENT_SECRET", "a-secret-without-its-tenant"),
        ("IMDS_ENDPOINT", "http://192.0.2.1/"),
        ("IDENTITY_SERVER_THUMBPRINT", "a6f221acd0"),
    ] {
        for component in BOTH {
            let rig = Rig::start(component, Source::Imds, &[(setting, value)]);
            assert_eq!(rig.ask().value(), VALUE, "{component} {setting}");
            assert_eq!(rig.calls(), (1, 1), "{component} {setting}");
        }
    }
}

#[test]
fn a_place_that_is_not_supported_is_named_at_once() {
    let (endpoint, header) =
        (("IDENTITY_ENDPOINT", "http://192.0.2.1/"), ("IDENTITY_HEADER", "a-header-of-it"));
    let fabric = [endpoint, header, ("IDENTITY_SERVER_THUMBPRINT", "a6f221acd0")];
    let arc = [endpoint, ("IMDS_ENDPOINT", "http://192.0.2.1/")];
    let hsm = [("KeyVaultUri", "https://my-hsm.managedhsm.azure.net/")];
    for (settings, named, says) in [
        (&fabric[..], "IDENTITY_SERVER_THUMBPRINT", "Service Fabric"),
        (&arc, "IMDS_ENDPOINT", "Azure Arc"),
        (&hsm, "KeyVaultUri", "Managed HSM"),
    ] {
        for component in BOTH {
            let rig = Rig::start(component, Source::Imds, settings);
            let (start, answer) = (Instant::now(), rig.ask());
            assert_eq!(answer.error(), (500, "ConfigurationError".to_owned()), "{component} {named}");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(
                message.starts_with(&format!("The setting {named} ")) && message.contains(says),
                "{message}"
            );
            assert!(start.elapsed() < Duration::from_secs(5), "{component} {named}");
            assert_eq!(rig.calls(), (0, 0), "{component} {named}");
        }
    }
}

#[test]
fn a_metadata_service_that_starts_late_is_waited_for() {
    for component in BOTH {
        for effect in [Effect::CutBeforeHeaders, Effect::Status(http::StatusCode::NOT_FOUND)] {
            let rig = Rig::start(component, Source::Imds, &[]);
            rig.emulator.fault(Fault::new(Upstream::Token, effect.clone()).lasting(Duration::from_secs(3)));
            let start = Instant::now();
            assert_eq!(rig.ask().value(), VALUE, "{component} {effect:?}");
            assert!(start.elapsed() > Duration::from_millis(2500), "{component} {effect:?}");
        }
    }
}

#[test]
fn a_machine_learning_identity_is_asked_for_by_its_id() {
    let id = "5e29463d-71da-4fe0-8e69-999b57db23b0";
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("DEFAULT_IDENTITY_CLIENT_ID", id)]);
        rig.emulator.configure(|it| {
            it.system_assigned = false;
            it.user_assigned = vec![UserAssigned {
                client_id: id.to_owned(),
                object_id: "11111111-71da-4fe0-8e69-999b57db23b0".to_owned(),
                resource_id: "/subscriptions/s/resourceGroups/g/providers/i".to_owned(),
            }];
        });
        assert_eq!(rig.ask().value(), VALUE, "{component}");
        let query = &rig.emulator.token_calls()[0].query;
        assert!(query.contains(&("clientid".to_owned(), id.to_owned())), "{component} {query:?}");
    }
}

#[test]
fn a_byte_order_mark_in_front_of_every_answer_changes_nothing() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2019, &[]);
        rig.emulator.fault(Fault::new(Upstream::Any, Effect::ByteOrderMark));
        assert_eq!(rig.ask().value(), VALUE, "{component}");
        let missing = rig.post(r#"{"Secret":"not-there"}"#);
        assert_eq!(missing.error(), (404, "SecretNotFound".to_owned()), "{component}");
    }
}

/// Load balancers and uptime monitors ask so.
#[test]
fn head_is_answered_as_get_without_the_body() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2019, &[]);
        let key = key_field();
        for (route, fields, status) in [
            ("/healthz", vec![], 200),
            ("/readyz", vec![], 200),
            ("/openapi.json", vec![], 200),
            ("/metrics", vec![key.as_str()], 200),
            ("/metrics", vec![], 401),
            ("/nothing", vec![], 404),
        ] {
            let get = rig.send(&format!("GET {route}"), &fields, b"");
            let head = rig.send(&format!("HEAD {route}"), &fields, b"");
            assert_eq!(
                (get.status, head.status, head.body.as_str()),
                (status, status, ""),
                "{component} {route}"
            );
            for field in ["content-type", "cache-control", "x-content-type-options", "www-authenticate"] {
                assert_eq!(head.field(field), get.field(field), "{component} {route} {field}");
            }
        }
        for route in ["/", "/api/GetKeyVaultSecret"] {
            let head = rig.send(&format!("HEAD {route}"), &[&key], b"");
            assert_eq!(
                (head.status, head.field("allow"), head.body.as_str()),
                (405, "POST", ""),
                "{component}"
            );
        }
        // The connection is as good as before: what comes next on it is the next answer.
        let next = "HEAD /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n\
                    GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
        let both = rig.send_raw(next.as_bytes());
        assert_eq!(both.status, 200);
        assert!(both.body.starts_with("HTTP/1.1 200"), "{component} {:?}", both.body);
        assert!(both.body.contains(r#"{"status":"ok"}"#), "{component} {:?}", both.body);
    }
}
