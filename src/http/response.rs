//! Replies to callers: the one place that turns a value or an error into an answer.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use zeroize::Zeroizing;

pub mod entry;

use crate::error::{Error, FailureKind, Service, TokenRefusal};
use crate::http::cache_status::CacheStatus;
use crate::http::headers::Headers;
use crate::model::{Redacted, Secret, SecretName};
use entry::Entry;

/// The reply to a caller. It is made from a value or from an [`Error`], never from text of Azure or of a
/// host.
///
/// ```
/// # use keyvault_gateway::{error::Error, http::response::Reply, model::{Secret, SecretName}};
/// fn replies(name: &SecretName, secret: &Secret, error: &Error) -> [Reply; 2] {
///     [Reply::secret(name, secret, std::time::Duration::ZERO, false), Reply::error(error)]
/// }
/// ```
///
/// Its texts are constants of this crate. Other crates cannot make a reply with another text:
///
/// ```compile_fail,E0624
/// # use keyvault_gateway::http::response::Reply;
/// fn problem(text: &str) -> Reply { Reply::problem(http::StatusCode::BAD_GATEWAY, "VaultError", text) }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::http::response::Reply;
/// fn text(text: String) -> Reply {
///     Reply::new(http::StatusCode::BAD_GATEWAY, "VaultError", "text/plain", text.into_bytes())
/// }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::http::response::Reply;
/// fn document(text: &'static str) -> Reply { Reply::document("text/plain", text) }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::{http::response::Reply, model::Redacted};
/// fn body(mut reply: Reply) { reply.body = Redacted::new(b"text".to_vec()) }
/// ```
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: Headers,
    body: Redacted<Vec<u8>>,
    code: &'static str,
}

impl Reply {
    /// The code of a reply that is not an error.
    pub const OK: &'static str = "OK";

    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers, without those about the transfer.
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The body, which may hold a secret.
    pub const fn body(&self) -> &Redacted<Vec<u8>> {
        &self.body
    }

    /// The code for the log and the metrics: that of the error, or [`OK`](Self::OK).
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The reply with a secret, and with its details if they are asked for.
    pub fn secret(name: &SecretName, secret: &Secret, age: Duration, details: bool) -> Self {
        let (name, value) = (name.as_str(), secret.value.expose().as_str());
        let mut reply = if secret.is_plain() && !details {
            // The same text as by serialization, at a tenth of the cost. The size is exact, so the buffer
            // never moves.
            let body = ["{\"Secret\":\"", name, "\",\"Value\":\"", value, "\"}"].concat();
            Self::new(StatusCode::OK, Self::OK, JSON, body.into_bytes())
        } else {
            Self::json(StatusCode::OK, Self::OK, &Entry::of_secret(name, secret, details))
        };
        reply.headers.add("etag", ["\"", secret.version.as_str(), "\""].concat());
        reply.headers.add("age", age.as_secs().to_string());
        reply
    }

    /// Adds the `Cache-Status` header.
    pub fn add_cache_status(&mut self, status: CacheStatus) {
        self.headers.add("cache-status", status.field());
    }

    /// The reply to a request that failed: a status, a code, and a message of our own.
    pub fn error(error: &Error) -> Self {
        let (status, code, message) = explain(error);
        let mut reply = Self::problem(status, code, &message);
        match error {
            Error::WrongMethod(allow) => {
                reply.headers.add("allow", *allow);
            }
            Error::NotAuthenticated(_) => {
                reply.headers.add("www-authenticate", CHALLENGE);
            }
            _ => {}
        }
        if let Some(seconds) = retry_after(error) {
            reply.headers.add("retry-after", seconds.to_string());
        }
        reply
    }

