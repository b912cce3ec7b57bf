//! What the gateway's own host promises beyond `wasmtime serve`.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use dev_host::{UNTIL_INPUT_ENDS, wait_for};
use keyvault_emulator::{Effect, Fault, Source, Upstream};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{HOST, Harness, JSON, KEY, OWN_HOST, REQUEST, SECRET, VALUE, key_field, request_bytes};
use crate::in_parallel;

#[test]
fn a_burst_of_cold_reads_is_one_call_and_stale_values_serve_all() {
    let settings = [("GATEWAY_CACHE_TTL_SECONDS", "1"), ("GATEWAY_DEADLINE_SECONDS", "8")];
    let harness =
        Harness::start_with(OWN_HOST, Source::AppService2019, &settings, &["--max-requests", "2000"]);
    harness.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_millis(500)));
    // A thousand take the host of this build four seconds, and after five it ends an instance.
    let requests: Vec<_> = (0..400).map(|_| harness.begin(&read_request())).collect();
    assert!(requests.into_iter().all(|request| harness.read(request).value() == VALUE));
    assert_eq!((harness.calls(), harness.served.connections()), ((1, 1), 1));
    // The vault fails: the one instance has the value for every client.
    harness.emulator.clear_faults();
    harness.emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders));
    let is_stale = |status: &str| status.contains("ttl=-");
    wait_for("a stale value", || is_stale(harness.post().field("cache-status")).then_some(()));
    in_parallel(64, || {
        let response = harness.post();
        assert!(response.value() == VALUE && is_stale(response.field("cache-status")), "{response:?}");
    });
}

/// Azure behind a proxy, with a private certification authority: one connection each to Entra ID and the
/// vault.
#[test]
fn calls_go_through_the_proxy_trust_the_private_ca_and_reuse_connections() {
    let harness = Harness::start_behind_proxy(OWN_HOST);
    for name in 0..10 {
        harness.emulator.set_secret(&format!("cold-{name}"), VALUE).unwrap();
        let body = format!(r#"{{"Secret":"cold-{name}"}}"#);
        assert_eq!(harness.send("POST /", &[&key_field(), JSON], body.as_bytes()).value(), VALUE);
    }
    assert_eq!((harness.calls(), harness.served.connections()), ((1, 10), 2));
}

#[test]
fn a_stop_answers_every_request_whose_head_was_read() {
    let harness = Harness::start(OWN_HOST, Source::AppService2019, &[]);
    let mut idle = harness.connect();
    idle.write_all(&request_bytes("GET /healthz", &["Connection: keep-alive"], b"")).unwrap();
    wait_for("a response", || harness.server.log().iter().any(|line| line.contains("\"OK\"")).then_some(()));
    harness.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(2)));
    let requests: Vec<_> = (0..64).map(|_| harness.begin(&read_request())).collect();
    wait_for("the vault call", || (harness.calls().1 == 1).then_some(()));
    // Every head has been read: the answers of all are out before the last health check, which came after
    // them.
    let (address, mut harness) = (harness.server.address(), harness);
    harness.kill("-TERM");
    wait_for("a closed port", || TcpStream::connect(address).is_err().then_some(()));
    assert!(requests.into_iter().all(|request| harness.read(request).value() == VALUE));
    let status = wait_for("the end", || harness.server.exit_status().unwrap());
    assert!(status.success(), "{status}");
    let mut rest = String::new();
    let _ = idle.read_to_string(&mut rest);
    assert!(rest.starts_with("HTTP/1.1 200"), "{rest}");
    let log = harness.server.stop().join("\n");
    assert!(
        log.contains("stopping; requests in progress have 15 s") && log.contains(r#""host":"stopped""#),
        "{log}"
    );
}

