//! The token endpoint of Cloud Shell.
//!
//! Source: Microsoft Learn, "Acquire a user token in Azure Cloud Shell".

use bytes::Bytes;
use http::{Method, Response};
use serde_json::json;

use super::Failure;
use crate::reply;
use crate::request::Ask;

/// The form of a request that Cloud Shell takes.
pub(super) fn check(ask: &Ask) -> Result<Vec<(String, String)>, Failure> {
    if ask.method != Method::POST {
        return Err(Failure::Method);
    }
    if ask.header("metadata") != Some("true") {
        return Err(Failure::Metadata);
    }
    ask.form().ok_or(Failure::Form)
}

/// An error of Cloud Shell. Only the one for an audience that it does not know is documented.
pub(super) fn refuse(failure: Failure) -> Response<Bytes> {
    let (status, code, message) = match failure {
        Failure::ResourceMissing | Failure::UnknownResource => {
            (400, "AudienceNotSupported", "Audience is not a supported MSI token audience.")
        }
        Failure::Method => (405, "MethodNotAllowed", "The method is not allowed."),
        Failure::Metadata => (400, "BadRequest", "Required metadata header not specified."),
        Failure::Form => (415, "UnsupportedMediaType", "The request is not a form."),
        Failure::IdentityMissing | Failure::IdentityAmbiguous => {
            (400, "BadRequest", "An identity cannot be selected.")
        }
        Failure::Forwarded | Failure::Key | Failure::ApiVersion => {
            (400, "BadRequest", "The request is not supported.")
        }
        Failure::Status(status) => (status, "InternalServerError", "The token could not be acquired."),
    };
    reply::json(reply::status(status), &json!({"error": {"code": code, "message": message}}))
}
