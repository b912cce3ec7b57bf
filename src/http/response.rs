//! What a caller may learn: the one place that turns a value or an error into an answer.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::{Error, FailureKind, Service, TokenRefusal};
use crate::http::cache_status::CacheStatus;
use crate::http::headers::Headers;
use crate::model::{Redacted, Secret, SecretName};

/// The answer to a caller. It is made from a value or from an [`Error`], never from what Azure or a host said.
///
/// ```
/// use keyvault_gateway::{error::Error, http::response::Reply, model::{Secret, SecretName}};
///
/// fn reply(asked: &SecretName, secret: &Secret, error: &Error) -> [Reply; 2] {
///     [Reply::secret(asked, secret, std::time::Duration::ZERO), Reply::error(error)]
/// }
/// ```
///
/// Its sentences are ours: other crates cannot give it another text.
///
/// ```compile_fail,E0624
/// fn problem(text: &str) -> keyvault_gateway::http::response::Reply { keyvault_gateway::http::response::Reply::problem(http::StatusCode::BAD_GATEWAY, "VaultError", text) }
/// ```
/// ```compile_fail,E0624
/// fn text(text: String) -> keyvault_gateway::http::response::Reply { keyvault_gateway::http::response::Reply::new(http::StatusCode::BAD_GATEWAY, "VaultError", "text/plain", text.into_bytes()) }
/// ```
/// ```compile_fail,E0624
/// fn document(text: &'static str) -> keyvault_gateway::http::response::Reply { keyvault_gateway::http::response::Reply::document("text/plain", text) }
/// ```
/// ```compile_fail,E0616
/// fn body(mut reply: keyvault_gateway::http::response::Reply) { reply.body = keyvault_gateway::model::Redacted::new(b"text".to_vec()) }
/// ```
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: Headers,
    body: Redacted<Vec<u8>>,
    code: &'static str,
}

impl Reply {
    /// The code of an answer that is no error.
    pub const OK: &'static str = "OK";

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields, without those about the transfer.
    pub const fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The body, which may hold a secret.
    pub const fn body(&self) -> &Redacted<Vec<u8>> {
        &self.body
    }

    /// The code of the error, or what else this is, for the log and the metrics.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The secret that was asked for.
    pub fn secret(asked: &SecretName, secret: &Secret, age: Duration) -> Self {
        #[derive(Serialize)]
        struct Answer<'a> {
            #[serde(rename = "Secret")]
            secret: &'a str,
            #[serde(rename = "Value")]
            value: &'a str,
        }
        let (asked, value) = (asked.as_str(), secret.value.expose().as_str());
        let mut reply = if secret.is_plain() {
            // What the other way comes to, at a tenth of its cost. The size is exact: the buffer never moves.
            let body = ["{\"Secret\":\"", asked, "\",\"Value\":\"", value, "\"}"].concat();
            Self::new(StatusCode::OK, Self::OK, JSON, body.into_bytes())
        } else {
            Self::json(StatusCode::OK, Self::OK, &Answer { secret: asked, value })
        };
        reply.headers.add("etag", ["\"", secret.version.as_str(), "\""].concat());
        reply.headers.add("age", age.as_secs().to_string());
        reply
    }

    /// Tells how it came about.
    pub fn add_cache_status(&mut self, status: CacheStatus) {
        self.headers.add("cache-status", status.field());
    }

    /// What a caller learns of `error`: a status, a code, and a sentence of our own.
    pub fn error(error: &Error) -> Self {
        let (status, code, message) = explain(error);
        let mut reply = Self::problem(status, code, &message);
        match error {
            Error::WrongMethod(allow) => {
                reply.headers.add("allow", *allow);
            }
            Error::NotAuthenticated => {
                reply.headers.add("www-authenticate", CHALLENGE);
            }
            Error::Upstream { retry_after: pause, .. }
            | Error::TokenNotAccepted { retry_after: pause, .. } => {
                reply.retry_after(*pause);
            }
            Error::TooManyFailures(pause) | Error::BudgetSpent(pause) => reply.retry_after(Some(*pause)),
            Error::CallNotAllowed | Error::TokenSourceAbsent(_) => reply.retry_after(None),
            _ => {}
        }
        reply
    }

    /// The component is not ready, for the reason of `error`; `unused` are variables that were set and not used, where that may be
    /// the reason.
    pub fn not_ready(error: &Error, unused: &[&'static str]) -> Self {
        let mut reply = Self::error(error);
        if !unused.is_empty() {
            let (_, code, message) = explain(error);
            let message = format!("{message} Set and not used: {}.", unused.join(", "));
            reply.body = Self::problem(reply.status, code, &message).body;
        }
        reply.status = StatusCode::SERVICE_UNAVAILABLE;
        if !reply.headers.has("retry-after") {
            reply.retry_after(None);
        }
        reply
    }

    /// The component is well.
    pub fn state(state: &'static str) -> Self {
        #[derive(Serialize)]
        struct State {
            status: &'static str,
        }
        Self::json(StatusCode::OK, Self::OK, &State { status: state })
    }

    /// A public document.
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
        // The size is counted first, so that a buffer that holds a secret never moves and leaves a copy behind.
        let mut size = Count(0);
        let counted = serde_json::to_writer(&mut size, content);
        let mut body = Zeroizing::new(Vec::with_capacity(size.0));
        match counted.and_then(|()| serde_json::to_writer(&mut *body, content)) {
            Ok(()) => Self::new(status, code, JSON, std::mem::take(&mut *body)),
            Err(_) => Self::internal_error(),
        }
    }

    /// The answer where there is none: something happened that cannot happen.
    pub fn internal_error() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", JSON, INTERNAL_ERROR.into())
    }

    fn new(status: StatusCode, code: &'static str, media_type: &'static str, body: Vec<u8>) -> Self {
        let mut headers = Headers::new();
        headers.add("content-type", media_type);
        headers.add("cache-control", "no-store");
        headers.add("x-content-type-options", "nosniff");
        Self { status, headers, body: Redacted::new(body), code }
    }

    fn retry_after(&mut self, pause: Option<Duration>) {
        self.headers.add("retry-after", pause_seconds(pause).to_string());
    }

    /// The status, the header fields and the body, on their way out.
    pub fn into_parts(self) -> (StatusCode, Headers, Redacted<Vec<u8>>) {
        (self.status, self.headers, self.body)
    }
}

