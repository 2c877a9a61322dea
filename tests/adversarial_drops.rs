//! Failures that other crates of this field had with panics and drops. See `adversarial.rs` for the others.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use common::{Handle, NEVER, Task, alive, panic_of, polls, source, sources};
use futures::FutureExt;
use futures_aggregate::{Reason, SourceError, fetch_and_aggregate, stream_results};

/// futures-buffered 0.2.14: it stays pending for ever.
#[test]
fn source_that_panics_in_poll_is_dropped_once_and_the_others_go_on() {
    let (handles, list) = sources(3);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    handles[1].on_poll(|_| panic!("source 1"));
    handles[1].wake();
    handles[2].answer(Ok(3));
    assert_eq!(panic_of(|| task.settle()), "source 1");
    assert!(!handles[1].is_alive());
    assert!(task.is_woken(), "there is work left for another poll");

    let aggregate = task.finish().unwrap();
    assert_eq!(aggregate.results, [(0, 1), (2, 3)]);
    let panicked = SourceError::Panicked("source 1".to_owned());
    assert_eq!(aggregate.errors, [(1, panicked)]);
    assert_eq!(handles[1].polls(), 2);
}

/// futures-rs 0.3.34: it drops one of three sources and leaks the others.
#[test]
fn source_that_panics_in_drop_keeps_no_other_alive() {
    for interrupt in [true, false] {
        let (handles, list) = sources(4);
        let (cancel, signal) = source();
        handles[0].on_drop(|| panic!("first drop"));
        handles[2].on_drop(|| panic!("second drop"));
        let run = fetch_and_aggregate(list, NEVER)
            .concurrency(3)
            .cancel_on(signal);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        let panic = if interrupt {
            cancel.answer(Ok(0));
            panic_of(|| task.settle())
        } else {
            panic_of(|| task.drop_future())
        };
        assert_eq!(panic, "first drop");
        assert_eq!(alive(&handles), 0);
        if interrupt {
            let interrupted = task.finish().unwrap_err();
            assert_eq!(interrupted.reason, Reason::Cancelled);
            assert_eq!(interrupted.partial.unfinished, [0, 1, 2, 3]);
        }
        assert_eq!(task.wakers(), 0);
    }
}

/// An outcome that counts its drops, and may panic in them.
struct Outcome {
    drops: Arc<AtomicUsize>,
    panics: bool,
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "outcome");
    }
}

/// The failure: a panic leaves a set half dropped.
#[test]
fn outcome_that_panics_in_drop_keeps_no_other_and_no_source_alive() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (handles, list) = sources(5);
    let outcomes = drops.clone();
    let list = list.into_iter().map(|(id, source)| {
        let (drops, panics) = (outcomes.clone(), id == 2);
        (
            id,
            source.map(move |answer| answer.map(|_| Outcome { drops, panics })),
        )
    });
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.settle().is_pending());
    // One outcome is in the channel, one waits for room, and two are queued.
    handles[..4].iter().for_each(|handle| handle.answer(Ok(0)));
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "outcome");
    assert_eq!((alive(&handles), task.wakers()), (0, 0));
    assert!(receiver.is_closed());
    drop(receiver);
    assert_eq!(drops.load(Ordering::Relaxed), 4);
}

/// The failure: a set is borrowed while it drops a source.
#[test]
fn source_whose_drop_wakes_the_run_can_be_dropped_by_the_run() {
    let (handles, list) = sources(3);
    let (cancel, signal) = source();
    for (id, handle) in handles.iter().enumerate() {
        handle.keep_waker();
        let others = handles.clone();
        handle.on_drop(move || others[(id + 1) % 3].wake());
    }
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [2, 2, 1]);
    cancel.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().reason, Reason::Cancelled);
    assert_eq!(alive(&handles), 0);
}

/// The failure: a driver checks for room in the channel before it drops the source.
#[test]
fn source_whose_drop_fills_the_channel_loses_no_outcome() {
    let (handles, list) = sources(1);
    let (sender, receiver) = async_channel::bounded(1);
    let sends = sender.clone();
    handles[0].on_drop(move || sends.try_send((9, Ok(9))).unwrap());
    let mut task = Task::new(stream_results(list, sender));
    handles[0].answer(Ok(0));
    assert!(task.settle().is_pending());
    assert_eq!(receiver.try_recv(), Ok((9, Ok(9))));
    assert_eq!(task.finish().unwrap().delivered, 1);
    assert_eq!(receiver.try_recv(), Ok((0, Ok(0))));
}

/// The failure: a driver checks for its receiver before it drops the sources.
#[test]
fn source_whose_drop_drops_the_receiver_gives_every_outcome_back() {
    let (handles, list) = sources(3);
    let (cancel, signal) = source();
    let (sender, receiver) = async_channel::bounded(1);
    handles[2].on_drop(move || drop(receiver));
    let mut task = Task::new(stream_results(list, sender).cancel_on(signal));
    handles[0].answer(Ok(0));
    handles[1].answer(Ok(1));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(interrupted.partial.undelivered, [(1, Ok(1))]);
    assert_eq!(interrupted.partial.unfinished, [2]);
}

/// futures-rs #2529, #2781.
#[test]
fn threads_that_wake_sources_of_a_dropped_run_keep_nothing_alive() {
    for _ in 0..100 {
        let (handles, list) = sources(100);
        handles.iter().for_each(Handle::keep_waker);
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        assert!(task.settle().is_pending());
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for half in handles.chunks(50) {
                scope.spawn(|| {
                    start.wait();
                    half.iter().for_each(Handle::wake);
                });
            }
            start.wait();
            task.drop_future();
        });
        assert_eq!((alive(&handles), task.wakers()), (0, 0));
    }
}
