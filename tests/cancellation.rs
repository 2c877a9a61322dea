//! Cancellation, by a signal or by dropping the operation.

mod common;

use std::future::Future;
use std::pin::Pin;

use common::{NEVER, Task, alive, panic_of, polls, source, sources};
use futures::FutureExt;
use futures::channel::oneshot;
use futures_aggregate::{Reason, fetch_and_aggregate, process_batch, stream_results};

#[test]
fn cancel_drops_every_source_before_the_run_resolves() {
    let (handles, list) = sources(100);
    let (cancel, signal) = oneshot::channel::<()>();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    assert!(task.settle().is_pending());
    cancel.send(()).unwrap();
    assert!(task.is_woken());
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(alive(&handles), 0);
    assert_eq!(polls(&handles), [1; 100]);
}

#[test]
fn cancel_beats_sources_that_were_woken_for_the_same_poll() {
    let (handles, list) = sources(1);
    let (cancel, signal) = source();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    cancel.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.partial.unfinished, [0]);
    assert_eq!(handles[0].polls(), 1);
}

#[test]
fn future_of_any_output_cancels() {
    let (_, list) = sources(1);
    let (sender, signal) = async_channel::bounded::<String>(1);
    let run = fetch_and_aggregate(list, NEVER).cancel_on(signal.recv());
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    drop(sender);
    assert_eq!(task.finish().unwrap_err().reason, Reason::Cancelled);
}

#[test]
fn either_of_two_signals_cancels() {
    for first in 0..2 {
        let (_, list) = sources(1);
        let (signals, mut futures) = sources(2);
        let (one, other) = (futures.remove(0).1, futures.remove(0).1);
        let run = fetch_and_aggregate(list, NEVER)
            .cancel_on(one)
            .cancel_on(other);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        signals[first].answer(Ok(0));
        assert_eq!(task.finish().unwrap_err().reason, Reason::Cancelled);
        assert_eq!(alive(&signals), 0);
    }
}

#[test]
fn signals_are_polled_only_when_they_are_woken() {
    let (handles, list) = sources(2);
    let (cancel, signal) = source();
    let (expire, timer) = source();
    let run = fetch_and_aggregate(list, NEVER)
        .cancel_on(signal)
        .expire_on(timer);
    let mut task = Task::new(run);
    for _ in 0..5 {
        assert!(task.settle().is_pending());
        handles[0].wake();
    }
    assert_eq!((cancel.polls(), expire.polls()), (1, 1));
    cancel.wake();
    expire.wake();
    assert!(task.settle().is_pending());
    assert_eq!((cancel.polls(), expire.polls()), (2, 2));
}

#[test]
fn signals_are_dropped_before_the_run_resolves() {
    let (handles, list) = sources(1);
    let (cancel, signal) = source();
    let (expire, timer) = source();
    let run = fetch_and_aggregate(list, NEVER)
        .cancel_on(signal)
        .expire_on(timer);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(task.finish().is_ok());
    assert!(!cancel.is_alive() && !expire.is_alive());
}

#[test]
fn cancelled_batches_keep_their_outcomes() {
    let (handles, mut list) = sources(4);
    let second = list.split_off(2);
    let (cancel, signal) = source();
    let mut task = Task::new(process_batch([list, second]).cancel_on(signal));
    handles[0].answer(Ok(1));
    handles[1].answer(Ok(2));
    handles[2].answer(Err("refused"));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    let [done, stopped] = &interrupted.partial[..] else {
        panic!("one outcome for each batch");
    };
    assert_eq!(done.as_ref().unwrap().results, [(0, 1), (1, 2)]);
    let stopped = stopped.as_ref().unwrap_err();
    assert_eq!(stopped.reason, Reason::Cancelled);
    assert_eq!(stopped.partial.errors.len(), 1);
    assert_eq!(stopped.partial.unfinished, [3]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn dropping_an_operation_drops_every_source_at_once() {
    let (handles, list) = sources(3);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(2));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(alive(&handles), 0);

    let (handles, list) = sources(3);
    let mut task = Task::new(process_batch([list]));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(alive(&handles), 0);

    let (handles, list) = sources(3);
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(list, sender));
    handles[0].answer(Ok(1));
    handles[1].answer(Ok(1));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(alive(&handles), 0);
    assert!(receiver.is_closed());
}

