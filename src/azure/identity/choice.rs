//! Which token source the settings mean.

use super::selector::id_text;
use super::{Selector, TokenSource, app_service_2017, app_service_2019, client_secret, cloud_shell, imds};
use crate::azure::Endpoint;
use crate::azure::vault::Vault;
use crate::error::SettingError;
use crate::secret::Redacted;
use crate::settings::Lookup;

impl TokenSource {
    /// The source that `IDENTITY_SOURCE` names, or else the first one that has its settings. Set means not empty.
    ///
    /// App Service sets both its pairs, so the newer protocol stands first. An `IDENTITY_ENDPOINT` without its header
    /// is another service's (Azure Arc has one) and is passed over, as Microsoft's own libraries do. A secret without
    /// its endpoint can only be a mistake, and to pass it over could mean to sign in as somebody else.
    pub(crate) fn choose(settings: Lookup<'_>, vault: &Vault) -> Result<Self, SettingError> {
        let sources: [(&str, Source); 5] = [
            ("app-service-2019", |settings, _| app_service_2019(settings)),
            ("app-service-2017", |settings, _| app_service_2017(settings)),
            ("cloud-shell", |settings, _| cloud_shell(settings)),
            ("client-secret", client_secret),
            ("imds", |settings, _| imds(settings).map(Some)),
        ];
        if let Some(named) = settings.text("IDENTITY_SOURCE")? {
            let unknown = SettingError {
                name: "IDENTITY_SOURCE",
                should: "must be app-service-2019, app-service-2017, cloud-shell, client-secret or imds",
            };
            let (_, source) = sources.into_iter().find(|it| it.0 == named).ok_or(unknown)?;
            return source(settings, vault)?.ok_or(SettingError {
                name: "IDENTITY_SOURCE",
                should: "names a source whose own settings are not set",
            });
        }
        let first = sources.into_iter().find_map(|(_, source)| source(settings, vault).transpose());
        first.unwrap_or_else(|| imds(settings))
    }
}

type Source = fn(Lookup<'_>, &Vault) -> Result<Option<TokenSource>, SettingError>;

fn app_service_2019(settings: Lookup<'_>) -> Result<Option<TokenSource>, SettingError> {
    let Some(header) = settings.field_text("IDENTITY_HEADER")? else { return Ok(None) };
    let endpoint = settings.text("IDENTITY_ENDPOINT")?.ok_or(missing("IDENTITY_ENDPOINT"))?;
    Ok(Some(TokenSource::AppService2019(app_service_2019::AppService2019 {
        endpoint: address("IDENTITY_ENDPOINT", &endpoint)?,
        header,
        identity: Selector::read(settings)?,
    })))
}

fn app_service_2017(settings: Lookup<'_>) -> Result<Option<TokenSource>, SettingError> {
    let Some(secret) = settings.field_text("MSI_SECRET")? else { return Ok(None) };
    let endpoint = settings.text("MSI_ENDPOINT")?.ok_or(missing("MSI_ENDPOINT"))?;
    let identity = Selector::read(settings)?;
    refuse_ids(&identity, false)?;
    Ok(Some(TokenSource::AppService2017(app_service_2017::AppService2017 {
        endpoint: address("MSI_ENDPOINT", &endpoint)?,
        secret,
        identity,
    })))
}

fn cloud_shell(settings: Lookup<'_>) -> Result<Option<TokenSource>, SettingError> {
    let Some(endpoint) = settings.text("MSI_ENDPOINT")? else { return Ok(None) };
    refuse_ids(&Selector::read(settings)?, true)?;
    Ok(Some(TokenSource::CloudShell(cloud_shell::CloudShell {
        endpoint: address("MSI_ENDPOINT", &endpoint)?,
    })))
}

/// A tenant and a client id without a secret is what AKS sets for workload identity, so that is passed over.
fn client_secret(settings: Lookup<'_>, vault: &Vault) -> Result<Option<TokenSource>, SettingError> {
    let Some(secret) = settings.text("AZURE_CLIENT_SECRET")? else { return Ok(None) };
    let tenant = settings.text("AZURE_TENANT_ID")?.ok_or(missing("AZURE_TENANT_ID"))?;
    let client_id = settings.text("AZURE_CLIENT_ID")?.ok_or(missing("AZURE_CLIENT_ID"))?;
    Selector::read(settings)?;
    Ok(Some(TokenSource::ClientSecret(client_secret::ClientSecret {
        authority: vault.cloud().authority(settings)?,
        tenant: tenant_id(tenant)?,
        client_id: id_text("AZURE_CLIENT_ID", client_id)?,
        client_secret: Redacted::new(secret),
    })))
}

fn imds(settings: Lookup<'_>) -> Result<TokenSource, SettingError> {
    let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let host = settings.text(name)?;
    let origin = Endpoint::parse(host.as_deref().unwrap_or(imds::ADDRESS))
        .filter(Endpoint::is_origin)
        .ok_or(SettingError { name, should: "must be the http address of a host, without a path" })?;
    Ok(TokenSource::Imds(imds::Imds { origin, identity: Selector::read(settings)? }))
}

/// The older protocols cannot select by every id, and Cloud Shell by none. To ask for another identity than the one
/// that was chosen would be a guess, so that is an error.
const fn refuse_ids(identity: &Selector, client_id_too: bool) -> Result<(), SettingError> {
    let name = match identity {
        Selector::SystemAssigned => return Ok(()),
        Selector::ClientId(_) if !client_id_too => return Ok(()),
        Selector::ClientId(_) => "AZURE_CLIENT_ID",
        Selector::ObjectId(_) => "IDENTITY_OBJECT_ID",
        Selector::ResourceId(_) => "IDENTITY_RESOURCE_ID",
    };
    Err(SettingError { name, should: "cannot select an identity at this token source" })
}

const fn missing(name: &'static str) -> SettingError {
    SettingError { name, should: "must be set, as the secret that belongs to it is" }
}

fn address(name: &'static str, text: &str) -> Result<Endpoint, SettingError> {
    Endpoint::parse(text).ok_or(SettingError { name, should: "must be an http or https address" })
}

/// Accepts a tenant by its id or by one of its domain names.
fn tenant_id(text: String) -> Result<String, SettingError> {
    let valid = text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'.');
    if valid && text.len() <= 253 && !text.starts_with('.') {
        Ok(text)
    } else {
        Err(SettingError { name: "AZURE_TENANT_ID", should: "must be the id or a domain name of a tenant" })
    }
}
