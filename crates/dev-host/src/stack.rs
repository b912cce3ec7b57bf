//! A component and the emulated Key Vault that it reads from.

use dev_host::{Host, Launch, Server};
use keyvault_emulator::{Emulator, Served, Source};
use std::io;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// A running component and its emulator. Dropping it stops the component first.
pub(crate) struct Stack {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    _served: Served,
    pub(crate) runtime: Runtime,
    /// Completes when this program receives ctrl-c or SIGTERM.
    pub(crate) stop: JoinHandle<()>,
}

impl Stack {
    /// Starts the emulator, and the component with the settings of the replaced function.
    pub(crate) fn start(emulator: Emulator, launch: Launch) -> Result<Self, String> {
        Self::start_with(emulator, |_| launch)
    }

    /// The same with a launch that depends on the emulator's address, such as `http://127.0.0.1:46455`.
    pub(crate) fn start_with(
        emulator: Emulator,
        launch: impl FnOnce(&str) -> Launch,
    ) -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|error| format!("cannot start a runtime: {error}"))?;
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|error| format!("the emulator cannot listen: {error}"))?;
        // Before the child starts, so that a signal ends both in order.
        let stop = runtime.block_on(async { stop().map(tokio::spawn) });
        let stop = stop.map_err(|error| format!("cannot listen for signals: {error}"))?;
        // The emulator also publishes the JWKS that verifies callers' access tokens.
        let launch = launch(&served.http_base())
            .environment(served.settings(Source::AppService2017))
            .environment([("AZURE_AUTHORITY_HOST", served.http_base())]);
        let server = launch.start()?;
        Ok(Self { server, emulator, _served: served, runtime, stop })
    }
}

/// Listens for ctrl-c and SIGTERM, and completes with the first of them.
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
    // If the program cannot wait for ctrl-c, no other signal can stop it.
    Ok(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
}

/// Builds the launch of a component under this program.
pub(crate) fn launch(component: PathBuf) -> Result<Launch, String> {
    Ok(Launch::new(this_program()?, component))
}

/// Compiles a component to machine code with this program.
pub(crate) fn compile(options: &[&str], component: &Path, directory: &Path) -> Result<PathBuf, String> {
    dev_host::compile(this_program()?, options, component, directory)
}

fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))
}

/// The host options and limits that a component is deployed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// The options of the host.
    pub(crate) options: &'static [&'static str],
    /// The maximum of concurrent requests.
    pub(crate) concurrent_requests: usize,
    /// Whether further requests get 503. Else they wait in the host.
    pub(crate) refuses: bool,
    /// The maximum of instances that these requests need.
    pub(crate) instances: usize,
}

impl Deployment {
    /// Returns the deployment of a component on a host, by the name of its file.
    pub(crate) fn of(component: &Path, host: Host) -> Result<Self, String> {
        let name = component.file_stem().unwrap_or_default().to_string_lossy();
        if host != Host::Wasmtime {
            Ok(Self::OWN_HOST)
        } else if name.starts_with("proxy-federated") {
            Ok(Self::PROXY_FEDERATED)
        } else if name.starts_with("proxy") {
            Ok(Self::PROXY)
        } else if name.starts_with("service") {
            Ok(Self::SERVICE)
        } else {
            Err(format!(
                "{}: the name must start with `proxy` or `service`: it selects the options of the host",
                component.display()
            ))
        }
    }

    /// One instance has three core instances, and Wasmtime's pooling allocator has 1,000 core instances: with
    /// more than 333 concurrent requests the host answered every request with 500.
    const PROXY: Self = Self { options: &PROXY, concurrent_requests: 300, refuses: false, instances: 300 };

    /// With the reader an instance has six core instances, so that there is room for 166.
    const PROXY_FEDERATED: Self =
        Self { options: &PROXY_FEDERATED, concurrent_requests: 150, refuses: false, instances: 150 };

    const SERVICE: Self = Self { options: &SERVICE, concurrent_requests: 64, refuses: false, instances: 1 };

    /// The defaults of the own host.
    const OWN_HOST: Self = Self { options: &[], concurrent_requests: 1000, refuses: true, instances: 1 };
}

/// The options that `deploy/` has for the component of WASI 0.2.
#[rustfmt::skip]
const PROXY: [&str; 10] = [
    "--max-instance-reuse-count", "100000", "--idle-instance-timeout", "3600s",
    "--max-concurrent-requests", "300", "-W", "max-memory-size=67108864", "-W", "timeout=30s",
];

/// The same, with the limit of `docs/reference/hostile-input.md` for the component with the reader of token files.
#[rustfmt::skip]
const PROXY_FEDERATED: [&str; 10] = [
    "--max-instance-reuse-count", "100000", "--idle-instance-timeout", "3600s",
    "--max-concurrent-requests", "150", "-W", "max-memory-size=67108864", "-W", "timeout=30s",
];

/// The options that `deploy/` has for the component of WASI 0.3.
#[rustfmt::skip]
const SERVICE: [&str; 12] = [
    "--max-instance-reuse-count", "1000000", "--max-instance-concurrent-reuse-count", "128",
    "--idle-instance-timeout", "3600s", "--max-concurrent-requests", "64",
    "-W", "max-memory-size=67108864", "-W", "timeout=30s",
];

/// The compile option that a host with `-W timeout` needs.
pub(crate) const EPOCH_INTERRUPTION: [&str; 2] = ["-W", "epoch-interruption=y"];

/// The path of the replaced function.
pub(crate) const PATH: &str = "/api/GetKeyVaultSecret";

/// The secret that the function's own test request names.
pub(crate) const SECRET: &str = "Integration-Team-Blog";

/// The options that README.md recommends for reusing instances.
#[rustfmt::skip]
pub(crate) const INSTANCE_REUSE: [&str; 6] = [
    "--max-instance-reuse-count", "100000", "--max-instance-concurrent-reuse-count", "128",
    "--idle-instance-timeout", "3600s",
];