#[test]
fn select_drops_the_sources_of_the_operation_that_lost() {
    let (handles, list) = sources(2);
    let (winner, other) = source();
    let run = fetch_and_aggregate(list, NEVER);
    let mut task = Task::new(async {
        futures::future::select(Box::pin(run), other.map(drop)).await;
    });
    assert!(task.settle().is_pending());
    assert_eq!(alive(&handles), 2);
    winner.answer(Ok(0));
    task.finish();
    assert_eq!(alive(&handles), 0);
}

#[test]
fn signal_that_wakes_itself_while_it_is_polled_is_polled_again() {
    let (handles, list) = sources(1);
    let (cancel, signal) = source();
    let cancels = cancel.clone();
    cancel.on_poll(move |waker| {
        if cancels.polls() == 1 {
            waker.wake_by_ref();
        } else {
            cancels.answer_next(Ok(0));
        }
    });
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    assert_eq!(task.finish().unwrap_err().reason, Reason::Cancelled);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn late_wake_of_a_signal_that_has_panicked_does_not_keep_the_run_busy() {
    let (handles, list) = sources(1);
    let (cancel, signal) = source();
    cancel.on_poll(|_| panic!("signal"));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    assert_eq!(panic_of(|| task.settle()), "signal");
    cancel.wake();
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    assert_eq!(task.finish().unwrap().results, [(0, 1)]);
}

#[test]
fn signal_that_panics_leaves_the_other_signals_working() {
    for (panicking, firing) in [(0, 1), (1, 0), (0, 2), (1, 2), (2, 0), (2, 1)] {
        for expires in [false, true] {
            let (handles, list) = sources(1);
            let (signals, futures) = sources(3);
            let mut futures = futures.into_iter().map(|(_, signal)| signal);
            let mut next = || futures.next().unwrap();
            signals[panicking].on_poll(|_| panic!("signal"));
            let run = fetch_and_aggregate(list, NEVER);
            let (mut task, reason): (Pin<Box<dyn Future<Output = _>>>, _) = match expires {
                false => {
                    let run = run.cancel_on(next()).cancel_on(next()).cancel_on(next());
                    (Box::pin(run), Reason::Cancelled)
                }
                true => {
                    let run = run.expire_on(next()).expire_on(next()).expire_on(next());
                    (Box::pin(run), Reason::TimedOut)
                }
            };
            let mut task = Task::new(task.as_mut());
            assert_eq!(panic_of(|| task.settle()), "signal");
            assert!(task.settle().is_pending());
            signals[firing].answer(Ok(0));
            let interrupted = task.finish().unwrap_err();
            assert_eq!(interrupted.reason, reason, "{panicking}, {firing}");
            assert_eq!(signals[panicking].polls(), 1);
            assert!(!handles[0].is_alive());
        }
    }
}

#[test]
fn signal_that_panics_while_another_fires_loses_nothing() {
    for (panicking, firing) in [(0, 1), (1, 0)] {
        let (_, list) = sources(1);
        let (signals, mut futures) = sources(2);
        let (second, first) = (futures.remove(1).1, futures.remove(0).1);
        let run = fetch_and_aggregate(list, NEVER)
            .cancel_on(first)
            .expire_on(second);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        signals[panicking].on_poll(|_| panic!("signal"));
        signals[panicking].wake();
        signals[firing].answer(Ok(0));
        assert_eq!(panic_of(|| task.settle()), "signal");
        let reason = [Reason::Cancelled, Reason::TimedOut][firing];
        assert_eq!(task.finish().unwrap_err().reason, reason);
    }
}
