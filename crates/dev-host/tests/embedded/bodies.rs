//! Bodies of requests that come slowly, in pieces, too long, or not to their end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use keyvault_emulator::{Emulator, Source};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::gateway::{Gateway, REQUEST, World, azure, both, full, request};

#[test]
fn a_body_is_read_to_its_end_or_until_the_deadline() {
    let second = Duration::from_secs(1);
    let at_once = Duration::ZERO;
    let (start, end) = REQUEST.split_at(9);
    let padded = |length: usize| REQUEST.to_owned() + &" ".repeat(length - REQUEST.len());
    let (whole, late) = ((200, ""), (504, "Timeout"));
    let (lost, large) = ((400, "BadRequest"), (413, "ContentTooLarge"));
    let [announced, one_more] = [Some(REQUEST.len()), Some(REQUEST.len() + 1)];
    for (length, steps, outcome, took) in [
        (None, vec![text(start), text(end)], whole, at_once),
        (None, vec![text(&padded(8192))], whole, at_once),
        (None, REQUEST.chars().map(|it| text(it.encode_utf8(&mut [0; 4]))).collect(), whole, at_once),
        (None, vec![text(start), Step::Pause(second), text(end)], whole, second),
        (None, vec![Step::Silence], late, BODY_LIMIT),
        (None, vec![text(REQUEST), Step::Silence], late, BODY_LIMIT),
        (None, vec![text(start), Step::Pause(BODY_LIMIT + second), text(end)], late, BODY_LIMIT),
        (
            None,
            padded(4096).chars().flat_map(|it| [text(&it.to_string()), Step::Pause(second)]).collect(),
            late,
            BODY_LIMIT,
        ),
        (None, vec![Step::Break], lost, at_once),
        (None, vec![text(REQUEST), Step::Break], lost, at_once),
        (None, vec![text(start), Step::Pause(second), Step::Break], lost, second),
        (None, vec![text(&padded(4096)), text(&" ".repeat(4097))], large, at_once),
        (None, vec![text(&padded(8193)), Step::Silence], large, at_once),
        (None, vec![text(&padded(10 * 1024 * 1024))], large, at_once),
        // A body whose length is announced is whole when that much is there.
        (announced, vec![text(start), text(end), Step::Silence], whole, at_once),
        (announced, vec![text(start), Step::Silence], late, BODY_LIMIT),
        (one_more, vec![text(REQUEST), Step::Silence], late, BODY_LIMIT),
        (one_more, vec![text(REQUEST), Step::Break], lost, at_once),
        (Some(0), vec![], lost, at_once),
    ] {
        check(length, &steps, outcome, took);
    }
}

/// Sends a body in these steps, and then a good request to the same instance.
fn check(length: Option<usize>, steps: &[Step], outcome: (u16, &str), took: Duration) {
    both(async |world| {
        let emulator = azure();
        let gateway = gateway(world, &emulator);
        let case = format!("{world:?} {length:?} {} steps, {outcome:?}", steps.len());
        let mut request = request(script(steps));
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.into());
        }
        let answer = gateway.send(request).await;
        answer.expect(outcome, &case);
        assert!(answer.took_about(took), "{case} {:?}", answer.took);
        assert_eq!(emulator.journal().len(), if outcome.0 == 200 { 2 } else { 0 }, "{case}");
        gateway.ask().await.expect((200, ""), &case);
        gateway.expect_one_clean_instance(&case);
    });
}

#[test]
fn each_of_many_slow_bodies_has_its_own_time() {
    both(async |world| {
        let emulator = azure();
        let gateway = Arc::new(gateway(world, &emulator));
        let mut tasks = Vec::new();
        // Those who look after the others under WASI 0.3 end at different times, at once and in the middle.
        for number in 0..40_u64 {
            let pause = Duration::from_millis(40 * number);
            let (steps, status, took) = match number % 4 {
                0 => (vec![Step::Pause(pause), text(REQUEST)], 200, pause),
                1 => (vec![text(REQUEST)], 200, Duration::ZERO),
                _ => (vec![Step::Silence], 504, BODY_LIMIT),
            };
            let gateway = Arc::clone(&gateway);
            let asked = tokio::spawn(async move { gateway.begin(request(script(&steps))).await });
            tasks.push((asked, status, took));
            sleep(Duration::from_millis(77)).await;
        }
        for (number, (asked, status, took)) in tasks.into_iter().enumerate() {
            let answer = asked.await.unwrap();
            assert_eq!(answer.status, status, "{world:?} {number}");
            assert!(answer.took_about(took), "{world:?} {number} {:?}", answer.took);
        }
        gateway.settle().await;
    });
}

/// As long as a secret can be, so that no buffer on the way takes it whole.
#[test]
fn a_client_that_does_not_take_its_answer_loses_it_and_holds_up_no_other() {
    for goes_away in [false, true] {
        both(async |world| {
            let emulator = azure();
            emulator.set_secret("long", &"v".repeat(25 * 1024)).unwrap();
            let gateway = gateway(world, &emulator);
            let unread = gateway.begin_unread(request(full(r#"{"Secret":"long"}"#))).await;
            let unread = (!goes_away).then_some(unread);
            sleep(Duration::from_secs(600)).await;
            gateway.settle().await;
            gateway.ask().await.expect((200, ""), (world, goes_away));
            gateway.expect_one_clean_instance((world, goes_away));
            if let Some(unread) = unread {
                assert!(unread.into_body().collect().await.is_err(), "{world:?}");
            }
        });
    }
}

/// What happens to a body, one after the other. After the last it ends.
#[derive(Clone)]
pub(crate) enum Step {
    Chunk(Bytes),
    Pause(Duration),
    Silence,
    Break,
}

fn text(text: &str) -> Step {
    Step::Chunk(Bytes::from(text.to_owned()))
}

pub(crate) fn script(steps: &[Step]) -> WasiBody {
    Script { steps: steps.iter().cloned().collect(), pause: None }.boxed_unsync()
}

struct Script {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Chunk(chunk)) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Some(Step::Pause(time)) => self.pause = Some(Box::pin(sleep(time))),
                Some(Step::Silence) => {
                    self.steps.push_front(Step::Silence);
                    return Poll::Pending;
                }
                Some(Step::Break) => return Poll::Ready(Some(Err(Error::ConnectionTerminated))),
            }
        }
    }
}

fn gateway(world: World, emulator: &Emulator) -> Gateway {
    Gateway::of(world, emulator, Source::AppService2017, &[("GATEWAY_DEADLINE_SECONDS", "7")])
}

/// A quarter of the deadline.
const BODY_LIMIT: Duration = Duration::from_millis(1750);
