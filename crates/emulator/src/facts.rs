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

/// All of the above, for tests that search a gateway's output for them.
pub const ALL: [&str; 5] = [TENANT, APP_ID, OBJECT_ID, CLIENT_ADDRESS, VAULT];
