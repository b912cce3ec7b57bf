//! A component and the emulated Key Vault it reads from.

use dev_host::{Launch, Server};
use keyvault_emulator::{Emulator, Served, Source};
use std::io;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Both, running. Dropping it stops the component first.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    _served: Served,
    pub(crate) runtime: Runtime,
    /// Done when this program is asked to stop.
    pub(crate) stop: JoinHandle<()>,
}

impl Rig {
    /// Starts the emulator, and the component with the settings of the replaced function.
    pub(crate) fn start(emulator: Emulator, launch: Launch) -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|problem| format!("no runtime for the emulator: {problem}"))?;
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|problem| format!("the emulator cannot listen: {problem}"))?;
        // Before there is a child, so that both can be ended in order.
        let stop = runtime.block_on(async { stop().map(tokio::spawn) });
        let stop = stop.map_err(|problem| format!("cannot listen for signals: {problem}"))?;
        // Tokens of callers are Entra's, which is the emulator as well.
        let launch = launch
            .environment(served.settings(Source::AppService2017))
            .environment([("AZURE_AUTHORITY_HOST", served.http_base())]);
        let server = launch.start()?;
        Ok(Self { server, emulator, _served: served, runtime, stop })
    }
}

/// Listens for ctrl-c and for a termination, from now on, and is done with the first.
#[cfg(unix)]
fn stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop() -> io::Result<impl Future<Output = ()>> {
    // Where it cannot be waited for there is no other way to be stopped either.
    Ok(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
}

/// This program and a component: what every child is started from.
pub(crate) fn launch(component: PathBuf) -> Result<Launch, String> {
    Ok(Launch::new(this_program()?, component))
}

/// The component as machine code, by this program.
pub(crate) fn compile(options: &[&str], component: &Path, directory: &Path) -> Result<PathBuf, String> {
    dev_host::compile(this_program()?, options, component, directory)
}

fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|problem| format!("cannot find this program: {problem}"))
}

/// How a component is started where it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shipped {
    /// Options of `wasmtime serve`.
    pub(crate) options: &'static [&'static str],
    /// The requests that may be in progress at the same time: what is beyond waits in the host.
    pub(crate) places: usize,
    /// The instances that these need at most.
    pub(crate) instances: usize,
}

impl Shipped {
    /// That of a component, by the name of its file.
    pub(crate) fn of(component: &Path) -> Result<Self, String> {
        let name = component.file_stem().unwrap_or_default().to_string_lossy();
        if name.starts_with("proxy") {
            Ok(Self::PROXY)
        } else if name.starts_with("service") {
            Ok(Self::SERVICE)
        } else {
            Err(format!(
                "{}: the name must start with `proxy` or `service`, which the host's options depend on",
                component.display()
            ))
        }
    }

    /// An instance of it is three core instances, and Wasmtime's pooling allocator has 1,000 of those: beyond 333 requests in
    /// progress the host answered every one with 500.
    const PROXY: Self = Self { options: &PROXY, places: 300, instances: 300 };

    const SERVICE: Self = Self { options: &SERVICE, places: 64, instances: 1 };
}

/// The options of `deploy/` for the component of WASI 0.2.
#[rustfmt::skip]
const PROXY: [&str; 10] = [
    "--max-instance-reuse-count", "100000", "--idle-instance-timeout", "3600s", "--max-concurrent-requests", "300",
    "-W", "max-memory-size=67108864", "-W", "timeout=30s",
];

/// The same for the one of WASI 0.3.
#[rustfmt::skip]
const SERVICE: [&str; 12] = [
    "--max-instance-reuse-count", "1000000", "--max-instance-concurrent-reuse-count", "128",
    "--idle-instance-timeout", "3600s", "--max-concurrent-requests", "64",
    "-W", "max-memory-size=67108864", "-W", "timeout=30s",
];

/// Code that a host runs with `-W timeout` has to be compiled with this.
pub(crate) const INTERRUPTIBLE: [&str; 2] = ["-W", "epoch-interruption=y"];

/// The path of the replaced function.
pub(crate) const PATH: &str = "/api/GetKeyVaultSecret";

/// The secret that its own test request names.
pub(crate) const SECRET: &str = "Integration-Team-Blog";

/// Instances that live on, as README.md recommends.
#[rustfmt::skip]
pub(crate) const LIVING_ON: [&str; 6] = [
    "--max-instance-reuse-count", "100000", "--max-instance-concurrent-reuse-count", "128",
    "--idle-instance-timeout", "3600s",
];
