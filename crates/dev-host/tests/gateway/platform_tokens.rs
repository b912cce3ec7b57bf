//! Two pods with tokens of their service accounts, in volumes like those of Kubernetes: no key is handed out.

use keyvault_emulator::{Kind, Source};

use crate::harness::{Harness, JSON, OWN_HOST, REUSED_INSTANCES, SECRET, VALUE};
use crate::volume::{Layout, Volume};

/// The own host gets a private issuer with a certificate of the emulator's authority, the others one on
/// loopback.
#[test]
fn two_pods_read_the_secrets_of_their_entries_with_their_own_tokens() {
    for (component, base, options) in [
        ("proxy", "{vault}", &REUSED_INSTANCES[..]),
        ("service", "{vault}", &REUSED_INSTANCES),
        (OWN_HOST, "{https}", &["--ca-file", "{ca}"]),
    ] {
        let entry = |name: &str, namespace: &str, secret: &str| {
            format!(
                r#"{{"name":"{name}","iss":"{base}/oidc/cluster","secrets":["{secret}"],
                    "sub":["system:serviceaccount:{namespace}:app"]}}"#
            )
        };
        let callers = format!("[{},{}]", entry("billing", "billing", SECRET), entry("ops", "ops", OTHER));
        let issuers = format!(r#"[{{"issuer":"{base}/oidc/cluster","audience":"keyvault-gateway"}}]"#);
        let settings = [("GATEWAY_KEY", ""), ("GATEWAY_OIDC", &*issuers), ("GATEWAY_CALLERS", &*callers)];
        let harness = Harness::start_with(component, Source::AppService2019, &settings, options);
        harness.emulator.set_secret(OTHER, "the other value").unwrap();
        let base =
            if component == OWN_HOST { harness.served.https_base() } else { harness.served.http_base() };
        let issuer = format!("{}/oidc/cluster", base.trim_end_matches('/'));
        let volumes = Layout::ALL.map(|layout| Volume::new(layout, ""));
        let renew = || {
            for (volume, namespace) in volumes.iter().zip(["billing", "ops", "billing"]) {
                let subject = format!("system:serviceaccount:{namespace}:app");
                volume.renew(harness.emulator.platform_token(&issuer, "keyvault-gateway", &subject));
            }
        };
        // The kubelet renews the tokens, with the same key and with a new one.
        for round in 0..3 {
            renew();
            for (volume, own, foreign) in [(0, SECRET, OTHER), (1, OTHER, SECRET)] {
                let token = std::fs::read_to_string(volumes[volume].file()).unwrap();
                let post = |name: &str| {
                    let bearer = format!("Authorization: Bearer {token}");
                    let body = format!(r#"{{"Secret":"{name}"}}"#);
                    harness.send("POST /api/GetKeyVaultSecret", &[&bearer, JSON], body.as_bytes())
                };
                let value = if own == SECRET { VALUE } else { "the other value" };
                assert_eq!(post(own).value(), value, "{component} {round}");
                assert_eq!(post(foreign).error(), (403, "Forbidden".to_owned()), "{component} {round}");
            }
        }
        let calls = harness.emulator.journal();
        assert!(calls.iter().any(|call| call.kind == Kind::OidcIssuer), "{component}");
        let key = format!("x-functions-key: {}", crate::harness::KEY);
        let with_key = harness.send("POST /", &[&key, JSON], br#"{"Secret":"db-password"}"#);
        assert_eq!(with_key.status, 401, "{component}");
    }
}

const OTHER: &str = "ops-password";
