//! Iterators of sources that have a wrong size hint, panic, never end, continue after their end, or act on
//! their own run: rows of the table in `src/guide/unusual_input.md`.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use std::cell::Cell;
use std::task::Poll;
use std::time::Duration;

use async_channel::bounded;
use common::{NEVER, Source, Task, alive, panic_of, polls, ready, source, sources};
use futures::executor::block_on;
use futures_aggregate::{
    Aggregate, Event, Reason, fetch_and_aggregate, process_batch, stream_results,
};

type Hint = (usize, Option<usize>);

/// An iterator with the size hint that it is given.
struct Claims<I>(I, Hint);

impl<I: Iterator> Iterator for Claims<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> Hint {
        self.1
    }
}

/// Hints that are too low, too high, unknown, or whose lower bound exceeds the upper one.
const HINTS: [Hint; 9] = [
    (0, Some(0)),
    (0, Some(1)),
    (2, Some(2)),
    (9999, Some(9999)),
    (0, None),
    (9999, None),
    (9999, Some(2)),
    (usize::MAX, Some(0)),
    (usize::MAX, Some(usize::MAX)),
];

#[test]
fn iterator_with_a_wrong_size_hint_is_pulled_to_its_end() {
    // More than one poll can start.
    const COUNT: usize = 600;
    for hint in HINTS {
        let list = || Claims((0..COUNT).map(|id| (id, ready(Ok(0)))), hint);
        let aggregate = Task::new(fetch_and_aggregate(list(), NEVER)).finish();
        assert_eq!(aggregate.unwrap().results.len(), COUNT, "{hint:?}");

        let batches = Claims([list(), list()].into_iter(), hint);
        let outcomes = Task::new(process_batch(batches)).finish().unwrap();
        let counts = outcomes
            .iter()
            .map(|batch| batch.as_ref().unwrap().results.len());
        assert!(counts.eq([COUNT; 2]), "{hint:?}");

        let (sender, receiver) = bounded(COUNT);
        let streamed = Task::new(stream_results(list(), sender)).finish().unwrap();
        assert_eq!(
            (streamed.delivered, receiver.len()),
            (COUNT, COUNT),
            "{hint:?}"
        );
    }
}

#[test]
fn wrong_size_hint_bounds_the_sources_that_are_named() {
    for (hint, named) in HINTS.into_iter().zip([0, 1, 2, 5, 0, 0, 2, 0, 0]) {
        let list = Claims((0..5).map(|id| (id, source().1)), hint);
        let run = fetch_and_aggregate(list, NEVER).cancel_on(ready(Ok(0)));
        let partial = Task::new(run).finish().unwrap_err().partial;
        assert!(partial.unfinished.into_iter().eq(0..named), "{hint:?}");
    }
}

#[test]
fn quorum_relies_on_the_upper_bound_of_the_size_hint() {
    for (claimed, reason) in [(1, Some(Reason::QuorumUnreachable)), (2, None), (9, None)] {
        let list = (0..2).map(|id| (id, ready(Ok(0))));
        let list = Claims(list, (claimed, Some(claimed)));
        let ended = Task::new(fetch_and_aggregate(list, NEVER).quorum(2)).finish();
        assert_eq!(ended.err().map(|interrupted| interrupted.reason), reason);
    }
}

#[test]
fn iterator_that_panics_in_next_is_pulled_again() {
    let list = (0..5).map(|id| {
        assert!(id % 2 == 0, "no source {id}");
        (id, ready(Ok(id)))
    });
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert_eq!(panic_of(|| task.settle()), "no source 1");
    assert_eq!(panic_of(|| task.settle()), "no source 3");
    assert_eq!(task.finish().unwrap().results, [(0, 0), (2, 2), (4, 4)]);
}

#[test]
fn run_can_be_cancelled_if_its_iterator_panics_in_every_next() {
    let (handle, only) = source();
    let mut only = Some(only);
    let list = std::iter::from_fn(|| Some((0, only.take().expect("no more sources"))));
    let (cancel, signal) = source();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    for _ in 0..3 {
        assert_eq!(panic_of(|| task.settle()), "no more sources");
    }
    assert!(handle.is_alive() && task.is_woken());
    cancel.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(
        (interrupted.partial.unfinished, handle.is_alive()),
        (vec![0], false)
    );
}

