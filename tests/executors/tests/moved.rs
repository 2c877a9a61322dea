//! Runs that move, while they are pending, from one executor to another.

mod homes;

use std::future::ready;

use async_channel::{Sender, bounded};
use executor_tests::{LONG, SLOW, Source};
use futures_aggregate::{Reason, stream_results};

use homes::{
    ELSEWHERE, each_operation_everywhere, elsewhere, everywhere, on_tokio, poll_once, start,
};

/// A source that answers when its gate is dropped.
fn behind_a_gate(id: u32) -> (Sender<()>, Source) {
    let (gate, opened) = bounded(1);
    let answer = async move {
        let _ = opened.recv().await;
        Ok(id)
    };
    (gate, (id, Box::pin(answer)))
}

#[test]
fn a_wake_reaches_the_new_executor() {
    each_operation_everywhere(|operation, to| {
        everywhere(|from| {
            let (before, early) = behind_a_gate(0);
            let (after, late) = behind_a_gate(1);
            let run = poll_once(from, operation(vec![early, late], LONG));
            // This wakes a task that has ended, and whose executor may have been dropped.
            drop(before);
            let moved = start(to, run);
            moved.pending();
            drop(after);
            let summary = moved.output();
            assert_eq!(summary.reason, None);
            assert_eq!(summary.answered, [(0, 0), (1, 1)]);
        });
    });
}

#[test]
fn a_deadline_moves_with_the_run() {
    each_operation_everywhere(|operation, to| {
        let (list, remains) = elsewhere(LONG);
        let run = poll_once(on_tokio, operation(list, SLOW));
        let summary = start(to, run).output();
        remains.are_gone();
        assert_eq!(summary.reason, Some(Reason::TimedOut));
        assert_eq!(summary.unfinished, ELSEWHERE);
    });
}

#[test]
fn a_receiver_that_makes_room_wakes_the_new_executor() {
    everywhere(|to| {
        let (sender, receiver) = bounded(1);
        let list = [0, 1].map(|id| (id, ready(Ok::<_, ()>(id))));
        let driver = poll_once(on_tokio, Box::pin(stream_results(list, sender)));
        let moved = start(to, driver);
        moved.pending();
        assert_eq!(receiver.recv_blocking(), Ok((0, Ok(0))));
        assert_eq!(moved.output().unwrap().delivered, 2);
        assert_eq!(receiver.recv_blocking(), Ok((1, Ok(1))));
        assert!(receiver.is_closed());
    });
}

#[test]
fn a_receiver_that_is_dropped_ends_the_driver_on_the_new_executor() {
    everywhere(|to| {
        let (list, remains) = elsewhere(LONG);
        let (sender, receiver) = bounded(1);
        let driver = poll_once(on_tokio, Box::pin(stream_results(list, sender)));
        let moved = start(to, driver);
        moved.pending();
        drop(receiver);
        let interrupted = moved.output().unwrap_err();
        remains.are_gone();
        assert_eq!(interrupted.reason, Reason::ReceiverClosed);
        assert_eq!(interrupted.partial.unfinished, ELSEWHERE);
    });
}

#[test]
fn a_run_can_be_dropped_on_the_new_executor() {
    each_operation_everywhere(|operation, to| {
        let (list, remains) = elsewhere(LONG);
        let run = poll_once(on_tokio, operation(list, LONG));
        let run = poll_once(to, run);
        start(to, async { drop(run) }).output();
        remains.are_gone();
    });
}
