//! Standard error: the lines of the component and those of the host, written by a thread of their own.
//!
//! A reader of standard error that is slow, as a container runtime under load may be, must not stop requests.
//! So the lines wait in a queue, and what does not fit in it is lost and counted.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use keyvault_gateway::model::DateTime;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// The queue to the thread that writes standard error.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Bytes>,
    /// The lines that wait, and those that were lost.
    counts: Arc<[AtomicU64; 2]>,
}

impl Log {
    /// Starts the thread that writes.
    pub fn start() -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(MAX_ENTRIES);
        let log = Self { queue, counts: Arc::default() };
        let counts = Arc::clone(&log.counts);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&entries, &counts))?;
        Ok(log)
    }

    /// Writes what went wrong in the host, as a line of JSON like those of the component.
    pub fn error(&self, text: &str) {
        self.plain(&event("error", text));
    }

    /// Writes what happened in the host.
    pub fn info(&self, text: &str) {
        self.plain(&event("info", text));
    }

    /// Writes a line as it is.
    pub fn plain(&self, text: &str) {
        self.push(format!("{text}\n").into());
    }

    fn push(&self, line: Bytes) {
        let is_lost = self.queue.try_send(line).is_err();
        self.counts[usize::from(is_lost)].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything so far has been written, for at most a second.
    pub fn flush(&self) {
        let is_waiting = || self.counts[0].load(Ordering::Relaxed) > 0;
        (0..100).take_while(|_| is_waiting()).for_each(|_| thread::sleep(Duration::from_millis(10)));
    }
}

fn write(entries: &Receiver<Bytes>, [waiting, lost]: &[AtomicU64; 2]) {
    let mut error = io::stderr();
    for line in entries {
        // There is no place to report a failure to.
        let _ = error.write_all(&line);
        waiting.fetch_sub(1, Ordering::Relaxed);
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let lost = format!("lost {count} lines of the log, as standard error is read too slowly");
            let _ = writeln!(error, "{}", event("error", &lost));
        }
    }
}

fn event(level: &str, text: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (time, text) = (DateTime::at(now).to_rfc_3339(), serde_json::Value::from(text));
    format!(r#"{{"time":"{time}","level":"{level}","host":{text}}}"#)
}

/// The component writes each line at once.
impl OutputStream for Log {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}

impl StdoutStream for Log {
    /// The standard error of WASI 0.3, which the component does not import.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

/// The lines that wait to be written: about a second of requests at full load, and some 10 MiB.
const MAX_ENTRIES: usize = 32_768;

/// The bytes of one write; lines of the component have at most some hundreds.
const MAX_WRITE: usize = 64 * 1024;
