//! What the emulated identity and vault are called. Azure's messages are full of these.

pub const TENANT: &str = "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42";

/// The application, or client id, of the system-assigned identity and of the client with a secret.
pub const APP_ID: &str = "a0c7d5e2-91b3-4c68-8e4f-5d2b7f9a1e36";

/// The object id of the same.
pub const OBJECT_ID: &str = "d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05";

/// The address that the vault saw the request come from.
pub const CLIENT_ADDRESS: &str = "203.0.113.57";

/// The vault's name and region, as its messages give them.
pub const VAULT: &str = "kv-emulated;location=westeurope";

/// Everything above: no client of a gateway may see any of it.
pub const ALL: [&str; 5] = [TENANT, APP_ID, OBJECT_ID, CLIENT_ADDRESS, VAULT];
