//! Spin's key-value stores, in memory: `fermyon:spin/key-value@2.0.0`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};

use crate::wasmtime_host::Guest;

/// The stores of an application, which outlive its instances.
#[derive(Default)]
pub(crate) struct Stores {
    entries: Mutex<Entries>,
    /// Makes every operation fail.
    pub(crate) fail_all: AtomicBool,
    /// Makes only deletions fail.
    pub(crate) fail_deletes: AtomicBool,
    /// The number of reads so far.
    pub(crate) reads: AtomicUsize,
}

impl Stores {
    /// Returns a copy of all entries.
    pub(crate) fn entries(&self) -> Entries {
        self.entries.lock().unwrap().clone()
    }

    /// Replaces all entries, as another writer of the store can.
    pub(crate) fn replace(&self, entries: Entries) {
        *self.entries.lock().unwrap() = entries;
    }
}

/// The resource of an open store.
struct OpenStore;

#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "this host returns only some errors")]
enum StoreError {
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

/// Adds the stores that the manifest names to the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("fermyon:spin/key-value@2.0.0")?;
    instance.resource("store", ResourceType::host::<OpenStore>(), |_, _| Ok(()))?;
    instance.func_wrap("[static]store.open", |store, (label,): (String,)| {
        let guest: &Guest = store.data();
        let application = guest.network.application.as_ref();
        let is_allowed = application.is_some_and(|application| application.may_open(&label));
        let opened = is_allowed.then(|| Resource::<OpenStore>::new_own(0)).ok_or(StoreError::AccessDenied);
        Ok((opened,))
    })?;
    instance.func_wrap("[method]store.get", |store, (_, key): (Resource<OpenStore>, String)| {
        store.data().network.observed.stores.reads.fetch_add(1, Ordering::Relaxed);
        Ok((with_entries(store.data(), |entries| entries.get(&key).cloned()),))
    })?;
    type Set = (Resource<OpenStore>, String, Vec<u8>);
    instance.func_wrap("[method]store.set", |store, (_, key, value): Set| {
        Ok((with_entries(store.data(), |entries| drop(entries.insert(key, value))),))
    })?;
    instance.func_wrap("[method]store.delete", |store, (_, key): (Resource<OpenStore>, String)| {
        if store.data().network.observed.stores.fail_deletes.load(Ordering::Relaxed) {
            return Ok((Err(StoreError::Other("no deletes".to_owned())),));
        }
        Ok((with_entries(store.data(), |entries| drop(entries.remove(&key))),))
    })?;
    instance.func_wrap("[method]store.get-keys", |store, (_,): (Resource<OpenStore>,)| {
        Ok((with_entries(store.data(), |entries| entries.keys().cloned().collect::<Vec<_>>()),))
    })
}

type Entries = BTreeMap<String, Vec<u8>>;

fn with_entries<T>(guest: &Guest, access: impl FnOnce(&mut Entries) -> T) -> Result<T, StoreError> {
    let stores = &guest.network.observed.stores;
    if stores.fail_all.load(Ordering::Relaxed) {
        return Err(StoreError::Other("the disk is full".to_owned()));
    }
    Ok(access(&mut stores.entries.lock().unwrap()))
}
