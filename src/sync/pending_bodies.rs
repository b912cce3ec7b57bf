//! Bounds the response bodies that the instance still writes, because their clients have not read them yet.
//!
//! A host counts a request as done when it has the response, and starts the next one, however many bodies are
//! still being written. So they are counted here, by number and by bytes.

/// The bodies that one instance still writes. Dropping the signal `S` of a large body ends it.
#[derive(Debug)]
pub struct PendingBodies<S> {
    count: usize,
    bytes: usize,
    next_id: u64,
    /// The large bodies, the oldest first, so that their ids are in order.
    large: Vec<Large<S>>,
}

#[derive(Debug)]
struct Large<S> {
    id: u64,
    bytes: usize,
    signal: S,
}

/// The id of a large body.
#[derive(Debug, PartialEq, Eq)]
pub struct LargeId(u64);

impl<S> PendingBodies<S> {
    pub const fn new() -> Self {
        Self { count: 0, bytes: 0, next_id: 0, large: Vec::new() }
    }

    /// Counts a body that begins to be written.
    pub const fn begin(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// Counts a body that is finished or given up.
    pub const fn end(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Whether so many bodies are unfinished that new requests have to wait for their turn.
    pub const fn is_crowded(&self) -> bool {
        self.count > CROWD
    }

    /// Adds a large body of `bytes`. Returns its id, and the signals of the oldest bodies that have to make
    /// room for it: drop them when nothing is borrowed.
    pub fn add_large(&mut self, bytes: usize, signal: S) -> (LargeId, Vec<S>) {
        let mut count = 0_usize;
        for oldest in &self.large {
            if self.bytes.saturating_add(bytes) <= MAX_BYTES {
                break;
            }
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            count = count.saturating_add(1);
        }
        let evicted = self.large.drain(..count).map(|large| large.signal).collect();
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.large.push(Large { id, bytes, signal });
        (LargeId(id), evicted)
    }

    /// Removes a large body. Returns its signal if it has not been evicted: drop it when nothing is borrowed.
    pub fn remove_large(&mut self, id: &LargeId) -> Option<S> {
        let index = self.large.binary_search_by_key(&id.0, |large| large.id).ok()?;
        let large = self.large.remove(index);
        self.bytes = self.bytes.saturating_sub(large.bytes);
        Some(large.signal)
    }
}

impl<S> Default for PendingBodies<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a body of `bytes` is large: a thousand connections, the default limit of `wasmtime serve`, may
/// leave as many smaller bodies unfinished.
pub const fn is_large(bytes: usize) -> bool {
    bytes > 4 * 1024
}

/// A load of 32 connections on one instance leaves fewer bodies unfinished, so that its requests never wait.
/// Each body takes some 5 KiB of the host's memory.
const CROWD: usize = 4;

/// Room for eight of the largest answers with several secrets at a time, or for hundreds with one. The host has a
/// copy of each.
const MAX_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_large_answers_make_room() {
        let mut unfinished = PendingBodies::new();
        let (first, evicted) = unfinished.add_large(MAX_BYTES / 2, "first");
        assert_eq!(evicted, [""; 0]);
        let (second, evicted) = unfinished.add_large(MAX_BYTES / 2, "second");
        assert_eq!(evicted, [""; 0]);
        let (third, evicted) = unfinished.add_large(1, "third");
        assert_eq!(evicted, ["first"]);
        assert_eq!(unfinished.remove_large(&first), None);
        let (_, evicted) = unfinished.add_large(MAX_BYTES, "as large as all");
        assert_eq!(evicted, ["second", "third"]);
        assert_eq!((unfinished.remove_large(&second), unfinished.remove_large(&third)), (None, None));
        assert_eq!(unfinished.bytes, MAX_BYTES);
    }

    #[test]
    fn a_finished_answer_leaves_its_room() {
        let mut unfinished = PendingBodies::new();
        for _ in 0..1000 {
            let (id, evicted) = unfinished.add_large(MAX_BYTES, ());
            assert_eq!((evicted.len(), unfinished.remove_large(&id)), (0, Some(())));
        }
        assert_eq!(unfinished.bytes, 0);
    }

    #[test]
    fn a_crowd_is_counted() {
        let mut unfinished = PendingBodies::<()>::new();
        for _ in 0..CROWD {
            unfinished.begin();
            assert!(!unfinished.is_crowded());
        }
        unfinished.begin();
        assert!(unfinished.is_crowded());
        unfinished.end();
        assert!(!unfinished.is_crowded());
    }
}
