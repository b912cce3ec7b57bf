//! The store: returns the host's value of a key, or the secret that the value refers to.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::reference::{InvalidReference, Reference};

/// The configuration of the host, and the gateway.
pub trait Backend {
    /// The error of the host's configuration.
    type Unreadable;

    /// Reads a value of the host's configuration.
    fn value(&self, key: &str) -> Result<Option<String>, Self::Unreadable>;

    /// Reads all keys and values of the host's configuration.
    fn all_values(&self) -> Result<Vec<(String, String)>, Self::Unreadable>;

    /// Returns the address of the gateway's vault, or the reason why it has none.
    fn vault(&self) -> Result<String, String>;

    /// Reads a secret of that vault, or returns the reason why it cannot.
    fn secret(&self, name: &str, version: Option<&str>) -> Result<Secret, String>;

    /// Reads several secrets of that vault in one step, in their order.
    fn secrets(&self, wanted: &[Wanted]) -> Vec<Result<Secret, String>>;
}

/// A secret that the gateway returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub value: String,
    /// The time of the vault call on a clock of the gateway, equal for all reads that share one call.
    pub fetched_at: u64,
}

/// The name of a secret, and its version if that is pinned.
pub type Wanted = (String, Option<String>);

/// The reason why a key has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError<U> {
    /// The host's configuration cannot be read.
    Unreadable(U),
    /// A reference cannot be resolved. The text has the key and the reason, but not the reference or the name
    /// of the secret.
    Unresolved(String),
}

/// The store, with the references that it has resolved.
#[derive(Debug)]
pub struct Store<B> {
    backend: B,
    vault: OnceCell<String>,
    known: RefCell<BTreeMap<String, Rc<KnownReference>>>,
}

/// The reference that a key had when the host's configuration was last read.
#[derive(Debug)]
struct KnownReference {
    /// The text in the configuration.
    reference: String,
    name: String,
    version: Option<String>,
    /// The time of the vault call for the last read.
    fetched_at: Cell<u64>,
}

impl<B: Backend> Store<B> {
    pub fn new(backend: B) -> Self {
        Self { backend, vault: OnceCell::new(), known: RefCell::default() }
    }

    /// Returns the value of a key, if it has one.
    ///
    /// A read of the host's configuration takes longer than a read of the gateway's cache. So a known
    /// reference is used until the gateway has fetched its secret again, for any caller. A change of the
    /// configuration takes effect after the TTL, as a change of the secret does.
    pub fn get(&self, key: &str) -> Result<Option<String>, StoreError<B::Unreadable>> {
        let known = self.known.borrow().get(key).cloned();
        let Some(known) = known else {
            let value = self.backend.value(key).map_err(StoreError::Unreadable)?;
            return value.map(|text| self.resolve(key, text)).transpose();
        };
        let secret = self.backend.secret(&known.name, known.version.as_deref());
        if !secret.as_ref().is_ok_and(|secret| secret.fetched_at == known.fetched_at.get()) {
            let value = self.backend.value(key).map_err(StoreError::Unreadable)?;
            if value.as_ref() != Some(&known.reference) {
                self.known.borrow_mut().remove(key);
                return value.map(|text| self.resolve(key, text)).transpose();
            }
        }
        // A failed read is not repeated, because it may have taken all the time of the request.
        let Secret { value, fetched_at } = secret.map_err(|reason| unresolved(key, &reason))?;
        known.fetched_at.set(fetched_at);
        Ok(Some(value))
    }

    /// Returns all keys with their values. The secrets are read in one step.
    pub fn get_all(&self) -> Result<Vec<(String, String)>, StoreError<B::Unreadable>> {
        let values = self.backend.all_values().map_err(StoreError::Unreadable)?;
        let wanted: Vec<_> =
            values.iter().map(|(key, text)| self.wanted(key, text)).collect::<Result<_, _>>()?;
        let secrets: Vec<_> = wanted.iter().flatten().cloned().collect();
        let mut read = (!secrets.is_empty()).then(|| self.backend.secrets(&secrets)).into_iter().flatten();
        let resolved = values.into_iter().zip(wanted).map(|((key, text), wanted)| {
            let Some(wanted) = wanted else { return Ok((key, text)) };
            let secret = read.next().unwrap_or_else(|| Err("the gateway has not read it".to_owned()));
            let value = self.learn(&key, text, wanted, secret)?;
            Ok((key, value))
        });
        resolved.collect()
    }

