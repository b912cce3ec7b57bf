//! One flight: requests that want the same thing at the same time share the work of one of them.
//!
//! The one that comes first leads: it works, and lands with what came of it. The others follow: they wait, and take
//! what it landed with. A leader may vanish at any await, because its client hung up or its time was over, or may land with
//! what is only about itself. Then one of the followers leads in its place, the one with the most time, and the others wait
//! on. Were it the one that has waited longest, it would have hardly any time left, and so would the next one after it: each
//! would ask anew, for ever less time, what does not answer.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use crate::model::Moment;

/// What is under way in this instance, by key.
#[derive(Debug)]
pub struct SingleFlight<K, T, S> {
    under_way: RefCell<BTreeMap<K, Rc<InFlight<T, S>>>>,
}

/// The place of one who boards.
#[derive(Debug)]
pub enum Role<'a, K: Ord + Clone, T, S> {
    /// Nobody was under way. Who leads does the work.
    Leads(Leader<'a, K, T, S>),
    /// Somebody is.
    Follows(Waiter<'a, K, T, S>),
}

/// What comes of waiting.
#[derive(Debug)]
pub enum Outcome<'a, K: Ord + Clone, T, S> {
    /// The leader landed with this, for everybody.
    With(T),
    /// The leader did not, and now it is for this one to lead.
    Leads(Leader<'a, K, T, S>),
}

/// The one who works. When it is dropped without having landed for all, another one leads.
#[derive(Debug)]
pub struct Leader<'a, K: Ord + Clone, T, S>(Slot<'a, K, T, S>);

/// One who waits for the leader.
#[derive(Debug)]
pub struct Waiter<'a, K: Ord + Clone, T, S> {
    place: Slot<'a, K, T, S>,
    number: u64,
}

/// Where one is: in this flight.
#[derive(Debug)]
struct Slot<'a, K: Ord + Clone, T, S> {
    flights: &'a SingleFlight<K, T, S>,
    key: K,
    flight: Rc<InFlight<T, S>>,
}

#[derive(Debug)]
struct InFlight<T, S> {
    since: Moment,
    outcome: RefCell<Option<T>>,
    /// Those who follow, by the number that each was given.
    waiting: RefCell<BTreeMap<u64, Waiting<S>>>,
    given: Cell<u64>,
    /// The number of the one who has to lead and does not know it yet.
    heir: Cell<Option<u64>>,
}

#[derive(Debug)]
struct Waiting<S> {
    until: Moment,
    /// None before it waits.
    signal: Option<S>,
}

impl<K: Ord + Clone, T: Clone, S> SingleFlight<K, T, S> {
    /// Nothing under way.
    pub const fn new() -> Self {
        Self { under_way: RefCell::new(BTreeMap::new()) }
    }

    /// Takes part in the flight for `key`, or starts one at `now`. Who takes part has time `until` then.
    pub fn board(&self, key: &K, now: Moment, until: Moment) -> Role<'_, K, T, S> {
        if let Some(follower) = self.follow(key, until) {
            return Role::Follows(follower);
        }
        let flight = Rc::new(InFlight {
            since: now,
            outcome: RefCell::new(None),
            waiting: RefCell::new(BTreeMap::new()),
            given: Cell::new(0),
            heir: Cell::new(None),
        });
        self.under_way.borrow_mut().insert(key.clone(), Rc::clone(&flight));
        Role::Leads(Leader(Slot { flights: self, key: key.clone(), flight }))
    }

    /// Takes part in the flight for `key` if there is one, and leads only if nobody else can. Who then does not want to lets go
    /// of the lead.
    pub fn look_on(&self, key: &K) -> Option<Waiter<'_, K, T, S>> {
        self.follow(key, Moment::EARLIEST)
    }

    fn follow(&self, key: &K, until: Moment) -> Option<Waiter<'_, K, T, S>> {
        let flight = Rc::clone(self.under_way.borrow().get(key)?);
        let number = flight.given.get();
        flight.given.set(number.saturating_add(1));
        flight.waiting.borrow_mut().insert(number, Waiting { until, signal: None });
        Some(Waiter { place: Slot { flights: self, key: key.clone(), flight }, number })
    }
}

impl<K: Ord, T, S> SingleFlight<K, T, S> {
    /// Whether somebody is under way for `key`.
    pub fn has(&self, key: &K) -> bool {
        self.under_way.borrow().contains_key(key)
    }
}

impl<K: Ord + Clone, T: Clone, S> Default for SingleFlight<K, T, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, T, S> Slot<'_, K, T, S> {
    /// Nobody leads any more. It is over if it has landed for all, or if there is nobody else.
    fn let_go(&self) {
        let flight = &self.flight;
        let heir = if flight.outcome.borrow().is_some() { None } else { flight.next() };
        flight.heir.set(heir);
        // No borrow is held while somebody wakes. Where all do, they find the flight gone already.
        if let Some(heir) = heir {
            let signal = flight.waiting.borrow_mut().get_mut(&heir).and_then(|it| it.signal.take());
            drop(signal);
        } else {
            self.flights.under_way.borrow_mut().remove(&self.key);
            drop(flight.waiting.take());
        }
    }
}

