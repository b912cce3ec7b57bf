//! Request bodies that are slow, fragmented, too large or incomplete.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use keyvault_emulator::{Emulator, Source};
use tokio::sync::mpsc;
use tokio::time::sleep;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::gateway::{Gateway, REQUEST, World, azure, full, in_both_worlds, request};

#[test]
fn a_body_is_read_until_its_end_or_its_deadline() {
    let second = Duration::from_secs(1);
    let immediately = Duration::ZERO;
    let (start, end) = REQUEST.split_at(9);
    let padded = |length: usize| REQUEST.to_owned() + &" ".repeat(length - REQUEST.len());
    let (complete, timeout) = ((200, ""), (504, "Timeout"));
    let (bad_request, too_large) = ((400, "BadRequest"), (413, "ContentTooLarge"));
    let [announced, one_more] = [Some(REQUEST.len()), Some(REQUEST.len() + 1)];
    for (length, steps, outcome, took) in [
        (None, vec![chunk(start), chunk(end)], complete, immediately),
        (None, vec![chunk(&padded(8192))], complete, immediately),
        (None, letters(REQUEST).collect(), complete, immediately),
        (None, vec![chunk(start), Step::Pause(second), chunk(end)], complete, second),
        (None, vec![Step::Stall], timeout, BODY_LIMIT),
        (None, vec![chunk(REQUEST), Step::Stall], timeout, BODY_LIMIT),
        (None, vec![chunk(start), Step::Pause(BODY_LIMIT + second), chunk(end)], timeout, BODY_LIMIT),
        (
            None,
            letters(&padded(4096)).flat_map(|step| [step, Step::Pause(second)]).collect(),
            timeout,
            BODY_LIMIT,
        ),
        (None, vec![Step::Disconnect], bad_request, immediately),
        (None, vec![chunk(REQUEST), Step::Disconnect], bad_request, immediately),
        (None, vec![chunk(start), Step::Pause(second), Step::Disconnect], bad_request, second),
        (None, vec![chunk(&padded(4096)), chunk(&" ".repeat(4097))], too_large, immediately),
        (None, vec![chunk(&padded(8193)), Step::Stall], too_large, immediately),
        (None, vec![chunk(&padded(10 * 1024 * 1024))], too_large, immediately),
        // A body with a declared length is complete when that many bytes have arrived.
        (announced, vec![chunk(start), chunk(end), Step::Stall], complete, immediately),
        (announced, vec![chunk(start), Step::Stall], timeout, BODY_LIMIT),
        (one_more, vec![chunk(REQUEST), Step::Stall], timeout, BODY_LIMIT),
        (one_more, vec![chunk(REQUEST), Step::Disconnect], bad_request, immediately),
        (Some(0), vec![], bad_request, immediately),
    ] {
        check(length, &steps, outcome, took);
    }
}

/// Sends a body in these steps, and then a valid request to the same instance.
fn check(length: Option<usize>, steps: &[Step], outcome: (u16, &str), took: Duration) {
    in_both_worlds(async |world| {
        let emulator = azure();
        let gateway = gateway(world, &emulator);
        let case = format!("{world:?} {length:?} {} steps, {outcome:?}", steps.len());
        let mut request = request(scripted_body(steps));
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.into());
        }
        let response = gateway.send(request).await;
        response.expect(outcome, &case);
        assert!(response.took_about(took), "{case} {:?}", response.took);
        assert_eq!(emulator.journal().len(), if outcome.0 == 200 { 2 } else { 0 }, "{case}");
        gateway.post().await.expect((200, ""), &case);
        gateway.expect_single_instance(&case);
    });
}

#[test]
fn concurrent_slow_bodies_have_separate_deadlines() {
    in_both_worlds(async |world| {
        let emulator = azure();
        let gateway = Arc::new(gateway(world, &emulator));
        let mut tasks = Vec::new();
        // The requests that poll others under WASI 0.3 end at different times.
        for number in 0..40_u64 {
            let pause = Duration::from_millis(40 * number);
            let (steps, status, took) = match number % 4 {
                0 => (vec![Step::Pause(pause), chunk(REQUEST)], 200, pause),
                1 => (vec![chunk(REQUEST)], 200, Duration::ZERO),
                _ => (vec![Step::Stall], 504, BODY_LIMIT),
            };
            let gateway = Arc::clone(&gateway);
            let task = tokio::spawn(async move { gateway.exchange(request(scripted_body(&steps))).await });
            tasks.push((task, status, took));
            sleep(Duration::from_millis(77)).await;
        }
        for (number, (task, status, took)) in tasks.into_iter().enumerate() {
            let response = task.await.unwrap();
            assert_eq!(response.status, status, "{world:?} {number}");
            assert!(response.took_about(took), "{world:?} {number} {:?}", response.took);
        }
        gateway.wait_until_idle().await;
    });
}

/// The value has the maximum length of a secret, so that no buffer holds all of it.
#[test]
fn a_client_that_reads_no_response_delays_no_other() {
    for goes_away in [false, true] {
        in_both_worlds(async |world| {
            let emulator = azure();
            emulator.set_secret("long", &"v".repeat(25 * 1024)).unwrap();
            let gateway = gateway(world, &emulator);
            let unread = gateway.exchange_head(request(full(r#"{"Secret":"long"}"#))).await;
            let unread = (!goes_away).then_some(unread);
            sleep(Duration::from_secs(600)).await;
            gateway.wait_until_idle().await;
            gateway.post().await.expect((200, ""), (world, goes_away));
            gateway.expect_single_instance((world, goes_away));
            if let Some(unread) = unread {
                assert!(unread.into_body().collect().await.is_err(), "{world:?}");
            }
        });
    }
}

/// A step of a scripted body. The body ends after the last step.
#[derive(Clone)]
pub(crate) enum Step {
    Chunk(Bytes),
    Pause(Duration),
    Stall,
    Disconnect,
}

fn chunk(text: &str) -> Step {
    Step::Chunk(Bytes::from(text.to_owned()))
}

/// Returns one step for each letter.
fn letters(text: &str) -> impl Iterator<Item = Step> {
    text.chars().map(|letter| chunk(&letter.to_string()))
}

pub(crate) fn scripted_body(steps: &[Step]) -> WasiBody {
    let (sender, frames) = mpsc::channel(1);
    let steps = steps.to_vec();
    tokio::spawn(async move {
        for step in steps {
            match step {
                // The send fails only if the reader has dropped the body.
                Step::Chunk(chunk) => drop(sender.send(Ok(Frame::data(chunk))).await),
                Step::Pause(time) => sleep(time).await,
                Step::Stall => std::future::pending().await,
                Step::Disconnect => drop(sender.send(Err(Error::ConnectionTerminated)).await),
            }
        }
    });
    Frames(frames).boxed_unsync()
}

/// A body whose frames come from a task.
struct Frames(mpsc::Receiver<Result<Frame<Bytes>, Error>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(context)
    }
}

fn gateway(world: World, emulator: &Emulator) -> Gateway {
    Gateway::new(world, emulator, Source::AppService2017, &[("GATEWAY_DEADLINE_SECONDS", "7")])
}

/// A quarter of the request's deadline.
const BODY_LIMIT: Duration = Duration::from_millis(1750);
