//! Panics in code of the caller: they unwind to the caller, and nothing else is lost.

mod common;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use async_channel::{Receiver, Recv};
use common::{NEVER, Task, alive, panic_of, source, sources};
use futures_aggregate::{
    Outcome, Reason, SourceError, fetch_and_aggregate, process_batch, stream_results,
};

/// A task that panics when it is woken.
struct PanickingTask;

impl Wake for PanickingTask {
    fn wake(self: Arc<Self>) {
        panic!("wake");
    }
}

type Waiting = Pin<Box<Recv<'static, Outcome<usize, u32, &'static str>>>>;

/// Receivers that waited with the waker of such a task. The list of waiting receivers inside a channel does
/// not survive a drop of one.
static KEPT: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

#[test]
fn source_that_panics_in_its_first_poll_does_not_affect_the_others() {
    let (handles, list) = sources(3);
    handles[0].on_poll(|_| panic!("at once, with {}", "arguments"));
    handles[1].answer(Ok(1));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(1));
    assert_eq!(panic_of(|| task.settle()), "at once, with arguments");
    assert!(task.settle().is_pending());
    handles[2].answer(Ok(2));
    assert_eq!(task.finish().unwrap().results, [(1, 1), (2, 2)]);
}

#[test]
fn dropping_after_a_panic_drops_every_source() {
    let (handles, list) = sources(3);
    handles[1].on_poll(|_| panic!("source 1"));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    panic_of(|| task.settle());
    task.drop_future();
    assert_eq!(alive(&handles), 0);
    assert_eq!(task.wakers(), 0);
}

#[test]
fn outcome_of_a_source_that_panics_is_delivered() {
    let (handles, list) = sources(2);
    let (sender, receiver) = async_channel::unbounded();
    let mut task = Task::new(stream_results(list, sender));
    handles[0].on_poll(|_| panic!("source 0"));
    panic_of(|| task.settle());
    let panicked = SourceError::Panicked("source 0".to_owned());
    assert_eq!(receiver.try_recv(), Ok((0, Err(panicked))));
    handles[1].answer(Ok(1));
    assert_eq!(task.finish().unwrap().delivered, 2);
}

#[test]
fn policy_ends_a_run_after_a_source_has_panicked_in_a_later_poll() {
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).fail_fast());
    assert!(task.settle().is_pending());
    handles[0].on_poll(|_| panic!("source 0"));
    handles[0].wake();
    assert_eq!(panic_of(|| task.settle()), "source 0");
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::SourceFailed);
    assert_eq!(interrupted.partial.errors.len(), 1);
}

#[test]
fn panic_in_a_batch_does_not_affect_the_others() {
    let (handles, mut list) = sources(3);
    let second = list.split_off(1);
    let mut task = Task::new(process_batch([list, second]));
    handles[0].on_poll(|_| panic!("source 0"));
    panic_of(|| task.settle());
    assert!(task.settle().is_pending());
    handles[1].answer(Ok(1));
    handles[2].answer(Ok(2));
    let outcomes = task.finish().unwrap();
    assert!(outcomes[0].as_ref().unwrap().errors[0].1.is_panicked());
    assert_eq!(outcomes[1].as_ref().unwrap().results, [(1, 1), (2, 2)]);
}

#[test]
fn interrupted_batches_keep_their_aggregates_through_panics_in_drop() {
    let (handles, mut list) = sources(4);
    let second = list.split_off(2);
    let (cancel, signal) = source();
    for handle in &handles {
        handle.on_drop(|| panic!("drop"));
    }
    let mut task = Task::new(process_batch([list, second]).cancel_on(signal));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    assert_eq!(panic_of(|| task.settle()), "drop");
    assert_eq!(alive(&handles), 0);
    let outcomes = task.finish().unwrap_err().partial;
    let unfinished: Vec<_> = outcomes
        .into_iter()
        .map(|batch| batch.unwrap_err().partial.unfinished)
        .collect();
    assert_eq!(unfinished, [[0, 1], [2, 3]]);
}

#[test]
fn outcome_is_kept_when_the_drop_of_its_source_panics() {
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    handles[0].on_drop(|| panic!("drop"));
    handles[0].answer(Ok(1));
    assert_eq!(panic_of(|| task.settle()), "drop");
    handles[1].answer(Ok(2));
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
}

#[test]
fn signal_that_panics_is_not_polled_again() {
    let (handles, list) = sources(1);
    let (cancel, signal) = source();
    cancel.on_poll(|_| panic!("signal"));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    assert_eq!(panic_of(|| task.settle()), "signal");
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    assert_eq!(task.finish().unwrap().results, [(0, 1)]);
    assert_eq!(cancel.polls(), 1);
}

#[test]
fn signal_whose_drop_panics_ends_the_run_and_the_others_are_dropped() {
    for (fires, reason) in [(0, Reason::Cancelled), (1, Reason::TimedOut)] {
        let (handles, list) = sources(1);
        let (signals, mut futures) = sources(2);
        let (timer, cancel) = (futures.remove(1).1, futures.remove(0).1);
        signals[0].on_drop(|| panic!("signal"));
        let run = fetch_and_aggregate(list, NEVER)
            .cancel_on(cancel)
            .expire_on(timer);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        signals[fires].answer(Ok(0));
        assert_eq!(panic_of(|| task.settle()), "signal");
        assert_eq!((alive(&signals), alive(&handles)), (0, 0));
        assert_eq!(task.finish().unwrap_err().reason, reason);
    }
}

