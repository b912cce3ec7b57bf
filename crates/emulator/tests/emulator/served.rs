//! Tests of the listeners and the program.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use keyvault_emulator::{Effect, Emulator, Fault, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends `request` and reads until the connection ends.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut answer = Vec::new();
    // A cut connection may end in an error; the bytes before it count.
    let _ = timeout(TIMEOUT, stream.read_to_end(&mut answer)).await.expect("an end in time");
    String::from_utf8(answer).expect("the answer is text")
}

const READ: &str = "GET /secrets/a?api-version=7.4 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn faults_and_shutdown_cut_connections() {
    let emulator = Emulator::new();
    let served = emulator.serve().await.expect("listeners");
    let address = served.addresses.http;
    emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders).times(1));
    assert_eq!(exchange(address, READ).await, "");
    emulator.fault(Fault::new(Upstream::Vault, Effect::CutWithinBody).times(1));
    let answer = exchange(address, READ).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let length =
        head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    assert_eq!(length.map(|length: usize| length / 2), Some(body.len()));

    // Dropping the listeners closes open connections.
    let mut open = TcpStream::connect(address).await.expect("a connection");
    open.write_all(&READ.as_bytes()[..10]).await.expect("the bytes are sent");
    drop(served);
    let mut rest = Vec::new();
    let ended = timeout(TIMEOUT, open.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn the_proxy_opens_no_connections() {
    let emulator = Emulator::new();
    let served = emulator.serve().await.expect("listeners");
    for (request, host, status) in [
        ("GET http://169.254.169.254/metadata/identity/oauth2/token", "x", "400"),
        ("GET http://example.com/", "example.com", "421"),
        ("GET http://demo.vault.azure.net/secrets", "demo.vault.azure.net", "421"),
        ("CONNECT 169.254.169.254:443", "169.254.169.254:443", "403"),
        ("CONNECT example.com:443", "example.com:443", "403"),
    ] {
        let request = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = exchange(served.addresses.proxy, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
}

/// Runs the program. Returns its exit code and its standard error.
fn run_program(arguments: &[&str]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_keyvault-emulator"));
    let output = testkit::packages::output_within(TIMEOUT, b"", program.args(arguments));
    let Output { status, stdout, stderr } = output.expect("the program ends");
    assert!(stdout.is_empty());
    (status.code(), String::from_utf8(stderr).expect("text"))
}

#[tokio::test]
async fn only_free_loopback_addresses_are_served() {
    let served = Emulator::new().serve().await.expect("listeners");
    let in_use = served.addresses.http.to_string();
    let in_use_reason = format!("cannot listen on {in_use}: ");
    for (option, address, code, reason) in [
        ("--http", "0.0.0.0:0", 1, "0.0.0.0:0 is not on loopback"),
        ("--https", "[::]:0", 1, "[::]:0 is not on loopback"),
        ("--proxy", "192.0.2.1:0", 1, "192.0.2.1:0 is not on loopback"),
        ("--http", "[::ffff:127.0.0.1]:0", 1, "[::ffff:127.0.0.1]:0 is not on loopback"),
        ("--http", &in_use, 1, &in_use_reason),
        ("--https", &in_use, 1, &in_use_reason),
        ("--proxy", &in_use, 1, &in_use_reason),
        ("--source", "vm", 2, "app-service-2017"),
    ] {
        let (status, printed) = run_program(&[option, address]);
        assert!(status == Some(code) && printed.contains(option) && printed.contains(reason), "{printed}");
    }
}

#[test]
fn secrets_file_errors_show_no_value() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("secrets.json");
    let path = path.to_str().expect("text");
    let long = format!("{{\"a\": \"\", \"b\": \"{}\"}}", "hush".repeat(6_401));
    for (text, message) in [
        ("[]", ", line 1: expected a JSON object of names and text values"),
        ("{\n\"a\": \"hush", ", line 2: expected a JSON object of names and text values"),
        (
            r#"{"b_c": "hush"}"#,
            ": Key Vault does not accept \"b_c\": a name is 1 to 127 letters, digits and hyphens",
        ),
        (
            r#"{"DB": "hush", "db": "hush"}"#,
            ": Key Vault does not accept \"db\": another secret has the same name in another case",
        ),
        (&long, ": Key Vault does not accept \"b\": a value is at most 25,600 bytes"),
    ] {
        std::fs::write(path, text).expect("the file is written");
        let message = format!("keyvault-emulator: {path}{message}\n");
        assert_eq!(run_program(&["--secrets", path]), (Some(1), message));
    }
}

#[tokio::test]
async fn the_program_serves_a_secrets_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let (secrets, ca_file) = (directory.path().join("secrets.json"), directory.path().join("ca.pem"));
    std::fs::write(&secrets, r#"{"a": "correct horse"}"#).expect("the file is written");
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_keyvault-emulator"));
    program.arg("--secrets").arg(secrets).arg("--ca-file").arg(&ca_file);
    let mut running = program.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the program runs");
    let mut text = String::new();
    // The last line that the program prints.
    while !text.contains("?api-version=7.4'\n") {
        let output = running.stdout.as_mut().expect("an output");
        text.push(char::from(output.read_u8().await.expect("one more byte")));
    }
    for part in
        ["http  http://127.", "\nproxy http://127.", "\nKeyVaultUri=http://127.", "\nexport IDENTITY_HEADER="]
    {
        assert!(text.contains(part), "{text}");
    }
    for name in ["HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
        assert!(text.contains(&format!("\nexport {name}=")), "{text}");
    }
    assert!(std::fs::read_to_string(ca_file).expect("a file").starts_with("-----BEGIN CERTIFICATE-----"));
    let address = text.lines().next().and_then(|line| line.strip_prefix("http  http://")?.parse().ok());
    let address = address.expect("an address");
    assert!(exchange(address, READ).await.starts_with("HTTP/1.1 401 "));
}

/// Many times the duration of each step.
const TIMEOUT: Duration = Duration::from_secs(60);
