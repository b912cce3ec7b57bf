//! HTTP as far as clients that measure need it, hostile ones and others.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::rig::{PATH, SECRET};

/// The gateway's address, and a caller's key.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Target {
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = within(PATIENCE, TcpStream::connect(self.address)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The head of a request for a secret, with a key and these fields, without the empty line at its end.
    pub(crate) fn head(&self, key: &str, fields: &str) -> String {
        let (address, json) = (self.address, "Content-Type: application/json");
        format!("POST {PATH} HTTP/1.1\r\nHost: {address}\r\n{json}\r\nx-functions-key: {key}\r\n{fields}")
    }

    /// A whole request for the secret of the function's own test.
    pub(crate) fn request(&self, key: &str, fields: &str) -> String {
        asking_for(SECRET, &self.head(key, fields))
    }

    /// The same for another secret, with the right key.
    pub(crate) fn request_for(&self, secret: &str) -> String {
        asking_for(secret, &self.head(&self.key, ""))
    }

    /// A whole request that needs no key.
    pub(crate) fn get(&self, path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)
    }

    /// A request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> io::Result<Answer> {
        let mut stream = self.connect().await?;
        let answer = async {
            stream.write_all(request.as_bytes()).await?;
            Answer::read(&mut BufReader::new(stream)).await
        };
        within(PATIENCE, answer).await
    }
}

/// A head and its body.
fn asking_for(secret: &str, head: &str) -> String {
    let body = format!(r#"{{"Secret":"{secret}"}}"#);
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads one, and leaves what follows it.
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
        let mut body = vec![0; usize::min(length, LARGEST_ANSWER)];
        reader.read_exact(&mut body).await?;
        Ok(Self { status, body })
    }
}

/// What `future` comes to, or that it comes too late.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A request that is not answered for so long is not answered.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Nothing that the gateway says is as long.
const LARGEST_ANSWER: usize = 1 << 20;
