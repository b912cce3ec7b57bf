//! How many calls a fleet makes when all is well: a model, and the simulation that it is held against.
//!
//! Requests come to each instance at random (a Poisson process), for each secret as often as for any other. A value is read
//! when the first request comes after its time, which under WASI 0.3 is already in the last tenth of its TTL. So the reads
//! of one secret in one instance are a renewal process whose steps take `c` and then the time to the next request, with `c`
//! nine tenths of the TTL, or all of it under WASI 0.2. An instance that is gone after `K` requests begins anew.

use core::time::Duration;

use fastrand::Rng;

use crate::fleet::Fleet;
use crate::plan::ordinary;
use crate::plan::{HostPlan, Plan};

/// A fleet, per instance.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Requests that come to an instance in a second.
    pub rate: f64,
    /// How many secrets are asked for.
    pub secrets: usize,
    /// `GATEWAY_CACHE_TTL_SECONDS`.
    pub ttl: u64,
    /// After how many requests an instance is gone, if it is.
    pub reuse: Option<usize>,
    /// Whether the host is one of WASI 0.3, where values are renewed ahead.
    pub ahead: bool,
}

/// Calls of an instance in a second: to the vault, and for tokens.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    pub vault: f64,
    pub token: f64,
}

impl Case {
    /// What the model says of an instance in the long run.
    pub fn model(&self) -> Calls {
        match self.reuse {
            None => {
                let secrets = self.secrets as f64;
                Calls { vault: secrets / (self.step() + secrets / self.rate), token: 0.0 }
            }
            Some(reuse) => self.model_of_life(reuse as f64 / self.rate),
        }
    }

    /// What it says of the first `time` of an instance that lives on, which begins with nothing in memory.
    pub fn model_from_start(&self, time: Duration) -> Calls {
        match self.reuse {
            None => self.model_of_life(time.as_secs_f64()),
            Some(_) => self.model(),
        }
    }

    fn model_of_life(&self, life: f64) -> Calls {
        let rate = self.rate / self.secrets as f64;
        let (mut reads, mut steps) = (0.0, 0_u32);
        // The chance of one more read within the life of an instance.
        while self.step() * f64::from(steps) < life {
            reads += at_least(steps + 1, rate * (life - self.step() * f64::from(steps)));
            steps += 1;
        }
        Calls { vault: self.secrets as f64 * reads / life, token: 1.0 / life }
    }

    /// The time from a read to the moment from which the next request reads again, in seconds.
    fn step(&self) -> f64 {
        self.ttl as f64 * if self.ahead { 0.9 } else { 1.0 }
    }

    /// What `instances` of the real core do in `time`.
    pub fn simulate(&self, instances: u64, time: Duration) -> Calls {
        let mut calls = (0, 0);
        for seed in 0..instances {
            let plan = self.plan();
            let fleet = Fleet::new(&plan, seed);
            let mut random = Rng::with_seed(seed ^ 0xF1EE7);
            let (asking, case) = (fleet.clone(), *self);
            fleet.executor.spawn(async move {
                loop {
                    let pause = -(1.0 - random.f64()).ln() / case.rate;
                    asking.executor.sleep(Duration::from_secs_f64(pause)).await;
                    if asking.executor.now() > time {
                        return;
                    }
                    asking.ask(ordinary(random.usize(..case.secrets), asking.executor.now()));
                }
            });
            while fleet.executor.step() {}
            let (token, vault) = fleet.checks.borrow().calls();
            assert_eq!(fleet.checks.borrow().violation(), None);
            calls = (calls.0 + token, calls.1 + vault);
        }
        let seconds = time.as_secs_f64() * instances as f64;
        Calls { vault: calls.1 as f64 / seconds, token: calls.0 as f64 / seconds }
    }

    fn plan(&self) -> Plan {
        Plan {
            ttl: self.ttl,
            stale: 3600,
            negative: 10,
            entries: 1000,
            deadline: 10,
            imds: true,
            host: HostPlan {
                concurrent: if self.ahead { 1000 } else { 1 },
                reuse: self.reuse.unwrap_or(usize::MAX),
                idle: Duration::MAX,
            },
            secrets: self.secrets,
            token_life: 86_400,
            rate: 0,
            capacity: None,
            undisturbed: false,
            refresh_in: false,
            latency: 1,
            faults: Vec::new(),
            bearers: false,
            changes: Vec::new(),
            load: Vec::new(),
            healed: Duration::ZERO,
            recovery: Duration::ZERO,
        }
    }
}

/// The chance that at least `count` requests come where `expected` are to be expected.
fn at_least(count: u32, expected: f64) -> f64 {
    let mut term = (-expected).exp();
    let mut fewer = 0.0;
    for number in 0..count {
        fewer += term;
        term *= expected / f64::from(number + 1);
    }
    (1.0 - fewer).max(0.0)
}

/// The cases of the table: what hosts do by default, and what they may be told.
pub const CASES: [(&str, Case); 6] = [
    ("0.3, long life, busy", Case { rate: 10.0, secrets: 20, ttl: 300, reuse: None, ahead: true }),
    ("0.3, long life, quiet", Case { rate: 0.1, secrets: 20, ttl: 300, reuse: None, ahead: true }),
    ("0.2, long life, one a second", Case { rate: 1.0, secrets: 20, ttl: 300, reuse: None, ahead: false }),
    ("0.3, 128 requests, busy", Case { rate: 10.0, secrets: 20, ttl: 300, reuse: Some(128), ahead: true }),
    (
        "0.3, 10,000 requests, busy",
        Case { rate: 10.0, secrets: 20, ttl: 300, reuse: Some(10_000), ahead: true },
    ),
    ("0.2, one request", Case { rate: 0.2, secrets: 20, ttl: 300, reuse: Some(1), ahead: false }),
];
