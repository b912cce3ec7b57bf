//! Log lines: one JSON object for each request, with its caller and its outcome. No value, key or body is
//! logged.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::model::DateTime;

/// The level of a log line, and of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Requests that failed because of the gateway or of Azure.
    Error,
    /// Every request that is answered.
    Info,
    /// Every request, and every call to Azure.
    Debug,
}

/// The log line of a request that has been answered.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// The time, in seconds since 1970-01-01T00:00:00Z.
    #[serde(serialize_with = "date")]
    pub time: u64,
    /// `error` where the status is 500 or more, else `info`.
    pub level: Level,
    /// The id of the caller's trace, or a random one.
    pub request: &'a str,
    /// The caller's name, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// The code of the answer.
    pub code: &'a str,
    /// How many of several secrets have which code.
    #[serde(skip_serializing_if = "Codes::is_empty")]
    pub codes: Codes<'a>,
    /// How many of several secrets were served past their TTL, as Azure failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub stale: u32,
    /// The error, in words of our own.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub cause: Option<&'a Error>,
    /// The variables of other token sources that are set and not used, where that may be the reason.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unused: &'a [&'a str],
    /// The outcome of the cache lookup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'a str>,
    /// The number of calls to Azure that the request made.
    pub upstream: u32,
}

/// One of several secrets that a request asks for, for the level `debug`, or the error of a read that no request
/// waits for.
#[derive(Debug, Serialize)]
pub struct ItemLine<'a> {
    /// The time, in seconds since 1970-01-01T00:00:00Z.
    #[serde(serialize_with = "date")]
    pub time: u64,
    pub level: Level,
    /// The id of the caller's trace, or a random one.
    pub request: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<&'a str>,
    /// The code of the item. It is no `code`, which only requests have.
    pub item: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub cause: Option<&'a Error>,
    /// The outcome of the cache lookup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'a str>,
}

/// Codes with their counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codes<'a>(pub &'a [(&'static str, u32)]);

impl Codes<'_> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Codes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().copied())
    }
}

/// A call to Azure, for the level `debug`.
#[derive(Debug, Serialize)]
pub struct CallLine<'a> {
    /// The time, in seconds since 1970-01-01T00:00:00Z.
    #[serde(serialize_with = "date")]
    pub time: u64,
    pub level: Level,
    /// The id of the caller's trace, or a random one.
    pub request: &'a str,
    /// `vault`, `signing-keys`, or the name of the token source.
    pub call: &'a str,
    /// The status of the answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Writes a line as JSON, with the `duration` of what it describes in milliseconds.
///
/// Serde would write that as a floating-point number, which would be 3 KiB of code.
pub fn render(line: &impl Serialize, duration: Duration) -> String {
    let Ok(mut text) = serde_json::to_string(line) else { return String::new() };
    let hundredths = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).saturating_add(5) / 10;
    let (whole, fraction) = (hundredths / 100, hundredths % 100);
    let digit = |number: u64| char::from(b'0'.saturating_add(number as u8));
    text.pop();
    text.push_str(",\"ms\":");
    text.push_str(&whole.to_string());
    text.push('.');
    text.push(digit(fraction / 10));
    if fraction % 10 > 0 {
        text.push(digit(fraction % 10));
    }
    text.push('}');
    text
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn date<S: Serializer>(unix_time: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&DateTime::at(*unix_time).to_rfc_3339())
}

fn text<S: Serializer>(error: &Option<&Error>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&DisplayOrNothing(*error))
}

struct DisplayOrNothing<'a>(Option<&'a Error>);

impl fmt::Display for DisplayOrNothing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |error| error.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_lines_as_json() {
        let line = Line {
            time: 1_735_689_599,
            level: Level::Info,
            request: "0af7651916cd43dd8448eb211c80319c",
            caller: Some("billing"),
            secret: Some("db-password"),
            status: 200,
            code: "OK",
            codes: Codes(&[]),
            stale: 0,
            cause: None,
            unused: &[],
            cache: Some("miss"),
            upstream: 2,
        };
        assert_eq!(
            render(&line, Duration::from_micros(12_345)),
            concat!(
                r#"{"time":"2024-12-31T23:59:59Z","level":"info","#,
                r#""request":"0af7651916cd43dd8448eb211c80319c","#,
                r#""caller":"billing","secret":"db-password","status":200,"code":"OK","cache":"miss","#,
                r#""upstream":2,"ms":12.35}"#
            )
        );
        let line = Line {
            level: Level::Error,
            caller: None,
            secret: None,
            status: 502,
            code: "VaultError",
            cause: Some(&Error::VaultRefused(418, None)),
            cache: None,
            ..line
        };
        assert_eq!(
            render(&line, Duration::from_micros(12_345)),
            concat!(
                r#"{"time":"2024-12-31T23:59:59Z","level":"error","#,
                r#""request":"0af7651916cd43dd8448eb211c80319c","#,
                r#""status":502,"code":"VaultError","cause":"the vault refused (status 418)","#,
                r#""upstream":2,"ms":12.35}"#
            )
        );
    }

    #[test]
    fn writes_milliseconds_with_up_to_two_decimals() {
        for (nanoseconds, text) in [
            (0, "0.0"),
            (4_999, "0.0"),
            (5_000, "0.01"),
            (99_000, "0.1"),
            (100_000, "0.1"),
            (1_234_567, "1.23"),
            (12_345_000, "12.35"),
            (9_999_996_000, "10000.0"),
        ] {
            let line = render(&Level::Info, Duration::from_nanos(nanoseconds));
            assert_eq!(line, format!(r#""info,"ms":{text}}}"#), "{nanoseconds}");
        }
    }
}
