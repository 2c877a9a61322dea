//! `stream_results`: how outcomes reach the receiver, and which are returned as undelivered.

mod common;

use std::sync::Arc;

use async_channel::{TryRecvError, bounded, unbounded};
use common::{Task, alive, ready, source, sources};
use futures_aggregate::{Reason, SourceError, Streamed, TestTimer, stream_results};

#[test]
fn outcomes_arrive_in_completion_order_errors_included() {
    let (handles, list) = sources(3);
    let (sender, receiver) = unbounded();
    let mut task = Task::new(stream_results(list, sender));
    for (id, answer) in [(1, Ok(10)), (2, Err("refused")), (0, Ok(0))] {
        assert!(task.settle().is_pending());
        handles[id].answer(answer);
    }
    let streamed = task.finish().unwrap();
    assert_eq!(
        streamed,
        Streamed {
            delivered: 3,
            ..Streamed::default()
        }
    );
    let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(
        received,
        [
            (1, Ok(10)),
            (2, Err(SourceError::Failed("refused"))),
            (0, Ok(0))
        ]
    );
}

#[test]
fn outcome_is_in_the_channel_after_the_poll_in_which_the_source_answered() {
    let (handles, list) = sources(2);
    let (sender, receiver) = bounded(1);
    let mut task = Task::new(stream_results(list, sender));
    handles[0].answer(Ok(1));
    assert!(task.poll().is_pending());
    assert_eq!(receiver.try_recv(), Ok((0, Ok(1))));
}

#[test]
fn run_completes_when_the_last_outcome_is_in_the_channel() {
    let (sender, receiver) = bounded(1);
    let mut task = Task::new(stream_results(
        [(0, ready(Ok(0))), (1, ready(Ok(1)))],
        sender,
    ));
    assert!(task.settle().is_pending());
    assert!(!receiver.is_closed());
    assert!(receiver.try_recv().is_ok());
    assert_eq!(task.finish().unwrap().delivered, 2);
    assert!(receiver.is_closed());
    assert_eq!(receiver.try_recv(), Ok((1, Ok(1))));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn cancel_returns_the_undelivered_outcomes_in_order() {
    let (handles, list) = sources(5);
    let (cancel, signal) = source();
    let (sender, receiver) = bounded(1);
    let mut task = Task::new(stream_results(list, sender).cancel_on(signal));
    for (id, answer) in [(0, Ok(0)), (2, Err("refused")), (1, Ok(10))] {
        handles[id].answer(answer);
        assert!(task.settle().is_pending());
    }
    cancel.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(
        interrupted.partial,
        Streamed {
            delivered: 1,
            undelivered: vec![(2, Err(SourceError::Failed("refused"))), (1, Ok(10))],
            unfinished: vec![3, 4],
            unseen: false,
        }
    );
    assert_eq!(receiver.try_recv(), Ok((0, Ok(0))));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn outcome_is_undelivered_if_the_receiver_is_dropped_in_the_same_poll() {
    let (handles, list) = sources(2);
    let (sender, receiver) = bounded(1);
    let mut receiver = Some(receiver);
    handles[0].on_poll(move |_| drop(receiver.take()));
    handles[0].answer(Ok(1));
    let interrupted = Task::new(stream_results(list, sender))
        .finish()
        .unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.undelivered, [(0, Ok(1))]);
    assert_eq!(interrupted.partial.unfinished, [1]);
}

#[test]
fn channel_with_other_senders_stays_open_and_loses_at_most_one_outcome() {
    let (cancel, signal) = source();
    let (sender, receiver) = bounded(1);
    let list = (0..4).map(|id| (id, ready(Ok(id))));
    let run = stream_results(list, sender.clone()).cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.delivered, 1);
    assert_eq!(partial.undelivered, [(2, Ok(2)), (3, Ok(3))]);
    assert!(!receiver.is_closed());
    assert_eq!(sender.sender_count(), 1);

    assert!(receiver.try_recv().is_ok());
    sender.try_send((9, Ok(9))).unwrap();
    assert_eq!(receiver.try_recv(), Ok((9, Ok(9))));
}

#[test]
fn outcome_that_waits_for_room_is_delivered_at_the_end_if_there_is_room() {
    let (cancel, signal) = source();
    let (sender, receiver) = bounded(1);
    let list = (0..2).map(|id| (id, ready(Ok(id))));
    let mut task = Task::new(stream_results(list, sender.clone()).cancel_on(signal));
    assert!(task.settle().is_pending());
    assert!(receiver.try_recv().is_ok());
    cancel.answer(Ok(0));
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.delivered, 2);
    assert!(partial.undelivered.is_empty());
    assert_eq!(receiver.try_recv(), Ok((1, Ok(1))));
}

