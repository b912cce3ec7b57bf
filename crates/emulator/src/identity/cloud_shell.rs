//! The token endpoint of Cloud Shell.
//!
//! Source: Microsoft Learn, "Acquire a user token in Azure Cloud Shell".

use bytes::Bytes;
use http::{Method, Response};
use serde_json::json;

use super::managed::{Failure, Fields, Refusal};
use crate::reply;
use crate::request::Ask;

/// The form of a request that Cloud Shell takes.
pub(super) fn check(ask: &Ask) -> Result<Fields, Refusal> {
    if ask.method != Method::POST {
        return Err(error(405, "MethodNotAllowed", "The method is not allowed.").into());
    }
    if ask.header("metadata") != Some("true") {
        return Err(error(400, "BadRequest", "Required metadata header not specified.").into());
    }
    let form = ask.form();
    form.ok_or_else(|| error(415, "UnsupportedMediaType", "The request is not a form.").into())
}

/// An error of Cloud Shell. Only the one for an audience that it does not know is documented.
pub(super) fn refuse(failure: Failure) -> Response<Bytes> {
    match failure {
        Failure::ResourceMissing | Failure::UnknownResource => {
            error(400, "AudienceNotSupported", "Audience is not a supported MSI token audience.")
        }
        Failure::IdentityMissing => error(400, "BadRequest", "An identity cannot be selected."),
        Failure::Status(status) => error(status, "InternalServerError", "The token could not be acquired."),
    }
}

fn error(status: u16, code: &str, message: &str) -> Response<Bytes> {
    reply::json(reply::status(status), &json!({"error": {"code": code, "message": message}}))
}
