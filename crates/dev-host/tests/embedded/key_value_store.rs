//! Spin's key-value stores, in memory: `fermyon:spin/key-value@2.0.0` and `spin:key-value/key-value@3.0.0`.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use wasmtime::component::{
    ComponentType, FutureReader, Lift, Linker, Lower, Resource, ResourceType, StreamReader,
};

use crate::wasmtime_host::Guest;

/// The stores of an application, which outlive its instances.
#[derive(Default)]
pub(crate) struct Stores {
    entries: Mutex<Entries>,
    /// Makes every operation fail.
    pub(crate) fail_all: AtomicBool,
    /// Makes only deletions fail.
    pub(crate) fail_deletes: AtomicBool,
    /// Makes every read of the asynchronous interface hang.
    pub(crate) hangs: AtomicBool,
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

#[derive(ComponentType, Lift, Lower)]
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

/// Adds the stores that the manifest names to the linker, with the blocking interface of Spin 2 to 4.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("fermyon:spin/key-value@2.0.0")?;
    instance.resource("store", ResourceType::host::<OpenStore>(), |_, _| Ok(()))?;
    instance.func_wrap("[static]store.open", |store, label| Ok((open(store.data(), label),)))?;
    instance.func_wrap("[method]store.get", |store, key| Ok((get(store.data(), key),)))?;
    instance.func_wrap("[method]store.set", |store, entry| Ok((set(store.data(), entry),)))?;
    instance.func_wrap("[method]store.delete", |store, key| Ok((delete(store.data(), key),)))?;
    instance.func_wrap("[method]store.get-keys", |store, open| Ok((get_keys(store.data(), open),)))
}

/// Adds the same stores with the asynchronous interface of Spin 4.
pub(crate) fn add_async_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("spin:key-value/key-value@3.0.0")?;
    instance.resource("store", ResourceType::host::<OpenStore>(), |_, _| Ok(()))?;
    instance.func_wrap_concurrent("[static]store.open", |accessor, label| {
        Box::pin(async move { Ok((accessor.with(|mut access| open(access.get(), label)),)) })
    })?;
    instance.func_wrap_concurrent("[method]store.get", |accessor, key| {
        Box::pin(async move {
            let observed = accessor.with(|mut access| Arc::clone(&access.get().network.observed));
            if observed.stores.hangs.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
            Ok((accessor.with(|mut access| get(access.get(), key)),))
        })
    })?;
    instance.func_wrap_concurrent("[method]store.set", |accessor, entry| {
        Box::pin(async move { Ok((accessor.with(|mut access| set(access.get(), entry)),)) })
    })?;
    instance.func_wrap_concurrent("[method]store.delete", |accessor, key| {
        Box::pin(async move { Ok((accessor.with(|mut access| delete(access.get(), key)),)) })
    })?;
    instance.func_wrap_concurrent("[method]store.get-keys", |accessor, open| {
        Box::pin(async move {
            accessor.with(|mut access| {
                let keys = get_keys(access.get(), open);
                let (keys, end) = keys.map_or_else(|error| (Vec::new(), Err(error)), |keys| (keys, Ok(())));
                let keys = StreamReader::new(&mut access, keys)?;
                let end = FutureReader::new(&mut access, async move { wasmtime::error::Ok(end) })?;
                Ok(((keys, end),))
            })
        })
    })
}

type Open = Resource<OpenStore>;

fn open(guest: &Guest, (label,): (String,)) -> Result<Open, StoreError> {
    let application = guest.network.application.as_ref();
    let is_allowed = application.is_some_and(|application| application.may_open(&label));
    is_allowed.then(|| Resource::new_own(0)).ok_or(StoreError::AccessDenied)
}

fn get(guest: &Guest, (_, key): (Open, String)) -> Result<Option<Vec<u8>>, StoreError> {
    guest.network.observed.stores.reads.fetch_add(1, Ordering::Relaxed);
    with_entries(guest, |entries| entries.get(&key).cloned())
}

fn set(guest: &Guest, (_, key, value): (Open, String, Vec<u8>)) -> Result<(), StoreError> {
    with_entries(guest, |entries| drop(entries.insert(key, value)))
}

fn delete(guest: &Guest, (_, key): (Open, String)) -> Result<(), StoreError> {
    if guest.network.observed.stores.fail_deletes.load(Ordering::Relaxed) {
        return Err(StoreError::Other("no deletes".to_owned()));
    }
    with_entries(guest, |entries| drop(entries.remove(&key)))
}

fn get_keys(guest: &Guest, _: (Open,)) -> Result<Vec<String>, StoreError> {
    with_entries(guest, |entries| entries.keys().cloned().collect())
}

type Entries = BTreeMap<String, Vec<u8>>;

fn with_entries<T>(guest: &Guest, access: impl FnOnce(&mut Entries) -> T) -> Result<T, StoreError> {
    let stores = &guest.network.observed.stores;
    if stores.fail_all.load(Ordering::Relaxed) {
        return Err(StoreError::Other("the disk is full".to_owned()));
    }
    Ok(access(&mut stores.entries.lock().unwrap()))
}
