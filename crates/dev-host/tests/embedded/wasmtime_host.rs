//! Wasmtime, with the emulator for its network and Tokio's clock for its time.

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
use wasmtime::component::{Component, ComponentType, Linker, Lower, ResourceTable};
use wasmtime::{Config, Engine, ResourceLimiter, Store, StoreContextMut};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, p2, p3,
};

use crate::manifest::Application;
use crate::stores::{self, Stores};

/// What the gateway is built as. Every test runs with both.
pub(crate) const BOTH: [World; 2] = [World::Proxy, World::Service];

/// The builds for Spin, on a host that offers what Spin does.
pub(crate) const SPIN: [World; 2] = [World::ProxyOnSpin, World::ServiceOnSpin];

/// A component, and the world that it is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// WASI 0.2: an instance answers one request at a time.
    Proxy,
    /// WASI 0.3: an instance answers many.
    Service,
    /// WASI 0.2 on Spin 2 to 4: an instance answers one request.
    ProxyOnSpin,
    /// WASI 0.3 on Spin 4.1: an instance answers many.
    ServiceOnSpin,
}

impl World {
    /// Whether the host is Spin.
    pub(crate) const fn is_spin(self) -> bool {
        matches!(self, Self::ProxyOnSpin | Self::ServiceOnSpin)
    }

    const fn component(self) -> &'static str {
        ["proxy", "service", "proxy-spin", "service-spin"][self as usize]
    }
}

/// What the host has seen, other than requests and answers.
#[derive(Default)]
pub(crate) struct Seen {
    /// Instances of the component so far.
    pub(crate) instances: AtomicUsize,
    /// One more for each call whose answer the component has neither read to its end nor given up.
    pub(crate) open_calls: Arc<()>,
    /// What an instance had open when its last request began.
    pub(crate) resources: AtomicUsize,
    /// The instructions that the instance had left when its last request began.
    pub(crate) instructions: AtomicU64,
    /// The bytes of the largest memory of an instance.
    pub(crate) memory: AtomicUsize,
    /// The timeouts that came with each call.
    pub(crate) timeouts: Mutex<Vec<Option<RequestOptions>>>,
    /// Whether a call stays unheard: its body is not taken, and it is not answered.
    pub(crate) deaf: AtomicBool,
    /// The calls that have not been searched yet.
    pub(crate) sent: Mutex<Vec<Sent>>,
    /// What the stores of the application have.
    pub(crate) stores: Stores,
    /// How instances died, which none may.
    pub(crate) deaths: Mutex<Vec<String>>,
}

/// A call as it went out, and what came of it.
pub(crate) struct Sent {
    pub(crate) head: Parts,
    pub(crate) body: Record,
    /// The status line's number, the header fields and the body.
    pub(crate) answer: Arc<OnceLock<(http::response::Parts, Record)>>,
}

impl Sent {
    /// Whether nothing can come of it any more.
    pub(crate) fn is_over(&self) -> bool {
        let read = self.answer.get().is_none_or(|it| it.1.is_over());
        self.body.is_over() && read && Arc::strong_count(&self.answer) == 1
    }
}

/// What has been seen of a body so far, up to [`LONGEST_RECORD`].
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<u8>>>);

impl Record {
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(crate) fn see(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let mut seen = self.0.lock().unwrap();
        if let Some(data) = frame.data_ref()
            && seen.len() < LONGEST_RECORD
        {
            seen.extend_from_slice(data);
        }
        drop(seen);
        frame
    }
}

/// Makes instances of one component, and keeps each as long as there are requests.
pub(crate) struct Host {
    pub(crate) world: World,
    pub(crate) environment: Vec<(String, String)>,
    /// What Spin's manifest allows, if this is Spin.
    pub(crate) application: Option<Arc<Application>>,
    pub(crate) emulator: Emulator,
    pub(crate) stdout: MemoryOutputPipe,
    pub(crate) stderr: MemoryOutputPipe,
    pub(crate) seen: Arc<Seen>,
    /// The wall clock of all instances.
    pub(crate) calendar: Clock,
}

