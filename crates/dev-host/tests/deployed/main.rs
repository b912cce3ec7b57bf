//! Starts the gateway as the files of `deploy/` do, with the built component and the emulator as Azure. Their
//! `keyvault-gateway` is a script that starts the dev-host, whose `gateway` is the same program.

// Both platforms are Linux, and command lines are read from its `/proc`.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dev_host::{Server, WAIT_LIMIT, agent, random_key, wait_for};
use keyvault_emulator::{Emulator, Kind, Served, Source};
use serde_json::Value;
use tempfile::TempDir;
use testkit::leaks::{Private, Search};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

/// The test runs the unit as systemd does, in a folder instead of the root directory.
#[test]
fn the_systemd_service_starts_reads_a_secret_reloads_and_stops() {
    let deployment = Deployment::new();
    let unit = repository("deploy/systemd/keyvault-gateway.service");
    let lines = |name: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(name));
    // The port of the unit may be in use.
    deployment.program("usr/local/bin/keyvault-gateway", "--listen 127.0.0.1:0");
    // Credentials without a file have an empty line in the unit. The shell of the document writes a newline.
    let key = random_key().unwrap();
    for line in lines("SetCredential=") {
        let (name, text) = line.split_once(':').unwrap();
        let text = if name == "GATEWAY_KEY" { format!("{key}\n") } else { text.replace("\\n", "\n") };
        deployment.write(&format!("credentials/{name}"), text);
    }
    let settings = repository("deploy/systemd/settings.env");
    let settings =
        settings.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let command = |name: &'static str, process: &str| {
        let folder = format!("{}/", deployment.path("usr/local").display());
        let line = lines(name).next().unwrap().replace("/usr/local/", &folder).replace("$MAINPID", process);
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env_clear().current_dir("/").stdin(Stdio::null());
        command.envs(settings.clone()).envs(deployment.served.settings(Source::Imds));
        command.env("CREDENTIALS_DIRECTORY", deployment.path("credentials"));
        command
    };

    let mut server = Server::spawn(command("ExecStart=", ""), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    server.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    let ready =
        agent(WAIT_LIMIT).get(server.url("/readyz")).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(ready, r#"{"status":"ready"}"#);
    assert_eq!(post(&server, &[("x-functions-key", &key)]), (200, deployment.response()));
    for other in ["another-key", ""] {
        assert_eq!(post(&server, &[("x-functions-key", other)]).0, 401, "{other:?}");
    }
    let [token] = deployment.emulator.token_calls().try_into().unwrap();
    assert_eq!(token.kind, Kind::Token(Source::Imds));
    deployment.expect_nothing_shown(&server, &[(Private::CallerKey, &key)]);

    let process = server.pid().to_string();
    assert!(command("ExecReload=", &process).status().unwrap().success());
    wait_for("the next instance", || {
        server.log().iter().any(|line| line.contains("the settings were read again")).then_some(())
    });
    assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    let ended = wait_for("the exit of the service", || server.exit_status().unwrap());
    assert_eq!(ended.code(), Some(0), "{ended} {:?}", server.log());
}

/// `host.json` as the Functions host reads it. docs/how-to/functions.md has the sources.
#[test]
fn the_functions_handler_answers_forwarded_requests() {
    let deployment = Deployment::new();
    let host: Value = serde_json::from_str(&repository("deploy/functions/host.json")).unwrap();
    for name in ["GetKeyVaultSecret", "GetKeyVaultSecrets"] {
        let file = format!("deploy/functions/{name}/function.json");
        let function: Value = serde_json::from_str(&repository(&file)).unwrap();
        assert_eq!(function["bindings"][0]["authLevel"], "function");
        let (prefix, route) = (&host["extensions"]["http"]["routePrefix"], &function["bindings"][0]["route"]);
        assert_eq!((prefix, route), (&"api".into(), &name.into()));
    }
    // Without this the handler would get the request in an object, at another path.
    assert_eq!(host["customHandler"]["enableForwardingHttpRequest"], true);
    let handler = &host["customHandler"]["description"];
    assert_eq!(handler.as_object().unwrap().len(), 1, "{handler}");
    let program = format!("app/{}", handler["defaultExecutablePath"].as_str().unwrap());
    deployment.program(&program, "");

    // The system gives a bound port to no other process. The socket does not listen, so that a program that
    // binds this very port with `SO_REUSEADDR`, as the host does, succeeds (socket(7)).
    let port = TcpSocket::new_v4().unwrap();
    port.set_reuseaddr(true).unwrap();
    port.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address: SocketAddr = port.local_addr().unwrap();
    let key = random_key().unwrap();
    let mut command = Command::new(deployment.path(&program));
    command.current_dir(deployment.path("app")).stdin(Stdio::null()).env_clear();
    command.env("FUNCTIONS_CUSTOMHANDLER_PORT", address.port().to_string());
    command.env("AzureWebJobsStorage", STORAGE).env("GATEWAY_KEY", &key);
    command.env("GATEWAY_TRUST_FORWARDED", "true").envs(deployment.served.settings(Source::AppService2019));
    let mut server = Server::spawn(command, address).unwrap();
    // The Functions host takes any response to this as a sign that the handler is up.
    let first = wait_for("a response of the handler", || {
        assert!(server.exit_status().unwrap().is_none(), "the handler exited: {:?}", server.log());
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
    assert_eq!(post(&server, &with(&key)), (200, deployment.response()));
    let [token] = deployment.emulator.token_calls().try_into().unwrap();
    assert_eq!(token.kind, Kind::Token(Source::AppService2019));
    deployment.expect_nothing_shown(&server, &[(Private::CallerKey, &key), (Private::Setting, STORAGE)]);
}

/// The options of each container, and the page that lists all options.
#[test]
fn containers_have_options_of_the_host_and_the_page_has_them_all() {
    let help = Command::new(HOST).args(["gateway", "--help"]).output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let options: BTreeSet<_> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    let page = repository("docs/reference/host.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `--")?.split(['`', ' ']).next());
    let rows: BTreeSet<_> = rows.map(|name| format!("--{name}")).collect();
    // The build has it for itself.
    let expected = options.iter().filter(|name| **name != "--compile-to").map(ToString::to_string);
    assert_eq!(rows, expected.collect());

    let image = repository("deploy/container/Containerfile");
    let image = image.lines().find(|line| line.starts_with("ENTRYPOINT ")).unwrap();
    for file in ["container/kubernetes.yaml", "container/container-app.bicep"] {
        let text = repository(&format!("deploy/{file}"));
        let arguments = text.lines().find(|line| line.trim_start().starts_with("args: [")).unwrap();
        let words = format!("{image} {arguments}").replace('\'', "\"");
        let mut check = Command::new(HOST);
        check.arg("gateway").args(words.split('"').skip(3).step_by(2)).arg("--check").env_clear();
        check.env("KeyVaultUri", "https://my-vault.vault.azure.net");
        let output = check.output().unwrap();
        assert!(output.status.success(), "{file}: {output:?}");
    }
}

/// A deployment folder, and the emulator that serves as its Azure.
struct Deployment {
    emulator: Emulator,
    value: String,
    served: Served,
    folder: TempDir,
    _runtime: Runtime,
}

impl Deployment {
    fn new() -> Self {
        let (runtime, emulator, value) = (Runtime::new().unwrap(), Emulator::new(), random_key().unwrap());
        emulator.set_secret("Integration-Team-Blog", &value).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { emulator, value, served, folder, _runtime: runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).with_file_name("")).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    /// Makes the program that a file of `deploy/` starts. It adds these options.
    fn program(&self, name: &str, options: &str) {
        let component = dev_host::component("service").unwrap();
        let script = format!(
            "#!/bin/sh\nexec '{HOST}' gateway --component '{}' {options} \"$@\"\n",
            component.display()
        );
        self.write(name, script);
        make_executable(&self.path(name));
    }

    /// Returns the gateway's response to [`post`].
    fn response(&self) -> String {
        format!(r#"{{"Secret":"Integration-Team-Blog","Value":"{}"}}"#, self.value)
    }

    /// Fails if the output of the server or the command line of any process contains private text.
    fn expect_nothing_shown(&self, server: &Server, private: &[(Private, &str)]) {
        let mut search = Search::new();
        search.add(Private::Value, &self.value);
        self.emulator.tokens().iter().for_each(|token| search.add(Private::Token, token));
        private.iter().for_each(|entry| search.add(entry.0, entry.1));
        let settings = Source::ALL.iter().flat_map(|source| self.served.settings(source.1));
        let secrets = settings.filter(|setting| ["IDENTITY_HEADER", "MSI_SECRET"].contains(&setting.0));
        secrets.for_each(|setting| search.add(Private::IdentitySecret, setting.1));
        let mut found = false;
        for process in fs::read_dir("/proc").unwrap().map_while(Result::ok) {
            // A process that has exited meanwhile has no command line.
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let own = process.file_name().to_str() == Some(&server.pid().to_string());
            found |= own && line.contains(" gateway --component ");
            search.expect_nothing(line, &[], process.path().display());
        }
        assert!(found, "no process has the gateway's command line");
        let lines = server.log();
        assert!(lines.iter().any(|line| line.contains(r#""status":401"#)), "{lines:?}");
        search.expect_nothing(lines.join("\n"), &[], "what the server printed");
    }
}

/// Sends the function's own test request with these header fields.
fn post(server: &Server, fields: &[(&str, &str)]) -> (u16, String) {
    let request =
        agent(WAIT_LIMIT).post(server.url("/api/GetKeyVaultSecret")).content_type("application/json");
    let request = fields.iter().fold(request, |request, field| request.header(field.0, field.1));
    let mut response = request.send(r#"{"Secret": "Integration-Team-Blog"}"#).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// Runs in another process: a file that this process or a child has open for writing cannot be executed.
fn make_executable(file: &Path) {
    let script = "cp \"$1\" \"$1.new\" && chmod +x \"$1.new\" && mv \"$1.new\" \"$1\"";
    assert!(Command::new("sh").args(["-c", script, "sh"]).arg(file).status().unwrap().success());
}

/// Reads a file of the repository.
fn repository(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)).unwrap()
}

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

/// A connection string, which every function app has.
const STORAGE: &str = "DefaultEndpointsProtocol=https;AccountName=myfunctionapp;AccountKey=none";
