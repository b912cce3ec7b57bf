//! Runs futures one at a time, in virtual time and in an order that the seed decides.
//!
//! Nothing here is polled unless it was woken, so a wake-up that is missing leaves a task behind, and that is noticed.

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use fastrand::Rng;

/// A task, by number.
pub type Task = u64;

/// The executor and its clock. Clones are the same executor.
#[derive(Clone)]
pub struct Executor(Rc<Inner>);

type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Inner {
    now: Cell<Duration>,
    next: Cell<u64>,
    current: Cell<Option<Task>>,
    looks: Cell<u64>,
    /// Those that have not ended; none in the place of the one that is being polled.
    tasks: RefCell<BTreeMap<Task, Option<Work>>>,
    ready: Arc<Mutex<Vec<Task>>>,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    random: RefCell<Rng>,
}

impl Executor {
    /// An executor at the time zero.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            now: Cell::new(Duration::ZERO),
            next: Cell::new(0),
            current: Cell::new(None),
            looks: Cell::new(0),
            tasks: RefCell::new(BTreeMap::new()),
            ready: Arc::default(),
            timers: RefCell::new(BTreeMap::new()),
            random: RefCell::new(Rng::with_seed(seed)),
        }))
    }

    pub fn now(&self) -> Duration {
        self.0.now.get()
    }

    /// Notes that a task looks at the clock. How often one has since the last step.
    pub fn look(&self) -> u64 {
        let looks = self.0.looks.get() + 1;
        self.0.looks.set(looks);
        looks
    }

    pub fn current(&self) -> Option<Task> {
        self.0.current.get()
    }

    pub fn random(&self) -> u64 {
        self.0.random.borrow_mut().u64(..)
    }

    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Task {
        let task = self.number();
        self.0.tasks.borrow_mut().insert(task, Some(Box::pin(future)));
        lock(&self.0.ready).push(task);
        task
    }

    /// Drops a task, whatever it is doing. False if it had ended.
    pub fn cancel(&self, task: Task) -> bool {
        // The future may drop what wakes others, so nothing is borrowed when it is dropped.
        let future = self.0.tasks.borrow_mut().remove(&task);
        future.is_some()
    }

    /// How many tasks and how many sleepers there are.
    pub fn left(&self) -> (usize, usize) {
        (self.0.tasks.borrow().len(), self.0.timers.borrow().len())
    }

    pub fn sleep(&self, time: Duration) -> Sleep {
        Sleep { inner: Rc::clone(&self.0), key: (self.now().saturating_add(time), self.number()) }
    }

    /// Polls one task that is ready, or goes on to the next moment at which one will be. False if there is none.
    pub fn step(&self) -> bool {
        self.0.looks.set(0);
        let task = {
            let mut ready = lock(&self.0.ready);
            if ready.is_empty() {
                drop(ready);
                return self.next_moment();
            }
            let index = self.0.random.borrow_mut().usize(..ready.len());
            ready.swap_remove(index)
        };
        let Some(mut future) = self.0.tasks.borrow_mut().get_mut(&task).and_then(Option::take) else {
            return true;
        };
        let waker = Waker::from(Arc::new(Wakes { task, ready: Arc::clone(&self.0.ready) }));
        self.0.current.set(Some(task));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        self.0.current.set(None);
        match polled {
            // The future may drop what wakes others, so nothing is borrowed here.
            Poll::Ready(()) => drop(self.0.tasks.borrow_mut().remove(&task)),
            Poll::Pending => {
                if let Some(place) = self.0.tasks.borrow_mut().get_mut(&task) {
                    *place = Some(future);
                }
            }
        }
        true
    }

    fn next_moment(&self) -> bool {
        let Some(((moment, _), waker)) = self.0.timers.borrow_mut().pop_first() else { return false };
        self.0.now.set(moment.max(self.now()));
        waker.wake();
        true
    }

    fn number(&self) -> u64 {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        number
    }
}

/// A wait in virtual time.
pub struct Sleep {
    inner: Rc<Inner>,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.now.get() >= self.key.0 {
            return Poll::Ready(());
        }
        self.inner.timers.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.inner.timers.borrow_mut().remove(&self.key);
    }
}

struct Wakes {
    task: Task,
    ready: Arc<Mutex<Vec<Task>>>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let mut ready = lock(&self.ready);
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

fn lock(ready: &Mutex<Vec<Task>>) -> std::sync::MutexGuard<'_, Vec<Task>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}