/// After how many seconds it is worth to come back where Azure said `pause`, or nothing.
pub(crate) fn pause_seconds(pause: Option<Duration>) -> u64 {
    let pause = pause.unwrap_or(DEFAULT_PAUSE).clamp(DEFAULT_PAUSE, LONGEST_PAUSE);
    // A second that has begun is waited for to its end.
    pause.as_secs().saturating_add(u64::from(pause.subsec_nanos() > 0))
}

/// The status, the code and the message of `error`. Every sentence that a caller may see of an error is here; the end of
/// the one about a setting stands where the setting is read.
fn explain(error: &Error) -> (StatusCode, &'static str, Cow<'static, str>) {
    const BAD_REQUEST: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "BadRequest");
    const FORBIDDEN: (StatusCode, &str) = (StatusCode::FORBIDDEN, "Forbidden");
    const IDENTITY_ERROR: (StatusCode, &str) = (StatusCode::BAD_GATEWAY, "IdentityError");
    const VAULT_ERROR: (StatusCode, &str) = (StatusCode::BAD_GATEWAY, "VaultError");
    const UNAVAILABLE: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "Unavailable");

    let ((status, code), message): ((StatusCode, &'static str), &'static str) = match error {
        Error::NoRoute => ((StatusCode::NOT_FOUND, "NotFound"), "There is nothing at this path."),
        Error::WrongMethod(_) => {
            ((StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"), "This path does not answer this method.")
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
        Error::BodyTooLarge => (
            (StatusCode::PAYLOAD_TOO_LARGE, "ContentTooLarge"),
            "The body of the request is larger than 8 KiB.",
        ),
        Error::BodyLost => (BAD_REQUEST, "The body of the request did not arrive whole."),
        Error::NotAnObject => (BAD_REQUEST, "The body of the request is not a JSON object."),
        Error::NoValidSecret => (BAD_REQUEST, "Request does not contain a valid Secret."),
        Error::NoValidVersion => (BAD_REQUEST, "Request does not contain a valid Version."),
        Error::CameThroughProxy => (FORBIDDEN, "Requests that came through a proxy are not answered here."),
        Error::NotAuthenticated => {
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
            "This caller has had too many secrets read from Key Vault.",
        ),
        Error::OutOfScope => (FORBIDDEN, "This caller may not read this secret."),
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
                TokenRefusal::Other => "The token source refused to give a token.",
            },
        ),
        Error::TokenSourceAbsent(_) => (UNAVAILABLE, "There is no metadata service where the gateway runs."),
        Error::TokenSourceUnusable => {
            (IDENTITY_ERROR, "The token source gave an answer that cannot be used.")
        }
        Error::JwksUnusable => {
            (IDENTITY_ERROR, "The directory of callers gave an answer that cannot be used.")
        }
        Error::SecretNotFound(name, version) => {
            let version = version.as_ref().map_or_else(String::new, |it| format!("/{}", it.as_str()));
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
                Service::TokenSource => ("IdentityThrottled", "The token source has had too many requests."),
                Service::Jwks => ("IdentityThrottled", "The directory of callers has had too many requests."),
                Service::Vault => ("VaultThrottled", "Key Vault has had too many requests."),
            };
            ((StatusCode::SERVICE_UNAVAILABLE, code), message)
        }
        Error::Upstream { service, .. } => (
            UNAVAILABLE,
            match service {
                Service::TokenSource => "The token source is not available.",
                Service::Jwks => "The directory of callers is not available.",
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

/// Counts what is written to it.
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

/// A 401 has to say how to authenticate (RFC 9110, section 11.6.1): with a key, as with Azure Functions, or with a token
/// (RFC 6750, section 3).
const CHALLENGE: &str = "FunctionsKey realm=\"keyvault-gateway\", Bearer realm=\"keyvault-gateway\"";

/// When to come back where Azure does not say. Key Vault's guide has clients wait one second at first (Microsoft,
/// "Azure Key Vault throttling guidance").
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

/// However long Azure says: what is longer is more likely a mistake than a plan.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

const INTERNAL_ERROR: &str =
    "{\"error\":{\"code\":\"InternalError\",\"message\":\"Something happened that should not.\"}}";
