//! One instance of the component, and the loop that runs its requests.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use wasmtime::component::{
    Accessor, Component, ComponentExportIndex, ComponentType, Lift, Linker, Lower, ResourceTable, TypedFunc,
};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::p3::{self, Request};
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::log::Log;
use crate::outbound::{Network, is_forbidden};

/// The component, compiled and linked, of which instances are made.
pub struct Program {
    engine: Engine,
    service: ServicePre<Guest>,
    /// The function that answers a request which needs no waiting. Other components have none.
    immediate: Option<ComponentExportIndex>,
}

/// What an instance gets of its host.
pub struct Resources<'a> {
    pub variables: &'a [(String, String)],
    pub network: Network,
    pub log: &'a Log,
    /// The largest memory, in bytes.
    pub max_memory: usize,
    /// The number of requests after which the instance should be replaced.
    pub max_requests: u64,
}

/// A request, with the place for its reply. If the instance traps, the place is dropped.
pub struct Job {
    pub method: Method,
    pub target: PathAndQuery,
    pub authority: Option<Authority>,
    pub headers: HeaderMap,
    pub body: JobBody,
    pub reply: oneshot::Sender<Response<Full<Bytes>>>,
    /// One of the requests in progress. It ends with the work of the instance, even if the client is gone.
    pub permit: OwnedSemaphorePermit,
}

/// The body of a request: all of it, or a stream.
pub enum JobBody {
    Whole(Bytes),
    Stream(WasiBody),
}