    /// The reply of a component that is not ready because of `error`. `unused` are the variables that are set
    /// and not used, where that may be the reason.
    pub fn not_ready(error: &Error, unused: &[&'static str]) -> Self {
        let mut reply = Self::error(error);
        if !unused.is_empty() {
            let (_, code, message) = explain(error);
            let message = format!("{message} Set and not used: {}.", unused.join(", "));
            reply.body = Self::problem(reply.status, code, &message).body;
        }
        reply.status = StatusCode::SERVICE_UNAVAILABLE;
        if !reply.headers.has("retry-after") {
            reply.add_retry_after(None);
        }
        reply
    }

    /// The reply of a health or readiness check that passed.
    pub fn state(state: &'static str) -> Self {
        #[derive(Serialize)]
        struct State {
            status: &'static str,
        }
        Self::json(StatusCode::OK, Self::OK, &State { status: state })
    }

    pub(crate) fn document(media_type: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self::new(StatusCode::OK, Self::OK, media_type, text.into())
    }

    fn problem(status: StatusCode, code: &'static str, message: &str) -> Self {
        #[derive(Serialize)]
        struct Problem<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            code: &'static str,
            message: &'a str,
        }
        Self::json(status, code, &Problem { error: Inner { code, message } })
    }

    fn json(status: StatusCode, code: &'static str, content: &impl Serialize) -> Self {
        // The size is counted first, so that a buffer with a secret never moves and leaves no copy behind.
        let mut size = Count(0);
        let counted = serde_json::to_writer(&mut size, content);
        let mut body = Zeroizing::new(Vec::with_capacity(size.0));
        match counted.and_then(|()| serde_json::to_writer(&mut *body, content)) {
            Ok(()) => Self::new(status, code, JSON, std::mem::take(&mut *body)),
            Err(_) => Self::internal_error(),
        }
    }

    /// The reply to an internal error, which should be impossible.
    pub fn internal_error() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", JSON, INTERNAL_ERROR.into())
    }

    /// The reply of a host that cannot give the request to an instance at the moment.
    pub fn unavailable() -> Self {
        let message = "The gateway cannot take the request at the moment.";
        let mut reply = Self::problem(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message);
        reply.add_retry_after(None);
        reply
    }

    /// The reply to a request without one valid `Host` (RFC 9112, section 3.2).
    pub fn invalid_host() -> Self {
        Self::problem(StatusCode::BAD_REQUEST, "BadRequest", "The request must have one valid Host field.")
    }

    fn new(status: StatusCode, code: &'static str, media_type: &'static str, body: Vec<u8>) -> Self {
        let mut headers = Headers::new();
        headers.add("content-type", media_type);
        headers.add("cache-control", "no-store");
        headers.add("x-content-type-options", "nosniff");
        Self { status, headers, body: Redacted::new(body), code }
    }

    fn add_retry_after(&mut self, retry_after: Option<Duration>) {
        self.headers.add("retry-after", retry_after_seconds(retry_after).to_string());
    }

    /// The reply for a server of the `http` crate.
    pub fn into_http(self) -> http::Response<Vec<u8>> {
        let mut response = http::Response::new(self.body.expose().clone());
        *response.status_mut() = self.status;
        for (name, value) in self.headers.as_list() {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }

    /// The status, the headers and the body, to be sent.
    pub fn into_parts(self) -> (StatusCode, Headers, Redacted<Vec<u8>>) {
        (self.status, self.headers, self.body)
    }
}

/// The seconds of `Retry-After` for an error that has one.
fn retry_after(error: &Error) -> Option<u64> {
    let wait = match error {
        Error::Upstream { retry_after, .. } | Error::TokenNotAccepted { retry_after, .. } => *retry_after,
        Error::TooManyFailures(wait) | Error::BudgetSpent(wait) => Some(*wait),
        Error::CallNotAllowed | Error::TokenSourceAbsent(_) => None,
        _ => return None,
    };
    Some(retry_after_seconds(wait))
}

