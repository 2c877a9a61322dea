//! Requirements of the Go service whose leaks this crate is meant to avoid, in the terms of this crate.

mod common;

use common::{NEVER, Task, alive, polls, ready, source, sources};
use futures_aggregate::{Reason, SourceError, fetch_and_aggregate, process_batch, stream_results};

#[test]
fn fetch_timeout_before_all_answered_returns_the_partial_aggregate_and_leaves_no_source() {
    let (handles, sources) = sources(4);
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).expire_on(timer));
    assert!(task.settle().is_pending());
    handles[2].answer(Ok(20));
    handles[1].answer(Err("refused"));
    assert!(task.settle().is_pending());

    deadline.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(alive(&handles), 0);
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results, [(2, 20)]);
    assert_eq!(
        interrupted.partial.errors,
        [(1, SourceError::Failed("refused"))]
    );
    assert_eq!(interrupted.partial.unfinished, [0, 3]);
}

#[test]
fn fetch_cancelled_while_running_returns_the_partial_aggregate_and_leaves_no_source() {
    let (handles, sources) = sources(3);
    let (cancel, signal) = source();
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).cancel_on(signal));
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());

    cancel.answer(Ok(0));
    assert!(task.is_woken());
    let interrupted = task.finish().unwrap_err();
    assert_eq!(alive(&handles), 0);
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(interrupted.partial.results, [(0, 1)]);
    assert_eq!(interrupted.partial.unfinished, [1, 2]);
}

#[test]
fn already_cancelled_on_entry_polls_no_source_in_any_operation() {
    let (handles, sources) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).cancel_on(ready(Ok(0))));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(interrupted.partial.unfinished, [0, 1]);
    assert_eq!((polls(&handles), alive(&handles)), (vec![0, 0], 0));

    let (handles, sources) = common::sources(2);
    let mut task = Task::new(process_batch([sources]).cancel_on(ready(Ok(0))));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    let batch = interrupted.partial[0].as_ref().unwrap_err();
    assert_eq!(batch.reason, Reason::Cancelled);
    assert_eq!(batch.partial.unfinished, [0, 1]);
    assert_eq!((polls(&handles), alive(&handles)), (vec![0, 0], 0));

    let (handles, sources) = common::sources(2);
    let (sender, receiver) = async_channel::bounded(2);
    let mut task = Task::new(stream_results(sources, sender).cancel_on(ready(Ok(0))));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(interrupted.partial.unfinished, [0, 1]);
    assert_eq!((polls(&handles), alive(&handles)), (vec![0, 0], 0));
    assert!(receiver.is_closed());
}

#[test]
fn run_without_sources_completes_in_its_first_poll() {
    let none = Vec::<(u8, common::Source)>::new;
    let mut task = Task::new(fetch_and_aggregate(none(), NEVER));
    assert_eq!(task.poll(), std::task::Poll::Ready(Ok(Default::default())));

    let mut task = Task::new(process_batch(Vec::<Vec<(u8, common::Source)>>::new()));
    assert_eq!(task.poll(), std::task::Poll::Ready(Ok(vec![])));

    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(none(), sender));
    assert_eq!(task.poll(), std::task::Poll::Ready(Ok(Default::default())));
    assert!(receiver.is_closed());
}

#[test]
fn one_source_does_not_deadlock() {
    let (handle, one) = source();
    let mut task = Task::new(fetch_and_aggregate([("only", one)], NEVER).concurrency(1));
    assert!(task.settle().is_pending());
    handle.answer(Ok(7));
    assert_eq!(task.finish().unwrap().results, [("only", 7)]);
}

#[test]
fn run_whose_sources_all_fail_completes_with_every_error() {
    let failing = (0..3).map(|id| (id, ready(Err("refused"))));
    let aggregate = Task::new(fetch_and_aggregate(failing, NEVER))
        .finish()
        .unwrap();
    assert!(aggregate.results.is_empty());
    assert!(aggregate.unfinished.is_empty());
    let failed = SourceError::Failed("refused");
    assert_eq!(
        aggregate.errors,
        [(0, failed.clone()), (1, failed.clone()), (2, failed)]
    );
}

