//! Hostile clients, as crowds.

use super::attacks::{AUDIENCE, Answers, Key, Length, Said, Size};
use crate::client::{Answer, PATIENCE, Target, within};
use keyvault_emulator::{Emulator, facts};
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The key that `key` means.
fn presented(target: &Target, key: Key) -> &str {
    match key {
        Key::Right => &target.key,
        Key::Wrong => "this-is-not-the-key",
    }
}

/// Runs `count` clients at a time and puts their answers together.
async fn crowd<F>(count: usize, client: impl Fn(usize) -> F) -> Answers
where
    F: Future<Output = Answers> + Send + 'static,
{
    together((0..count).map(client)).await
}

/// The same for clients that differ.
pub(super) async fn together<F>(clients: impl Iterator<Item = F>) -> Answers
where
    F: Future<Output = Answers> + Send + 'static,
{
    let clients: Vec<_> = clients.map(tokio::spawn).collect();
    let mut answers = Answers::default();
    for client in clients {
        answers = answers.join(client.await.unwrap_or_default());
    }
    answers
}

/// When each round of an attack begins that goes on for so long; there is always one.
fn rounds(lasting: Duration) -> impl Iterator<Item = Instant> {
    let begin = Instant::now();
    (0..MOST_ROUNDS).map(|_| Instant::now()).take_while(move |it| it.duration_since(begin) <= lasting)
}

/// Clients that send a byte of their body now and then, and begin again when they are answered.
pub(super) async fn slow_bodies(target: &Target, key: Key, count: usize, lasting: Duration) -> Answers {
    crowd(count, |_| {
        let target = target.clone();
        async move {
            let mut answers = Answers::default();
            for start in rounds(lasting) {
                answers.add(start, within(PATIENCE, slow_body(&target, key)).await);
            }
            answers
        }
    })
    .await
}

async fn slow_body(target: &Target, key: Key) -> io::Result<Answer> {
    slow_body_on(target.connect().await?, target, key).await
}

pub(super) async fn slow_body_on(stream: TcpStream, target: &Target, key: Key) -> io::Result<Answer> {
    let (reader, mut writer) = stream.into_split();
    let head = target.head(presented(target, key), "Connection: close\r\nContent-Length: 8000\r\n\r\n{");
    writer.write_all(head.as_bytes()).await?;
    let dripping = async {
        // What is closed may still have an answer to read.
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(BETWEEN_BYTES).await;
        }
        std::future::pending::<()>().await;
    };
    let mut reader = BufReader::new(reader);
    tokio::select! {
        answer = Answer::read(&mut reader) => answer,
        () = dripping => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Opens connections and says no more than half a head on each.
pub(super) async fn hold(target: &Target, said: Said, count: usize) -> Vec<io::Result<TcpStream>> {
    let openers = (0..OPENERS).map(|index| {
        let target = target.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            for _ in (index..count).step_by(OPENERS) {
                let open = async {
                    let mut stream = target.connect().await?;
                    if said == Said::HalfAHead {
                        stream.write_all(HALF_A_HEAD.as_bytes()).await?;
                    }
                    Ok(stream)
                };
                held.push(open.await);
            }
            held
        })
    });
    let mut held = Vec::new();
    for opener in openers.collect::<Vec<_>>() {
        held.extend(opener.await.unwrap_or_default());
    }
    held
}

