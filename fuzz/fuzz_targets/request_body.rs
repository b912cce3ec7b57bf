//! The body of a request: an accepted body has one valid name, for another JSON parser, too.

#![no_main]

use keyvault_gateway::error::Error;
use keyvault_gateway::model::{SecretRequest, SecretVersion};
use keyvault_gateway_fuzz::*;

fuzz_target!(|body: &[u8]| {
    let request = match SecretRequest::parse(body) {
        Ok(request) => request,
        Err(error) => {
            assert!(matches!(error, Error::NotAnObject | Error::NoValidSecret | Error::NoValidVersion));
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
    assert_eq!(SecretRequest::parse(again.as_bytes()).as_ref(), Ok(&request));
    let with_byte_order_mark = [b"\xEF\xBB\xBF", again.as_bytes()].concat();
    assert_eq!(SecretRequest::parse(&with_byte_order_mark), Ok(request.clone()));

    // Another JSON parser finds the same name, once.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let object = value.as_object().expect("only an object is accepted");
        let named: Vec<_> = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case("secret")).collect();
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].1.as_str(), Some(name));
    }
});
