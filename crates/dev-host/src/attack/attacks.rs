//! The attacks.

use super::others::{self, Reads};
use crate::client::{Answer, PATIENCE, Target, within};
use keyvault_emulator::{Emulator, facts};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A kind of hostile client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hostile {
    /// Clients whose body never ends.
    SlowBodies(Key),
    /// Connections on which nothing is said, or half a head.
    Idle(Said),
    /// As many idle connections as the host takes if nobody tells it to take more.
    IdleUnderDefaults,
    /// Requests with wrong keys, as fast as they are answered.
    WrongKeys,
    /// Requests with tokens that somebody else has signed in the tenant's name, as fast as they are answered.
    ForgedTokens,
    /// Bodies beyond all measure.
    LargeBody(Key, Length),
    /// Heads beyond all measure.
    LargeHeads,
}

/// Whether a hostile client has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Right,
    Wrong,
}

/// What is said on an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    HalfAHead,
}

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Announced,
    Chunked,
}

/// How much of everything.
pub(super) struct Size {
    slow_bodies: usize,
    idle: usize,
    wrong_keys: usize,
    forged_tokens: usize,
    body: u64,
    /// For how long an attack that has no other end goes on.
    lasting: Duration,
}

impl Size {
    pub(super) const FULL: Self = Self {
        slow_bodies: 200,
        idle: 10_000,
        wrong_keys: 100_000,
        forged_tokens: 20_000,
        body: 1 << 30,
        lasting: Duration::from_secs(15),
    };

    pub(super) const SMALL: Self = Self {
        slow_bodies: 50,
        idle: 1_000,
        wrong_keys: 5_000,
        forged_tokens: 1_000,
        body: 64 << 20,
        lasting: Duration::from_millis(1500),
    };
}

/// How an attack was answered.
#[derive(Default)]
pub(super) struct Answers {
    /// Statuses, or what came instead of one, and how often.
    pub(super) counts: BTreeMap<String, usize>,
    /// The longest time that one took.
    pub(super) longest: Duration,
    /// The most bytes of a large body that one client could send.
    pub(super) sent: u64,
}

impl Answers {
    fn add(&mut self, start: Instant, answer: io::Result<Answer>) {
        self.longest = self.longest.max(start.elapsed());
        let answer = match answer {
            Ok(answer) => answer.status.to_string(),
            Err(problem) if problem.kind() == io::ErrorKind::TimedOut => NOTHING.to_owned(),
            Err(_) => CLOSED.to_owned(),
        };
        *self.counts.entry(answer).or_default() += 1;
    }

    fn join(mut self, other: Self) -> Self {
        self.longest = self.longest.max(other.longest);
        self.sent = self.sent.max(other.sent);
        for (answer, count) in other.counts {
            *self.counts.entry(answer).or_default() += count;
        }
        self
    }
}

impl Hostile {
    pub(super) const ALL: [Self; 12] = [
        Self::SlowBodies(Key::Right),
        Self::SlowBodies(Key::Wrong),
        Self::Idle(Said::Nothing),
        Self::Idle(Said::HalfAHead),
        Self::IdleUnderDefaults,
        Self::WrongKeys,
        Self::ForgedTokens,
        Self::LargeBody(Key::Right, Length::Announced),
        Self::LargeBody(Key::Right, Length::Chunked),
        Self::LargeBody(Key::Wrong, Length::Announced),
        Self::LargeBody(Key::Wrong, Length::Chunked),
        Self::LargeHeads,
    ];

