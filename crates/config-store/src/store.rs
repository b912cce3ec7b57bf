//! The store: what a key has in the configuration of the host, or the secret that this refers to.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::reference::{NotAReference, Reference};

/// What stands behind the store.
pub trait Behind {
    /// Why the host's configuration cannot be read.
    type Unreadable;

    /// What the host's configuration has for a key.
    fn configured(&self, key: &str) -> Result<Option<String>, Self::Unreadable>;

    /// All keys of the host's configuration, each with its value.
    fn all_configured(&self) -> Result<Vec<(String, String)>, Self::Unreadable>;

    /// The address of the gateway's vault, or why there is none.
    fn vault(&self) -> Result<String, String>;

    /// A secret of that vault, or why there is none.
    fn secret(&self, name: &str, version: Option<&str>) -> Result<Secret, String>;
}

/// A secret, as the gateway has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The value.
    pub value: String,
    /// When Key Vault was asked for it, by a clock of the gateway's: the same for all reads that one call is behind.
    pub asked: u64,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed<U> {
    /// The host's configuration cannot be read.
    Unreadable(U),
    /// A reference cannot be resolved. The text has the key and the reason, and neither the reference nor the secret's name.
    Unresolved(String),
}

/// The store, and which keys are known to refer to which secrets.
#[derive(Debug)]
pub struct Store<B> {
    behind: B,
    vault: OnceCell<String>,
    known: RefCell<BTreeMap<String, Rc<Known>>>,
}

/// What a key referred to when the configuration was asked last.
#[derive(Debug)]
struct Known {
    /// As the configuration has it.
    reference: String,
    name: String,
    version: Option<String>,
    /// When the vault was asked for the secret, as of when it was read last.
    asked: Cell<u64>,
}

impl<B: Behind> Store<B> {
    /// A store that knows no key yet.
    pub fn new(behind: B) -> Self {
        Self { behind, vault: OnceCell::new(), known: RefCell::default() }
    }

    /// The value for a key, if there is one.
    ///
    /// To ask the host takes longer than to ask the gateway. So a key refers to what it did until the vault has been asked for
    /// that secret again, by whomever: a change of the configuration has to wait for its time to be over, as a change of the secret
    /// does.
    pub fn get(&self, key: &str) -> Result<Option<String>, Failed<B::Unreadable>> {
        let known = self.known.borrow().get(key).cloned();
        let Some(known) = known else {
            let value = self.behind.configured(key).map_err(Failed::Unreadable)?;
            return value.map(|it| self.resolved(key, it)).transpose();
        };
        let secret = self.behind.secret(&known.name, known.version.as_deref());
        if !secret.as_ref().is_ok_and(|it| it.asked == known.asked.get()) {
            let value = self.behind.configured(key).map_err(Failed::Unreadable)?;
            if value.as_ref() != Some(&known.reference) {
                self.known.borrow_mut().remove(key);
                return value.map(|it| self.resolved(key, it)).transpose();
            }
        }
        // It is read once, whatever comes of it: what fails may have taken all the time there is.
        let Secret { value, asked } = secret.map_err(|it| unresolved(key, &it))?;
        known.asked.set(asked);
        Ok(Some(value))
    }

    /// All keys, each with its value.
    pub fn get_all(&self) -> Result<Vec<(String, String)>, Failed<B::Unreadable>> {
        let values = self.behind.all_configured().map_err(Failed::Unreadable)?.into_iter();
        values.map(|(key, it)| self.resolved(&key, it).map(|it| (key, it))).collect()
    }

    /// The value itself, or the secret that it refers to.
    fn resolved(&self, key: &str, text: String) -> Result<String, Failed<B::Unreadable>> {
        let failed = |reason: &str| unresolved(key, reason);
        let reference = match Reference::parse(&text) {
            Ok(None) => return Ok(text),
            Ok(Some(reference)) => reference,
            Err(NotAReference) => return Err(failed("this is no reference to a secret of Key Vault")),
        };
        if !reference.is_in(self.vault().map_err(|it| failed(&it))?) {
            return Err(failed("the gateway reads from another vault"));
        }
        let secret = self.behind.secret(reference.name, reference.version);
        let Secret { value, asked } = secret.map_err(|it| failed(&it))?;
        let (name, version) = (reference.name.to_owned(), reference.version.map(str::to_owned));
        let known = Known { reference: text, name, version, asked: Cell::new(asked) };
        self.known.borrow_mut().insert(key.to_owned(), Rc::new(known));
        Ok(value)
    }

    /// The gateway's vault, which stays what it is once its settings are right.
    fn vault(&self) -> Result<&str, String> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = self.behind.vault()?;
        Ok(self.vault.get_or_init(|| vault))
    }
}

