//! Single-flight: concurrent requests for the same key share one call.
//!
//! The first request leads: it makes the call and shares the result. The others wait. A leader may be dropped
//! at any await, because its client disconnected or its time was over, or may end with a failure that is
//! about itself alone. Then one of the waiters leads in its place: the one with the latest deadline.
//! Promoting the oldest waiter would repeat a hanging call with ever shorter timeouts.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::Future;
use std::rc::Rc;

use crate::error::{Error, Failure};
use crate::host::{Host, Signal, within};
use crate::model::{Deadline, MIN_CALL_TIME, Moment};

/// The calls of one instance that are in flight, by key.
///
/// There are no more than requests that wait for Azure, some dozens, so a list does; the maps of the standard
/// library would be 25 KiB of code.
#[derive(Debug)]
pub struct SingleFlight<K, T> {
    calls: RefCell<Vec<(K, Rc<InFlight<T>>)>>,
}

/// How a request came to its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It made the call.
    Leader,
    /// It waited for the call of another request.
    Waiter,
}

impl<K: Eq + Clone, T: Clone> SingleFlight<K, T> {
    pub const fn new() -> Self {
        Self { calls: RefCell::new(Vec::new()) }
    }

    /// Whether a call for `key` is in flight.
    pub fn has(&self, key: &K) -> bool {
        self.call(key).is_some()
    }

    /// Joins the call for `key` that is in flight, or makes it with `lead`.
    ///
    /// Of several waiters, the one with the latest `until` takes over from a leader that is dropped. A waiter
    /// waits as long as `wait` says for a call that began at the given moment, and `lead` is told that moment
    /// as well. The leader's result is shared, unless it is a failure that is local.
    pub async fn run<H: Host>(
        &self,
        host: &H,
        key: &K,
        until: Moment,
        wait: impl Fn(Moment) -> Deadline,
        lead: impl AsyncFnOnce(Moment) -> Result<T, Failure>,
    ) -> (Result<T, Failure>, Role) {
        let leader = match self.join(key, host.now(), until) {
            Joined::Leader(leader) => leader,
            Joined::Waiter(waiter) => {
                let limit = wait(waiter.began());
                match waiter.wait_within(host, limit).await {
                    Ok(Outcome::Shared(result)) => return (result, Role::Waiter),
                    Ok(Outcome::Promoted(leader)) => leader,
                    Err(error) => return (Err(error.into()), Role::Waiter),
                }
            }
        };
        let result = lead(leader.0.call.began).await;
        (leader.finish(result), Role::Leader)
    }

    /// Makes the call for `key` with `lead`, or does nothing if one is in flight.
    pub async fn run_if_idle(
        &self,
        key: &K,
        now: Moment,
        lead: impl AsyncFnOnce() -> Result<T, Failure>,
    ) -> Option<Result<T, Failure>> {
        let Joined::Leader(leader) = self.join(key, now, now) else { return None };
        let result = lead().await;
        Some(leader.finish(result))
    }

    /// Waits for the call for `key` that is in flight, without ever leading. `None` if there is none, or if
    /// its leader is dropped and no other request takes over.
    pub async fn wait<H: Host>(&self, host: &H, key: &K, by: Deadline) -> Option<Result<T, Failure>> {
        let waiter = self.waiter(key, Moment::EARLIEST)?;
        match waiter.wait_within(host, by).await {
            Ok(Outcome::Shared(result)) => Some(result),
            Ok(Outcome::Promoted(_)) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    fn join(&self, key: &K, now: Moment, until: Moment) -> Joined<'_, K, T> {
        if let Some(waiter) = self.waiter(key, until) {
            return Joined::Waiter(waiter);
        }
        let call = Rc::new(InFlight {
            began: now,
            result: RefCell::new(None),
            waiters: RefCell::new(Vec::new()),
            next_id: Cell::new(0),
            next_leader: Cell::new(None),
        });
        self.calls.borrow_mut().push((key.clone(), Rc::clone(&call)));
        Joined::Leader(Leader(Slot { group: self, key: key.clone(), call }))
    }

    fn call(&self, key: &K) -> Option<Rc<InFlight<T>>> {
        let calls = self.calls.borrow();
        calls.iter().find(|(known, _)| known == key).map(|(_, call)| Rc::clone(call))
    }

    fn waiter(&self, key: &K, until: Moment) -> Option<Waiter<'_, K, T>> {
        let call = self.call(key)?;
        let id = call.next_id.get();
        call.next_id.set(id.saturating_add(1));
        call.waiters.borrow_mut().push(Waiting { id, until, signal: None });
        Some(Waiter { slot: Slot { group: self, key: key.clone(), call }, id })
    }
}

