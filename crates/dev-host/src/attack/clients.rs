//! Hostile clients, as crowds.

use super::scenarios::{AUDIENCE, LARGE_BODIES};
use crate::client::{Answer, PATIENCE, Target, within};
use keyvault_emulator::{Emulator, facts};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// How hostile clients were answered.
#[derive(Default)]
pub(super) struct Answers {
    /// Statuses, or what came instead of one, and how often.
    pub(super) counts: BTreeMap<String, usize>,
    /// The longest time that one took.
    pub(super) longest: Duration,
}

impl Answers {
    fn add(&mut self, start: Instant, answer: io::Result<Answer>) {
        self.longest = self.longest.max(start.elapsed());
        let answer = match answer {
            Ok(answer) => answer.status.to_string(),
            Err(problem) if problem.kind() == io::ErrorKind::TimedOut => "no answer".to_owned(),
            Err(_) => CLOSED.to_owned(),
        };
        *self.counts.entry(answer).or_default() += 1;
    }
}

pub(super) const CLOSED: &str = "closed";

/// Runs clients at the same time and puts their answers together.
async fn together<F: Future<Output = Answers> + Send + 'static>(clients: impl Iterator<Item = F>) -> Answers {
    let clients: Vec<_> = clients.map(tokio::spawn).collect();
    let mut all = Answers::default();
    for client in clients {
        let answers = client.await.unwrap_or_default();
        all.longest = all.longest.max(answers.longest);
        for (answer, count) in answers.counts {
            *all.counts.entry(answer).or_default() += count;
        }
    }
    all
}

/// Clients that each make one request after the other, for so long; each at least one.
async fn again_and_again<R, F>(clients: usize, lasting: Duration, request: R) -> Answers
where
    R: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = io::Result<Answer>> + Send,
{
    together((0..clients).map(|client| {
        let request = request.clone();
        async move {
            let (mut answers, begin) = (Answers::default(), Instant::now());
            while answers.counts.is_empty() || begin.elapsed() <= lasting {
                answers.add(Instant::now(), within(PATIENCE, request(client)).await);
            }
            answers
        }
    }))
    .await
}

fn key(target: &Target, is_right: bool) -> &str {
    if is_right { &target.key } else { "this-is-not-the-key" }
}

/// Clients that send a byte of their body now and then, and begin again when they are answered.
pub(super) async fn slow_bodies(target: Target, right_key: bool, count: usize, lasting: Duration) -> Answers {
    again_and_again(count, lasting, move |_| {
        let target = target.clone();
        async move { slow_body(target.connect().await?, &target, right_key).await }
    })
    .await
}