fn unresolved<U>(key: &str, reason: &str) -> Failed<U> {
    Failed::Unresolved(format!("{key}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_reference_is_asked_for_each_time() {
        let store = store();
        store.behind.configure("plain", "a");
        assert_eq!(store.get("plain"), Ok(Some("a".to_owned())));
        store.behind.configure("plain", "b");
        assert_eq!(store.get("plain"), Ok(Some("b".to_owned())));
        assert_eq!(store.get("missing"), Ok(None));
        assert_eq!((store.behind.asked.get(), store.behind.read.get()), (3, 0));
    }

    #[test]
    fn a_reference_is_asked_for_when_its_secret_is_read_from_the_vault() {
        let store = store();
        store.behind.configure("password", DB);
        for (vault, asked) in [(0, 1), (0, 1), (7, 2), (7, 2), (300, 3), (301, 4), (301, 4)] {
            store.behind.vault_asked.set(vault);
            assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
            assert_eq!(store.behind.asked.get(), asked, "at {vault}");
        }
        // Once each time: without a memory of the gateway's each would be a call of the vault.
        assert_eq!(store.behind.read.get(), 7);
        assert_eq!(store.behind.vaults.get(), 1);
    }

    #[test]
    fn a_change_of_the_configuration_comes_with_the_next_secret_from_the_vault() {
        let store = store();
        store.behind.configure("password", DB);
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
        store.behind.configure("password", "@Microsoft.KeyVault(VaultName=my-vault;SecretName=other)");
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
        assert_eq!(store.get_all(), Ok(vec![("password".to_owned(), "other".to_owned())]));
        assert_eq!(store.get("password"), Ok(Some("other".to_owned())));
        store.behind.configured.borrow_mut().clear();
        store.behind.vault_asked.set(7);
        assert_eq!(store.get("password"), Ok(None));
        store.behind.configure("password", "plain");
        assert_eq!(store.get("password"), Ok(Some("plain".to_owned())));
    }

    /// Whoever else has it read, over HTTP or for another key.
    #[test]
    fn a_secret_that_others_have_had_read_is_another_one_for_each_key() {
        let store = store();
        for key in ["one", "other"] {
            store.behind.configure(key, DB);
            assert_eq!(store.get(key), Ok(Some("db".to_owned())));
        }
        for key in ["one", "other"] {
            store.behind.configure(key, "@Microsoft.KeyVault(VaultName=my-vault;SecretName=new)");
        }
        store.behind.vault_asked.set(7);
        for key in ["one", "other"] {
            assert_eq!(store.get(key), Ok(Some("new".to_owned())), "{key}");
        }
    }

    #[test]
    fn what_fails_is_asked_for_again_and_told() {
        let store = store();
        store.behind.configure("password", DB);
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
        *store.behind.failing.borrow_mut() = Some("it is gone".to_owned());
        let told = Err(Failed::Unresolved("password: it is gone".to_owned()));
        let read = store.behind.read.get();
        assert_eq!(store.get("password"), told);
        // What fails may have taken all the time there is, and is not tried again in the same call.
        assert_eq!(store.behind.read.get(), read + 1);
        assert_eq!(store.get_all().map(|_| None), told);
        // A reference that has changed counts even where the secret before it is gone.
        store.behind.configure("password", "plain");
        assert_eq!(store.get("password"), Ok(Some("plain".to_owned())));
        store.behind.configure("password", DB);
        store.behind.failing.borrow_mut().take();
        assert_eq!(store.get("password"), Ok(Some("db".to_owned())));
    }

    #[test]
    fn nothing_is_read_for_a_reference_to_another_vault_or_without_a_vault() {
        let store = store();
        store.behind.configure("password", "@Microsoft.KeyVault(VaultName=other;SecretName=db)");
        let told = |reason: &str| Err(Failed::Unresolved(format!("password: {reason}")));
        assert_eq!(store.get("password"), told("the gateway reads from another vault"));
        store.behind.configure("password", "@Microsoft.KeyVault(db)");
        assert_eq!(store.get("password"), told("this is no reference to a secret of Key Vault"));
        let nowhere = self::store();
        nowhere.behind.configure("password", DB);
        *nowhere.behind.failing.borrow_mut() = Some("no settings".to_owned());
        assert_eq!(nowhere.get("password"), told("no settings"));
        assert_eq!((store.behind.read.get(), nowhere.behind.read.get()), (0, 0));
    }

    const DB: &str = "@Microsoft.KeyVault(VaultName=my-vault;SecretName=db)";

    fn store() -> Store<World> {
        Store::new(World::default())
    }

    /// A host and a gateway, whose secrets are their own names.
    #[derive(Default)]
    struct World {
        configured: RefCell<BTreeMap<String, String>>,
        failing: RefCell<Option<String>>,
        vault_asked: Cell<u64>,
        asked: Cell<u32>,
        read: Cell<u32>,
        vaults: Cell<u32>,
    }

    impl World {
        fn configure(&self, key: &str, value: &str) {
            self.configured.borrow_mut().insert(key.to_owned(), value.to_owned());
        }

        fn works(&self) -> Result<(), String> {
            self.failing.borrow().clone().map_or(Ok(()), Err)
        }
    }

    impl Behind for World {
        type Unreadable = ();

        fn configured(&self, key: &str) -> Result<Option<String>, ()> {
            self.asked.set(self.asked.get() + 1);
            Ok(self.configured.borrow().get(key).cloned())
        }

        fn all_configured(&self) -> Result<Vec<(String, String)>, ()> {
            Ok(self.configured.borrow().clone().into_iter().collect())
        }

        fn vault(&self) -> Result<String, String> {
            self.vaults.set(self.vaults.get() + 1);
            self.works().map(|()| "https://my-vault.vault.azure.net".to_owned())
        }

        fn secret(&self, name: &str, _: Option<&str>) -> Result<Secret, String> {
            self.read.set(self.read.get() + 1);
            self.works().map(|()| Secret { value: name.to_owned(), asked: self.vault_asked.get() })
        }
    }
}
