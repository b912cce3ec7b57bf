//! The instances of the real gateway, on a host with the limits of the plan.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use http::Method;
use keyvault_gateway::azure::{Answer, Call, CallError};
use keyvault_gateway::env::Setting;
use keyvault_gateway::error::TokenFileError;
use keyvault_gateway::gateway::{Answered, Gateway};
use keyvault_gateway::host::{Body, BodyError, Host, Signal, within};
use keyvault_gateway::http::headers::Headers;
use keyvault_gateway::http::request::Head;
use keyvault_gateway::http::response::Reply;
use keyvault_gateway::model::{Moment, Redacted};

use crate::azure::{
    ACCOUNT, AUDIENCE, Azure, BEGINNING, CALLER, CLUSTER, Issuer, MARKER, Response, TENANT, access_token,
    forged_token, mixed_token, name,
};
use crate::checks::{Checks, MOST_CLOCK_READS};
use crate::executor::{Executor, Task};
use crate::plan::{Caller, HostPlan, Plan, PlannedRequest};

/// All instances and their environment.
pub struct Fleet {
    pub environment: Rc<Environment>,
    host: HostPlan,
    instances: RefCell<Vec<Rc<Instance>>>,
    started: Cell<usize>,
}

/// The environment that all instances share: time, Azure, settings and the checks.
pub struct Environment {
    pub executor: Executor,
    pub azure: RefCell<Azure>,
    pub checks: RefCell<Checks>,
    settings: Vec<(&'static str, String)>,
}

struct Instance {
    number: usize,
    /// The zero of its clock plus [`LATEST_START`], because the zero may be before the start of the run.
    epoch: Duration,
    gateway: Rc<Gateway<SimulatedHost>>,
    served: Cell<usize>,
    /// The tasks that have not ended: requests with their number, and refreshes.
    tasks: RefCell<Vec<(Task, Option<usize>)>>,
    last_use: Cell<Duration>,
}

impl Fleet {
    pub fn new(plan: &Plan, seed: u64) -> Rc<Self> {
        let environment = Rc::new(Environment {
            executor: Executor::new(seed),
            azure: RefCell::new(Azure::new(plan, seed)),
            checks: RefCell::new(Checks::new(plan)),
            settings: settings(plan),
        });
        Rc::new(Self { environment, host: plan.host, instances: RefCell::default(), started: Cell::new(0) })
    }

    pub fn send(self: &Rc<Self>, plan: PlannedRequest) {
        let instance = self.instance();
        let Environment { executor, azure, checks, .. } = &*self.environment;
        let key_rotations = azure.borrow().key_rotations;
        let number =
            checks.borrow_mut().request_started(instance.number, plan, key_rotations, executor.now());
        instance.served.set(instance.served.get() + 1);
        let refreshes = instance.tasks.borrow().iter().filter(|task| task.1.is_none()).count();
        let requests = instance.tasks.borrow().len() - refreshes;
        checks.borrow_mut().refreshes_running(refreshes, requests);
        let (fleet, serving) = (Rc::clone(self), Rc::clone(&instance));
        let task = executor.spawn(async move {
            let Environment { executor, checks, .. } = &*fleet.environment;
            let (head, body) = message(&plan, key_rotations);
            let environment = Rc::clone(&fleet.environment);
            let body = DelayedBody { bytes: body, delay: plan.body_delay, environment, epoch: serving.epoch };
            let Answered { reply, refreshes } = serving.gateway.answer(head, body).await;
            checks.borrow_mut().request_answered(number, &reply, executor.now());
            if !refreshes.is_empty() && fleet.host.concurrent_reuse > 1 {
                checks.borrow_mut().count("refresh-ahead");
                let (refreshing, owner) = (Rc::clone(&serving), Rc::clone(&fleet));
                let task = executor.spawn(async move {
                    for refresh in refreshes {
                        refreshing.gateway.refresh(refresh).await;
                    }
                    owner.ended(&refreshing);
                });
                serving.tasks.borrow_mut().push((task, None));
            }
            fleet.ended(&serving);
        });
        instance.tasks.borrow_mut().push((task, Some(number)));
        if let Some(after) = plan.hangs_up {
            let fleet = Rc::clone(self);
            executor.spawn(async move {
                fleet.environment.executor.sleep(after).await;
                if fleet.cancel(task, Some(number)) {
                    fleet.remove(&instance, Some(task));
                }
            });
        }
    }

