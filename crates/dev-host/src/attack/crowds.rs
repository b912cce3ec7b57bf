//! Crowds that write many requests before they read an answer.

use super::attacks::{Answers, Key, Said};
use super::clients::{hold, slow_body_on, together};
use crate::client::{Answer, PATIENCE, Target, within};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// Clients that each write `each` requests in one go and read all of their answers.
pub(super) async fn pipelined(target: &Target, connections: usize, each: usize) -> Answers {
    let requests = target.get("/healthz").repeat(each);
    let opened = hold(target, Said::Nothing, connections).await;
    together(opened.into_iter().map(|opened| {
        let requests = requests.clone();
        async move {
            let mut answers = Answers::default();
            let start = Instant::now();
            match opened {
                Ok(stream) => read_pipelined(stream, &requests, each, &mut answers).await,
                Err(problem) => answers.add(start, Err(problem)),
            }
            answers
        }
    }))
    .await
}

async fn read_pipelined(stream: TcpStream, requests: &str, each: usize, answers: &mut Answers) {
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
}

/// Clients that ask for more than sockets buffer. Every other one reads a byte now and then, and the rest nothing at all, until
/// they all read their first answer in the end.
pub(super) async fn slow_readers(target: &Target, count: usize, lasting: Duration) -> Answers {
    let requests = target.get("/openapi.json").repeat(LARGE_ANSWERS);
    let over = tokio::time::Instant::now() + lasting;
    together((0..count).map(|index| {
        let (target, requests) = (target.clone(), requests.clone());
        async move {
            let mut answers = Answers::default();
            let mut start = Instant::now();
            let answer = async {
                let mut stream = connect_with_small_buffer(&target).await?;
                // When it blocks there is more to answer than the sockets take.
                let _ = within(MOST_WRITING, stream.write_all(requests.as_bytes())).await;
                let mut begin = Vec::new();
                if index % 2 == 0 {
                    let reading = async {
                        while let Ok(byte) = stream.read_u8().await {
                            begin.push(byte);
                            tokio::time::sleep(BETWEEN_BYTES).await;
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

/// Clients with a right key whose bodies are slow, as many at a time as `count`, each of which begins again `rounds` times.
///
/// Their connections are all there before: when hundreds end at the same time, the host's queue of new ones resets some.
pub(super) async fn take_places(target: &Target, count: usize, rounds: usize) -> Answers {
    let mut opened = hold(target, Said::Nothing, count * rounds).await.into_iter();
    together((0..count).map(|_| {
        let connections: Vec<_> = opened.by_ref().take(rounds).collect();
        let target = target.clone();
        async move {
            let mut answers = Answers::default();
            for connection in connections {
                let start = Instant::now();
                let answer = async { slow_body_on(connection?, &target, Key::Right).await };
                answers.add(start, within(PATIENCE, answer).await);
            }
            answers
        }
    }))
    .await
}

async fn connect_with_small_buffer(target: &Target) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // The system adds a little.
    socket.set_recv_buffer_size(RECEIVED)?;
    within(PATIENCE, socket.connect(target.address)).await
}

/// Requests for 27 KiB each: some 5 MiB, where sockets buffer up to 4.
const LARGE_ANSWERS: usize = 200;

const RECEIVED: u32 = 4 << 10;

const MOST_WRITING: Duration = Duration::from_secs(1);

const BETWEEN_BYTES: Duration = Duration::from_millis(10);
