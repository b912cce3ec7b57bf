//! Answers a request for several secrets: each as a request of its own would be, within one deadline.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::log::level_of;
use super::{Gateway, Outcome, freshness, parse_request};
use crate::auth::Principal;
use crate::config::Config;
use crate::error::Error;
use crate::host::{Body, Host, Signal};
use crate::http::cache_status::CacheStatus;
use crate::http::request::{BatchRequest, Head, MAX_BATCH_BODY};
use crate::http::response::Reply;
use crate::http::response::entry::Entry;
use crate::http::trace::Trace;
use crate::model::{CacheKey, SecretName, SecretRequest};
use crate::read_error::ReadError;
use crate::secrets::cache::Freshness;
use crate::secrets::{Found, ReadFailure, in_words_of};
use crate::telemetry::context::RequestContext;
use crate::telemetry::log::Level;

/// What all requests for several secrets of an instance take together: reads in progress, and bytes of values that
/// wait for the others of their request.
#[derive(Debug, Default)]
pub(super) struct Batches {
    reads: Cell<usize>,
    bytes: Cell<usize>,
    /// Those of requests that wait for a read of another request to end, the oldest first.
    waiting: RefCell<Vec<(u64, Signal)>>,
    next_id: Cell<u64>,
}

/// How the read of one of several secrets has ended.
struct Read<'a> {
    /// The secret, with the room that it takes.
    result: Result<(Found, Taken<'a>), Error>,
    cache_status: Option<CacheStatus>,
    duration: Duration,
}

impl From<Error> for Read<'_> {
    fn from(error: Error) -> Self {
        Self { result: Err(error), cache_status: None, duration: Duration::ZERO }
    }
}

/// How the items of a request have ended.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub codes: Vec<(&'static str, u32)>,
    /// How many were served past their TTL.
    pub stale: u32,
    /// The first error of an item that is an error of the gateway or of Azure.
    pub worst: Option<Error>,
}

impl Items {
    fn count(&mut self, code: &'static str) {
        match self.codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.codes.push((code, 1)),
        }
    }

    fn learn(&mut self, error: &Error) {
        if self.worst.is_none() && level_of(&Reply::error(error)) == Level::Error {
            self.worst = Some(error.clone());
        }
    }
}

/// Bytes that are taken of an instance until this is dropped.
#[derive(Debug)]
struct Taken<'a>(&'a Batches, usize);

impl<'a> Taken<'a> {
    /// Takes `bytes`, unless more than `most` would be taken of the instance then.
    fn new(from: &'a Batches, bytes: usize, most: usize) -> Option<Self> {
        let all = from.bytes.get().saturating_add(bytes);
        (all <= most).then(|| {
            from.bytes.set(all);
            Self(from, bytes)
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.bytes.set(self.0.bytes.get().saturating_sub(self.1));
    }
}

/// A read in progress, until this is dropped.
struct InProgress<'a>(&'a Batches);

impl<'a> InProgress<'a> {
    fn new(batches: &'a Batches) -> Self {
        batches.reads.set(batches.reads.get().saturating_add(1));
        Self(batches)
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        let reads = self.0.reads.get().saturating_sub(1);
        self.0.reads.set(reads);
        let free = MAX_READS_OF_INSTANCE.saturating_sub(reads);
        let mut waiting = self.0.waiting.borrow_mut();
        let count = waiting.len().min(free);
        let woken: Vec<_> = waiting.drain(..count).collect();
        // Nothing is borrowed while others are woken.
        drop(waiting);
        drop(woken);
    }
}

/// A request that waits for a read of another one to end.
struct Waiting<'a, F> {
    batches: &'a Batches,
    id: u64,
    /// Ends when it is woken.
    woken: Pin<Box<F>>,
}

impl<'a, F: Future<Output = ()>> Waiting<'a, F> {
    fn new(batches: &'a Batches, (signal, woken): (Signal, F)) -> Self {
        let id = batches.next_id.get();
        batches.next_id.set(id.wrapping_add(1));
        batches.waiting.borrow_mut().push((id, signal));
        Self { batches, id, woken: Box::pin(woken) }
    }
}

impl<F> Drop for Waiting<'_, F> {
    fn drop(&mut self) {
        let mut waiting = self.batches.waiting.borrow_mut();
        let own = waiting.iter().position(|(id, _)| *id == self.id).map(|index| waiting.remove(index));
        drop(waiting);
        drop(own);
    }
}