    /// Cancels a task together with its request. Returns false if it had ended.
    fn cancel(&self, task: Task, request: Option<usize>) -> bool {
        let cancelled = self.environment.executor.cancel(task);
        if let Some(request) = request.filter(|_| cancelled) {
            self.environment.checks.borrow_mut().request_cancelled(request);
        }
        cancelled
    }

    /// Drops all idle instances and, as a trap would, one in four of the others.
    pub fn recycle(&self) {
        let is_dropped = |instance: &mut Rc<Instance>| {
            instance.tasks.borrow().is_empty() || self.environment.executor.random().is_multiple_of(4)
        };
        let dropped: Vec<_> = self.instances.borrow_mut().extract_if(.., is_dropped).collect();
        for instance in dropped {
            self.environment.checks.borrow_mut().count("instance recycled");
            for (task, request) in instance.tasks.take() {
                self.cancel(task, request);
            }
        }
    }

    /// Returns an instance that takes another request, a new one if necessary.
    fn instance(self: &Rc<Self>) -> Rc<Instance> {
        let now = self.environment.executor.now();
        let mut instances = self.instances.borrow_mut();
        instances.retain(|instance| {
            let idle = instance.tasks.borrow().is_empty();
            let idle_time = now.saturating_sub(instance.last_use.get());
            instance.served.get() < self.host.reuse && !(idle && idle_time > self.host.idle_timeout)
        });
        let free =
            instances.iter().find(|instance| instance.tasks.borrow().len() < self.host.concurrent_reuse);
        if let Some(instance) = free {
            return Rc::clone(instance);
        }
        let number = self.started.get();
        self.started.set(number + 1);
        // The monotonic clock of an instance may start at any value.
        let offset = Duration::from_millis(self.environment.executor.random() % 5000);
        let epoch = now + LATEST_START - offset;
        let host = SimulatedHost { number, epoch, environment: Rc::clone(&self.environment) };
        let instance = Rc::new(Instance {
            number,
            epoch,
            gateway: Rc::new(Gateway::new(host)),
            served: Cell::new(0),
            tasks: RefCell::new(Vec::new()),
            last_use: Cell::new(now),
        });
        instances.push(Rc::clone(&instance));
        instance
    }

    /// Removes the task that is being polled from its instance.
    fn ended(&self, instance: &Instance) {
        self.remove(instance, self.environment.executor.current());
    }

