//! App Service and Functions, protocol 2017-09-01, which older runtimes, Linux Consumption and Azure Machine
//! Learning have.
//!
//! Source: Microsoft, "How to use managed identities for App Service and Azure Functions", section "REST
//! endpoint reference", as it was at the time of the protocol: the secret is a header, and only a client id
//! selects an identity.

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
            // The protocol cannot select by these, so `detect` refuses them.
            Selector::SystemAssigned | Selector::ObjectId(_) | Selector::ResourceId(_) => None,
        });
        Call::get(Service::TokenSource, self.endpoint.with_query(&query))
            .header("secret", Redacted::new(self.secret.expose().clone()))
    }
}
