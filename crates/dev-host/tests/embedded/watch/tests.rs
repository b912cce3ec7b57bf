//! That the watch sees what it is there for.

use super::*;

/// Everything that is private, planted where anything leaves.
#[test]
fn what_is_private_is_seen_wherever_it_leaves_and_only_where_it_may_not() {
    use Channel::{Body, Call, CallBody, Field, Stderr, Stdout};
    let calls = [Call(To::Vault), Call(To::TokenSource), Call(To::Keys), CallBody];
    let all = [Field, Body, Channel::Value, Stdout, Stderr].into_iter().chain(calls);
    for (what, allowed) in [
        (Private::Value, vec![]),
        (Private::Token, vec![Call(To::Vault)]),
        (Private::IdentitySecret, vec![Call(To::TokenSource), CallBody]),
        (Private::Identity, vec![Call(To::TokenSource), Call(To::Keys), CallBody]),
        (Private::CallerKey, vec![]),
        (Private::CallerToken, vec![]),
        (Private::Request, vec![]),
        (Private::Azure, vec![]),
        (Private::Setting, calls.into()),
        (Private::Public, all.clone().collect()),
    ] {
        for channel in all.clone() {
            for planted in [PLANTED, &PLANTED[7..19], "706c616e7465642d366236632d", "cGxhbnRlZC02YjZjLXdoYXQ"]
            {
                let seen = std::panic::catch_unwind(|| plant(what, channel, planted)).is_err();
                assert_eq!(seen, !allowed.contains(&channel), "{what:?} {channel:?} {planted}");
            }
        }
    }
}

/// The value that was asked for is the caller's. Any other in its place, or more of it, is not.
#[test]
fn only_the_value_of_the_name_that_was_asked_for_may_be_in_an_answer() {
    let [own, other] = ["6b6c-own-value\"\\\r\nü", "77d0-value-of-another"];
    for (asked, answered, fits) in [
        ("x", json!({"Secret": "x", "Value": own}), true),
        ("X", json!({"Secret": "X", "Value": own}), true),
        ("another", json!({"Secret": "another", "Value": other}), true),
        ("x", json!({"Secret": "x", "Value": other}), false),
        ("x", json!({"Secret": "another", "Value": other}), false),
        ("another", json!({"Secret": "another", "Value": own}), false),
        ("unknown", json!({"Secret": "unknown", "Value": own}), false),
        ("x", json!({"Secret": "x", "Value": own, "Was": own}), false),
        ("x", json!({"Secret": "x", "Value": own, "Other": other}), false),
        ("x", json!({"Secret": "x", "Was": own}), false),
    ] {
        for status in [200, 403] {
            let mut watch = watch();
            let calls = [("x", own), ("Another", other)].map(|(name, value)| {
                let id =
                    format!("https://demo.vault.azure.net/secrets/{name}/3d76eb676e0a40429c7aa2b4b7912a5d");
                let call =
                    sent("https://demo.vault.azure.net/secrets/x", &[("authorization", "Bearer x")], "");
                let record = crate::wasmtime_host::Record::default();
                record.see(http_body::Frame::data(json!({"value": value, "id": id}).to_string().into()));
                let _ = call.answer.set((http::Response::new(()).into_parts().0, record));
                call
            });
            watch.calls(&mut calls.into());
            let took = std::time::Duration::ZERO;
            let body = answered.to_string().into();
            let answer = Answer { status, headers: HeaderMap::new(), body, took };
            let asked = json!({"secret": asked}).to_string();
            let look = std::panic::AssertUnwindSafe(|| watch.answer(Some(asked.as_bytes()), &answer));
            let passes = std::panic::catch_unwind(look).is_ok();
            assert_eq!(passes, fits && status == 200, "{status} {asked} {answered}");
        }
    }
}

