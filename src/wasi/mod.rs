//! Where the core meets a host: the bindings are thin, alike, and decide nothing.

#[cfg(all(feature = "proxy", feature = "service"))]
compile_error!("choose one of the features `proxy` and `service`: Spin refuses a component with both worlds");

#[cfg(not(any(feature = "proxy", feature = "service")))]
compile_error!("choose one of the features `proxy` and `service`");

mod component_api;
mod http_types;

#[cfg(feature = "proxy")]
mod p2;

#[cfg(feature = "service")]
mod p3;

#[cfg(feature = "spin")]
mod spin;

#[cfg(feature = "proxy")]
use {::wasi as bindings, p2 as binding};

#[cfg(feature = "service")]
use {p3 as binding, wasip3 as bindings};

use std::env::{self, VarError};
use std::future::Future;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use bindings::clocks::monotonic_clock;
use bindings::random::random::get_random_u64;

use crate::azure::{Answer, Call, CallError};
use crate::env::{Setting, Unreadable};
#[cfg(feature = "federated")]
use crate::error::TokenFileError;
use crate::host::{Host, KeyValue, Signal};
use crate::model::Moment;
#[cfg(feature = "federated")]
use crate::model::Redacted;

/// The host of a component.
struct Wasi;

impl Host for Wasi {
    /// Reads Spin variables, if this is a build for Spin, and for those that are not set environment
    /// variables.
    async fn settings(&self, names: &[&'static str]) -> Vec<Setting> {
        #[cfg(feature = "spin")]
        let spin_variables = spin::variables(names).await;
        #[cfg(not(feature = "spin"))]
        let spin_variables = names.iter().map(|_| Ok(None));
        let setting = |(variable, name): (Setting, &&str)| match variable {
            Ok(None) => environment_variable(name),
            set => set,
        };
        spin_variables.into_iter().zip(names).map(setting).collect()
    }

    fn now(&self) -> Moment {
        now()
    }

    fn unix_time(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    fn random(&self) -> u64 {
        get_random_u64()
    }

    /// Writes a line to standard error. A host that does not take it loses the line, not the request.
    fn log(&self, line: &str) {
        // In one piece, so that no other instance's line comes in between.
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }

    /// The key-value stores of Spin. No other host has any.
    fn key_value(&self) -> Option<&dyn KeyValue> {
        #[cfg(feature = "spin")]
        return Some(&spin::SpinStores);
        #[cfg(not(feature = "spin"))]
        return None;
    }

    fn has_reader(&self) -> bool {
        cfg!(feature = "federated")
    }

    #[cfg(feature = "federated")]
    fn read_token_file(&self, path: &str) -> Result<Redacted, TokenFileError> {
        use component_api::reader::{Error, read};
        read(path).map(Redacted::new).map_err(|error| match error {
            Error::InvalidName => TokenFileError::InvalidName,
            Error::NoDirectory => TokenFileError::NoDirectory,
            Error::NotFound => TokenFileError::NotFound,
            Error::NotPermitted => TokenFileError::NotPermitted,
            Error::Empty => TokenFileError::Empty,
            Error::TooLarge => TokenFileError::TooLarge,
            Error::NotAToken => TokenFileError::NotAToken,
            Error::Failed => TokenFileError::Failed,
        })
    }

    fn send(&self, call: Call, limit: Duration) -> impl Future<Output = Result<Answer, CallError>> {
        binding::send(call, limit)
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> {
        binding::sleep(time)
    }

    fn signal(&self) -> (Signal, impl Future<Output = ()>) {
        binding::signal()
    }
}

fn environment_variable(name: &str) -> Setting {
    match env::var(name) {
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(Unreadable),
    }
}

fn now() -> Moment {
    Moment::after_start(Duration::from_nanos(monotonic_clock::now()))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How long the other side may take to take a body. Under WASI 0.2 the instance answers no other request
/// meanwhile.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