async fn slow_body(stream: TcpStream, target: &Target, right_key: bool) -> io::Result<Answer> {
    let (reader, mut writer) = stream.into_split();
    let head = target.head(key(target, right_key), "Connection: close\r\nContent-Length: 8000\r\n\r\n{");
    writer.write_all(head.as_bytes()).await?;
    let dripping = async {
        // What is closed may still have an answer to read.
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut reader = BufReader::new(reader);
    tokio::select! {
        answer = Answer::read(&mut reader) => answer,
        () = dripping => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Clients with a right key whose bodies are slow, `count` at a time, each of which begins again `rounds` times.
///
/// Their connections are all there before: when hundreds end at the same time, the host's queue of new ones resets some.
pub(super) async fn take_places(target: Target, count: usize, rounds: usize) -> Answers {
    let mut opened = open(&target, count * rounds).await.into_iter();
    together((0..count).map(|_| {
        let connections: Vec<_> = opened.by_ref().take(rounds).collect();
        let target = target.clone();
        async move {
            let mut answers = Answers::default();
            for connection in connections {
                let start = Instant::now();
                let answer = async { slow_body(connection?, &target, true).await };
                answers.add(start, within(PATIENCE, answer).await);
            }
            answers
        }
    }))
    .await
}

/// Opens so many connections.
async fn open(target: &Target, count: usize) -> Vec<io::Result<TcpStream>> {
    let mut opened = Vec::new();
    for _ in 0..count {
        opened.push(target.connect().await);
    }
    opened
}

/// Holds connections for so long. In the end some of them send a request, which proves that they were all there.
pub(super) async fn idle(target: Target, count: usize, lasting: Duration) -> Answers {
    let held = open(&target, count).await;
    tokio::time::sleep(lasting).await;
    let mut answers = Answers::default();
    let request = target.request(&target.key, "Connection: close\r\n");
    for (index, stream) in held.into_iter().enumerate() {
        if index % (count / 100).max(1) != 0 && stream.is_ok() {
            continue;
        }
        let start = Instant::now();
        let answer = async {
            let mut stream = stream?;
            stream.write_all(request.as_bytes()).await?;
            Answer::read(&mut BufReader::new(stream)).await
        };
        answers.add(start, within(PATIENCE, answer).await);
    }
    answers
}

/// A token that is right in everything but its signature, so that all of it has to be read and verified.
pub(super) fn forged_token() -> String {
    // Every emulator has the same keys.
    let entra = Emulator::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let claims = Emulator::caller_claims(now, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
    entra.sign_as_stranger(&entra.signing_header(), &claims)
}

/// Clients that make `all` requests over `connections` that stay open, one at a time on each.
pub(super) async fn ask_on<R>(target: Target, connections: usize, all: usize, request: R) -> Answers
where
    R: Fn(&Target, usize) -> String + Clone + Send + 'static,
{
    let opened = open(&target, connections).await;
    together(opened.into_iter().enumerate().map(|(client, opened)| {
        let (target, request) = (target.clone(), request.clone());
        async move {
            let mut answers = Answers::default();
            let mut connection = opened.ok().map(BufReader::new);
            for index in (client..all).step_by(connections) {
                let (start, request) = (Instant::now(), request(&target, index));
                let asked = async {
                    let mut reader = match connection.take() {
                        Some(reader) => reader,
                        None => BufReader::new(target.connect().await?),
                    };
                    reader.get_mut().write_all(request.as_bytes()).await?;
                    let answer = Answer::read(&mut reader).await?;
                    connection = Some(reader);
                    Ok(answer)
                };
                answers.add(start, within(PATIENCE, asked).await);
            }
            answers
        }
    }))
    .await
}

/// Clients that write as much of a body as is taken from them, whatever they are told meanwhile.
pub(super) async fn large_bodies(target: Target, right_key: bool, body: u64, lasting: Duration) -> Answers {
    again_and_again(LARGE_BODIES, lasting, move |_| {
        let (field, open, close) = match right_key {
            true => (format!("Content-Length: {body}"), String::new(), ""),
            false => ("Transfer-Encoding: chunked".to_owned(), format!("{PIECE:x}\r\n"), "\r\n"),
        };
        let head = target.head(key(&target, right_key), &format!("{field}\r\n\r\n"));
        let piece = [open.as_bytes(), &[b' '; PIECE], close.as_bytes()].concat();
        write_on(target.clone(), head, piece, body / PIECE as u64)
    })
    .await
}

/// Heads of 64 KiB, heads of very many fields, and heads of a megabyte.
pub(super) async fn large_heads(target: Target, lasting: Duration) -> Answers {
    again_and_again(3, lasting, move |index| {
        let (fields, length) = [(90, 700), (200, 10), (1, 1 << 20)][index];
        let value = "x".repeat(length);
        let fields: String = (0..fields).map(|number| format!("x-{number}: {value}\r\n")).collect();
        write_on(target.clone(), target.request(&target.key, &fields), Vec::new(), 0)
    })
    .await
}

/// Writes `head` and then `piece` so many times, and reads the answer even where not all of it was taken.
async fn write_on(target: Target, head: String, piece: Vec<u8>, times: u64) -> io::Result<Answer> {
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
    tokio::join!(Answer::read(&mut reader), writing).0
}

/// Clients that each write `each` requests in one go and read all of their answers.
pub(super) async fn pipelined(target: Target, connections: usize, each: usize) -> Answers {
    let requests = target.get("/healthz").repeat(each);
    let opened = open(&target, connections).await;
    together(opened.into_iter().map(|opened| {
        let requests = requests.clone();
        async move {
            let mut answers = Answers::default();
            let Ok(stream) = opened else {
                answers.add(Instant::now(), Err(io::ErrorKind::NotConnected.into()));
                return answers;
            };
            let (reader, mut writer) = stream.into_split();
            let reading = async {
                let mut reader = BufReader::new(reader);
                for _ in 0..each {
                    // From when the one before it was there.
                    let start = Instant::now();
                    let answer = within(PATIENCE, Answer::read(&mut reader)).await;
                    let lost = answer.is_err();
                    answers.add(start, answer);
                    if lost {
                        break;
                    }
                }
            };
            // What cannot be written is not answered, which is counted there.
            let _ = tokio::join!(reading, writer.write_all(requests.as_bytes()));
            answers
        }
    }))
    .await
}

/// Clients that ask for more than sockets buffer. Every other one reads a byte now and then, and the rest nothing at all, until
/// they all read their first answer in the end.
pub(super) async fn slow_readers(target: Target, count: usize, lasting: Duration) -> Answers {
    let requests = target.get("/openapi.json").repeat(LARGE_ANSWERS);
    let over = tokio::time::Instant::now() + lasting;
    together((0..count).map(|index| {
        let (target, requests) = (target.clone(), requests.clone());
        async move {
            let (mut answers, mut start) = (Answers::default(), Instant::now());
            let answer = async {
                let socket = TcpSocket::new_v4()?;
                // The system adds a little.
                socket.set_recv_buffer_size(4 << 10)?;
                let mut stream = within(PATIENCE, socket.connect(target.address)).await?;
                // When it blocks there is more to answer than the sockets take.
                let _ = within(Duration::from_secs(1), stream.write_all(requests.as_bytes())).await;
                let mut begin = Vec::new();
                if index % 2 == 0 {
                    let reading = async {
                        while let Ok(byte) = stream.read_u8().await {
                            begin.push(byte);
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    };
                    // It ends early where the connection does.
                    let _ = tokio::time::timeout_at(over, reading).await;
                }
                tokio::time::sleep_until(over).await;
                start = Instant::now();
                let mut reader = BufReader::new(begin.as_slice().chain(stream));
                within(PATIENCE, Answer::read(&mut reader)).await
            }
            .await;
            answers.add(start, answer);
            answers
        }
    }))
    .await
}

/// Bodies are written in pieces of this size.
const PIECE: usize = 64 << 10;

/// Requests for 27 KiB each: some 5 MiB, where sockets buffer up to 4.
const LARGE_ANSWERS: usize = 200;