impl Program {
    /// Links the component with what it may import: no files, no sockets.
    pub fn new(engine: Engine, component: &Component) -> wasmtime::Result<Self> {
        use wasmtime_wasi::p2::bindings::cli;
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(&mut linker)?;
        cli::environment::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::exit::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_input::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_output::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_stdin::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_stdout::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_stderr::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        wasmtime_wasi::p3::clocks::add_to_linker(&mut linker)?;
        wasmtime_wasi::p3::random::add_to_linker(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        let interface = component.get_export_index(None, IMMEDIATE);
        let immediate =
            interface.and_then(|interface| component.get_export_index(Some(&interface), "answer"));
        Ok(Self { service: ServicePre::new(linker.instantiate_pre(component)?)?, engine, immediate })
    }

    /// Makes an instance.
    pub async fn instantiate(&self, resources: Resources<'_>) -> wasmtime::Result<Instance> {
        let Resources { variables, network, log, max_memory, max_requests } = resources;
        let guest = Guest {
            wasi: WasiCtxBuilder::new().envs(variables).stderr(log.of_instance()).build(),
            http: WasiHttpCtx::new(),
            network,
            table: ResourceTable::new(),
            memory: Memory { max: max_memory, is_nearly_full: false },
        };
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        let turn = Arc::new(Turn::default());
        let ticks = Arc::clone(&turn);
        store.epoch_deadline_callback(move |_| Ok(ticks.tick()));
        store.set_epoch_deadline(1);
        let instance = self.service.instance_pre().instantiate_async(&mut store).await?;
        let service = Service::new(&mut store, &instance)?;
        let immediate = self.immediate.as_ref().map(|index| instance.get_typed_func(&mut store, index));
        Ok(Instance {
            store,
            exports: Exports { service, immediate: immediate.transpose()? },
            turn,
            max_requests,
        })
    }
}

/// An instance that has not started.
pub struct Instance {
    store: Store<Guest>,
    exports: Exports,
    turn: Arc<Turn>,
    max_requests: u64,
}

struct Exports {
    service: Service,
    immediate: Option<TypedFunc<(ImmediateRequest,), (Option<ImmediateReply>,)>>,
}

impl Instance {
    /// Answers the requests of `jobs` until that is closed and all are answered. `worn` is sent when the instance
    /// should be replaced.
    ///
    /// # Errors
    ///
    /// Fails if the instance traps.
    pub async fn run(
        self,
        jobs: mpsc::UnboundedReceiver<Job>,
        worn: oneshot::Sender<&'static str>,
    ) -> wasmtime::Result<()> {
        let Self { mut store, exports, turn, max_requests } = self;
        let flag = Arc::clone(&turn);
        let run = Box::pin(async move {
            let serve = async |accessor: &Accessor<Guest>| {
                serve(accessor, &exports, jobs, worn, max_requests, &flag).await
            };
            store.run_concurrent(serve).await?
        });
        Turns { run, turn, waker: Arc::new(TurnWaker::new()), has_more: false }.await
    }
}

async fn serve(
    accessor: &Accessor<Guest>,
    exports: &Exports,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    worn: oneshot::Sender<&'static str>,
    max_requests: u64,
    turn: &Turn,
) -> wasmtime::Result<()> {
    let mut requests = FuturesUnordered::new();
    let (mut worn, mut answered, mut is_closed) = (Some(worn), 0_u64, false);
    poll_fn(|context| {
        while !is_closed && turn.may_take.load(Ordering::Relaxed) {
            match jobs.poll_recv(context) {
                Poll::Ready(Some(job)) => requests.push(answer(accessor, exports, job)),
                Poll::Ready(None) => is_closed = true,
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some(result)) = requests.poll_next_unpin(context) {
            let is_nearly_full = match result {
                Ok(is_nearly_full) => is_nearly_full,
                Err(trap) => return Poll::Ready(Err(trap)),
            };
            answered = answered.saturating_add(1);
            let reason = if is_nearly_full { Some("its memory is nearly full") } else { None };
            let reason =
                reason.or((answered >= max_requests).then_some("it has answered its number of requests"));
            if let Some(reason) = reason
                && let Some(worn) = worn.take()
            {
                let _ = worn.send(reason);
            }
        }
        if is_closed && requests.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Answers one request, and returns whether the memory of the instance is nearly full.
async fn answer(accessor: &Accessor<Guest>, exports: &Exports, mut job: Job) -> wasmtime::Result<bool> {
    let permit = job.permit;
    let immediate = match (&exports.immediate, &job.body) {
        (Some(function), JobBody::Whole(body)) => {
            let request =
                ImmediateRequest::new(&job.method, &job.target, job.authority.as_ref(), &job.headers, body);
            function.call_concurrent(accessor, (request,)).await?.0
        }
        _ => None,
    };
    let response = match immediate {
        Some(reply) => reply.into_response(),
        None => {
            let body = match job.body {
                JobBody::Whole(body) => Full::new(body).map_err(|never| match never {}).boxed_unsync(),
                JobBody::Stream(body) => body,
            };
            job.body = JobBody::Whole(Bytes::new());
            let request = accessor.with(|mut access| {
                let fields = FieldMap::new_immutable(access.get().http().hooks, job.headers);
                let (authority, target) = (job.authority, Some(job.target));
                Request::new(job.method, None, authority, target, fields, None, body).0
            });
            match exports.service.handle(accessor, request).await? {
                Ok(response) => {
                    let response = accessor.with(|access| response.into_http(access, async { Ok(()) }))?;
                    let (head, body) = response.into_parts();
                    body.collect()
                        .await
                        .ok()
                        .map(|body| Response::from_parts(head, Full::new(body.to_bytes())))
                }
                Err(_) => None,
            }
        }
    };
    if let Some(response) = response {
        let _ = job.reply.send(response);
    }
    drop(permit);
    Ok(accessor.with(|mut access| access.get().memory.is_nearly_full))
}

/// The request of `keyvault:gateway/immediate`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct ImmediateRequest {
    method: String,
    #[component(name = "path-with-query")]
    path_with_query: String,
    authority: Option<String>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// The reply of `keyvault:gateway/immediate`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct ImmediateReply {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl ImmediateRequest {
    /// Makes the request with the header fields that a component sees by `wasi:http`, too.
    fn new(
        method: &Method,
        target: &PathAndQuery,
        authority: Option<&Authority>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Self {
        let fields = headers.iter().filter(|(name, _)| !is_forbidden(name));
        let fields = fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        Self {
            method: method.as_str().to_owned(),
            path_with_query: target.as_str().to_owned(),
            authority: authority.map(|authority| authority.as_str().to_owned()),
            fields: fields.collect(),
            body: body.to_vec(),
        }
    }
}

impl ImmediateReply {
    /// Makes the response. There is none if the component does not keep to HTTP.
    fn into_response(self) -> Option<Response<Full<Bytes>>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        for (name, value) in self.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            response.headers_mut().append(name, HeaderValue::from_maybe_shared(Bytes::from(value)).ok()?);
        }
        Some(response)
    }
}

/// The host's data for one instance.
struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    network: Network,
    table: ResourceTable,
    memory: Memory,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.network, table: &mut self.table, ctx: &mut self.http }
    }
}

/// The bound of an instance's memory.
struct Memory {
    max: usize,
    is_nearly_full: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, _: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.is_nearly_full |= wanted >= self.max / 8 * 7;
        Ok(wanted <= self.max)
    }

    fn table_growing(&mut self, _: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(wanted <= MAX_TABLE)
    }
}

/// What the loop of an instance and its executor tell each other.
#[derive(Default)]
struct Turn {
    /// Whether the loop may take new requests.
    may_take: AtomicBool,
    /// The ticks of the clock since the instance was last given the thread.
    ticks: AtomicU32,
}

