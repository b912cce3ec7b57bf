//! Runs futures one at a time, in virtual time and in an order that the seed decides.
//!
//! A task is polled only after a wake-up. A missing wake-up leaves its task pending, which fails the run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fastrand::Rng;
use futures_channel::oneshot;

/// The number of a task.
pub type Task = u64;

/// The executor and its clock.
#[derive(Default)]
pub struct Executor {
    now: Cell<Duration>,
    next_number: Cell<u64>,
    current: Cell<Option<Task>>,
    clock_reads: Cell<u64>,
    /// The tasks that have not ended; `None` for the one that is being polled.
    tasks: RefCell<BTreeMap<Task, Option<Work>>>,
    ready: Arc<Mutex<Vec<Task>>>,
    timers: RefCell<BTreeMap<(Duration, u64), oneshot::Sender<()>>>,
    random: RefCell<Rng>,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

impl Executor {
    /// Creates an executor at time zero.
    pub fn new(seed: u64) -> Self {
        Self { random: RefCell::new(Rng::with_seed(seed)), ..Self::default() }
    }

    pub fn now(&self) -> Duration {
        self.now.get()
    }

    /// Counts a read of the clock. Returns the number of reads since the last step.
    pub fn count_clock_read(&self) -> u64 {
        let reads = self.clock_reads.get() + 1;
        self.clock_reads.set(reads);
        reads
    }

    pub fn current(&self) -> Option<Task> {
        self.current.get()
    }

    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Task {
        let task = self.number();
        self.tasks.borrow_mut().insert(task, Some(Box::pin(future)));
        lock(&self.ready).push(task);
        task
    }

    /// Drops a task in any state. Returns false if it had ended.
    pub fn cancel(&self, task: Task) -> bool {
        // Dropping the future may wake other tasks, so nothing is borrowed at that point.
        let future = self.tasks.borrow_mut().remove(&task);
        future.is_some()
    }

    /// Counts the tasks and the sleeps that have not ended.
    pub fn pending(&self) -> (usize, usize) {
        let timers = self.timers.borrow();
        (self.tasks.borrow().len(), timers.values().filter(|timer| !timer.is_canceled()).count())
    }

    pub async fn sleep(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let (timer, elapsed) = oneshot::channel();
        self.timers.borrow_mut().insert((self.now().saturating_add(time), self.number()), timer);
        elapsed.await.unwrap_or_default();
    }

    /// Polls one ready task, or advances the clock to the next timer. Returns false if there is neither.
    pub fn step(&self) -> bool {
        self.clock_reads.set(0);
        let task = {
            let mut ready = lock(&self.ready);
            if ready.is_empty() {
                drop(ready);
                return self.advance();
            }
            let index = self.random.borrow_mut().usize(..ready.len());
            ready.swap_remove(index)
        };
        let Some(mut future) = self.tasks.borrow_mut().get_mut(&task).and_then(Option::take) else {
            return true;
        };
        let waker = Waker::from(Arc::new(TaskWaker { task, ready: Arc::clone(&self.ready) }));
        self.current.set(Some(task));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        self.current.set(None);
        match polled {
            // Dropping the future may wake other tasks, so nothing is borrowed here.
            Poll::Ready(()) => drop(self.tasks.borrow_mut().remove(&task)),
            Poll::Pending => {
                if let Some(place) = self.tasks.borrow_mut().get_mut(&task) {
                    *place = Some(future);
                }
            }
        }
        true
    }

    fn advance(&self) -> bool {
        let mut timers = self.timers.borrow_mut();
        while let Some(((moment, _), timer)) = timers.pop_first() {
            // The timer of a cancelled sleep does not move the clock.
            if !timer.is_canceled() {
                self.now.set(moment);
                return timer.send(()).is_ok();
            }
        }
        false
    }

    fn number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }
}

struct TaskWaker {
    task: Task,
    ready: Arc<Mutex<Vec<Task>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = lock(&self.ready);
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

fn lock(ready: &Mutex<Vec<Task>>) -> MutexGuard<'_, Vec<Task>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}