    /// Returns the text itself, or the secret that it refers to.
    fn resolve(&self, key: &str, text: String) -> Result<String, StoreError<B::Unreadable>> {
        let Some(wanted) = self.wanted(key, &text)? else { return Ok(text) };
        let secret = self.backend.secret(&wanted.0, wanted.1.as_deref());
        self.learn(key, text, wanted, secret)
    }

    /// Returns the secret that a text refers to, if it does.
    fn wanted(&self, key: &str, text: &str) -> Result<Option<Wanted>, StoreError<B::Unreadable>> {
        let failed = |reason: &str| unresolved(key, reason);
        let reference = match Reference::parse(text) {
            Ok(None) => return Ok(None),
            Ok(Some(reference)) => reference,
            Err(InvalidReference) => return Err(failed("this is no reference to a secret of Key Vault")),
        };
        if !reference.is_in(self.vault().map_err(|reason| failed(&reason))?) {
            return Err(failed("the gateway reads from another vault"));
        }
        Ok(Some((reference.name.to_owned(), reference.version.map(str::to_owned))))
    }

    /// Remembers what a key refers to, and returns the value.
    fn learn(
        &self,
        key: &str,
        reference: String,
        (name, version): Wanted,
        secret: Result<Secret, String>,
    ) -> Result<String, StoreError<B::Unreadable>> {
        let Secret { value, fetched_at } = secret.map_err(|reason| unresolved(key, &reason))?;
        let known = KnownReference { reference, name, version, fetched_at: Cell::new(fetched_at) };
        self.known.borrow_mut().insert(key.to_owned(), Rc::new(known));
        Ok(value)
    }

    /// Returns the address of the gateway's vault, and remembers it.
    fn vault(&self) -> Result<&str, String> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = self.backend.vault()?;
        Ok(self.vault.get_or_init(|| vault))
    }
}

