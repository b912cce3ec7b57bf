//! The listeners and the program.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use keyvault_emulator::{Addresses, Effect, Emulator, Fault, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What comes back for these bytes until the connection ends.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = Vec::new();
    // A connection that is cut may end in an error; what came before it counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    String::from_utf8(answer).expect("the answer is text")
}

const READ: &str = "GET /secrets/a?api-version=7.4 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_socket_is_cut_by_a_fault_and_at_the_end() {
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

    // Closing closes everything.
    let mut open = TcpStream::connect(address).await.expect("a connection");
    open.write_all(&READ.as_bytes()[..10]).await.expect("the bytes are taken");
    drop(served);
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, open.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn the_proxy_answers_itself_and_opens_no_connection() {
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

/// What the program says, and how it ends, with these arguments.
fn program(arguments: &[&str]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_keyvault-emulator"));
    let output = testkit::packages::output_within(PATIENCE, b"", program.args(arguments));
    let Output { status, stdout, stderr } = output.expect("the program ends");
    assert!(stdout.is_empty());
    (status.code(), String::from_utf8(stderr).expect("text"))
}

#[tokio::test]
async fn only_free_addresses_on_loopback_are_served() {
    let served = Emulator::new().serve().await.expect("listeners");
    let taken = served.addresses.http.to_string();
    for (option, address) in [
        ("--http", "0.0.0.0:0"),
        ("--https", "[::]:0"),
        ("--proxy", "192.0.2.1:0"),
        ("--http", "[::ffff:127.0.0.1]:0"),
        ("--http", &taken),
        ("--https", &taken),
        ("--proxy", &taken),
    ] {
        let start = if address == taken {
            format!("{option} cannot listen on {taken}: ")
        } else {
            format!(
                "{option} cannot be {address}, which is not on loopback: every client that can connect has the secrets \
                 and the control routes"
            )
        };
        let (code, said) = program(&[option, address]);
        assert!(code == Some(1) && said.starts_with(&format!("keyvault-emulator: {start}")), "{said}");
    }
    let (code, said) = program(&["--source", "vm"]);
    assert!(code == Some(2) && said.contains("app-service-2017"), "{said}");
    assert_eq!(Addresses::default().http, ([127, 0, 0, 1], 0).into());
}

#[test]
fn the_program_says_what_is_wrong_with_a_file_and_shows_no_value() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("secrets.json");
    let path = path.to_str().expect("text");
    let long = format!("{{\"a\": \"\", \"b\": \"{}\"}}", "hush".repeat(6_401));
    for (text, said) in [
        ("[]", ", line 1: a JSON object of names and text values is expected"),
        ("{\n\"a\": \"hush", ", line 2: a JSON object of names and text values is expected"),
        (
            r#"{"b_c": "hush"}"#,
            ": Key Vault does not take \"b_c\": a name is 1 to 127 letters, digits and hyphens",
        ),
        (
            r#"{"DB": "hush", "db": "hush"}"#,
            ": Key Vault does not take \"db\": another secret has the same name in another case",
        ),
        (&long, ": Key Vault does not take \"b\": a value is at most 25,600 bytes"),
    ] {
        std::fs::write(path, text).expect("the file is written");
        let said = format!("keyvault-emulator: {path}{said}\n");
        assert_eq!(program(&["--secrets", path]), (Some(1), said));
    }
}

#[tokio::test]
async fn the_program_serves_the_secrets_of_a_file_and_prints_how_to_read_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let (secrets, ca_file) = (directory.path().join("secrets.json"), directory.path().join("ca.pem"));
    std::fs::write(&secrets, r#"{"a": "correct horse"}"#).expect("the file is written");
    let mut program = Command::new(env!("CARGO_BIN_EXE_keyvault-emulator"));
    program.arg("--secrets").arg(secrets).arg("--ca-file").arg(&ca_file).stdout(Stdio::piped());
    let mut running = Running(program.spawn().expect("the program runs"));
    let output = std::io::BufReader::new(running.0.stdout.take().expect("an output"));
    let lines: Vec<_> = std::io::BufRead::lines(output).take(20).map_while(Result::ok).collect();
    let text = lines.join("\n");
    for part in
        ["http  http://127.", "\nproxy http://127.", "\nKeyVaultUri=http://127.", "\nexport IDENTITY_HEADER="]
    {
        assert!(text.contains(part), "{text}");
    }
    for name in ["HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
        assert!(text.contains(&format!("\nexport {name}=")), "{text}");
    }
    assert!(std::fs::read_to_string(ca_file).expect("a file").starts_with("-----BEGIN CERTIFICATE-----"));
    let address = lines[0].trim_start_matches("http  http://").parse().expect("an address");
    assert!(exchange(address, READ).await.starts_with("HTTP/1.1 401 "));
}

/// A program that ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);
