//! A minimal HTTP client for load and attacks: it sends exact bytes and reads one response at a time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::stack::PATH;

/// The route for several secrets.
const SEVERAL: &str = "/api/GetKeyVaultSecrets";

/// The gateway's address and a caller's API key.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Target {
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = timeout(REQUEST_TIMEOUT, TcpStream::connect(self.address)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Returns the head of a read request with this key and these fields, without the final empty line.
    pub(crate) fn head(&self, key: &str, fields: &str) -> String {
        let (address, json) = (self.address, "Content-Type: application/json");
        format!("POST {PATH} HTTP/1.1\r\nHost: {address}\r\n{json}\r\nx-functions-key: {key}\r\n{fields}")
    }

    /// Returns a complete read request with this key and these fields.
    pub(crate) fn request(&self, secret: &str, key: &str, fields: &str) -> String {
        let body = format!(r#"{{"Secret":"{secret}"}}"#);
        format!("{}Content-Length: {}\r\n\r\n{body}", self.head(key, fields), body.len())
    }

    /// Returns a complete request for several secrets.
    pub(crate) fn request_for_several(&self, secrets: &[String]) -> String {
        let body = serde_json::json!({ "Secrets": secrets }).to_string();
        let head = self.head(&self.key, "").replacen(PATH, SEVERAL, 1);
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Returns a complete GET request without a key.
    pub(crate) fn get(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)
    }
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Sends a request and reads the response.
    pub(crate) async fn exchange(mut stream: TcpStream, request: &str) -> io::Result<Self> {
        stream.write_all(request.as_bytes()).await?;
        Self::read(&mut BufReader::new(stream)).await
    }

    /// Reads one response and leaves the bytes after it in the reader.
    pub(crate) async fn read(reader: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).await?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0);
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; usize::min(length, MAX_BODY)];
        reader.read_exact(&mut body).await?;
        Ok(Self { status, body })
    }
}

/// Runs `future` with a timeout.
pub(crate) async fn timeout<T>(time: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(time, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The timeout of one request. A request without a response by then counts as unanswered.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body that the client reads. The gateway's responses are far smaller.
const MAX_BODY: usize = 1 << 20;