/// The receiver waits, and the waker of its task panics.
#[test]
fn receiver_whose_waker_panics_unwinds_once_and_loses_no_outcome() {
    let endings = [
        "sent",
        "sent when there was room",
        "sent when the run was cancelled",
        "closed",
    ];
    for ending in endings {
        let (handles, list) = sources(3);
        let (cancel, signal) = source();
        let (sender, receiver) = async_channel::bounded(1);
        let receiver: &Receiver<_> = Box::leak(Box::new(receiver));
        let mut task = Task::new(stream_results(list, sender).cancel_on(signal));
        assert!(task.settle().is_pending());
        let mut received = 0;
        if ending.starts_with("sent when") {
            handles[0].answer(Ok(0));
            handles[1].answer(Ok(1));
            assert!(task.settle().is_pending());
            received += receiver.try_recv().into_iter().count();
        }
        let mut waiting = Box::pin(receiver.recv());
        let panicking = Waker::from(Arc::new(PanickingTask));
        let poll = waiting.as_mut().poll(&mut Context::from_waker(&panicking));
        assert!(poll.is_pending());
        match ending {
            "sent" => handles[0].answer(Ok(0)),
            "closed" | "sent when the run was cancelled" => cancel.answer(Ok(0)),
            _ => {}
        }
        assert_eq!(panic_of(|| task.settle()), "wake");
        KEPT.lock().unwrap().push(waiting);
        if ending == "sent when the run was cancelled" {
            let streamed = task.finish().unwrap_err().partial;
            received += std::iter::from_fn(|| receiver.try_recv().ok()).count();
            assert_eq!((streamed.delivered, received), (2, 2));
            assert!(streamed.undelivered.is_empty());
            assert_eq!(streamed.unfinished, [2]);
            continue;
        }
        if ending == "closed" {
            assert_eq!(task.finish().unwrap_err().partial.unfinished, [0, 1, 2]);
            continue;
        }
        for handle in &handles {
            if handle.is_alive() {
                handle.answer(Ok(2));
            }
        }
        let streamed = loop {
            if let Poll::Ready(streamed) = task.settle() {
                break streamed.unwrap();
            }
            received += receiver.try_recv().into_iter().count();
        };
        received += std::iter::from_fn(|| receiver.try_recv().ok()).count();
        assert_eq!((streamed.delivered, received), (3, 3), "{ending}");
    }
}

/// The outcomes that waited for the one whose delivery panics are delivered in the next poll.
#[test]
fn receiver_whose_waker_panics_holds_up_no_outcome_in_order() {
    let (handles, list) = sources(3);
    let (sender, receiver) = async_channel::unbounded();
    let receiver: &Receiver<_> = Box::leak(Box::new(receiver));
    let mut task = Task::new(stream_results(list, sender).in_order());
    for id in [1, 2] {
        handles[id].answer(Ok(0));
    }
    assert!(task.settle().is_pending());
    let mut waiting = Box::pin(receiver.recv());
    let panicking = Waker::from(Arc::new(PanickingTask));
    let poll = waiting.as_mut().poll(&mut Context::from_waker(&panicking));
    assert!(poll.is_pending());
    handles[0].answer(Ok(0));
    assert_eq!(panic_of(|| task.settle()), "wake");
    KEPT.lock().unwrap().push(waiting);
    assert_eq!(task.finish().unwrap().delivered, 3);
    let received = std::iter::from_fn(|| receiver.try_recv().ok());
    assert_eq!(received.map(|(id, _)| id).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn expiry_ends_a_run_in_which_every_poll_panics() {
    let (deadline, timer) = source();
    let list = (0_u32..).map(|id| (id, std::future::poll_fn(move |_| fail(id))));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).expire_on(timer));
    panic_of(|| task.poll());
    deadline.answer(Ok(0));
    let result = (0..100_000).find_map(|_| {
        let poll = catch_unwind(AssertUnwindSafe(|| task.poll()));
        match poll.unwrap_or(Poll::Pending) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    });
    let interrupted = result.expect("the run goes on").unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
}

/// Panics without the message that the panic hook prints.
fn fail(id: u32) -> Poll<Result<u32, &'static str>> {
    resume_unwind(Box::new(format!("source {id}")))
}

/// A panic payload whose drop panics with another payload, this many times.
struct Payload(Arc<()>, u32);

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(left) = self.1.checked_sub(1) {
            std::panic::panic_any(Payload(self.0.clone(), left));
        }
    }
}

#[test]
fn payload_of_a_caught_panic_is_dropped_even_if_its_drop_panics() {
    let carried = Arc::new(());
    let source = async {
        std::panic::panic_any(Payload(carried.clone(), 3));
        #[allow(unreachable_code, reason = "it gives the source its type")]
        Ok::<(), ()>(())
    };
    let run = fetch_and_aggregate([(0, source)], NEVER).catch_panics();
    let aggregate = Task::new(run).finish().unwrap();
    assert!(aggregate.errors[0].1.is_panicked());
    assert_eq!(Arc::strong_count(&carried), 1);
}
