//! Secrets as Key Vault writes them down: bundles, items and pages.
//!
//! Source: the REST specification, `Secrets/stable/2025-07-01/secrets.json`, and the SDKs' recordings.

use serde_json::{Value, json};

use crate::refusal::{Refused, bad_parameter};
use crate::request::Ask;
use crate::store::{Secret, Version};

/// `SecretBundle`, with the value. `base` is the vault's address without a slash at its end.
pub(crate) fn whole(base: &str, secret: &Secret, version: &Version) -> Value {
    let mut bundle = version_item(base, &secret.name, version);
    bundle["value"] = version.value.as_str().into();
    bundle
}

/// A version without its value: `SecretItem` in a list of versions, `SecretBundle` after an update.
pub(crate) fn version_item(base: &str, name: &str, version: &Version) -> Value {
    described(&format!("{base}/secrets/{name}/{}", version.id), version)
}

/// `SecretItem` in a list of secrets: the newest version's attributes under the secret's own id.
pub(crate) fn item(base: &str, secret: &Secret) -> Value {
    described(&format!("{base}/secrets/{}", secret.name), secret.latest())
}

/// `SecretListResult`: the page of `items` that `maxresults` and `$skiptoken` ask for. The keys of the items are in lower
/// case and in order, and each is one as `is_key` says.
///
/// It goes on after the key that the last one ended with, whether that is still there or not: clients delete what they have
/// listed before they ask for more. A full page has a `nextLink` even if nothing follows, and the link names port 443, as
/// recordings have it.
pub(crate) fn page(
    ask: &Ask,
    is_key: fn(&str) -> bool,
    items: impl Iterator<Item = (String, Value)>,
) -> Result<Value, Refused> {
    let size = ask.parameter("maxresults").map_or(Some(LARGEST_PAGE), |text| text.parse().ok());
    let size = size.filter(|size| (1..=LARGEST_PAGE).contains(size));
    let size =
        size.ok_or_else(|| bad_parameter(format!("maxresults must be between 1 and {LARGEST_PAGE}")))?;
    let after = ask.parameter("$skiptoken").map(str::to_ascii_lowercase);
    if after.as_deref().is_some_and(|key| !is_key(key)) {
        return Err(bad_parameter("The $skiptoken is not valid."));
    }
    let rest = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
    let (keys, values): (Vec<String>, Vec<Value>) = rest.take(size).unzip();
    let next = keys.last().filter(|_| keys.len() == size).map(|key| next_link(ask, size, key));
    Ok(json!({"value": values, "nextLink": next}))
}

/// The key of the version that is the `number`th of its secret.
pub(crate) fn version_key(number: usize) -> String {
    format!("{number:0VERSION_KEY$}")
}

pub(crate) fn is_version_key(text: &str) -> bool {
    text.len() == VERSION_KEY && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn next_link(ask: &Ask, size: usize, key: &str) -> String {
    let port = if ask.scheme == "https" && !ask.authority.contains(':') { ":443" } else { "" };
    let version = ask.parameter("api-version").unwrap_or_default();
    format!(
        "{}://{}{port}{}?api-version={version}&$skiptoken={key}&maxresults={size}",
        ask.scheme, ask.authority, ask.path,
    )
}

fn described(id: &str, version: &Version) -> Value {
    let mut attributes = json!({
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": RECOVERABLE_DAYS,
    });
    for (name, time) in [("nbf", version.not_before), ("exp", version.expires)] {
        if let Some(time) = time {
            attributes[name] = time.into();
        }
    }
    let mut item = json!({"id": id, "attributes": attributes});
    if let Some(kind) = &version.content_type {
        item["contentType"] = kind.as_str().into();
    }
    if !version.tags.is_empty() {
        item["tags"] = json!(version.tags);
    }
    item
}

/// `DeletedSecretBundle` of a version, `DeletedSecretItem` of an item.
pub(crate) fn deleted(base: &str, secret: &Secret, mut item: Value) -> Value {
    let deleted = secret.deleted.unwrap_or_default();
    item["recoveryId"] = format!("{base}/deletedsecrets/{}", secret.name).into();
    item["deletedDate"] = deleted.into();
    item["scheduledPurgeDate"] = (deleted + RECOVERABLE_DAYS * 24 * 60 * 60).into();
    item
}

/// The most items on a page, and their number if the request has none: the specification's `maxresults`.
const LARGEST_PAGE: usize = 25;

/// Digits in the key of a version, so that keys are in the order of their numbers: more versions than memory holds.
const VERSION_KEY: usize = 10;

/// Days for which a deleted secret can be recovered, if the vault's owner has not chosen another number.
const RECOVERABLE_DAYS: i64 = 90;
