//! Access tokens for the vault, and their lifetimes.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::azure::{Answer, date};
use crate::json::Json;
use crate::model::{Moment, Redacted};

/// A bearer token for the vault. Only requests to the vault can take its text.
///
/// ```
/// # use keyvault_gateway::{azure::token_source::Token, model::Moment};
/// fn describe(token: &Token, now: Moment) -> String {
///     format!("{token:?} {} {}", token.is_fresh(now), token.is_valid(now))
/// }
/// ```
///
/// Only the answer of a token source makes a token, and other modules cannot read it:
///
/// ```compile_fail,E0451
/// # use keyvault_gateway::{azure::token_source::Token, model::{Moment, Redacted}};
/// fn literal(value: Redacted, now: Moment) -> Token {
///     Token { value, received_at: now, fresh_until: now, valid_until: now }
/// }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::{azure::{Answer, token_source::Token}, model::Moment};
/// fn parse(answer: &Answer, now: Moment) -> Option<Token> { Token::parse(answer, now, 0) }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::token_source::Token;
/// fn field(token: &Token) -> &str { token.value.expose() }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::azure::token_source::Token;
/// fn expose(token: &Token) -> &str { token.expose() }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::azure::token_source::Token;
/// fn display(token: &Token) -> String { format!("{token}") }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::azure::token_source::Token;
/// fn json(token: &Token) -> String { serde_json::to_string(token).unwrap() }
/// ```
#[derive(Debug)]
pub struct Token {
    value: Redacted,
    received_at: Moment,
    fresh_until: Moment,
    valid_until: Moment,
}

impl Token {
    /// Whether the token is valid at `now`, and not yet due for a refresh.
    pub fn is_fresh(&self, now: Moment) -> bool {
        now < self.fresh_until
    }

    /// Whether the token is valid at `now`.
    pub fn is_valid(&self, now: Moment) -> bool {
        now < self.valid_until
    }

    /// The time since the token came from its source, which may have cached it before.
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.received_at)
    }

    /// The time until the token expires.
    pub fn left(&self, now: Moment) -> Duration {
        self.valid_until.since(now)
    }

    /// Whether both tokens have the same text.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.value.expose() == other.value.expose()
    }

    /// The token's text, for the header of a request to the vault.
    pub(in crate::azure) fn expose(&self) -> &str {
        self.value.expose()
    }

    /// Packs the token for another instance. `close` seals the content, and gets the second at which the
    /// token expires. Besides requests to the vault, this is the only way out for the token's text. The
    /// calendar clock says `unix_time` at `now`.
    pub(crate) fn pack(
        &self,
        now: Moment,
        unix_time: u64,
        close: impl FnOnce(&[u8], u64) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let date = |moment: Moment| unix_time.saturating_add(moment.since(now).as_secs());
        let received_at = unix_time.saturating_sub(self.age(now).as_secs());
        let (fresh_until, valid_until) = (date(self.fresh_until), date(self.valid_until));
        let dates = [received_at, fresh_until, valid_until].map(u64::to_be_bytes);
        let content = Zeroizing::new([dates.as_flattened(), self.value.expose().as_bytes()].concat());
        close(&content, valid_until)
    }

    /// Unpacks what [`pack`](Self::pack) has packed.
    pub(crate) fn unpack(content: &[u8], now: Moment, unix_time: u64) -> Option<Self> {
        let (received_at, rest) = content.split_first_chunk()?;
        let (fresh, rest) = rest.split_first_chunk()?;
        let (valid, text) = rest.split_first_chunk()?;
        let moment = |date: &[u8; 8]| {
            now.plus(Duration::from_secs(u64::from_be_bytes(*date).saturating_sub(unix_time)))
        };
        let age = Duration::from_secs(unix_time.saturating_sub(u64::from_be_bytes(*received_at)));
        let value = Redacted::new(str::from_utf8(text).ok()?.to_owned());
        let (fresh_until, valid_until) = (moment(fresh), moment(valid));
        let token = Self { value, received_at: now.minus(age), fresh_until, valid_until };
        token.is_valid(now).then_some(token)
    }

    /// Parses an answer that came at `now`, when the calendar clock said `unix_time`.
    ///
    /// The answer must have `access_token` and one expiry that makes sense. `expires_in` comes before
    /// `expires_on`, as it does not depend on our calendar clock.
    pub(super) fn parse(answer: &Answer, now: Moment, unix_time: u64) -> Option<Self> {
        let mut body = answer.json()?;
        let value = body.take_text("access_token")?;
        let token = value.expose();
        let is_bearer = match body.get("token_type") {
            Json::Null => true,
            Json::Text(kind) => kind.expose().eq_ignore_ascii_case("bearer"),
            Json::Number(_) | Json::List(_) | Json::Object(_) | Json::Bool(_) | Json::Other => false,
        };
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) || !is_bearer {
            return None;
        }
        let expiry = || time_until(body.get("expires_on"), unix_time);
        let lifetime = length(body.get("expires_in")).or_else(expiry)?;
        let refresh_in = length(body.get("refresh_in"));
        // A token with a long lifetime is refreshed at half of it. So is one with less than twice the margin,
        // as it would never be used otherwise.
        let half = lifetime.checked_div(2)?;
        let ahead = if lifetime >= LONG_LIFE { half } else { REFRESH_AHEAD.min(half) };
        let latest = lifetime.saturating_sub(REFRESH_AHEAD.min(half));
        let fresh = refresh_in.map_or(lifetime.saturating_sub(ahead), |span| span.min(latest));
        Some(Self { value, received_at: now, fresh_until: now.plus(fresh), valid_until: now.plus(lifetime) })
    }
}

