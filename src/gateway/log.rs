//! Writes the log lines of requests and of items.

use std::time::Duration;

use http::StatusCode;

use super::Gateway;
use super::batch::Items;
use crate::auth::Caller;
use crate::error::Error;
use crate::host::Host;
use crate::http::cache_status::{CacheOutcome, CacheStatus};
use crate::http::response::Reply;
use crate::model::SecretName;
use crate::telemetry::context::RequestContext;
use crate::telemetry::log::{self, Codes, Level};

impl<H: Host> Gateway<H> {
    /// The variables that are set and not used, where `error` is that there is no token.
    pub(super) fn unused(&self, error: Option<&Error>) -> &[&'static str] {
        match (self.config.get(), error) {
            (Some(config), Some(error))
                if error.is_about_token_source()
                    || (*error == Error::DeadlineExceeded && !self.has_token()) =>
            {
                config.token_source.unused()
            }
            _ => &[],
        }
    }

    /// Logs an answer, unless the settings want less than `level`.
    pub(super) fn log(
        &self,
        context: &RequestContext<'_>,
        level: Level,
        (status, code, items): (StatusCode, &'static str, &Items),
        cache_status: Option<CacheStatus>,
        error: Option<&Error>,
    ) {
        if level > self.config.get().map_or(Level::Info, |config| config.log) {
            return;
        }
        let line = log::Line {
            time: self.host.unix_time(),
            level,
            request: context.trace.id(|| self.host.random()),
            caller: context.caller.map(Caller::name),
            secret: context.secret.as_ref().map(SecretName::as_str),
            status: status.as_u16(),
            code,
            codes: Codes(&items.codes),
            stale: items.stale,
            cause: error,
            unused: self.unused(error),
            cache: cache_status.map(|status| status.outcome().name()),
            upstream: context.calls.total(),
        };
        self.host.log(&log::render(&line, self.host.now().since(context.start)));
    }

    /// Logs what became of one of several secrets, or of a read that no request waits for, unless the
    /// settings want less than `level`.
    pub(super) fn log_item(
        &self,
        context: &RequestContext<'_>,
        level: Level,
        secret: Option<&SecretName>,
        (item, cause, cache): (&'static str, Option<&Error>, Option<CacheOutcome>),
        duration: Duration,
    ) {
        if level > self.config.get().map_or(Level::Info, |config| config.log) {
            return;
        }
        let line = log::ItemLine {
            time: self.host.unix_time(),
            level,
            request: context.trace.id(|| self.host.random()),
            secret: secret.map(SecretName::as_str),
            item,
            cause,
            cache: cache.map(CacheOutcome::name),
        };
        self.host.log(&log::render(&line, duration));
    }
}

/// The level at which a response is logged.
pub(super) fn level_of(reply: &Reply) -> Level {
    if reply.status().is_server_error() { Level::Error } else { Level::Info }
}
