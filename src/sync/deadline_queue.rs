//! The deadlines of all waits of one instance, with one timer of the host for all of them.
//!
//! A timer for each wait is expensive: the host makes a task of it and takes that back, nearly always before
//! it fires. A warm read waits twice, for the request and for its answer to be taken, and two timers were a
//! quarter of its work. Here each wait leaves its deadline and a signal, and one task, the watcher, looks now
//! and then which deadlines have passed. The queue only decides; its caller waits, drops the signals, and
//! runs the watcher.

use std::time::Duration;

use crate::model::Moment;

/// The waits of one instance, by deadline. Dropping the signal `S` of a wait wakes it.
#[derive(Debug)]
pub struct DeadlineQueue<S> {
    /// The earliest first. New deadlines are mostly the latest, so that a list in order is a good queue.
    waits: Vec<Wait<S>>,
    next_id: u64,
    /// When the watcher looks again, if one is running.
    next_look: Option<Moment>,
}

#[derive(Debug)]
struct Wait<S> {
    id: WaitId,
    deadline: Moment,
    signal: S,
}

/// What tells a wait from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitId(u64);

/// What the watcher does at one of its looks.
#[derive(Debug, PartialEq, Eq)]
pub struct Look<S> {
    /// The signals of the waits whose deadlines have passed, the earliest first: drop them when nothing is
    /// borrowed.
    pub passed: Vec<S>,
    /// When to look again. `None` if no wait is left: the watcher ends.
    pub next: Option<Moment>,
}

impl<S> DeadlineQueue<S> {
    pub const fn new() -> Self {
        Self { waits: Vec::new(), next_id: 0, next_look: None }
    }

    /// Says whether a wait until `deadline` needs a timer of its own, because the watcher looks later.
    /// Without it the wait would end late.
    pub fn needs_own_timer(&self, deadline: Moment) -> bool {
        self.next_look.is_some_and(|next_look| deadline < next_look)
    }

    /// Adds a wait until `deadline`.
    pub fn add(&mut self, deadline: Moment, signal: S) -> WaitId {
        let id = WaitId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let index = self.waits.partition_point(|wait| wait.deadline <= deadline);
        self.waits.insert(index, Wait { id, deadline, signal });
        id
    }

    /// Removes a wait that has ended. Returns its signal if its deadline has not passed: drop it when nothing
    /// is borrowed.
    pub fn remove(&mut self, id: WaitId) -> Option<S> {
        let index = self.waits.iter().position(|wait| wait.id == id)?;
        Some(self.waits.remove(index).signal)
    }

    /// Says whether the caller has to start the watcher, which has not looked yet then.
    pub const fn start_watcher(&mut self) -> bool {
        let starts = self.next_look.is_none();
        if starts {
            self.next_look = Some(Moment::EARLIEST);
        }
        starts
    }

    /// Looks at `now`, for the watcher, which does so at once when it starts and then at each [`Look::next`].
    pub fn look(&mut self, now: Moment) -> Look<S> {
        let count = self.waits.partition_point(|wait| wait.deadline <= now);
        let passed = self.waits.drain(..count).map(|wait| wait.signal).collect();
        self.next_look = self.waits.first().map(|wait| wait.deadline.min(now.plus(LOOK_INTERVAL)));
        Look { passed, next: self.next_look }
    }

    /// Notes that the watcher has ended, perhaps before its first look: the request that ran it may have been
    /// cancelled. Returns the signals of all waits: drop them when nothing is borrowed. Each wait is then
    /// added again, and the first one starts a new watcher.
    pub fn watcher_gone(&mut self) -> Vec<S> {
        self.next_look = None;
        self.waits.drain(..).map(|wait| wait.signal).collect()
    }
}

