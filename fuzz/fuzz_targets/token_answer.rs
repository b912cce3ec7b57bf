//! The answer of each token source: an accepted answer has a valid token, and no answer leaks.
//!
//! An input is a byte for the source, one for the status, a line with `Retry-After`, and the body.

#![no_main]

use std::time::Duration;

use keyvault_gateway_fuzz::*;
use serde_json::Map;
use time::Date;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((source, rest)) = pick(data, &SOURCES) else { return Corpus::Reject };
    let Some(response) = parse_response(rest) else { return Corpus::Reject };
    let settings = [&WITH_API_KEY[..], &[("GATEWAY_CACHE_TTL_SECONDS", "0")], source].concat();
    let gateway = TestGateway::new(settings, Some((Service::TokenSource, response.clone())));

    let reply = gateway.post(Some("right"), REQUEST);
    let (tokens, secrets) = (gateway.count(Service::TokenSource), gateway.count(Service::Vault));
    // The gateway retries until the deadline, with a backoff that doubles.
    assert!((1..=8).contains(&tokens), "{tokens} calls");
    expect_no_mark(&reply);
    gateway.expect_no_leak();

    let is_imds = source.is_empty();
    let (refused, failing) = ((502, "IdentityError"), (503, "Unavailable"));
    // For most statuses the error code decides.
    let expected: &[_] = match response.status {
        200 if secrets == 1 => &[(200, "OK")],
        200 => &[refused],
        429 => &[(503, "IdentityThrottled")],
        401 | 403 | 410 if is_imds => &[failing],
        408 | 500..=599 => &[failing],
        _ => &[refused, failing, (503, "IdentityThrottled")],
    };
    let answer = outcome(&reply);
    assert!(expected.contains(&answer), "{answer:?} after a {}", response.status);
    assert_eq!(secrets, usize::from(answer.0 == 200));
    if answer.0 != 200 {
        return Corpus::Keep;
    }

    let body: Value = serde_json::from_slice(reply.body().expose()).unwrap();
    assert_eq!(body, json!({ "Secret": "db-password", "Value": VALUE }));
    let sent = gateway.sent();
    let (call, _) = sent.iter().find(|(call, _)| call.service() == Service::Vault).unwrap();
    let authorization: Vec<_> = call.headers().iter().filter(|header| header.0 == "authorization").collect();
    assert_eq!(authorization.len(), 1);
    let token = authorization[0].1.expose().strip_prefix("Bearer ").unwrap().to_owned();
    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?}");
    drop(sent);

    let Ok(json) = serde_json::from_slice::<Value>(&response.body) else { return Corpus::Keep };
    let answer = json.as_object().expect("an answer with a token is an object");
    assert_eq!(answer["access_token"].as_str(), Some(token.as_str()));
    // The token is not used after it expires: by its lifetime, or by its date if it has no lifetime.
    let span = seconds(answer, "expires_in", LONGEST_SPAN);
    let lifetime = match (span, seconds(answer, "expires_on", LAST_SECOND)) {
        (Some(span), _) => span,
        (None, Some(date)) if date >= FIRST_DATE => date.saturating_sub(BEGINNING),
        (None, Some(span)) => span,
        // A date as text has a year of four digits.
        (None, None) => {
            let date = answer.get("expires_on").and_then(Value::as_str).and_then(date);
            date.unwrap_or(LAST_SECOND).saturating_sub(BEGINNING)
        }
    };
    gateway.world.pass(Duration::from_secs(lifetime));
    gateway.post_no_cache("right", REQUEST);
    assert_eq!(gateway.count(Service::TokenSource), tokens + 1, "used for more than {lifetime} seconds");
    Corpus::Keep
});

/// The number in a member, as a JSON number or as text. Anything else counts as a missing member.
fn seconds(answer: &Map<String, Value>, name: &str, most: u64) -> Option<u64> {
    let number = match answer.get(name)? {
        Value::String(text) => text.parse().ok().filter(|number: &u64| number.to_string() == *text)?,
        number => number.as_u64()?,
    };
    (number <= most).then_some(number)
}

/// Parses `2024-12-31T23:59:59Z` as Unix seconds, also with a space for the `T` and without the `Z`. A date
/// before 1970 is 0.
fn date(text: &str) -> Option<u64> {
    let (year, rest) = text.strip_suffix('Z').unwrap_or(text).split_once('-')?;
    let numbers: Vec<u8> =
        rest.split(['-', 'T', ' ', ':']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [month, day, hour, minute, second] = numbers.try_into().ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month.try_into().ok()?, day).ok()?;
    let time = date.with_hms(hour, minute, second).ok()?;
    Some(u64::try_from(time.assume_utc().unix_timestamp()).unwrap_or(0))
}

/// 2001-01-01: a smaller `expires_on` is a lifetime and not a date.
const FIRST_DATE: u64 = 978_307_200;

/// A longer `expires_in` is not accepted.
const LONGEST_SPAN: u64 = 2_147_483_647;

/// The last second that a date can have: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// The settings of each token source. No settings select the Instance Metadata Service.
const SOURCES: [&[(&str, &str)]; 5] = [
    &[("IDENTITY_ENDPOINT", "http://127.0.0.1:42356/msi/token"), ("IDENTITY_HEADER", "identity-secret")],
    &[("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"), ("MSI_SECRET", "identity-secret")],
    &[("MSI_ENDPOINT", "http://127.0.0.1:50342/oauth2/token")],
    &[
        ("AZURE_TENANT_ID", "f8cdef31-a31e-4b4a-93e4-5f571e91255a"),
        ("AZURE_CLIENT_ID", "535fb089-9ff3-47b6-9bfb-4f1264799865"),
        ("AZURE_CLIENT_SECRET", "identity-secret"),
    ],
    &[],
];
