//! Entra ID with a client secret, for use outside Azure.
//!
//! Source: Microsoft, "Microsoft identity platform and the OAuth 2.0 client credentials flow", section "First
//! case: Access token request with a shared secret".

use crate::azure::vault::Audience;
use crate::azure::{Call, Endpoint};
use crate::error::Service;
use crate::model::Redacted;

/// An application in a tenant, with its secret.
#[derive(Debug)]
pub struct ClientSecret {
    pub(super) authority: Endpoint,
    pub(super) tenant: String,
    pub(super) client_id: String,
    pub(super) client_secret: Redacted,
}

impl ClientSecret {
    pub(super) fn call(&self, audience: &Audience) -> Call {
        // A form writes each byte with at most three, so the text never moves and leaves no copy of the
        // secret behind.
        let parts = [&self.client_id, self.client_secret.expose(), audience.as_str()];
        let length = parts.iter().map(|part| part.len().saturating_mul(3)).fold(100, usize::saturating_add);
        let form = form_urlencoded::Serializer::new(String::with_capacity(length))
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.client_secret.expose())
            .append_pair("scope", &format!("{}/.default", audience.as_str()))
            .finish();
        let endpoint = self.authority.at(format!("/{}/oauth2/v2.0/token", self.tenant));
        Call::post_form(Service::TokenSource, endpoint, form)
    }
}