impl<T, S> InFlight<T, S> {
    /// The one with the most time; of two with as much, the one who came first.
    fn next(&self) -> Option<u64> {
        let waiting = self.waiting.borrow();
        waiting.iter().max_by_key(|(number, it)| (it.until, Reverse(**number))).map(|it| *it.0)
    }
}

impl<K: Ord + Clone, T: Clone, S> Leader<'_, K, T, S> {
    /// Ends the flight with `outcome` if it `is_for_all`, or else leaves the lead to another one, and gives it back.
    pub fn land_if(self, outcome: T, is_for_all: impl Fn(&T) -> bool) -> T {
        if is_for_all(&outcome) {
            self.0.flight.outcome.replace(Some(outcome.clone()));
        }
        outcome
    }
}

impl<K: Ord + Clone, T, S> Drop for Leader<'_, K, T, S> {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

impl<'a, K: Ord + Clone, T: Clone, S> Waiter<'a, K, T, S> {
    /// When the flight began.
    pub fn since(&self) -> Moment {
        self.place.flight.since
    }

    /// Waits until the flight is over or this one has to lead. What waits for a `signal` ends when that is dropped.
    pub async fn landed<W: Future<Output = ()>>(self, signal: impl Fn() -> (S, W)) -> Outcome<'a, K, T, S> {
        let Slot { flights, key, flight } = &self.place;
        loop {
            if flight.heir.get() == Some(self.number) {
                flight.heir.set(None);
                return Outcome::Leads(Leader(Slot { flights, key: key.clone(), flight: Rc::clone(flight) }));
            }
            if let Some(outcome) = flight.outcome.borrow().as_ref() {
                return Outcome::With(outcome.clone());
            }
            let (signal, wait) = signal();
            if let Some(waiting) = flight.waiting.borrow_mut().get_mut(&self.number) {
                waiting.signal = Some(signal);
            }
            wait.await;
        }
    }
}