impl HandlerState for Host {
    type StoreData = Guest;
    type WorkerExpiration = Lasting;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Guest, Lasting, Worker>> {
        // The first to ask waits for the compiler, which must not count as the instance's time.
        let component = component(self.world);
        self.seen.instances.fetch_add(1, Ordering::Relaxed);
        let guest = Guest {
            wasi: WasiCtxBuilder::new()
                .envs(&self.environment)
                .stdout(self.stdout.clone())
                .stderr(self.stderr.clone())
                .monotonic_clock(Clock::start())
                .wall_clock(self.calendar)
                .build(),
            http: WasiHttpCtx::new(),
            network: Network {
                application: self.application.clone(),
                emulator: self.emulator.clone(),
                seen: Arc::clone(&self.seen),
            },
            table: ResourceTable::new(),
            limits: Limits(Arc::clone(&self.seen)),
        };
        let mut store = Store::new(component.engine, guest);
        store.limiter(|it| &mut it.limits);
        store.set_max_component_handles(MOST_HANDLES);
        store.set_fuel(MOST_INSTRUCTIONS)?;
        let proxy = component.proxy.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: WasiHttpView::http,
            expiration: Lasting,
            state: Worker { world: self.world, seen: Arc::clone(&self.seen) },
        })
    }
}

/// An instance may end only with the test, or on Spin with its one request.
pub(crate) struct Lasting;

impl WorkerExpiration for Lasting {
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>, _: WorkerStatus, _: std::time::Instant) -> Poll<()> {
        Poll::Pending
    }
}

/// An instance at work.
pub(crate) struct Worker {
    world: World,
    seen: Arc<Seen>,
}

impl WorkerState for Worker {
    type StoreData = Guest;
    type RequestData = ();

    fn should_accept_request(&self, at_work: usize, so_far: usize) -> ShouldAccept {
        match (self.world, at_work, so_far) {
            (World::ProxyOnSpin, _, 1..) => ShouldAccept::Never,
            (World::Proxy, 1.., _) => ShouldAccept::No,
            _ => ShouldAccept::Yes,
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, Guest>,
        (): (),
        _: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let resources = store.data_mut().table.iter_mut().count();
        self.seen.resources.store(resources, Ordering::Relaxed);
        self.seen.instructions.store(store.get_fuel().unwrap_or_default(), Ordering::Relaxed);
        // The component has a deadline of its own, and no help with it.
        Box::pin(std::future::pending())
    }

    fn drop(&self, _: Store<Guest>, result: wasmtime::Result<()>) {
        // On Spin they end when they have done their share.
        if self.world.is_spin() && result.is_ok() {
            return;
        }
        let death = result.map_or_else(|it| format!("{it:?}"), |()| "it ended by itself".to_owned());
        self.seen.deaths.lock().unwrap().push(death);
    }
}

/// What the host keeps for an instance.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    network: Network,
    table: ResourceTable,
    limits: Limits,
}

impl Guest {
    pub(crate) fn stores(&self) -> &Stores {
        &self.network.seen.stores
    }

