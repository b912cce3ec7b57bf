//! A token, and how long it lasts.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use zeroize::Zeroizing;

use crate::azure::{Answer, date};
use crate::model::{Moment, Redacted};

/// A bearer token for the vault. Only the vault's own requests can take its text.
///
/// ```
/// fn look(token: &keyvault_gateway::azure::token_source::Token, now: keyvault_gateway::model::Moment) -> String {
///     format!("{token:?} {} {}", token.is_fresh(now), token.is_valid(now))
/// }
/// ```
///
/// It is made of a token source's answer, and other modules cannot read it:
///
/// ```compile_fail,E0451
/// fn literal(value: keyvault_gateway::model::Redacted, now: keyvault_gateway::model::Moment) -> keyvault_gateway::azure::token_source::Token { keyvault_gateway::azure::token_source::Token { value, since: now, fresh_until: now, valid_until: now } }
/// ```
/// ```compile_fail,E0624
/// fn parse(answer: &keyvault_gateway::azure::Answer, now: keyvault_gateway::model::Moment) -> Option<keyvault_gateway::azure::token_source::Token> { keyvault_gateway::azure::token_source::Token::parse(answer, now, 0) }
/// ```
/// ```compile_fail,E0616
/// fn field(token: &keyvault_gateway::azure::token_source::Token) -> &str { token.value.expose() }
/// ```
/// ```compile_fail,E0624
/// fn expose(token: &keyvault_gateway::azure::token_source::Token) -> &str { token.expose() }
/// ```
/// ```compile_fail,E0277
/// fn display(token: &keyvault_gateway::azure::token_source::Token) -> String { format!("{token}") }
/// ```
/// ```compile_fail,E0277
/// fn json(token: &keyvault_gateway::azure::token_source::Token) -> String { serde_json::to_string(token).unwrap() }
/// ```
#[derive(Debug)]
pub struct Token {
    value: Redacted,
    since: Moment,
    fresh_until: Moment,
    valid_until: Moment,
}

impl Token {
    /// Whether it should still be used at `now`: it lasts, and it is not yet time for a new one.
    pub fn is_fresh(&self, now: Moment) -> bool {
        now < self.fresh_until
    }

    /// Whether it can still be used at `now`, if there is no newer one to be had.
    pub fn is_valid(&self, now: Moment) -> bool {
        now < self.valid_until
    }