impl<K: Ord + Clone, T, S> Drop for Waiter<'_, K, T, S> {
    fn drop(&mut self) {
        let flight = &self.place.flight;
        let gone = flight.waiting.borrow_mut().remove(&self.number);
        drop(gone);
        if flight.heir.get() == Some(self.number) {
            self.place.let_go();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;

    #[test]
    fn followers_get_what_the_leader_lands_with() {
        let flights = SingleFlight::new();
        let leader = lead(&flights, "a");
        let (mut first, mut second) = (pin!(follow(&flights, "a", 1)), pin!(follow(&flights, "a", 2)));
        assert!(waits(first.as_mut()) && waits(second.as_mut()));
        assert_eq!(leader.land_if(7, |_| true), 7);
        assert_eq!((outcome(first.as_mut()), outcome(second.as_mut())), (7, 7));
    }

    #[test]
    fn a_flight_that_is_over_is_gone() {
        let flights = SingleFlight::new();
        lead(&flights, "a").land_if(7, |_| true);
        assert!(!flights.has(&"a"));
        drop(lead(&flights, "a"));
        assert!(!flights.has(&"a"));
    }

    #[test]
    fn each_key_has_a_flight_of_its_own() {
        let flights = SingleFlight::new();
        let (_a, _b) = (lead(&flights, "a"), lead(&flights, "b"));
        assert!(flights.has(&"a") && flights.has(&"b") && !flights.has(&"c"));
    }

    #[test]
    fn the_one_with_the_most_time_takes_over_and_the_others_wait_on() {
        let flights = SingleFlight::new();
        let leader = lead(&flights, "a");
        let mut short = pin!(follow(&flights, "a", 1));
        let mut long = pin!(follow(&flights, "a", 3));
        let mut later = pin!(follow(&flights, "a", 3));
        for follower in [short.as_mut(), long.as_mut(), later.as_mut()] {
            assert!(waits(follower));
        }
        drop(leader);
        // Only the heir is woken. Whoever comes now waits for it, whatever time they have.
        assert_eq!(woken(&flights, "a"), [1]);
        let mut last = pin!(follow(&flights, "a", 4));
        assert!(waits(last.as_mut()) && waits(short.as_mut()) && waits(later.as_mut()));
        let heir = leads(long.as_mut());
        assert!(waits(short.as_mut()) && waits(later.as_mut()));
        assert_eq!(heir.land_if(7, |_| true), 7);
        for follower in [short.as_mut(), later.as_mut(), last.as_mut()] {
            assert_eq!(outcome(follower), 7);
        }
    }

    #[test]
    fn what_is_only_about_the_leader_is_not_passed_on() {
        let flights = SingleFlight::new();
        let leader = lead(&flights, "a");
        let mut follower = pin!(follow(&flights, "a", 1));
        assert!(waits(follower.as_mut()));
        assert_eq!(leader.land_if(7, |_| false), 7);
        drop(leads(follower.as_mut()));
        assert!(!flights.has(&"a"));
    }

    #[test]
    fn an_heir_who_goes_leaves_the_lead_to_the_next() {
        let flights = SingleFlight::new();
        let leader = lead(&flights, "a");
        let mut next = pin!(follow(&flights, "a", 1));
        let mut heir = Box::pin(follow(&flights, "a", 2));
        assert!(waits(next.as_mut()) && waits(heir.as_mut()));
        drop(leader);
        let mut newcomer = pin!(follow(&flights, "a", 3));
        assert!(waits(newcomer.as_mut()));
        drop(heir);
        assert!(waits(next.as_mut()));
        drop(leads(newcomer.as_mut()));
        drop(leads(next.as_mut()));
        assert!(!flights.has(&"a"));
    }

    #[test]
    fn an_heir_who_goes_and_was_the_last_ends_the_flight() {
        let flights = SingleFlight::new();
        let leader = lead(&flights, "a");
        let heir = follow(&flights, "a", 1);
        drop(leader);
        assert!(flights.has(&"a"));
        drop(heir);
        assert!(!flights.has(&"a"));
    }

    #[test]
    fn who_only_looks_on_leads_after_all_others() {
        let flights = SingleFlight::new();
        assert!(flights.look_on(&"a").is_none());
        let leader = lead(&flights, "a");
        let mut looks_on = pin!(landed(flights.look_on(&"a").unwrap()));
        let mut follower = pin!(follow(&flights, "a", 0));
        assert!(waits(looks_on.as_mut()) && waits(follower.as_mut()));
        drop(leader);
        assert!(waits(looks_on.as_mut()));
        drop(leads(follower.as_mut()));
        drop(leads(looks_on.as_mut()));
        assert!(!flights.has(&"a"));
    }

    #[test]
    fn one_who_boards_and_waits_too_late_is_not_forgotten() {
        let flights = SingleFlight::new();
        let leader = lead(&flights, "a");
        let mut follower = pin!(follow(&flights, "a", 1));
        leader.land_if(7, |_| true);
        assert_eq!(outcome(follower.as_mut()), 7);

        let leader = lead(&flights, "a");
        let mut follower = pin!(follow(&flights, "a", 1));
        drop(leader);
        drop(leads(follower.as_mut()));
    }

    /// In these tests, a signal is dropped when nobody has it any more.
    type Signal = Rc<()>;

    type Key = &'static str;

    fn lead<'a>(flights: &'a SingleFlight<Key, u8, Signal>, key: Key) -> Leader<'a, Key, u8, Signal> {
        match flights.board(&key, at(0), at(0)) {
            Role::Leads(leader) => leader,
            Role::Follows(_) => panic!("somebody is under way for {key}"),
        }
    }

    fn follow<'a>(
        flights: &'a SingleFlight<Key, u8, Signal>,
        key: Key,
        until: u64,
    ) -> impl Future<Output = Outcome<'a, Key, u8, Signal>> {
        match flights.board(&key, at(0), at(until)) {
            Role::Leads(_) => panic!("nobody is under way for {key}"),
            Role::Follows(follower) => landed(follower),
        }
    }

    fn landed<'a>(
        follower: Waiter<'a, Key, u8, Signal>,
    ) -> impl Future<Output = Outcome<'a, Key, u8, Signal>> {
        follower.landed(|| {
            let signal = Rc::new(());
            let held = Rc::downgrade(&signal);
            let wait = move |_: &mut Context<'_>| match held.strong_count() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            };
            (signal, poll_fn(wait))
        })
    }

    /// Who has waited and has no signal any more.
    fn woken(flights: &SingleFlight<Key, u8, Signal>, key: Key) -> Vec<u64> {
        let flight = Rc::clone(&flights.under_way.borrow()[key]);
        let waiting = flight.waiting.borrow();
        waiting.iter().filter(|it| it.1.signal.is_none()).map(|it| *it.0).collect()
    }

    fn waits(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn outcome<'a>(future: Pin<&mut impl Future<Output = Outcome<'a, Key, u8, Signal>>>) -> u8 {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Outcome::With(outcome)) => outcome,
            landing => panic!("{landing:?}"),
        }
    }

    fn leads<'a>(
        future: Pin<&mut impl Future<Output = Outcome<'a, Key, u8, Signal>>>,
    ) -> Leader<'a, Key, u8, Signal> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Outcome::Leads(leader)) => leader,
            landing => panic!("{landing:?}"),
        }
    }

    const fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }
}
