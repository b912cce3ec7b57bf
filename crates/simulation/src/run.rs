//! Plays a plan, from the first request until the gateway has recovered from the last fault.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::checks::{Counts, RECOVERY};
use crate::fleet::Fleet;
use crate::plan::{Change, Plan, plain_request};

#[derive(Debug)]
pub struct Outcome {
    /// A hash of all events, equal for two runs only if they are the same.
    pub digest: u64,
    pub counts: Counts,
    /// The violated invariant, with the events before it.
    pub violation: Option<String>,
}

/// Plays the plan of each seed. Returns the counts of all events, or the first violation.
pub fn run(seeds: Range<u64>, draw: impl Fn(u64) -> Plan) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for seed in seeds {
        let outcome = play(&draw(seed), seed);
        if let Some(violation) = outcome.violation {
            return Err(format!("{violation}\nseed {seed}"));
        }
        outcome.counts.into_iter().for_each(|(event, count)| *counts.entry(event).or_default() += count);
    }
    Ok(counts)
}

/// Plays a plan. The seed decides everything that the plan leaves open.
pub fn play(plan: &Plan, seed: u64) -> Outcome {
    let fleet = Fleet::new(plan, seed);
    let environment = Rc::clone(&fleet.environment);

    let owner = Rc::clone(&fleet);
    let changes = plan.changes.clone();
    let faults_end = plan.faults_end;
    environment.executor.spawn(async move {
        for (at, change) in changes {
            wait_until(&owner, at).await;
            owner.environment.azure.borrow_mut().change(change);
            if change == Change::RecycleInstances {
                owner.recycle();
            }
        }
        wait_until(&owner, faults_end).await;
        owner.environment.azure.borrow_mut().end_faults();
    });

    let requests = plan.requests.clone();
    let (secrets, deadline) = (plan.secrets, Duration::from_secs(plan.deadline));
    environment.executor.spawn(async move {
        for request in requests {
            wait_until(&fleet, request.at).await;
            fleet.send(request);
        }
        // One request at a time, because the first may close the circuit breaker.
        for secret in (0..secrets).chain(0..secrets) {
            let at = (faults_end + RECOVERY).max(fleet.environment.executor.now() + deadline);
            wait_until(&fleet, at).await;
            fleet.send(plain_request(secret, at));
        }
    });

    let failed = || environment.checks.borrow().violation().is_some();
    let mut steps = 0;
    while steps < MOST_STEPS && !failed() {
        match catch_unwind(AssertUnwindSafe(|| environment.executor.step())) {
            Ok(true) => steps += 1,
            Ok(false) => break,
            // The checks have recorded the violation. This panic ended its task.
            Err(_) if failed() => break,
            Err(panic) => resume_unwind(panic),
        }
    }
    let (tasks, sleeps) = environment.executor.pending();
    let mut checks = environment.checks.borrow_mut();
    checks.run_ended(tasks, sleeps);
    Outcome { digest: checks.digest, counts: checks.counts.clone(), violation: checks.violation() }
}

/// More steps than any run that ends: the largest runs take some hundred thousand.
const MOST_STEPS: u64 = 5_000_000;

async fn wait_until(fleet: &Fleet, moment: Duration) {
    let executor = &fleet.environment.executor;
    executor.sleep(moment.saturating_sub(executor.now())).await;
}