/// One call that is in flight.
#[derive(Debug)]
struct InFlight<T> {
    began: Moment,
    result: RefCell<Option<Result<T, Failure>>>,
    waiters: RefCell<Vec<Waiting>>,
    next_id: Cell<u64>,
    /// The waiter that has been promoted and has not noticed it yet.
    next_leader: Cell<Option<u64>>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    until: Moment,
    /// `None` before the waiter waits, and after it has been woken.
    signal: Option<Signal>,
}

enum Joined<'a, K: Eq + Clone, T> {
    Leader(Leader<'a, K, T>),
    Waiter(Waiter<'a, K, T>),
}

/// What a waiter gets.
#[derive(Debug)]
enum Outcome<'a, K: Eq + Clone, T> {
    Shared(Result<T, Failure>),
    /// The leader was dropped, or failed alone: this waiter leads now.
    Promoted(Leader<'a, K, T>),
}

/// The request that makes the call. Dropping it without a result to share promotes a waiter.
#[derive(Debug)]
struct Leader<'a, K: Eq + Clone, T>(Slot<'a, K, T>);

/// A request that waits for the leader.
#[derive(Debug)]
struct Waiter<'a, K: Eq + Clone, T> {
    slot: Slot<'a, K, T>,
    id: u64,
}

/// The part of a request in a call.
#[derive(Debug)]
struct Slot<'a, K: Eq + Clone, T> {
    group: &'a SingleFlight<K, T>,
    key: K,
    call: Rc<InFlight<T>>,
}

impl<K: Eq + Clone, T> Slot<'_, K, T> {
    /// Ends the leadership: promotes a waiter, or ends the call if it has a result to share or no waiters.
    fn release(&self) {
        let call = &self.call;
        let next = if call.result.borrow().is_some() { None } else { call.latest_waiter() };
        call.next_leader.set(next);
        // No borrow is held while a waiter is woken. Where all are, they find the call gone already.
        if let Some(next) = next {
            drop(call.set_signal(next, None));
        } else {
            self.group.calls.borrow_mut().retain(|(key, _)| *key != self.key);
            drop(call.waiters.take());
        }
    }
}

impl<T> InFlight<T> {
    /// The waiter with the latest deadline; of two with the same, the one that came first.
    fn latest_waiter(&self) -> Option<u64> {
        let waiters = self.waiters.borrow();
        waiters.iter().max_by_key(|waiting| (waiting.until, Reverse(waiting.id))).map(|waiting| waiting.id)
    }

    /// Sets the signal of a waiter. Returns the one it had: drop it when nothing is borrowed.
    fn set_signal(&self, id: u64, signal: Option<Signal>) -> Option<Signal> {
        let mut waiters = self.waiters.borrow_mut();
        let waiting = waiters.iter_mut().find(|waiting| waiting.id == id)?;
        std::mem::replace(&mut waiting.signal, signal)
    }

    /// Removes a waiter. Returns it: drop it when nothing is borrowed.
    fn remove_waiter(&self, id: u64) -> Option<Waiting> {
        let mut waiters = self.waiters.borrow_mut();
        let index = waiters.iter().position(|waiting| waiting.id == id)?;
        Some(waiters.remove(index))
    }
}

impl<K: Eq + Clone, T: Clone> Leader<'_, K, T> {
    /// Shares `result`, unless it is a local failure, and gives it back.
    fn finish(self, result: Result<T, Failure>) -> Result<T, Failure> {
        if !matches!(result, Err(Failure { is_local: true, .. })) {
            self.0.call.result.replace(Some(result.clone()));
        }
        result
    }
}

