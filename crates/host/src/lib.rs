//! The gateway's own host: one process that runs the component on Wasmtime, with one memory for all requests.
//! It is for Linux and macOS.
//!
//! The modules, in the order of a request: [`listen`] accepts a connection and gives it to a thread
//! ([`worker`]), [`connection`] reads requests, [`instance`] runs the component, and [`outbound`] makes its
//! calls.

mod code;
mod connection;
mod instance;
mod listen;
mod log;
mod options;
mod outbound;
mod settings;
mod shared;
mod tls;
mod worker;

pub use options::{Limits, Options};

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use sd_notify::NotifyState;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{interval, timeout};
use wasmtime::Engine;

use connection::{Addresses, MAX_UNSENT};
use instance::{Program, TICK};
use listen::Acceptor;
use log::Log;
use settings::Settings;
use shared::Shared;

impl Options {
    /// Runs the host until a signal ends it.
    pub fn run(self) -> ExitCode {
        #[cfg(feature = "compile")]
        if let (Some(file), Some(to)) = (&self.component, &self.compile_to) {
            return finish(code::compile_to(file, to), FAILURE);
        }
        // The certificates of the machine take as long to read as the component to link.
        let component = self.component.clone();
        let program = (!self.check).then(|| thread::spawn(move || program(component.as_deref())));
        let checked = match Checked::new(&self) {
            Ok(checked) => checked,
            Err(error) => return finish(Err(error), WRONG_SETTING),
        };
        let Some(program) = program else {
            println!("{}", checked.settings.description);
            return ExitCode::SUCCESS;
        };
        // Each connection is an open file.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(self.serve(checked, program)),
            Err(error) => Err(error.to_string()),
        };
        finish(result, FAILURE)
    }

    async fn serve(
        self,
        checked: Checked,
        program: JoinHandle<Result<(Engine, Program), String>>,
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        // Each signal: whether it asks for new settings, and not for the end.
        let (sender, mut signals) = mpsc::unbounded_channel();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signal, sender) = (unix::signal(kind).map_err(failed)?, sender.clone());
            let is_reload = kind == SignalKind::hangup();
            tokio::spawn(
                async move { while signal.recv().await.is_some() && sender.send(is_reload).is_ok() {} },
            );
        }
        let listeners = listen::listen(&self.listen)?;
        let log = Log::start().map_err(failed)?;
        let (engine, program) = program.join().map_err(|_| "the component cannot be loaded")??;

        let (settings, current_settings) = watch::channel(Arc::new(checked.settings));
        let (tls, current_tls) = watch::channel(checked.server);
        let (stop, is_stopping) = watch::channel(false);
        let limits = self.limits.clone();
        let shared = Arc::new(Shared {
            program,
            limits: limits.clone(),
            log: log.clone(),
            tls: checked.client,
            proxy: checked.proxy,
            settings: current_settings,
            server: current_tls,
            is_stopping: is_stopping.clone(),
            requests: Arc::new(Semaphore::new(limits.max_requests.get())),
            room: Arc::new(Semaphore::new(MAX_UNSENT)),
        });
        tokio::spawn(async move {
            let mut ticks = interval(TICK);
            loop {
                ticks.tick().await;
                engine.increment_epoch();
            }
        });

        let (mut threads, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..self.threads.get() {
            let (sender, accepted) = mpsc::unbounded_channel();
            let ((ready, is_ready), (end, is_over)) = (oneshot::channel(), oneshot::channel());
            worker::start(Arc::clone(&shared), accepted, ready, end).map_err(failed)?;
            is_ready.await.map_err(|_| "a thread has ended")??;
            threads.push(sender);
            ends.push(is_over);
        }
        log.plain(concat!("keyvault-gateway ", env!("CARGO_PKG_VERSION")));
        log.plain(&settings.borrow().description);
        let acceptor = Acceptor {
            connections: Arc::new(Semaphore::new(limits.max_connections.get())),
            addresses: Addresses::default(),
            max_of_address: limits.max_connections_per_address,
            threads,
            is_stopping,
            log: log.clone(),
        };
        for listener in listeners {
            log.plain(&format!("Serving HTTP on {}", listener.url(self.tls_cert.is_some()).map_err(failed)?));
            tokio::spawn(listener.run(acceptor.clone()));
        }
        drop(acceptor);
        // Systemd learns it if it has started this process and waits for that (sd_notify(3)).
        let _ = sd_notify::notify(&[NotifyState::Ready]);

        while signals.recv().await == Some(true) {
            match Checked::new(&self) {
                Ok(checked) => {
                    tls.send_replace(checked.server);
                    settings.send_replace(Arc::new(checked.settings));
                }
                Err(error) => log.error(&format!("kept the old settings and certificate: {error}")),
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let grace = limits.grace_seconds;
        let grace = grace.unwrap_or_else(|| settings.borrow().deadline.saturating_add(GRACE_AFTER_DEADLINE));
        log.info(&format!("stopping; requests in progress have {} s", grace.as_secs()));
        stop.send_replace(true);
        let drained = timeout(grace, async {
            for end in ends {
                let _ = end.await;
            }
        });
        tokio::select! {
            drained = drained => match drained {
                Ok(()) => log.info("stopped"),
                Err(_) => log.error("stopped; connections with requests in progress were cut"),
            },
            // The second signal.
            _ = signals.recv() => log.error("stopped by a second signal; requests in progress were cut"),
        }
        log.flush();
        Ok(())
    }
}

/// Loads the component in `file`, or the embedded one, and links it.
fn program(file: Option<&Path>) -> Result<(Engine, Program), String> {
    let engine = Engine::new(&code::config()).map_err(|error| format!("{error:#}"))?;
    let component = code::component(&engine, file)?;
    let program = Program::new(engine.clone(), &component);
    let program =
        program.map_err(|error| format!("the component needs what this host has not: {error:#}"))?;
    Ok((engine, program))
}

/// What the options and the environment say, read and checked.
struct Checked {
    settings: Settings,
    server: Option<Arc<ServerConfig>>,
    client: rustls::ClientConfig,
    proxy: Option<Arc<hyper_util::client::proxy::matcher::Matcher>>,
}

impl Checked {
    fn new(options: &Options) -> Result<Self, String> {
        let server = match (&options.tls_cert, &options.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::server(certificate, key)?),
            _ => None,
        };
        let client = tls::client(&options.ca_file)?;
        let proxy = outbound::proxy(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))?;
        Ok(Self { settings: Settings::load(options.token_directory.as_deref())?, server, client, proxy })
    }
}

fn finish(result: Result<(), String>, code: u8) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(code)
        }
    }
}

const FAILURE: u8 = 1;

/// The code of clap for a wrong option, too.
const WRONG_SETTING: u8 = 2;

/// A request that waits for Azure until its deadline has this long to be sent.
const GRACE_AFTER_DEADLINE: Duration = Duration::from_secs(5);
