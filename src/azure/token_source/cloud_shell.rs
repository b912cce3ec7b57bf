//! Cloud Shell, which has one identity: the user's.
//!
//! Source: Microsoft, "Acquire a user token in Azure Cloud Shell".

use crate::azure::vault::Audience;
use crate::azure::{Call, Endpoint};
use crate::error::Service;
use crate::model::Redacted;

/// The endpoint of `MSI_ENDPOINT` where there is no `MSI_SECRET`.
#[derive(Debug)]
pub struct CloudShell {
    pub(super) endpoint: Endpoint,
}

impl CloudShell {
    pub(super) fn call(&self, audience: &Audience) -> Call {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("resource", audience.as_str())
            .finish();
        Call::post_form(Service::TokenSource, self.endpoint.clone(), form)
            .header("metadata", Redacted::new("true".to_owned()))
    }
}
