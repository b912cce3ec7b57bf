//! Azure's APIs: the calls that the gateway can make, and what the answers mean.
//!
//! Only this module and its children can make a [`Call`], so no other module can send anything to Azure.
//! [`token_source`] calls the configured token source, [`vault`] the configured vault, and [`issuer`] the
//! issuers of callers' tokens: the tenant, and other issuers, which need not be Azure's.

mod challenge;
mod cloud;
mod date;
mod endpoint;
pub mod issuer;
pub mod jwks;
pub mod token_source;
pub mod vault;

use std::time::Duration;

use http::Method;

pub use endpoint::{Endpoint, is_local};

use crate::error::{Code, Error, FailureKind, Service};
use crate::http::trace::Trace;
use crate::json::{Json, Object};
use crate::model::Redacted;

/// A request to Azure: its address, its content, and how much of the answer is read.
///
/// ```
/// # use keyvault_gateway::azure::{Answer, Call};
/// fn send(call: &Call) -> Answer {
///     let _address = (call.method(), call.endpoint().authority(), call.endpoint().path_and_query());
///     let _content = (call.headers().iter().map(|(_, value)| value.expose()).count(), call.body().expose());
///     Answer::new(200, None, Vec::new())
/// }
/// ```
///
/// A host sends a call to its address with its content, once. Other modules cannot make or change a call:
///
/// ```compile_fail,E0451
/// # use keyvault_gateway::{azure::{Call, Endpoint}, error::Service, model::Redacted};
/// fn literal(endpoint: Endpoint) -> Call {
///     let (method, body, service) = (http::Method::GET, Redacted::new(vec![]), Service::Vault);
///     Call { method, endpoint, headers: vec![], body, service }
/// }
/// ```
/// ```compile_fail,E0451
/// # use keyvault_gateway::azure::{Call, Endpoint};
/// fn update(call: Call, endpoint: Endpoint) -> Call { Call { endpoint, ..call } }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::{azure::{Call, Endpoint}, error::Service};
/// fn get(endpoint: Endpoint) -> Call { Call::get(Service::Vault, endpoint) }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::{azure::{Call, Endpoint}, error::Service};
/// fn post(endpoint: Endpoint) -> Call { Call::post_form(Service::TokenSource, endpoint, String::new()) }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::azure::Call;
/// fn copy(call: &Call) -> Call { <Call as Clone>::clone(call) }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Call, Endpoint};
/// fn redirect(call: &mut Call, elsewhere: Endpoint) { call.endpoint = elsewhere }
/// ```
/// ```compile_fail,E0594
/// # use keyvault_gateway::azure::{Call, Endpoint};
/// fn redirect(call: &mut Call, elsewhere: Endpoint) { *call.endpoint() = elsewhere }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::azure::{Call, Endpoint};
/// fn redirect(call: &Call) -> Endpoint { call.endpoint().at("/elsewhere".to_owned()) }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::{azure::Call, model::Redacted};
/// fn add(call: Call) -> Call { call.header("x-more", Redacted::new(String::new())) }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::Call;
/// fn clear(call: &mut Call) { call.headers.clear() }
/// ```
/// ```compile_fail,E0599
/// # use keyvault_gateway::{azure::Call, model::Redacted};
/// fn push(call: &mut Call) { call.headers().push(("x-more", Redacted::new(String::new()))) }
/// ```
#[derive(Debug)]
pub struct Call {
    method: Method,
    endpoint: Endpoint,
    headers: Vec<(&'static str, Redacted)>,
    body: Redacted<Vec<u8>>,
    service: Service,
}

/// Azure's answer to a [`Call`]. It is not a [`Reply`](crate::http::response::Reply), and nothing converts it
/// to one.
///
/// Other modules see its status and its `Retry-After`:
///
/// ```compile_fail,E0451
/// # use keyvault_gateway::{azure::Answer, model::Redacted};
/// fn literal() -> Answer {
///     Answer { status: 200, retry_after: None, challenge: None, body: Redacted::new(vec![]) }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::Answer;
/// fn body(answer: &Answer) -> &[u8] { answer.body.expose() }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::azure::Answer;
/// fn json(answer: &Answer) -> Option<serde_json::Value> { answer.json() }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::Answer;
/// fn header(answer: &Answer) -> Option<&str> { answer.retry_after.as_deref() }
/// ```
/// ```compile_fail,E0308
/// # use keyvault_gateway::{azure::Answer, http::response::Reply};
/// fn reply(answer: Answer) -> Reply { Reply::from(answer) }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::{azure::Answer, error::Error};
/// fn error(answer: Answer) -> Error { answer.into() }
/// ```
#[derive(Debug)]
pub struct Answer {
    status: u16,
    retry_after: Option<String>,
    challenge: Option<String>,
    body: Redacted<Vec<u8>>,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No connection, or one that broke before the answer was complete.
    Lost,
    /// The host does not allow calls to this address.
    NotAllowed,
    /// The limit ran out.
    TimedOut,
    /// The answer is larger than the call allows.
    TooLarge,
}

impl Call {
    fn get(service: Service, endpoint: Endpoint) -> Self {
        Self { method: Method::GET, endpoint, headers: Vec::new(), body: Redacted::new(Vec::new()), service }
            .header("accept", Redacted::new("application/json".to_owned()))
            .header("user-agent", Redacted::new(USER_AGENT.to_owned()))
    }

