//! A fleet of instances of the real gateway, on a host that treats them as its plan says.

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::time::Duration;
use std::panic::resume_unwind;
use std::rc::Rc;

use futures_channel::oneshot;
use http::Method;
use keyvault_gateway::azure::{Answer, Call};
use keyvault_gateway::env::Unreadable;
use keyvault_gateway::gateway::{Answered, Gateway};
use keyvault_gateway::host::{Body, BodyError, CallError, Host, NoKeyValue, within};
use keyvault_gateway::http::headers::Headers;
use keyvault_gateway::http::request::Head;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::model::Moment;

use crate::checks::{Checks, MOST_LOOKS};
use crate::executor::{Executor, Task};
use crate::plan::{Ask, Caller, HostPlan, Plan};
use crate::world::{AUDIENCE, BEGINNING, CALLER, Fate, MARKER, TENANT, World, bearer, forged, name};

/// All instances, the Azure that they ask, and those who check what they do.
pub struct Fleet {
    pub executor: Executor,
    pub world: Rc<RefCell<World>>,
    pub checks: Rc<RefCell<Checks>>,
    host: HostPlan,
    settings: Rc<Vec<(&'static str, String)>>,
    instances: RefCell<Vec<Rc<Instance>>>,
    started: Cell<usize>,
}

struct Instance {
    number: usize,
    /// When its clock began, later by [`EPOCHS`], as that may be before the beginning.
    epoch: Duration,
    gateway: Rc<Gateway<Simulated>>,
    served: Cell<usize>,
    /// Requests and renewals that are under way, with the number of the request.
    tasks: RefCell<Vec<(Task, Option<usize>)>>,
    last: Cell<Duration>,
}

impl Fleet {
    pub fn new(plan: &Plan, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            executor: Executor::new(seed),
            world: Rc::new(RefCell::new(World::new(plan, seed))),
            checks: Rc::new(RefCell::new(Checks::new(plan))),
            host: plan.host,
            settings: Rc::new(settings(plan)),
            instances: RefCell::new(Vec::new()),
            started: Cell::new(0),
        })
    }

    pub fn ask(self: &Rc<Self>, ask: Ask) {
        let instance = self.instance();
        let rotations = self.world.borrow().rotations;
        let request = self.checks.borrow_mut().asked(instance.number, ask, rotations, self.executor.now());
        instance.served.set(instance.served.get() + 1);
        let renewals = instance.tasks.borrow().iter().filter(|task| task.1.is_none()).count();
        let requests = instance.tasks.borrow().len() - renewals;
        self.checks.borrow_mut().left_after_answers(renewals, requests);
        let (fleet, serving) = (Rc::clone(self), Rc::clone(&instance));
        let task = self.executor.spawn(async move {
            let (head, body) = message(&ask, rotations);
            let executor = fleet.executor.clone();
            let body = Content { bytes: body, late: ask.late, executor, epoch: serving.epoch };
            let Answered { reply, renewal } = serving.gateway.answer(head, body).await;
            fleet.checks.borrow_mut().answered(request, &reply, fleet.executor.now());
            let renewal = renewal.filter(|_| fleet.host.concurrent > 1);
            if let Some(renewal) = renewal {
                fleet.checks.borrow_mut().count("renewed ahead");
                let renewing = Rc::clone(&serving);
                let also = Rc::clone(&fleet);
                let task = fleet.executor.spawn(async move {
                    renewing.gateway.renew(renewal).await;
                    also.ended(&renewing);
                });
                serving.tasks.borrow_mut().push((task, None));
            }
            fleet.ended(&serving);
        });
        instance.tasks.borrow_mut().push((task, Some(request)));
        if let Some(after) = ask.hangs_up {
            let fleet = Rc::clone(self);
            self.executor.spawn(async move {
                fleet.executor.sleep(after).await;
                fleet.hang_up(&instance, task, request);
            });
        }
    }

    fn hang_up(&self, instance: &Instance, task: Task, request: usize) {
        if self.executor.cancel(task) {
            self.checks.borrow_mut().hung_up(request);
            instance.tasks.borrow_mut().retain(|it| it.0 != task);
            instance.last.set(self.executor.now());
        }
    }

    /// Instances that serve nobody are gone, and some that do are gone as if they had trapped.
    pub fn recycle(&self) {
        let mut gone = Vec::new();
        self.instances.borrow_mut().retain(|it| {
            let dies = it.tasks.borrow().is_empty() || self.executor.random().is_multiple_of(4);
            if dies {
                gone.push(Rc::clone(it));
            }
            !dies
        });
        for instance in gone {
            self.checks.borrow_mut().count("recycled");
            for (task, request) in instance.tasks.take() {
                if self.executor.cancel(task)
                    && let Some(request) = request
                {
                    self.checks.borrow_mut().hung_up(request);
                }
            }
        }
    }

    /// An instance that takes another request, or a new one.
    fn instance(self: &Rc<Self>) -> Rc<Instance> {
        let now = self.executor.now();
        let mut instances = self.instances.borrow_mut();
        instances.retain(|it| {
            let idle = it.tasks.borrow().is_empty();
            let old = it.served.get() >= self.host.reuse
                || idle && now.saturating_sub(it.last.get()) > self.host.idle;
            !old
        });
        let free = instances.iter().find(|it| it.tasks.borrow().len() < self.host.concurrent);
        if let Some(instance) = free {
            return Rc::clone(instance);
        }
        let number = self.started.get();
        self.started.set(number + 1);
        // A clock may start anywhere.
        let offset = Duration::from_millis(self.executor.random() % 5000);
        let host = Simulated {
            number,
            start: now,
            offset,
            executor: self.executor.clone(),
            world: Rc::clone(&self.world),
            checks: Rc::clone(&self.checks),
            settings: Rc::clone(&self.settings),
        };
        let instance = Rc::new(Instance {
            number,
            epoch: now + EPOCHS - offset,
            gateway: Rc::new(Gateway::new(host)),
            served: Cell::new(0),
            tasks: RefCell::new(Vec::new()),
            last: Cell::new(now),
        });
        instances.push(Rc::clone(&instance));
        instance
    }

    /// The task that is being polled has ended.
    fn ended(&self, instance: &Instance) {
        let current = self.executor.current();
        instance.tasks.borrow_mut().retain(|it| Some(it.0) != current);
        instance.last.set(self.executor.now());
    }
}

