//! App Service, Functions and Container Apps, protocol 2019-08-01.
//!
//! Source: Microsoft, "How to use managed identities for App Service and Azure Functions", section "REST
//! endpoint reference", and "Managed identities in Azure Container Apps", same section.

use super::Selector;
use crate::azure::vault::Audience;
use crate::azure::{Call, Endpoint};
use crate::error::Service;
use crate::model::Redacted;

/// The endpoint of `IDENTITY_ENDPOINT`, with the secret of `IDENTITY_HEADER`.
#[derive(Debug)]
pub struct AppService2019 {
    pub(super) endpoint: Endpoint,
    pub(super) header: Redacted,
    pub(super) identity: Selector,
}

impl AppService2019 {
    pub(super) fn call(&self, audience: &Audience) -> Call {
        let mut query = vec![("api-version", "2019-08-01"), ("resource", audience.as_str())];
        query.extend(match &self.identity {
            Selector::SystemAssigned => None,
            Selector::ClientId(id) => Some(("client_id", id.as_str())),
            Selector::ObjectId(id) => Some(("principal_id", id.as_str())),
            Selector::ResourceId(id) => Some(("mi_res_id", id.as_str())),
        });
        Call::get(Service::TokenSource, self.endpoint.with_query(&query))
            .header("x-identity-header", Redacted::new(self.header.expose().clone()))
    }
}
