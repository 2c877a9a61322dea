//! Accounting: every source ends in exactly one list of the result, however the run ends.

mod common;

use std::task::Poll;

use common::{NEVER, Task, ready, source, sources};
use futures_aggregate::{Reason, SourceError, fetch_and_aggregate, process_batch, stream_results};

#[test]
fn results_and_errors_are_in_completion_order_under_their_ids() {
    let (handles, sources) = sources(4);
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
    for (id, answer) in [(3, Ok(30)), (0, Err("a")), (1, Ok(10)), (2, Err("b"))] {
        assert!(task.settle().is_pending());
        handles[id].answer(answer);
    }
    let aggregate = task.finish().unwrap();
    assert_eq!(aggregate.results, [(3, 30), (1, 10)]);
    assert_eq!(
        aggregate.errors,
        [(0, SourceError::Failed("a")), (2, SourceError::Failed("b"))]
    );
    assert_eq!(aggregate.unfinished, []);
}

#[test]
fn ids_need_no_traits() {
    struct Opaque;
    let sources = [(Opaque, ready(Ok(1))), (Opaque, ready(Err("refused")))];
    let aggregate = Task::new(fetch_and_aggregate(sources, NEVER))
        .finish()
        .map_err(|interrupted| interrupted.reason);
    assert_eq!(
        aggregate.map(|all| (all.results.len(), all.errors.len())),
        Ok((1, 1))
    );
}

#[test]
fn sources_in_flight_come_before_those_never_started_in_the_order_of_the_list() {
    let (handles, sources) = sources(6);
    let (cancel, signal) = source();
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(3)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    // Source 3 reuses the slot of source 1, but it starts after source 2.
    handles[1].answer(Ok(10));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.results, [(1, 10)]);
    assert_eq!(partial.unfinished, [0, 2, 3, 4, 5]);
    assert_eq!(handles[4].polls() + handles[5].polls(), 0);
}

#[test]
fn source_is_dropped_before_its_outcome_is_delivered() {
    let (handle, source) = source();
    let (sender, receiver) = async_channel::unbounded();
    let undelivered = receiver.clone();
    handle.on_drop(move || assert!(undelivered.is_empty()));
    let mut task = Task::new(stream_results([(0, source)], sender));
    assert!(task.settle().is_pending());
    handle.answer(Ok(1));
    assert_eq!(task.finish().unwrap().delivered, 1);
    assert!(!handle.is_alive());
    assert_eq!(receiver.try_recv(), Ok((0, Ok(1))));
}

#[test]
fn finished_source_is_dropped_while_others_are_pending() {
    let (handles, sources) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER));
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    assert!(!handles[0].is_alive());
    assert!(handles[1].is_alive());
}

#[test]
fn last_outcome_beats_a_cancel_that_comes_in_the_same_poll() {
    let (handle, only) = source();
    let (cancel, signal) = source();
    let late = cancel.clone();
    handle.on_poll(move |_| late.answer(Ok(0)));
    handle.answer(Ok(1));
    let mut task = Task::new(fetch_and_aggregate([(0, only)], NEVER).cancel_on(signal));
    assert_eq!(task.finish().unwrap().results, [(0, 1)]);
    assert!(!cancel.is_alive());
}

#[test]
fn first_reason_of_an_interruption_wins() {
    let (handles, sources) = sources(1);
    let (cancel, signal) = source();
    let (deadline, timer) = source();
    let run = fetch_and_aggregate(sources, NEVER)
        .cancel_on(signal)
        .expire_on(timer);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    let cancels = cancel.clone();
    handles[0].on_poll(move |_| cancels.answer(Ok(0)));
    handles[0].wake();
    deadline.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().reason, Reason::TimedOut);
}

#[test]
fn never_started_batches_name_their_sources_in_their_own_outcome() {
    let (handles, flat) = sources(6);
    let mut flat = flat.into_iter();
    let batches: Vec<Vec<_>> = (0..3).map(|_| flat.by_ref().take(2).collect()).collect();
    let (cancel, signal) = source();
    let mut task = Task::new(process_batch(batches).concurrency(1).cancel_on(signal));
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    let outcomes = task.finish().unwrap_err().partial;
    let partials: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_err().partial)
        .collect();
    assert_eq!(partials[0].results, [(0, 1)]);
    assert_eq!(partials[0].unfinished, [1]);
    assert_eq!(partials[1].unfinished, [2, 3]);
    assert_eq!(partials[2].unfinished, [4, 5]);
    assert_eq!(common::alive(&handles), 0);
}

#[test]
fn a_million_sources_are_pulled_as_they_start() {
    let pulled = std::cell::Cell::new(0);
    let list = (0..1_000_000).map(|id| {
        pulled.set(pulled.get() + 1);
        (id, source().1)
    });
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(64));
    assert_eq!(pulled.get(), 0);
    assert!(matches!(task.settle(), Poll::Pending));
    assert_eq!(pulled.get(), 64);
}
