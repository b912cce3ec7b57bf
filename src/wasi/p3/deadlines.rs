//! Waits with a deadline: the core's [`DeadlineQueue`] decides, and this waits and runs its watcher.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use super::stream_signal;
use crate::host::unless;
use crate::model::Moment;
use crate::sync::deadline_queue::{DeadlineQueue, WaitId};
use crate::wasi::bindings::clocks::monotonic_clock;
use crate::wasi::bindings::spawn;
use crate::wasi::bindings::wit_bindgen::{StreamWriter, yield_async};
use crate::wasi::{nanoseconds, now};

thread_local! {
    static QUEUE: RefCell<DeadlineQueue<StreamWriter<u8>>> = const { RefCell::new(DeadlineQueue::new()) };
}

/// Awaits `future` until `deadline`, then drops it. A future that is ready costs no wait.
pub(super) async fn until<T>(deadline: Moment, future: impl Future<Output = T>) -> Option<T> {
    unless(wait(deadline), future).await
}

/// Awaits `future` for at most `limit`, then drops it.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    until(now().plus(limit), future).await
}

/// Waits until `deadline`. If the watcher goes away before that, this waits anew.
async fn wait(deadline: Moment) {
    loop {
        if QUEUE.with_borrow(|queue| queue.needs_own_timer(deadline)) {
            return monotonic_clock::wait_until(nanoseconds(deadline.from_start())).await;
        }
        let (signal, ended) = stream_signal();
        let _wait = Wait(QUEUE.with_borrow_mut(|queue| queue.add(deadline, signal)));
        if QUEUE.with_borrow_mut(DeadlineQueue::start_watcher) {
            spawn(watch(Watcher));
            // A spawned future is polled only when its task goes on.
            yield_async().await;
        }
        ended.await;
        if now() >= deadline {
            return;
        }
    }
}

/// Wakes the waits whose deadlines have passed, as long as there are waits.
async fn watch(watcher: Watcher) {
    loop {
        let look = QUEUE.with_borrow_mut(|queue| queue.look(now()));
        drop(look.passed);
        let Some(next) = look.next else { break };
        monotonic_clock::wait_until(nanoseconds(next.from_start())).await;
    }
    drop(watcher);
}

/// A wait in the queue, removed when this is dropped.
struct Wait(WaitId);

impl Drop for Wait {
    fn drop(&mut self) {
        drop(QUEUE.with_borrow_mut(|queue| queue.remove(self.0)));
    }
}

/// The running watcher. It may be dropped before its end, even before its first look.
struct Watcher;

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(QUEUE.with_borrow_mut(DeadlineQueue::watcher_gone));
    }
}