#[test]
fn all_sources_start_in_the_first_poll() {
    let (handles, sources) = sources(4);
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
    assert!(task.poll().is_pending());
    assert_eq!(polls(&handles), [1, 1, 1, 1]);
}

#[test]
fn failed_or_late_batch_affects_no_other() {
    let (handle, slow) = source();
    let (deadline, timer) = source();
    let batches = vec![
        vec![("good", ready(Ok(1)))],
        vec![("bad", ready(Err("refused")))],
        vec![("fast", ready(Ok(2))), ("slow", slow)],
    ];
    let mut task = Task::new(process_batch(batches).expire_on(timer));
    assert!(task.settle().is_pending());
    deadline.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert!(!handle.is_alive());
    assert_eq!(interrupted.reason, Reason::TimedOut);
    let [good, bad, late] = &interrupted.partial[..] else {
        panic!("one outcome for each batch");
    };
    assert_eq!(good.as_ref().unwrap().results, [("good", 1)]);
    assert_eq!(
        bad.as_ref().unwrap().errors,
        [("bad", SourceError::Failed("refused"))]
    );
    let late = late.as_ref().unwrap_err();
    assert_eq!(late.reason, Reason::TimedOut);
    assert_eq!(late.partial.results, [("fast", 2)]);
    assert_eq!(late.partial.unfinished, ["slow"]);
}

#[test]
fn stream_results_returns_before_anything_is_polled() {
    let (handles, sources) = sources(2);
    let (sender, receiver) = async_channel::bounded(2);
    let driver = stream_results(sources, sender);
    assert_eq!(polls(&handles), [0, 0]);
    assert!(receiver.is_empty() && !receiver.is_closed());
    drop(driver);
    assert_eq!(alive(&handles), 0);
    assert!(receiver.is_closed());
}

#[test]
fn receiver_that_stops_reading_does_not_block_the_run_at_its_deadline() {
    let (handles, sources) = sources(4);
    let (deadline, timer) = source();
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(sources, sender).expire_on(timer));
    for (value, handle) in (0..).zip(&handles[..3]) {
        handle.answer(Ok(value));
    }
    assert!(task.settle().is_pending());

    deadline.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.delivered, 1);
    assert_eq!(interrupted.partial.undelivered, [(1, Ok(1)), (2, Ok(2))]);
    assert_eq!(interrupted.partial.unfinished, [3]);
    assert_eq!(alive(&handles), 0);
    assert_eq!(receiver.try_recv(), Ok((0, Ok(0))));
    assert_eq!(
        receiver.try_recv(),
        Err(async_channel::TryRecvError::Closed)
    );
}

#[test]
fn dropped_receiver_ends_the_run_while_all_sources_are_pending() {
    let (handles, sources) = sources(3);
    let (sender, receiver) = async_channel::bounded::<(_, Result<_, SourceError<_>>)>(1);
    let mut task = Task::new(stream_results(sources, sender));
    assert!(task.settle().is_pending());
    drop(receiver);
    assert!(task.is_woken());
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
    assert_eq!((polls(&handles), alive(&handles)), (vec![1, 1, 1], 0));
}

#[test]
fn channel_closes_once_after_the_last_outcome() {
    let (handles, sources) = sources(3);
    let (sender, receiver) = async_channel::unbounded();
    let mut task = Task::new(stream_results(sources, sender));
    for (value, handle) in (0..).zip(&handles) {
        assert!(task.settle().is_pending());
        assert!(!receiver.is_closed());
        handle.answer(Ok(value));
    }
    assert_eq!(task.finish().unwrap().delivered, 3);
    assert!(receiver.is_closed());
    let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(received, [(0, Ok(0)), (1, Ok(1)), (2, Ok(2))]);
}

#[test]
fn slow_receiver_does_not_keep_other_sources_from_being_polled() {
    let (handles, sources) = sources(3);
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(sources, sender));
    handles[0].answer(Ok(0));
    handles[1].answer(Ok(1));
    assert!(task.settle().is_pending());
    assert!(receiver.is_full());

    handles[2].wake();
    assert!(task.settle().is_pending());
    assert_eq!(handles[2].polls(), 2);
}
