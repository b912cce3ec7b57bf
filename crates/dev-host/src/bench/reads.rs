//! Reads whose every answer is timed: cold ones, and many at the same time.

use crate::client::{Answer, PATIENCE, Target, within};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Reads the secrets one after the other, on one connection. Returns the milliseconds of each read.
pub(super) async fn one_by_one(target: &Target, secrets: &[String]) -> Result<Vec<f64>, String> {
    let mut connection = Connection::new(target).await?;
    let mut times = Vec::new();
    for secret in secrets {
        times.push(milliseconds(connection.read(target, secret).await?));
    }
    Ok(times)
}

/// Reads the secrets at the same time, each on a connection of its own, which is open before the first of them asks.
/// Returns the milliseconds of each read.
pub(super) async fn together(target: &Target, secrets: &[String]) -> Result<Vec<f64>, String> {
    let mut connections = Vec::new();
    for _ in secrets {
        connections.push(Connection::new(target).await?);
    }
    let reads: Vec<_> = connections
        .into_iter()
        .zip(secrets)
        .map(|(mut connection, secret)| {
            let (target, secret) = (target.clone(), secret.clone());
            tokio::spawn(async move { connection.read(&target, &secret).await })
        })
        .collect();
    let mut times = Vec::new();
    for read in reads {
        times.push(milliseconds(read.await.map_err(|problem| problem.to_string())??));
    }
    Ok(times)
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn new(target: &Target) -> Result<Self, String> {
        let stream = target.connect().await.map_err(|problem| format!("no connection: {problem}"))?;
        Ok(Self(BufReader::new(stream)))
    }

    async fn read(&mut self, target: &Target, secret: &str) -> Result<Duration, String> {
        let request = target.request_for(secret);
        let start = Instant::now();
        let answer = async {
            self.0.write_all(request.as_bytes()).await?;
            Answer::read(&mut self.0).await
        };
        let answer =
            within(PATIENCE, answer).await.map_err(|problem: io::Error| format!("no answer: {problem}"))?;
        match answer.status {
            200 => Ok(start.elapsed()),
            status => Err(format!("a read was answered {status}: {}", String::from_utf8_lossy(&answer.body))),
        }
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
