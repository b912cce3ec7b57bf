//! The members of a reply: those of one secret, and the list of several.

use http::StatusCode;
use serde::Serialize;

use super::{Count, Reply, explain, retry_after};
use crate::error::Error;
use crate::json::Texts;
use crate::model::{DateTime, Details, Secret};

/// A secret in a reply, or why it is not there.
#[derive(Serialize)]
pub struct Entry<'a> {
    /// The name, as the request has it.
    #[serde(rename = "Secret")]
    name: &'a str,
    #[serde(rename = "Value", skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(rename = "Details", skip_serializing_if = "Option::is_none")]
    details: Option<Shown<'a>>,
    #[serde(rename = "Error", skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
    #[serde(skip)]
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Problem {
    code: &'static str,
    message: std::borrow::Cow<'static, str>,
}

/// Details as callers see them: what Key Vault does not say is left out.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    tags: Texts<'a>,
}

impl<'a> Entry<'a> {
    /// A secret under the `name` that the request has, and with its details if they are asked for.
    pub fn of_secret(name: &'a str, secret: &'a Secret, details: bool) -> Self {
        let value = Some(secret.value.expose().as_str());
        let details = details.then(|| Shown::new(secret.version.as_str(), &secret.details));
        Self { name, value, details, error: None, retry_after: None }
    }

    /// What is in place of a secret.
    pub fn of_error(name: &'a str, error: &Error) -> Self {
        let (_, code, message) = explain(error);
        let retry_after = retry_after(error);
        Self { name, value: None, details: None, error: Some(Problem { code, message }), retry_after }
    }

    /// The size of the entry in the reply, in bytes.
    pub fn bytes(&self) -> usize {
        let mut size = Count(0);
        serde_json::to_writer(&mut size, self).map_or(usize::MAX, |()| size.0)
    }

    /// The code of the entry: that of its error, or [`Reply::OK`].
    pub fn code(&self) -> &'static str {
        self.error.as_ref().map_or(Reply::OK, |error| error.code)
    }
}

impl<'a> Shown<'a> {
    fn new(version: &'a str, details: &'a Details) -> Self {
        let date = |time: Option<u64>| time.map(|time| DateTime::at(time).to_rfc_3339());
        Self {
            version,
            content_type: details.content_type.as_deref(),
            created: date(details.created),
            updated: date(details.updated),
            not_before: date(details.not_before),
            expires: date(details.expires),
            enabled: details.enabled,
            tags: Texts(&details.tags),
        }
    }
}

impl Reply {
    /// The reply with several secrets. A client may try those again that had no chance after the longest
    /// `Retry-After` of them.
    pub fn secrets(entries: &[Entry<'_>]) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Whole<'a> {
            secrets: &'a [Entry<'a>],
        }
        let mut reply = Self::json(StatusCode::OK, Self::OK, &Whole { secrets: entries });
        if let Some(seconds) = entries.iter().filter_map(|entry| entry.retry_after).max() {
            reply.headers.add("retry-after", seconds.to_string());
        }
        reply
    }
}
