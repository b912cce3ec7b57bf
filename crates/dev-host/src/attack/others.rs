//! The others: clients with a right key, who want their secret while somebody attacks.

use super::VALUE;
use crate::client::{Answer, Target, within};
use crate::rig::SECRET;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How reads went.
#[derive(Default)]
pub(super) struct Reads {
    /// How long each good one took, in order of length.
    pub(super) times: Vec<Duration>,
    /// What was wrong with each that was not good.
    pub(super) failed: Vec<String>,
}

impl Reads {
    /// The time in which this part of the good reads had their answer, if there are any.
    pub(super) fn quantile(&self, part: f64) -> Option<Duration> {
        let last = self.times.len().saturating_sub(1);
        let index = (part * last as f64).ceil() as usize;
        self.times.get(index).copied()
    }

    fn add(&mut self, read: Result<Duration, String>) {
        match read {
            Ok(time) => self.times.push(time),
            Err(problem) => self.failed.push(problem),
        }
    }

    fn sorted(mut self) -> Self {
        self.times.sort_unstable();
        self
    }
}

/// This many reads, one after the other.
pub(super) async fn read(target: &Target, count: usize) -> Reads {
    let mut reads = Reads::default();
    for _ in 0..count {
        reads.add(one(target).await);
    }
    reads.sorted()
}

/// This many reads at the same time, whose clients give up after `limit`.
pub(super) async fn read_impatiently(target: &Target, count: usize, limit: Duration) -> Reads {
    let mut reads = Reads::default();
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let target = target.clone();
            let read = async move { within(limit, async { Ok(one(&target).await) }).await };
            tokio::spawn(async move { read.await.unwrap_or_else(|problem| Err(problem.to_string())) })
        })
        .collect();
    for client in clients {
        reads.add(client.await.unwrap_or_else(|problem| Err(problem.to_string())));
    }
    reads.sorted()
}

/// Reads for as long as `attack` lasts, and what both came to: reads that begin while it lasts, and one of each client in
/// any case.
pub(super) async fn read_during<T>(target: &Target, attack: impl Future<Output = T>) -> (T, Reads) {
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (target, over) = (target.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut reads = Vec::new();
                while reads.is_empty() || (!over.load(Ordering::Relaxed) && reads.len() < MOST_READS) {
                    reads.push(one(&target).await);
                    tokio::time::sleep(PAUSE).await;
                }
                reads
            })
        })
        .collect();
    let outcome = attack.await;
    over.store(true, Ordering::Relaxed);
    let mut reads = Reads::default();
    for client in clients {
        match client.await {
            Ok(done) => done.into_iter().for_each(|it| reads.add(it)),
            Err(problem) => reads.add(Err(problem.to_string())),
        }
    }
    (outcome, reads.sorted())
}

/// One read over a connection of its own: a new client has the hardest time of all.
async fn one(target: &Target) -> Result<Duration, String> {
    let start = Instant::now();
    let request = target.request(&target.key, "Connection: close\r\n");
    let read: io::Result<Answer> = target.ask(&request).await;
    let time = start.elapsed();
    let answer = read.map_err(|problem| format!("{problem} after {time:.1?}"))?;
    let right = format!(r#"{{"Secret":"{SECRET}","Value":"{VALUE}"}}"#);
    if (answer.status, answer.body.as_slice()) == (200, right.as_bytes()) {
        Ok(time)
    } else {
        Err(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))
    }
}

/// So many read at a time, with a pause after each read: they are there to notice, not to load.
const CLIENTS: usize = 4;

const PAUSE: Duration = Duration::from_millis(20);

/// More reads than the longest attack leaves time for.
const MOST_READS: usize = 100_000;
