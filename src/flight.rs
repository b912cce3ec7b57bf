//! One flight: requests that want the same thing at the same time share the work of one of them.
//!
//! The one that comes first leads: it works, and lands with what came of it. The others follow: they wait, and take
//! what it landed with. A leader may vanish at any await, because its client hung up or its time was over; then the
//! followers wake with nothing in their hands, and the first of them to board again leads.

use core::cell::RefCell;
use core::future::Future;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::host::Moment;

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
    /// The signals of those who wait; none once it is over.
    waiting: RefCell<Option<Vec<S>>>,
}

impl<K: Ord + Clone, T: Clone, S> Flights<K, T, S> {
    /// Nothing under way.
    pub const fn new() -> Self {
        Self { under_way: RefCell::new(BTreeMap::new()) }
    }

    /// Takes part in the flight for `key`, if there is one, and never starts one.
    pub fn follow(&self, key: &K) -> Option<Follower<T, S>> {
        self.under_way.borrow().get(key).map(|it| Follower(Rc::clone(it)))
    }

    /// Whether somebody is under way for `key`.
    pub fn has(&self, key: &K) -> bool {
        self.under_way.borrow().contains_key(key)
    }

    /// Takes part in the flight for `key`, or starts one at `now`.
    pub fn board(&self, key: &K, now: Moment) -> Seat<'_, K, T, S> {
        if let Some(follower) = self.follow(key) {
            return Seat::Follows(follower);
        }
        let flight = Rc::new(Flight {
            since: now,
            outcome: RefCell::new(None),
            waiting: RefCell::new(Some(Vec::new())),
        });
        self.under_way.borrow_mut().insert(key.clone(), Rc::clone(&flight));
        Seat::Leads(Leader { flights: self, key: key.clone(), flight })
    }
}

impl<K: Ord + Clone, T: Clone, S> Default for Flights<K, T, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, T: Clone, S> Leader<'_, K, T, S> {
    /// Ends the flight with `outcome`, for everybody if it `is_for_all`, and gives it back.
    pub fn land_if(self, outcome: T, is_for_all: impl Fn(&T) -> bool) -> T {
        if is_for_all(&outcome) {
            self.flight.outcome.replace(Some(outcome.clone()));
        }
        outcome
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

    /// Waits until the flight is over: what it landed with, or nothing if the leader vanished. `wait` ends when `signal`
    /// is dropped.
    pub async fn landed(self, (signal, wait): (S, impl Future<Output = ()>)) -> Option<T> {
        let under_way = match &mut *self.0.waiting.borrow_mut() {
            Some(waiting) => {
                waiting.push(signal);
                true
            }
            None => false,
        };
        if under_way {
            wait.await;
        }
        self.0.outcome.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use core::future::poll_fn;
    use core::pin::{Pin, pin};
    use core::task::{Context, Poll, Waker};
    use core::time::Duration;

    use super::*;

    #[test]
    fn followers_get_what_the_leader_lands_with() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let (mut first, mut second) = (pin!(follow(&flights, "a")), pin!(follow(&flights, "a")));
        assert_eq!((poll(first.as_mut()), poll(second.as_mut())), (None, None));
        assert_eq!(leader.land_if(7, |_| true), 7);
        assert_eq!((poll(first.as_mut()), poll(second.as_mut())), (Some(Some(7)), Some(Some(7))));
    }

    #[test]
    fn a_flight_that_is_over_is_gone() {
        let flights = Flights::new();
        lead(&flights, "a").land_if(7, |_| true);
        assert!(!flights.has(&"a"));
        drop(lead(&flights, "a"));
    }

    #[test]
    fn each_key_has_a_flight_of_its_own() {
        let flights = Flights::new();
        let (_a, _b) = (lead(&flights, "a"), lead(&flights, "b"));
        assert!(flights.has(&"a") && flights.has(&"b") && !flights.has(&"c"));
    }

    #[test]
    fn one_who_waits_takes_over_where_the_leader_vanishes() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let mut follower = pin!(follow(&flights, "a"));
        assert_eq!(poll(follower.as_mut()), None);
        drop(leader);
        assert_eq!(poll(follower.as_mut()), Some(None));
        drop(lead(&flights, "a"));
    }

    #[test]
    fn what_is_only_about_the_leader_is_not_passed_on() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let mut follower = pin!(follow(&flights, "a"));
        assert_eq!(poll(follower.as_mut()), None);
        assert_eq!(leader.land_if(7, |_| false), 7);
        assert_eq!(poll(follower.as_mut()), Some(None));
    }

    #[test]
    fn one_who_boards_and_waits_too_late_is_not_forgotten() {
        let flights = Flights::new();
        let leader = lead(&flights, "a");
        let mut follower = pin!(follow(&flights, "a"));
        leader.land_if(7, |_| true);
        assert_eq!(poll(follower.as_mut()), Some(Some(7)));
    }

    /// In these tests, a signal is dropped when nobody has it any more.
    type Signal = Rc<()>;

    fn lead<'a>(
        flights: &'a Flights<&'static str, u8, Signal>,
        key: &'static str,
    ) -> Leader<'a, &'static str, u8, Signal> {
        match flights.board(&key, Moment::after_start(Duration::ZERO)) {
            Seat::Leads(leader) => leader,
            Seat::Follows(_) => panic!("somebody is under way for {key}"),
        }
    }

    fn follow(
        flights: &Flights<&'static str, u8, Signal>,
        key: &'static str,
    ) -> impl Future<Output = Option<u8>> + use<> {
        let Seat::Follows(follower) = flights.board(&key, Moment::after_start(Duration::ZERO)) else {
            panic!("nobody is under way for {key}")
        };
        let signal = Rc::new(());
        let held = Rc::downgrade(&signal);
        let wait = poll_fn(move |_| if held.strong_count() > 0 { Poll::Pending } else { Poll::Ready(()) });
        follower.landed((signal, wait))
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}