    /// How long ago it came from its source, which may have had it for a while.
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.since)
    }

    /// How long it can still be used.
    pub fn left(&self, now: Moment) -> Duration {
        self.valid_until.since(now)
    }

    /// Whether both are the same text.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.value.expose() == other.value.expose()
    }

    /// The token itself, for the header field of a request to the vault.
    pub(in crate::azure) fn expose(&self) -> &str {
        self.value.expose()
    }

    /// What another instance needs of it, sealed by `close`, which is told when that is over: the only other way out for its
    /// text. The calendar clock says `unix_time` at `now`.
    pub(crate) fn pack(
        &self,
        now: Moment,
        unix_time: u64,
        close: impl FnOnce(&[u8], u64) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let date = |moment: Moment| unix_time.saturating_add(moment.since(now).as_secs());
        let since = unix_time.saturating_sub(self.age(now).as_secs());
        let (fresh_until, valid_until) = (date(self.fresh_until), date(self.valid_until));
        let dates = [since, fresh_until, valid_until].map(u64::to_be_bytes);
        let content = Zeroizing::new([dates.as_flattened(), self.value.expose().as_bytes()].concat());
        close(&content, valid_until)
    }

    /// Reads what [`pack`](Self::pack) made.
    pub(crate) fn unpack(content: &[u8], now: Moment, unix_time: u64) -> Option<Self> {
        let (since, rest) = content.split_first_chunk()?;
        let (fresh, rest) = rest.split_first_chunk()?;
        let (valid, text) = rest.split_first_chunk()?;
        let moment = |date: &[u8; 8]| {
            now.plus(Duration::from_secs(u64::from_be_bytes(*date).saturating_sub(unix_time)))
        };
        let age = Duration::from_secs(unix_time.saturating_sub(u64::from_be_bytes(*since)));
        let value = Redacted::new(str::from_utf8(text).ok()?.to_owned());
        let (fresh_until, valid_until) = (moment(fresh), moment(valid));
        let token = Self { value, since: now.minus(age), fresh_until, valid_until };
        token.is_valid(now).then_some(token)
    }

    /// Reads an answer that came at `now`, when the calendar clock said `unix_time`.
    ///
    /// Needed are `access_token` and one expiry that can be understood. `expires_in` goes before `expires_on`, as it does not
    /// depend on our calendar clock.
    pub(super) fn parse(answer: &Answer, now: Moment, unix_time: u64) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Body {
            access_token: Redacted,
            token_type: Option<String>,
            #[serde(default)]
            expires_in: Time,
            #[serde(default)]
            expires_on: Time,
            #[serde(default)]
            refresh_in: Time,
        }
        let body: Body = answer.json()?;
        let token = body.access_token.expose();
        let bearer = body.token_type.is_none_or(|it| it.eq_ignore_ascii_case("bearer"));
        if token.is_empty() || !token.bytes().all(|it| it.is_ascii_graphic()) || !bearer {
            return None;
        }
        let lifetime = body.expires_in.span().or_else(|| body.expires_on.date(unix_time))?;
        let refresh_in = body.refresh_in.span();
        // A long one is renewed at half-time, as is one that lasts shorter than twice the margin, so that it is used at all.
        let half = lifetime.checked_div(2)?;
        let ahead = if lifetime >= LONG_LIFE { half } else { REFRESH_AHEAD.min(half) };
        let latest = lifetime.saturating_sub(REFRESH_AHEAD.min(half));
        let fresh = refresh_in.map_or(lifetime.saturating_sub(ahead), |it| it.min(latest));
        Some(Self {
            value: body.access_token,
            since: now,
            fresh_until: now.plus(fresh),
            valid_until: now.plus(lifetime),
        })
    }
}

/// A time in a token answer, as it is written there.
#[derive(Debug, Default, PartialEq)]
enum Time {
    /// Or nothing that can be a time.
    #[default]
    Absent,
    Number(u64),
    Text(String),
}

impl Time {
    /// A length of time: a whole number of seconds.
    fn span(&self) -> Option<Duration> {
        match self {
            Self::Absent => None,
            Self::Number(seconds) => span(*seconds),
            Self::Text(text) => span(whole_number(text)?),
        }
    }

