//! Reads of an application that is composed with the gateway, which take no request.

use crate::client::{Answer, PATIENCE, Target, within};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, BufReader};

/// How an application reads.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// From the gateway.
    Secret,
    /// The same, waiting for it though it is at hand.
    Awaited,
    /// From its configuration, which refers to the secret.
    Configuration,
}

impl Way {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Awaited => "awaited",
            Self::Configuration => "configuration",
        }
    }
}

/// Has the application read `secret` over and over for so long. Returns how many reads that were in a second.
pub(super) async fn reads(target: &Target, way: Way, secret: &str, time: Duration) -> Result<f64, String> {
    let stream = target.connect().await.map_err(|problem| format!("no connection: {problem}"))?;
    let mut stream = BufReader::new(stream);
    let request =
        format!("GET /{}/{secret}?{AT_ONCE} HTTP/1.1\r\nHost: {}\r\n\r\n", way.name(), target.address);
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        let answer = async {
            stream.write_all(request.as_bytes()).await?;
            Answer::read(&mut stream).await
        };
        let answer = within(PATIENCE, answer).await.map_err(|problem| format!("no answer: {problem}"))?;
        if answer.body != AT_ONCE.to_string().as_bytes() {
            return Err(format!("of {AT_ONCE} reads there were {}", String::from_utf8_lossy(&answer.body)));
        }
        count += AT_ONCE;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// So many reads for a request, that the request is nothing beside them.
const AT_ONCE: u32 = 20_000;
