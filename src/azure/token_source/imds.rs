//! The Instance Metadata Service of virtual machines, scale sets and AKS nodes, and of Container Instances on
//! Linux.
//!
//! Source: Microsoft, "How to use managed identities for Azure resources on an Azure VM to acquire an access
//! token", section "Get a token using HTTP".

use super::Selector;
use crate::azure::vault::Audience;
use crate::azure::{Call, Endpoint};
use crate::error::Service;
use crate::model::Redacted;

/// The service at its well-known address, or at the one of `AZURE_POD_IDENTITY_AUTHORITY_HOST`.
#[derive(Debug)]
pub struct Imds {
    pub(super) origin: Endpoint,
    pub(super) identity: Selector,
    /// The variables that point to other places and are set, but not completely.
    pub(super) unused: Vec<&'static str>,
}

impl Imds {
    pub(super) fn call(&self, audience: &Audience) -> Call {
        let mut query = vec![("api-version", "2018-02-01"), ("resource", audience.as_str())];
        query.extend(match &self.identity {
            Selector::SystemAssigned => None,
            Selector::ClientId(id) => Some(("client_id", id.as_str())),
            Selector::ObjectId(id) => Some(("object_id", id.as_str())),
            Selector::ResourceId(id) => Some(("msi_res_id", id.as_str())),
        });
        let endpoint = self.origin.at(PATH.to_owned()).with_query(&query);
        Call::get(Service::TokenSource, endpoint).header("metadata", Redacted::new("true".to_owned()))
    }
}

/// The address of the service on every machine.
pub(super) const ADDRESS: &str = "http://169.254.169.254";

const PATH: &str = "/metadata/identity/oauth2/token";