    pub(super) fn name(self, size: &Size) -> String {
        let key = |key| match key {
            Key::Right => "a right key",
            Key::Wrong => "a wrong key",
        };
        match self {
            Self::SlowBodies(it) => format!("{} slow bodies at a time, {}", size.slow_bodies, key(it)),
            Self::Idle(Said::Nothing) => format!("{} idle connections", size.idle),
            Self::Idle(Said::HalfAHead) => format!("{} connections with half a head", size.idle),
            Self::IdleUnderDefaults => format!("{HOSTS_CONNECTIONS} idle connections, host's defaults"),
            Self::WrongKeys => format!("{} wrong keys", size.wrong_keys),
            Self::ForgedTokens => format!("{} forged tokens", size.forged_tokens),
            Self::LargeBody(it, Length::Announced) => {
                format!("{LARGE_BODIES} bodies of {} MiB at a time, {}", size.body >> 20, key(it))
            }
            Self::LargeBody(it, Length::Chunked) => {
                format!("{LARGE_BODIES} chunked bodies of {} MiB at a time, {}", size.body >> 20, key(it))
            }
            Self::LargeHeads => "heads of 64 KiB, of 200 fields, of 1 MiB".to_owned(),
        }
    }

    /// The files that a process has to be able to open for it.
    pub(super) fn files(self, size: &Size) -> usize {
        let connections = match self {
            Self::Idle(_) => size.idle,
            Self::IdleUnderDefaults => HOSTS_CONNECTIONS,
            Self::SlowBodies(_)
            | Self::WrongKeys
            | Self::ForgedTokens
            | Self::LargeBody(..)
            | Self::LargeHeads => 0,
        };
        connections + OTHER_FILES
    }

