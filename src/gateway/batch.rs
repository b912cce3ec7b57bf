//! Answers a request for several secrets: each as a request of its own would be, within one deadline.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use super::{Gateway, Outcome, check_head, freshness, level_of, parse_request};
use crate::auth::Principal;
use crate::config::Config;
use crate::error::Error;
use crate::host::{Body, Host};
use crate::http::request::{BatchRequest, Head, MAX_BATCH_BODY};
use crate::http::response::Reply;
use crate::http::response::entry::Entry;
use crate::http::trace::Trace;
use crate::model::{CacheKey, SecretRequest};
use crate::read_error::ReadError;
use crate::secrets::cache::Freshness;
use crate::secrets::{Found, ReadFailure};
use crate::telemetry::context::RequestContext;
use crate::telemetry::log::{self, Level};

/// What all requests for several secrets of an instance take together: reads in progress, and bytes of values that
/// wait for the others of their request.
#[derive(Debug, Default)]
pub(super) struct Batches {
    reads: Cell<usize>,
    bytes: Cell<usize>,
}

/// A secret that was read, with the room that it takes.
type Read<'a> = (Found, Taken<'a>);

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

/// Something that is taken of an instance until this is dropped.
#[derive(Debug)]
struct Taken<'a>(&'a Cell<usize>, usize);

impl<'a> Taken<'a> {
    fn new(from: &'a Cell<usize>, amount: usize) -> Self {
        from.set(from.get().saturating_add(amount));
        Self(from, amount)
    }

    /// Takes `more`, unless more than `most` would be taken of the instance then.
    fn grow(&mut self, more: usize, most: usize) -> bool {
        let all = self.0.get().saturating_add(more);
        if all > most {
            return false;
        }
        self.0.set(all);
        self.1 = self.1.saturating_add(more);
        true
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(self.1));
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
        let config = self.config(context).await?;
        let principal = self.authenticate(config, head, context).await?;
        let authority = principal.is_anonymous().then(|| body.authority()).flatten();
        check_head(config, &principal, head, authority.as_deref(), MAX_BATCH_BODY, context)?;
        let body_deadline = context.deadline.within(context.start, config.stale_wait());
        let body = body.read(MAX_BATCH_BODY, body_deadline.end()).await.map_err(Error::from)?;
        let request = BatchRequest::parse(&body)?;
        drop(body);
        let freshness = freshness(head.has_no_cache(), context.start);

