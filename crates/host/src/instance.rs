//! One instance of the component, and the loop that runs its requests.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

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
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::p3::{self, Request};
use wasmtime_wasi_http::{FieldMap, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::log::Log;
use crate::options::Limits;
use crate::outbound::{Network, is_forbidden};
use crate::settings::Settings;

/// The component, compiled and linked, of which instances are made.
pub struct Program {
    engine: Engine,
    service: ServicePre<Guest>,
    /// The function that answers a request which needs no waiting. Other components have none.
    immediate: Option<ComponentExportIndex>,
}

/// A request, with the place for its reply. If the instance traps, the place is dropped.
pub struct Job {
    pub method: Method,
    pub target: PathAndQuery,
    pub authority: Option<Authority>,
    pub headers: HeaderMap,
    pub body: JobBody,
    pub reply: oneshot::Sender<Response<Bytes>>,
    /// One of the requests in progress. It ends with the work of the instance, even if the client is gone.
    pub permit: OwnedSemaphorePermit,
}

/// The body of a request: all of it, or a stream.
pub enum JobBody {
    Whole(Bytes),
    Stream(WasiBody),
}

impl Program {
    /// Links the component with what it may import: no sockets, and of files those of one directory, if any.
    pub fn new(engine: Engine, component: &Component) -> wasmtime::Result<Self> {
        use wasmtime_wasi::p2::bindings::{cli, filesystem};
        let mut linker = Linker::<Guest>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(&mut linker)?;
        cli::environment::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::exit::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_input::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_output::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_stdin::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_stdout::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        cli::terminal_stderr::add_to_linker::<_, WasiCli>(&mut linker, Guest::cli)?;
        filesystem::types::add_to_linker::<_, WasiFilesystem>(&mut linker, Guest::filesystem)?;
        filesystem::preopens::add_to_linker::<_, WasiFilesystem>(&mut linker, Guest::filesystem)?;
        wasmtime_wasi::p3::clocks::add_to_linker(&mut linker)?;
        wasmtime_wasi::p3::random::add_to_linker(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        let interface = component.get_export_index(None, IMMEDIATE);
        let immediate =
            interface.and_then(|interface| component.get_export_index(Some(&interface), "answer"));
        Ok(Self { service: ServicePre::new(linker.instantiate_pre(component)?)?, engine, immediate })
    }

    /// Makes an instance with these settings. The future that is returned answers the requests
    /// of `jobs` until that is closed and all are answered, and sends `worn` when the instance should be
    /// replaced. Both fail if the instance traps.
    pub async fn instantiate(
        &self,
        settings: &Settings,
        network: Network,
        log: Log,
        limits: &Limits,
        jobs: mpsc::UnboundedReceiver<Job>,
        worn: oneshot::Sender<&'static str>,
    ) -> wasmtime::Result<impl Future<Output = wasmtime::Result<()>> + Send + use<>> {
        let max = usize::try_from(limits.max_memory)?.saturating_mul(1 << 20);
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&settings.variables).stderr(log);
        if let Some(directory) = &settings.token_directory {
            // The same name inside: the setting names the file by its path.
            wasi.preopened_dir(directory, directory.to_string_lossy(), FsPerms::ReadOnly)?;
        }
        let guest = Guest {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            network,
            table: ResourceTable::new(),
            memory: Memory { max, is_nearly_full: false },
        };
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        let turn = Arc::new(Turn::default());
        turn.limit(&mut store);
        let instance = self.service.instance_pre().instantiate_async(&mut store).await?;
        let service = Service::new(&mut store, &instance)?;
        let immediate = self.immediate.as_ref().map(|index| instance.get_typed_func(&mut store, index));
        let exports = (service, immediate.transpose()?);
        let max_requests = limits.instance_requests;
        let mut run = Box::pin(async move {
            let serve =
                async |accessor: &Accessor<_>| serve(accessor, &exports, jobs, worn, max_requests).await;
            store.run_concurrent(serve).await?
        });
        Ok(poll_fn(move |context| {
            turn.begin();
            run.as_mut().poll(context)
        }))
    }
}

/// `wasi:http/handler`, and `keyvault:gateway/immediate` if the component has it.
type Exports = (Service, Option<TypedFunc<(ImmediateRequest,), (Option<ImmediateReply>,)>>);

async fn serve(
    accessor: &Accessor<Guest>,
    exports: &Exports,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    worn: oneshot::Sender<&'static str>,
    max_requests: u64,
) -> wasmtime::Result<()> {
    let mut requests = FuturesUnordered::new();
    let (mut worn, mut answered, mut is_closed) = (Some(worn), 0_u64, false);
    poll_fn(|context| {
        while !is_closed {
            match jobs.poll_recv(context) {
                Poll::Ready(Some(job)) => requests.push(answer(accessor, exports, job)),
                Poll::Ready(None) => is_closed = true,
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some(result)) = requests.poll_next_unpin(context) {
            answered = answered.saturating_add(1);
            let reason = match result {
                Err(trap) => return Poll::Ready(Err(trap)),
                Ok(true) => "its memory is nearly full",
                Ok(false) if answered >= max_requests => "it has answered its number of requests",
                Ok(false) => continue,
            };
            let _ = worn.take().map(|worn| worn.send(reason));
        }
        if is_closed && requests.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Answers one request, and returns whether the memory of the instance is nearly full.
async fn answer(accessor: &Accessor<Guest>, exports: &Exports, job: Job) -> wasmtime::Result<bool> {
    let immediate = match (&exports.1, &job.body) {
        (Some(function), JobBody::Whole(body)) => {
            function.call_concurrent(accessor, (ImmediateRequest::new(&job, body),)).await?.0
        }
        _ => None,
    };
    let Job { method, target, authority, headers, body, reply, permit } = job;
    let response = match immediate {
        Some(immediate) => immediate.into_response(),
        None => {
            let body = match body {
                JobBody::Whole(body) => Full::new(body).map_err(|never| match never {}).boxed_unsync(),
                JobBody::Stream(body) => body,
            };
            let request = accessor.with(|mut access| {
                let fields = FieldMap::new_immutable(access.get().http().hooks, headers);
                Request::new(method, None, authority, Some(target), fields, None, body).0
            });
            match exports.0.handle(accessor, request).await? {
                Ok(response) => {
                    let response = accessor.with(|access| response.into_http(access, async { Ok(()) }))?;
                    let (head, body) = response.into_parts();
                    let body = body.collect().await.ok();
                    body.map(|body| Response::from_parts(head, body.to_bytes()))
                }
                Err(_) => None,
            }
        }
    };
    // Without a response, and if the instance traps, the client learns of an internal error.
    if let Some(response) = response {
        let _ = reply.send(response);
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
    body: Bytes,
}

/// The reply of `keyvault:gateway/immediate`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct ImmediateReply {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    body: Bytes,
}

impl ImmediateRequest {
    /// Makes the request with the header fields that a component sees by `wasi:http`, too.
    fn new(job: &Job, body: &Bytes) -> Self {
        let fields = job.headers.iter().filter(|(name, _)| !is_forbidden(name));
        let fields = fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        Self {
            method: job.method.as_str().to_owned(),
            path_with_query: job.target.as_str().to_owned(),
            authority: job.authority.as_ref().map(|authority| authority.as_str().to_owned()),
            fields: fields.collect(),
            body: body.clone(),
        }
    }
}

impl ImmediateReply {
    /// Makes the response. There is none if the component does not keep to HTTP.
    fn into_response(self) -> Option<Response<Bytes>> {
        let mut response = Response::new(self.body);
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        for (name, value) in self.fields {
            let value = HeaderValue::from_maybe_shared(Bytes::from(value)).ok()?;
            response.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
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

/// How long an instance has kept its thread, in ticks of the clock.
///
/// Ticks are better than time: they stand still while the whole machine does.
#[derive(Default)]
struct Turn(AtomicU32);

impl Turn {
    fn begin(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Ends an instance that does not yield when it notices too many ticks.
    fn limit<T: 'static>(self: &Arc<Self>, store: &mut Store<T>) {
        let turn = Arc::clone(self);
        store.epoch_deadline_callback(move |_| {
            let ticks = turn.0.fetch_add(1, Ordering::Relaxed);
            Ok(if ticks < MAX_TICKS { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt })
        });
        store.set_epoch_deadline(1);
    }
}

/// The interface for requests that need no waiting.
const IMMEDIATE: &str = "keyvault:gateway/immediate@0.1.0";

/// The elements of a table: some times what the component has.
const MAX_TABLE: usize = 100_000;

/// The ticks for which an instance may keep the thread: five seconds, as a tick is [`TICK`].
const MAX_TICKS: u32 = 50;

/// The time between two ticks.
pub const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_does_not_yield_is_ended_and_one_that_does_is_not() {
        // (module (func (export "loop") (loop br 0)) (func (export "end")))
        const CODE: &[u8] =
            b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x03\x02\0\0\x07\x0e\x02\x04loop\0\0\x03end\0\x01\
            \x0a\x0c\x02\x07\0\x03\x40\x0c\0\x0b\x0b\x02\0\x0b";
        let engine = Engine::new(&crate::code::config()).unwrap();
        let module = wasmtime::Module::new(&engine, CODE).unwrap();
        let (turn, mut store) = (Arc::new(Turn::default()), Store::new(&engine, ()));
        turn.limit(&mut store);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let [forever, end] =
            ["loop", "end"].map(|name| instance.get_typed_func::<(), ()>(&mut store, name).unwrap());
        for _ in 0..3 * MAX_TICKS {
            turn.begin();
            engine.increment_epoch();
            end.call(&mut store, ()).unwrap();
        }
        let clock = std::thread::spawn(move || {
            (0..=MAX_TICKS * 100).for_each(|_| {
                engine.increment_epoch();
                std::thread::yield_now();
            });
        });
        assert!(forever.call(&mut store, ()).is_err());
        clock.join().unwrap();
    }
}
