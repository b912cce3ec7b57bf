//! A thread with an instance of its own: its connections, and the supervisor that replaces the instance.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep};

use crate::connection::Accepted;
use crate::instance::Job;
use crate::outbound::{Egress, Network};
use crate::settings::Settings;
use crate::shared::Shared;

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

/// Keeps an instance at work. One that traps is replaced; one that is worn or has old settings is replaced,
/// too, and answers the requests that it has. The pause before the next one grows while instances do not live
/// long.
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
        queue.send_replace(Some(sender));
        let log = shared.log.clone();
        // The loop does hundreds of operations of Tokio for each poll, more than its budget of 128.
        let mut run = tokio::spawn(async move {
            // The first line: what follows are the functions of the component.
            if let Err(trap) = unconstrained(run).await {
                log.error(&format!("an instance has ended after a trap: {:#}", trap.root_cause()));
            }
        });
        let reason = tokio::select! {
            _ = &mut run => {
                queue.send_replace(None);
                "it has ended"
            }
            Ok(reason) = is_worn => reason,
            Ok(()) = settings.changed() => "the settings were read again",
        };
        // An instance that is worn serves on until there is the next one.
        pause = next_pause(pause, start.elapsed());
        sleep(pause).await;
        shared.log.info(&format!("replaced the instance: {reason}"));
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
    shared.program.instantiate(settings, network, log, &shared.limits, jobs, worn).await
}

/// How long to wait before the next instance: twice as long as last time, if the last one has not lived long.
fn next_pause(last: Duration, lived: Duration) -> Duration {
    if lived < MAX_PAUSE { last.saturating_mul(2).clamp(MIN_PAUSE, MAX_PAUSE) } else { Duration::ZERO }
}

const MIN_PAUSE: Duration = Duration::from_millis(10);

const MAX_PAUSE: Duration = Duration::from_secs(10);

#[test]
fn the_pause_grows_while_instances_end_soon() {
    let mut pause = Duration::ZERO;
    let pauses = [1, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 10, 1].map(|lived| {
        pause = next_pause(pause, Duration::from_secs(lived));
        pause.as_millis()
    });
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000, 10_000, 0, 10]);
}