        // A secret that is asked for twice is read once.
        let mut keys: Vec<CacheKey> = Vec::new();
        let mut reads = Vec::new();
        let mut places = Vec::new();
        for (_, item) in &request.items {
            places.push(item.as_ref().map(|secret| {
                let key = CacheKey::of(secret);
                keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                    keys.push(key);
                    reads.push(self.read_item(config, &principal, secret, freshness, MAX_BYTES, context));
                    keys.len().saturating_sub(1)
                })
            }));
        }
        let may_start =
            |running| running == 0 || running < MAX_READS && self.batches.reads.get() < MAX_READS_OF_INSTANCE;
        let mut found = run_all(reads, may_start).await;

        let mut taken = Taken::new(&self.batches.bytes, 0);
        let (mut items, mut refreshes, mut room) = (Items::default(), Vec::new(), MAX_ANSWER);
        let mut entries = Vec::with_capacity(places.len());
        for result in &mut found {
            refreshes.extend(result.as_mut().ok().and_then(|(found, _)| found.refresh.take()));
        }
        for ((name, _), place) in request.items.iter().zip(places) {
            let read = place.map(|index| found.get(index).map(Result::as_ref));
            let entry = match read {
                Ok(Some(Ok((found, _)))) => {
                    items.stale = items.stale.saturating_add(u32::from(is_stale(found)));
                    let entry = Entry::of_secret(name, &found.secret.secret, request.details);
                    let bytes = entry.bytes();
                    let has_room = bytes <= room && taken.grow(bytes, MAX_BYTES);
                    room = room.saturating_sub(if has_room { bytes } else { 0 });
                    if has_room { entry } else { Entry::of_error(name, &Error::NoRoom) }
                }
                Ok(Some(Err(error))) | Err(error) => {
                    items.learn(error);
                    Entry::of_error(name, error)
                }
                Ok(None) => Entry::of_error(name, &Error::DeadlineExceeded),
            };
            self.metrics.item(entry.code());
            items.count(entry.code());
            entries.push(entry);
        }
        let reply = Reply::secrets(&entries);
        Ok((reply, Outcome { cache_status: None, refreshes, items: Some(items) }))
    }

    /// Reads several secrets for the component that is composed with the gateway.
    pub async fn read_many(&self, requests: &[(String, Option<String>)]) -> Vec<Result<Found, ReadError>> {
        let mut context = RequestContext::new(self.host.now(), Trace::none());
        let config = match self.config(&mut context).await {
            Ok(config) => config,
            Err(error) => {
                let mut items = Items::default();
                requests.iter().for_each(|_| items.count(Reply::error(&error).code()));
                items.learn(&error);
                self.log_items(&context, &items);
                return requests.iter().map(|_| Err((&error).into())).collect();
            }
        };
        let principal = config.callers.composed();
        let freshness = freshness(false, context.start);
        let read = async |(name, version): &(String, Option<String>)| {
            let request = parse_request(name, version.as_deref())?;
            // The values go into the memory of the other component, whose matter that is.
            let most = usize::MAX;
            let read = self.read_item(config, &principal, &request, freshness, most, &context).await;
            read.map(|(found, _)| found)
        };
        let results = run_all(requests.iter().map(read).collect(), |running| running < MAX_READS).await;
        let mut items = Items::default();
        for result in &results {
            items.count(result.as_ref().map_or_else(|error| Reply::error(error).code(), |_| Reply::OK));
            result.as_ref().err().into_iter().for_each(|error| items.learn(error));
        }
        items.stale = results.iter().flatten().map(|found| u32::from(is_stale(found))).sum();
        context.caller = Some(principal.caller());
        self.log_items(&context, &items);
        results.into_iter().map(|result| result.map_err(|error| (&error).into())).collect()
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
    ) -> Result<Read<'a>, Error> {
        let _read = Taken::new(&self.batches.reads, 1);
        let caller = principal.authorize(&request.name)?;
        let item = context.of_item(caller, request.name.clone());
        let result = self.secrets.find(&self.client(config, &item), request, freshness).await;
        context.calls.add_all(&item.calls);
        if config.log >= Level::Debug {
            let (code, cache_status, cause) = match &result {
                Ok(found) => (Reply::OK, Some(found.cache_status), None),
                Err(ReadFailure { error, cache_status }) => {
                    (Reply::error(error).code(), *cache_status, Some(error))
                }
            };
            let line = log::ItemLine {
                time: self.host.unix_time(),
                level: Level::Debug,
                request: item.trace.id(|| self.host.random()),
                secret: request.name.as_str(),
                item: code,
                cause,
                cache: cache_status.map(|status| status.outcome().name()),
            };
            self.host.log(&log::render(&line, self.host.now().since(context.start)));
        }
        let found = result.map_err(|failure| failure.error)?;
        let secret = &found.secret.secret;
        let bytes = secret.value.expose().len().saturating_add(secret.details.bytes());
        let mut taken = Taken::new(&self.batches.bytes, 0);
        if taken.grow(bytes, max_bytes) { Ok((found, taken)) } else { Err(Error::NoRoom) }
    }
}

fn is_stale(found: &Found) -> bool {
    found.cache_status.ttl.is_some_and(|ttl| ttl < 0)
}

/// Runs all futures, and starts the next one whenever `may_start` allows it beside so many that are running.
async fn run_all<F: Future>(futures: Vec<F>, may_start: impl Fn(usize) -> bool) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    poll_fn(|context| {
        loop {
            let mut is_done = true;
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(output) => {
                    if let Some(result) = results.get_mut(*index) {
                        *result = Some(output);
                    }
                    false
                }
                Poll::Pending => true,
            });
            while may_start(running.len())
                && let Some((index, future)) = waiting.next()
            {
                running.push((index, Box::pin(future)));
                is_done = false;
                // Under WASI 0.2 a future ends when it is polled, so that one after the other is read.
                break;
            }
            if is_done {
                return if running.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    })
    .await;
    results.into_iter().flatten().collect()
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
