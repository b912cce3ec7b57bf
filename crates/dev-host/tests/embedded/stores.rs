//! Spin's key-value stores, in memory: `fermyon:spin/key-value@2.0.0`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};

use crate::wasmtime_host::Guest;

/// All stores, which outlive instances.
#[derive(Default)]
pub(crate) struct Stores {
    entries: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Whether they fail, whatever is asked.
    pub(crate) fail: AtomicBool,
    /// Whether only dropping an entry fails.
    pub(crate) keep_all: AtomicBool,
    /// How often one was asked for an entry.
    pub(crate) asked: AtomicUsize,
}

impl Stores {
    /// What is in there.
    pub(crate) fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        self.entries.lock().unwrap().clone()
    }

    /// Puts other things there, as one can who may write to it.
    pub(crate) fn replace(&self, entries: BTreeMap<String, Vec<u8>>) {
        *self.entries.lock().unwrap() = entries;
    }
}

/// An open store: nothing of a component's.
struct Open;

#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "some problems do not happen here")]
enum Problem {
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

/// Gives components the stores that their manifest names.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("fermyon:spin/key-value@2.0.0")?;
    instance.resource("store", ResourceType::host::<Open>(), |_, _| Ok(()))?;
    instance.func_wrap("[static]store.open", |store, (label,): (String,)| {
        let guest: &Guest = store.data();
        let allowed = guest.application().is_some_and(|it| it.may_open(&label));
        let opened = if allowed { Ok(Resource::<Open>::new_own(0)) } else { Err(Problem::AccessDenied) };
        Ok((opened,))
    })?;
    instance.func_wrap("[method]store.get", |store, (_, key): (Resource<Open>, String)| {
        let stores = store.data().stores();
        stores.asked.fetch_add(1, Ordering::Relaxed);
        Ok((with(stores, |it| it.get(&key).cloned()),))
    })?;
    instance.func_wrap(
        "[method]store.set",
        |store, (_, key, value): (Resource<Open>, String, Vec<u8>)| {
            Ok((with(store.data().stores(), |it| drop(it.insert(key, value))),))
        },
    )?;
    instance.func_wrap("[method]store.delete", |store, (_, key): (Resource<Open>, String)| {
        let stores = store.data().stores();
        if stores.keep_all.load(Ordering::Relaxed) {
            return Ok((Err(Problem::Other("no deletes".to_owned())),));
        }
        Ok((with(stores, |it| drop(it.remove(&key))),))
    })?;
    instance.func_wrap("[method]store.get-keys", |store, (_,): (Resource<Open>,)| {
        Ok((with(store.data().stores(), |it| it.keys().cloned().collect::<Vec<_>>()),))
    })
}

fn with<T>(stores: &Stores, act: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> Result<T, Problem> {
    if stores.fail.load(Ordering::Relaxed) {
        return Err(Problem::Other("the disk is full".to_owned()));
    }
    Ok(act(&mut stores.entries.lock().unwrap()))
}