#[test]
fn deadlines_hold_if_the_iterator_panics_in_every_next() {
    let [(handle, only), (late, timer)] = [source(), source()];
    let mut only = Some(only);
    let list = std::iter::from_fn(|| Some((0, only.take().expect("no more sources"))));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).expire_on(timer));
    assert_eq!(panic_of(|| task.settle()), "no more sources");
    late.answer(Ok(0));
    handle.answer(Ok(1));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results, [(0, 1)]);

    // An upper bound of 0 is checked by pulling once more.
    let (late, timer) = source();
    let list = std::iter::from_fn(|| -> Option<(u32, Source)> { panic!("no sources") });
    let run = fetch_and_aggregate(Claims(list, (0, Some(0))), NEVER).expire_on(timer);
    let mut task = Task::new(run);
    assert_eq!(panic_of(|| task.settle()), "no sources");
    late.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().reason, Reason::TimedOut);

    let mut only = Some(source().1);
    let list = std::iter::from_fn(|| Some((0, only.take().expect("no more sources"))));
    let observed = Cell::new(false);
    let run = fetch_and_aggregate(list, NEVER)
        .source_timeout(Duration::ZERO)
        .observe(|event| observed.set(matches!(event, Event::Finished { .. })));
    let mut task = Task::new(run);
    assert_eq!(panic_of(|| task.settle()), "no more sources");
    assert!(!observed.get());
    assert_eq!(panic_of(|| task.settle()), "no more sources");
    assert!(observed.get(), "the source has timed out");
}

#[test]
fn iterator_that_panics_while_its_sources_are_named_loses_no_other_source() {
    let (cancel, signal) = source();
    let list = (0..4).map(|id| {
        assert!(id != 2, "no source {id}");
        (id, source().1)
    });
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(1)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    assert_eq!(panic_of(|| task.settle()), "no source 2");
    assert_eq!(task.finish().unwrap_err().partial.unfinished, [0, 1, 3]);
}

/// An iterator whose `size_hint` panics.
struct Unsized<I>(I);

impl<I: Iterator> Iterator for Unsized<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> Hint {
        panic!("length")
    }
}

#[test]
fn iterator_that_panics_in_size_hint_is_pulled_to_its_end() {
    let list = (0..100).map(|id| (id, ready(Ok(0))));
    let aggregate = Task::new(fetch_and_aggregate(Unsized(list), NEVER)).finish();
    assert_eq!(aggregate.unwrap().results.len(), 100);

    let list = (0..100).map(|id| (id, ready(Err("refused"))));
    let run = fetch_and_aggregate(Unsized(list), NEVER).quorum(1);
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::QuorumUnreachable);
    assert_eq!(interrupted.partial.errors.len(), 100);
}

#[test]
fn only_started_sources_are_named_if_size_hint_panics() {
    let (handles, list) = sources(3);
    let (cancel, signal) = source();
    let run = process_batch([Unsized(list.into_iter())])
        .source_concurrency(1)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    assert_eq!(panic_of(|| task.settle()), "length");
    let outcomes = task.finish().unwrap_err().partial;
    assert_eq!(outcomes[0].as_ref().unwrap_err().partial.unfinished, [0]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn endless_iterator_is_pulled_as_far_as_the_concurrency_limit() {
    for claimed in [None, Some(usize::MAX)] {
        let (cancel, signal) = source();
        let endless = Claims((0..).map(|id| (id, source().1)), (0, claimed));
        let run = fetch_and_aggregate(endless, NEVER)
            .concurrency(2)
            .cancel_on(signal);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        cancel.answer(Ok(0));
        assert_eq!(task.finish().unwrap_err().partial.unfinished, [0, 1]);
    }
}

#[test]
fn endless_iterator_without_a_limit_starts_some_sources_in_each_poll() {
    let started = Cell::new(0);
    let endless = (0..).map(|id| {
        started.set(started.get() + 1);
        (id, source().1)
    });
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(endless, NEVER).expire_on(timer));
    for _ in 0..10 {
        let before = started.get();
        assert!(task.poll().is_pending());
        assert!((1..=1000).contains(&(started.get() - before)));
        assert!(task.is_woken());
    }
    deadline.answer(Ok(0));
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.unfinished.len(), started.get());
}

