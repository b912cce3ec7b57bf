//! Why a token source refuses.
//!
//! The forms are those of [`ErrorBody`]; the texts are matched in words that have stayed the same over the years, and
//! what is not known is [`Refusal::Other`]. Nothing of the text goes further than this file.

use crate::azure::{Answer, ErrorBody};
use crate::error::Refusal;

/// Reads the reason from a refusal's status and body.
pub(super) fn of(answer: &Answer) -> Refusal {
    let ErrorBody { code, text, .. } = ErrorBody::of(answer);
    let says = |words: &[&str]| words.iter().any(|it| text.contains(it) || code == *it);
    if says(&["Multiple user assigned identities"]) {
        Refusal::SeveralIdentities
    } else if says(&[
        "No User Assigned or Delegated Managed Identity found",
        "No Managed Identity found",
        "No MSI found",
        "Identity not found",
        "ManagedIdentityNotFound",
    ]) {
        Refusal::NoSuchIdentity
    } else if says(&[
        "invalid_resource",
        "invalid_scope",
        "AudienceNotSupported",
        "AADSTS500011",
        "AADSTS50001:",
    ]) {
        Refusal::Audience
    } else if matches!(answer.status(), 401 | 403)
        || says(&[
            "invalid_client",
            "unauthorized_client",
            "SecretHeaderNotFound",
            "AADSTS7000215",
            "AADSTS7000222",
        ])
    {
        Refusal::Credential
    } else {
        Refusal::Other(answer.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        for (status, body, reason) in [
            (
                400,
                r#"{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.","correlationId":"c"}"#,
                Refusal::NoSuchIdentity,
            ),
            (
                400,
                r#"{"StatusCode":400,"Message":"No MSI found for specified ClientId/ResourceId.","CorrelationId":"c"}"#,
                Refusal::NoSuchIdentity,
            ),
            (
                400,
                r#"{"StatusCode":400,"Message":"No Managed Identity found for specified ClientId/ResourceId/PrincipalId."}"#,
                Refusal::NoSuchIdentity,
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
                Refusal::NoSuchIdentity,
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}"#,
                Refusal::SeveralIdentities,
            ),
            (
                400,
                r#"{"error":"invalid_resource","error_description":"AADSTS500011: The resource principal named x was not found"}"#,
                Refusal::Audience,
            ),
            (400, r#"{"error":"invalid_resource","error_description":"AADSTS50001: x"}"#, Refusal::Audience),
            (
                400,
                r#"{"error":{"code":"AudienceNotSupported","message":"Audience x is not a supported MSI token audience."}}"#,
                Refusal::Audience,
            ),
            (
                400,
                r#"{"error":"bad_request_102","error_description":"Required metadata header not specified"}"#,
                Refusal::Other(400),
            ),
            (401, r#"{"error":"unknown_source","error_description":"Unknown Source"}"#, Refusal::Credential),
            (401, "Invalid secret token header: .", Refusal::Credential),
            (401, "", Refusal::Credential),
            (403, "", Refusal::Credential),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}"#,
                Refusal::Credential,
            ),
            (
                400,
                r#"{"error":"unauthorized_client","error_description":"AADSTS700016: Application was not found"}"#,
                Refusal::Credential,
            ),
            (
                404,
                r#"{"error":{"correlationId":"c","code":"ManagedIdentityNotFound","message":"m"}}"#,
                Refusal::NoSuchIdentity,
            ),
            (404, "", Refusal::Other(404)),
            (400, "<html>", Refusal::Other(400)),
            (302, "", Refusal::Other(302)),
        ] {
            assert_eq!(of(&Answer::new(status, None, body.into())), reason, "{status} {body}");
        }
    }
}
