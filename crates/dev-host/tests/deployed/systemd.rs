//! The service of systemd: what its unit says is done as systemd does it, in a folder instead of the machine's root.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dev_host::Server;
use keyvault_emulator::{Effect, Fault, Kind, Source, Upstream};
use testkit::leaks::Private;

use crate::place::{HOST, PATIENCE, Place, REQUEST, random_text, repository, wait_for};

#[test]
fn whoever_has_the_key_of_the_credential_reads_secrets() {
    let (machine, key) = (Machine::install(""), random_text());
    // With a line end, as the shell of the document writes it.
    machine.place.write("etc/credstore/keyvault-gateway.GATEWAY_KEY", &format!("{key}\n"));
    let mut server = machine.start();
    assert_eq!(ask(&server, "GET /readyz", ""), (200, r#"{"status":"ready"}"#.to_owned()));
    assert_eq!(post(&server, &key), (200, machine.answer()));
    for other in ["another-key", ""] {
        assert_eq!(post(&server, other).0, 401, "{other:?}");
    }
    let [token] = machine.place.emulator.token_calls().try_into().unwrap();
    assert_eq!(token.kind, Kind::Token(Source::Imds));
    let line = server.wait_for_line(PATIENCE, |it| it.starts_with('{') && it.contains(r#""status":401"#));
    assert!(line.is_some(), "{:?}", server.log());
    machine.place.expect_nothing_shown(&mut server, &[(Private::CallerKey, &key)]);
}

#[test]
fn a_service_without_a_credential_is_ready_and_lets_nobody_in() {
    let machine = Machine::install("");
    let server = machine.start();
    assert_eq!(ask(&server, "GET /readyz", "").0, 200);
    for key in ["a-key", ""] {
        assert_eq!(post(&server, key).0, 401, "{key:?}");
    }
    assert_eq!(machine.place.emulator.vault_calls(), []);
}

#[test]
fn a_stop_waits_for_requests_under_way_and_ends_well() {
    let settings = format!("GATEWAY_DEADLINE_SECONDS={}\n", DEADLINE.as_secs());
    let (machine, key) = (Machine::install(&settings), random_text());
    machine.place.write("etc/credstore/keyvault-gateway.GATEWAY_KEY", &format!("{key}\n"));
    let mut server = machine.start();
    let slow = Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_millis(500));
    machine.place.emulator.fault(slow);
    let mut idle = Connection::open(&server);
    idle.send("GET /healthz", "", "");
    assert_eq!(idle.answer().unwrap().0, 200);
    // Who is told to go on is waited for: the gateway reads a body that is not there yet.
    let mut under_way = Connection::open(&server);
    let fields = format!("x-functions-key: {key}\r\nExpect: 100-continue\r\n");
    under_way.send_head("POST /", &fields, REQUEST.len());
    assert_eq!(under_way.head().unwrap().0, 100);

    let start = Instant::now();
    let mut stop = machine.command("ExecStop", Some(server.pid())).spawn().unwrap();
    let waits = server.wait_for_line(PATIENCE, |it| it.starts_with("Waiting for child tasks to exit"));
    assert!(waits.is_some(), "{:?}", server.log());
    let mut new = Connection::open(&server);
    new.send("GET /healthz", "", "");
    idle.send("GET /healthz", "", "");
    under_way.write(REQUEST);
    assert_eq!(under_way.answer().unwrap(), (200, machine.answer()));
    // Wasmtime's page, and no request to the gateway.
    let (status, page) = idle.answer().unwrap();
    assert!(status == 500 && page.starts_with("<!doctype html>"), "{status}: {page}");

    let stopped = wait_for("an end of the stop", || stop.try_wait().unwrap());
    assert!(stopped.success() && start.elapsed() > DEADLINE, "{stopped} after {:?}", start.elapsed());
    // Of what it waits for only the instance is left, which has nothing to do.
    assert_eq!(server.ended().unwrap(), None);
    machine.signal(&server);
    let ended = wait_for("an end of the service", || server.ended().unwrap());
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert!(new.answer().is_err(), "a new connection is not answered");
}

#[test]
fn a_service_that_nobody_has_asked_stops_at_once() {
    let machine = Machine::install("");
    let mut server = machine.start();
    let mut stop = machine.command("ExecStop", Some(server.pid())).spawn().unwrap();
    let ended = wait_for("an end of the service", || server.ended().unwrap());
    // Wasmtime may listen a moment before it heeds signals, and then it is the signal that ends it.
    assert!(is_clean(ended), "{ended}");
    assert!(wait_for("an end of the stop", || stop.try_wait().unwrap()).success());
}

/// With any other end the unit has failed, and `Restart=on-failure` starts it again (systemd.service(5), "SuccessExitStatus=").
fn is_clean(ended: ExitStatus) -> bool {
    let (hangup, interrupt, pipe, terminate) = (1, 2, 13, 15);
    ended.code() == Some(0)
        || ended.signal().is_some_and(|it| [hangup, interrupt, pipe, terminate].contains(&it))
}

/// A machine on which the service is installed.
struct Machine {
    place: Place,
    unit: String,
}

impl Machine {
    /// Does what docs/deploy/systemd.md has under "Install it", with these lines more in the settings.
    fn install(settings: &str) -> Self {
        let place = Place::new();
        place.program("usr/local/bin/wasmtime", &wasmtime());
        for script in ["start.sh", "stop.sh"] {
            // Nobody may run it as a program, as `install -m 0644` leaves it.
            let text = fs::read_to_string(repository("deploy/systemd").join(script)).unwrap();
            place.write(&format!("usr/local/lib/keyvault-gateway/{script}"), &text);
        }
        let component = dev_host::component("service").unwrap();
        place.copy(&component, "usr/local/lib/keyvault-gateway/service.wasm");
        let mut text = fs::read_to_string(repository("deploy/systemd/settings.env")).unwrap();
        for (name, value) in place.settings(Source::Imds) {
            text += &format!("{name}={value}\n");
        }
        place.write("etc/keyvault-gateway/settings.env", &(text + settings));
        let unit = fs::read_to_string(repository("deploy/systemd/keyvault-gateway.service")).unwrap();
        Self { place, unit }
    }

    /// Runs `ExecStart=` until it listens.
    fn start(&self) -> Server {
        let started = Server::spawn(self.command("ExecStart", None), (Ipv4Addr::LOCALHOST, 0).into());
        let mut server = started.unwrap();
        server.wait_until_ready().unwrap_or_else(|problem| panic!("{problem}"));
        server
    }

    /// What systemd sends when `ExecStop=` has ended and the service has not.
    fn signal(&self, server: &Server) {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "kill -s \"${1#SIG}\" \"$2\"", "sh", &self.line("KillSignal")]);
        assert!(shell.arg(server.pid().to_string()).status().unwrap().success());
    }

    /// The command of the unit's line `name`, with the environment and the folder that systemd gives it.
    fn command(&self, name: &str, main: Option<u32>) -> Command {
        let line = self.line(name);
        let words = line.split(' ').map(|it| match it {
            "$MAINPID" => main.unwrap().to_string(),
            word => self.here(word),
        });
        let words: Vec<_> = words.collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir("/").stdin(Stdio::null());
        for variable in self.lines("Environment") {
            let (name, value) = variable.split_once('=').unwrap();
            command.env(name, self.here(value));
        }
        let file = fs::read_to_string(self.place.path(&self.line("EnvironmentFile"))).unwrap();
        let variables = file.lines().filter(|it| !it.starts_with('#')).filter_map(|it| it.split_once('='));
        command.envs(variables).env("CREDENTIALS_DIRECTORY", self.hand_over_credentials());
        command
    }

    /// The files of `LoadCredential=`, or what `SetCredential=` has for those that nobody has provided.
    fn hand_over_credentials(&self) -> PathBuf {
        for line in self.lines("LoadCredential") {
            let (name, file) = line.split_once(':').unwrap();
            let otherwise =
                self.lines("SetCredential").find_map(|it| it.strip_prefix(name)?.strip_prefix(':'));
            let text = fs::read_to_string(self.place.path(file))
                .unwrap_or_else(|_| otherwise.unwrap().replace("\\n", "\n"));
            self.place.write(&format!("run/credentials/keyvault-gateway.service/{name}"), &text);
        }
        self.place.path("run/credentials/keyvault-gateway.service")
    }

    /// The paths of a machine in the folder of this test.
    fn here(&self, text: &str) -> String {
        text.replace("/usr/local/", &format!("{}/", self.place.path("usr/local").display()))
    }

    fn line(&self, name: &str) -> String {
        self.lines(name).next().unwrap().to_owned()
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = &str> {
        self.unit.lines().filter_map(move |it| it.strip_prefix(name)?.strip_prefix('='))
    }

    /// What the gateway says of [`REQUEST`].
    fn answer(&self) -> String {
        format!(r#"{{"Secret":"Integration-Team-Blog","Value":"{}"}}"#, self.place.value)
    }
}

/// A `wasmtime` that passes on every word as it is, but for the port: it is a free one, as others may use the unit's here.
fn wasmtime() -> String {
    format!(
        "#!/bin/sh\nfor word; do\n    shift\n    [ \"$word\" != 127.0.0.1:8080 ] || word=127.0.0.1:0\n    \
         set -- \"$@\" \"$word\"\ndone\nexec '{HOST}' \"$@\"\n"
    )
}

fn post(server: &Server, key: &str) -> (u16, String) {
    let mut connection = Connection::open(server);
    let field = if key.is_empty() { String::new() } else { format!("x-functions-key: {key}\r\n") };
    connection.send("POST /api/GetKeyVaultSecret", &field, REQUEST);
    connection.answer().unwrap()
}

fn ask(server: &Server, request: &str, body: &str) -> (u16, String) {
    let mut connection = Connection::open(server);
    connection.send(request, "", body);
    connection.answer().unwrap()
}

/// A connection that can wait within a request.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, request: &str, fields: &str, body: &str) {
        self.send_head(request, fields, body.len());
        self.write(body);
    }

    fn send_head(&mut self, request: &str, fields: &str, length: usize) {
        let json = "Content-Type: application/json";
        self.write(&format!(
            "{request} HTTP/1.1\r\nHost: gateway\r\n{json}\r\nContent-Length: {length}\r\n{fields}\r\n"
        ));
    }

    fn write(&mut self, text: &str) {
        // Whoever has closed the connection is found out when its answer is read.
        let _ = self.0.get_mut().write_all(text.as_bytes());
    }

    /// The status and the body that come next.
    fn answer(&mut self) -> io::Result<(u16, String)> {
        let (status, length) = self.head()?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body).unwrap()))
    }

    /// The status that comes next, and the length of its body.
    fn head(&mut self) -> io::Result<(u16, usize)> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).ok_or(io::ErrorKind::UnexpectedEof)?.parse().unwrap();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        Ok((status, length))
    }
}

/// Long enough for a busy machine to come from one step of the stop to the next.
const DEADLINE: Duration = Duration::from_secs(8);
