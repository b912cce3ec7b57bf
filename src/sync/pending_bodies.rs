//! Bounds the answers that have been given and that their clients have not taken yet.
//!
//! A host counts a request as done when it has its answer, and hands the next one over, however many bodies
//! are still being written. What is unfinished is therefore counted here, by number and by bytes.

/// The unfinished answers of one instance. Dropping the signal `S` of an answer ends it.
#[derive(Debug)]
pub struct PendingBodies<S> {
    count: usize,
    bytes: usize,
    next_id: u64,
    /// The large ones, the oldest first, so that their ids are in order.
    large: Vec<Large<S>>,
}

#[derive(Debug)]
struct Large<S> {
    id: u64,
    bytes: usize,
    signal: S,
}

/// What a large answer is known by.
#[derive(Debug, PartialEq, Eq)]
pub struct LargeId(u64);

impl<S> PendingBodies<S> {
    /// None.
    pub const fn new() -> Self {
        Self { count: 0, bytes: 0, next_id: 0, large: Vec::new() }
    }

    /// Counts an answer that begins to be written.
    pub const fn begin(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// Counts an answer that is finished, or given up.
    pub const fn end(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Whether so many are unfinished that new requests have to wait for their turn.
    pub const fn is_crowded(&self) -> bool {
        self.count > CROWD
    }

    /// Adds a large answer of `bytes`. Returns its id, and the signals of the oldest ones that have to make
    /// room for it: drop them when nothing is borrowed.
    pub fn add_large(&mut self, bytes: usize, signal: S) -> (LargeId, Vec<S>) {
        let mut count = 0_usize;
        for oldest in &self.large {
            if self.bytes.saturating_add(bytes) <= MOST_BYTES {
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

    /// Removes a large answer. Returns its signal if it has not been evicted: drop it when nothing is
    /// borrowed.
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

/// Whether an answer of `bytes` is large: a thousand connections, which is what `wasmtime serve` takes by
/// itself, may leave as many smaller ones unfinished.
pub const fn is_large(bytes: usize) -> bool {
    bytes > 4 * 1024
}

/// A load of 32 connections on one instance leaves fewer unfinished, so that its requests never wait. Each
/// takes some 5 KiB of the host's memory.
const CROWD: usize = 4;

/// Room for more than a hundred of the largest values at a time. The host has a copy of each.
const MOST_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_large_answers_make_room() {
        let mut unfinished = PendingBodies::new();
        let (first, evicted) = unfinished.add_large(MOST_BYTES / 2, "first");
        assert_eq!(evicted, [""; 0]);
        let (second, evicted) = unfinished.add_large(MOST_BYTES / 2, "second");
        assert_eq!(evicted, [""; 0]);
        let (third, evicted) = unfinished.add_large(1, "third");
        assert_eq!(evicted, ["first"]);
        assert_eq!(unfinished.remove_large(&first), None);
        let (_, evicted) = unfinished.add_large(MOST_BYTES, "as large as all");
        assert_eq!(evicted, ["second", "third"]);
        assert_eq!((unfinished.remove_large(&second), unfinished.remove_large(&third)), (None, None));
        assert_eq!(unfinished.bytes, MOST_BYTES);
    }

    #[test]
    fn a_finished_answer_leaves_its_room() {
        let mut unfinished = PendingBodies::new();
        for _ in 0..1000 {
            let (id, evicted) = unfinished.add_large(MOST_BYTES, ());
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
