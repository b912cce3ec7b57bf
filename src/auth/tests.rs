//! Tables of credentials, callers and their scopes.

use sha2::{Digest as _, Sha256};

use super::*;

#[test]
fn a_key_comes_in_the_header_or_else_in_the_query() {
    let one_key = callers(&[("GATEWAY_KEY", "right")]);
    for (headers, query, caller) in [
        (vec![("x-functions-key", "right")], None, Some("key")),
        (vec![], Some("code=right"), Some("key")),
        (vec![], Some("x=1&Code=right"), Some("key")),
        (vec![], Some("code=%72ight"), Some("key")),
        (vec![("x-functions-key", "right")], Some("code=wrong"), Some("key")),
        (vec![("x-functions-key", "wrong")], Some("code=right"), None),
        (vec![("x-functions-key", "right"), ("x-functions-key", "right")], None, None),
        (vec![], Some("code=right&code=right"), None),
        (vec![("x-functions-key", "")], None, None),
        (vec![("x-functions-key", "righ")], None, None),
        (vec![("x-functions-key", "right ")], None, None),
        (vec![("x-functions-key", "Right")], None, None),
        (vec![("authorization", "Bearer right")], None, None),
        (vec![], Some("code="), None),
        (vec![], None, None),
    ] {
        assert_eq!(key_caller(&one_key, &fields(&headers), query), Ok(caller), "{headers:?} {query:?}");
    }
}

#[test]
fn anonymous_access_must_be_allowed() {
    let headers = fields(&[("x-functions-key", "")]);
    assert_eq!(key_caller(&callers(&[]), &headers, None), Ok(None));
    assert!(callers(&[]).anonymous().is_none());
    let open = callers(&[("GATEWAY_ALLOW_ANONYMOUS", "true")]);
    assert_eq!(key_caller(&open, &headers, None), Ok(None));
    assert!(open.anonymous().is_some_and(|principal| principal.is_anonymous()));
    let both = callers(&[("GATEWAY_ALLOW_ANONYMOUS", "TRUE"), ("GATEWAY_KEY", "right")]);
    let headers = fields(&[("x-functions-key", "right")]);
    assert_eq!(key_caller(&both, &headers, None), Ok(Some("key")));
}

#[test]
fn two_callers_cannot_share_a_key() {
    let list = format!(r#"[{{"name":"a","key_sha256":["{}"],"secrets":["a"]}}]"#, hex_of("right"));
    let settings = [("GATEWAY_KEY", "right"), ("GATEWAY_CALLERS", list.as_str())];
    assert_eq!(parse(&settings).unwrap_err().name, "GATEWAY_CALLERS");
}

#[test]
fn a_key_must_be_text_that_a_header_can_have() {
    for key in ["right\n", "schlüssel", "two words"] {
        assert_eq!(parse(&[("GATEWAY_KEY", key)]).unwrap_err().name, "GATEWAY_KEY", "{key:?}");
    }
}

#[test]
fn named_callers_have_keys_and_scopes() {
    // The SHA-256 of "one", "two" and "three", as sha256sum prints them.
    let list = r#"[
        {"name": "billing", "secrets": ["billing-*", "Shared"], "key_sha256": [
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
            "3FC4CCFE745870E2C0D99F71F30FF0656C8DEDD41CC1D7D3D376B0DBE685E2F3"]},
        {"name": "ops", "secrets": ["*"], "key_sha256": [
            "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"]},
        {"name": "unused", "secrets": []}
    ]"#;
    let callers = callers(&[("GATEWAY_CALLERS", list)]);
    for (key, name, secret, allowed) in [
        ("one", "billing", "billing-db", true),
        ("two", "billing", "BILLING-DB", true),
        ("one", "billing", "shared", true),
        ("one", "billing", "shared-not", false),
        ("one", "billing", "billin", false),
        ("one", "billing", "other", false),
        ("three", "ops", "other", true),
    ] {
        let principal = callers.with_key(Some(&Redacted::new(key.to_owned()))).unwrap();
        assert_eq!(principal.caller().name(), name);
        let caller = principal.authorize(&SecretName::parse(secret).unwrap()).map(Caller::name);
        assert_eq!(caller, if allowed { Ok(name) } else { Err(Error::OutOfScope) }, "{key} {secret}");
    }
    assert!(callers.with_key(Some(&Redacted::new("four".to_owned()))).is_none());
    assert!(callers.with_key(None).is_none());
}

