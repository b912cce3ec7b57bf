//! A Key Vault and the token endpoints of Azure in one process, as strict as Azure with each request, for tests.
//!
//! An [`Emulator`] answers requests in process, or serves them on loopback: see [`Emulator::answer`] and
//! [`Emulator::serve`]. Both see one state: secrets, tokens, [`Fault`]s and a journal of [`Call`]s.
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
//! // … run it, then look at what it asked:
//! assert_eq!((emulator.token_calls().len(), emulator.vault_calls().len()), (0, 0));
//! # Ok(()) }
//! ```
//!
//! It is Entra, too, for the callers of a gateway that bring a token of their own: it signs such tokens, publishes the
//! keys for them, and gives them to a client that asks for [`Settings::caller_audience`]. See [`Emulator::caller_claims`].
//!
//! What it has on the wire, its control routes among them, and what Azure minds and it does not: see its `README.md`.

#![expect(missing_docs, reason = "an item without a comment is what its name says")]

mod answer;
mod bundle;
mod certificates;
mod cloud;
mod control;
pub mod facts;
mod faults;
mod identity;
mod journal;
mod random;
mod refusal;
mod reply;
mod request;
mod seed;
mod server;
mod settings;
mod signing;
mod store;
mod tokens;
mod vault;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

pub use crate::faults::{Answer, Effect, Fault, Upstream};
pub use crate::identity::wording::TokenRefusal;
pub use crate::journal::{Call, Credential};
pub use crate::refusal::Refusal;
pub use crate::request::Kind;
pub use crate::seed::read_secrets;
pub use crate::server::{Addresses, Served};
pub use crate::settings::{ExpiresIn, ExpiresOn, Settings, Source, UserAssigned};

use crate::answer::State;
use crate::identity::Keys;
use crate::store::Properties;

/// The body of an answer. Its only error is the connection's end.
pub type Body = UnsyncBoxBody<Bytes, Cut>;

/// The connection has ended before the answer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was cut")]
pub struct Cut;

/// The vault does not take a secret, because of its name, its value or its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vault does not take this secret")]
pub struct NotTaken;

/// A Key Vault with its token endpoints. Clones share their state.
#[derive(Clone)]
pub struct Emulator {
    keys: Arc<Keys>,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Emulator(..)")
    }
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// An empty vault, and credentials that no other emulator has.
    pub fn new() -> Self {
        let keys = Keys { identity: random::credential(), client: random::credential() };
        Self { keys: Arc::new(keys), state: Arc::default() }
    }

    /// Adds a secret, or a version to it, and returns the version. One that was deleted is recovered first.
    pub fn set_secret(&self, name: &str, value: &str) -> Result<String, NotTaken> {
        // What is not taken recovers nothing.
        if !store::is_name(name) || value.len() > store::LONGEST_VALUE {
            return Err(NotTaken);
        }
        let mut state = self.lock();
        // There is nothing to recover for a name that is new or in use.
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

    /// Changes the settings. Tokens that were given out stay as they are, and a managed identity is given the one that it
    /// has until that has ended, or until [`Emulator::forget_tokens`].
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock().settings);
    }

    /// The tokens that have been given out, the last 10,000 of them, oldest first: for a test that looks for them where
    /// they must not be.
    pub fn tokens(&self) -> Vec<String> {
        self.lock().tokens.all().map(str::to_owned).collect()
    }

    /// Makes every token unknown: the next request with one is 401. What the platform keeps for managed identities is
    /// forgotten with them, so that they are given new ones; nothing else does that before a token has ended, as in Azure.
    pub fn forget_tokens(&self) {
        self.lock().tokens.forget();
    }

    /// Adds a fault. Of those that befall a request the first added wins.
    ///
    /// # Panics
    ///
    /// If no request can meet it: a test with such a fault tests nothing.
    #[track_caller]
    pub fn fault(&self, fault: Fault) {
        let added = self.lock().faults.add(fault);
        if let Err(sentence) = added {
            panic!("{sentence}");
        }
    }

    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// The last 10,000 requests, oldest first.
    pub fn journal(&self) -> Vec<Call> {
        self.calls(|_| true)
    }

    pub fn vault_calls(&self) -> Vec<Call> {
        self.calls(|kind| kind == Kind::Vault)
    }

    pub fn token_calls(&self) -> Vec<Call> {
        self.calls(|kind| matches!(kind, Kind::Token(_)))
    }

    pub fn signing_key_calls(&self) -> Vec<Call> {
        self.calls(|kind| kind == Kind::SigningKeys)
    }

    fn calls(&self, of: fn(Kind) -> bool) -> Vec<Call> {
        self.lock().journal.calls().filter(|call| of(call.kind)).cloned().collect()
    }

    pub fn clear_journal(&self) {
        self.lock().journal.clear();
    }

    /// The environment that leads a program to this emulator at `base` (`http://127.0.0.1:8080`, without a
    /// slash at its end) by way of one token source. Names and values; some of the values are credentials.
    pub fn settings(&self, source: Source, base: &str) -> Vec<(&'static str, String)> {
        let (identity, client) = (self.keys.identity.clone(), self.keys.client.clone());
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
        };
        let vault = [
            ("KeyVaultUri", format!("{base}/")),
            ("KEY_VAULT_RESOURCE", self.lock().settings.audience.clone()),
        ];
        vault.into_iter().chain(source).collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics while it changes the settings must not take the others with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
