//! A thread with an instance of its own: its connections, and the supervisor that replaces the instance.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep};

use crate::connection::Accepted;
use crate::instance::{Job, Program};
use crate::log::Log;
use crate::options::Limits;
use crate::outbound::{Egress, Network};
use crate::settings::Settings;

/// What the threads have in common.
pub struct Shared {
    pub program: Program,
    pub limits: Limits,
    pub log: Log,
    pub tls: ClientConfig,
    pub proxy: Option<Arc<Matcher>>,
    /// The settings; a change replaces every instance.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// The certificate that clients see.
    pub server: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Becomes true when no connection should take another request.
    pub is_stopping: watch::Receiver<bool>,
    /// The requests that may be in progress.
    pub requests: Arc<Semaphore>,
}

/// The queue to the instance of a thread that takes new requests, if there is one at the moment.
pub type Queue = watch::Receiver<Option<mpsc::UnboundedSender<Job>>>;

/// Starts a thread, which serves the connections of the channel until that is closed and all have ended.
/// `ready` learns whether there is an instance, and `end` when the thread is done.
pub fn start(
    shared: Arc<Shared>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    ready: oneshot::Sender<Result<(), String>>,
    end: oneshot::Sender<()>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("gateway".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (queue, current_queue) = watch::channel(None);
            tokio::spawn(supervise(Arc::clone(&shared), queue, ready));
            let (alive, mut ended) = mpsc::channel::<()>(1);
            while let Some(connection) = accepted.recv().await {
                let (shared, queue, alive) = (Arc::clone(&shared), current_queue.clone(), alive.clone());
                tokio::spawn(async move {
                    connection.serve(&shared, &queue).await;
                    drop(alive);
                });
            }
            drop(alive);
            let _ = ended.recv().await;
        });
        // Work that the component does for no client ends here.
        runtime.shutdown_background();
        let _ = end.send(());
    })?;
    Ok(())
}

/// Keeps an instance at work. One that traps is replaced, with a growing pause if that happens soon again;
/// one that is worn or has old settings is replaced, too, and answers the requests that it has.
async fn supervise(
    shared: Arc<Shared>,
    queue: watch::Sender<Option<mpsc::UnboundedSender<Job>>>,
    ready: oneshot::Sender<Result<(), String>>,
) {
    let mut settings = shared.settings.clone();
    let (mut ready, mut pause) = (Some(ready), Duration::ZERO);
    loop {
        let start = Instant::now();
        let current = Arc::clone(&settings.borrow_and_update());
        let (sender, jobs) = mpsc::unbounded_channel();
        let (worn, is_worn) = oneshot::channel();
        let run = match (instantiate(&shared, &current, jobs, worn).await, ready.take()) {
            (Ok(run), ready) => {
                let _ = ready.map(|ready| ready.send(Ok(())));
                run
            }
            (Err(error), Some(ready)) => {
                let _ = ready.send(Err(format!("the component cannot be started: {error:#}")));
                return;
            }
            (Err(error), None) => {
                shared.log.error(&format!("the component cannot be started: {error:#}"));
                pause = next_pause(pause, start.elapsed());
                sleep(pause).await;
                continue;
            }
        };
        // The loop does hundreds of operations of Tokio for each poll, more than its budget of 128.
        let mut run = tokio::spawn(unconstrained(run));
        queue.send_replace(Some(sender));
        tokio::select! {
            result = &mut run => {
                queue.send_replace(None);
                let trap = match result {
                    Ok(Ok(())) => "it ended".to_owned(),
                    // The first line: what follows are the functions of the component.
                    Ok(Err(trap)) => format!("{:#}", trap.root_cause()),
                    Err(panic) => panic.to_string(),
                };
                shared.log.error(&format!("replaced the instance after a trap: {trap}"));
                pause = next_pause(pause, start.elapsed());
                sleep(pause).await;
            }
            Ok(reason) = is_worn => shared.log.info(&format!("replaced the instance: {reason}")),
            Ok(()) = settings.changed() => shared.log.info("replaced the instance: the settings were read again"),
        }
    }
}

async fn instantiate(
    shared: &Shared,
    settings: &Settings,
    jobs: mpsc::UnboundedReceiver<Job>,
    worn: oneshot::Sender<&'static str>,
) -> wasmtime::Result<impl Future<Output = wasmtime::Result<()>> + Send + use<>> {
    let egress = Egress { destinations: settings.destinations.clone(), refused: AtomicU64::new(0) };
    let log = shared.log.clone();
    let network = Network::new(shared.tls.clone(), shared.proxy.clone(), Arc::new(egress), log.clone());
    shared.program.instantiate(&settings.variables, network, log, &shared.limits, jobs, worn).await
}

/// How long to wait after an instance that has trapped: twice as long as last time, if it has not lived long.
fn next_pause(last: Duration, lived: Duration) -> Duration {
    if lived < MAX_PAUSE { last.saturating_mul(2).clamp(MIN_PAUSE, MAX_PAUSE) } else { Duration::ZERO }
}

const MIN_PAUSE: Duration = Duration::from_millis(10);

const MAX_PAUSE: Duration = Duration::from_secs(10);

#[test]
fn the_pause_grows_while_instances_trap_soon() {
    let mut pause = Duration::ZERO;
    let pauses = [1, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 10, 1].map(|lived| {
        pause = next_pause(pause, Duration::from_secs(lived));
        pause.as_millis()
    });
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000, 10_000, 0, 10]);
}
