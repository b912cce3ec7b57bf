//! Standard error: the lines of the component and those of the host, written by a thread of their own.
//!
//! A reader of standard error that is slow, as a container runtime under load may be, must not stop requests. So the
//! lines wait in a queue, and what does not fit in it is lost and counted.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use keyvault_gateway::model::DateTime;
use serde::Serialize;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// The queue to the thread that writes standard error.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

enum Entry {
    Lines(Vec<u8>),
    /// Everything before it has been written when the sender is dropped.
    Flush(#[expect(dead_code, reason = "the signal is its drop")] mpsc::Sender<()>),
}

/// An event of the host, as a line of JSON like those of the component.
#[derive(Serialize)]
struct Event<'a> {
    time: String,
    level: &'static str,
    host: &'a str,
}

impl Log {
    /// Starts the thread that writes.
    pub fn start() -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(MAX_ENTRIES);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&entries, &counter))?;
        Ok(Self { queue, lost })
    }

    /// Writes what went wrong.
    pub fn error(&self, text: &str) {
        self.event("error", text);
    }

    /// Writes what happened.
    pub fn info(&self, text: &str) {
        self.event("info", text);
    }

    fn event(&self, level: &'static str, host: &str) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let event = Event { time: DateTime::at(now).to_rfc_3339(), level, host };
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        self.push(line);
    }

    /// Writes a line of the start, before requests are served, as it is.
    pub fn plain(&self, text: &str) {
        self.push(format!("{text}\n").into_bytes());
    }

    fn push(&self, lines: Vec<u8>) {
        if self.queue.try_send(Entry::Lines(lines)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything so far has been written, for at most a second.
    pub fn flush(&self) {
        let (done, written) = mpsc::channel();
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_LIMIT);
        }
    }

    /// Returns the standard error of an instance.
    pub fn of_instance(&self) -> InstanceLog {
        InstanceLog { log: self.clone(), partial: Arc::default() }
    }
}

fn write(entries: &Receiver<Entry>, lost: &AtomicU64) {
    let mut error = io::stderr();
    for entry in entries {
        if let Entry::Lines(lines) = entry {
            // There is no place to report a failure to.
            let _ = error.write_all(&lines);
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(error, r#"{{"level":"error","host":"{count} lines of the log were lost"}}"#);
        }
    }
}

/// The standard error of an instance, in whole lines.
#[derive(Clone)]
pub struct InstanceLog {
    log: Log,
    partial: Arc<Mutex<Vec<u8>>>,
}

impl StdoutStream for InstanceLog {
    /// WASI 0.3 has its own standard error, which the component does not import.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for InstanceLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for InstanceLog {
    async fn ready(&mut self) {}
}

impl OutputStream for InstanceLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        partial.extend_from_slice(&bytes);
        if let Some(end) = partial.iter().rposition(|byte| *byte == b'\n') {
            let rest = partial.split_off(end.saturating_add(1));
            self.log.push(std::mem::replace(&mut *partial, rest));
        } else if partial.len() > MAX_LINE {
            partial.clear();
            self.log.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE)
    }
}

/// The entries that wait to be written: a second of requests at full load, and some 10 MiB.
const MAX_ENTRIES: usize = 32_768;

/// The longest line, in bytes. Those of the component have at most some hundreds.
const MAX_LINE: usize = 64 * 1024;

const FLUSH_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_queued_and_the_rest_is_lost_and_counted() {
        let (queue, entries) = mpsc::sync_channel(2);
        let log = Log { queue, lost: Arc::default() };
        let mut output = log.of_instance();
        for part in ["one ", "line\nand ", "another\n", "lost\n"] {
            output.write(Bytes::from_static(part.as_bytes())).unwrap();
        }
        output.write(vec![b'x'; MAX_LINE + 1].into()).unwrap();
        drop((output, log.queue));
        let lines = entries.iter().map(|entry| match entry {
            Entry::Lines(lines) => String::from_utf8(lines).unwrap(),
            Entry::Flush(_) => unreachable!(),
        });
        assert_eq!(lines.collect::<Vec<_>>(), ["one line\n", "and another\n"]);
        assert_eq!(log.lost.load(Ordering::Relaxed), 2);
    }
}
