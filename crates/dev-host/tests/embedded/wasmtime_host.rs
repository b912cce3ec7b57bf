//! An embedded Wasmtime host, with the emulator as its network and Tokio's clock as its time.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::request::Parts;
use http_body::Frame;
use http_body_util::BodyExt as _;
use keyvault_emulator::{Cut, Emulator};
use tokio::sync::mpsc;
use wasmtime::component::{Component, ComponentType, Linker, Lower, ResourceTable};
use wasmtime::{Config, Engine, ResourceLimiter, Store, StoreContextMut};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{
    FsPerms, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, Proxy, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, p2, p3,
};

use crate::immediate_way::{Immediate, Question};
use crate::key_value_store::{self, Stores};
use crate::manifest::Application;

/// The builds for any host, and the immediate way of `service`. Every test runs with all of them.
pub(crate) const WAYS: [World; 3] = [World::Proxy, World::Service, World::Immediate];

/// The builds for Spin, on a host that offers what Spin does.
pub(crate) const SPIN: [World; 2] = [World::ProxyOnSpin, World::ServiceOnSpin];

/// A built component and the world that it targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// WASI 0.2: an instance serves one request at a time.
    Proxy,
    /// WASI 0.3: an instance serves concurrent requests.
    Service,
    /// WASI 0.2 on Spin 2 to 4: an instance serves one request.
    ProxyOnSpin,
    /// WASI 0.3 on Spin 4.1: an instance serves concurrent requests.
    ServiceOnSpin,
    /// WASI 0.3, and a request goes to `keyvault:gateway/immediate` first, as in the gateway's own host.
    Immediate,
    /// `ServiceOnSpin` with the reader of token files, as Spin composes it by the manifest.
    FederatedOnSpin,
}

impl World {
    /// Returns whether the host is Spin.
    pub(crate) const fn is_spin(self) -> bool {
        matches!(self, Self::ProxyOnSpin | Self::ServiceOnSpin | Self::FederatedOnSpin)
    }

    const fn component(self) -> &'static str {
        let names = ["proxy", "service", "proxy-spin", "service-spin", "service", "service-spin-federated"];
        names[self as usize]
    }
}

/// What the host has observed, except requests and responses.
#[derive(Default)]
pub(crate) struct Observed {
    /// The number of instances so far.
    pub(crate) instances: AtomicUsize,
    /// Has one reference more for each call whose response the component has neither read nor dropped.
    pub(crate) open_calls: Arc<()>,
    /// The open resources of an instance when its last request started.
    pub(crate) resources: AtomicUsize,
    /// The remaining fuel of the instance when its last request started.
    pub(crate) instructions: AtomicU64,
    /// The largest memory of an instance, in bytes.
    pub(crate) memory: AtomicUsize,
    /// The timeouts of each call.
    pub(crate) timeouts: Mutex<Vec<Option<RequestOptions>>>,
    /// Gives an instance the limits of [`CROWDED`] in place of [`USUAL`].
    pub(crate) crowded: AtomicBool,
    /// Makes the network accept no body and send no response.
    pub(crate) unresponsive: AtomicBool,
    /// The calls that the leak search has not seen yet.
    pub(crate) calls: Mutex<Vec<OutgoingCall>>,
    /// The key-value stores of the application.
    pub(crate) stores: Stores,
    /// The causes of trapped instances. No instance may trap.
    pub(crate) traps: Mutex<Vec<String>>,
}

impl Observed {
    pub(crate) fn start_request(&self, mut store: StoreContextMut<'_, Guest>) {
        self.resources.store(store.data_mut().table.iter_mut().count(), Ordering::Relaxed);
        self.instructions.store(store.get_fuel().unwrap_or_default(), Ordering::Relaxed);
    }
}

/// An outgoing call and its response.
pub(crate) struct OutgoingCall {
    pub(crate) head: Parts,
    pub(crate) body: RecordedBody,
    /// The status, the header fields and the body.
    pub(crate) response: Arc<OnceLock<(http::response::Parts, RecordedBody)>>,
}

impl OutgoingCall {
    /// Returns whether the call and its response are complete.
    pub(crate) fn is_complete(&self) -> bool {
        let read = self.response.get().is_none_or(|response| response.1.is_complete());
        self.body.is_complete() && read && Arc::strong_count(&self.response) == 1
    }
}

/// The recorded start of a body, up to [`MAX_RECORD`] bytes.
#[derive(Clone, Default)]
pub(crate) struct RecordedBody(Arc<Mutex<Vec<u8>>>);

