//! Detects the token source from the settings.

use super::federated::{AssertionCall, AssertionSource, Federated, Issuer};
use super::selector::id_text;
use super::{
    Selector, TokenSource, app_service_2017, app_service_2019, azure_arc, client_secret, cloud_shell, imds,
};
use crate::azure::Endpoint;
use crate::azure::vault::{Audience, Vault};
use crate::env::Lookup;
use crate::error::SettingError;
use crate::model::Redacted;

/// A place where the gateway may run, as its environment variables identify it. A variable with an empty
/// value counts as not set.
struct Place {
    /// The value of `IDENTITY_SOURCE` that selects the place outright, if all that it `needs` is set.
    name: &'static str,
    /// The place is eligible if all of these are set. Some of them alone mean nothing: platforms set them for
    /// services of their own.
    needs: &'static [&'static str],
    /// The place is not eligible if one of these is set, as it is another place then.
    unless: &'static [&'static str],
    /// Whether the source reads a file. Without a reader the place is not eligible.
    has_file: bool,
    /// The constructor of the source; or the variable that marks the place, and why it is not supported.
    source: Result<Source, SettingError>,
}

type Source = fn(Lookup<'_>, &Vault) -> Result<TokenSource, SettingError>;

/// All places. The first eligible one is selected, as in Microsoft's libraries.
///
/// App Service sets both its pairs, so the newer protocol comes before the older one, whose pair Azure
/// Machine Learning sets alone. Container Instances set `IDENTITY_HEADER` and `IDENTITY_SERVER_THUMBPRINT`
/// without an endpoint on Linux, where they have a metadata service (MicrosoftDocs/azure-docs issue 122273).
/// On Windows they set all three and use the protocol of Service Fabric (Azure/azure-sdk-for-net issue
/// 45547). A server with Azure Arc has its two endpoints without a header. Kubernetes sets a tenant and a
/// client id without a secret for workload identity.
const PLACES: [Place; 9] = [
    Place {
        name: "app-service-2019",
        needs: &["IDENTITY_ENDPOINT", "IDENTITY_HEADER"],
        unless: &["IDENTITY_SERVER_THUMBPRINT"],
        has_file: false,
        source: Ok(app_service_2019),
    },
    Place {
        name: "app-service-2017",
        needs: &["MSI_ENDPOINT", "MSI_SECRET"],
        unless: &[],
        has_file: false,
        source: Ok(app_service_2017),
    },
    Place {
        name: "cloud-shell",
        needs: &["MSI_ENDPOINT"],
        unless: &["MSI_SECRET"],
        has_file: false,
        source: Ok(cloud_shell),
    },
    Place {
        name: "client-secret",
        needs: &["AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"],
        unless: &[],
        has_file: false,
        source: Ok(client_secret),
    },
    Place {
        name: "workload-identity",
        needs: &["AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"],
        unless: &[],
        has_file: true,
        source: Ok(workload_identity),
    },
    Place {
        name: "service-fabric",
        needs: &["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT"],
        unless: &[],
        has_file: false,
        source: Err(SettingError {
            name: "IDENTITY_SERVER_THUMBPRINT",
            should: "belongs to Service Fabric, or to Container Instances on Windows, whose managed \
                     identities are not supported; AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET \
                     work there",
        }),
    },
    Place {
        name: "azure-arc",
        needs: &["IDENTITY_ENDPOINT", "IMDS_ENDPOINT"],
        unless: &[],
        has_file: true,
        source: Ok(azure_arc),
    },
    Place {
        name: "azure-arc",
        needs: &["IDENTITY_ENDPOINT", "IMDS_ENDPOINT"],
        unless: &[],
        has_file: false,
        source: Err(SettingError {
            name: "IMDS_ENDPOINT",
            should: "belongs to a server with Azure Arc, whose managed identity needs a component with a \
                     reader of its key file; AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET work \
                     without one",
        }),
    },
    // The fallback where no other place is eligible.
    Place { name: "imds", needs: &[], unless: &[], has_file: false, source: Ok(imds) },
];

/// Sources that only `IDENTITY_SOURCE` selects: their variables say too little, or are not about Azure.
const NAMED: [Place; 3] = [
    Place {
        name: "managed-identity-federation",
        needs: &["FEDERATION_TENANT_ID", "FEDERATION_CLIENT_ID"],
        unless: &[],
        has_file: false,
        source: Ok(managed_identity_federation),
    },
    Place {
        name: "github-actions",
        needs: &[
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "AZURE_TENANT_ID",
            "AZURE_CLIENT_ID",
        ],
        unless: &[],
        has_file: false,
        source: Ok(github_actions),
    },
    Place {
        name: "google-cloud",
        needs: &["AZURE_TENANT_ID", "AZURE_CLIENT_ID"],
        unless: &[],
        has_file: false,
        source: Ok(google_cloud),
    },
];

/// The places whose managed identity may sign in to an application of another tenant.
const MANAGED: [&str; 3] = ["app-service-2019", "app-service-2017", "imds"];

/// The variables that point to a place. If one of them is set but was not enough to select its place, and
/// IMDS fails, the log and `/readyz` name it.
const POINTERS: [&str; 7] = [
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
];

impl TokenSource {
    /// The source that `IDENTITY_SOURCE` names, or else that of the first eligible place. Sources with a file
    /// need a host that `has_reader`.
    pub(crate) fn detect(
        settings: Lookup<'_>,
        vault: &Vault,
        has_reader: bool,
    ) -> Result<Self, SettingError> {
        if let Some(name) = settings.text("IDENTITY_SOURCE")? {
            let invalid = |should| SettingError { name: "IDENTITY_SOURCE", should };
            let mut known = PLACES.iter().chain(&NAMED).filter(|place| place.name == name);
            let named = known.find_map(|place| Some((place, place.source.ok()?)));
            let (place, source) = named.ok_or(invalid(
                "must be app-service-2019, app-service-2017, cloud-shell, client-secret, workload-identity, \
                 managed-identity-federation, github-actions, google-cloud, azure-arc or imds",
            ))?;
            if place.has_file && !has_reader {
                return Err(invalid("names a source that needs a component with a reader of token files"));
            }
            if !all_set(settings, place.needs)? {
                return Err(invalid("names a source whose own settings are not set"));
            }
            return source(settings, vault);
        }
        for place in PLACES.iter().filter(|place| has_reader || !place.has_file) {
            if is_eligible(settings, place)? {
                let mut source = place.source?(settings, vault)?;
                if let Self::Imds(imds) = &mut source {
                    imds.unused = set_of(settings, &POINTERS)?;
                }
                return Ok(source);
            }
        }
        imds(settings, vault)
    }
}

fn is_eligible(settings: Lookup<'_>, place: &Place) -> Result<bool, SettingError> {
    Ok(all_set(settings, place.needs)? && none_set(settings, place.unless)?)
}

fn all_set(settings: Lookup<'_>, names: &'static [&'static str]) -> Result<bool, SettingError> {
    set_of(settings, names).map(|set| set.len() == names.len())
}

fn none_set(settings: Lookup<'_>, names: &'static [&'static str]) -> Result<bool, SettingError> {
    set_of(settings, names).map(|set| set.is_empty())
}

/// Those of `names` that are set.
fn set_of(settings: Lookup<'_>, names: &'static [&'static str]) -> Result<Vec<&'static str>, SettingError> {
    let mut set = Vec::new();
    for name in names {
        if settings.text(name)?.is_some() {
            set.push(*name);
        }
    }
    Ok(set)
}

fn app_service_2019(settings: Lookup<'_>, _: &Vault) -> Result<TokenSource, SettingError> {
    Ok(TokenSource::AppService2019(app_service_2019::AppService2019 {
        endpoint: address("IDENTITY_ENDPOINT", settings)?,
        header: settings.header_text("IDENTITY_HEADER")?.ok_or(missing("IDENTITY_HEADER"))?,
        identity: Selector::parse(settings)?,
    }))
}

fn app_service_2017(settings: Lookup<'_>, _: &Vault) -> Result<TokenSource, SettingError> {
    let mut identity = Selector::parse(settings)?;
    refuse_ids(&identity, false)?;
    // Azure Machine Learning has its managed identity in this variable. Without a client id it returns a
    // token of the signed-in user (AzureAD/microsoft-authentication-library-for-js issue 7838).
    if let (Selector::SystemAssigned, Some(id)) = (&identity, settings.text("DEFAULT_IDENTITY_CLIENT_ID")?)
        && is_guid(&id)
    {
        identity = Selector::ClientId(id);
    }
    Ok(TokenSource::AppService2017(app_service_2017::AppService2017 {
        endpoint: address("MSI_ENDPOINT", settings)?,
        secret: settings.header_text("MSI_SECRET")?.ok_or(missing("MSI_SECRET"))?,
        identity,
    }))
}

fn cloud_shell(settings: Lookup<'_>, _: &Vault) -> Result<TokenSource, SettingError> {
    refuse_ids(&Selector::parse(settings)?, true)?;
    Ok(TokenSource::CloudShell(cloud_shell::CloudShell { endpoint: address("MSI_ENDPOINT", settings)? }))
}

fn client_secret(settings: Lookup<'_>, vault: &Vault) -> Result<TokenSource, SettingError> {
    let text = |name| settings.text(name)?.ok_or(missing(name));
    Selector::parse(settings)?;
    Ok(TokenSource::ClientSecret(client_secret::ClientSecret {
        authority: vault.cloud().authority(settings)?,
        tenant: tenant_id("AZURE_TENANT_ID", text("AZURE_TENANT_ID")?)?,
        client_id: id_text("AZURE_CLIENT_ID", text("AZURE_CLIENT_ID")?)?,
        client_secret: Redacted::new(text("AZURE_CLIENT_SECRET")?),
    }))
}

fn workload_identity(settings: Lookup<'_>, vault: &Vault) -> Result<TokenSource, SettingError> {
    let name = "AZURE_FEDERATED_TOKEN_FILE";
    let file = settings.text(name)?.ok_or(missing(name))?;
    if !is_file_name(&file) {
        let should =
            "must be the absolute path of a file, of ASCII letters, digits and . _ - @ /, without ..";
        return Err(SettingError { name, should });
    }
    federated(settings, vault, APPLICATION, AssertionSource::File(file))
}

fn managed_identity_federation(settings: Lookup<'_>, vault: &Vault) -> Result<TokenSource, SettingError> {
    let mut managed = PLACES.iter().filter(|place| MANAGED.contains(&place.name));
    let name = "IDENTITY_ENDPOINT";
    let place = loop {
        match managed.next() {
            // The last place. Where the variable is set there is another one, such as Service Fabric or
            // Azure Arc, and a metadata service that answers there has another identity.
            Some(place) if place.name == "imds" && settings.text(name)?.is_some() => {
                let should =
                    "belongs to a place whose managed identity cannot sign in to an application here";
                return Err(SettingError { name, should });
            }
            Some(place) if is_eligible(settings, place)? => break place.source?,
            Some(_) => {}
            None => break imds,
        }
    };
    let issuer = Issuer::ManagedIdentity(Box::new(place(settings, vault)?));
    federated(settings, vault, ["FEDERATION_TENANT_ID", "FEDERATION_CLIENT_ID"], by_call(issuer, vault))
}

fn github_actions(settings: Lookup<'_>, vault: &Vault) -> Result<TokenSource, SettingError> {
    let (name, token) = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    let endpoint = address(name, settings)?;
    if !endpoint.is_tls() && !endpoint.is_loopback() {
        return Err(SettingError { name, should: "must be an https address" });
    }
    let token = settings.header_text(token)?.ok_or(missing(token))?;
    let assertion = by_call(Issuer::GithubActions { endpoint, token }, vault);
    federated(settings, vault, APPLICATION, assertion)
}

fn google_cloud(settings: Lookup<'_>, vault: &Vault) -> Result<TokenSource, SettingError> {
    // The name of Google's own clients for the address of the metadata service.
    let name = "GCE_METADATA_HOST";
    let host = settings.text(name)?;
    let host = host.as_deref().unwrap_or("metadata.google.internal");
    let origin = Endpoint::parse(&format!("http://{host}")).filter(Endpoint::is_origin);
    let origin = origin.ok_or(SettingError { name, should: "must be a host, with its port or without" })?;
    federated(settings, vault, APPLICATION, by_call(Issuer::GoogleCloud(origin), vault))
}

fn by_call(issuer: Issuer, vault: &Vault) -> AssertionSource {
    AssertionSource::Call(AssertionCall { issuer, audience: Audience::of_assertion(vault.cloud()) })
}

fn federated(
    settings: Lookup<'_>,
    vault: &Vault,
    [tenant, client_id]: [&'static str; 2],
    assertion: AssertionSource,
) -> Result<TokenSource, SettingError> {
    let text = |name| settings.text(name)?.ok_or(missing(name));
    Ok(TokenSource::Federated(Federated {
        authority: vault.cloud().authority(settings)?,
        tenant: tenant_id(tenant, text(tenant)?)?,
        client_id: id_text(client_id, text(client_id)?)?,
        assertion,
    }))
}

fn azure_arc(settings: Lookup<'_>, _: &Vault) -> Result<TokenSource, SettingError> {
    // An agent has the identity of its server and no other.
    refuse_ids(&Selector::parse(settings)?, true)?;
    Ok(TokenSource::AzureArc(azure_arc::AzureArc { endpoint: address("IDENTITY_ENDPOINT", settings)? }))
}

fn imds(settings: Lookup<'_>, _: &Vault) -> Result<TokenSource, SettingError> {
    let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let host = settings.text(name)?;
    let origin = Endpoint::parse(host.as_deref().unwrap_or(imds::ADDRESS))
        .filter(Endpoint::is_origin)
        .ok_or(SettingError { name, should: "must be the http address of a host, without a path" })?;
    Ok(TokenSource::Imds(imds::Imds { origin, identity: Selector::parse(settings)?, unused: Vec::new() }))
}

/// Refuses an id that the source cannot select by: the older protocol takes a client id only, and Cloud Shell
/// none. A token of another identity than the selected one would be a guess.
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
    SettingError { name, should: "is not set" }
}

fn address(name: &'static str, settings: Lookup<'_>) -> Result<Endpoint, SettingError> {
    let text = settings.text(name)?.ok_or(missing(name))?;
    Endpoint::parse(&text).ok_or(SettingError { name, should: "must be an http or https address" })
}

/// Parses a tenant's id or one of its domain names.
fn tenant_id(name: &'static str, text: String) -> Result<String, SettingError> {
    let valid = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if valid && text.len() <= 253 && !text.starts_with('.') {
        Ok(text)
    } else {
        Err(SettingError { name, should: "must be the id or a domain name of a tenant" })
    }
}

/// The settings of the application that an assertion signs in to.
const APPLICATION: [&str; 2] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID"];

/// Whether the reader of token files takes this name (`crates/token-file`): an absolute path whose segments
/// are plain. What it does not take would fail each read, and not the check of the settings.
fn is_file_name(text: &str) -> bool {
    let is_plain = |segment: &str| {
        !segment.trim_start_matches('.').is_empty()
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
    };
    text.len() <= MAX_PATH && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain))
}

/// The longest path that the reader takes, in bytes.
const MAX_PATH: usize = 1024;

/// Whether `text` is a GUID as Entra ID writes it: 8, 4, 4, 4 and 12 hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let length = |group: &str| group.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(group.len());
    let groups = text.split('-').map(length);
    groups.eq([8, 4, 4, 4, 12].map(Some))
}
