//! Groups of hostile clients.

use super::scenarios::{AUDIENCE, LARGE_BODIES};
use crate::client::{REQUEST_TIMEOUT, Response, Target, timeout};
use crate::stack::SECRET;
use crate::statistics::milliseconds;
use keyvault_emulator::{Emulator, facts};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// The responses that clients got.
#[derive(Default)]
pub(crate) struct Responses {
    /// The count of each status, or of the reason for no response.
    pub(crate) counts: BTreeMap<String, usize>,
    /// The time of each response, in milliseconds.
    pub(crate) times: Vec<f64>,
}

impl Responses {
    /// Adds the response to a request, and returns whether there was one in time.
    pub(super) async fn time(&mut self, request: impl Future<Output = io::Result<Response>>) -> bool {
        let start = Instant::now();
        let response = timeout(REQUEST_TIMEOUT, request).await;
        let has_response = response.is_ok();
        self.times.push(milliseconds(start.elapsed()));
        let response = match response {
            Ok(response) => response.status.to_string(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => "no response".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::Other => error.to_string(),
            Err(_) => CLOSED.to_owned(),
        };
        *self.counts.entry(response).or_default() += 1;
        has_response
    }
}

pub(super) const CLOSED: &str = "closed";

/// Runs clients concurrently and merges their responses.
pub(super) async fn run_all(
    clients: impl Iterator<Item: Future<Output = Responses> + Send + 'static>,
) -> Responses {
    let mut merged = Responses::default();
    for responses in clients.collect::<JoinSet<_>>().join_all().await {
        merged.times.extend(responses.times);
        for (response, count) in responses.counts {
            *merged.counts.entry(response).or_default() += count;
        }
    }
    merged
}

/// Runs clients that send one request after the other for a time, and at least one each.
async fn repeat<R, F>(clients: usize, period: Duration, request: R) -> Responses
where
    R: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = io::Result<Response>> + Send,
{
    run_all((0..clients).map(|client| {
        let request = request.clone();
        async move {
            let (mut responses, begin) = (Responses::default(), Instant::now());
            while responses.times.is_empty() || begin.elapsed() <= period {
                responses.time(request(client)).await;
            }
            responses
        }
    }))
    .await
}

fn key(target: &Target, has_key: bool) -> &str {
    if has_key { &target.key } else { "this-is-not-the-key" }
}

/// Clients that send their body one byte at a time, and start again after each response.
pub(super) async fn slow_bodies(
    target: Target,
    has_key: bool,
    count: usize,
    period: Duration,
) -> io::Result<Responses> {
    let clients = repeat(count, period, move |_| {
        let target = target.clone();
        async move { slow_body(target.connect().await?, &target, has_key).await }
    });
    Ok(clients.await)
}

async fn slow_body(stream: TcpStream, target: &Target, has_key: bool) -> io::Result<Response> {
    let (reader, mut writer) = stream.into_split();
    let head = target.head(key(target, has_key), "Connection: close\r\nContent-Length: 8000\r\n\r\n{");
    writer.write_all(head.as_bytes()).await?;
    let dripping = async {
        // A closed connection may still have a response to read.
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut reader = BufReader::new(reader);
    tokio::select! {
        response = Response::read(&mut reader) => response,
        () = dripping => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Clients with the right key and slow bodies, `count` concurrently, each of which sends `rounds` requests.
///
/// All connections are opened first: when hundreds close at once, the host's backlog resets new ones.
pub(super) async fn occupy_host(target: Target, count: usize, rounds: usize) -> io::Result<Responses> {
    let mut connections = open_connections(&target, count * rounds).await?.into_iter();
    let clients = (0..count).map(|_| {
        let connections: Vec<_> = connections.by_ref().take(rounds).collect();
        let target = target.clone();
        async move {
            let mut responses = Responses::default();
            for connection in connections {
                responses.time(slow_body(connection, &target, true)).await;
            }
            responses
        }
    });
    Ok(run_all(clients).await)
}

async fn open_connections(target: &Target, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(target.connect().await?);
    }
    Ok(connections)
}

/// Clients with idle connections. At the end a sample sends a request, which proves that they are open.
pub(super) async fn idle_connections(
    target: Target,
    count: usize,
    period: Duration,
) -> io::Result<Responses> {
    let connections = open_connections(&target, count).await?;
    tokio::time::sleep(period).await;
    let mut responses = Responses::default();
    let request = target.request(SECRET, &target.key, "Connection: close\r\n");
    for stream in connections.into_iter().step_by((count / 100).max(1)) {
        responses.time(Response::exchange(stream, &request)).await;
    }
    Ok(responses)
}

/// Returns a token with valid claims and a forged signature, which the gateway has to verify to the end.
pub(super) fn forged_token() -> String {
    // Every emulator has the same signing keys.
    let entra = Emulator::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let claims = Emulator::caller_claims(now, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
    entra.sign_as_stranger(&entra.signing_header(), &claims)
}

/// Clients that send `all` requests over `connections` keep-alive connections, on each `pipelined` requests
/// in one write. They read all responses to these before the next write.
pub(crate) async fn keep_alive(
    target: Target,
    connections: usize,
    all: usize,
    pipelined: usize,
    request: impl Fn(&Target, usize) -> String + Clone + Send + 'static,
) -> io::Result<Responses> {
    let streams = open_connections(&target, connections).await?;
    let clients = streams.into_iter().enumerate().map(|(client, stream)| {
        let (target, request) = (target.clone(), request.clone());
        async move {
            let mut responses = Responses::default();
            let (reader, mut writer) = stream.into_split();
            let mut reader = BufReader::new(reader);
            let indexes: Vec<_> = (client..all).step_by(connections).collect();
            for indexes in indexes.chunks(pipelined) {
                let requests: String = indexes.iter().map(|index| request(&target, *index)).collect();
                let reading = async {
                    for _ in indexes {
                        // The time starts after the previous response.
                        if !responses.time(Response::read(&mut reader)).await {
                            return false;
                        }
                    }
                    true
                };
                // A failed write shows as a missing response.
                if !tokio::join!(reading, writer.write_all(requests.as_bytes())).0 {
                    break;
                }
            }
            responses
        }
    });
    Ok(run_all(clients).await)
}

/// Clients that keep writing their body regardless of the response.
pub(super) async fn large_bodies(
    target: Target,
    has_key: bool,
    body: u64,
    period: Duration,
) -> io::Result<Responses> {
    let clients = repeat(LARGE_BODIES, period, move |_| {
        let (field, open, close) = match has_key {
            true => (format!("Content-Length: {body}"), String::new(), ""),
            false => ("Transfer-Encoding: chunked".to_owned(), format!("{CHUNK:x}\r\n"), "\r\n"),
        };
        let head = target.head(key(&target, has_key), &format!("{field}\r\n\r\n"));
        let piece = [open.as_bytes(), &[b' '; CHUNK], close.as_bytes()].concat();
        write_many(target.clone(), head, piece, body / CHUNK as u64)
    });
    Ok(clients.await)
}

/// Clients that send heads of 64 KiB, heads with 200 fields, and heads of 1 MiB.
pub(super) async fn large_heads(target: Target, period: Duration) -> io::Result<Responses> {
    let clients = repeat(3, period, move |index| {
        let (fields, length) = [(90, 700), (200, 10), (1, 1 << 20)][index];
        let value = "x".repeat(length);
        let fields: String = (0..fields).map(|number| format!("x-{number}: {value}\r\n")).collect();
        write_many(target.clone(), target.request(SECRET, &target.key, &fields), Vec::new(), 0)
    });
    Ok(clients.await)
}

/// Writes `head` and then `piece` several times, and reads the response even if the server stops reading.
async fn write_many(target: Target, head: String, piece: Vec<u8>, times: u64) -> io::Result<Response> {
    let (reader, mut writer) = target.connect().await?.into_split();
    let writing = async {
        let mut written = writer.write_all(head.as_bytes()).await;
        for _ in 0..times {
            if written.is_err() {
                break;
            }
            written = writer.write_all(&piece).await;
        }
    };
    let mut reader = BufReader::new(reader);
    tokio::join!(Response::read(&mut reader), writing).0
}

/// Clients that request more than the sockets buffer. Half of them read one byte at a time and the others
/// nothing, until all of them read their first response at the end.
pub(super) async fn slow_readers(target: Target, count: usize, period: Duration) -> io::Result<Responses> {
    let requests = target.get("/openapi.json").repeat(PIPELINED_REQUESTS);
    let end = tokio::time::Instant::now() + period;
    let clients = (0..count).map(|index| {
        let (target, requests) = (target.clone(), requests.clone());
        async move {
            let opened: io::Result<_> = async {
                let socket = TcpSocket::new_v4()?;
                // The system rounds the size up.
                socket.set_recv_buffer_size(4 << 10)?;
                let mut stream = timeout(REQUEST_TIMEOUT, socket.connect(target.address)).await?;
                // A timeout means that the sockets' buffers are full.
                let _ = timeout(Duration::from_secs(1), stream.write_all(requests.as_bytes())).await;
                let mut begin = Vec::new();
                if index % 2 == 0 {
                    let reading = async {
                        while let Ok(byte) = stream.read_u8().await {
                            begin.push(byte);
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    };
                    // The loop ends early if the server closes the connection.
                    let _ = tokio::time::timeout_at(end, reading).await;
                }
                Ok((begin, stream))
            }
            .await;
            tokio::time::sleep_until(end).await;
            let mut responses = Responses::default();
            let response = async {
                let (begin, stream) = opened?;
                Response::read(&mut BufReader::new(begin.as_slice().chain(stream))).await
            };
            responses.time(response).await;
            responses
        }
    });
    Ok(run_all(clients).await)
}

/// The size of one write of a body.
const CHUNK: usize = 64 << 10;

/// Pipelined requests for 27 KiB each: 5 MiB in total, where sockets buffer up to 4.
const PIPELINED_REQUESTS: usize = 200;
