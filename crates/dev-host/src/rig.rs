//! A component and the emulated Key Vault it reads from.

use dev_host::{Launch, Server};
use keyvault_emulator::{Emulator, Served, Source};
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// Both, running. Dropping it stops the component first.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    _served: Served,
    pub(crate) runtime: Runtime,
}

impl Rig {
    /// Starts the emulator, and the component with the settings of the replaced function.
    pub(crate) fn start(emulator: Emulator, launch: Launch) -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|problem| format!("no runtime for the emulator: {problem}"))?;
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|problem| format!("the emulator cannot listen: {problem}"))?;
        let launch = launch.environment(served.settings(Source::AppService2017));
        let server = launch.start().map_err(|problem| problem.to_string())?;
        Ok(Self { server, emulator, _served: served, runtime })
    }
}

/// This program and a component: what every child is started from.
pub(crate) fn launch(component: PathBuf) -> Result<Launch, String> {
    let program =
        std::env::current_exe().map_err(|problem| format!("cannot find this program: {problem}"))?;
    Ok(Launch::new(program, component))
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