/// A length of time in an answer: a whole number of seconds, or the same as text.
fn length(value: &Json) -> Option<Duration> {
    span(value.as_number().or_else(|| whole_number(value.as_text()?))?)
}

/// The time from `unix_time` to a date in an answer, zero if that has passed. The date is in seconds since
/// 1970, or in one of the forms of [`date`].
fn time_until(value: &Json, unix_time: u64) -> Option<Duration> {
    let seconds = match value.as_number().or_else(|| whole_number(value.as_text()?)) {
        Some(number) if number < FIRST_DATE => return span(number),
        Some(number) => i64::try_from(number).ok()?,
        None => date::parse(value.as_text()?)?,
    };
    let date = u64::try_from(seconds).unwrap_or(0);
    (seconds <= LAST_SECOND).then(|| Duration::from_secs(date.saturating_sub(unix_time)))
}

fn span(seconds: u64) -> Option<Duration> {
    (seconds <= MAX_SPAN).then(|| Duration::from_secs(seconds))
}

/// Parses digits in the shortest form of their number: no sign, no space, no zero in front.
fn whole_number(text: &str) -> Option<u64> {
    let written = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    written.then(|| text.parse().ok()).flatten()
}

/// The margin before its expiry at which a token is refreshed (refresh-ahead), as in Microsoft's own clients.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);

/// From this lifetime on, Microsoft's clients (MSAL for Go, the C++ client) refresh a token at half of it.
const LONG_LIFE: Duration = Duration::from_secs(2 * 60 * 60);

/// Numbers below this, 2001-01-01T00:00:00Z, are lengths of time and not dates, as in Microsoft's .NET
/// library.
const FIRST_DATE: u64 = 978_307_200;

