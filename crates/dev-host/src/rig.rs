//! A component and the emulated Key Vault it reads from.

use dev_host::{Launch, Server};
use keyvault_emulator::{Emulator, Served, Source};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Both, running. Dropping it stops the component first.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    _served: Served,
    pub(crate) runtime: Runtime,
    /// Done when this program is asked to stop. Whoever waits drops the rig then.
    pub(crate) stop: JoinHandle<()>,
}

impl Rig {
    /// Starts the emulator, and the component with the settings of the replaced function.
    pub(crate) fn start(emulator: Emulator, launch: Launch) -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|problem| format!("no runtime for the emulator: {problem}"))?;
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|problem| format!("the emulator cannot listen: {problem}"))?;
        // Before there is a child, so that whoever waits can end both in order.
        let stop = runtime.block_on(async { stop().map(tokio::spawn) });
        let stop = stop.map_err(|problem| format!("cannot listen for signals: {problem}"))?;
        // Tokens of callers are Entra's, which is the emulator as well.
        let launch = launch
            .environment(served.settings(Source::AppService2017))
            .environment([("AZURE_AUTHORITY_HOST", served.http_base())]);
        let server = launch.start().map_err(|problem| problem.to_string())?;
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
    let program =
        std::env::current_exe().map_err(|problem| format!("cannot find this program: {problem}"))?;
    Ok(Launch::new(program, component))
}

/// The component as machine code: whoever starts many hosts does not wait for each.
pub(crate) fn compile(component: &Path, directory: &Path) -> Result<PathBuf, String> {
    let compiled = directory.join(component.with_extension("cwasm").file_name().unwrap_or_default());
    let program =
        std::env::current_exe().map_err(|problem| format!("cannot find this program: {problem}"))?;
    let mut command = Command::new(program);
    let status = command.arg("compile").arg(component).arg("-o").arg(&compiled).status();
    match status {
        Ok(status) if status.success() => Ok(compiled),
        Ok(_) | Err(_) => Err(format!("{} cannot be compiled", component.display())),
    }
}

/// Letters and digits that nobody can guess.
pub(crate) fn random_text() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|problem| format!("no random numbers: {problem}"))?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}

/// The path of the replaced function.
pub(crate) const PATH: &str = "/api/GetKeyVaultSecret";

/// The secret that its own test request names.
pub(crate) const SECRET: &str = "Integration-Team-Blog";

/// Instances that live on, as README.md recommends.
pub(crate) const LIVING_ON: [&str; 6] = [
    "--max-instance-reuse-count",
    "100000",
    "--max-instance-concurrent-reuse-count",
    "128",
    "--idle-instance-timeout",
    "3600s",
];
