//! Azure Key Vault and Azure's token endpoints in one process, as strict as Azure.
//!
//! An [`Emulator`] answers requests in process ([`Emulator::answer`]) or on loopback ([`Emulator::serve`]).
//! Both use the same state: secrets, tokens, [`Fault`]s and a journal of [`Call`]s.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use keyvault_emulator::{Emulator, Fault, Refusal, Source};
//!
//! let emulator = Emulator::new();
//! emulator.set_secret("db-password", "correct horse").expect("a valid name");
//! emulator.fault(Fault::refuse(Refusal::Throttled).times(1).retry_after("1"));
//!
//! let served = emulator.serve().await?;
//! for (name, value) in served.settings(Source::AppService2017) {
//!     // The environment of the program under test: KeyVaultUri, MSI_ENDPOINT, MSI_SECRET, …
//!     # let _ = (name, value);
//! }
//! // … run it, then check its requests:
//! assert_eq!((emulator.token_calls().len(), emulator.vault_calls().len()), (0, 0));
//! # Ok(()) }
//! ```
//!
//! It also acts as Entra for the callers of a gateway: it signs access tokens ([`Emulator::caller_claims`]),
//! publishes the JWKS, and issues tokens for [`Settings::caller_audience`]. For federated sign-in it makes
//! client assertions ([`Emulator::cluster_assertion`]) and accepts those that match
//! [`Settings::federated_credentials`]. And it acts as OIDC issuers of callers' tokens, at `/oidc/{name}`
//! ([`Emulator::platform_token`]).
//!
//! `README.md` lists the routes, the control routes, and the differences to Azure.

mod answer;
mod assertions;
mod bundle;
mod certificates;
mod cloud;
mod control;
pub mod facts;
mod faults;
mod identity;
mod journal;
mod oidc;
mod random;
mod refusal;
mod request;
mod response;
mod seed;
mod server;
mod settings;
mod signing;
mod store;
mod tokens;
mod vault;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

pub use crate::faults::{Answer, Effect, Fault, Upstream};
pub use crate::identity::token_refusal::TokenRefusal;
pub use crate::journal::{Call, Credential};
pub use crate::refusal::Refusal;
pub use crate::request::Kind;
pub use crate::seed::read_secrets;
pub use crate::server::{Addresses, Served};
pub use crate::settings::{ExpiresIn, ExpiresOn, FederatedCredential, Settings, Source, UserAssigned};

use crate::answer::State;
use crate::identity::Credentials;
use crate::signing::PublishedKeys;
use crate::store::Properties;
use crate::tokens::Tokens;

/// The body of a response. Its only error is a cut connection.
pub type Body = UnsyncBoxBody<Bytes, Cut>;

/// The connection ended before the response was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was cut")]
pub struct Cut;

/// The vault refuses a secret because of its name, its value or its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vault does not accept this secret")]
pub struct NotTaken;

/// A Key Vault with token endpoints. Clones share their state.
#[derive(Clone)]
pub struct Emulator {
    credentials: Arc<Credentials>,
    state: Arc<Mutex<State>>,
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// Creates an empty vault and new credentials for each token source.
    pub fn new() -> Self {
        let credentials = Credentials {
            identity_header: random::text::<40>(),
            client_secret: random::text::<40>(),
            github_token: random::text::<40>(),
        };
        let assertion_keys = PublishedKeys::from_number(FIRST_ASSERTION_KEY);
        let state = State { assertion_keys, ..State::default() };
        Self { credentials: Arc::new(credentials), state: Arc::new(Mutex::new(state)) }
    }

    /// Adds a secret or a version of it, and returns the version. Recovers a deleted secret first.
    pub fn set_secret(&self, name: &str, value: &str) -> Result<String, NotTaken> {
        // An invalid secret must not recover the deleted one.
        if !store::is_secret_name(name) || value.len() > store::MAX_VALUE_BYTES {
            return Err(NotTaken);
        }
        let mut state = self.lock();
        // Fails if the name is new or in use, where nothing is to be recovered.
        let _ = state.store.recover(name);
        let secret = state.store.set(name, value.to_owned(), Properties::default(), now());
        Ok(secret.map_err(|_| NotTaken)?.latest().id.clone())
    }

    pub fn enable_secret(&self, name: &str, enabled: bool) -> Result<(), NotTaken> {
        let properties = Properties::enabled(enabled);
        self.lock().store.update(name, None, properties, now()).map_err(|_| NotTaken)
    }

    pub fn delete_secret(&self, name: &str) -> Result<(), NotTaken> {
        self.lock().store.delete(name, now()).map(|_| ()).map_err(|_| NotTaken)
    }