impl<H: Host> Gateway<H> {
    /// Answers the route for several secrets.
    pub(super) async fn secrets<'a>(
        &'a self,
        head: &Head,
        body: impl Body,
        context: &mut RequestContext<'a>,
    ) -> Result<(Reply, Outcome), ReadFailure> {
        let (config, principal, body) = self.receive(head, body, MAX_BATCH_BODY, context).await?;
        let request = BatchRequest::parse(&body)?;
        drop(body);
        let freshness = freshness(head.has_no_cache(), context.start);

        context.asked = Some(self.host.now());

        // A secret that is asked for twice is read once.
        let (mut keys, mut wanted, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (_, item) in &request.items {
            places.push(item.as_ref().ok().map(|secret| {
                let key = CacheKey::of(secret);
                keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                    keys.push(key);
                    wanted.push(secret);
                    wanted.len().saturating_sub(1)
                })
            }));
        }
        let read = |secret| self.read_item(config, &principal, secret, freshness, MAX_BYTES, context);
        let mut reads = self.run_all(wanted.iter().copied().map(read)).await;

        let (mut items, mut refreshes, mut room) = (Items::default(), Vec::new(), MAX_ANSWER);
        for (read, secret) in reads.iter_mut().zip(wanted) {
            // A value that had no room of its own may still be cached.
            if read.result.as_ref().is_err_and(|error| *error == Error::NoRoom)
                && let Some(found) = self.secrets.get_cached(secret, self.host.now())
            {
                read.result = Ok((found, Taken(&self.batches, 0)));
            }
            refreshes.extend(read.result.as_mut().ok().and_then(|(found, _)| found.refresh.take()));
        }
        let mut entries = Vec::with_capacity(places.len());
        for ((name, item), place) in request.items.iter().zip(places) {
            let read = place.and_then(|index| reads.get(index));
            let result = match (item, read.map(|read| &read.result)) {
                (Err(error), _) => Err(error.clone()),
                (Ok(_), Some(Ok((found, _)))) => Ok(found),
                (Ok(asked), Some(Err(error))) => Err(in_words_of(asked, error.clone())),
                (Ok(_), None) => Err(Error::DeadlineExceeded),
            };
            let (entry, result) = match result {
                Ok(found) => {
                    let entry = Entry::of_secret(name, &found.secret.secret, request.details);
                    match room.checked_sub(entry.bytes()) {
                        Some(left) => {
                            room = left;
                            (entry, Ok(found))
                        }
                        None => (Entry::of_error(name, &Error::NoRoom), Err(Error::NoRoom)),
                    }
                }
                Err(error) => (Entry::of_error(name, &error), Err(error)),
            };
            self.metrics.item(entry.code());
            let secret = item.as_ref().ok().map(|secret| &secret.name);
            self.end_item(context, &mut items, secret, result.as_ref().copied(), read);
            entries.push(entry);
        }
        let reply = Reply::secrets(&entries);
        Ok((reply, Outcome { cache_status: None, refreshes, items: Some(items) }))
    }

    /// Reads several secrets for the component that is composed with the gateway.
    pub async fn read_many(&self, requests: &[(String, Option<String>)]) -> Vec<Result<Found, ReadError>> {
        let mut context = RequestContext::new(self.host.now(), Trace::none());
        let mut items = Items::default();
        let config = match self.config(&mut context).await {
            Ok(config) => config,
            Err(error) => {
                requests.iter().for_each(|_| items.count(Reply::error(&error).code()));
                items.learn(&error);
                self.log_items(&context, &items);
                return requests.iter().map(|_| Err((&error).into())).collect();
            }
        };
        context.asked = Some(context.start);
        let principal = config.callers.composed();
        context.caller = Some(principal.caller());
        let freshness = freshness(false, context.start);
        let wanted: Vec<_> =
            requests.iter().map(|(name, version)| parse_request(name, version.as_deref())).collect();
        let read = async |request: &Result<SecretRequest, Error>| match request {
            // The values go into the memory of the other component, whose matter that is.
            Ok(request) => self.read_item(config, &principal, request, freshness, usize::MAX, &context).await,
            Err(error) => error.clone().into(),
        };
        let reads = self.run_all(wanted.iter().map(read)).await;
        for (read, request) in reads.iter().zip(&wanted) {
            let secret = request.as_ref().ok().map(|secret| &secret.name);
            let result = read.result.as_ref().map(|(found, _)| found);
            self.end_item(&context, &mut items, secret, result, Some(read));
        }
        self.log_items(&context, &items);
        let results = reads.into_iter().map(|read| read.result);
        results.map(|result| result.map(|(found, _)| found).map_err(|error| (&error).into())).collect()
    }

    fn log_items(&self, context: &RequestContext<'_>, items: &Items) {
        let level = if items.worst.is_some() { Level::Error } else { Level::Info };
        let outcome = (http::StatusCode::OK, Reply::OK, items);
        self.log(context, level, outcome, None, items.worst.as_ref());
    }

    /// Reads one of several secrets, as a request for it alone would.
    async fn read_item<'a>(
        &'a self,
        config: &'a Config,
        principal: &Principal<'a>,
        request: &SecretRequest,
        freshness: Freshness,
        max_bytes: usize,
        context: &RequestContext<'a>,
    ) -> Read<'a> {
        let _in_progress = InProgress::new(&self.batches);
        let caller = match principal.authorize(&request.name) {
            Ok(caller) => caller,
            Err(error) => return error.into(),
        };
        let start = self.host.now();
        let item = context.of_item(caller, request.name.clone());
        let found = self.secrets.find(&self.client(config, &item), request, freshness).await;
        context.calls.add_all(&item.calls);
        let duration = self.host.now().since(start);
        let found = match found {
            Ok(found) => found,
            Err(ReadFailure { error, cache_status }) => {
                return Read { result: Err(error), cache_status, duration };
            }
        };
        let secret = &found.secret.secret;
        let bytes = secret.value.expose().len().saturating_add(secret.details.bytes());
        let taken = Taken::new(&self.batches, bytes, max_bytes);
        let cache_status = Some(found.cache_status);
        let result = taken.map(|taken| (found, taken)).ok_or(Error::NoRoom);
        Read { result, cache_status, duration }
    }

    /// Counts what became of one of several secrets, and logs it at level `debug`. A name that no secret can
    /// have is not logged.
    fn end_item(
        &self,
        context: &RequestContext<'_>,
        items: &mut Items,
        secret: Option<&SecretName>,
        result: Result<&Found, &Error>,
        read: Option<&Read<'_>>,
    ) {
        let code = result.map_or_else(|error| Reply::error(error).code(), |_| Reply::OK);
        items.count(code);
        match result {
            Ok(found) => items.stale = items.stale.saturating_add(u32::from(is_stale(found))),
            Err(error) => items.learn(error),
        }
        let cache = read.and_then(|read| read.cache_status).map(CacheStatus::outcome);
        let duration = read.map_or(Duration::ZERO, |read| read.duration);
        self.log_item(context, Level::Debug, secret, (code, result.err(), cache), duration);
    }

    /// Runs all futures. The next one is made and started when there are less than so many of the request and
    /// of the instance; each request runs one at least.
    async fn run_all<F: Future>(&self, mut futures: impl ExactSizeIterator<Item = F>) -> Vec<F::Output> {
        let mut results: Vec<Option<F::Output>> = Vec::new();
        results.resize_with(futures.len(), || None);
        let (mut running, mut started) = (Vec::<(usize, Pin<Box<F>>)>::new(), 0_usize);
        let mut waiting = None;
        poll_fn(|context| {
            loop {
                running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                    Poll::Ready(output) => {
                        if let Some(result) = results.get_mut(*index) {
                            *result = Some(output);
                        }
                        false
                    }
                    Poll::Pending => true,
                });
                if running.len() >= MAX_READS || futures.len() == 0 {
                    return if running.is_empty() { Poll::Ready(()) } else { Poll::Pending };
                }
                if !running.is_empty() && self.batches.reads.get() >= MAX_READS_OF_INSTANCE {
                    let waits = || Waiting::new(&self.batches, self.host.signal());
                    if waiting.get_or_insert_with(waits).woken.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    waiting = None;
                } else if let Some(future) = futures.next() {
                    // Under WASI 0.2 a future ends when it is polled, so that one after the other is read.
                    running.push((started, Box::pin(future)));
                    started = started.saturating_add(1);
                }
            }
        })
        .await;
        results.into_iter().flatten().collect()
    }
}

fn is_stale(found: &Found) -> bool {
    found.cache_status.ttl.is_some_and(|ttl| ttl < 0)
}

/// How many secrets are read at a time for one request. Key Vault takes 4,000 reads in ten seconds for all clients of a
/// vault (Microsoft, "Azure Key Vault service limits"); with answers after 20 ms these are as many as that.
const MAX_READS: usize = 8;

/// How many secrets are read at a time for all requests for several, besides one for each request: a vault's answer may take
/// 256 KiB of memory.
const MAX_READS_OF_INSTANCE: usize = 32;

/// The largest size of all values of an answer, in bytes, as JSON has them.
const MAX_ANSWER: usize = 1024 * 1024;

/// What the values of all requests for several may take of an instance until they are answered, in bytes.
const MAX_BYTES: usize = 8 * 1024 * 1024;
