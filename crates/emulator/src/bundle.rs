//! The JSON of secrets: bundles, items and pages of lists.
//!
//! Source: the REST specification, `Secrets/stable/2025-07-01/secrets.json`, and the SDKs' recordings.

use serde_json::{Value, json};

use crate::refusal::{VaultError, bad_parameter};
use crate::request::Request;
use crate::store::{Secret, Version};

/// Writes a `SecretBundle` with its value. `base` is the vault's address without a slash at the end.
pub(crate) fn with_value(base: &str, secret: &Secret, version: &Version) -> Value {
    let mut bundle = version_item(base, &secret.name, version);
    bundle["value"] = version.value.as_str().into();
    bundle
}

/// Writes a version without its value: `SecretItem` in a list of versions, `SecretBundle` after an update.
pub(crate) fn version_item(base: &str, name: &str, version: &Version) -> Value {
    describe(&format!("{base}/secrets/{name}/{}", version.id), version)
}

/// Writes a `SecretItem` of a list of secrets: the id of the secret, the attributes of its newest version.
pub(crate) fn item(base: &str, secret: &Secret) -> Value {
    describe(&format!("{base}/secrets/{}", secret.name), secret.latest())
}

/// Writes a `SecretListResult`: the page that `maxresults` and `$skiptoken` select from items in the order of
/// their keys.
///
/// A page starts after the last key of the page before, even if that item was deleted: clients delete items
/// between pages. A full page has a `nextLink`, even if no items follow, with port 443, as in recordings.
pub(crate) fn page(
    request: &Request,
    is_key: fn(&str) -> bool,
    items: impl Iterator<Item = (String, Value)>,
) -> Result<Value, VaultError> {
    let size = request.parameter("maxresults").map_or(Some(MAX_PAGE_SIZE), |text| text.parse().ok());
    let size = size.filter(|size| (1..=MAX_PAGE_SIZE).contains(size));
    let size =
        size.ok_or_else(|| bad_parameter(format!("maxresults must be between 1 and {MAX_PAGE_SIZE}")))?;
    let after = request.parameter("$skiptoken").map(str::to_ascii_lowercase);
    if after.as_deref().is_some_and(|key| !is_key(key)) {
        return Err(bad_parameter("The $skiptoken is not valid."));
    }
    let rest = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
    let (keys, values): (Vec<String>, Vec<Value>) = rest.take(size).unzip();
    let next = keys.last().filter(|_| keys.len() == size).map(|key| next_link(request, size, key));
    Ok(json!({"value": values, "nextLink": next}))
}

/// Returns the sort key of the version with this index.
pub(crate) fn version_key(number: usize) -> String {
    format!("{number:0VERSION_KEY_DIGITS$}")
}

pub(crate) fn is_version_key(text: &str) -> bool {
    text.len() == VERSION_KEY_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn next_link(request: &Request, size: usize, key: &str) -> String {
    let port = if request.scheme == "https" && !request.authority.contains(':') { ":443" } else { "" };
    let version = request.parameter("api-version").unwrap_or_default();
    format!(
        "{}://{}{port}{}?api-version={version}&$skiptoken={key}&maxresults={size}",
        request.scheme, request.authority, request.path,
    )
}

/// Writes the id, the attributes, the content type and the tags of a version.
fn describe(id: &str, version: &Version) -> Value {
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
    if let Some(content_type) = &version.content_type {
        item["contentType"] = content_type.as_str().into();
    }
    if !version.tags.is_empty() {
        item["tags"] = json!(version.tags);
    }
    item
}

/// Writes a `DeletedSecretBundle` of a version, or a `DeletedSecretItem` of an item.
pub(crate) fn deleted(base: &str, secret: &Secret, mut item: Value) -> Value {
    let deleted = secret.deleted.unwrap_or_default();
    item["recoveryId"] = format!("{base}/deletedsecrets/{}", secret.name).into();
    item["deletedDate"] = deleted.into();
    item["scheduledPurgeDate"] = (deleted + RECOVERABLE_DAYS * 24 * 60 * 60).into();
    item
}

/// The maximum and the default of `maxresults`, from the specification.
const MAX_PAGE_SIZE: usize = 25;

/// The number of digits of a version's sort key: enough for more versions than fit into memory.
const VERSION_KEY_DIGITS: usize = 10;

/// The days in which a deleted secret can be recovered: the default of a vault.
const RECOVERABLE_DAYS: i64 = 90;