    fn remove(&self, instance: &Instance, task: Option<Task>) {
        instance.tasks.borrow_mut().retain(|running| Some(running.0) != task);
        instance.last_use.set(self.environment.executor.now());
    }
}

struct SimulatedHost {
    number: usize,
    epoch: Duration,
    environment: Rc<Environment>,
}

impl Host for SimulatedHost {
    async fn settings(&self, names: &[&'static str]) -> Vec<Setting> {
        let text = |name| self.environment.settings.iter().find(|(known, _)| known == name);
        names.iter().map(|name| Ok(text(name).map(|(_, text)| text.clone()))).collect()
    }

    fn now(&self) -> Moment {
        let Environment { executor, checks, .. } = &*self.environment;
        if executor.count_clock_read() > MOST_CLOCK_READS {
            checks.borrow_mut().expect(false, "no busy loop", || "a task never waits".to_owned());
            // Only a panic ends a task that never waits.
            resume_unwind(Box::new("a task never waits"));
        }
        Moment::after_start(executor.now() + LATEST_START - self.epoch)
    }

    fn unix_time(&self) -> u64 {
        let Environment { executor, azure, .. } = &*self.environment;
        (BEGINNING + executor.now().as_secs()).saturating_add_signed(azure.borrow().clock_offset)
    }

    fn random(&self) -> u64 {
        self.environment.executor.random()
    }

    fn log(&self, line: &str) {
        self.environment.checks.borrow_mut().line_logged(line);
    }

    fn has_reader(&self) -> bool {
        true
    }

    fn read_token_file(&self, _: &str) -> Result<Redacted, TokenFileError> {
        let Environment { executor, azure, checks, .. } = &*self.environment;
        let assertion = azure.borrow_mut().assertion(executor.now());
        if assertion.is_none() {
            checks.borrow_mut().count("no token file");
        }
        assertion.map(Redacted::new).ok_or(TokenFileError::NotFound)
    }

    async fn send(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let Environment { executor, azure, checks, .. } = &*self.environment;
        let (now, task) = (executor.now(), executor.current());
        let number = checks.borrow_mut().call_started(self.number, &call, limit, now, task);
        let mut guard = CallGuard { environment: Rc::clone(&self.environment), number, ended: false };
        let latency = azure.borrow_mut().one_way_latency();
        let exchange = async {
            executor.sleep(latency).await;
            let (target, response, delay) = azure.borrow_mut().answer(&call, executor.now());
            let valid = !azure.borrow().got_expired_token;
            let detail = || "it expired half a minute before".to_owned();
            checks.borrow_mut().expect(valid, "no expired token", detail);
            let latency = azure.borrow_mut().one_way_latency();
            executor.sleep(latency + delay).await;
            match response {
                Response::Answer(answer, meaning) => (Ok(answer), Some((target, meaning))),
                Response::Lost => (Err(CallError::Lost), None),
                Response::Hang => pending().await,
            }
        };
        let (answer, meaning) =
            within(self, limit, exchange).await.unwrap_or((Err(CallError::TimedOut), None));
        guard.ended = true;
        checks.borrow_mut().call_ended(number, meaning, answer.as_ref().err(), executor.now());
        answer
    }

    async fn sleep(&self, time: Duration) {
        self.environment.executor.sleep(time).await;
    }

    fn signal(&self) -> (Signal, impl Future<Output = ()>) {
        let (signal, dropped) = oneshot::channel();
        (Signal::new(signal), async { dropped.await.unwrap_or_default() })
    }
}

/// Records a call as cancelled if it is dropped before its end.
struct CallGuard {
    environment: Rc<Environment>,
    number: usize,
    ended: bool,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.ended {
            let Environment { executor, checks, .. } = &*self.environment;
            checks.borrow_mut().call_cancelled(self.number, executor.now());
        }
    }
}

struct DelayedBody {
    bytes: Vec<u8>,
    delay: Duration,
    environment: Rc<Environment>,
    epoch: Duration,
}

impl Body for DelayedBody {
    fn authority(&self) -> Option<String> {
        None
    }

