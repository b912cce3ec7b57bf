//! Settings that are missing or wrong, and the environment as it is elsewhere.

use keyvault_emulator::Source;

use crate::rig::{BOTH, REQUEST, Rig, VALUE, key_field};

#[test]
fn a_wrong_setting_is_named() {
    let marker = "marker-of-a-value";
    let cases = [
        (("KeyVaultUri", ""), "KeyVaultUri"),
        (("KeyVaultUri", marker), "KeyVaultUri"),
        (("KeyVaultUri", "http://192.0.2.1/marker-of-a-value"), "KeyVaultUri"),
        (("KEY_VAULT_RESOURCE", ""), "KEY_VAULT_RESOURCE"),
        (("MSI_ENDPOINT", marker), "MSI_ENDPOINT"),
        (("IDENTITY_SOURCE", marker), "IDENTITY_SOURCE"),
        (("GATEWAY_DEADLINE_SECONDS", marker), "GATEWAY_DEADLINE_SECONDS"),
        (("GATEWAY_CALLERS", marker), "GATEWAY_CALLERS"),
    ];
    for (index, (setting, named)) in cases.into_iter().enumerate() {
        // The bindings do not differ in this, so each takes every other case.
        let component = BOTH[index % 2];
        let mut rig = Rig::start(component, Source::AppService2017, &[setting]);
        let answer = rig.ask();
        assert_eq!(answer.error(), (500, "ConfigurationError".to_owned()), "{component}: {setting:?}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(&format!("The setting {named} ")), "{message}");
        let ready = rig.send("GET /readyz", &[], b"");
        assert_eq!(ready.error(), (503, "ConfigurationError".to_owned()), "{component}: {setting:?}");
        assert_eq!(rig.send("GET /healthz", &[], b"").status, 200);
        let seen = format!("{answer:?} {ready:?} {}", rig.server.end().join("\n"));
        assert!(!seen.contains(marker), "{seen}");
        assert_eq!(rig.calls(), (0, 0));
    }
}

#[test]
fn without_a_key_nobody_gets_in_unless_everybody_may() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_KEY", "")]);
        assert_eq!(rig.ask().error(), (401, "Unauthorized".to_owned()), "{component}");

        let open =
            [("GATEWAY_KEY", ""), ("GATEWAY_ALLOW_ANONYMOUS", "true"), ("GATEWAY_ALLOWED_HOSTS", "gateway")];
        let rig = Rig::start(component, Source::AppService2017, &open);
        let answer = rig.send("POST /", &["Content-Type: application/json"], REQUEST.as_bytes());
        assert_eq!(answer.value(), VALUE, "{component}");
    }
}

#[test]
fn without_a_key_a_foreign_name_or_site_gets_nothing() {
    let open = [("GATEWAY_KEY", ""), ("GATEWAY_ALLOW_ANONYMOUS", "true")];
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &open);
        // Stock `wasmtime serve` does not tell a component of WASI 0.3 the authority.
        let foreign_host = if component == "proxy" { 403 } else { 200 };
        for (fields, status) in [
            (&["Host: localhost:8080"][..], 200),
            (&["Host: localhost", "Origin: http://127.0.0.1:3000"], 200),
            (&["Host: localhost", "Origin: http://attacker.example"], 403),
            (&["Host: localhost", "Origin: null"], 403),
            (&["Host: attacker.example"], foreign_host),
        ] {
            let fields = [&["Content-Type: application/json"], fields].concat();
            let answer = rig.send("POST /", &fields, REQUEST.as_bytes());
            assert_eq!(answer.status, status, "{component} {fields:?}");
        }
    }
}

#[test]
fn forwarded_requests_are_answered_where_they_are_trusted() {
    let fields = ["Content-Type: application/json", &key_field(), "X-Forwarded-For: 10.0.0.1"];
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_TRUST_FORWARDED", "true")]);
        assert_eq!(rig.send("POST /", &fields, REQUEST.as_bytes()).value(), VALUE, "{component}");
    }
}