#[test]
fn endless_iterator_of_ready_sources_does_not_hold_up_the_deadline() {
    let endless = (0..).map(|id: u64| (id, ready(Ok(0))));
    let run = fetch_and_aggregate(endless, Duration::from_millis(20));
    let interrupted = block_on(run).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert!(!interrupted.partial.results.is_empty());
    assert!(interrupted.partial.unfinished.is_empty());
}

/// An iterator that ends after two sources, and then yields more.
fn goes_on(asked: &Cell<usize>) -> impl Iterator<Item = (usize, Source)> {
    let list = std::iter::from_fn(move || {
        let id = asked.replace(asked.get() + 1);
        (id != 2).then(|| (id, source().1))
    });
    Claims(list, (0, Some(9)))
}

#[test]
fn iterator_that_is_not_fused_is_not_pulled_after_its_end() {
    let asked = Cell::new(0);
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(goes_on(&asked), NEVER).expire_on(timer));
    for _ in 0..3 {
        assert!(task.poll().is_pending());
    }
    deadline.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().partial.unfinished, [0, 1]);
    assert_eq!(asked.get(), 3);

    let asked = Cell::new(0);
    let run = fetch_and_aggregate(goes_on(&asked), NEVER).cancel_on(ready(Ok(0)));
    assert_eq!(
        Task::new(run).finish().unwrap_err().partial.unfinished,
        [0, 1]
    );
    assert_eq!(asked.get(), 3);
}

/// An iterator that does something before it yields source 1.
fn in_between(
    list: Vec<(usize, Source)>,
    mut action: impl FnMut(),
) -> impl Iterator<Item = (usize, Source)> {
    list.into_iter().inspect(move |(id, _)| {
        if *id == 1 {
            action();
        }
    })
}

#[test]
fn iterator_that_wakes_the_task_and_a_source_loses_neither_wake() {
    let (handles, list) = sources(2);
    let other = Task::new(std::future::pending::<()>());
    let (waker, first) = (other.waker(), handles[0].clone());
    let list = in_between(list, || {
        waker.wake_by_ref();
        first.answer(Ok(1));
    });
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.poll_with(&other.waker()).is_pending());
    assert_eq!((polls(&handles), other.wakes()), (vec![1, 1], 2));
    assert!(task.poll().is_pending());
    handles[1].answer(Ok(2));
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
}

#[test]
fn iterator_that_cancels_the_run_or_drops_the_receiver_ends_the_run_with_the_next_poll() {
    for reason in [Reason::Cancelled, Reason::ReceiverClosed] {
        let (handles, list) = sources(2);
        let (cancel, signal) = source();
        let (sender, receiver) = bounded(1);
        let mut receiver = Some(receiver);
        let list = in_between(list, || match reason {
            Reason::Cancelled => cancel.answer(Ok(0)),
            _ => receiver = None,
        });
        let mut task = Task::new(stream_results(list, sender).cancel_on(signal));
        assert!(task.poll().is_pending());
        assert!(task.is_woken());
        let interrupted = task.finish().unwrap_err();
        assert_eq!(interrupted.reason, reason);
        assert_eq!(interrupted.partial.unfinished, [0, 1]);
        assert_eq!((polls(&handles), alive(&handles)), (vec![1, 1], 0));
    }
}

#[test]
fn iterator_that_sends_into_the_channel_of_its_run_loses_no_outcome() {
    let (sender, receiver) = bounded(1);
    let sends = sender.clone();
    let list = vec![(0, ready(Ok(0))), (1, ready(Ok(1)))];
    let list = in_between(list, || {
        assert_eq!(receiver.try_recv(), Ok((0, Ok(0))));
        sends.try_send((9, Ok(9))).unwrap();
    });
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.settle().is_pending());
    assert_eq!(receiver.try_recv(), Ok((9, Ok(9))));
    assert_eq!(task.finish().unwrap().delivered, 2);
    assert_eq!(receiver.try_recv(), Ok((1, Ok(1))));
}