impl RecordedBody {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn is_complete(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(crate) fn add(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let mut bytes = self.0.lock().unwrap();
        if let Some(data) = frame.data_ref()
            && bytes.len() < MAX_RECORD
        {
            bytes.extend_from_slice(data);
        }
        drop(bytes);
        frame
    }
}

/// Creates instances of one component and keeps each while there are requests.
pub(crate) struct Host {
    pub(crate) world: World,
    pub(crate) environment: Vec<(String, String)>,
    /// The application of Spin's manifest, if the host is Spin.
    pub(crate) application: Option<Arc<Application>>,
    pub(crate) emulator: Emulator,
    pub(crate) stdout: MemoryOutputPipe,
    pub(crate) stderr: MemoryOutputPipe,
    pub(crate) observed: Arc<Observed>,
    /// The wall clock of all instances.
    pub(crate) wall_clock: Clock,
    /// The way to the function `answer` of the last instance.
    pub(crate) immediate: Mutex<Option<mpsc::UnboundedSender<Question>>>,
}

impl HandlerState for Host {
    type StoreData = Guest;
    type WorkerExpiration = NeverExpires;
    type WorkerState = InstanceState;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Guest, NeverExpires, InstanceState>> {
        // Compilation must not count as time of the instance.
        let component = component(self.world);
        self.observed.instances.fetch_add(1, Ordering::Relaxed);
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&self.environment).stdout(self.stdout.clone()).stderr(self.stderr.clone());
        wasi.monotonic_clock(Clock::start()).wall_clock(self.wall_clock);
        for files in self.application.iter().flat_map(|application| &application.files) {
            wasi.preopened_dir(&files.source, &files.destination, FsPerms::ReadOnly)?;
        }
        let guest = Guest {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            network: Network {
                application: self.application.clone(),
                emulator: self.emulator.clone(),
                observed: Arc::clone(&self.observed),
            },
            table: ResourceTable::new(),
        };
        let mut store = Store::new(component.engine, guest);
        store.limiter(|guest| &mut guest.network);
        store.set_max_component_handles(self.observed.limits().handles);
        store.set_fuel(self.observed.limits().instructions)?;
        let proxy = match &component.proxy {
            ProxyPre::P3(service) if self.world == World::Immediate => {
                let instance = service.instance_pre().instantiate_async(&mut store).await?;
                let questions = Immediate::spawn(&mut store, &instance, &self.observed)?;
                self.immediate.lock().unwrap().replace(questions);
                Proxy::P3(p3::bindings::Service::new(&mut store, &instance)?)
            }
            proxy => proxy.instantiate_async(&mut store).await?,
        };
        Ok(Instance {
            store,
            proxy,
            view: WasiHttpView::http,
            expiration: NeverExpires,
            state: InstanceState { world: self.world, observed: Arc::clone(&self.observed) },
        })
    }
}

/// An instance ends only with the test, or on Spin after its one request.
pub(crate) struct NeverExpires;

impl WorkerExpiration for NeverExpires {
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>, _: WorkerStatus, _: std::time::Instant) -> Poll<()> {
        Poll::Pending
    }
}

/// The state of an instance.
pub(crate) struct InstanceState {
    world: World,
    observed: Arc<Observed>,
}

impl WorkerState for InstanceState {
    type StoreData = Guest;
    type RequestData = ();

    fn should_accept_request(&self, active: usize, total: usize) -> ShouldAccept {
        match (self.world, active, total) {
            (World::ProxyOnSpin, _, 1..) => ShouldAccept::Never,
            (World::Proxy, 1.., _) => ShouldAccept::No,
            _ => ShouldAccept::Yes,
        }
    }

    fn on_request_start(
        &self,
        store: StoreContextMut<'_, Guest>,
        (): (),
        _: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        self.observed.start_request(store);
        // The host sets no deadline: the component has its own.
        Box::pin(std::future::pending())
    }

    fn drop(&self, _: Store<Guest>, result: wasmtime::Result<()>) {
        // On Spin an instance ends after its requests.
        if self.world.is_spin() && result.is_ok() {
            return;
        }
        let trap = result.map_or_else(|error| format!("{error:?}"), |()| "the instance ended".to_owned());
        self.observed.traps.lock().unwrap().push(trap);
    }
}

/// The host's data for one instance.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) network: Network,
    table: ResourceTable,
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