struct Simulated {
    number: usize,
    start: Duration,
    offset: Duration,
    executor: Executor,
    world: Rc<RefCell<World>>,
    checks: Rc<RefCell<Checks>>,
    settings: Rc<Vec<(&'static str, String)>>,
}

impl Host for Simulated {
    type KeyValue = NoKeyValue;

    fn setting(&self, name: &'static str) -> Result<Option<String>, Unreadable> {
        Ok(self.settings.iter().find(|it| it.0 == name).map(|it| it.1.clone()))
    }

    fn now(&self) -> Moment {
        if self.executor.look() > MOST_LOOKS {
            self.checks.borrow_mut().in_a_circle();
            // Nothing else ends who never waits.
            resume_unwind(Box::new("a task runs in a circle"));
        }
        Moment::after_start(self.executor.now() - self.start + self.offset)
    }

    fn unix_time(&self) -> u64 {
        (BEGINNING + self.executor.now().as_secs()).saturating_add_signed(self.world.borrow().jump)
    }

    fn random(&self) -> u64 {
        self.executor.random()
    }

    fn log(&self, line: &str) {
        self.checks.borrow_mut().logged(line);
    }

    async fn send(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let number = self.checks.borrow_mut().called(
            self.number,
            &call,
            limit,
            self.executor.now(),
            self.executor.current(),
        );
        let mut under_way = UnderWay {
            checks: Rc::clone(&self.checks),
            executor: self.executor.clone(),
            number,
            ended: false,
        };
        let there = self.world.borrow_mut().half_a_way();
        let way = async {
            self.executor.sleep(there).await;
            let (wish, fate, delay) = {
                let mut world = self.world.borrow_mut();
                world.now = self.executor.now();
                let answer = world.answer(&call);
                self.checks.borrow_mut().shown_a_token(!world.overdue);
                answer
            };
            let back = self.world.borrow_mut().half_a_way();
            self.executor.sleep(back + delay).await;
            match fate {
                Fate::Answer(answer, told) => (Ok(answer), Some((wish, told))),
                Fate::Lost => (Err(CallError::Lost), None),
                Fate::Hang => core::future::pending().await,
            }
        };
        let (answer, told) = within(self, limit, way).await.unwrap_or((Err(CallError::TimedOut), None));
        under_way.ended = true;
        self.checks.borrow_mut().came_back(number, told, answer.as_ref().err(), self.executor.now());
        answer
    }

    async fn sleep(&self, time: Duration) {
        self.executor.sleep(time).await;
    }

    type Signal = oneshot::Sender<()>;

    fn signal(&self) -> (Self::Signal, impl Future<Output = ()>) {
        let (signal, dropped) = oneshot::channel();
        (signal, async { dropped.await.unwrap_or_default() })
    }
}

/// A call that may be dropped before it has come back.
struct UnderWay {
    checks: Rc<RefCell<Checks>>,
    executor: Executor,
    number: usize,
    ended: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            self.checks.borrow_mut().dropped(self.number, self.executor.now());
        }
    }
}

struct Content {
    bytes: Vec<u8>,
    late: Duration,
    executor: Executor,
    /// When the clock of the instance began.
    epoch: Duration,
}

impl Body for Content {
    fn authority(&self) -> Option<String> {
        None
    }