impl<K: Eq + Clone, T> Drop for Leader<'_, K, T> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<'a, K: Eq + Clone, T: Clone> Waiter<'a, K, T> {
    fn began(&self) -> Moment {
        self.slot.call.began
    }

    /// Waits until `by`. A waiter that is promoted without the time for a call leaves the lead to the next.
    async fn wait_within<H: Host>(self, host: &H, by: Deadline) -> Result<Outcome<'a, K, T>, Error> {
        let left = by.left(host.now())?;
        let outcome = within(host, left, self.wait(|| host.signal())).await;
        match outcome.ok_or(Error::DeadlineExceeded)? {
            Outcome::Promoted(_) if by.left(host.now())? < MIN_CALL_TIME => Err(Error::DeadlineExceeded),
            outcome @ (Outcome::Shared(_) | Outcome::Promoted(_)) => Ok(outcome),
        }
    }

    /// Waits for the result or for the lead. The future of a `signal` ends when the signal is dropped.
    async fn wait<W: Future<Output = ()>>(self, signal: impl Fn() -> (Signal, W)) -> Outcome<'a, K, T> {
        let Slot { group, key, call } = &self.slot;
        loop {
            if call.next_leader.get() == Some(self.id) {
                call.next_leader.set(None);
                return Outcome::Promoted(Leader(Slot { group, key: key.clone(), call: Rc::clone(call) }));
            }
            if let Some(result) = call.result.borrow().as_ref() {
                return Outcome::Shared(result.clone());
            }
            let (signal, dropped) = signal();
            drop(call.set_signal(self.id, Some(signal)));
            dropped.await;
        }
    }
}

