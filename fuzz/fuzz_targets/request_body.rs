//! The body of a request: an accepted body has one valid name, for another JSON parser, too; or a list of
//! secrets, each with a name that is valid or an error of its own.

#![no_main]

use keyvault_gateway::error::Error;
use keyvault_gateway::http::request::{BatchRequest, MAX_ITEMS, SingleRequest};
use keyvault_gateway::model::SecretVersion;
use keyvault_gateway_fuzz::*;

fuzz_target!(|body: &[u8]| {
    several(body);
    let request = match SingleRequest::parse(body) {
        Ok(request) => request.secret,
        Err(error) => {
            use Error::{NoValidDetails, NoValidSecret, NoValidVersion, NotAnObject};
            assert!(matches!(error, NotAnObject | NoValidSecret | NoValidVersion | NoValidDetails));
            return;
        }
    };
    let (name, version) = (request.name.as_str(), request.version.as_ref().map(SecretVersion::as_str));
    assert!((1..=127).contains(&name.len()), "{name:?}");
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name:?}");
    if let Some(version) = version {
        assert_eq!(version.len(), 32);
        assert!(version.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{version:?}");
    }

    let again = json!({ "Secret": name, "Version": version }).to_string();
    let parse = |body: &[u8]| SingleRequest::parse(body).map(|request| request.secret);
    assert_eq!(parse(again.as_bytes()).as_ref(), Ok(&request));
    let with_byte_order_mark = [b"\xEF\xBB\xBF", again.as_bytes()].concat();
    assert_eq!(parse(&with_byte_order_mark), Ok(request.clone()));

    // Another JSON parser finds the same name, once.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let object = value.as_object().expect("only an object is accepted");
        let named: Vec<_> = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case("secret")).collect();
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].1.as_str(), Some(name));
    }
});

fn several(body: &[u8]) {
    let request = match BatchRequest::parse(body) {
        Ok(request) => request,
        Err(error) => {
            use Error::{NoValidDetails, NoValidSecrets, NotAnObject};
            assert!(matches!(error, NotAnObject | NoValidSecrets | NoValidDetails));
            return;
        }
    };
    assert!((1..=MAX_ITEMS).contains(&request.items.len()));
    for (name, item) in &request.items {
        match item {
            Ok(secret) => assert_eq!(secret.name.as_str(), name),
            Err(error) => assert!(matches!(error, Error::NoValidSecret | Error::NoValidVersion)),
        }
    }
    // The same list again, of objects.
    let items: Vec<_> =
        request.items.iter().filter_map(|(name, item)| Some((name, item.as_ref().ok()?))).collect();
    let list = items.iter().map(|(name, secret)| {
        json!({ "Secret": name, "Version": secret.version.as_ref().map(SecretVersion::as_str) })
    });
    if !items.is_empty() {
        let again = json!({ "Secrets": list.collect::<Vec<_>>(), "Details": request.details }).to_string();
        let again = BatchRequest::parse(again.as_bytes()).expect("a valid list");
        assert!(
            again.items.iter().map(|(_, item)| item.as_ref()).eq(items.iter().map(|(_, item)| Ok(*item)))
        );
    }
}
