//! Selects one of the identities that a place has.

use crate::env::Lookup;
use crate::error::SettingError;

/// The identity that a token is requested for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The system-assigned identity of the place.
    SystemAssigned,
    /// The user-assigned identity with this client id.
    ClientId(String),
    /// The user-assigned identity with this object id, which is also called principal id.
    ObjectId(String),
    /// The user-assigned identity with this Azure resource id.
    ResourceId(String),
}

impl Selector {
    /// Parses the settings that select an identity. At most one of them may be set.
    pub(super) fn parse(settings: Lookup<'_>) -> Result<Self, SettingError> {
        let client_id = settings.text("AZURE_CLIENT_ID")?;
        let object_id = settings.text("IDENTITY_OBJECT_ID")?;
        let resource_id = settings.text("IDENTITY_RESOURCE_ID")?;
        let alone = |name| SettingError { name, should: "cannot be set together with another identity" };
        match (client_id, object_id, resource_id) {
            (None, None, None) => Ok(Self::SystemAssigned),
            (Some(id), None, None) => Ok(Self::ClientId(id_text("AZURE_CLIENT_ID", id)?)),
            (None, Some(id), None) => Ok(Self::ObjectId(id_text("IDENTITY_OBJECT_ID", id)?)),
            (None, None, Some(id)) => {
                let invalid = SettingError {
                    name: "IDENTITY_RESOURCE_ID",
                    should: "must be the resource id of a managed identity, /subscriptions/…",
                };
                let valid = id.starts_with("/subscriptions/")
                    && id.len() <= 1024
                    && id.bytes().all(|byte| byte.is_ascii_graphic());
                if valid { Ok(Self::ResourceId(id)) } else { Err(invalid) }
            }
            (_, Some(_), _) => Err(alone("IDENTITY_OBJECT_ID")),
            (_, None, Some(_)) => Err(alone("IDENTITY_RESOURCE_ID")),
        }
    }
}

/// Parses an identifier of Entra ID: letters, digits and hyphens.
pub(super) fn id_text(name: &'static str, text: String) -> Result<String, SettingError> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if allowed && text.len() <= 64 {
        Ok(text)
    } else {
        Err(SettingError { name, should: "must be an identifier of letters, digits and hyphens" })
    }
}
