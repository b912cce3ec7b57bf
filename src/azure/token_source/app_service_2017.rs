//! App Service and Functions, protocol 2017-09-01: the one that the older runtimes and Linux Consumption have, and
//! Azure Machine Learning.
//!
//! Source: Microsoft, "How to use managed identities for App Service and Azure Functions", section "REST endpoint
//! reference", as of the protocol's time: the secret is a header field, and only a client id selects an identity.

use super::Selector;
use crate::azure::vault::Audience;
use crate::azure::{Call, Endpoint};
use crate::error::Service;
use crate::model::Redacted;

/// The endpoint of `MSI_ENDPOINT`, with the secret of `MSI_SECRET`.
#[derive(Debug)]
pub struct AppService2017 {
    pub(super) endpoint: Endpoint,
    pub(super) secret: Redacted,
    pub(super) identity: Selector,
}

impl AppService2017 {
    pub(super) fn call(&self, audience: &Audience) -> Call {
        let mut query = vec![("api-version", "2017-09-01"), ("resource", audience.as_str())];
        query.extend(match &self.identity {
            Selector::ClientId(id) => Some(("clientid", id.as_str())),
            // The protocol cannot select by these, so the choice of a source refuses them.
            Selector::SystemAssigned | Selector::ObjectId(_) | Selector::ResourceId(_) => None,
        });
        Call::get(Service::TokenSource, self.endpoint.with_query(&query))
            .header("secret", Redacted::new(self.secret.expose().clone()))
    }
}
