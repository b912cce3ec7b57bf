//! Ends what takes too long, with one timer of the host for all who wait.
//!
//! A timer of its own for each wait is dear: the host makes a task of it and takes that back, nearly always before it rings.
//! A warm read waits twice, for the request and for its answer to be taken, and did a quarter of its work for two timers. So
//! whoever waits leaves its end here, and one of them looks now and then whose time is over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use wasip3::clocks::monotonic_clock;
use wasip3::spawn;
use wasip3::wit_bindgen::{StreamWriter, yield_async};

use super::super::nanoseconds;
use super::{now, signal};
use crate::model::Moment;

/// What `future` comes to, unless it takes until `end`; then it is dropped.
pub(super) async fn until<T>(end: Moment, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    // What is ready is not waited for, and nobody has to look after it.
    if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        return Some(output);
    }
    loop {
        let mut rung = pin!(ring(end));
        let output = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => rung.as_mut().poll(context).map(|()| None),
        });
        if let Some(output) = output.await {
            return Some(output);
        }
        // Before the end it only means that whoever looked has gone.
        if now() >= end {
            return None;
        }
    }
}

/// What `future` comes to, unless it takes longer than `limit`; then it is dropped.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    until(now().plus(limit), future).await
}

/// Waits until `end`, or until whoever looks after it has gone.
async fn ring(end: Moment) {
    let next_look = WAITING.with_borrow(|it| it.next_look);
    if next_look.is_some_and(|it| end < it) {
        // Sooner than anybody looks.
        return monotonic_clock::wait_until(nanoseconds(end.from_start())).await;
    }
    let (writer, rung) = signal();
    let _waiter = Waiter::at(end, writer);
    if next_look.is_none() {
        WAITING.with_borrow_mut(|it| it.next_look = Some(now()));
        spawn(look(Watch));
        // What is spawned has its turn only when its task goes on.
        yield_async().await;
    }
    rung.await;
}

/// Looks whose time is over, as long as anybody waits. When this is dropped before its time, be it before it began, `watch` tells
/// those who wait, and one of them looks in its place.
async fn look(watch: Watch) {
    while let Some(earliest) = WAITING.with_borrow(Waiting::earliest) {
        let next = earliest.min(now().plus(LOOK_EVERY));
        WAITING.with_borrow_mut(|it| it.next_look = Some(next));
        monotonic_clock::wait_until(nanoseconds(next.from_start())).await;
        let now = now();
        let over = WAITING.with_borrow_mut(|it| it.over_at(now));
        drop(over);
    }
    drop(watch);
}

/// Those who wait.
struct Waiting {
    /// By the end of each; dropping a signal wakes who waits for it.
    signals: BTreeMap<(Moment, u64), StreamWriter<u8>>,
    number: u64,
    /// When somebody looks again, if somebody does.
    next_look: Option<Moment>,
}

thread_local! {
    static WAITING: RefCell<Waiting> =
        const { RefCell::new(Waiting { signals: BTreeMap::new(), number: 0, next_look: None }) };
}

impl Waiting {
    fn earliest(&self) -> Option<Moment> {
        self.signals.first_key_value().map(|it| it.0.0)
    }

    /// The signals of those whose time is over at `now`.
    fn over_at(&mut self, now: Moment) -> Vec<StreamWriter<u8>> {
        let mut over = Vec::new();
        while let Some(entry) = self.signals.first_entry().filter(|it| it.key().0 <= now) {
            over.push(entry.remove());
        }
        over
    }
}

/// A place among those who wait, given up when this is dropped.
struct Waiter(Moment, u64);

impl Waiter {
    fn at(end: Moment, signal: StreamWriter<u8>) -> Self {
        WAITING.with_borrow_mut(|it| {
            it.number = it.number.wrapping_add(1);
            it.signals.insert((end, it.number), signal);
            Self(end, it.number)
        })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        drop(WAITING.with_borrow_mut(|it| it.signals.remove(&(self.0, self.1))));
    }
}

/// Stands for somebody who looks.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        let left = WAITING.with_borrow_mut(|it| {
            it.next_look = None;
            std::mem::take(&mut it.signals)
        });
        drop(left);
    }
}

/// How often somebody looks. Whoever does outlives its answer, until this long after nobody waits any more. An end that is
/// sooner has a timer of its own, so that none is late.
const LOOK_EVERY: Duration = Duration::from_millis(250);