    /// Options of `wasmtime serve`.
    pub(super) fn host_options(self) -> &'static [&'static str] {
        match self {
            Self::IdleUnderDefaults => &[],
            _ => &CONNECTIONS,
        }
    }

    /// Settings of the component.
    pub(super) fn settings(self) -> Vec<(&'static str, String)> {
        match self {
            Self::SlowBodies(Key::Right) => {
                vec![("GATEWAY_DEADLINE_SECONDS", DEADLINE.as_secs().to_string())]
            }
            Self::ForgedTokens => vec![
                ("GATEWAY_JWT_TENANT", facts::TENANT.to_owned()),
                ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
                (
                    "GATEWAY_CALLERS",
                    format!(r#"[{{"name":"named","oid":["{}"],"secrets":["*"]}}]"#, facts::OBJECT_ID),
                ),
            ],
            Self::SlowBodies(Key::Wrong)
            | Self::Idle(_)
            | Self::IdleUnderDefaults
            | Self::WrongKeys
            | Self::LargeBody(..)
            | Self::LargeHeads => Vec::new(),
        }
    }

    /// Whether this is an answer, or none, that the attack has to expect.
    pub(super) fn may_be_answered(self, answer: &str) -> bool {
        let right: &[&str] = match self {
            Self::SlowBodies(Key::Right) => &["504"],
            Self::WrongKeys | Self::ForgedTokens => &["401", "429"],
            // They have said something after all.
            Self::Idle(_) | Self::IdleUnderDefaults => &["200"],
            // Whoever writes on and on may lose the answer when the connection is closed.
            Self::LargeBody(Key::Right, _) => &["413", CLOSED],
            Self::SlowBodies(Key::Wrong) | Self::LargeBody(Key::Wrong, _) => &["401", "429", CLOSED],
            Self::LargeHeads => &["431", CLOSED],
        };
        right.contains(&answer)
    }

    /// The time in which each has to have its answer, on a machine that has much to do.
    pub(super) fn longest_answer(self) -> Duration {
        match self {
            Self::SlowBodies(Key::Right) => DEADLINE + SLACK,
            _ => SLACK,
        }
    }

    /// Whether others cannot be answered while it lasts. This is a limit of the host: it has a number of connections, and
    /// no time for any of them.
    pub(super) fn shuts_others_out(self) -> bool {
        self == Self::IdleUnderDefaults
    }

    /// Attacks, while others read.
    pub(super) async fn attack(self, target: &Target, size: &Size) -> (Answers, Reads) {
        match self {
            Self::SlowBodies(key) => others::read_during(target, slow_bodies(target, key, size)).await,
            Self::Idle(said) => {
                let attack = async {
                    let held = hold(target, said, size.idle).await;
                    tokio::time::sleep(size.lasting).await;
                    speak(target, said, held).await
                };
                others::read_during(target, attack).await
            }
            Self::IdleUnderDefaults => {
                let held = hold(target, Said::Nothing, HOSTS_CONNECTIONS).await;
                let reads = others::read_impatiently(target, IMPATIENT, IMPATIENCE).await;
                (speak(target, Said::Nothing, held).await, reads)
            }
            Self::WrongKeys => {
                let request = |target: &Target, index| target.request(&format!("guess-{index}"), "");
                others::read_during(target, guesses(target, size.wrong_keys, request)).await
            }
            Self::ForgedTokens => {
                let token = forged_token();
                let request = move |target: &Target, _| target.request_with_token(&token);
                others::read_during(target, guesses(target, size.forged_tokens, request)).await
            }
            Self::LargeBody(key, length) => {
                others::read_during(target, large_bodies(target, key, length, size)).await
            }
            Self::LargeHeads => others::read_during(target, large_heads(target, size)).await,
        }
    }
}

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
    let clients: Vec<_> = (0..count).map(|index| tokio::spawn(client(index))).collect();
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
async fn slow_bodies(target: &Target, key: Key, size: &Size) -> Answers {
    let lasting = size.lasting;
    crowd(size.slow_bodies, |_| {
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
    let (reader, mut writer) = target.connect().await?.into_split();
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
async fn hold(target: &Target, said: Said, count: usize) -> Vec<io::Result<TcpStream>> {
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
async fn speak(target: &Target, said: Said, held: Vec<io::Result<TcpStream>>) -> Answers {
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
fn forged_token() -> String {
    // Every emulator has the same keys.
    let entra = Emulator::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let claims = Emulator::caller_claims(now, AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
    entra.sign_as_stranger(&entra.signing_header(), &claims)
}

/// Clients that try `all` credentials over connections that stay open.
async fn guesses<R>(target: &Target, all: usize, request: R) -> Answers
where
    R: Fn(&Target, usize) -> String + Clone + Send + 'static,
{
    crowd(GUESSERS, |client| {
        let (target, request) = (target.clone(), request.clone());
        async move {
            let mut answers = Answers::default();
            let mut connection = None;
            for index in (client..all).step_by(GUESSERS) {
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
    })
    .await
}

/// Clients that write as much of a body as is taken from them, whatever they are told meanwhile.
async fn large_bodies(target: &Target, key: Key, length: Length, size: &Size) -> Answers {
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
async fn large_heads(target: &Target, size: &Size) -> Answers {
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

/// Whom callers' tokens are for.
const AUDIENCE: &str = "api://attacked-gateway";

const CLOSED: &str = "closed";

const NOTHING: &str = "no answer";

const HALF_A_HEAD: &str = "POST /api/GetKeyVaultSecret HTTP/1.1\r\n";

/// Takes more connections than an attack has.
const CONNECTIONS: [&str; 2] = ["--max-concurrent-connections", "15000"];

/// The connections that Wasmtime 48 takes by itself, which the attack fills.
const HOSTS_CONNECTIONS: usize = 1000;

/// Files that are not idle connections, with much room to spare.
const OTHER_FILES: usize = 500;

/// `GATEWAY_DEADLINE_SECONDS` of those whom slow bodies attack: shorter than by itself, so that they attack often.
const DEADLINE: Duration = Duration::from_secs(5);

/// However fast the answers are, a client of an attack that goes on for some time makes no more requests.
const MOST_ROUNDS: usize = 100_000;

const BETWEEN_BYTES: Duration = Duration::from_millis(100);

/// How many open connections at the same time.
const OPENERS: usize = 64;

/// How many of those who said nothing say something in the end.
const SPEAKERS: usize = 100;

/// How many guess keys at the same time.
const GUESSERS: usize = 32;

/// How many send large bodies at the same time.
const LARGE_BODIES: usize = 8;

/// Bodies are written in pieces of this size.
const PIECE: usize = 64 << 10;

/// Those who find out whether nobody is answered, and how long they wait.
const IMPATIENT: usize = 5;

const IMPATIENCE: Duration = Duration::from_secs(3);

/// What two cores with other things to do may take longer.
const SLACK: Duration = Duration::from_secs(15);