    /// The length of time from `unix_time` to a date, zero if that is over.
    fn date(&self, unix_time: u64) -> Option<Duration> {
        let seconds = match self {
            Self::Absent => return None,
            Self::Number(seconds) => *seconds,
            Self::Text(text) => match whole_number(text) {
                Some(seconds) => seconds,
                None => {
                    let date = date::any(text).filter(|it| *it <= LAST_SECOND)?;
                    let left = u64::try_from(date).unwrap_or(0).saturating_sub(unix_time);
                    return Some(Duration::from_secs(left));
                }
            },
        };
        if seconds < FIRST_DATE {
            return span(seconds);
        }
        let valid = i64::try_from(seconds).is_ok_and(|it| it <= LAST_SECOND);
        valid.then(|| Duration::from_secs(seconds.saturating_sub(unix_time)))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Forms;

        impl Visitor<'_> for Forms {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Time, E> {
                Ok(Time::Number(number))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Time, E> {
                Ok(Time::Absent)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Time, E> {
                Ok(Time::Absent)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Time, E> {
                Ok(Time::Absent)
            }

            fn visit_str<E>(self, text: &str) -> Result<Time, E> {
                Ok(Time::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Time, E> {
                Ok(Time::Absent)
            }
        }

        from.deserialize_any(Forms).map_err(|_| D::Error::custom("not a time"))
    }
}

fn span(seconds: u64) -> Option<Duration> {
    (seconds <= LONGEST_SPAN).then(|| Duration::from_secs(seconds))
}

/// Digits that are written as the number would be: no sign, no space, no zero in front.
fn whole_number(text: &str) -> Option<u64> {
    let written = text.bytes().all(|it| it.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    written.then(|| text.parse().ok()).flatten()
}

/// How long before its end a token is replaced; the margin of Microsoft's own clients.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);

/// From this lifetime on, Microsoft's clients (MSAL for Go, the C++ client) renew a token at half-time.
const LONG_LIFE: Duration = Duration::from_secs(2 * 60 * 60);

/// Numbers below this, 2001-01-01T00:00:00Z, are lengths of time and not dates, as in Microsoft's .NET library.
const FIRST_DATE: u64 = 978_307_200;

/// The limits of Microsoft's C++ client: 2³¹−1 seconds, and 9999-12-31T23:59:59Z.
const LONGEST_SPAN: u64 = 2_147_483_647;
const LAST_SECOND: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-12-31T23:00:00Z.
    const NOW: u64 = 1_735_686_000;

    #[test]
    fn lifetimes() {
        for (fields, seconds) in [
            // The documented answers of each source.
            (r#""expires_on":"1735689600","resource":"https://vault.azure.net","client_id":"c""#, Some(3600)),
            (
                r#""refresh_token":"","expires_in":"3599","expires_on":"1735689600","not_before":"1735686000""#,
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
            // What cannot be understood is not needed.
            (r#""expires_in":3599,"expires_on":"soon""#, Some(3599)),
            (r#""expires_on":"1735689600","expires_in":"soon""#, Some(3600)),
            (r#""expires_on":-1,"expires_in":3599"#, Some(3599)),
            (r#""expires_on":"1735689600","expires_in":3599.5"#, Some(3600)),
            (r#""expires_on":true,"expires_in":3599"#, Some(3599)),
            // What is missing, or cannot be understood.
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
            let read = read(&body);
            let fresh = seconds.map(|it| fresh_seconds(&body, it));
            assert_eq!(read.map(|it| it.fresh_until.since(start()).as_secs()), fresh, "{fields}");
        }
    }

    #[test]
    fn tokens_are_replaced_ahead() {
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
            let token = read(&format!(r#"{{"access_token":"t",{fields}}}"#)).unwrap();
            assert_eq!(token.fresh_until.since(start()).as_secs(), fresh, "{fields}");
            assert!(!token.is_fresh(token.fresh_until));
            assert_eq!(token.is_valid(token.fresh_until), token.valid_until > token.fresh_until);
            assert!(!token.is_valid(token.valid_until));
        }
    }

    #[test]
    fn a_token_knows_its_age_and_what_is_left_of_it() {
        let token = read(r#"{"access_token":"t","expires_in":3600}"#).unwrap();
        for (passed, age, left) in [(0, 0, 3600), (60, 60, 3540), (3600, 3600, 0), (4000, 4000, 0)] {
            let now = start().plus(Duration::from_secs(passed));
            assert_eq!((token.age(now).as_secs(), token.left(now).as_secs()), (age, left));
        }
    }

    #[test]
    fn what_is_no_token() {
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
            assert!(read(body).is_none(), "{body}");
        }
    }

    #[test]
    fn a_token_does_not_show() {
        let token = read(r#"{"access_token":"marker","expires_in":1}"#).unwrap();
        assert!(!format!("{token:?}").contains("marker"));
    }

    fn read(body: &str) -> Option<Token> {
        Token::parse(&Answer::new(200, None, body.into()), start(), NOW)
    }

    /// What remains of a lifetime, by the rules of `tokens_are_replaced_ahead`.
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
