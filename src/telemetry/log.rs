//! One line of JSON for each request: what was asked by whom, and what came of it. Never a value, a key or a body.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::Error;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Requests that failed for a reason that is ours or Azure's.
    Error,
    /// Every request.
    Info,
    /// Every request, and every call to Azure.
    Debug,
}

/// What is known of a request when it has been answered.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// Seconds since 1970-01-01T00:00:00Z.
    #[serde(serialize_with = "date")]
    pub time: u64,
    /// `error` where the status is 500 or more, else `info`.
    pub level: Level,
    /// The id of the caller's trace, or a random one.
    pub request: &'a str,
    /// The caller's name, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<&'a str>,
    /// The secret's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// The code of the answer.
    pub code: &'a str,
    /// What went wrong, in words of ours.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub cause: Option<&'a Error>,
    /// The variables of other token sources that were set and not used, where that may be the reason.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unused: &'a [&'a str],
    /// How the secret came to be in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'a str>,
    /// How many calls to Azure it took.
    pub upstream: u32,
    /// How long it took, in milliseconds.
    #[serde(rename = "ms", serialize_with = "milliseconds")]
    pub duration: Duration,
}

/// A call to Azure, for the level `debug`.
#[derive(Debug, Serialize)]
pub struct CallLine<'a> {
    /// Seconds since 1970-01-01T00:00:00Z.
    #[serde(serialize_with = "date")]
    pub time: u64,
    /// `debug`.
    pub level: Level,
    /// The id of the caller's trace, or a random one.
    pub request: &'a str,
    /// `vault`, `signing-keys`, or the name of the token source.
    pub call: &'a str,
    /// The status of the answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    #[serde(rename = "ms", serialize_with = "milliseconds")]
    pub duration: Duration,
}

/// Writes a line as JSON.
pub fn render(line: &impl Serialize) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

fn date<S: Serializer>(unix_time: &u64, to: S) -> Result<S::Ok, S::Error> {
    let date = i64::try_from(*unix_time).ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    to.serialize_str(&date.and_then(|it| it.format(&Rfc3339).ok()).unwrap_or_default())
}

fn text<S: Serializer>(error: &Option<&Error>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&DisplayOrNothing(*error))
}

fn milliseconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((duration.as_secs_f64() * 100_000.0).round() / 100.0)
}

struct DisplayOrNothing<'a>(Option<&'a Error>);

impl fmt::Display for DisplayOrNothing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |it| it.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = Line {
            time: 1_735_689_599,
            level: Level::Info,
            request: "0af7651916cd43dd8448eb211c80319c",
            caller: Some("billing"),
            secret: Some("db-password"),
            status: 200,
            code: "OK",
            cause: None,
            unused: &[],
            cache: Some("miss"),
            upstream: 2,
            duration: Duration::from_micros(12_345),
        };
        assert_eq!(
            render(&line),
            r#"{"time":"2024-12-31T23:59:59Z","level":"info","request":"0af7651916cd43dd8448eb211c80319c","caller":"billing","secret":"db-password","status":200,"code":"OK","cache":"miss","upstream":2,"ms":12.35}"#
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
            render(&line),
            r#"{"time":"2024-12-31T23:59:59Z","level":"error","request":"0af7651916cd43dd8448eb211c80319c","status":502,"code":"VaultError","cause":"the vault refused (status 418)","upstream":2,"ms":12.35}"#
        );
    }
}