/// What no call may be, whatever it says.
#[test]
fn a_call_to_a_stranger_or_with_a_field_too_many_is_seen() {
    for (uri, fields, fits) in [
        ("https://demo.vault.azure.net/secrets/x", vec![("authorization", "Bearer x-token")], true),
        ("https://demo.vault.azure.net/secrets/x", vec![], false),
        (
            "https://demo.vault.azure.net/secrets/x",
            vec![("authorization", "Bearer x"), ("cookie", "x")],
            false,
        ),
        ("https://demo.vault.azure.net:8443/secrets/x", vec![("authorization", "Bearer x-token")], false),
        ("https://other.vault.azure.net/secrets/x", vec![("authorization", "Bearer x-token")], false),
        ("https://attacker.example/", vec![], false),
        ("https://attacker.example/t/discovery/v2.0/keys", vec![], false),
        ("http://127.0.0.1:41741/msi/token", vec![("x-identity-header", "x")], true),
        ("http://127.0.0.1:41741/msi/token", vec![("authorization", "Bearer x-token")], false),
        ("http://127.0.0.1:8080/msi/token", vec![("x-identity-header", "x")], false),
        ("https://login.microsoftonline.com/t/discovery/v2.0/keys", vec![], true),
        ("https://login.microsoftonline.com/t/discovery/v2.0/keys", vec![("x-identity-header", "x")], false),
    ] {
        let passes = std::panic::catch_unwind(|| watch().calls(&mut vec![sent(uri, &fields, "")])).is_ok();
        assert_eq!(passes, fits, "{uri} {fields:?}");
    }
}

/// A place where something leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    /// A header field of an answer.
    Field,
    /// The body of an answer that is an error.
    Body,
    /// The body of an answer that is a secret.
    Value,
    Stdout,
    Stderr,
    /// The address of a call.
    Call(To),
    /// The body of a call to the token source.
    CallBody,
}

fn plant(what: Private, channel: Channel, text: &str) {
    let mut watch = watch();
    watch.hide(what, PLANTED);
    let answer = |status, field: &str, body: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-more", field.parse().unwrap());
        Answer { status, headers, body: body.to_owned().into(), took: std::time::Duration::ZERO }
    };
    let line = format!("{{\"cause\":\"{text}\"}}\n");
    let bearer = [("authorization", "Bearer x-token")];
    match channel {
        Channel::Field => watch.answer(Some(ASKED), &answer(200, text, "")),
        Channel::Body => watch.answer(Some(ASKED), &answer(502, "", &line)),
        Channel::Value => watch.answer(Some(ASKED), &answer(200, "", &line)),
        Channel::Stdout => watch.output(line.as_bytes(), b""),
        Channel::Stderr => watch.output(b"", line.as_bytes()),
        Channel::Call(To::Vault) => {
            watch.calls(&mut vec![sent(&format!("https://demo.vault.azure.net/{text}"), &bearer, "")]);
        }
        Channel::Call(To::TokenSource) => {
            watch.calls(&mut vec![sent(&format!("http://127.0.0.1:41741/{text}"), &[], "")]);
        }
        Channel::Call(To::Keys) => {
            let uri = format!("https://login.microsoftonline.com/{text}/discovery/v2.0/keys");
            watch.calls(&mut vec![sent(&uri, &[], "")]);
        }
        Channel::CallBody => watch.calls(&mut vec![sent("http://127.0.0.1:41741/", &[], text)]),
    }
}

fn watch() -> Watch {
    let emulator = Emulator::new();
    Watch::new(&emulator, &crate::gateway::settings(&emulator, Source::AppService2019))
}

fn sent(uri: &str, fields: &[(&'static str, &str)], body: &str) -> Sent {
    let mut request = http::Request::get(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let record = crate::wasmtime_host::Record::default();
    record.see(http_body::Frame::data(body.to_owned().into()));
    Sent { head: request.body(()).unwrap().into_parts().0, body: record, answer: std::sync::Arc::default() }
}

const ASKED: &[u8] = br#"{"Secret":"x"}"#;

const PLANTED: &str = "planted-6b6c-what-must-not-leave";

#[test]
fn texts_are_read_out_of_json_that_may_be_broken() {
    for (json, texts) in [
        (r#"{"value":"a\"\\","value": "b"}"#, vec!["a\"\\", "b"]),
        (r#"{"value" : "cut of"#, vec!["cut of"]),
        (r#"{"value":7,"values":"x"}"#, vec![]),
    ] {
        assert_eq!(texts_of(json, "value").collect::<Vec<_>>(), texts, "{json}");
    }
}
