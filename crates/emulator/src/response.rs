//! Constructors of HTTP responses with a complete body.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Bytes> {
    with_body(status, JSON, body.to_string())
}

/// Builds a response without a body and without a `Content-Type`.
pub(crate) fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// Converts a number to a status; an invalid number gives 500.
pub(crate) fn status_code(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) fn with_body(status: StatusCode, media_type: &'static str, body: String) -> Response<Bytes> {
    let response = empty(status).map(|_| Bytes::from(body));
    with_header(response, header::CONTENT_TYPE, HeaderValue::from_static(media_type))
}

pub(crate) fn with_header<B>(mut response: Response<B>, name: HeaderName, value: HeaderValue) -> Response<B> {
    response.headers_mut().insert(name, value);
    response
}

pub(crate) const JSON: &str = "application/json; charset=utf-8";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