impl<S> Default for DeadlineQueue<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// How often the watcher looks. The task that runs it outlives its answer until this long after the last wait
/// has ended. A wait that ends sooner has a timer of its own, so that none ends late.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_ends_the_waits_whose_deadlines_have_passed() {
        for (deadlines, now, passed, next) in [
            (&[][..], 0, &[][..], None),
            (&[100], 0, &[], Some(100)),
            (&[100], 99, &[], Some(100)),
            (&[100], 100, &[100], None),
            (&[300, 100, 200], 200, &[100, 200], Some(300)),
            (&[100, 100], 100, &[100, 100], None),
            (&[1000], 0, &[], Some(250)),
            (&[1000, 9000], 900, &[], Some(1000)),
            (&[1000, 9000], 1000, &[1000], Some(1250)),
        ] {
            let mut queue = DeadlineQueue::new();
            for deadline in deadlines {
                queue.add(at(*deadline), *deadline);
            }
            let look = Look { passed: passed.to_vec(), next: next.map(at) };
            assert_eq!(queue.look(at(now)), look, "{deadlines:?} at {now}");
        }
    }

    #[test]
    fn a_wait_that_ends_before_the_next_look_needs_a_timer_of_its_own() {
        for (deadline, own_timer) in [(1249, true), (1250, false), (1251, false)] {
            let mut queue = DeadlineQueue::new();
            assert!(!queue.needs_own_timer(at(deadline)), "without a watcher");
            queue.add(at(9000), ());
            queue.look(at(1000));
            assert_eq!(queue.needs_own_timer(at(deadline)), own_timer, "{deadline}");
        }
    }

    #[test]
    fn one_watcher_runs_while_there_are_waits() {
        let mut queue = DeadlineQueue::new();
        let wait = queue.add(at(100), "first");
        assert!(queue.start_watcher());
        queue.add(at(200), "second");
        assert!(!queue.start_watcher());
        assert_eq!(queue.look(at(0)), Look { passed: vec![], next: Some(at(100)) });
        assert_eq!((queue.remove(wait), queue.remove(wait)), (Some("first"), None));
        assert_eq!(queue.look(at(100)), Look { passed: vec![], next: Some(at(200)) });
        assert_eq!(queue.look(at(200)), Look { passed: vec!["second"], next: None });
        assert!(queue.start_watcher());
    }

    #[test]
    fn waits_survive_the_end_of_their_watcher() {
        for looked in [false, true] {
            let mut queue = DeadlineQueue::new();
            let (first, second) = (queue.add(at(500), "first"), queue.add(at(400), "second"));
            assert!(queue.start_watcher());
            if looked {
                queue.look(at(0));
            }
            assert_eq!(queue.watcher_gone(), ["second", "first"]);
            assert_eq!((queue.remove(first), queue.remove(second)), (None, None));
            assert!(!queue.needs_own_timer(at(1)));
            queue.add(at(500), "first");
            assert!(queue.start_watcher());
            assert_eq!(queue.look(at(50)), Look { passed: vec![], next: Some(at(300)) });
        }
    }

    #[test]
    fn waits_with_one_deadline_are_told_apart() {
        let mut queue = DeadlineQueue::new();
        let (first, second) = (queue.add(at(100), "first"), queue.add(at(100), "second"));
        assert_ne!(first, second);
        assert_eq!(queue.remove(first), Some("first"));
        assert_eq!(queue.look(at(100)).passed, ["second"]);
        assert_eq!(queue.remove(second), None);
    }

    /// Waits that begin every 7 ms and last up to a second, each of which the watcher or a timer of its own
    /// ends on time.
    #[test]
    fn no_wait_ends_late() {
        let mut queue = DeadlineQueue::new();
        let mut next_look = None;
        let mut ended = 0;
        for now in 0..5000 {
            if next_look == Some(at(now)) {
                let look = queue.look(at(now));
                assert!(look.passed.iter().all(|deadline| *deadline == now), "{:?} at {now}", look.passed);
                ended += look.passed.len();
                next_look = look.next;
            }
            let deadline = now + 1 + now * 31 % 1000;
            if now % 7 == 0 && now < 3000 {
                if queue.needs_own_timer(at(deadline)) {
                    ended += 1;
                } else {
                    queue.add(at(deadline), deadline);
                    if queue.start_watcher() {
                        next_look = queue.look(at(now)).next;
                    }
                }
            }
        }
        assert_eq!((ended, next_look), (3000_usize.div_ceil(7), None));
    }

    const fn at(milliseconds: u64) -> Moment {
        Moment::after_start(Duration::from_millis(milliseconds))
    }
}