    pub(crate) fn application(&self) -> Option<&Application> {
        self.network.application.as_deref()
    }
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

/// How much an instance may have.
struct Limits(Arc<Seen>);

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, _: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.0.memory.fetch_max(wanted, Ordering::Relaxed);
        Ok(wanted <= MOST_MEMORY)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// The network: the emulator answers every call. It keeps no timeout.
struct Network {
    application: Option<Arc<Application>>,
    emulator: Emulator,
    seen: Arc<Seen>,
}

impl WasiHttpHooks for Network {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MOST_AT_ONCE
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        MOST_AT_ONCE
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        self.seen.timeouts.lock().unwrap().push(options);
        let open = Arc::clone(&self.seen.open_calls);
        let emulator = self.emulator.clone();
        let deaf = self.seen.deaf.load(Ordering::Relaxed);
        let allowed = self.application.as_ref().is_none_or(|it| it.allows(request.uri()));
        let (head, body) = request.into_parts();
        let sent = Sent { head: head.clone(), body: Record::default(), answer: Arc::default() };
        let (record, answered) = (sent.body.clone(), Arc::clone(&sent.answer));
        let request = http::Request::from_parts(head, body.map_frame(move |it| record.see(it)));
        self.seen.sent.lock().unwrap().push(sent);
        Box::new(async move {
            if !allowed {
                return Err(Error::HttpRequestDenied);
            }
            if deaf {
                std::future::pending::<()>().await;
            }
            let response = emulator.answer(request).await.map_err(|Cut| Error::ConnectionTerminated)?;
            let (head, body) = response.into_parts();
            let record = Record::default();
            let _ = answered.set((head.clone(), record.clone()));
            let body = {
                let cut = move |Cut| {
                    // The call is open for as long as its body is there.
                    let _ = &open;
                    Error::ConnectionTerminated
                };
                body.map_frame(move |it| record.see(it)).map_err(cut).boxed_unsync()
            };
            let io: Io = Box::new(async { Ok(()) });
            Ok((http::Response::from_parts(head, body), io))
        })
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Tokio's clock, which a test may have stopped: it then goes on only when all tasks wait.
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
    static COMPILED: [OnceLock<Compiled>; 4] = [const { OnceLock::new() }; 4];
    // Instructions are counted, as Wasmtime's fuel.
    let engine = ENGINE.get_or_init(|| Engine::new(Config::new().consume_fuel(true)).unwrap());
    COMPILED[world as usize].get_or_init(|| compile(engine, world).unwrap())
}

fn compile(engine: &'static Engine, world: World) -> wasmtime::Result<Compiled> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    p2::add_only_http_to_linker_async(&mut linker)?;
    // Spin 2 to 4.0 know nothing of WASI 0.3.
    if world != World::ProxyOnSpin {
        p3::add_to_linker(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    }
    if world.is_spin() {
        let mut variables = linker.instance("fermyon:spin/variables@2.0.0")?;
        variables.func_wrap("get", |store, (name,): (String,)| {
            let guest: &Guest = store.data();
            let application = guest.network.application.as_ref();
            let value = application.and_then(|it| it.variable(&name)).map(str::to_owned);
            Ok((value.ok_or(VariableError::Undefined(name)),))
        })?;
        stores::add_to_linker(&mut linker)?;
    }
    let file = dev_host::component(world.component()).unwrap();
    let instance = linker.instantiate_pre(&Component::from_file(engine, file)?)?;
    // Spin takes a component that exports one handler.
    let exports = instance.component().component_type();
    let handlers = exports.exports(engine).filter(|it| it.0.contains("handler@"));
    assert_eq!(handlers.count(), 1, "{world:?}");
    let proxy = match world {
        World::Proxy | World::ProxyOnSpin => ProxyPre::P2(p2::bindings::ProxyPre::new(instance)?),
        World::Service | World::ServiceOnSpin => ProxyPre::P3(p3::bindings::ServicePre::new(instance)?),
    };
    Ok(Compiled { engine, proxy })
}

/// Why Spin has no value for a variable.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "this host has one reason")]
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

/// Bytes that the host takes of a body at once: so few that the longest answers are not taken whole.
const MOST_AT_ONCE: usize = 4096;

/// Handles of resources in an instance at any time: far more than a request needs, and far fewer than the requests of a test,
/// so that what is left behind shows.
const MOST_HANDLES: usize = 500;

/// Bytes of an instance's memory, for the same reason.
const MOST_MEMORY: usize = 32 * 1024 * 1024;

/// Instructions of an instance in its life: some sixty times what the longest test takes, so that one that runs in a circle
/// dies of it, and does not hold up the test for ever.
const MOST_INSTRUCTIONS: u64 = 1 << 34;

/// Bytes of a body that are kept to be searched: what is longer repeats itself.
const LONGEST_RECORD: usize = 32 * 1024;
