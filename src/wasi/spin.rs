//! Settings as Spin variables, and Spin's key-value stores.

use std::future::{Future, poll_fn};
use std::task::Poll;

#[cfg(feature = "proxy")]
wit_bindgen::generate!({ path: "wit/spin", world: "spin-imports" });

#[cfg(feature = "proxy")]
use fermyon::spin::{key_value, variables};

#[cfg(feature = "service")]
use spin_sdk::{key_value, variables};

use key_value::{Error as StoreError, Store};
use variables::Error;

use crate::env::{Setting, Unreadable};
use crate::host::{KeyValue, KeyValueFuture};

/// Calls Spin: the interfaces of Spin 2 to 4 block, those of Spin 4 are asynchronous.
#[cfg(feature = "proxy")]
macro_rules! call {
    ($call:expr) => {
        $call
    };
}

#[cfg(feature = "service")]
macro_rules! call {
    ($call:expr) => {
        $call.await
    };
}

/// Reads the Spin variables that stand for the settings `names`, all at the same time.
pub(super) async fn variables(names: &[&'static str]) -> Vec<Setting> {
    let mut calls: Vec<_> = names.iter().map(|name| (Box::pin(variable(name)), None)).collect();
    poll_fn(|context| {
        for (call, setting) in &mut calls {
            if setting.is_none()
                && let Poll::Ready(read) = call.as_mut().poll(context)
            {
                *setting = Some(read);
            }
        }
        if calls.iter().all(|(_, setting)| setting.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().map(|(_, setting)| setting.unwrap_or(Err(Unreadable))).collect()
}

/// Reads the Spin variable that stands for the setting `name`. An empty one counts as not set, because Spin
/// wants a default for each variable that need not be set.
async fn variable(name: &str) -> Setting {
    match call!(variables::get(&lower_snake(name))) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(Error::Undefined(_) | Error::InvalidName(_)) => Ok(None),
        Err(Error::Provider(_) | Error::Other(_)) => Err(Unreadable),
    }
}

/// Spin's key-value stores. The manifest names those that this component may open.
pub(super) struct SpinStores;

impl KeyValue for SpinStores {
    fn may_open<'a>(&'a self, label: &'a str) -> KeyValueFuture<'a, bool> {
        Box::pin(async move {
            match call!(Store::open(label)) {
                Err(StoreError::NoSuchStore | StoreError::AccessDenied) => false,
                Ok(_) | Err(StoreError::StoreTableFull | StoreError::Other(_)) => true,
            }
        })
    }

    fn read<'a>(&'a self, label: &'a str, name: &'a str) -> KeyValueFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let store = call!(Store::open(label)).ok()?;
            call!(store.get(name)).ok()?
        })
    }

    fn names<'a>(&'a self, label: &'a str) -> KeyValueFuture<'a, Vec<String>> {
        Box::pin(async move {
            let Ok(store) = call!(Store::open(label)) else { return Vec::new() };
            #[cfg(feature = "proxy")]
            let names = store.get_keys();
            #[cfg(feature = "service")]
            let names = store.get_keys().await.collect().await;
            names.unwrap_or_default()
        })
    }

    fn write<'a>(&'a self, label: &'a str, name: &'a str, entry: &'a [u8]) -> KeyValueFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(store) = call!(Store::open(label)) {
                let _ = call!(store.set(name, entry));
            }
        })
    }

    fn delete<'a>(&'a self, label: &'a str, name: &'a str) -> KeyValueFuture<'a, ()> {
        Box::pin(async move {
            if let Ok(store) = call!(Store::open(label)) {
                let _ = call!(store.delete(name));
            }
        })
    }
}

/// Spin's variables have lower-case names: `KeyVaultUri` and `KEY_VAULT_URI` are both `key_vault_uri`.
fn lower_snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len().saturating_add(4));
    let mut after_lower = false;
    for letter in name.chars() {
        if after_lower && letter.is_ascii_uppercase() {
            snake.push('_');
        }
        after_lower = letter.is_ascii_lowercase();
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
