//! The rooms that know Azure: what may be sent there, and what it answers.
//!
//! Only this module and its children can make a [`Call`], so nothing else in the crate can send anything
//! anywhere. [`identity`] sends to the configured token source, [`vault`] to the configured vault, and [`directory`] to the
//! tenant that callers are of.

pub mod token_source;

pub mod vault;

pub mod jwks;

mod challenge;

mod cloud;

mod endpoint;

mod date;

use std::time::Duration;

use http::Method;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

pub use endpoint::Endpoint;

use crate::error::{Code, Service};
use crate::http::trace::Trace;
use crate::json::{self, Object};
use crate::model::Redacted;

/// A request to Azure: where it goes, what it says, and how much of an answer is read.
///
/// ```
/// fn send(call: &keyvault_gateway::azure::Call) -> keyvault_gateway::azure::Answer {
///     let _to = (call.method(), call.endpoint().authority(), call.endpoint().path_and_query());
///     let _with = (call.headers().iter().map(|(_, value)| value.expose()).count(), call.body().expose());
///     keyvault_gateway::azure::Answer::new(200, None, Vec::new())
/// }
/// ```
///
/// A host can send a call where it says and with what it has, once. Other modules cannot make or change one:
///
/// ```compile_fail,E0451
/// fn literal(endpoint: keyvault_gateway::azure::Endpoint) -> keyvault_gateway::azure::Call { keyvault_gateway::azure::Call { method: http::Method::GET, endpoint, headers: vec![], body: keyvault_gateway::model::Redacted::new(vec![]), upstream: keyvault_gateway::error::Service::Vault } }
/// ```
/// ```compile_fail,E0451
/// fn update(call: keyvault_gateway::azure::Call, endpoint: keyvault_gateway::azure::Endpoint) -> keyvault_gateway::azure::Call { keyvault_gateway::azure::Call { endpoint, ..call } }
/// ```
/// ```compile_fail,E0624
/// fn get(endpoint: keyvault_gateway::azure::Endpoint) -> keyvault_gateway::azure::Call { keyvault_gateway::azure::Call::get(keyvault_gateway::error::Service::Vault, endpoint) }
/// ```
/// ```compile_fail,E0624
/// fn post(endpoint: keyvault_gateway::azure::Endpoint) -> keyvault_gateway::azure::Call { keyvault_gateway::azure::Call::post_form(keyvault_gateway::error::Service::TokenSource, endpoint, String::new()) }
/// ```
/// ```compile_fail,E0277
/// fn copy(call: &keyvault_gateway::azure::Call) -> keyvault_gateway::azure::Call { <keyvault_gateway::azure::Call as Clone>::clone(call) }
/// ```
/// ```compile_fail,E0616
/// fn lead(call: &mut keyvault_gateway::azure::Call, elsewhere: keyvault_gateway::azure::Endpoint) { call.endpoint = elsewhere }
/// ```
/// ```compile_fail,E0594
/// fn lead_lent(call: &mut keyvault_gateway::azure::Call, elsewhere: keyvault_gateway::azure::Endpoint) { *call.endpoint() = elsewhere }
/// ```
/// ```compile_fail,E0624
/// fn redirect(call: &keyvault_gateway::azure::Call) -> keyvault_gateway::azure::Endpoint { call.endpoint().at("/elsewhere".to_owned()) }
/// ```
/// ```compile_fail,E0624
/// fn add(call: keyvault_gateway::azure::Call) -> keyvault_gateway::azure::Call { call.header("x-more", keyvault_gateway::model::Redacted::new(String::new())) }
/// ```
/// ```compile_fail,E0616
/// fn clear(call: &mut keyvault_gateway::azure::Call) { call.headers.clear() }
/// ```
/// ```compile_fail,E0599
/// fn push(call: &mut keyvault_gateway::azure::Call) { call.headers().push(("x-more", keyvault_gateway::model::Redacted::new(String::new()))) }
/// ```
#[derive(Debug)]
pub struct Call {
    method: Method,
    endpoint: Endpoint,
    headers: Vec<(&'static str, Redacted)>,
    body: Redacted<Vec<u8>>,
    service: Service,
}

/// What Azure said to a [`Call`]. It is not a [`Reply`](crate::http::response::Reply), and nothing makes it one.
///
/// Other modules see its status, and nothing makes it a reply:
///
/// ```compile_fail,E0451
/// fn literal() -> keyvault_gateway::azure::Answer { keyvault_gateway::azure::Answer { status: 200, retry_after: None, challenge: None, body: keyvault_gateway::model::Redacted::new(vec![]) } }
/// ```
/// ```compile_fail,E0616
/// fn body(answer: &keyvault_gateway::azure::Answer) -> &[u8] { answer.body.expose() }
/// ```
/// ```compile_fail,E0624
/// fn json(answer: &keyvault_gateway::azure::Answer) -> Option<serde_json::Value> { answer.json() }
/// ```
/// ```compile_fail,E0616
/// fn header(answer: &keyvault_gateway::azure::Answer) -> Option<&str> { answer.retry_after.as_deref() }
/// ```
/// ```compile_fail,E0308
/// fn reply(answer: keyvault_gateway::azure::Answer) -> keyvault_gateway::http::response::Reply { keyvault_gateway::http::response::Reply::from(answer) }
/// ```
/// ```compile_fail,E0277
/// fn error(answer: keyvault_gateway::azure::Answer) -> keyvault_gateway::error::Error { answer.into() }
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