/// Says the rest on some of the connections, which proves that they were all there; and closes them all.
pub(super) async fn speak(target: &Target, said: Said, held: Vec<io::Result<TcpStream>>) -> Answers {
    let mut answers = Answers::default();
    let step = (held.len() / SPEAKERS).max(1);
    let request = target.request(&target.key, "Connection: close\r\n");
    let rest = match said {
        Said::Nothing => request.as_str(),
        Said::HalfAHead => request.split_once("\r\n").map_or("", |it| it.1),
    };
    for (index, stream) in held.into_iter().enumerate() {
        let start = Instant::now();
        match stream {
            Err(problem) => answers.add(start, Err(problem)),
            Ok(mut stream) if index % step == 0 => {
                let answer = async {
                    stream.write_all(rest.as_bytes()).await?;
                    Answer::read(&mut BufReader::new(stream)).await
                };
                answers.add(start, within(PATIENCE, answer).await);
            }
            // It has been there, which is all.
            Ok(_) => {}
        }
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
pub(super) async fn ask_on<R>(target: &Target, connections: usize, all: usize, request: R) -> Answers
where
    R: Fn(&Target, usize) -> String + Clone + Send + 'static,
{
    let opened = hold(target, Said::Nothing, connections).await;
    together(opened.into_iter().enumerate().map(|(client, opened)| {
        let (target, request) = (target.clone(), request.clone());
        async move {
            let mut answers = Answers::default();
            let mut connection = opened.ok().map(BufReader::new);
            for index in (client..all).step_by(connections) {
                let start = Instant::now();
                let request = request(&target, index);
                let guess = async {
                    let mut reader = match connection.take() {
                        Some(reader) => reader,
                        None => BufReader::new(target.connect().await?),
                    };
                    reader.get_mut().write_all(request.as_bytes()).await?;
                    let answer = Answer::read(&mut reader).await?;
                    connection = Some(reader);
                    Ok(answer)
                };
                answers.add(start, within(PATIENCE, guess).await);
            }
            answers
        }
    }))
    .await
}

/// Clients that write as much of a body as is taken from them, whatever they are told meanwhile.
pub(super) async fn large_bodies(target: &Target, key: Key, length: Length, size: &Size) -> Answers {
    let (body, lasting) = (size.body, size.lasting);
    crowd(LARGE_BODIES, |_| {
        let target = target.clone();
        async move {
            let mut answers = Answers::default();
            for start in rounds(lasting) {
                let mut sent = 0;
                let answer = large_body(&target, key, length, body, &mut sent).await;
                answers.add(start, answer);
                answers.sent = answers.sent.max(sent);
            }
            answers
        }
    })
    .await
}

async fn large_body(
    target: &Target,
    key: Key,
    length: Length,
    size: u64,
    sent: &mut u64,
) -> io::Result<Answer> {
    let (reader, mut writer) = target.connect().await?.into_split();
    let (field, open, close) = match length {
        Length::Announced => (format!("Content-Length: {size}"), String::new(), ""),
        Length::Chunked => ("Transfer-Encoding: chunked".to_owned(), format!("{PIECE:x}\r\n"), "\r\n"),
    };
    let head = target.head(presented(target, key), &format!("{field}\r\n\r\n"));
    let piece = [open.as_bytes(), &[b' '; PIECE], close.as_bytes()].concat();
    let writing = async {
        let mut written = writer.write_all(head.as_bytes()).await;
        for _ in 0..size / PIECE as u64 {
            if written.is_err() {
                break;
            }
            written = writer.write_all(&piece).await;
            *sent += if written.is_ok() { PIECE as u64 } else { 0 };
        }
    };
    let mut reader = BufReader::new(reader);
    let exchange = async { tokio::join!(Answer::read(&mut reader), writing).0 };
    within(PATIENCE, exchange).await
}

/// Heads of 64 KiB, heads of very many fields, and heads of a megabyte.
pub(super) async fn large_heads(target: &Target, size: &Size) -> Answers {
    let lasting = size.lasting;
    let heads = [(90, 700), (200, 10), (1, 1 << 20)];
    crowd(heads.len(), |index| {
        let target = target.clone();
        async move {
            let (fields, length) = heads[index];
            let value = "x".repeat(length);
            let fields: String = (0..fields).map(|it| format!("x-{it}: {value}\r\n")).collect();
            let request = target.request(&target.key, &fields);
            let mut answers = Answers::default();
            for start in rounds(lasting) {
                answers.add(start, ask_stubbornly(&target, &request).await);
            }
            answers
        }
    })
    .await
}

/// Asks, and reads the answer even where the request was not taken as a whole.
async fn ask_stubbornly(target: &Target, request: &str) -> io::Result<Answer> {
    let (reader, mut writer) = target.connect().await?.into_split();
    let exchange = async {
        let mut reader = BufReader::new(reader);
        let (answer, _) = tokio::join!(Answer::read(&mut reader), writer.write_all(request.as_bytes()));
        answer
    };
    within(PATIENCE, exchange).await
}

const HALF_A_HEAD: &str = "POST /api/GetKeyVaultSecret HTTP/1.1\r\n";

/// However fast the answers are, a client of an attack that goes on for some time makes no more requests.
const MOST_ROUNDS: usize = 100_000;

const BETWEEN_BYTES: Duration = Duration::from_millis(100);

/// How many open connections at the same time.
const OPENERS: usize = 64;

/// How many of those who said nothing say something in the end.
const SPEAKERS: usize = 100;

/// How many guess keys at the same time.
pub(super) const GUESSERS: usize = 32;

/// How many send large bodies at the same time.
pub(super) const LARGE_BODIES: usize = 8;

/// Bodies are written in pieces of this size.
const PIECE: usize = 64 << 10;