    fn post_form(service: Service, endpoint: Endpoint, form: String) -> Self {
        let body = Redacted::new(form.into_bytes());
        Self { method: Method::POST, body, ..Self::get(service, endpoint) }
            .header("content-type", Redacted::new("application/x-www-form-urlencoded".to_owned()))
    }

    /// Adds a header. The value is text that a header can have: its type has checked that, or it is a
    /// constant.
    fn header(mut self, name: &'static str, value: Redacted) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds the header that passes the caller's trace on.
    pub(crate) fn traced(mut self, trace: &Trace) -> Self {
        if let Some((name, value)) = trace.field() {
            self.headers.push((name, Redacted::new(value.to_owned())));
        }
        self
    }

    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The address: scheme, authority, path and query.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The headers. Their names are in lower case, and their values may be secret.
    pub fn headers(&self) -> &[(&'static str, Redacted)] {
        &self.headers
    }

    /// The body, empty for a GET.
    pub const fn body(&self) -> &Redacted<Vec<u8>> {
        &self.body
    }

    /// The service that the call is for.
    pub const fn service(&self) -> Service {
        self.service
    }

    /// The largest answer that is read, in bytes.
    pub const fn answer_limit(&self) -> usize {
        match self.service {
            Service::TokenSource => MAX_TOKEN_ANSWER,
            Service::Vault => MAX_VAULT_ANSWER,
            Service::Jwks => MAX_JWKS_ANSWER,
        }
    }
}

impl Answer {
    /// An answer as a host received it: the status, the value of `Retry-After` if there is one, and the whole
    /// body.
    pub fn new(status: u16, retry_after: Option<String>, body: Vec<u8>) -> Self {
        Self { status, retry_after, challenge: None, body: Redacted::new(body) }
    }

    /// Adds the value of `WWW-Authenticate`, if there is one.
    #[must_use]
    pub fn with_challenge(self, challenge: Option<String>) -> Self {
        Self { challenge, ..self }
    }

    /// The answer of `service`; or an error, if there is no answer, or if its status says that the same call
    /// may succeed later.
    fn from_call(service: Service, result: Result<Self, CallError>, unix_time: u64) -> Result<Self, Error> {
        let answer = result.map_err(|error| match error {
            CallError::Lost => Error::upstream(service, FailureKind::Unreachable, None),
            CallError::NotAllowed => Error::CallNotAllowed,
            CallError::TimedOut => Error::DeadlineExceeded,
            CallError::TooLarge => Error::unusable(service),
        })?;
        let kind = match answer.status {
            429 => FailureKind::Throttled,
            408 | 500..=599 => FailureKind::Failing,
            _ => return Ok(answer),
        };
        Err(Error::upstream(service, kind, answer.retry_after(unix_time)))
    }

    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The time of `Retry-After`, if that is a number of seconds or a date.
    pub fn retry_after(&self, unix_time: u64) -> Option<Duration> {
        let text = self.retry_after.as_deref()?.trim();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(Duration::from_secs);
        }
        let date = u64::try_from(date::parse_rfc_1123(text)?).ok()?;
        Some(Duration::from_secs(date.saturating_sub(unix_time)))
    }

    /// The body as text.
    fn text(&self) -> Option<&str> {
        str::from_utf8(self.body.expose()).ok()
    }

    /// Parses the body as a JSON object.
    fn json(&self) -> Option<Object> {
        if let Json::Object(object) = Json::parse_body(self.body.expose())? { Some(object) } else { None }
    }
}

/// The codes and the text of an error body, in all forms that Azure's services use.
///
/// Known forms: `{statusCode, message, correlationId}` in any case (App Service), `{error,
/// error_description}` (IMDS and Entra ID), `{error: {code, message, innererror: {code}}}` (Key Vault, Cloud
/// Shell). Plain text and empty bodies count as an empty object.
#[derive(Debug, Default)]
struct ErrorBody {
    code: String,
    inner_code: String,
    text: String,
    /// The code that consists of a service's prefix and a number, such as `AKV10046`, if there is one.
    number: Option<String>,
}

impl ErrorBody {
    fn of(answer: &Answer) -> Self {
        let mut body = answer.json().as_ref().map(Self::from_object).unwrap_or_default();
        if let Some(number) = find_numbered_code(&body.text) {
            body.number = Some(number.to_owned());
        }
        body
    }

