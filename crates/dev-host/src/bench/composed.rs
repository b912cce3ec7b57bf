//! Reads of an application that is composed with the gateway, which take no request.

use super::contestants::{Contestant, Instances, World};
use super::figures::Measure;
use super::{Stand, VALUE};
use crate::client::{Answer, PATIENCE, Target, within};
use crate::rig::SECRET;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, BufReader};

impl Stand {
    /// The same gateway asked by the application that it is composed with, and by clients over HTTP.
    pub(super) fn without_http(&mut self) -> Result<(), String> {
        self.slow_down(Duration::ZERO);
        for azure in [&self.azure, &self.crowded] {
            azure.emulator.set_secret(SECRET, &"v".repeat(VALUE)).map_err(|problem| problem.to_string())?;
        }
        let secret = [SECRET.to_owned()];
        let all = self.start_all(&COMPOSED)?;
        for round in 0..self.rounds {
            eprintln!("[9/10] reads without HTTP, round {} of {}", round + 1, self.rounds);
            for running in &all {
                let ways: &[Way] = match running.contestant {
                    Contestant::Composed(World::Proxy) => &[Way::Secret, Way::Configuration],
                    Contestant::Composed(World::Service) => &[Way::Secret, Way::Awaited],
                    _ => &[],
                };
                for way in ways {
                    let made = self.azure.runtime.block_on(reads(&running.target, *way, SECRET, self.time));
                    let made = made.map_err(|problem| format!("{}: {problem}", running.contestant.name()))?;
                    self.figures.add(Measure::WithoutHttp, way.name(), running.contestant, made);
                }
                if ways.is_empty() {
                    for connections in OVER_HTTP {
                        let load = self.load(running, connections, &secret)?;
                        let at = format!("HTTP, {connections}");
                        self.figures.add(Measure::WithoutHttp, &at, running.contestant, load.rate);
                    }
                }
            }
        }
        Ok(())
    }
}

/// How an application reads.
#[derive(Clone, Copy)]
enum Way {
    /// From the gateway.
    Secret,
    /// The same, waiting for it though it is at hand.
    Awaited,
    /// From its configuration, which refers to the secret.
    Configuration,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Awaited => "awaited",
            Self::Configuration => "configuration",
        }
    }
}

/// Has the application read `secret` over and over for so long. Returns how many reads that were in a second.
async fn reads(target: &Target, way: Way, secret: &str, time: Duration) -> Result<f64, String> {
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

/// Those who read without HTTP, each before the gateway that reads over it.
const COMPOSED: [Contestant; 4] = [
    Contestant::Composed(World::Proxy),
    Contestant::Gateway(World::Proxy, Instances::LivingOn),
    Contestant::Composed(World::Service),
    Contestant::Gateway(World::Service, Instances::LivingOn),
];

/// How many clients read over HTTP beside the one reader that needs none.
const OVER_HTTP: [usize; 2] = [1, 32];