    /// Adds a field. The value is text that a field can have: its type has checked that, or it is ours.
    fn header(mut self, name: &'static str, value: Redacted) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Passes the caller's trace on.
    pub(crate) fn traced(mut self, trace: &Trace) -> Self {
        if let Some((name, value)) = trace.field() {
            self.headers.push((name, Redacted::new(value.to_owned())));
        }
        self
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Where it goes: scheme, authority, path and query.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The header fields: names in lower case, values that may be secret.
    pub fn headers(&self) -> &[(&'static str, Redacted)] {
        &self.headers
    }

    /// The body, empty for a GET.
    pub const fn body(&self) -> &Redacted<Vec<u8>> {
        &self.body
    }

    /// The service that it goes to.
    pub const fn service(&self) -> Service {
        self.service
    }

    /// The largest answer that is read, in bytes.
    pub const fn answer_limit(&self) -> usize {
        match self.service {
            Service::TokenSource => LARGEST_TOKEN_ANSWER,
            Service::Vault => LARGEST_VAULT_ANSWER,
            Service::Jwks => LARGEST_KEYS_ANSWER,
        }
    }
}

impl Answer {
    /// What a host received: the status, the value of `Retry-After` if there is one, and the whole body.
    pub fn new(status: u16, retry_after: Option<String>, body: Vec<u8>) -> Self {
        Self { status, retry_after, challenge: None, body: Redacted::new(body) }
    }

    /// The same with the value of `WWW-Authenticate`, if there is one.
    #[must_use]
    pub fn with_challenge(self, challenge: Option<String>) -> Self {
        Self { challenge, ..self }
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// How long Azure wants us to wait, if it says so in a way that can be understood.
    pub fn retry_after(&self, unix_time: u64) -> Option<Duration> {
        let text = self.retry_after.as_deref()?.trim();
        if text.bytes().all(|it| it.is_ascii_digit()) {
            return text.parse().ok().map(Duration::from_secs);
        }
        let date = u64::try_from(date::rfc_1123(text)?).ok()?;
        Some(Duration::from_secs(date.saturating_sub(unix_time)))
    }

    /// Reads the body as a JSON object. What the parser has to say is not passed on, as it quotes the body.
    fn json<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        json::parse(self.body.expose()).ok().map(|Object(content)| content)
    }
}

/// The codes and texts of an error body, in any of the forms that Azure's services use.
///
/// Known forms: `{statusCode, message, correlationId}` in any case (App Service), `{error, error_description}`
/// (IMDS and Entra), `{error: {code, message, innererror: {code}}}` (Key Vault, Cloud Shell). Plain text and empty
/// bodies have none of this and are as good as an empty object.
#[derive(Debug, Default)]
struct ErrorBody {
    code: String,
    inner_code: String,
    text: String,
    /// The code that begins with the name of a service and ends with a number, such as `AKV10046`, where there is one.
    number: Option<String>,
}

impl ErrorBody {
    fn of(answer: &Answer) -> Self {
        let mut body: Self = answer.json().unwrap_or_default();
        if let Some(number) = numbered(&body.text) {
            body.number = Some(number.to_owned());
        }
        body
    }

    /// Its codes, the one that tells most first.
    fn codes(&self) -> impl Iterator<Item = &str> {
        let codes = [self.number.as_deref().unwrap_or_default(), &self.inner_code, &self.code];
        codes.into_iter().filter(|it| !it.is_empty())
    }

    /// The code that an operator is shown.
    fn operator_code(&self) -> Option<Code> {
        self.codes().find_map(Code::parse)
    }
}

/// The first word of `text` that is a numbered code of Key Vault, of Entra, or of the library that both check tokens with.
fn numbered(text: &str) -> Option<&str> {
    let mut words = text.split(|it: char| !it.is_ascii_alphanumeric());
    words.find(|word| {
        let numbers = ["AKV", "AADSTS", "IDX"].iter().find_map(|it| word.strip_prefix(it));
        numbers.is_some_and(|it| (1..=12).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_digit()))
    })
}

impl<'de> Deserialize<'de> for ErrorBody {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = ErrorBody;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the body of an error")
            }

            fn visit_str<E>(self, code: &str) -> Result<ErrorBody, E> {
                Ok(ErrorBody { code: code.to_owned(), ..ErrorBody::default() })
            }

            fn visit_unit<E>(self) -> Result<ErrorBody, E> {
                Ok(ErrorBody::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ErrorBody, A::Error> {
                let mut body = ErrorBody::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.to_ascii_lowercase().as_str() {
                        "error" => {
                            let error: ErrorBody = map.next_value()?;
                            body.code = error.code;
                            body.inner_code = error.inner_code;
                            body.number = error.number.or(body.number);
                            if !error.text.is_empty() {
                                body.text = error.text;
                            }
                        }
                        "code" => body.code = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        "message" | "error_description" => {
                            body.text = map.next_value::<Option<_>>()?.unwrap_or_default();
                        }
                        "error_codes" => {
                            let Numbers(first) = map.next_value()?;
                            body.number = first.map(|it| format!("AADSTS{it}")).or(body.number);
                        }
                        "innererror" => body.inner_code = map.next_value::<ErrorBody>()?.code,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(body)
            }
        }

        from.deserialize_any(Fields)
    }
}

/// The first number of a list, if it is one of numbers.
struct Numbers(Option<u64>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let list = serde_json::Value::deserialize(from)?;
        Ok(Self(list.get(0).and_then(serde_json::Value::as_u64)))
    }
}

/// Long enough for any token of Entra, which are at most a few KiB, and for what surrounds it.
const LARGEST_TOKEN_ANSWER: usize = 64 * 1024;

/// Entra's document has some fifteen KiB: five to ten keys, each with its certificate.
const LARGEST_KEYS_ANSWER: usize = 64 * 1024;

/// A value has at most 25 KiB and there are at most fifteen tags of 1 KiB (Microsoft, "About Azure Key Vault secrets").
/// JSON may write each byte of both with six, which makes 240 KiB; the rest of the answer has some hundred bytes.
const LARGEST_VAULT_ANSWER: usize = 256 * 1024;

const USER_AGENT: &str = concat!("keyvault-gateway/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies() {
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
            let read = ErrorBody::of(&Answer::new(400, None, body.into()));
            assert_eq!(
                (read.code.as_str(), read.inner_code.as_str(), read.text.as_str()),
                (code, inner, text),
                "{body}"
            );
        }
    }

    #[test]
    fn pauses() {
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