#[test]
fn two_drivers_share_a_channel_which_closes_after_both() {
    let (first, list) = sources(1);
    let (second, other) = sources(1);
    let (sender, receiver) = unbounded();
    let mut one = Task::new(stream_results(list, sender.clone()));
    let mut two = Task::new(stream_results(other, sender));
    assert!(one.settle().is_pending() && two.settle().is_pending());
    first[0].answer(Ok(1));
    assert_eq!(one.finish().unwrap().delivered, 1);
    assert!(!receiver.is_closed());
    second[0].answer(Ok(2));
    assert_eq!(two.finish().unwrap().delivered, 1);
    assert!(receiver.is_closed());
    assert_eq!(receiver.len(), 2);
}

#[test]
fn driver_drops_everything_it_holds_when_it_ends() {
    let witness = Arc::new(());
    let (sender, receiver) = bounded(1);
    let list = (0..3).map(|id| ((id, witness.clone()), ready(Ok(id))));
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.settle().is_pending());
    assert_eq!(Arc::strong_count(&witness), 4);
    drop(receiver);
    drop(task.finish());
    assert_eq!(task.wakers(), 0);
    assert_eq!(Arc::strong_count(&witness), 1);
}

/// More outcomes than one poll can deliver are queued at the deadline. The clock stands still, so that a slow
/// machine has the time for them.
#[test]
fn outcomes_after_the_deadline_do_not_overtake_queued_ones() {
    let (handle, last) = source();
    let (deadline, timer) = source();
    let mut list: Vec<_> = (0..1_600).map(|id| (id, ready(Ok(id)))).collect();
    list.push((1_600, last));
    let (sender, receiver) = async_channel::bounded(1_000);
    let mut task = Task::new(
        stream_results(list, sender)
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    assert!(task.settle().is_pending());
    let mut received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(received.len(), 1_000);
    deadline.answer(Ok(0));
    handle.answer(Ok(1_600));
    assert_eq!(task.finish().unwrap().delivered, 1_601);
    received.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
    let in_order: Vec<_> = (0..=1_600).map(|id| (id, Ok(id))).collect();
    assert_eq!(received, in_order);
}

#[test]
fn receiver_that_leaves_after_the_deadline_does_not_change_the_reason() {
    let (handles, list) = sources(600);
    let (deadline, timer) = source();
    let (sender, receiver) = async_channel::unbounded();
    let mut task = Task::new(
        stream_results(list, sender)
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    assert!(task.settle().is_pending());
    deadline.answer(Ok(0));
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
    assert!(
        task.poll().is_pending(),
        "one poll cannot reach all sources"
    );
    drop(receiver);
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    let streamed = interrupted.partial;
    let told = streamed.delivered + streamed.undelivered.len() + streamed.unfinished.len();
    assert_eq!((told, alive(&handles)), (600, 0));
}

#[test]
fn outcomes_of_new_sources_do_not_overtake_queued_ones() {
    let list = (0..3_000).map(|id| (id, ready(Ok(id))));
    let (sender, receiver) = async_channel::bounded(400);
    let mut task = Task::new(stream_results(list, sender).concurrency(1_000));
    let mut received = Vec::new();
    while task.settle().is_pending() {
        received.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
    }
    received.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
    assert!(received.into_iter().eq((0..3_000).map(|id| (id, Ok(id)))));
}

#[test]
fn queued_outcomes_are_delivered_after_the_deadline_as_far_as_there_is_room() {
    let (_handle, hangs) = source();
    let (deadline, timer) = source();
    let mut list: Vec<_> = (0..1_600).map(|id| (id, ready(Ok(id)))).collect();
    list.push((1_600, hangs));
    let (sender, receiver) = async_channel::bounded(1_000);
    let mut task = Task::new(
        stream_results(list, sender)
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    assert!(task.settle().is_pending());
    assert_eq!(
        std::iter::from_fn(|| receiver.try_recv().ok()).count(),
        1_000
    );
    deadline.answer(Ok(0));
    let streamed = task.finish().unwrap_err().partial;
    assert_eq!((streamed.delivered, receiver.len()), (1_600, 600));
    assert_eq!(streamed.unfinished, [1_600]);
}

#[test]
fn queued_outcomes_are_delivered_after_the_deadline_beside_sources_that_never_rest() {
    let (deadline, timer) = source();
    let (handles, mut list) = sources(400);
    let (sender, receiver) = async_channel::bounded(32);
    for (id, handle) in handles[..128].iter().enumerate() {
        let receiver = receiver.clone();
        handle.on_poll(move |waker| {
            // Every second one also makes room.
            while id % 2 == 0 && receiver.try_recv().is_ok() {}
            waker.wake_by_ref();
        });
    }
    // The ones that never rest are polled first and last.
    list.rotate_left(64);
    let mut task = Task::new(
        stream_results(list, sender)
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    (0..50).for_each(|_| assert!(task.poll().is_pending()));
    handles[128..]
        .iter()
        .for_each(|handle| handle.answer(Ok(1)));
    deadline.answer(Ok(0));
    let streamed = task.finish().unwrap_err().partial;
    assert_eq!((streamed.delivered, streamed.undelivered), (272, vec![]));
    assert_eq!(streamed.unfinished.len(), 128);
}
