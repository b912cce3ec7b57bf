//! One run: everything that a seed draws, from the first request to the last, and then the time after the world has healed.

use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::checks::RECOVERY;
use crate::fleet::Fleet;
use crate::plan::{Change, Plan, ordinary};

#[derive(Debug)]
pub struct Outcome {
    /// A number that two runs have in common only if they were the same.
    pub digest: u64,
    /// How often interesting things have happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// The invariant that was violated, with what went before.
    pub violation: Option<String>,
}

/// Runs what `seed` draws.
pub fn run(seed: u64) -> Outcome {
    play(&Plan::draw(seed), seed)
}

/// Runs `plan`; what it leaves to chance is drawn from `seed`.
pub fn play(plan: &Plan, seed: u64) -> Outcome {
    let fleet = Fleet::new(plan, seed);
    let executor = fleet.executor.clone();

    let changing = Rc::clone(&fleet);
    let changes = plan.changes.clone();
    let healed = plan.healed;
    executor.spawn(async move {
        for (at, change) in changes {
            wait_until(&changing, at).await;
            changing.world.borrow_mut().change(change);
            if change == Change::Recycle {
                changing.recycle();
            }
        }
        wait_until(&changing, healed).await;
        changing.world.borrow_mut().heal();
    });

    let asking = Rc::clone(&fleet);
    let load = plan.load.clone();
    let (secrets, deadline) = (plan.secrets, Duration::from_secs(plan.deadline));
    executor.spawn(async move {
        for ask in load {
            wait_until(&asking, ask.at).await;
            asking.ask(ask);
        }
        // One after the other, as the first of them may find that Azure is well again.
        for secret in (0..secrets).chain(0..secrets) {
            let at = (healed + RECOVERY).max(asking.executor.now() + deadline);
            wait_until(&asking, at).await;
            asking.ask(ordinary(secret, at));
        }
    });

    let mut steps = 0;
    while steps < MOST_STEPS && !fleet.checks.borrow().failed() {
        match catch_unwind(AssertUnwindSafe(|| executor.step())) {
            Ok(true) => steps += 1,
            Ok(false) => break,
            // What was found has been noted, and could be ended in no other way.
            Err(_) if fleet.checks.borrow().failed() => break,
            Err(panic) => resume_unwind(panic),
        }
    }
    let (tasks, sleepers) = executor.left();
    let mut checks = fleet.checks.borrow_mut();
    if !checks.failed() {
        checks.over(tasks, sleepers);
    }
    Outcome { digest: checks.digest, counts: checks.counts().clone(), violation: checks.violation() }
}

/// The largest runs take some hundred thousand. Who needs more runs in a circle.
const MOST_STEPS: u64 = 5_000_000;

async fn wait_until(fleet: &Fleet, moment: Duration) {
    let left = moment.saturating_sub(fleet.executor.now());
    if !left.is_zero() {
        fleet.executor.sleep(left).await;
    }
}
