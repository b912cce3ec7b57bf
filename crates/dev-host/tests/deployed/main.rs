//! What `deploy/` starts by a script or by a file of the platform, started by that very file, with the built component and the
//! emulator as Azure. The `wasmtime` that they find is the dev-host, whose `serve` is Wasmtime's own.

// Both places are Linux, and what a command line shows is read in its `/proc`.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dev_host::{Server, WAIT_LIMIT, agent, random_text, wait_for};
use keyvault_emulator::{Emulator, Kind, Served, Source};
use serde_json::Value;
use tempfile::TempDir;
use testkit::leaks::{Private, Search};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

/// What the unit says is done as systemd does it, in a folder instead of the machine's root.
#[test]
fn the_service_of_systemd_starts_reads_a_secret_and_stops() {
    let place = Place::new();
    let unit = fs::read_to_string(repository("deploy/systemd/keyvault-gateway.service")).unwrap();
    let lines = |name: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(name));
    // It passes on every word as it is, but for the port: others may use the unit's here.
    let wasmtime = format!(
        "#!/bin/sh\nfor word; do\n shift\n [ \"$word\" != 127.0.0.1:8080 ] || word=127.0.0.1:0\n set -- \"$@\" \"$word\"\n\
         done\nexec '{HOST}' \"$@\"\n"
    );
    place.write("usr/local/bin/wasmtime", &wasmtime);
    for script in ["start.sh", "stop.sh"] {
        let text = fs::read_to_string(repository("deploy/systemd").join(script)).unwrap();
        place.write(&format!("usr/local/lib/keyvault-gateway/{script}"), &text);
    }
    place.copy_component("usr/local/lib/keyvault-gateway/service.wasm");
    // The credentials: of those without a file the unit has an empty line. The shell of the document writes a line end.
    let key = random_text().unwrap();
    for line in lines("SetCredential=") {
        let (name, text) = line.split_once(':').unwrap();
        let text = if name == "GATEWAY_KEY" { format!("{key}\n") } else { text.replace("\\n", "\n") };
        place.write(&format!("credentials/{name}"), &text);
    }
    let settings = fs::read_to_string(repository("deploy/systemd/settings.env")).unwrap();
    let settings =
        settings.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let own = place.served.settings(Source::Imds);
    let command = |name: &'static str, process: &str| {
        let here =
            |text: &str| text.replace("/usr/local/", &format!("{}/", place.path("usr/local").display()));
        let line = here(lines(name).next().unwrap()).replace("$MAINPID", process);
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env_clear().current_dir("/").stdin(Stdio::null());
        command.envs(
            lines("Environment=").map(|line| line.split_once('=').unwrap()).map(|it| (it.0, here(it.1))),
        );
        command.envs(settings.clone()).envs(own.iter().map(|(name, value)| (*name, value)));
        command.env("CREDENTIALS_DIRECTORY", place.path("credentials")).env("GATEWAY_DEADLINE_SECONDS", "1");
        command
    };
    make_executable(&place.path("usr/local/bin/wasmtime"));

    let mut server = Server::spawn(command("ExecStart=", ""), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    server.wait_until_ready().unwrap_or_else(|problem| panic!("{problem}"));
    let ready =
        agent(WAIT_LIMIT).get(server.url("/readyz")).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(ready, r#"{"status":"ready"}"#);
    assert_eq!(post(&server, &[("x-functions-key", &key)]), (200, place.answer()));
    for other in ["another-key", ""] {
        assert_eq!(post(&server, &[("x-functions-key", other)]).0, 401, "{other:?}");
    }
    let [token] = place.emulator.token_calls().try_into().unwrap();
    assert_eq!(token.kind, Kind::Token(Source::Imds));
    place.expect_nothing_shown(&server, &[(Private::CallerKey, &key)]);

    // Its script waits for requests under way; then systemd sends the signal again.
    let stop = command("ExecStop=", &server.pid().to_string()).status().unwrap();
    assert!(stop.success(), "{stop}");
    let signal = lines("KillSignal=").next().unwrap().trim_start_matches("SIG");
    let kill = format!("kill -s {signal} {}", server.pid());
    // It has ended already where no instance was left.
    let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap();
    let ended = wait_for("an end of the service", || server.ended().unwrap());
    assert_eq!(ended.code(), Some(0), "{ended} {:?}", server.log());
}

/// `host.json` as the Functions host reads it: docs/deploy/functions.md says where each of it is from.
#[test]
fn the_custom_handler_of_azure_functions_starts_and_answers_what_the_host_forwards() {
    let place = Place::new();
    let host: Value = json(&repository("deploy/functions/host.json"));
    let function: Value = json(&repository("deploy/functions/GetKeyVaultSecret/function.json"));
    assert_eq!(function["bindings"][0]["authLevel"], "function");
    let (prefix, route) = (&host["extensions"]["http"]["routePrefix"], &function["bindings"][0]["route"]);
    assert_eq!((prefix, route), (&"api".into(), &"GetKeyVaultSecret".into()));
    // Without it the handler would get the request in an object, at another path.
    assert_eq!(host["customHandler"]["enableForwardingHttpRequest"], true);
    let handler = &host["customHandler"]["description"];
    place.copy_component("app/service.wasm");
    symlink(HOST, place.path("app").join(handler["defaultExecutablePath"].as_str().unwrap())).unwrap();

    // A port that the system gives to no other process while its socket is there. It does not listen, so that a program which
    // asks for this very port and lets it be reused, as Wasmtime does, gets it (socket(7), `SO_REUSEADDR`).
    let port = TcpSocket::new_v4().unwrap();
    port.set_reuseaddr(true).unwrap();
    port.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address: SocketAddr = port.local_addr().unwrap();
    let (number, variable) = (address.port().to_string(), "FUNCTIONS_CUSTOMHANDLER_PORT");
    let arguments = handler["arguments"].as_array().unwrap().iter();
    let arguments: Vec<_> =
        arguments.map(|it| it.as_str().unwrap().replace(&format!("%{variable}%"), &number)).collect();
    let key = random_text().unwrap();
    let mut command = Command::new(place.path("app/wasmtime"));
    command.args(arguments).current_dir(place.path("app")).stdin(Stdio::null()).env_clear();
    command.env(variable, number).env("AzureWebJobsStorage", STORAGE).env("GATEWAY_KEY", &key);
    command.env("GATEWAY_TRUST_FORWARDED", "true").envs(place.served.settings(Source::AppService2019));
    let mut server = Server::spawn(command, address).unwrap();
    // By any answer to this the Functions host knows that the handler is up.
    let first = wait_for("an answer of the handler", || {
        assert!(server.ended().unwrap().is_none(), "the handler has ended: {:?}", server.log());
        Some(agent(WAIT_LIMIT).get(server.url("/")).call().ok()?.status())
    });
    assert_eq!(first, 405);

    let forwarded = [
        ("x-forwarded-for", "203.0.113.7:50312"),
        ("x-forwarded-proto", "https"),
        ("x-original-url", "/api/GetKeyVaultSecret"),
        ("disguised-host", "my-function-app.azurewebsites.net"),
        ("x-azure-functions-invocationid", "8892a2f8-3037-4d05-b8bd-3d608a8b88fd"),
    ];
    let with = |key| [&forwarded[..], &[("x-functions-key", key)]].concat();
    assert_eq!(post(&server, &with("another-key")).0, 401);
    assert_eq!(post(&server, &with(&key)), (200, place.answer()));
    let [token] = place.emulator.token_calls().try_into().unwrap();
    assert_eq!(token.kind, Kind::Token(Source::AppService2019));
    place.expect_nothing_shown(&server, &[(Private::CallerKey, &key), (Private::Setting, STORAGE)]);
}

/// A folder to deploy to, and the emulator that is Azure for what is deployed there.
struct Place {
    emulator: Emulator,
    value: String,
    served: Served,
    folder: TempDir,
    _runtime: Runtime,
}

impl Place {
    fn new() -> Self {
        let (runtime, emulator, value) = (Runtime::new().unwrap(), Emulator::new(), random_text().unwrap());
        emulator.set_secret("Integration-Team-Blog", &value).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { emulator, value, served, folder, _runtime: runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).with_file_name("")).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn copy_component(&self, name: &str) {
        fs::create_dir_all(self.path(name).with_file_name("")).unwrap();
        fs::copy(dev_host::component("service").unwrap(), self.path(name)).unwrap();
    }

    /// The gateway's answer to [`post`].
    fn answer(&self) -> String {
        format!(r#"{{"Secret":"Integration-Team-Blog","Value":"{}"}}"#, self.value)
    }

    /// Fails if the value, a token, a credential or one of these shows in what the server has printed or in the command line of
    /// any process.
    fn expect_nothing_shown(&self, server: &Server, private: &[(Private, &str)]) {
        let mut search = Search::new();
        search.add(Private::Value, &self.value);
        self.emulator.tokens().iter().for_each(|token| search.add(Private::Token, token));
        private.iter().for_each(|it| search.add(it.0, it.1));
        let settings = Source::ALL.iter().flat_map(|it| self.served.settings(it.1));
        let secrets = settings.filter(|it| ["IDENTITY_HEADER", "MSI_SECRET"].contains(&it.0));
        secrets.for_each(|it| search.add(Private::IdentitySecret, it.1));
        let mut found = false;
        for process in fs::read_dir("/proc").unwrap().map_while(Result::ok) {
            // A process that ends meanwhile has none.
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let own = process.file_name().to_str() == Some(&server.pid().to_string());
            found |= own && line.contains(" --env GATEWAY_KEY ");
            search.expect_nothing(line, &[], process.path().display());
        }
        assert!(found, "no process has the gateway's command line");
        let lines = server.log();
        assert!(lines.iter().any(|line| line.contains(r#""status":401"#)), "{lines:?}");
        search.expect_nothing(lines.join("\n"), &[], "what the server printed");
    }
}

/// The function's own test request, with these header fields.
fn post(server: &Server, fields: &[(&str, &str)]) -> (u16, String) {
    let request =
        agent(WAIT_LIMIT).post(server.url("/api/GetKeyVaultSecret")).content_type("application/json");
    let request = fields.iter().fold(request, |request, field| request.header(field.0, field.1));
    let mut answer = request.send(r#"{"Secret": "Integration-Team-Blog"}"#).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

/// In another process: a file that this one has open for writing cannot be run, nor can its copy in a child of another test.
fn make_executable(file: &Path) {
    let script = "cp \"$1\" \"$1.new\" && chmod +x \"$1.new\" && mv \"$1.new\" \"$1\"";
    assert!(Command::new("sh").args(["-c", script, "sh"]).arg(file).status().unwrap().success());
}

/// A file of the repository.
fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

/// A connection string, which every function app has.
const STORAGE: &str = "DefaultEndpointsProtocol=https;AccountName=myfunctionapp;AccountKey=none";
