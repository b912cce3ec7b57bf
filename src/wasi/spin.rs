//! Settings as Spin variables, and Spin's key-value stores.

use crate::env::Unreadable;
use crate::host::{KeyValue, KeyValueFuture};

wit_bindgen::generate!({ path: "wit/spin", world: "spin-imports" });

use fermyon::spin::key_value::{Error as StoreError, Store};
use fermyon::spin::variables::{self, Error};

/// The Spin variable that stands for the setting `name`. An empty one is as good as none, as Spin wants a default for
/// each variable that need not be set.
pub(super) fn variable(name: &'static str) -> Result<Option<String>, Unreadable> {
    match variables::get(&lower_snake(name)) {
        Ok(text) => Ok(Some(text).filter(|it| !it.is_empty())),
        Err(Error::Undefined(_) | Error::InvalidName(_)) => Ok(None),
        Err(Error::Provider(_) | Error::Other(_)) => Err(Unreadable),
    }
}

/// Spin's key-value stores, of which the manifest names those that this component may open.
pub(super) struct SpinStores;

impl KeyValue for SpinStores {
    fn may_open<'a>(&'a self, label: &'a str) -> KeyValueFuture<'a, bool> {
        Box::pin(async move {
            match Store::open(label) {
                Err(StoreError::NoSuchStore | StoreError::AccessDenied) => false,
                Ok(_) | Err(StoreError::StoreTableFull | StoreError::Other(_)) => true,
            }
        })
    }

    fn read<'a>(&'a self, label: &'a str, name: &'a str) -> KeyValueFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move { Store::open(label).ok()?.get(name).ok()? })
    }

    fn names<'a>(&'a self, label: &'a str) -> KeyValueFuture<'a, Vec<String>> {
        Box::pin(async move { Store::open(label).and_then(|store| store.get_keys()).unwrap_or_default() })
    }

    fn write<'a>(&'a self, label: &'a str, name: &'a str, entry: &'a [u8]) -> KeyValueFuture<'a, ()> {
        Box::pin(async move {
            let _ = Store::open(label).and_then(|store| store.set(name, entry));
        })
    }

    fn delete<'a>(&'a self, label: &'a str, name: &'a str) -> KeyValueFuture<'a, ()> {
        Box::pin(async move {
            let _ = Store::open(label).and_then(|store| store.delete(name));
        })
    }
}

/// Spin's variables have lower-case names: `KeyVaultUri` and `KEY_VAULT_URI` are both `key_vault_uri`.
fn lower_snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len().saturating_add(4));
    let mut after_lower = false;
    for it in name.chars() {
        if after_lower && it.is_ascii_uppercase() {
            snake.push('_');
        }
        after_lower = it.is_ascii_lowercase();
        snake.push(it.to_ascii_lowercase());
    }
    snake
}