/// Limits the memory of an instance.
impl ResourceLimiter for Network {
    fn memory_growing(&mut self, _: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.observed.memory.fetch_max(wanted, Ordering::Relaxed);
        Ok(wanted <= self.observed.limits().memory)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// The network: the emulator responds to every call. It enforces no timeout.
pub(crate) struct Network {
    pub(crate) application: Option<Arc<Application>>,
    emulator: Emulator,
    pub(crate) observed: Arc<Observed>,
}

impl WasiHttpHooks for Network {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_SIZE
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_SIZE
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        self.observed.timeouts.lock().unwrap().push(options);
        let open = Arc::clone(&self.observed.open_calls);
        let emulator = self.emulator.clone();
        let unresponsive = self.observed.unresponsive.load(Ordering::Relaxed);
        let allowed = self.application.as_ref().is_none_or(|application| application.allows(request.uri()));
        let (head, body) = request.into_parts();
        let (record, recorded) = (RecordedBody::default(), Arc::default());
        let sent = OutgoingCall { head: head.clone(), body: record.clone(), response: Arc::clone(&recorded) };
        let request = http::Request::from_parts(head, body.map_frame(move |frame| record.add(frame)));
        self.observed.calls.lock().unwrap().push(sent);
        Box::new(async move {
            if !allowed {
                return Err(Error::HttpRequestDenied);
            }
            if unresponsive {
                std::future::pending::<()>().await;
            }
            let response = emulator.answer(request).await.map_err(|Cut| Error::ConnectionTerminated)?;
            let (head, body) = response.into_parts();
            let record = RecordedBody::default();
            let _ = recorded.set((head.clone(), record.clone()));
            let body = {
                let cut = move |Cut| {
                    // The call is open as long as its body exists.
                    let _ = &open;
                    Error::ConnectionTerminated
                };
                body.map_frame(move |frame| record.add(frame)).map_err(cut).boxed_unsync()
            };
            let io: Io = Box::new(async { Ok(()) });
            Ok((http::Response::from_parts(head, body), io))
        })
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Tokio's clock. If it is paused, it advances only when all tasks wait.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
    unix_time: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self { start: tokio::time::Instant::now(), unix_time }
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos().try_into().unwrap()
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.unix_time + self.start.elapsed()
    }
}

/// A component, compiled once for all tests.
struct Compiled {
    engine: &'static Engine,
    proxy: ProxyPre<Guest>,
}

fn component(world: World) -> &'static Compiled {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    static COMPILED: [OnceLock<Compiled>; 6] = [const { OnceLock::new() }; 6];
    // Fuel counts instructions.
    let engine = ENGINE.get_or_init(|| Engine::new(Config::new().consume_fuel(true)).unwrap());
    let world = if world == World::Immediate { World::Service } else { world };
    COMPILED[world as usize].get_or_init(|| compile(engine, world).unwrap())
}

fn compile(engine: &'static Engine, world: World) -> wasmtime::Result<Compiled> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    p2::add_only_http_to_linker_async(&mut linker)?;
    // Spin 2 to 4.0 do not have WASI 0.3.
    if world != World::ProxyOnSpin {
        p3::add_to_linker(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    }
    if world == World::ProxyOnSpin {
        let mut variables = linker.instance("fermyon:spin/variables@2.0.0")?;
        variables.func_wrap("get", |store, (name,): (String,)| Ok((variable(store.data(), name),)))?;
        key_value_store::add_to_linker(&mut linker)?;
    }
    if matches!(world, World::ServiceOnSpin | World::FederatedOnSpin) {
        let mut variables = linker.instance("spin:variables/variables@3.0.0")?;
        variables.func_wrap_concurrent("get", |accessor, (name,): (String,)| {
            Box::pin(async move { Ok((accessor.with(|mut access| variable(access.get(), name)),)) })
        })?;
        key_value_store::add_async_to_linker(&mut linker)?;
    }
    let file = dev_host::component(world.component()).unwrap();
    let instance = linker.instantiate_pre(&Component::from_file(engine, file)?)?;
    // Spin accepts components that export exactly one handler.
    let exports = instance.component().component_type();
    let handlers = exports.exports(engine).filter(|export| export.0.contains("handler@"));
    assert_eq!(handlers.count(), 1, "{world:?}");
    let proxy = match world {
        World::Proxy | World::ProxyOnSpin => ProxyPre::P2(p2::bindings::ProxyPre::new(instance)?),
        World::Service | World::Immediate | World::ServiceOnSpin | World::FederatedOnSpin => {
            ProxyPre::P3(p3::bindings::ServicePre::new(instance)?)
        }
    };
    Ok(Compiled { engine, proxy })
}

fn variable(guest: &Guest, name: String) -> Result<String, VariableError> {
    let application = guest.network.application.as_ref();
    let value = application.and_then(|application| application.variable(&name)).map(str::to_owned);
    value.ok_or(VariableError::Undefined(name))
}

/// The errors of Spin's variables.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "this host returns only one error")]
enum VariableError {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

/// The bytes of a body that the host takes at once: fewer than the longest responses have.
const CHUNK_SIZE: usize = 4096;

/// What an instance may have.
struct Limits {
    handles: usize,
    /// In bytes.
    memory: usize,
    /// An endless loop traps instead of blocking the test.
    instructions: u64,
}

/// More than all requests of a test need at a time, and below what they need together, so that a leak fails
/// the test.
const USUAL: Limits = Limits { handles: 500, memory: 32 << 20, instructions: 1 << 34 };

/// For many requests for many secrets at a time: the memory that the documents recommend.
const CROWDED: Limits = Limits { handles: 5000, memory: 64 << 20, instructions: 1 << 36 };

impl Observed {
    fn limits(&self) -> Limits {
        if self.crowded.load(Ordering::Relaxed) { CROWDED } else { USUAL }
    }
}

/// The recorded bytes of a body. Longer bodies repeat themselves.
const MAX_RECORD: usize = 32 * 1024;