fn unresolved<U>(key: &str, reason: &str) -> StoreError<U> {
    StoreError::Unresolved(format!("{key}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_plain_value_from_the_host_each_time() {
        let store = store();
        store.backend.configure("plain", "a");
        assert_eq!(store.get("plain"), Ok(Some("a".to_owned())));
        store.backend.configure("plain", "b");
        assert_eq!(store.get("plain"), Ok(Some("b".to_owned())));
        assert_eq!(store.get("missing"), Ok(None));
        assert_eq!((store.backend.host_reads.get(), store.backend.secret_reads.get()), (3, 0));
    }

    #[test]
    fn reads_a_reference_again_after_its_secret_was_fetched() {
        let store = store();
        store.backend.configure("password", DB);
        for (fetched_at, host_reads) in [(0, 1), (0, 1), (7, 2), (7, 2), (300, 3), (301, 4), (301, 4)] {
            store.backend.fetched_at.set(fetched_at);
            assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
            assert_eq!(store.backend.host_reads.get(), host_reads, "at {fetched_at}");
        }
        // One read of the gateway for each, because without its cache each read would be a call to the vault.
        assert_eq!(store.backend.secret_reads.get(), 7);
        assert_eq!(store.backend.vault_reads.get(), 1);
    }

    #[test]
    fn configuration_change_takes_effect_with_the_next_fetch() {
        let store = store();
        store.backend.configure("password", DB);
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
        store.backend.configure("password", "@Microsoft.KeyVault(VaultName=my-vault;SecretName=other)");
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
        assert_eq!(store.get_all(), Ok(vec![("password".to_owned(), "other".to_owned())]));
        assert_eq!(store.get("password"), Ok(Some("other".to_owned())));
        store.backend.values.borrow_mut().clear();
        store.backend.fetched_at.set(7);
        assert_eq!(store.get("password"), Ok(None));
        store.backend.configure("password", "plain");
        assert_eq!(store.get("password"), Ok(Some("plain".to_owned())));
    }

    #[test]
    fn all_secrets_are_read_in_one_step() {
        let store = store();
        for (key, value) in [("a", DB), ("b", "plain"), ("c", DB)] {
            store.backend.configure(key, value);
        }
        let all =
            [("a", "db"), ("b", "plain"), ("c", "db")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(store.get_all(), Ok(all.into()));
        assert_eq!((store.backend.steps.get(), store.backend.secret_reads.get()), (1, 2));
        // What the step has read is known.
        assert_eq!((store.get("a"), store.backend.host_reads.get()), (Ok(Some("db".to_owned())), 0));
        store.backend.values.borrow_mut().retain(|key, _| key == "b");
        assert_eq!((store.get_all().map(|all| all.len()), store.backend.steps.get()), (Ok(1), 1));
    }

    #[test]
    fn every_key_notices_a_fetch_by_another_caller() {
        let store = store();
        for key in ["one", "other"] {
            store.backend.configure(key, DB);
            assert_eq!(store.get(key), Ok(Some("db".to_owned())));
        }
        for key in ["one", "other"] {
            store.backend.configure(key, "@Microsoft.KeyVault(VaultName=my-vault;SecretName=new)");
        }
        store.backend.fetched_at.set(7);
        for key in ["one", "other"] {
            assert_eq!(store.get(key), Ok(Some("new".to_owned())), "{key}");
        }
    }

    #[test]
    fn reports_failures_and_reads_again() {
        let store = store();
        store.backend.configure("password", DB);
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
        *store.backend.failing.borrow_mut() = Some("not found".to_owned());
        let error = Err(StoreError::Unresolved("password: not found".to_owned()));
        let read = store.backend.secret_reads.get();
        assert_eq!(store.get("password"), error);
        // A failed read is not repeated in the same call.
        assert_eq!(store.backend.secret_reads.get(), read + 1);
        assert_eq!(store.get_all().map(|_| None), error);
        // A changed reference takes effect even if the old secret cannot be read.
        store.backend.configure("password", "plain");
        assert_eq!(store.get("password"), Ok(Some("plain".to_owned())));
        store.backend.configure("password", DB);
        store.backend.failing.borrow_mut().take();
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
    }

    #[test]
    fn reads_no_secret_of_another_vault() {
        let store = store();
        store.backend.configure("password", "@Microsoft.KeyVault(VaultName=other;SecretName=db)");
        let error = |reason: &str| Err(StoreError::Unresolved(format!("password: {reason}")));
        assert_eq!(store.get("password"), error("the gateway reads from another vault"));
        store.backend.configure("password", "@Microsoft.KeyVault(db)");
        assert_eq!(store.get("password"), error("this is no reference to a secret of Key Vault"));
        let unset = self::store();
        unset.backend.configure("password", DB);
        *unset.backend.failing.borrow_mut() = Some("no settings".to_owned());
        assert_eq!(unset.get("password"), error("no settings"));
        assert_eq!((store.backend.secret_reads.get(), unset.backend.secret_reads.get()), (0, 0));
    }

    const DB: &str = "@Microsoft.KeyVault(VaultName=my-vault;SecretName=db)";

    fn store() -> Store<FakeBackend> {
        Store::new(FakeBackend::default())
    }

    /// A host and a gateway. The value of a secret is its name.
    #[derive(Default)]
    struct FakeBackend {
        values: RefCell<BTreeMap<String, String>>,
        failing: RefCell<Option<String>>,
        fetched_at: Cell<u64>,
        host_reads: Cell<u32>,
        secret_reads: Cell<u32>,
        vault_reads: Cell<u32>,
        /// The reads of several secrets.
        steps: Cell<u32>,
    }

    impl FakeBackend {
        fn configure(&self, key: &str, value: &str) {
            self.values.borrow_mut().insert(key.to_owned(), value.to_owned());
        }

        fn result(&self) -> Result<(), String> {
            self.failing.borrow().clone().map_or(Ok(()), Err)
        }
    }

    impl Backend for FakeBackend {
        type Unreadable = ();

        fn value(&self, key: &str) -> Result<Option<String>, ()> {
            self.host_reads.set(self.host_reads.get() + 1);
            Ok(self.values.borrow().get(key).cloned())
        }

        fn all_values(&self) -> Result<Vec<(String, String)>, ()> {
            Ok(self.values.borrow().clone().into_iter().collect())
        }

        fn vault(&self) -> Result<String, String> {
            self.vault_reads.set(self.vault_reads.get() + 1);
            self.result().map(|()| "https://my-vault.vault.azure.net".to_owned())
        }

        fn secret(&self, name: &str, _: Option<&str>) -> Result<Secret, String> {
            self.secret_reads.set(self.secret_reads.get() + 1);
            self.result().map(|()| Secret { value: name.to_owned(), fetched_at: self.fetched_at.get() })
        }

        fn secrets(&self, wanted: &[Wanted]) -> Vec<Result<Secret, String>> {
            self.steps.set(self.steps.get() + 1);
            wanted.iter().map(|(name, version)| self.secret(name, version.as_deref())).collect()
        }
    }
}