    /// Changes the settings, but not issued tokens. A managed identity gets its cached token until that
    /// expires.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock().settings);
    }

    /// Returns the last 10,000 access tokens, oldest first, for tests that search output for leaked tokens.
    pub fn tokens(&self) -> Vec<String> {
        self.lock().tokens.order.iter().cloned().collect()
    }

    /// Returns the last 10,000 client assertions, oldest first, for the same tests.
    pub fn assertions(&self) -> Vec<String> {
        self.lock().tokens.assertions.iter().cloned().collect()
    }

    /// Forgets all issued tokens, which the vault then refuses, and empties the platform's token cache.
    pub fn forget_tokens(&self) {
        self.lock().tokens = Tokens::default();
    }

    /// Adds a fault. If several match a request, the first added applies.
    ///
    /// # Panics
    ///
    /// Panics if no request can match the fault, because the test would test nothing.
    #[track_caller]
    pub fn fault(&self, fault: Fault) {
        let added = self.lock().faults.add(fault);
        if let Err(reason) = added {
            panic!("{reason}");
        }
    }

    pub fn clear_faults(&self) {
        self.lock().faults.rules.clear();
    }

    /// Returns the last 10,000 requests, oldest first.
    pub fn journal(&self) -> Vec<Call> {
        self.calls(|_| true)
    }

    pub fn vault_calls(&self) -> Vec<Call> {
        self.calls(|kind| kind == Kind::Vault)
    }

    pub fn token_calls(&self) -> Vec<Call> {
        self.calls(|kind| matches!(kind, Kind::Token(_)))
    }

    fn calls(&self, includes: fn(Kind) -> bool) -> Vec<Call> {
        self.lock().journal.calls.iter().filter(|call| includes(call.kind)).cloned().collect()
    }

    pub fn clear_journal(&self) {
        self.lock().journal.calls.clear();
    }

    /// Returns the environment of a program that uses one token source of this emulator at `base`, such as
    /// `http://127.0.0.1:8080`. Some of the values are credentials.
    pub fn settings(&self, source: Source, base: &str) -> Vec<(&'static str, String)> {
        let Credentials { identity_header: identity, client_secret: client, github_token } =
            Credentials::clone(&self.credentials);
        // The names of Azure's SDKs for the application, and the authority of a cloud.
        let application = |authority_host: String| {
            vec![
                ("AZURE_TENANT_ID", facts::TENANT.to_owned()),
                ("AZURE_CLIENT_ID", facts::APP_ID.to_owned()),
                ("AZURE_AUTHORITY_HOST", authority_host),
            ]
        };
        let source = match source {
            Source::AppService2019 => {
                vec![("IDENTITY_ENDPOINT", format!("{base}/msi/token")), ("IDENTITY_HEADER", identity)]
            }
            Source::AppService2017 => {
                vec![("MSI_ENDPOINT", format!("{base}/msi/token")), ("MSI_SECRET", identity)]
            }
            Source::Imds => vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.to_owned())],
            Source::CloudShell => vec![("MSI_ENDPOINT", format!("{base}/oauth2/token"))],
            Source::ClientSecret => vec![
                ("AZURE_TENANT_ID", facts::TENANT.to_owned()),
                ("AZURE_CLIENT_ID", facts::APP_ID.to_owned()),
                ("AZURE_CLIENT_SECRET", client),
                ("AZURE_AUTHORITY_HOST", base.to_owned()),
            ],
            // The webhook of Workload Identity writes the authority with a slash.
            Source::WorkloadIdentity => application(format!("{base}/")),
            Source::ManagedIdentityFederation => vec![
                ("IDENTITY_SOURCE", "managed-identity-federation".to_owned()),
                ("FEDERATION_TENANT_ID", facts::TENANT.to_owned()),
                ("FEDERATION_CLIENT_ID", facts::APP_ID.to_owned()),
                ("AZURE_AUTHORITY_HOST", base.to_owned()),
                ("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.to_owned()),
            ],
            Source::GithubActions => {
                let mut settings = application(base.to_owned());
                settings.extend([
                    ("IDENTITY_SOURCE", "github-actions".to_owned()),
                    ("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{base}/github/idtoken?api-version=2.0")),
                    ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", github_token),
                ]);
                settings
            }
            Source::GoogleCloud => {
                let host = base.split_once("://").map_or(base, |(_, host)| host).to_owned();
                let mut settings = application(base.to_owned());
                settings
                    .extend([("IDENTITY_SOURCE", "google-cloud".to_owned()), ("GCE_METADATA_HOST", host)]);
                settings
            }
            Source::AzureArc => vec![
                ("IDENTITY_ENDPOINT", format!("{base}/metadata/identity/oauth2/token")),
                ("IMDS_ENDPOINT", base.to_owned()),
            ],
        };
        let vault = [
            ("KeyVaultUri", format!("{base}/")),
            ("KEY_VAULT_RESOURCE", self.lock().settings.audience.clone()),
        ];
        vault.into_iter().chain(source).collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics while it holds the lock must not fail the other tests.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of client assertions have higher numbers than those of callers' tokens, unless a test rotates the
/// latter a thousand times.
const FIRST_ASSERTION_KEY: usize = 1_000;

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
