//! Conversions between the types of the core and those of `wasi:http/types`, which WASI 0.2 and 0.3 have in
//! common.

use std::time::Duration;

use http::{Method, StatusCode};

#[cfg(feature = "proxy")]
use super::bindings::http::types::{OutgoingRequest as Request, OutgoingResponse as Response};
#[cfg(feature = "service")]
use super::bindings::http::types::{Request, Response};

use super::bindings::http::types::{ErrorCode, Fields, Method as WasiMethod, RequestOptions, Scheme};
use super::nanoseconds;
use crate::azure::{Call, CallError};
use crate::http::headers::Headers;
use crate::http::request::Head;

/// The head of a request.
pub(super) fn head(method: WasiMethod, target: Option<String>, headers: Headers) -> Head {
    let method = match method {
        WasiMethod::Get => Method::GET,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Post => Method::POST,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Patch => Method::PATCH,
        // An invalid method gets the answer of an unknown one.
        WasiMethod::Other(name) => Method::from_bytes(name.as_bytes()).unwrap_or(Method::CONNECT),
    };
    Head { method, target: target.unwrap_or_default(), headers }
}

/// The length of the body that `content-length` announces. A host has to hold the client to it (RFC 9112,
/// section 6.3); the hosts that are tested do.
pub(super) fn content_length(headers: &Headers) -> Option<usize> {
    let mut lengths = headers.all("content-length");
    match (lengths.next(), lengths.next()) {
        // It says nothing of a body in chunks.
        (Some(length), None) if !headers.has("transfer-encoding") => length?.parse().ok(),
        _ => None,
    }
}

/// The header fields of a response with this `body`: all in one call of the host, or one by one, without
/// those that the host refuses.
pub(super) fn response_fields(mut headers: Headers, body: &[u8]) -> Fields {
    headers.add("content-length", body.len().to_string());
    Fields::from_list(headers.as_list()).unwrap_or_else(|_| {
        let fields = Fields::new();
        for (name, value) in headers.as_list() {
            let _ = fields.append(name, value);
        }
        fields
    })
}

/// Sets the status of a new response, which is 200 already.
pub(super) fn set_status(response: &Response, status: StatusCode) {
    if status != StatusCode::OK {
        let _ = response.set_status_code(status.as_u16());
    }
}

/// The header fields of a call.
pub(super) fn request_fields(call: &Call) -> Result<Fields, CallError> {
    let fields = Fields::new();
    for (name, value) in call.headers() {
        fields.append(name, value.expose().as_bytes()).map_err(|_| CallError::Lost)?;
    }
    let body = call.body().expose();
    if !body.is_empty() {
        let length = body.len().to_string();
        fields.append("content-length", length.as_bytes()).map_err(|_| CallError::Lost)?;
    }
    Ok(fields)
}

/// Sets the method and the address of a new request.
pub(super) fn set_target(request: &Request, call: &Call) -> Result<(), CallError> {
    let endpoint = call.endpoint();
    let scheme = if endpoint.is_tls() { Scheme::Https } else { Scheme::Http };
    let method = if *call.method() == Method::POST { WasiMethod::Post } else { WasiMethod::Get };
    request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(endpoint.authority())))
        .and_then(|()| request.set_path_with_query(Some(endpoint.path_and_query())))
        .map_err(|()| CallError::Lost)
}

/// The timeouts of a call that may take `limit`. They are a little longer, so that our own clock ends the
/// call: what the host calls a timeout before that is one of its own making, and a lost call. Our clock also
/// ends the call on a host that refuses a timeout.
pub(super) fn options(limit: Duration) -> RequestOptions {
    let timeout = Some(nanoseconds(limit.saturating_add(Duration::from_secs(1))));
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(timeout);
    let _ = options.set_first_byte_timeout(timeout);
    let _ = options.set_between_bytes_timeout(timeout);
    options
}

/// The text of the first field called `name` of an answer.
pub(super) fn field(fields: &Fields, name: &str) -> Option<String> {
    fields.get(name).into_iter().next().and_then(|value| String::from_utf8(value).ok())
}

/// Why the host has no answer to a call.
pub(super) fn call_error(code: ErrorCode) -> CallError {
    match code {
        ErrorCode::HttpRequestDenied => CallError::NotAllowed,
        _ => CallError::Lost,
    }
}
