//! The concurrency limits: how many sources are in flight.

mod common;

use common::{NEVER, Task, polls, sources};
use futures_aggregate::{fetch_and_aggregate, process_batch, stream_results};

#[test]
fn exactly_as_many_sources_are_in_flight_as_the_limit_admits() {
    let (handles, list) = sources(10);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(3));
    let started = || polls(&handles).iter().filter(|&&polls| polls > 0).count();
    for (done, handle) in handles.iter().enumerate() {
        assert!(task.settle().is_pending());
        assert_eq!(started(), (done + 3).min(10));
        handle.answer(Ok(0));
    }
    assert_eq!(task.finish().unwrap().results.len(), 10);
}

#[test]
fn source_that_is_ready_at_once_frees_its_slot_in_the_same_poll() {
    let (handles, mut list) = sources(1);
    list.splice(0..0, (1..50).map(|id| (id, common::ready(Ok(0)))));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(1));
    assert!(task.poll().is_pending());
    assert_eq!(polls(&handles), [1]);
}

#[test]
fn batches_and_their_sources_have_separate_limits() {
    let (handles, mut list) = sources(9);
    let mut batches = Vec::new();
    while !list.is_empty() {
        batches.push(list.drain(..3).collect::<Vec<_>>());
    }
    let run = process_batch(batches).concurrency(2).source_concurrency(1);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 0, 0, 1, 0, 0, 0, 0, 0]);
    for done in [0, 1, 2] {
        handles[done].answer(Ok(0));
        assert!(task.settle().is_pending());
    }
    assert_eq!(polls(&handles), [2, 2, 2, 1, 0, 0, 1, 0, 0]);
}

#[test]
fn outcome_that_waits_for_the_receiver_counts_as_a_source_in_flight() {
    let (handles, list) = sources(5);
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(list, sender).concurrency(2));
    handles[0].answer(Ok(0));
    handles[1].answer(Ok(1));
    handles[2].answer(Ok(2));
    assert!(task.settle().is_pending());
    // One outcome is in the channel and two wait for room, so no other source starts.
    assert_eq!(polls(&handles), [1, 1, 1, 0, 0]);
    assert!(receiver.try_recv().is_ok());
    assert!(task.is_woken());
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 1, 1, 1, 0]);
}

#[test]
fn stream_without_a_limit_starts_every_source_even_if_the_channel_is_full() {
    let (handles, list) = sources(5);
    let (sender, _receiver) = async_channel::bounded(1);
    handles[0].answer(Ok(0));
    handles[1].answer(Ok(1));
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.poll().is_pending());
    assert_eq!(polls(&handles), [1; 5]);
}
