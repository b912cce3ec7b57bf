//! What the Functions host does with a custom handler, as far as the gateway can tell: docs/deploy/functions.md says where
//! each of it is from.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use dev_host::Server;
use serde_json::Value;
use tokio::net::TcpSocket;
use ureq::Agent;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use crate::place::{PATIENCE, wait_for};

/// The Functions host with one function, and the front end before it.
pub(crate) struct FunctionsHost {
    pub(crate) handler: Server,
    /// The answer that the handler gave to `GET /`, by which the host knew that it was up.
    pub(crate) first: StatusCode,
    function: Function,
    keys: Vec<String>,
    agent: Agent,
    _port: TcpSocket,
}

/// What `function.json` and `host.json` say of the function.
struct Function {
    path: String,
    methods: Vec<Method>,
}

impl FunctionsHost {
    /// Starts the handler of the function app in `folder`, and waits until its port answers. The function has these keys.
    pub(crate) fn start(folder: &Path, settings: &[(&str, &str)], keys: &[&str]) -> Self {
        let host = json(&folder.join("host.json"));
        let function = Function::read(&host, &json(&folder.join("GetKeyVaultSecret/function.json")));
        let (port, address) = free_port();
        let command = handler(folder, &host["customHandler"], settings, address.port());
        let mut handler = Server::spawn(command, address).unwrap();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("")
            .accept("")
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let first = wait_for("an answer of the handler", || {
            let ended = handler.ended().unwrap();
            assert!(ended.is_none(), "the handler has ended: {ended:?} {:?}", handler.log());
            Some(agent.get(handler.url("/")).call().ok()?.status())
        });
        let keys = keys.iter().map(|it| (*it).to_owned()).collect();
        Self { handler, first, function, keys, agent, _port: port }
    }

    /// Answers a request of somebody outside.
    pub(crate) fn answer(&self, mut request: Request<String>) -> Response<String> {
        let path = request.uri().path();
        // Routes of ASP.NET do not heed case.
        if !path.eq_ignore_ascii_case(&self.function.path)
            || !self.function.methods.contains(request.method())
        {
            return empty(StatusCode::NOT_FOUND);
        }
        // A key in the header is the one that counts.
        let shown = request.headers().get("x-functions-key").and_then(|it| it.to_str().ok());
        let shown = shown.or_else(|| code(request.uri()));
        if !shown.is_some_and(|it| self.keys.iter().any(|key| key == it)) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        add_what_the_front_end_adds(&mut request);
        self.forward(request)
    }

    /// Sends the handler the same request, and gives back its answer as it is.
    fn forward(&self, request: Request<String>) -> Response<String> {
        let (mut parts, mut body) = request.into_parts();
        let path = parts.uri.path_and_query().unwrap();
        parts.uri = self.handler.url(path.as_str()).parse().unwrap();
        // Only a body whose length is told is sent on, and what describes it goes with it.
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
        if length.unwrap_or(0) == 0 {
            body.clear();
            parts.headers.remove(CONTENT_LENGTH);
            parts.headers.remove(CONTENT_TYPE);
        }
        add_what_the_host_adds(&mut parts.headers);
        let (parts, mut body) = self.agent.run(Request::from_parts(parts, body)).unwrap().into_parts();
        Response::from_parts(parts, body.read_to_string().unwrap())
    }
}

impl Function {
    fn read(host: &Value, function: &Value) -> Self {
        let [trigger, output] = function["bindings"].as_array().unwrap().as_slice() else {
            panic!("two bindings are expected: {function}");
        };
        assert_eq!((&trigger["type"], &trigger["direction"]), (&"httpTrigger".into(), &"in".into()));
        assert_eq!((&output["type"], &output["direction"]), (&"http".into(), &"out".into()));
        // What else there is, a key for the host or none at all, is checked otherwise than here.
        assert_eq!(trigger["authLevel"], "function");
        let prefix = host["extensions"]["http"]["routePrefix"].as_str().unwrap();
        let path = format!("/{prefix}/{}", trigger["route"].as_str().unwrap());
        let methods = trigger["methods"].as_array().unwrap().iter();
        let methods = methods.map(|it| it.as_str().unwrap().to_ascii_uppercase().parse().unwrap()).collect();
        Self { path, methods }
    }
}

/// The program and arguments of `host.json`, in the app's folder, with the host's whole environment.
fn handler(folder: &Path, custom: &Value, settings: &[(&str, &str)], port: u16) -> Command {
    // Without it the handler would get the request in an object, at another path.
    assert_eq!(custom["enableForwardingHttpRequest"], true);
    let description = &custom["description"];
    let port = port.to_string();
    let added = [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", port.as_str()),
        ("FUNCTIONS_HTTPWORKER_PORT", &port),
        ("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", ID),
        ("FUNCTIONS_HTTPWORKER_ID", ID),
        ("FUNCTIONS_APP_ROOT_PATH", folder.to_str().unwrap()),
    ];
    let arguments = description["arguments"].as_array().unwrap().iter().map(|argument| {
        let argument = argument.as_str().unwrap().to_owned();
        added.iter().fold(argument, |argument, it| argument.replace(&format!("%{}%", it.0), it.1))
    });
    let mut command = Command::new(folder.join(description["defaultExecutablePath"].as_str().unwrap()));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_clear();
    command.env("PATH", "/usr/bin:/bin").envs(settings.iter().copied()).envs(added);
    command
}

/// A port that nobody else is given while its socket is there. It does not listen, so whoever asks for this very port and
/// lets it be reused, as Wasmtime does, gets it (socket(7), `SO_REUSEADDR`).
fn free_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn add_what_the_front_end_adds(request: &mut Request<String>) {
    let target = request.uri().path_and_query().unwrap().to_string();
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7:50312"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-tlsversion", "1.3"),
        ("x-appservice-proto", "https"),
        ("x-arr-log-id", ID),
        ("x-arr-ssl", "2048|256|CN=Microsoft Azure RSA TLS Issuing CA 03|CN=*.azurewebsites.net"),
        ("x-site-deployment-id", "my-function-app"),
        ("was-default-hostname", "my-function-app.azurewebsites.net"),
        ("disguised-host", "my-function-app.azurewebsites.net"),
        ("x-original-url", &target),
        ("x-waws-unencoded-url", &target),
        ("client-ip", "203.0.113.7:50312"),
        ("max-forwards", "10"),
    ] {
        request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
}

fn add_what_the_host_adds(headers: &mut HeaderMap) {
    headers.append("x-azure-functions-hostversion", HeaderValue::from_static(VERSION));
    headers.append("x-azure-functions-invocationid", HeaderValue::from_static(ID));
    let own = format!("Azure-Functions-Host/{VERSION}");
    let agent = headers.get(USER_AGENT).and_then(|it| it.to_str().ok());
    let agent = agent.map_or(own.clone(), |it| format!("{it} {own}"));
    headers.insert(USER_AGENT, agent.parse().unwrap());
}

fn code(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|it| it.strip_prefix("code="))
}

fn empty(status: StatusCode) -> Response<String> {
    Response::builder().status(status).body(String::new()).unwrap()
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

const ID: &str = "8892a2f8-3037-4d05-b8bd-3d608a8b88fd";

const VERSION: &str = "4.1037.0.0";