/// Requests that wait for a vault need memory: more than the instance may have ends it.
#[test]
fn an_instance_that_traps_is_replaced_and_one_that_is_worn_loses_no_request() {
    let options = ["--max-memory", "8", "--max-requests", "10000"];
    let harness = Harness::start_with(OWN_HOST, Source::AppService2019, &[], &options);
    harness.emulator.fault(Fault::new(Upstream::Vault, Effect::HangBeforeHeaders));
    let padding = format!(r#"{{"Secret":"{SECRET}","x":"{}"}}"#, "x".repeat(7 * 1024));
    let request = request_bytes("POST /", &[&key_field(), JSON], padding.as_bytes());
    let mut requests = Vec::new();
    wait_for("a trap", || {
        requests.extend((0..100).map(|_| harness.begin(&request)));
        harness.server.log().iter().any(|line| line.contains("after a trap")).then_some(())
    });
    let response = harness.read(requests.remove(0));
    assert_eq!(response.error(), (500, "InternalError".to_owned()));
    drop(requests);
    harness.emulator.clear_faults();
    wait_for("the next instance", || (harness.post().status == 200).then_some(()));

    let options = ["--instance-requests", "100"];
    let harness = Harness::start_with(OWN_HOST, Source::AppService2019, &[], &options);
    in_parallel(8, || {
        let mut connection = BufReader::new(harness.connect());
        (0..100).for_each(|_| assert_eq!(harness.post_on(&mut connection).value(), VALUE));
    });
    let instances = harness.instances();
    assert!(
        (3..=9).contains(&instances) && harness.calls().1 <= instances,
        "{instances} {:?}",
        harness.calls()
    );
}

#[test]
fn silent_slow_and_greedy_clients_cost_themselves_only() {
    let options = [
        ["--header-seconds", "1"],
        ["--idle-seconds", "2"],
        ["--max-connections-per-address", "4"],
        ["--max-requests", "1"],
    ];
    let harness = Harness::start_with(OWN_HOST, Source::AppService2019, &[], options.as_flattened());
    let mut silent = harness.connect();
    let mut slow = harness.begin(b"POST / HTTP/1.1\r\nHost: a\r\n");
    let mut idle = harness.begin(&request_bytes("GET /healthz", &["Connection: keep-alive"], b""));
    assert!(read_to_end(&mut idle).starts_with("HTTP/1.1 200"));
    assert_eq!([read_to_end(&mut silent), read_to_end(&mut slow)], ["", ""]);

    harness.emulator.fault(Fault::new(Upstream::Vault, Effect::HangBeforeHeaders));
    let occupying = harness.begin(&read_request());
    wait_for("the vault call", || (harness.calls().1 == 1).then_some(()));
    let refused = harness.send("GET /healthz", &[], b"");
    assert_eq!((refused.error(), refused.field("retry-after")), ((503, "Unavailable".to_owned()), "1"));
    let others = [(); 3].map(|()| harness.connect());
    let mut fifth = harness.connect();
    assert_eq!(read_to_end(&mut fifth), "");
    drop(others);
    harness.emulator.clear_faults();
    assert_eq!(harness.read(occupying).value(), VALUE);
}

/// Replies that HTTP/2 clients ask for and do not take have a bound for the whole host, and a time.
#[test]
fn replies_that_clients_do_not_take_have_a_bound() {
    let harness = Harness::start_with(OWN_HOST, Source::AppService2019, &[], &["--reply-seconds", "2"]);
    // The preface; SETTINGS with an initial window of 1 byte; then 100 requests for the description of 19
    // KiB. Names and values are literals without indexing (RFC 7541, section 6.2.2).
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x01".to_vec();
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/openapi.json"), (":authority", "a")];
    let literal = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let block: Vec<u8> =
        fields.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect();
    for stream in (1..200_u32).step_by(2) {
        bytes.extend([0, 0, block.len() as u8, 1, 5]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(&block);
    }
    let is_full = || harness.send("GET /openapi.json", &[], b"").status == 503;
    let mut flood = Vec::new();
    wait_for("a host without room", || {
        flood.push(harness.begin(&bytes));
        is_full().then_some(())
    });
    assert!(flood.len() > 10, "{}", flood.len());
    // Small replies need no room.
    assert_eq!(harness.post().value(), VALUE);
    wait_for("the end of the greedy connections", || (!is_full()).then_some(()));
}

#[test]
fn malformed_hosts_are_refused_and_both_protocols_are_served() {
    let harness = Harness::start(OWN_HOST, Source::AppService2019, &[]);
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: u@a\r\n"] {
        let response = harness
            .send_raw(format!("GET /healthz HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").as_bytes());
        assert_eq!(response.error(), (400, "BadRequest".to_owned()), "{fields}");
    }
    let old = harness.send_raw(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(old.status, 200);
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--http2-prior-knowledge", "-w", "%{http_version}"]);
    curl.args(["-H", JSON, "-H", &key_field(), "-d", REQUEST, &harness.server.url("/")]);
    let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
    assert!(
        text.starts_with(r#"{"Secret":"Integration-Team-Blog","Value":"#) && text.ends_with("}2"),
        "{text}"
    );
}

#[test]
fn the_certificate_is_read_again_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let write = || {
        let pair = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        fs::write(&certificate, signed.pem()).unwrap();
        CertificateDer::from_pem_slice(signed.pem().as_bytes()).unwrap()
    };
    let first = write();
    let options = [["--tls-cert", certificate.to_str().unwrap()], ["--tls-key", key.to_str().unwrap()]];
    let harness = Harness::start_with(OWN_HOST, Source::AppService2019, &[], options.as_flattened());
    assert!(https(&harness, &first).unwrap().contains("200 OK"));
    let second = write();
    harness.kill("-HUP");
    wait_for("the second certificate", || https(&harness, &second).ok());
    assert!(https(&harness, &first).is_err());
    // A file that is wrong changes nothing.
    fs::write(&key, "no key").unwrap();
    harness.kill("-HUP");
    wait_for("a line of the log", || {
        harness.server.log().iter().any(|line| line.contains("key.pem cannot be used")).then_some(())
    });
    assert!(https(&harness, &second).unwrap().contains("200 OK"));
    // The instance was replaced for the settings that could be read.
    wait_for("the next instance", || (harness.instances() == 2).then_some(()));
}

#[test]
fn sockets_come_from_systemd_the_functions_host_or_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let notices = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let socket = folder.path().join("gateway.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // The file of a process that has ended.
    drop(listener);
    let notify = folder.path().join("notify");
    let listen = format!("unix:{}", socket.display());
    let settings = [("NOTIFY_SOCKET", notify.to_str().unwrap())];
    let mut harness =
        Harness::start_with(OWN_HOST, Source::AppService2019, &settings, &["--listen", &listen]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(&request_bytes("GET /healthz", &[], b"")).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    harness.kill("-TERM");
    wait_for("the end", || harness.server.exit_status().unwrap());
    let notice = || {
        let mut bytes = [0; 100];
        let length = notices.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
    };
    assert_eq!([notice(), notice()], ["READY=1", "STOPPING=1"]);

    // The socket is descriptor 3 of the process (sd_listen_fds(3)); bash duplicates any number.
    let passed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    rustix::io::fcntl_setfd(&passed, rustix::io::FdFlags::empty()).unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&passed);
    let component = dev_host::component("service").unwrap();
    let command = |setting: &str, script: &str| {
        let script = format!("{script} exec \"$0\" gateway --component \"$1\"");
        let mut command = Command::new("bash");
        command
            .args(["-c", &script, HOST])
            .arg(&component)
            .env_clear()
            .envs([("KeyVaultUri", "https://my-vault.vault.azure.net"), (UNTIL_INPUT_ENDS, "1")]);
        if let Some((name, value)) = setting.split_once('=') {
            command.env(name, value);
        }
        command.stdin(std::process::Stdio::piped());
        command
    };
    for (setting, script, expected) in [
        ("LISTEN_FDS=1", format!("exec 3<&{descriptor}; export LISTEN_PID=$$;"), Some(address)),
        ("FUNCTIONS_CUSTOMHANDLER_PORT=0", String::new(), None),
    ] {
        let mut server = dev_host::Server::spawn(command(setting, &script), address).unwrap();
        server.wait_until_ready().unwrap();
        assert!(expected.is_none_or(|address| server.address() == address), "{setting}");
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(&request_bytes("GET /healthz", &[], b"")).unwrap();
        assert!(read_to_end(&mut stream).starts_with("HTTP/1.1 200"), "{setting}");
    }
}

#[test]
fn settings_are_checked_before_anything_starts() {
    let vault = ("KeyVaultUri", "https://my-vault.vault.azure.net");
    let key = ("GATEWAY_KEY", KEY);
    for (settings, options, code, text) in [
        (
            &[vault, key][..],
            &["--check"][..],
            0,
            "vault: https://my-vault.vault.azure.net\ntoken source: imds\ncallers: key",
        ),
        (&[key], &["--check"], 2, "error: KeyVaultUri is not set\n"),
        (&[vault, key, ("GATEWAY_LOG", "loud")], &[], 2, "error: GATEWAY_LOG must be error, info or debug\n"),
        (&[vault, ("HTTPS_PROXY", "socks5://a")], &[], 2, "error: HTTPS_PROXY must be"),
        (&[vault], &["--ca-file", "/nonexistent"], 2, "error: /nonexistent cannot be used"),
        (
            &[vault],
            &["--listen", "203.0.113.1:1", "--component", "x"],
            1,
            "error: cannot listen at 203.0.113.1:1",
        ),
        (&[vault], &["--listen", "127.0.0.1:0"], 1, "error: there is no embedded component"),
        (&[vault], &["--threads", "0"], 2, "error: invalid value '0' for '--threads"),
    ] {
        let mut command = Command::new(HOST);
        command.arg("gateway").args(options).env_clear().envs(settings.iter().copied());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let output = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(
            status.code() == Some(code) && output.contains(text) && !output.contains(KEY),
            "{status} {output}"
        );
    }
}

fn read_request() -> Vec<u8> {
    request_bytes("POST /", &[&key_field(), JSON], REQUEST.as_bytes())
}

/// Reads until the host closes the connection, which resets it if bytes were not read.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8(bytes).unwrap()
}

/// Sends a health check over TLS, trusting only `certificate`.
fn https(harness: &Harness, certificate: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, harness.connect());
    stream.write_all(&request_bytes("GET /healthz", &[], b""))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