#[test]
fn the_composed_component_has_a_scope_of_its_own() {
    let authorize = |callers: &Callers, name| {
        callers.composed().authorize(&SecretName::parse(name).unwrap()).map(Caller::name).map(str::to_owned)
    };
    let composed = Ok("composed".to_owned());
    assert_eq!(authorize(&callers(&[]), "anything"), composed);
    for settings in [KEY, TENANT, &[("GATEWAY_ALLOW_ANONYMOUS", "true")]] {
        assert_eq!(authorize(&callers(settings), "anything"), Err(Error::OutOfScope), "{settings:?}");
    }
    let listed = callers(&[("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["app-*"]}]"#)]);
    assert_eq!(authorize(&listed, "app-db"), composed);
    assert_eq!(authorize(&listed, "db"), Err(Error::OutOfScope));
    // No credential over HTTP identifies that caller.
    for key in ["", "composed", "app-*"] {
        assert_eq!(key_caller(&listed, &fields(&[("x-functions-key", key)]), None), Ok(None), "{key:?}");
    }
}

#[test]
fn proxied_requests_need_trust() {
    let (closed, open) = (callers(KEY), callers(&[KEY[0], ("GATEWAY_TRUST_FORWARDED", "true")]));
    for name in [
        "forwarded",
        "via",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-anything",
        "x-original-url",
        "X-Original-Host",
        "True-Client-IP",
        "X-Azure-FDID",
        "x-envoy-external-address",
        "CF-Connecting-IP",
        "X-ARR-LOG-ID",
        "x-client-ip",
        "Via",
        "X-Forwarded-For",
    ] {
        let headers = fields(&[("x-functions-key", "right"), (name, "")]);
        assert_eq!(key_caller(&closed, &headers, None), Err(Error::CameThroughProxy), "{name}");
        assert_eq!(key_caller(&open, &headers, None), Ok(Some("key")), "{name}");
    }
    let headers =
        fields(&[("x-functions-key", "right"), ("x-forwardedfor", ""), ("x-original", ""), ("cf", "")]);
    assert_eq!(key_caller(&closed, &headers, None), Ok(Some("key")));
}

#[test]
fn an_invalid_list_of_callers_is_a_configuration_error() {
    let hash = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let two = format!(r#"[{{"name":"a","key_sha256":["{hash}"],"secrets":[]}},{{"name":"a","secrets":[]}}]"#);
    let empty_key = format!(r#"[{{"name":"a","key_sha256":["{}"],"secrets":[]}}]"#, hex_of(""));
    let same_key = format!(r#"[{{"name":"a","key_sha256":["{hash}","{hash}"],"secrets":[]}}]"#);
    let long = format!(r#"[{{"name":"a","key_sha256":["{hash}0"],"secrets":[]}}]"#);
    let composed_with_key = format!(r#"[{{"name":"composed","key_sha256":["{hash}"],"secrets":[]}}]"#);
    for list in [
        "",
        "{}",
        "[{}]",
        "marker",
        r#"[{"name":"a"}]"#,
        r#"[{"name":"","secrets":[]}]"#,
        r#"[{"name":"key","secrets":[]}]"#,
        r#"[{"name":"anonymous","secrets":[]}]"#,
        r#"[{"name":"Key","secrets":[]}]"#,
        r#"[{"name":"Composed","secrets":[]}]"#,
        r#"[{"name":"composed","secrets":[],"roles":["reader"]}]"#,
        r#"[{"name":"composed","secrets":[],"oid":["0f8fad5b-d9cb-469f-a165-70867728950e"]}]"#,
        r#"[{"name":"composed","secrets":[]},{"name":"composed","secrets":[]}]"#,
        r#"[{"name":"a b","secrets":[]}]"#,
        &composed_with_key,
        r#"[{"name":"a","secrets":["b_c"]}]"#,
        r#"[{"name":"a","secrets":["*b"]}]"#,
        r#"[{"name":"a","secrets":["b**"]}]"#,
        r#"[{"name":"a","secrets":[],"key_sha256":["abc"]}]"#,
        r#"[["a",[],[],[],[],["*"]]]"#,
        r#"[{"name":"a","secrets":[],"key":"marker"}]"#,
        r#"[{"name":"a","secrets":[],"oid":["marker"]}]"#,
        r#"[{"name":"a","secrets":[],"appid":["6f1b4f5c2f0b4f6e9d0c3a5b8e7d1c42"]}]"#,
        r#"[{"name":"a","secrets":[],"roles":[""]}]"#,
        r#"[{"name":"a","secrets":[],"roles":["two words"]}]"#,
        r#"[{"name":"a","secrets":[],"name":"b"}]"#,
        r#"[{"name":"a","secrets":[],"sub":["b:c"]}]"#,
        r#"[{"name":"a","secrets":[],"iss":"https://oidc.example/"}]"#,
        r#"[{"name":"a","secrets":[],"iss":["https://oidc.example/"],"sub":["b:c"]}]"#,
        r#"[{"name":"composed","secrets":[],"iss":"https://oidc.example/","sub":["b:c"]}]"#,
        &two,
        &long,
        &empty_key,
        &same_key,
    ] {
        let result = parse(&[("GATEWAY_CALLERS", list)]);
        assert_eq!(
            result.err().map(|error| error.name),
            (!list.is_empty()).then_some("GATEWAY_CALLERS"),
            "{list}"
        );
    }
}

fn callers(settings: &[(&'static str, &str)]) -> Callers {
    parse(settings).unwrap()
}

fn parse(settings: &[(&'static str, &str)]) -> Result<Callers, SettingError> {
    let settings: Vec<_> =
        settings.iter().map(|(name, text)| (*name, Ok(Some((*text).to_owned())))).collect();
    let vault = Vault::parse("KeyVaultUri", "https://my-vault.vault.azure.net", None, None);
    Callers::parse(Lookup::new(&settings), &vault.unwrap())
}

/// The name of the caller that the API key of a request identifies.
fn key_caller<'a>(
    callers: &'a Callers,
    headers: &Headers,
    query: Option<&str>,
) -> Result<Option<&'a str>, Error> {
    match callers.credentials(headers, query, Bearer::Token)? {
        Credentials::ApiKey(key) => {
            Ok(callers.with_key(key.as_ref()).map(|principal| principal.caller().name()))
        }
        Credentials::Token(_) => panic!("a token"),
    }
}

fn hex_of(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fields(fields: &[(&str, &str)]) -> Headers {
    fields.iter().copied().collect()
}

const KEY: &[(&str, &str)] = &[("GATEWAY_KEY", "right")];

#[test]
fn a_bearer_token_needs_a_tenant_and_no_key_in_the_header() {
    let (tenant, plain) = (callers(TENANT), callers(KEY));
    let key = ("x-functions-key", "right");
    for (headers, query, expected) in [
        (vec![("authorization", "Bearer a.b.c")], None, Some("a.b.c")),
        (vec![("authorization", "bearer   a.b.c")], Some("code=right"), Some("a.b.c")),
        (vec![("authorization", "Bearer ")], None, Some("")),
        (vec![("authorization", "Bearer a.b.c"), key], None, None),
        (vec![("authorization", "Bearer a.b.c"), ("authorization", "Bearer a.b.c")], None, None),
        (vec![("authorization", "Basic a.b.c")], None, None),
        (vec![("authorization", "Bearer")], None, None),
        (vec![("authorization", "a.b.c")], None, None),
        (vec![], Some("code=right"), None),
    ] {
        let headers = fields(&headers);
        let token = match tenant.credentials(&headers, query, Bearer::Token) {
            Ok(Credentials::Token(token)) => Some(token),
            Ok(Credentials::ApiKey(_)) => None,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(token, expected, "{headers:?}");
        assert!(
            matches!(plain.credentials(&headers, query, Bearer::Token), Ok(Credentials::ApiKey(_))),
            "{headers:?}"
        );
    }
}

#[test]
fn a_route_for_monitors_takes_an_api_key_as_a_bearer() {
    let key = ("x-functions-key", "right");
    for settings in [KEY.to_vec(), [KEY, TENANT].concat()] {
        let callers = callers(&settings);
        for (headers, query, expected) in [
            (vec![("authorization", "Bearer right")], None, Some("key")),
            (vec![("authorization", "bearer  right")], None, Some("key")),
            (vec![("authorization", "Bearer right"), key], None, Some("key")),
            (vec![("authorization", "Bearer wrong"), key], None, Some("key")),
            (vec![key], None, Some("key")),
            (vec![], Some("code=right"), Some("key")),
            (vec![("authorization", "Bearer wrong")], Some("code=right"), None),
            (vec![("authorization", "Bearer ")], None, None),
            (vec![("authorization", "Basic right")], None, None),
            (vec![("authorization", "right")], None, None),
            (vec![("authorization", "Bearer right"), ("authorization", "Bearer right")], None, None),
        ] {
            let fields = fields(&headers);
            let found = match callers.credentials(&fields, query, Bearer::TokenOrKey).unwrap() {
                Credentials::ApiKey(key) => callers.with_key(key.as_ref()).map(|found| found.caller().name()),
                Credentials::Token(token) => panic!("{token}"),
            };
            assert_eq!(found, expected, "{headers:?} {query:?}");
        }
    }
}

#[test]
fn a_tenant_needs_an_audience_and_callers_with_claims() {
    let (tenant, audience, list) = (TENANT[0], TENANT[1], TENANT[2]);
    let other = |name, value| (name, value);
    for (settings, wrong) in [
        (vec![tenant, audience, list], None),
        (vec![other("GATEWAY_JWT_TENANT", "6F1B4F5C-2F0B-4F6E-9D0C-3A5B8E7D1C42"), audience, list], None),
        (vec![tenant, list], Some("GATEWAY_JWT_AUDIENCE")),
        (vec![audience, list], Some("GATEWAY_JWT_TENANT")),
        (vec![list], Some("GATEWAY_JWT_TENANT")),
        (vec![tenant, audience], Some("GATEWAY_CALLERS")),
        (vec![tenant, audience, KEY[0]], Some("GATEWAY_CALLERS")),
        (
            vec![other("GATEWAY_JWT_TENANT", "contoso.onmicrosoft.com"), audience, list],
            Some("GATEWAY_JWT_TENANT"),
        ),
        (vec![other("GATEWAY_JWT_TENANT", "common"), audience, list], Some("GATEWAY_JWT_TENANT")),
        (vec![other("GATEWAY_JWT_TENANT", "../x"), list], Some("GATEWAY_JWT_TENANT")),
        (vec![tenant, other("GATEWAY_JWT_AUDIENCE", "two words"), list], Some("GATEWAY_JWT_AUDIENCE")),
        (
            vec![tenant, other("GATEWAY_JWT_AUDIENCE", "https://vault.azure.net"), list],
            Some("GATEWAY_JWT_AUDIENCE"),
        ),
        (
            vec![tenant, other("GATEWAY_JWT_AUDIENCE", "https://Vault.azure.cn/"), list],
            Some("GATEWAY_JWT_AUDIENCE"),
        ),
        (
            vec![tenant, other("GATEWAY_JWT_AUDIENCE", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"), list],
            Some("GATEWAY_JWT_AUDIENCE"),
        ),
        (
            vec![tenant, audience, list, other("AZURE_AUTHORITY_HOST", "http://login.example")],
            Some("AZURE_AUTHORITY_HOST"),
        ),
    ] {
        assert_eq!(parse(&settings).err().map(|error| error.name), wrong, "{settings:?}");
    }
}

#[test]
fn an_issuer_has_https_an_own_audience_and_callers() {
    let valid = r#"[{"issuer":"https://oidc.example/cluster/","audience":"keyvault-gateway"}]"#;
    let callers = r#"[{"name":"a","iss":"https://oidc.example/cluster/","sub":["b:c"],"secrets":["*"]}]"#;
    let with = |members: &str| format!("[{{{members}}}]");
    let issuer = |issuer: &str| with(&format!(r#""issuer":"{issuer}","audience":"keyvault-gateway""#));
    let audience = |audience: &str| {
        with(&format!(r#""issuer":"https://oidc.example/cluster/","audience":"{audience}""#))
    };
    let jwks = |uri: &str| {
        let members = r#""issuer":"https://oidc.example/cluster/","audience":"keyvault-gateway""#;
        with(&format!(r#"{members},"jwks_uri":"{uri}""#))
    };
    let error = |settings: &[(&'static str, &str)]| parse(settings).err().map(|error| error.name);
    for oidc in [valid.to_owned(), jwks("https://keys.example/jwks?x=1"), jwks("http://127.0.0.1:8080/jwks")]
    {
        assert_eq!(error(&[("GATEWAY_OIDC", &oidc), ("GATEWAY_CALLERS", callers)]), None, "{oidc}");
    }
    let twice = [valid.replace(']', ","), valid.replace('[', "")].concat();
    for oidc in [
        "[]",
        "{}",
        "[{}]",
        "marker",
        r#"[["https://oidc.example/cluster/","keyvault-gateway"]]"#,
        &with(r#""issuer":"https://oidc.example/cluster/""#),
        &with(r#""issuer":"https://oidc.example/cluster/","audience":["keyvault-gateway"]"#),
        &with(r#""issuer":"https://oidc.example/cluster/","audience":"a","key":"b""#),
        &with(r#""issuer":"https://oidc.example/cluster/","audience":"a","jwks_uri":null"#),
        &issuer("http://oidc.example/cluster/"),
        &issuer("oidc.example"),
        &issuer("https://oidc.example/cluster/?x=1"),
        &issuer("https://oidc.example/cluster/#x"),
        &issuer("https://user@oidc.example/cluster/"),
        &issuer("https://oidc.example/other/"),
        &issuer("https://oidc.example/cluster"),
        &audience(""),
        &audience("two words"),
        &audience("https://oidc.example/cluster/"),
        &audience("https://vault.azure.net"),
        &audience("api://AzureADTokenExchange"),
        &audience("api://AzureADTokenExchangeChina"),
        &audience("https://oidc.example/cluster"),
        &audience("https://kubernetes.default.svc"),
        &audience("https://kubernetes.default.svc.cluster.local"),
        &jwks("http://keys.example/jwks"),
        &jwks("/jwks"),
        &jwks(""),
        &twice,
    ] {
        let settings = [("GATEWAY_OIDC", oidc), ("GATEWAY_CALLERS", callers)];
        assert_eq!(error(&settings), Some("GATEWAY_OIDC"), "{oidc}");
    }
    // Each issuer has a caller, and each caller an issuer.
    assert_eq!(error(&[("GATEWAY_OIDC", valid)]), Some("GATEWAY_CALLERS"));
    assert_eq!(error(&[("GATEWAY_OIDC", valid), KEY[0]]), Some("GATEWAY_CALLERS"));
    assert_eq!(error(&[("GATEWAY_CALLERS", callers)]), Some("GATEWAY_OIDC"));
    // Entra ID has claims of its own, in each tenant.
    let entra = "https://sts.windows.net/99999999-9999-4999-8999-999999999999/";
    let foreign = callers.replace("https://oidc.example/cluster/", entra);
    let settings = [("GATEWAY_CALLERS", &*foreign), ("GATEWAY_OIDC", &issuer(entra))];
    assert_eq!(error(&settings), Some("GATEWAY_OIDC"));
    let both = [callers.replace("https://oidc.example/cluster/", entra), TENANT[2].1.to_owned()];
    let both = [both[0].replace("[\"*\"]}]", "[\"*\"]},"), both[1].replacen('[', "", 1)].concat();
    let settings = [TENANT[0], TENANT[1], ("GATEWAY_CALLERS", &*both), ("GATEWAY_OIDC", &issuer(entra))];
    assert_eq!(error(&settings), Some("GATEWAY_OIDC"));
}

#[test]
fn a_subject_is_exact_or_has_a_prefix_of_two_parts() {
    for (pattern, subject, matches) in [
        ("system:serviceaccount:billing:app", "system:serviceaccount:billing:app", Some(true)),
        ("system:serviceaccount:billing:app", "system:serviceaccount:billing:App", Some(false)),
        ("system:serviceaccount:billing:*", "system:serviceaccount:billing:app", Some(true)),
        ("system:serviceaccount:billing:*", "system:serviceaccount:billing:", Some(false)),
        ("system:serviceaccount:billing:*", "system:serviceaccount:billing", Some(false)),
        ("system:serviceaccount:billing:*", "system:serviceaccount:billing-2:app", Some(false)),
        ("system:serviceaccount:*", "system:serviceaccount:billing:app", Some(true)),
        ("repo:example/app:*", "repo:example/app:ref:refs/heads/main", Some(true)),
        ("repo:example/app:*", "repo:example/app2:ref:refs/heads/main", Some(false)),
        ("112633961854638529490", "112633961854638529490", Some(true)),
        (
            "project_path:a/b:ref_type:branch:ref:fix 1",
            "project_path:a/b:ref_type:branch:ref:fix 1",
            Some(true),
        ),
        ("*", "", None),
        (":*", "", None),
        ("repo:*", "", None),
        ("repo::*", "", None),
        (":repo:*", "", None),
        ("system:serviceaccount:billing*", "", None),
        ("system:*:billing:*", "", None),
        ("system:serviceaccount:billing:**", "", None),
        ("", "", None),
        ("schlüssel", "", None),
        ("a\nb", "", None),
    ] {
        let list = json_entry(pattern);
        let settings = [("GATEWAY_OIDC", OIDC), ("GATEWAY_CALLERS", list.as_str())];
        let found = parse(&settings).ok().map(|callers| {
            let claims = |issuer: &str| Claims {
                identity: Identity::Subject { issuer: issuer.into(), subject: subject.to_owned() },
                validity: claims::Validity { not_before: 0, expires: 0 },
            };
            assert!(callers.with_claims(&claims("https://another.example")).is_none(), "{pattern}");
            callers.with_claims(&claims("https://oidc.example")).is_some()
        });
        assert_eq!(found, matches, "{pattern} {subject}");
    }
}

fn json_entry(subject: &str) -> String {
    format!(r#"[{{"name":"a","iss":"https://oidc.example","sub":["{subject}"],"secrets":["*"]}}]"#)
}

const OIDC: &str = r#"[{"issuer":"https://oidc.example","audience":"keyvault-gateway"}]"#;

#[test]
fn debug_output_has_no_claims() {
    let debug = format!("{:?}", callers(TENANT));
    assert!(
        !debug.contains("6f1b4f5c") && !debug.contains("api://") && !debug.contains("d94e2b71"),
        "{debug}"
    );
}

const TENANT: &[(&str, &str)] = &[
    ("GATEWAY_JWT_TENANT", "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42"),
    ("GATEWAY_JWT_AUDIENCE", "api://keyvault-gateway"),
    (
        "GATEWAY_CALLERS",
        r#"[{"name":"billing","oid":["D94E2B71-6a5f-4b0d-b7c3-1f8e6a2c9d05"],"secrets":["billing-*"]}]"#,
    ),
];
