//! That the watch sees what it is there for, so that no other test passes in vain.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::wasmtime_host::Record;

/// Everything that is private, planted where anything leaves, as it is and in other forms.
#[test]
fn what_is_private_is_seen_wherever_it_leaves_and_only_where_it_may_not() {
    // The channels: a field, an error and a secret of an answer, both outputs, the address of each call, and a body.
    let [vault, tokens, keys, body] = [5, 6, 7, 8];
    for (what, allowed) in [
        (Private::Value, vec![]),
        (Private::Token, vec![vault]),
        (Private::IdentitySecret, vec![tokens, body]),
        (Private::Identity, vec![tokens, keys, body]),
        (Private::CallerKey, vec![]),
        (Private::CallerToken, vec![]),
        (Private::Request, vec![]),
        (Private::Azure, vec![]),
        (Private::Setting, vec![vault, tokens, keys, body]),
        (Private::Public, (0..9).collect()),
    ] {
        for channel in 0..9 {
            for planted in [PLANTED, &PLANTED[7..19], "706c616e7465642d366236632d", "cGxhbnRlZC02YjZjLXdoYXQ"]
            {
                let seen = catch_unwind(|| plant(what, channel, planted)).is_err();
                assert_eq!(seen, !allowed.contains(&channel), "{what:?} {channel} {planted}");
            }
        }
    }
}

fn plant(what: Private, channel: usize, text: &str) {
    let mut watch = watch();
    watch.hide(what, PLANTED);
    let line = format!("{{\"cause\":\"{text}\"}}\n");
    let bearer = [("authorization", "Bearer x-token")];
    match channel {
        0 => watch.answer(Some(ASKED), &answer(200, text, "")),
        1 => watch.answer(Some(ASKED), &answer(502, "", &line)),
        2 => watch.answer(Some(ASKED), &answer(200, "", &line)),
        3 => watch.output(line.as_bytes(), b""),
        4 => watch.output(b"", line.as_bytes()),
        5 => watch.calls(&mut vec![sent(&format!("https://demo.vault.azure.net/{text}"), &bearer, "")]),
        6 => watch.calls(&mut vec![sent(&format!("http://127.0.0.1:41741/{text}"), &[], "")]),
        7 => {
            let uri = format!("https://login.microsoftonline.com/{text}/discovery/v2.0/keys");
            watch.calls(&mut vec![sent(&uri, &[], "")]);
        }
        _ => watch.calls(&mut vec![sent("http://127.0.0.1:41741/", &[], text)]),
    }
}

/// The value that was asked for is the caller's. Any other in its place, or more of it, is not.
#[test]
fn only_the_value_of_the_name_that_was_asked_for_may_be_in_an_answer() {
    let [own, other] = ["6b6c-own-value\"\\\r\nü", "77d0-value-of-another"];
    for (asked, answered, fits) in [
        ("X", json!({"Secret": "X", "Value": own}), true),
        ("another", json!({"Secret": "another", "Value": other}), true),
        ("x", json!({"Secret": "another", "Value": other}), false),
        ("another", json!({"Secret": "another", "Value": own}), false),
        ("unknown", json!({"Secret": "unknown", "Value": own}), false),
        ("x", json!({"Secret": "x", "Value": own, "Was": own}), false),
        ("x", json!({"Secret": "x", "Value": own, "Other": other}), false),
    ] {
        for status in [200, 403] {
            let mut watch = watch();
            let calls = [("x", own), ("Another", other)].map(|(name, value)| {
                let id =
                    format!("https://demo.vault.azure.net/secrets/{name}/3d76eb676e0a40429c7aa2b4b7912a5d");
                let call =
                    sent("https://demo.vault.azure.net/secrets/x", &[("authorization", "Bearer x")], "");
                let record = Record::default();
                record.see(http_body::Frame::data(json!({"value": value, "id": id}).to_string().into()));
                let _ = call.answer.set((http::Response::new(()).into_parts().0, record));
                call
            });
            watch.calls(&mut calls.into());
            let (answer, asked) =
                (answer(status, "", &answered.to_string()), json!({"secret": asked}).to_string());
            let passes =
                catch_unwind(AssertUnwindSafe(|| watch.answer(Some(asked.as_bytes()), &answer))).is_ok();
            assert_eq!(passes, fits && status == 200, "{status} {asked} {answered}");
        }
    }
}

/// What no call may be, whatever it says.
#[test]
fn a_call_to_a_stranger_or_with_a_field_too_many_is_seen() {
    let (bearer, header) = (("authorization", "Bearer x-token"), ("x-identity-header", "x"));
    for (uri, fields, fits) in [
        ("https://demo.vault.azure.net/secrets/x", vec![bearer], true),
        ("https://demo.vault.azure.net/secrets/x", vec![], false),
        ("https://demo.vault.azure.net/secrets/x", vec![bearer, ("cookie", "x")], false),
        ("https://demo.vault.azure.net:8443/secrets/x", vec![bearer], false),
        ("https://other.vault.azure.net/secrets/x", vec![bearer], false),
        ("https://attacker.example/t/discovery/v2.0/keys", vec![], false),
        ("http://127.0.0.1:41741/msi/token", vec![header], true),
        ("http://127.0.0.1:41741/msi/token", vec![bearer], false),
        ("http://127.0.0.1:8080/msi/token", vec![header], false),
        ("https://login.microsoftonline.com/t/discovery/v2.0/keys", vec![], true),
        ("https://login.microsoftonline.com/t/discovery/v2.0/keys", vec![header], false),
    ] {
        let passes = catch_unwind(|| watch().calls(&mut vec![sent(uri, &fields, "")])).is_ok();
        assert_eq!(passes, fits, "{uri} {fields:?}");
    }
}

fn watch() -> Watch {
    let emulator = Emulator::new();
    Watch::new(&emulator, &crate::gateway::settings(&emulator, Source::AppService2019))
}

fn answer(status: u16, field: &str, body: &str) -> Answer {
    let headers = [(http::HeaderName::from_static("x-more"), field.parse().unwrap())];
    Answer {
        status,
        headers: headers.into_iter().collect(),
        body: body.to_owned().into(),
        took: Duration::ZERO,
    }
}

fn sent(uri: &str, fields: &[(&'static str, &str)], body: &str) -> Sent {
    let request = fields.iter().fold(http::Request::get(uri), |request, it| request.header(it.0, it.1));
    let record = Record::default();
    record.see(http_body::Frame::data(body.to_owned().into()));
    Sent { head: request.body(()).unwrap().into_parts().0, body: record, answer: std::sync::Arc::default() }
}

const ASKED: &[u8] = br#"{"Secret":"x"}"#;

const PLANTED: &str = "planted-6b6c-what-must-not-leave";