/// The seconds of `Retry-After`, where Azure has sent `retry_after`, or none.
pub(crate) fn retry_after_seconds(retry_after: Option<Duration>) -> u64 {
    let wait = retry_after.unwrap_or(DEFAULT_RETRY_AFTER).clamp(DEFAULT_RETRY_AFTER, MAX_RETRY_AFTER);
    // Round up to whole seconds.
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// The status, the code and the message for `error`. All messages to callers are here, except the end of the
/// one about a setting, which is where the setting is parsed.
fn explain(error: &Error) -> (StatusCode, &'static str, Cow<'static, str>) {
    const BAD_REQUEST: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "BadRequest");
    const FORBIDDEN: (StatusCode, &str) = (StatusCode::FORBIDDEN, "Forbidden");
    const IDENTITY_ERROR: (StatusCode, &str) = (StatusCode::BAD_GATEWAY, "IdentityError");
    const VAULT_ERROR: (StatusCode, &str) = (StatusCode::BAD_GATEWAY, "VaultError");
    const UNAVAILABLE: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "Unavailable");

    let ((status, code), message): ((StatusCode, &'static str), &'static str) = match error {
        Error::NoRoute => ((StatusCode::NOT_FOUND, "NotFound"), "There is no such path."),
        Error::WrongMethod(_) => {
            ((StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"), "This path does not support this method.")
        }
        Error::HeadersTooLarge => (
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "RequestHeaderFieldsTooLarge"),
            "The header fields of the request are too large.",
        ),
        Error::NotJson => (
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            "The request must have a Content-Type of application/json and no Content-Encoding.",
        ),
        Error::NotUtf8 => (
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            "The request must be JSON in UTF-8, and its Content-Type names another charset.",
        ),
        Error::BodyTooLarge => {
            ((StatusCode::PAYLOAD_TOO_LARGE, "ContentTooLarge"), "The body of the request is too large.")
        }
        Error::BodyLost => (BAD_REQUEST, "The body of the request did not arrive whole."),
        Error::NotAnObject => (BAD_REQUEST, "The body of the request is not a JSON object."),
        Error::NoValidSecret => (BAD_REQUEST, "Request does not contain a valid Secret."),
        Error::NoValidVersion => (BAD_REQUEST, "Request does not contain a valid Version."),
        Error::NoValidDetails => (BAD_REQUEST, "Request does not contain a valid Details."),
        Error::NoValidSecrets => {
            (BAD_REQUEST, "Request does not contain a valid list Secrets of 1 to 50 secrets.")
        }
        Error::CameThroughProxy => (FORBIDDEN, "The gateway refuses requests that came through a proxy."),
        Error::NotAuthenticated(_) => {
            ((StatusCode::UNAUTHORIZED, "Unauthorized"), "The request has no valid key and no valid token.")
        }
        Error::TooManyFailures(_) => (
            (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            "Too many requests have had no valid key and no valid token.",
        ),
        Error::ForeignName => {
            (FORBIDDEN, "Requests without a key are answered only under the gateway's own names.")
        }
        Error::BudgetSpent(_) => (
            (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            "This caller has caused too many calls to Key Vault.",
        ),
        Error::OutOfScope => (FORBIDDEN, "This caller may not read this secret."),
        Error::NoRoom => (
            (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge"),
            "The value does not fit into this answer. Request it in another one.",
        ),
        Error::Setting(error) => {
            let message = format!("The setting {} {}.", error.name, error.should);
            return (StatusCode::INTERNAL_SERVER_ERROR, "ConfigurationError", message.into());
        }
        Error::TokenSourceRefused { reason, .. } => (
            IDENTITY_ERROR,
            match reason {
                TokenRefusal::NoSuchIdentity => "The token source knows no such managed identity.",
                TokenRefusal::SeveralIdentities => {
                    "The token source has several managed identities, and none is chosen."
                }
                TokenRefusal::Audience => "The token source does not know the audience.",
                TokenRefusal::Credential => "The token source does not accept the gateway's credential.",
                TokenRefusal::Tenant => "The token source does not know the tenant.",
                TokenRefusal::Application => "The token source knows no such application, or it is disabled.",
                TokenRefusal::Policy => "A policy of the tenant forbids the gateway to sign in.",
                TokenRefusal::Trust => "Entra ID does not trust the gateway's assertion.",
                TokenRefusal::Assertion => "Entra ID does not accept the gateway's assertion.",
                TokenRefusal::Other => "The token source refused to give a token.",
            },
        ),
        Error::TokenFile(_) => (IDENTITY_ERROR, "The gateway cannot read the file with its token."),
        Error::TokenSourceAbsent(_) => (UNAVAILABLE, "There is no metadata service where the gateway runs."),
        Error::TokenSourceUnusable => {
            (IDENTITY_ERROR, "The token source gave an answer that cannot be used.")
        }
        Error::JwksUnusable => (IDENTITY_ERROR, "The JWKS endpoint gave an answer that cannot be used."),
        Error::IssuerUnusable => {
            (IDENTITY_ERROR, "The issuer of the token has a configuration that cannot be used.")
        }
        Error::SecretNotFound(name, version) => {
            let version =
                version.as_ref().map_or_else(String::new, |version| format!("/{}", version.as_str()));
            let message = format!("A secret with (name/id) {name}{version} was not found in this key vault.");
            return (StatusCode::NOT_FOUND, "SecretNotFound", message.into());
        }
        Error::SecretDisabled => ((StatusCode::FORBIDDEN, "SecretDisabled"), "The secret is disabled."),
        Error::VaultDenied(..) => (
            (StatusCode::FORBIDDEN, "VaultAccessDenied"),
            "Key Vault does not let this gateway read the secret.",
        ),
        Error::TokenRefused(..) => (VAULT_ERROR, "Key Vault does not accept the gateway's token."),
        Error::TokenNotAccepted { .. } => {
            (UNAVAILABLE, "Key Vault does not accept the gateway's token at the moment.")
        }
        Error::VaultRefused(..) => (VAULT_ERROR, "Key Vault refused the request."),
        Error::VaultUnusable => (VAULT_ERROR, "Key Vault gave an answer that cannot be used."),
        Error::Upstream { service, kind: FailureKind::Throttled, .. } => {
            let (code, message) = match service {
                Service::TokenSource => ("IdentityThrottled", "The token source received too many requests."),
                Service::Jwks => ("IdentityThrottled", "The JWKS endpoint received too many requests."),
                Service::Vault => ("VaultThrottled", "Key Vault received too many requests."),
            };
            ((StatusCode::SERVICE_UNAVAILABLE, code), message)
        }
        Error::Upstream { service, .. } => (
            UNAVAILABLE,
            match service {
                Service::TokenSource => "The token source is not available.",
                Service::Jwks => "The JWKS endpoint is not available.",
                Service::Vault => "Key Vault is not available.",
            },
        ),
        Error::CallNotAllowed => (UNAVAILABLE, "The gateway's host does not let it call Azure."),
        Error::DeadlineExceeded => {
            ((StatusCode::GATEWAY_TIMEOUT, "Timeout"), "The request could not be answered in time.")
        }
    };
    (status, code, message.into())
}

/// Counts the bytes that are written.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const JSON: &str = "application/json; charset=utf-8";

/// A 401 must say how to authenticate (RFC 9110, section 11.6.1): with a key, as with Azure Functions, or
/// with a token (RFC 6750, section 3).
const CHALLENGE: &str = "FunctionsKey realm=\"keyvault-gateway\", Bearer realm=\"keyvault-gateway\"";

/// The `Retry-After` where Azure sends none. Key Vault's guide has clients wait one second at first
/// (Microsoft, "Azure Key Vault throttling guidance").
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest `Retry-After`. A longer one is more likely a mistake than a plan.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

const INTERNAL_ERROR: &str =
    "{\"error\":{\"code\":\"InternalError\",\"message\":\"An internal error occurred.\"}}";
