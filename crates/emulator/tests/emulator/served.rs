//! The listeners and the program.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyvault_emulator::{Addresses, Answer, Effect, Emulator, Fault, Source, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What comes back for these bytes until the connection ends.
async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = Vec::new();
    // A connection that is cut may end in an error; what came before it counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    String::from_utf8(answer).expect("the answer is text")
}

const READ: &str = "GET /secrets/a?api-version=7.4 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_socket_is_cut_where_the_fault_says() {
    let emulator = Emulator::new();
    let served = emulator.serve().await.expect("listeners");
    let address = served.addresses.http;
    assert!(exchange(address, READ).await.starts_with("HTTP/1.1 401 Unauthorized\r\n"));

    emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders).times(1));
    assert_eq!(exchange(address, READ).await, "");

    emulator.fault(Fault::new(Upstream::Vault, Effect::CutWithinBody).times(1));
    let answer = exchange(address, READ).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let length = head.to_lowercase().lines().find_map(|it| it.strip_prefix("content-length: ")?.parse().ok());
    assert_eq!(length.map(|it: usize| it / 2), Some(body.len()));

    // The server frames an answer, whatever its headers say.
    let headers = http::HeaderMap::from_iter([(http::header::CONTENT_LENGTH, 99.into())]);
    let answer = Answer { status: http::StatusCode::OK, headers, body: "short".to_owned() };
    emulator.fault(Fault::new(Upstream::Vault, Effect::Answer(answer)).times(1));
    assert!(exchange(address, READ).await.ends_with("\r\n\r\nshort"));
}

#[tokio::test]
async fn the_proxy_answers_itself_and_connects_to_nobody() {
    let emulator = Emulator::new();
    let served = emulator.serve().await.expect("listeners");
    for (request, status) in [
        ("GET http://169.254.169.254/metadata/identity/oauth2/token HTTP/1.1\r\nhost: x\r\n", "400"),
        ("GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\n", "421"),
        ("GET http://demo.vault.azure.net/secrets HTTP/1.1\r\nhost: demo.vault.azure.net\r\n", "421"),
        ("CONNECT 169.254.169.254:443 HTTP/1.1\r\nhost: 169.254.169.254:443\r\n", "403"),
        ("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n", "403"),
    ] {
        let answer = exchange(served.addresses.proxy, &format!("{request}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
}

#[tokio::test]
async fn closing_closes_everything() {
    let emulator = Emulator::new();
    let served = emulator.serve().await.expect("listeners");
    let address = served.addresses.http;
    let mut open = TcpStream::connect(address).await.expect("a connection");
    open.write_all(&READ.as_bytes()[..10]).await.expect("the bytes are taken");
    drop(served);
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, open.read_to_end(&mut rest)).await.expect("an end in time");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn only_loopback_is_served() {
    let free = Addresses::default();
    for (option, text) in [
        ("--http", "0.0.0.0:0"),
        ("--https", "[::]:0"),
        ("--proxy", "192.0.2.1:0"),
        ("--http", "[::ffff:127.0.0.1]:0"),
    ] {
        let address = text.parse().expect("an address");
        let addresses = match option {
            "--http" => Addresses { http: address, ..free },
            "--https" => Addresses { https: address, ..free },
            _ => Addresses { proxy: address, ..free },
        };
        let refused = Emulator::new().serve_at(addresses).await.expect_err("nobody may connect");
        let expected = format!(
            "{option} cannot be {text}, which is not on loopback: whoever can connect has the secrets and the \
             control routes"
        );
        assert_eq!(refused.to_string(), expected);

        let mut program = Command::new(env!("CARGO_BIN_EXE_keyvault-emulator"));
        let output = program.args([option, text]).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), said.as_ref()),
            (Some(1), &*format!("keyvault-emulator: {expected}\n"))
        );
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_option() {
    let served = Emulator::new().serve().await.expect("listeners");
    let taken = served.addresses.http;
    for (option, addresses) in [
        ("--http", Addresses { http: taken, ..Addresses::default() }),
        ("--https", Addresses { https: taken, ..Addresses::default() }),
        ("--proxy", Addresses { proxy: taken, ..Addresses::default() }),
    ] {
        let refused = Emulator::new().serve_at(addresses).await.expect_err("it is taken");
        let start = format!("{option} cannot listen on {taken}: ");
        assert!(refused.to_string().starts_with(&start), "{refused}");
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    }
}

#[tokio::test]
async fn settings_lead_to_the_emulator() {
    let emulator = Emulator::new();
    let served = emulator.serve().await.expect("listeners");
    let base = served.http_base();
    for (source, names) in [
        (Source::AppService2019, &["IDENTITY_ENDPOINT", "IDENTITY_HEADER"][..]),
        (Source::AppService2017, &["MSI_ENDPOINT", "MSI_SECRET"]),
        (Source::Imds, &["AZURE_POD_IDENTITY_AUTHORITY_HOST"]),
        (Source::CloudShell, &["MSI_ENDPOINT"]),
        (
            Source::ClientSecret,
            &["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_AUTHORITY_HOST"],
        ),
    ] {
        let settings = served.settings(source);
        assert_eq!(settings[0], ("KeyVaultUri", format!("{base}/")));
        assert_eq!(settings[1], ("KEY_VAULT_RESOURCE", "https://vault.azure.net".to_owned()));
        let found: Vec<_> = settings[2..].iter().map(|(name, _)| *name).collect();
        assert_eq!(found, names);
    }
}

#[test]
fn the_program_says_what_is_wrong_with_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("secrets.json");
    for (text, line) in [
        ("{\n\"a\": \"1\",\n\"b\": 2\n}", "line 3: a JSON object of names and text values is expected"),
        ("{\n\"a\": \"hush", "line 2: a JSON object of names and text values is expected"),
        ("{\n\"a_b\": \"hush\"}", "line 2: Key Vault does not take \"a_b\": a name is 1 to 127 letters"),
    ] {
        std::fs::write(&path, text).expect("the file is written");
        let mut program = Command::new(env!("CARGO_BIN_EXE_keyvault-emulator"));
        let output = program.arg("--secrets").arg(&path).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("keyvault-emulator: {}, {line}", path.display());
        assert!(said.starts_with(&expected) && said.lines().count() == 1 && !said.contains("hush"), "{said}");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    }
}

#[tokio::test]
async fn the_program_prints_where_it_is() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_keyvault-emulator"));
    let program = program.args(["--source", "cloud-shell"]).stdout(Stdio::piped());
    let mut running = Running(program.spawn().expect("the program runs"));
    let output = std::io::BufReader::new(running.0.stdout.take().expect("an output"));
    let lines: Vec<_> = std::io::BufRead::lines(output).take(6).map_while(Result::ok).collect();
    let starts = [
        "http  http://127.",
        "https https://127.",
        "proxy http://127.",
        "KeyVaultUri=http://127.",
        "KEY_",
        "MSI_",
    ];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{lines:?}");
    }
    let address = lines[0].trim_start_matches("http  http://").parse().expect("an address");
    let answer = exchange(address, READ).await;
    assert_eq!((lines.len(), answer.starts_with("HTTP/1.1 401 ")), (6, true));
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
