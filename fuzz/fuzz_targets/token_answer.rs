//! The answer of each token source: what is taken for a token is one, and nothing of an answer is in a reply.
//!
//! An input is a byte for the source, one for the status, a line with `Retry-After`, and the body.

#![no_main]

use core::time::Duration;

use keyvault_gateway_fuzz::*;
use serde_json::Map;
use time::Date;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((source, rest)) = choice(data, &SOURCES) else { return Corpus::Reject };
    let Some(made) = response(rest) else { return Corpus::Reject };
    let settings = [&KEYED[..], &[("GATEWAY_CACHE_TTL_SECONDS", "0")], source].concat();
    let scene = Scene::new(settings, Some((Service::Identity, made.clone())));

    let reply = scene.ask(Some("right"), ASKED);
    let (tokens, secrets) = (scene.count(Service::Identity), scene.count(Service::Vault));
    // It is asked for until the deadline, with pauses that double.
    assert!((1..=8).contains(&tokens), "{tokens} calls");
    shows_nothing(&reply);
    scene.keeps_to_itself();

    let is_imds = source.is_empty();
    let (refused, failing) = ((502, "IdentityError"), (503, "Unavailable"));
    // A code says more than most statuses.
    let right: &[_] = match made.status {
        200 if secrets == 1 => &[(200, "OK")],
        200 => &[refused],
        429 => &[(503, "IdentityThrottled")],
        401 | 403 | 410 if is_imds => &[failing],
        408 | 500..=599 => &[failing],
        _ => &[refused, failing, (503, "IdentityThrottled")],
    };
    let answer = outcome(&reply);
    assert!(right.contains(&answer), "{answer:?} after a {}", made.status);
    assert_eq!(secrets, usize::from(answer.0 == 200));
    if answer.0 != 200 {
        return Corpus::Keep;
    }

    let body: Value = serde_json::from_slice(reply.body().expose()).unwrap();
    assert_eq!(body, json!({ "Secret": "db-password", "Value": VALUE }));
    let sent = scene.sent();
    let (call, _) = sent.iter().find(|(call, _)| call.upstream() == Service::Vault).unwrap();
    let bearer: Vec<_> = call.headers().iter().filter(|it| it.0 == "authorization").collect();
    assert_eq!(bearer.len(), 1);
    let token = bearer[0].1.expose().strip_prefix("Bearer ").unwrap().to_owned();
    assert!(!token.is_empty() && token.bytes().all(|it| it.is_ascii_graphic()), "{token:?}");
    drop(sent);

    let Ok(json) = serde_json::from_slice::<Value>(&made.body) else { return Corpus::Keep };
    let answer = json.as_object().expect("only an object has a token");
    assert_eq!(answer["access_token"].as_str(), Some(token.as_str()));
    // It is not used past its time: the length of time, and without one the date.
    let length = seconds(answer, "expires_in", LONGEST_SPAN);
    let lifetime = match (length, seconds(answer, "expires_on", LAST_SECOND)) {
        (Some(length), _) => length,
        (None, Some(date)) if date >= FIRST_DATE => date.saturating_sub(BEGINNING),
        (None, Some(length)) => length,
        // A date in another writing is in a year of four digits, too.
        (None, None) => {
            let date = answer.get("expires_on").and_then(Value::as_str).and_then(date);
            date.unwrap_or(LAST_SECOND).saturating_sub(BEGINNING)
        }
    };
    scene.world.pass(Duration::from_secs(lifetime));
    scene.ask_again("right", ASKED);
    assert_eq!(scene.count(Service::Identity), tokens + 1, "used for more than {lifetime} seconds");
    Corpus::Keep
});

/// The number of a member, which may be written as text, if it can be understood; or else it is as good as not there.
fn seconds(answer: &Map<String, Value>, name: &str, most: u64) -> Option<u64> {
    let number = match answer.get(name)? {
        Value::String(text) => text.parse().ok().filter(|it: &u64| it.to_string() == *text)?,
        number => number.as_u64()?,
    };
    (number <= most).then_some(number)
}

/// `2024-12-31T23:59:59Z` in Unix seconds, also with a blank for the `T` and without the `Z`; 0 before 1970.
fn date(text: &str) -> Option<u64> {
    let (year, rest) = text.strip_suffix('Z').unwrap_or(text).split_once('-')?;
    let numbers: Vec<u8> =
        rest.split(['-', 'T', ' ', ':']).map(|it| it.parse().ok()).collect::<Option<_>>()?;
    let [month, day, hour, minute, second] = numbers.try_into().ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month.try_into().ok()?, day).ok()?;
    let time = date.with_hms(hour, minute, second).ok()?;
    Some(u64::try_from(time.assume_utc().unix_timestamp()).unwrap_or(0))
}

/// What is less is no date, but a length of time: 2001-01-01.
const FIRST_DATE: u64 = 978_307_200;

/// What is longer is no length of time.
const LONGEST_SPAN: u64 = 2_147_483_647;

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// The settings of each source; none are those of the Instance Metadata Service.
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