/// The limits of Microsoft's C++ client: 2³¹−1 seconds, and 9999-12-31T23:59:59Z.
const MAX_SPAN: u64 = 2_147_483_647;
const LAST_SECOND: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    /// The Unix time of 2024-12-31T23:00:00Z.
    const NOW: u64 = 1_735_686_000;

    #[test]
    fn parses_lifetimes() {
        for (fields, seconds) in [
            // The documented answers of each source.
            (r#""expires_on":"1735689600","resource":"https://vault.azure.net","client_id":"c""#, Some(3600)),
            (
                concat!(
                    r#""refresh_token":"","expires_in":"3599","expires_on":"1735689600","#,
                    r#""not_before":"1735686000""#
                ),
                Some(3599),
            ),
            (r#""expires_in":3599,"ext_expires_in":3599"#, Some(3599)),
            (r#""expires_in":86399,"refresh_in":43200"#, Some(86399)),
            (r#""expires_on":1735689600"#, Some(3600)),
            (r#""expires_on":"12/31/2024 23:59:59 PM +00:00""#, Some(3599)),
            (r#""expires_on":"12/31/2024 11:59:59 PM +00:00""#, Some(3599)),
            (r#""expires_on":"12/31/2024 23:59:59 +00:00""#, Some(3599)),
            (r#""expires_on":"12/31/2024 23:59:59""#, Some(3599)),
            (r#""expires_on":"2024-12-31 23:59:59""#, Some(3599)),
            (r#""expires_on":"2024-12-31T23:59:59Z""#, Some(3599)),
            (r#""expires_on":"2024-12-31T23:59:59.0000000+00:00""#, Some(3599)),
            (r#""expires_on":"Tue, 31 Dec 2024 23:59:59 GMT""#, Some(3599)),
            (r#""expires_on":"","expires_in":3599"#, Some(3599)),
            (r#""expires_on":null,"expires_in":"3599""#, Some(3599)),
            (r#""expires_on":"1735689600","expires_in":"""#, Some(3600)),
            (r#""expires_on":"1735689600","expires_in":null"#, Some(3600)),
            (r#""expires_on":3599"#, Some(3599)),
            (r#""expires_on":"3599""#, Some(3599)),
            (r#""expires_on":"1735600000""#, Some(0)),
            (r#""expires_on":"1/1/1970 12:00:42 AM +00:00""#, Some(0)),
            (r#""expires_in":0"#, Some(0)),
            (r#""expires_in":2147483647"#, Some(2_147_483_647)),
            // A time that makes no sense is not needed.
            (r#""expires_in":3599,"expires_on":"soon""#, Some(3599)),
            (r#""expires_on":"1735689600","expires_in":"soon""#, Some(3600)),
            (r#""expires_on":-1,"expires_in":3599"#, Some(3599)),
            (r#""expires_on":"1735689600","expires_in":3599.5"#, Some(3600)),
            (r#""expires_on":true,"expires_in":3599"#, Some(3599)),
            (r#""expires_on":[],"expires_in":3599"#, Some(3599)),
            (r#""expires_on":"1735689600","expires_in":{}"#, Some(3600)),
            // Missing, or without sense.
            (r#""resource":"https://vault.azure.net""#, None),
            (r#""expires_on":"""#, None),
            (r#""expires_on":null"#, None),
            (r#""expires_on":"soon""#, None),
            (r#""expires_on":true"#, None),
            (r#""expires_on":[]"#, None),
            (r#""expires_on":-1"#, None),
            (r#""expires_on":"+1735689600""#, None),
            (r#""expires_on":" 1735689600""#, None),
            (r#""expires_on":"01735689600""#, None),
            (r#""expires_on":1735689600.5"#, None),
            (r#""expires_on":253402300800"#, None),
            (r#""expires_on":"99999999999999999999""#, None),
            (r#""expires_in":2147483648"#, None),
            (r#""expires_in":-1"#, None),
            (r#""expires_in":"1h""#, None),
            (r#""expires_in":3599,"expires_in":3599"#, None),
        ] {
            let body = format!(r#"{{"access_token":"t","token_type":"Bearer",{fields}}}"#);
            let token = parse(&body);
            let fresh = seconds.map(|lifetime| fresh_seconds(&body, lifetime));
            assert_eq!(token.map(|token| token.fresh_until.since(start()).as_secs()), fresh, "{fields}");
        }
    }

    #[test]
    fn tokens_are_refreshed_ahead() {
        for (fields, fresh) in [
            (r#""expires_in":86400"#, 43200),
            (r#""expires_in":7200"#, 3600),
            (r#""expires_in":7199"#, 6899),
            (r#""expires_in":600"#, 300),
            (r#""expires_in":100"#, 50),
            (r#""expires_in":0"#, 0),
            (r#""expires_in":86400,"refresh_in":43200"#, 43200),
            (r#""expires_in":86400,"refresh_in":"43200""#, 43200),
            (r#""expires_in":86400,"refresh_in":80000"#, 80000),
            (r#""expires_in":86400,"refresh_in":86399"#, 86100),
            (r#""expires_in":86400,"refresh_in":null"#, 43200),
            (r#""expires_in":86400,"refresh_in":"soon""#, 43200),
            (r#""expires_in":86400,"refresh_in":43200.5"#, 43200),
            (r#""expires_in":600,"refresh_in":9000"#, 300),
        ] {
            let token = parse(&format!(r#"{{"access_token":"t",{fields}}}"#)).unwrap();
            assert_eq!(token.fresh_until.since(start()).as_secs(), fresh, "{fields}");
            assert!(!token.is_fresh(token.fresh_until));
            assert_eq!(token.is_valid(token.fresh_until), token.valid_until > token.fresh_until);
            assert!(!token.is_valid(token.valid_until));
        }
    }

    #[test]
    fn a_token_has_an_age_and_a_time_left() {
        let token = parse(r#"{"access_token":"t","expires_in":3600}"#).unwrap();
        for (passed, age, left) in [(0, 0, 3600), (60, 60, 3540), (3600, 3600, 0), (4000, 4000, 0)] {
            let now = start().plus(Duration::from_secs(passed));
            assert_eq!((token.age(now).as_secs(), token.left(now).as_secs()), (age, left));
        }
    }

    #[test]
    fn refuses_an_answer_that_is_not_a_token() {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "<html>",
            r#"{"access_token":"","expires_in":1}"#,
            r#"{"access_token":null,"expires_in":1}"#,
            r#"{"access_token":7,"expires_in":1}"#,
            r#"{"access_token":"a b","expires_in":1}"#,
            r#"{"access_token":"a\r\nb: c","expires_in":1}"#,
            r#"{"access_token":"ü","expires_in":1}"#,
            r#"{"access_token":"a","token_type":"pop","expires_in":1}"#,
            r#"{"access_token":"a","expires_in":1"#,
            r#"["a","Bearer",1,null,null]"#,
            r#"{"error":"e","expires_in":1}"#,
        ] {
            assert!(parse(body).is_none(), "{body}");
        }
    }

    #[test]
    fn debug_output_has_no_token() {
        let token = parse(r#"{"access_token":"marker","expires_in":1}"#).unwrap();
        assert!(!format!("{token:?}").contains("marker"));
    }

    fn parse(body: &str) -> Option<Token> {
        Token::parse(&Answer::new(200, None, body.into()), start(), NOW)
    }

    /// The seconds for which a token is fresh, by the rules of `tokens_are_refreshed_ahead`.
    fn fresh_seconds(body: &str, lifetime: u64) -> u64 {
        match lifetime {
            _ if body.contains("refresh_in") => 43200,
            7200.. => lifetime / 2,
            _ => lifetime - 300.min(lifetime / 2),
        }
    }

    fn start() -> Moment {
        Moment::after_start(Duration::from_secs(5))
    }
}
