//! Where the core meets a host: thin, alike, and without decisions.

#[cfg(all(feature = "proxy", feature = "service"))]
compile_error!("choose one of the features `proxy` and `service`: Spin refuses a component with both worlds");

#[cfg(not(any(feature = "proxy", feature = "service")))]
compile_error!("choose one of the features `proxy` and `service`");

#[cfg(feature = "proxy")]
mod p2;

#[cfg(feature = "service")]
mod p3;

mod component_api;

#[cfg(feature = "spin")]
mod spin;

use std::env::{self, VarError};
use std::io::Write as _;
use std::time::Duration;
use std::time::SystemTime;

use crate::env::Unreadable;
use crate::host::KeyValue;
use crate::http::headers::Headers;

/// The key-value stores of Spin, if this is a build for Spin. No other host has any.
#[cfg(feature = "spin")]
fn key_value() -> Option<&'static dyn KeyValue> {
    Some(&spin::SpinStores)
}

#[cfg(not(feature = "spin"))]
const fn key_value() -> Option<&'static dyn KeyValue> {
    None
}

/// The text of a setting: a Spin variable, if this is a build for Spin, or else an environment variable.
fn setting(name: &'static str) -> Result<Option<String>, Unreadable> {
    #[cfg(feature = "spin")]
    if let Some(text) = spin::variable(name)? {
        return Ok(Some(text));
    }
    match env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Unreadable),
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

/// Writes a line to standard error. A host that does not take it loses the line, not the request.
fn log(line: &str) {
    // In one piece, so that no other instance's line comes in between.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The header fields of an answer and the length of its `body`, in the form in which a host takes all of them at once.
fn with_length(mut fields: Headers, body: &[u8]) -> Headers {
    fields.add("content-length", body.len().to_string());
    fields
}

/// How many bytes the body of a request has, if its client says so. A host has to hold it to that
/// (RFC 9112, section 6.3); those that are tested do.
fn length(fields: &Headers) -> Option<usize> {
    let mut lengths = fields.all("content-length");
    match (lengths.next(), lengths.next()) {
        // Of a body in chunks it would say nothing.
        (Some(length), None) if !fields.has("transfer-encoding") => length?.parse().ok(),
        _ => None,
    }
}

/// What a host is told to wait at the most for a part of a call that may take `limit`. That is a little longer, so that
/// our clock ends the call: what the host calls a timeout before that is one of its own making, and a lost call.
fn host_timeout(limit: Duration) -> u64 {
    nanoseconds(limit.saturating_add(Duration::from_secs(1)))
}

/// How long the other side may take to take a body. Under WASI 0.2 the instance serves nobody else in the meantime.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