impl<K: Eq + Clone, T> Drop for Waiter<'_, K, T> {
    fn drop(&mut self) {
        let call = &self.slot.call;
        drop(call.remove_waiter(self.id));
        if call.next_leader.get() == Some(self.id) {
            self.slot.release();
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
    fn waiters_get_the_result_of_the_leader() {
        let group = SingleFlight::new();
        let leader = lead(&group, "a");
        let (mut first, mut second) = (pin!(wait(&group, "a", 1)), pin!(wait(&group, "a", 2)));
        assert!(is_pending(first.as_mut()) && is_pending(second.as_mut()));
        assert_eq!(leader.finish(Ok(7)), Ok(7));
        assert_eq!((shared(first.as_mut()), shared(second.as_mut())), (Ok(7), Ok(7)));
    }

    #[test]
    fn a_finished_or_dropped_call_is_gone() {
        let group = SingleFlight::new();
        let _ = lead(&group, "a").finish(Ok(7));
        assert!(!group.has(&"a"));
        drop(lead(&group, "a"));
        assert!(!group.has(&"a"));
    }

    #[test]
    fn each_key_has_its_own_call() {
        let group = SingleFlight::new();
        let (_a, _b) = (lead(&group, "a"), lead(&group, "b"));
        assert!(group.has(&"a") && group.has(&"b") && !group.has(&"c"));
    }

    #[test]
    fn the_waiter_with_the_latest_deadline_takes_over() {
        let group = SingleFlight::new();
        let leader = lead(&group, "a");
        let mut short = pin!(wait(&group, "a", 1));
        let mut long = pin!(wait(&group, "a", 3));
        let mut later = pin!(wait(&group, "a", 3));
        for waiter in [short.as_mut(), long.as_mut(), later.as_mut()] {
            assert!(is_pending(waiter));
        }
        drop(leader);
        // Only the promoted waiter is woken. A request that comes now waits for it, whatever its deadline.
        assert_eq!(woken(&group, "a"), [1]);
        let mut last = pin!(wait(&group, "a", 4));
        assert!(is_pending(last.as_mut()) && is_pending(short.as_mut()) && is_pending(later.as_mut()));
        let leader = promoted(long.as_mut());
        assert!(is_pending(short.as_mut()) && is_pending(later.as_mut()));
        assert_eq!(leader.finish(Ok(7)), Ok(7));
        for waiter in [short.as_mut(), later.as_mut(), last.as_mut()] {
            assert_eq!(shared(waiter), Ok(7));
        }
    }

    #[test]
    fn a_local_failure_is_not_shared_and_another_one_is() {
        for (is_local, is_shared) in [(true, false), (false, true)] {
            let group = SingleFlight::new();
            let leader = lead(&group, "a");
            let mut waiter = pin!(wait(&group, "a", 1));
            assert!(is_pending(waiter.as_mut()));
            let failure = Failure { error: Error::VaultUnusable, is_local };
            assert_eq!(leader.finish(Err(failure.clone())), Err(failure.clone()));
            if is_shared {
                assert_eq!(shared(waiter.as_mut()), Err(failure));
            } else {
                drop(promoted(waiter.as_mut()));
            }
            assert!(!group.has(&"a"));
        }
    }

    #[test]
    fn a_promoted_waiter_that_is_dropped_promotes_the_next() {
        let group = SingleFlight::new();
        let leader = lead(&group, "a");
        let mut next = pin!(wait(&group, "a", 1));
        let mut first = Box::pin(wait(&group, "a", 2));
        assert!(is_pending(next.as_mut()) && is_pending(first.as_mut()));
        drop(leader);
        let mut newcomer = pin!(wait(&group, "a", 3));
        assert!(is_pending(newcomer.as_mut()));
        drop(first);
        assert!(is_pending(next.as_mut()));
        drop(promoted(newcomer.as_mut()));
        drop(promoted(next.as_mut()));
        assert!(!group.has(&"a"));
    }

    #[test]
    fn the_last_waiter_that_is_dropped_ends_the_call() {
        let group = SingleFlight::new();
        let leader = lead(&group, "a");
        let waiter = wait(&group, "a", 1);
        drop(leader);
        assert!(group.has(&"a"));
        drop(waiter);
        assert!(!group.has(&"a"));
    }

    #[test]
    fn a_waiter_that_polls_too_late_misses_nothing() {
        let group = SingleFlight::new();
        let leader = lead(&group, "a");
        let mut waiter = pin!(wait(&group, "a", 1));
        let _ = leader.finish(Ok(7));
        assert_eq!(shared(waiter.as_mut()), Ok(7));

        let leader = lead(&group, "a");
        let mut waiter = pin!(wait(&group, "a", 1));
        drop(leader);
        drop(promoted(waiter.as_mut()));
    }

    type Key = &'static str;

    fn lead<'a>(group: &'a SingleFlight<Key, u8>, key: Key) -> Leader<'a, Key, u8> {
        match group.join(&key, at(0), at(0)) {
            Joined::Leader(leader) => leader,
            Joined::Waiter(_) => panic!("a call for {key} is in flight"),
        }
    }

    fn wait<'a>(
        group: &'a SingleFlight<Key, u8>,
        key: Key,
        until: u64,
    ) -> impl Future<Output = Outcome<'a, Key, u8>> {
        let waiter = group.waiter(&key, at(until)).unwrap_or_else(|| panic!("no call for {key}"));
        waiter.wait(|| {
            let held = Rc::new(());
            let watched = Rc::downgrade(&held);
            let dropped = move |_: &mut Context<'_>| match watched.strong_count() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            };
            (Signal::new(held), poll_fn(dropped))
        })
    }

    /// The ids of the waiters whose signals were dropped.
    fn woken(group: &SingleFlight<Key, u8>, key: Key) -> Vec<u64> {
        let call = group.call(&key).unwrap_or_else(|| panic!("no call for {key}"));
        let waiters = call.waiters.borrow();
        waiters.iter().filter(|waiting| waiting.signal.is_none()).map(|waiting| waiting.id).collect()
    }

    fn is_pending(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn shared<'a>(future: Pin<&mut impl Future<Output = Outcome<'a, Key, u8>>>) -> Result<u8, Failure> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Outcome::Shared(result)) => result,
            outcome => panic!("{outcome:?}"),
        }
    }

    fn promoted<'a>(future: Pin<&mut impl Future<Output = Outcome<'a, Key, u8>>>) -> Leader<'a, Key, u8> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Outcome::Promoted(leader)) => leader,
            outcome => panic!("{outcome:?}"),
        }
    }

    const fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }
}
