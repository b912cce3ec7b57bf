//! One flight: requests that want the same thing at the same time share the work of one of them.
//!
//! The one that comes first leads: it works, and lands with what came of it. The others follow: they wait, and take
//! what it landed with. A leader may vanish at any await, because its client hung up or its time was over; then the
//! followers wake with nothing in their hands, and the first of them to board again leads.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::host::{Host, Moment};

/// What is under way in this instance, by key.
#[derive(Debug)]
pub struct Flights<K, T, S> {
    under_way: RefCell<BTreeMap<K, Rc<Flight<T, S>>>>,
}

/// The place of one who boards.
pub enum Seat<'a, K: Ord, T, S> {
    /// Nobody was under way. Who leads does the work.
    Leads(Leader<'a, K, T, S>),
    /// Somebody is.
    Follows(Follower<T, S>),
}

/// The one who works. When it is dropped, landed or not, its followers wake.
pub struct Leader<'a, K: Ord, T, S> {
    flights: &'a Flights<K, T, S>,
    key: K,
    flight: Rc<Flight<T, S>>,
}

/// One who waits for the leader.
pub struct Follower<T, S>(Rc<Flight<T, S>>);

#[derive(Debug)]
struct Flight<T, S> {
    since: Moment,
    outcome: RefCell<Option<T>>,
    waiting: RefCell<Vec<S>>,
}

impl<K: Ord + Clone, T: Clone, S> Flights<K, T, S> {
    /// Nothing under way.
    pub const fn new() -> Self {
        Self { under_way: RefCell::new(BTreeMap::new()) }
    }

    /// Whether somebody is under way for `key`.
    pub fn has(&self, key: &K) -> bool {
        self.under_way.borrow().contains_key(key)
    }

    /// Takes part in the flight for `key`, or starts one at `now`.
    pub fn board(&self, key: &K, now: Moment) -> Seat<'_, K, T, S> {
        let mut under_way = self.under_way.borrow_mut();
        if let Some(flight) = under_way.get(key) {
            return Seat::Follows(Follower(Rc::clone(flight)));
        }
        let flight =
            Rc::new(Flight { since: now, outcome: RefCell::new(None), waiting: RefCell::new(Vec::new()) });
        under_way.insert(key.clone(), Rc::clone(&flight));
        Seat::Leads(Leader { flights: self, key: key.clone(), flight })
    }
}

impl<K: Ord + Clone, T: Clone, S> Default for Flights<K, T, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, T, S> Leader<'_, K, T, S> {
    /// Ends the flight with an outcome for everybody.
    pub fn land(self, outcome: T) {
        self.flight.outcome.replace(Some(outcome));
    }
}

impl<K: Ord, T, S> Drop for Leader<'_, K, T, S> {
    fn drop(&mut self) {
        self.flights.under_way.borrow_mut().remove(&self.key);
        // Whoever wakes finds the flight gone already. No borrow is held while they do.
        drop(self.flight.waiting.take());
    }
}

impl<T: Clone, S> Follower<T, S> {
    /// When the leader boarded.
    pub fn since(&self) -> Moment {
        self.0.since
    }

    /// Waits until the flight is over: what it landed with, or nothing if the leader vanished.
    pub async fn landed(self, host: &impl Host<Signal = S>) -> Option<T> {
        let (signal, wait) = host.signal();
        self.0.waiting.borrow_mut().push(signal);
        wait.await;
        self.0.outcome.borrow().clone()
    }
}