    fn from_object(object: &Object) -> Self {
        let mut body = Self::default();
        for (name, value) in object.members() {
            match (name.to_ascii_lowercase().as_str(), value) {
                ("error", error) => {
                    let error = Self::from_error(error);
                    body.code = error.code;
                    body.inner_code = error.inner_code;
                    body.number = error.number.or(body.number);
                    if !error.text.is_empty() {
                        body.text = error.text;
                    }
                }
                ("innererror", error) => body.inner_code = Self::from_error(error).code,
                ("code", Json::Text(code)) => body.code = code.expose().clone(),
                ("message" | "error_description", Json::Text(text)) => body.text = text.expose().clone(),
                ("error_codes", Json::List(codes)) => {
                    if let Some(Json::Number(number)) = codes.first() {
                        body.number = Some(format!("AADSTS{number}"));
                    }
                }
                _ => {}
            }
        }
        body
    }

    fn from_error(error: &Json) -> Self {
        match error {
            Json::Text(code) => Self { code: code.expose().clone(), ..Self::default() },
            Json::Object(object) => Self::from_object(object),
            Json::Null | Json::Number(_) | Json::List(_) | Json::Bool(_) | Json::Other => Self::default(),
        }
    }

    /// The codes, the most specific one first.
    fn codes(&self) -> impl Iterator<Item = &str> {
        let codes = [self.number.as_deref().unwrap_or_default(), &self.inner_code, &self.code];
        codes.into_iter().filter(|code| !code.is_empty())
    }

    /// The code for the log.
    fn operator_code(&self) -> Option<Code> {
        self.codes().find_map(Code::parse)
    }
}

/// The first word of `text` that is a numbered code of Key Vault, of Entra ID, or of the library with which
/// both check tokens.
fn find_numbered_code(text: &str) -> Option<&str> {
    let mut words = text.split(|character: char| !character.is_ascii_alphanumeric());
    words.find(|word| {
        let digits = ["AKV", "AADSTS", "IDX"].iter().find_map(|prefix| word.strip_prefix(prefix));
        digits.is_some_and(|digits| {
            (1..=12).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// Tokens of Entra ID have at most a few KiB, and the rest of the answer is short.
const MAX_TOKEN_ANSWER: usize = 64 * 1024;

/// Entra ID's JWKS has some fifteen KiB: five to ten keys, each with its certificate.
const MAX_JWKS_ANSWER: usize = 64 * 1024;

/// A value has at most 25 KiB, and there are at most fifteen tags of 1 KiB (Microsoft, "About Azure Key Vault
/// secrets"). JSON may write each byte of both with six, which makes 240 KiB. The rest of the answer has some
/// hundred bytes.
const MAX_VAULT_ANSWER: usize = 256 * 1024;

const USER_AGENT: &str = concat!("keyvault-gateway/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_form_of_error_body() {
        for (body, code, inner, text) in [
            (r#"{"statusCode":500,"message":"m","correlationId":"c"}"#, "", "", "m"),
            (r#"{"StatusCode":400,"Message":"m","CorrelationId":"c"}"#, "", "", "m"),
            (r#"{"error":"invalid_request","error_description":"d"}"#, "invalid_request", "", "d"),
            (r#"{"error_description":"d","error":"e","error_codes":[7]}"#, "e", "", "d"),
            (r#"{"error":{"code":"AudienceNotSupported","message":"m"}}"#, "AudienceNotSupported", "", "m"),
            (
                r#"{"error":{"code":"Forbidden","message":"m","innererror":{"code":"SecretDisabled"}}}"#,
                "Forbidden",
                "SecretDisabled",
                "m",
            ),
            (r#"{"error":{"code":"Forbidden","message":"m","innererror":null}}"#, "Forbidden", "", "m"),
            (r#"{"error":{"code":"Forbidden","message":null}}"#, "Forbidden", "", ""),
            (r#"{"error":"e","error_description":null}"#, "e", "", ""),
            (r#"{"error":null}"#, "", "", ""),
            ("{}", "", "", ""),
            ("[]", "", "", ""),
            (r#""e""#, "", "", ""),
            ("Invalid secret token header: .", "", "", ""),
            ("", "", "", ""),
            (r#"{"error":{"code":7}}"#, "", "", ""),
        ] {
            let parsed = ErrorBody::of(&Answer::new(400, None, body.into()));
            assert_eq!(
                (parsed.code.as_str(), parsed.inner_code.as_str(), parsed.text.as_str()),
                (code, inner, text),
                "{body}"
            );
        }
    }

    #[test]
    fn parses_retry_after() {
        let now = 784_111_770;
        for (text, seconds) in [
            (Some("0"), Some(0)),
            (Some("120"), Some(120)),
            (Some(" 7 "), Some(7)),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7)),
            (Some("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0)),
            (Some("-1"), None),
            (Some("1.5"), None),
            (Some("soon"), None),
            (Some("99999999999999999999999"), None),
            (Some(""), None),
            (None, None),
        ] {
            let answer = Answer::new(429, text.map(str::to_owned), Vec::new());
            assert_eq!(answer.retry_after(now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }
}