    async fn read(self, _: usize, end: Moment) -> Result<Vec<u8>, BodyError> {
        if self.late.is_zero() {
            return Ok(self.bytes);
        }
        let left = (end.from_start() + self.epoch).saturating_sub(self.executor.now() + EPOCHS);
        self.executor.sleep(self.late.min(left)).await;
        if self.late > left { Err(BodyError::TimedOut) } else { Ok(self.bytes) }
    }
}

/// A clock may have begun so much before the run.
const EPOCHS: Duration = Duration::from_secs(5);

/// The key of the caller that may read everything, and of the one that may read the half of it.
const KEYS: [&str; 2] = ["MARKER-key-all", "MARKER-key-even"];

fn settings(plan: &Plan) -> Vec<(&'static str, String)> {
    // The SHA-256 of the second key.
    let callers = format!(
        r#"[{{"name":"even","secrets":["even-*"],"key_sha256":["{EVEN_KEY_SHA256}"]}},
            {{"name":"bearer","secrets":["*"],"oid":["{CALLER}"]}}]"#
    );
    let mut settings = vec![
        ("KeyVaultUri", "https://sim.vault.azure.net".to_owned()),
        ("GATEWAY_KEY", KEYS[0].to_owned()),
        ("GATEWAY_CALLERS", callers),
        ("GATEWAY_CALLER_CALLS_PER_SECOND", plan.rate.to_string()),
        ("GATEWAY_JWT_TENANT", TENANT.to_owned()),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
        ("GATEWAY_LOG", "debug".to_owned()),
        ("GATEWAY_CACHE_TTL_SECONDS", plan.ttl.to_string()),
        ("GATEWAY_STALE_SECONDS", plan.stale.to_string()),
        ("GATEWAY_NEGATIVE_TTL_SECONDS", plan.negative.to_string()),
        ("GATEWAY_CACHE_ENTRIES", plan.entries.to_string()),
        ("GATEWAY_DEADLINE_SECONDS", plan.deadline.to_string()),
    ];
    if !plan.imds {
        settings.push(("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token".to_owned()));
        settings.push(("IDENTITY_HEADER", format!("{MARKER}-identity-header")));
    }
    settings
}

fn message(ask: &Ask, rotations: usize) -> (Head, Vec<u8>) {
    let mut fields = Headers::new();
    let key = |key| ("x-functions-key", String::from(key));
    let token = |token: &str| ("authorization", format!("Bearer {token}"));
    let (name, value) = match ask.caller {
        Caller::All | Caller::Metrics => key(KEYS[0]),
        Caller::Even => key(KEYS[1]),
        Caller::Nobody | Caller::Probe => key("MARKER-key-of-nobody"),
        Caller::Bearer => token(bearer(rotations)),
        Caller::Forger { known_name } => token(forged(known_name)),
    };
    fields.add(name, value);
    if name == "authorization" {
        fields.add("traceparent", TRACE_OF_BEARERS);
    }
    fields.add("content-type", "application/json");
    if ask.no_cache {
        fields.add("cache-control", "no-cache");
    }
    let (method, target) = match ask.caller {
        Caller::Metrics => (Method::GET, "/metrics"),
        Caller::Probe => (Method::GET, "/readyz"),
        Caller::All | Caller::Even | Caller::Nobody | Caller::Bearer | Caller::Forger { .. } => {
            (Method::POST, "/")
        }
    };
    let version = asked_version(ask).map(|version| format!(r#","Version":"{version}""#));
    let body = format!(r#"{{"Secret":"{}"{}}}"#, asked_name(ask), version.unwrap_or_default());
    (Head { method, target: target.to_owned(), fields }, body.into_bytes())
}

pub fn asked_name(ask: &Ask) -> String {
    let name = name(ask.secret);
    if ask.capitals { name.to_ascii_uppercase() } else { name }
}

/// The version that the request asks for, if it pins one.
pub fn asked_version(ask: &Ask) -> Option<String> {
    let made_up = ask.made_up.map(|number| format!("{:032x}", u128::MAX - u128::from(number)));
    made_up.or_else(|| ask.pinned.then(|| first_version(ask.secret)))
}

/// The version that a secret has at first.
pub fn first_version(secret: usize) -> String {
    format!("{secret:016x}{:016x}", 0)
}

/// Everything that a caller can see of a reply but a value.
pub fn visible(reply: &Reply) -> String {
    let body = String::from_utf8_lossy(reply.body().expose());
    let body = if reply.status() == http::StatusCode::OK && !body.starts_with('#') { "" } else { &*body };
    let fields = reply.fields().as_list().iter();
    let fields: Vec<_> =
        fields.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
    format!("{fields:?} {} {body}", reply.code())
}

/// The trace of all requests with a token, by which their lines in the log are known.
const TRACE_OF_BEARERS: &str = "00-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-b7ad6b7169203331-00";

const EVEN_KEY_SHA256: &str = "491bb3d3633cc6b7f74734dd8668bd6280d9a4aa3ec7b8a6abc27e2dbb8e29fe";
