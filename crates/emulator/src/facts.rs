//! Identifiers of the emulated identity and vault, which Azure's messages contain.

pub const TENANT: &str = "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42";

/// The application id (client id) of the system-assigned identity and of the client with a secret.
pub const APP_ID: &str = "a0c7d5e2-91b3-4c68-8e4f-5d2b7f9a1e36";

/// The object id of the same identity.
pub const OBJECT_ID: &str = "d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05";

/// The client address that the vault reports in firewall errors.
pub const CLIENT_ADDRESS: &str = "203.0.113.57";

/// The vault's name and region, as its messages write them.
pub const VAULT: &str = "kv-emulated;location=westeurope";

/// The identifiers of Azure above, for tests that search a gateway's output for them.
pub const ALL: [&str; 5] = [TENANT, APP_ID, OBJECT_ID, CLIENT_ADDRESS, VAULT];

/// The issuer of the emulated cluster's service account tokens, with the slash at its end that AKS writes
/// (Microsoft Learn, "Use a Microsoft Entra Workload ID on AKS").
pub const CLUSTER_ISSUER: &str = "https://oidc.example/cluster/";

/// The subject of the gateway's service account: `system:serviceaccount:<namespace>:<name>`.
pub const CLUSTER_SUBJECT: &str = "system:serviceaccount:gateway:keyvault-gateway";

/// The issuer and the subject of a job for a branch (GitHub Docs, "OpenID Connect reference").
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
pub const GITHUB_SUBJECT: &str = "repo:example/gateway:ref:refs/heads/main";

/// The issuer of Google's identity tokens, and a service account's unique id as the subject (Microsoft Learn,
/// "Configure an app to trust an external identity provider", Google Cloud).
pub const GOOGLE_ISSUER: &str = "https://accounts.google.com";
pub const GOOGLE_SUBJECT: &str = "112633961854638529490";

/// The audience of client assertions for federated identity credentials in the public cloud.
pub const EXCHANGE_AUDIENCE: &str = "api://AzureADTokenExchange";

/// The directory of the keys of Azure Arc's agent on Linux (`azure-identity` for Python, `azure_arc.py`).
pub const ARC_KEYS: &str = "/var/opt/azcmagent/tokens";

/// Returns the issuer of the managed identities' tokens, as a federated identity credential names it.
///
/// Source: Microsoft Learn, "Configure an application to trust a managed identity".
pub fn managed_identity_issuer() -> String {
    format!("https://login.microsoftonline.com/{TENANT}/v2.0")
}