#[test]
fn iterator_that_polls_and_drops_other_runs_does_not_disturb_its_own() {
    let (handles, list) = sources(2);
    let (others, dropped) = sources(2);
    let mut dropped = Task::new(fetch_and_aggregate(dropped, NEVER));
    assert!(dropped.settle().is_pending());
    let list = in_between(list, || {
        let inner = fetch_and_aggregate([(7, ready(Ok(70)))], NEVER);
        assert_eq!(Task::new(inner).finish().unwrap().results, [(7, 70)]);
        dropped.drop_future();
    });
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    assert_eq!((alive(&others), polls(&handles)), (0, vec![1, 1]));
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 1)]);
}

/// A batch whose `into_iter` panics if it has no id.
struct Batch(Option<u32>);

impl IntoIterator for Batch {
    type Item = (u32, Source);
    type IntoIter = std::option::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        let id = self.0.expect("no iterator");
        Some((id, ready(Ok(id)))).into_iter()
    }
}

#[test]
fn batch_that_panics_in_into_iter_keeps_its_position() {
    for bad in 0..4 {
        let batches = [0, 1, 2, 3].map(|id| Batch((id != bad).then_some(id)));
        let mut task = Task::new(process_batch(batches));
        assert_eq!(panic_of(|| task.settle()), "no iterator");
        let outcomes = task.finish().unwrap();
        assert_eq!(outcomes.len(), 4);
        for (id, outcome) in (0..).zip(outcomes) {
            if id == bad {
                let interrupted = outcome.unwrap_err();
                assert_eq!(interrupted.reason, Reason::Panicked);
                assert_eq!(interrupted.partial, Aggregate::default());
            } else {
                assert_eq!(outcome.unwrap().results, [(id, id)]);
            }
        }
    }
}

#[test]
fn batch_that_panics_in_into_iter_after_the_end_of_the_run_keeps_its_position() {
    let (cancel, signal) = source();
    let waits = || [Batch(None), Batch(Some(7)), Batch(None), Batch(Some(8))];
    let batches = std::iter::once(Batch(Some(0))).chain(waits());
    let run = process_batch(batches).concurrency(1).cancel_on(signal);
    let mut task = Task::new(run);
    cancel.answer(Ok(0));
    // Both panics unwind, or only the first one if both happen in one poll.
    assert_eq!(panic_of(|| task.settle()), "no iterator");
    let outcomes = loop {
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| task.finish())) {
            break result.unwrap_err().partial;
        }
    };
    let reasons = outcomes
        .iter()
        .map(|batch| batch.as_ref().unwrap_err().reason);
    let (cancelled, panicked) = (Reason::Cancelled, Reason::Panicked);
    let expected = [cancelled, panicked, cancelled, panicked, cancelled];
    assert_eq!(reasons.collect::<Vec<_>>(), expected);
}

/// An iterator whose size hint reports that it is empty, although it is not.
struct ClaimsToBeEmpty<I>(I);

impl<I: Iterator> Iterator for ClaimsToBeEmpty<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> Hint {
        (0, Some(0))
    }
}

#[test]
fn iterator_that_claims_to_be_empty_breaks_no_limit() {
    for limit in [1, 2, 256] {
        let (handles, list) = sources(2000);
        let list = ClaimsToBeEmpty(list.into_iter());
        let run = fetch_and_aggregate(list, NEVER).concurrency(limit);
        let mut task = Task::new(run);
        let started = || polls(&handles).iter().filter(|&&polls| polls > 0).count();
        for _ in 0..100 {
            assert!(task.poll().is_pending());
            assert!(started() <= limit, "{} at a limit of {limit}", started());
        }
        let mut answered = 0;
        let aggregate = loop {
            let next = started().max(answered + 1).min(handles.len());
            handles[answered..next]
                .iter()
                .for_each(|handle| handle.answer(Ok(1)));
            answered = next;
            if let Poll::Ready(aggregate) = task.settle() {
                break aggregate.unwrap();
            }
            assert!(started() - answered <= limit);
        };
        assert_eq!(aggregate.results.len(), 2000);
    }
}