impl Turn {
    /// Counts a tick that the instance has noticed while it runs, and ends it if it keeps the thread.
    fn tick(&self) -> UpdateDeadline {
        let ticks = self.ticks.fetch_add(1, Ordering::Relaxed);
        if ticks < MAX_TICKS { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt }
    }
}

/// Runs the loop of an instance so that the work it has begun comes before new requests.
///
/// A task of the component yields once for each request, and Wasmtime continues yielded tasks one at a time, each
/// time that its future returns to the executor, and only if nothing else is to be done (`wasmtime` 48,
/// `component/concurrent.rs`, `poll_until`). Under load, a loop that takes all waiting requests each time would leave
/// ever more tasks unfinished. So the future is polled again while it wakes itself, before it may take new requests.
struct Turns<F> {
    run: Pin<Box<F>>,
    turn: Arc<Turn>,
    waker: Arc<TurnWaker>,
    /// Whether the last poll has woken itself.
    has_more: bool,
}

impl<F: Future> Turns<F> {
    fn poll_once(&mut self, may_take: bool) -> Poll<F::Output> {
        self.turn.may_take.store(may_take, Ordering::Relaxed);
        self.turn.ticks.store(0, Ordering::Relaxed);
        self.waker.is_polling.store(true, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.waker));
        let result = self.run.as_mut().poll(&mut Context::from_waker(&waker));
        self.waker.is_polling.store(false, Ordering::Release);
        self.has_more = self.waker.is_woken.swap(false, Ordering::AcqRel);
        result
    }
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.waker.outer.lock().unwrap_or_else(PoisonError::into_inner).clone_from(context.waker());
        let mut polls = 0;
        while this.has_more && polls < MAX_POLLS {
            if let Poll::Ready(output) = this.poll_once(false) {
                return Poll::Ready(output);
            }
            polls += 1;
        }
        let result = this.poll_once(true);
        if this.has_more {
            context.waker().wake_by_ref();
        }
        result
    }
}

/// Notes that the instance has woken itself, or else wakes its executor.
struct TurnWaker {
    is_polling: AtomicBool,
    is_woken: AtomicBool,
    outer: Mutex<Waker>,
}

impl TurnWaker {
    fn new() -> Self {
        let outer = Mutex::new(Waker::noop().clone());
        Self { is_polling: AtomicBool::new(false), is_woken: AtomicBool::new(false), outer }
    }
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        if !self.is_polling.load(Ordering::Acquire) {
            self.outer.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

/// The interface for requests that need no waiting.
const IMMEDIATE: &str = "keyvault:gateway/immediate@0.1.0";

/// The elements of a table: some times what the component has.
const MAX_TABLE: usize = 100_000;

/// How often an instance that wakes itself is polled before new requests get their turn.
const MAX_POLLS: usize = 1024;

/// The ticks for which an instance may keep the thread: five seconds, as a tick is [`TICK`].
const MAX_TICKS: u32 = 50;

/// The time between two ticks.
pub const TICK: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begun_work_comes_before_new_requests_and_outside_wakes_reach_the_executor() {
        let turn = Arc::new(Turn::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (flag, polls) = (Arc::clone(&turn), Arc::clone(&seen));
        let mut wakes = [true, true, true, false, false].into_iter();
        let run = Box::pin(poll_fn(move |context| {
            polls.lock().unwrap().push(flag.may_take.load(Ordering::Relaxed));
            match wakes.next() {
                Some(true) => context.waker().wake_by_ref(),
                Some(false) => {}
                None => return Poll::Ready(()),
            }
            Poll::Pending
        }));
        let waker = Arc::new(TurnWaker::new());
        let executor = Arc::new(TurnWaker::new());
        let woken = || executor.is_woken.swap(false, Ordering::AcqRel);
        let mut turns = Box::pin(Turns { run, turn, waker: Arc::clone(&waker), has_more: false });
        let outer = Waker::from(Arc::clone(&executor));
        let mut poll = || turns.as_mut().poll(&mut Context::from_waker(&outer)).is_ready();
        assert_eq!((poll(), woken()), (false, true));
        assert_eq!((poll(), woken()), (false, false));
        waker.wake_by_ref();
        assert_eq!((woken(), poll()), (true, true));
        assert_eq!(*seen.lock().unwrap(), [true, false, false, false, true, true]);
    }

    #[test]
    fn an_instance_that_keeps_the_thread_is_ended() {
        let turn = Turn::default();
        let ends = (0..=MAX_TICKS).map(|_| matches!(turn.tick(), UpdateDeadline::Interrupt));
        assert_eq!(ends.filter(|is_end| *is_end).count(), 1);
    }
}