    async fn read(self, _: usize, end: Moment) -> Result<Vec<u8>, BodyError> {
        if self.delay.is_zero() {
            return Ok(self.bytes);
        }
        let left =
            (end.from_start() + self.epoch).saturating_sub(self.environment.executor.now() + LATEST_START);
        self.environment.executor.sleep(self.delay.min(left)).await;
        if self.delay > left { Err(BodyError::TimedOut) } else { Ok(self.bytes) }
    }
}

/// The longest time by which the clock of an instance starts before the run.
const LATEST_START: Duration = Duration::from_secs(5);

/// The API keys of the callers with access to all secrets and to the even ones.
const KEYS: [&str; 2] = ["MARKER-key-all", "MARKER-key-even"];

fn settings(plan: &Plan) -> Vec<(&'static str, String)> {
    let callers = format!(
        r#"[{{"name":"even","secrets":["even-*"],"key_sha256":["{EVEN_KEY_SHA256}"]}},
            {{"name":"bearer","secrets":["*"],"oid":["{CALLER}"]}},
            {{"name":"account","secrets":["*"],"iss":"{CLUSTER}","sub":["{ACCOUNT}"]}}]"#
    );
    let mut settings = vec![
        ("KeyVaultUri", "https://sim.vault.azure.net".to_owned()),
        ("GATEWAY_KEY", KEYS[0].to_owned()),
        ("GATEWAY_CALLERS", callers),
        ("GATEWAY_CALLER_CALLS_PER_SECOND", plan.calls_per_second.to_string()),
        ("GATEWAY_JWT_TENANT", TENANT.to_owned()),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
        ("GATEWAY_OIDC", format!(r#"[{{"issuer":"{CLUSTER}","audience":"{AUDIENCE}"}}]"#)),
        ("GATEWAY_LOG", "debug".to_owned()),
        ("GATEWAY_CACHE_TTL_SECONDS", plan.ttl.to_string()),
        ("GATEWAY_STALE_SECONDS", plan.stale.to_string()),
        ("GATEWAY_NEGATIVE_TTL_SECONDS", plan.negative.to_string()),
        ("GATEWAY_CACHE_ENTRIES", plan.entries.to_string()),
        ("GATEWAY_DEADLINE_SECONDS", plan.deadline.to_string()),
    ];
    if plan.federated {
        settings.extend(
            [
                ("AZURE_TENANT_ID", TENANT),
                ("AZURE_CLIENT_ID", CALLER),
                ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/wi/token/azure-identity-token"),
            ]
            .map(|(name, text)| (name, text.to_owned())),
        );
    } else if !plan.imds {
        settings.push(("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token".to_owned()));
        settings.push(("IDENTITY_HEADER", format!("{MARKER}-identity-header")));
    }
    settings
}

fn message(plan: &PlannedRequest, key_rotations: usize) -> (Head, Vec<u8>) {
    let mut headers = Headers::new();
    let key = |key| ("x-functions-key", String::from(key));
    let token = |token: &str| ("authorization", format!("Bearer {token}"));
    let (name, value) = match plan.caller {
        Caller::AllSecrets | Caller::Metrics => key(KEYS[0]),
        Caller::EvenSecrets => key(KEYS[1]),
        Caller::WrongKey | Caller::Readiness => key("MARKER-wrong-key"),
        Caller::AccessToken => token(access_token(Issuer::Tenant, key_rotations)),
        Caller::ServiceAccount => token(access_token(Issuer::Cluster, key_rotations)),
        Caller::MixedToken(issuer) => token(mixed_token(issuer)),
        Caller::ForgedToken { known_key_id } => token(forged_token(known_key_id)),
    };
    headers.add(name, value);
    if name == "authorization" {
        headers.add("traceparent", TRACE_WITH_TOKEN);
    }
    headers.add("content-type", "application/json");
    if plan.no_cache {
        headers.add("cache-control", "no-cache");
    }
    let (method, target) = match plan.caller {
        Caller::Metrics => (Method::GET, "/metrics"),
        Caller::Readiness => (Method::GET, "/readyz"),
        Caller::AllSecrets
        | Caller::EvenSecrets
        | Caller::WrongKey
        | Caller::AccessToken
        | Caller::ServiceAccount
        | Caller::MixedToken(_)
        | Caller::ForgedToken { .. } => (Method::POST, "/"),
    };
    if let Some(also) = plan.also {
        let others = also.map(crate::azure::name);
        let names = [&requested_name(plan), &others[0], &others[1], &others[2]];
        let body = serde_json::json!({ "Secrets": names, "Details": true }).to_string();
        let target = "/api/GetKeyVaultSecrets".to_owned();
        return (Head { method, target, headers }, body.into_bytes());
    }
    let version = requested_version(plan).map(|version| format!(r#","Version":"{version}""#));
    let body = format!(r#"{{"Secret":"{}"{}}}"#, requested_name(plan), version.unwrap_or_default());
    (Head { method, target: target.to_owned(), headers }, body.into_bytes())
}

pub fn requested_name(plan: &PlannedRequest) -> String {
    let name = name(plan.secret);
    if plan.uppercase { name.to_ascii_uppercase() } else { name }
}

/// The version that the request pins.
pub fn requested_version(plan: &PlannedRequest) -> Option<String> {
    let made_up = plan.made_up_version.map(|number| format!("{:032x}", u128::MAX - u128::from(number)));
    made_up.or_else(|| plan.pinned.then(|| first_version(plan.secret)))
}

/// The version that a secret has at the start.
pub fn first_version(secret: usize) -> String {
    format!("{secret:016x}{:016x}", 0)
}

/// The text of a reply without the value of a secret.
pub fn visible(reply: &Reply) -> String {
    let body = String::from_utf8_lossy(reply.body().expose());
    let body = if reply.status() == http::StatusCode::OK && !body.starts_with('#') { "" } else { &*body };
    let fields = reply.headers().as_list().iter();
    let fields: Vec<_> =
        fields.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
    format!("{fields:?} {} {body}", reply.code())
}

/// The `traceparent` of all requests with an access token, which marks their log lines.
const TRACE_WITH_TOKEN: &str = "00-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-b7ad6b7169203331-00";

/// The SHA-256 of the second key.
const EVEN_KEY_SHA256: &str = "491bb3d3633cc6b7f74734dd8668bd6280d9a4aa3ec7b8a6abc27e2dbb8e29fe";
