//! Limits for each key, and weights: what starts, what is parked, and what becomes of parked sources.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use common::{Answer, Handle, NEVER, Source, Task, alive, ids, panic_of, source, sources};
use futures::StreamExt;
use futures::channel::oneshot;
use futures::executor::block_on;
use futures_aggregate::{
    Event, Interrupted, Limit, Reason, SourceError, TestTimer, each, fetch_and_aggregate,
    for_each_result, from_stream, stream_results,
};
use proptest::prelude::*;

/// The sources that were polled and are not over.
fn running(handles: &[Handle]) -> Vec<usize> {
    let is_running = |id: &usize| handles[*id].polls() > 0 && handles[*id].is_alive();
    (0..handles.len()).filter(is_running).collect()
}

/// Six sources have three keys.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "a key is made of a reference to the id"
)]
fn key(id: &usize) -> usize {
    [0, 0, 0, 1, 1, 2][*id]
}

/// Answers a source, polls the task, and returns the sources that are running then.
fn after<F: Future>(id: usize, handles: &[Handle], task: &mut Task<F>) -> Vec<usize> {
    handles[id].answer(Ok(1));
    assert!(task.settle().is_pending());
    running(handles)
}

#[test]
fn each_key_has_its_own_limit_and_its_sources_start_in_order() {
    let (handles, sources) = sources(6);
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).concurrency_per(key, 1));
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 3, 5]);
    assert_eq!(after(3, &handles, &mut task), [0, 4, 5]);
    assert_eq!(after(5, &handles, &mut task), [0, 4]);
    assert_eq!(after(0, &handles, &mut task), [1, 4]);
    assert_eq!(after(1, &handles, &mut task), [2, 4]);
    handles[2].answer(Ok(1));
    handles[4].answer(Ok(1));
    let aggregate = task.finish().unwrap();
    assert_eq!(ids(&aggregate.results), [3, 5, 0, 1, 2, 4]);
}

#[test]
fn limit_may_differ_from_key_to_key() {
    let (handles, sources) = sources(6);
    let limit = |key: &usize| 2 - key / 2;
    let run = fetch_and_aggregate(sources, NEVER).concurrency_per_by(key, limit);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 1, 3, 4, 5]);
}

#[test]
fn room_of_a_key_and_room_in_all_are_both_needed() {
    let (handles, sources) = sources(6);
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(2)
        .concurrency_per(key, 1);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 3]);
    // Room for key 0 and in all: source 1 comes before those of other keys.
    assert_eq!(after(0, &handles, &mut task), [1, 3]);
    assert_eq!(after(3, &handles, &mut task), [1, 4]);
    assert_eq!(after(4, &handles, &mut task), [1, 5]);
    assert_eq!(after(5, &handles, &mut task), [1]);
    assert_eq!(after(1, &handles, &mut task), [2]);
}

#[test]
fn room_that_other_runs_give_back_starts_a_parked_source() {
    let limit = Limit::new(1);
    limit_is_taken_while(&limit, |limit, free| {
        let (handles, sources) = sources(6);
        let run = fetch_and_aggregate(sources, NEVER)
            .concurrency_per(key, 1)
            .concurrency(limit);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        assert_eq!(running(&handles), []);
        free();
        assert!(task.is_woken());
        assert!(task.settle().is_pending());
        assert_eq!(running(&handles), [0]);
        assert_eq!(after(0, &handles, &mut task), [1]);
    });
}

/// Runs a step while another run has the only place under a limit. The step can end that run.
fn limit_is_taken_while(limit: &Limit, step: impl FnOnce(&Limit, &mut dyn FnMut())) {
    let (handles, sources) = sources(1);
    let mut other = Task::new(fetch_and_aggregate(sources, NEVER).concurrency(limit));
    assert!(other.settle().is_pending());
    step(limit, &mut || {
        handles[0].answer(Ok(1));
        assert!(other.settle().is_ready());
    });
}

#[test]
fn so_many_sources_are_parked_as_the_run_looks_ahead() {
    for (look_ahead, expected) in [(1, 2), (3, 4), (10, 11)] {
        let taken = Rc::new(Cell::new(0));
        let counter = Rc::clone(&taken);
        let ids = (0..100).inspect(move |_| counter.set(counter.get() + 1));
        let run = fetch_and_aggregate(each(ids, |_| std::future::pending::<Answer>()), NEVER)
            .look_ahead(look_ahead)
            .concurrency_per(|_| (), 1);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        assert_eq!(taken.get(), expected);
    }
}

#[test]
fn run_that_looks_far_ahead_takes_some_sources_in_each_poll() {
    let taken = Rc::new(Cell::new(0));
    let counter = Rc::clone(&taken);
    let ids = (0..10_000).inspect(move |_| counter.set(counter.get() + 1));
    let run = fetch_and_aggregate(each(ids, |_| std::future::pending::<Answer>()), NEVER)
        .look_ahead(10_000)
        .concurrency_per(|_| (), 1);
    let mut task = Task::new(run);
    while taken.get() < 10_000 {
        let before = taken.get();
        assert!(task.poll().is_pending());
        assert!((1..1000).contains(&(taken.get() - before)));
        assert!(task.is_woken() || taken.get() == 10_000);
    }
}

#[test]
fn parked_sources_are_named_in_the_order_of_the_list_and_never_started() {
    let (handles, sources) = sources(6);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let events = RefCell::new(Vec::new());
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency_per(key, 1)
        .observe(|event| {
            events.borrow_mut().push(match event {
                Event::Started { id, .. } => ("started", *id),
                Event::NotStarted { id, .. } => ("not started", *id),
                Event::Unfinished { id, .. } => ("unfinished", *id),
                _ => unreachable!(),
            });
        })
        .cancel_on(cancelled);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.send(()).unwrap();
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.unfinished, [0, 3, 5, 1, 2, 4]);
    assert!(!partial.unseen);
    assert_eq!(alive(&handles), 0);
    assert_eq!(
        handles[1].polls() + handles[2].polls() + handles[4].polls(),
        0
    );
    let expected = [
        ("started", 0),
        ("started", 3),
        ("started", 5),
        ("unfinished", 0),
        ("unfinished", 3),
        ("unfinished", 5),
        ("not started", 1),
        ("not started", 2),
        ("not started", 4),
    ];
    drop(task);
    assert_eq!(events.into_inner(), expected);
}

#[test]
fn parked_sources_of_a_stream_are_named_and_the_rest_is_unseen() {
    let (handles, sources) = sources(6);
    let (sender, receiver) = async_channel::unbounded();
    let mut sources = sources.into_iter();
    let mut send = |n| (0..n).for_each(|_| sender.try_send(sources.next().unwrap()).unwrap());
    let (cancel, cancelled) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(from_stream(receiver.clone()), NEVER)
        .concurrency_per(key, 1)
        .concurrency(2)
        .cancel_on(cancelled);
    let mut task = Task::new(run);
    send(3);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0]);
    send(1);
    assert!(task.is_woken());
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 3]);
    send(2);
    // No source is taken from the stream while there is no room in all.
    assert!(task.settle().is_pending());
    assert_eq!(receiver.len(), 2);
    cancel.send(()).unwrap();
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.unfinished, [0, 3, 1, 2]);
    assert!(partial.unseen);
    assert_eq!(receiver.len(), 2);
}

#[test]
fn stream_that_has_ended_leaves_nothing_unseen() {
    let (handles, sources) = sources(3);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let stream = futures::stream::iter(sources);
    let run = fetch_and_aggregate(from_stream(stream), NEVER)
        .concurrency_per(key, 1)
        .cancel_on(cancelled);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    cancel.send(()).unwrap();
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.unfinished, [0, 1, 2]);
    assert!(!partial.unseen);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn run_that_drains_starts_no_parked_source() {
    let (handles, sources) = sources(6);
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency_per(key, 1)
        .drain_on(drained);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    drain.send(()).unwrap();
    assert_eq!(after(0, &handles, &mut task), [3, 5]);
    handles[3].answer(Ok(1));
    handles[5].answer(Ok(1));
    let Interrupted {
        reason, partial, ..
    } = task.finish().unwrap_err();
    assert_eq!(reason, Reason::Drained);
    assert_eq!(ids(&partial.results), [0, 3, 5]);
    assert_eq!(partial.unfinished, [1, 2, 4]);
}

#[test]
fn run_that_drains_does_not_wait_for_outcomes_behind_a_parked_source() {
    let (handles, sources) = sources(3);
    let (drain, drained) = source();
    let body = |_| std::future::ready(Ok::<_, ()>(()));
    let run = for_each_result(sources, body).in_order();
    let run = run.concurrency_per(|id| *id / 2, 1).drain_on(drained);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 2]);
    drain.answer(Ok(0));
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    handles[2].answer(Ok(1));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(interrupted.partial.handled, 1);
    assert_eq!(interrupted.partial.undelivered, [(2, Ok(1))]);
    assert_eq!(interrupted.partial.unfinished, [1]);
}

#[test]
fn parked_source_has_its_whole_timeout_when_it_starts() {
    let second = Duration::from_secs(1);
    let timer = TestTimer::new();
    let (handles, sources) = sources(2);
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency_per(|_| (), 1)
        .source_timeout(second)
        .timer(timer.clone());
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    timer.advance(second / 2);
    assert!(task.settle().is_pending());
    // The first one times out, which gives its place to the second one.
    timer.advance(second / 2);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [1]);
    timer.advance(second / 2);
    assert!(task.settle().is_pending());
    handles[1].answer(Ok(7));
    let aggregate = task.finish().unwrap();
    assert_eq!(aggregate.errors, [(0, SourceError::TimedOut)]);
    assert_eq!(aggregate.results, [(1, 7)]);
}

#[test]
fn source_that_panics_gives_its_place_to_the_next_one() {
    for makes in [false, true] {
        let ran = Cell::new(0);
        let run = fetch_and_aggregate(
            each(0..4_usize, |id| {
                assert!(!makes || id % 2 == 1, "made");
                let id = *id;
                let ran = &ran;
                async move {
                    assert!(id % 2 == 1, "polled");
                    ran.set(ran.get() + 1);
                    Ok::<_, ()>(id)
                }
            }),
            NEVER,
        )
        .concurrency_per(|_| (), 1)
        .catch_panics();
        let aggregate = Task::new(run).finish().unwrap();
        assert_eq!((aggregate.results.len(), aggregate.errors.len()), (2, 2));
        assert_eq!(ran.get(), 2);
    }
}

#[test]
fn heavy_source_waits_for_room_and_is_not_overtaken() {
    let (handles, sources) = sources(5);
    let weights = [2, 1, 3, 1, 1];
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(4)
        .weight(move |id| weights[*id]);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 1]);
    assert_eq!(after(1, &handles, &mut task), [0]);
    assert_eq!(after(0, &handles, &mut task), [2, 3]);
    assert_eq!(after(3, &handles, &mut task), [2, 4]);
}

#[test]
fn source_heavier_than_the_limit_runs_alone_and_no_weight_is_zero() {
    let (handles, sources) = sources(4);
    let weights = [0, 0, usize::MAX, 0];
    let run = fetch_and_aggregate(sources, NEVER)
        .weight(move |id| weights[*id])
        .concurrency(2);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 1]);
    assert_eq!(after(0, &handles, &mut task), [1]);
    assert_eq!(after(1, &handles, &mut task), [2]);
    assert_eq!(after(2, &handles, &mut task), [3]);
}

#[test]
fn weights_need_no_concurrency_limit() {
    let (handles, sources) = sources(3);
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).weight(|_| usize::MAX));
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0]);
    assert_eq!(after(0, &handles, &mut task), [1]);
}

#[test]
fn weights_count_under_shared_limits() {
    let limit = Limit::new(4);
    let start = |weights: [usize; 2]| {
        let (handles, sources) = sources(2);
        let run = fetch_and_aggregate(sources, NEVER)
            .weight(move |id: &usize| weights[*id])
            .concurrency(&limit);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        (handles, task)
    };
    let (first, mut first_run) = start([2, 1]);
    assert_eq!(limit.in_use(), 3);
    let (second, mut second_run) = start([4, 1]);
    let (third, mut third_run) = start([1, 1]);
    // Nobody overtakes the heavy source of the second run, although there is room for a light one.
    assert_eq!((running(&second), running(&third)), (vec![], vec![]));
    assert_eq!(after(1, &first, &mut first_run), [0]);
    assert!(!second_run.is_woken() && !third_run.is_woken());
    first[0].answer(Ok(1));
    assert!(first_run.settle().is_ready());
    assert!(second_run.is_woken() && !third_run.is_woken());
    assert!(second_run.settle().is_pending());
    assert_eq!((running(&second), limit.in_use()), (vec![0], 4));
    assert_eq!(after(0, &second, &mut second_run), [1]);
    assert!(third_run.settle().is_pending());
    assert_eq!((running(&second), running(&third)), (vec![1], vec![0, 1]));
    drop((first_run, second_run, third_run));
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn source_heavier_than_a_shared_limit_runs_alone() {
    let limit = Limit::new(2);
    let (handles, sources) = sources(2);
    let run = fetch_and_aggregate(sources, NEVER)
        .weight(|_| 5)
        .concurrency(&limit);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0]);
    limit.set(6);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0]);
    assert_eq!(after(0, &handles, &mut task), [1]);
    limit.set(1);
    handles[1].answer(Ok(1));
    assert!(task.settle().is_ready());
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn keys_and_weights_combine_in_any_order() {
    let weights = [1, 1, 1, 3, 1, 1];
    let (first, first_sources) = sources(6);
    let (second, second_sources) = sources(6);
    let one = fetch_and_aggregate(first_sources, NEVER)
        .concurrency(4)
        .concurrency_per(key, 1)
        .weight(move |id| weights[*id]);
    let other = fetch_and_aggregate(second_sources, NEVER)
        .weight(move |id| weights[*id])
        .concurrency_per(key, 1)
        .concurrency(4);
    let mut one = Task::new(one);
    let mut other = Task::new(other);
    assert!(one.settle().is_pending() && other.settle().is_pending());
    assert_eq!(running(&first), [0, 3]);
    assert_eq!(running(&second), [0, 3]);
    for (id, expected) in [(3, vec![0, 4, 5]), (0, vec![1, 4, 5])] {
        assert_eq!(after(id, &first, &mut one), expected);
        assert_eq!(after(id, &second, &mut other), expected);
    }
}

#[test]
fn source_needs_room_for_each_of_its_keys() {
    let (handles, sources) = sources(4);
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency_per(|id| id / 2, 1)
        .concurrency_per(|id| id % 2, 1);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    // The keys of the sources are (0, 0), (0, 1), (1, 0), (1, 1). Source 2 waits for the second key of
    // source 0, and has a place for its first one.
    assert_eq!(running(&handles), [0]);
    assert_eq!(after(0, &handles, &mut task), [1, 2]);
    handles[1].answer(Ok(1));
    assert_eq!(after(2, &handles, &mut task), [3]);
    handles[3].answer(Ok(1));
    assert_eq!(task.finish().unwrap().results.len(), 4);
}

#[test]
fn other_operations_have_keys_too() {
    let (handles, list) = sources(6);
    let (sender, receiver) = async_channel::unbounded();
    let mut task = Task::new(
        stream_results(list, sender)
            .concurrency_per(key, 1)
            .in_order(),
    );
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 3, 5]);
    assert_eq!(after(5, &handles, &mut task), [0, 3]);
    assert!(receiver.is_empty());
    assert_eq!(after(0, &handles, &mut task), [1, 3]);
    assert_eq!(receiver.len(), 1);

    let (handles, list) = sources(6);
    let handled = Cell::new(0);
    let run = for_each_result(list, |_| {
        handled.set(handled.get() + 1);
        std::future::ready(Ok::<_, ()>(()))
    });
    let mut task = Task::new(run.concurrency_per(key, 1).weight(|_| 2).concurrency(4));
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 3]);
    for id in [0, 1, 2, 3, 4] {
        let _ = after(id, &handles, &mut task);
    }
    handles[5].answer(Ok(1));
    assert!(task.finish().is_ok());
    assert_eq!(handled.get(), 6);
}

/// A key that counts how many there are.
#[derive(PartialEq, Eq, Hash)]
struct Counted(usize, CountedDrop);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct CountedDrop;

thread_local! {
    static KEYS: Cell<usize> = const { Cell::new(0) };
}

impl CountedDrop {
    fn new() -> Self {
        KEYS.set(KEYS.get() + 1);
        Self
    }
}

impl Drop for CountedDrop {
    fn drop(&mut self) {
        KEYS.set(KEYS.get() - 1);
    }
}

#[test]
fn keys_without_sources_are_forgotten() {
    let most = Cell::new(0);
    let run = fetch_and_aggregate(
        each(0..10_000_usize, |_| async {
            most.set(most.get().max(KEYS.get()));
            Ok::<_, ()>(())
        }),
        NEVER,
    )
    .concurrency(4)
    .concurrency_per(|id| Counted(*id, CountedDrop::new()), 1);
    assert_eq!(Task::new(run).finish().unwrap().results.len(), 10_000);
    assert!(most.get() <= 200, "{} keys", most.get());
    assert_eq!(KEYS.get(), 0);
}

#[test]
fn panic_of_a_closure_unwinds_and_loses_no_source() {
    let calls = |n| move |id: &usize| assert!(*id != n, "closure");
    for at in 0..3 {
        let key = calls(at);
        let weight = calls(at);
        let key_run =
            fetch_and_aggregate(ready_sources(), NEVER).concurrency_per(move |id| key(id), 1);
        assert_eq!(through_a_panic(key_run), "closure");
        let weight_run = fetch_and_aggregate(ready_sources(), NEVER).weight(move |id| {
            weight(id);
            1
        });
        assert_eq!(through_a_panic(weight_run), "closure");
        let limit_run = fetch_and_aggregate(ready_sources(), NEVER)
            .concurrency_per_by(|id| *id, move |id| usize::from(*id != at));
        assert_eq!(
            through_a_panic(limit_run),
            "a limit of 0 for a key would never start its sources; it must be at least 1"
        );
    }
}

fn ready_sources() -> impl IntoIterator<Item = (usize, std::future::Ready<Result<usize, ()>>)> {
    (0..3).map(|id| (id, std::future::ready(Ok(id))))
}

/// Polls a run whose poll panics once. Returns the message.
fn through_a_panic<F, E: std::fmt::Debug>(run: F) -> String
where
    F: Future<Output = Result<futures_aggregate::Aggregate<usize, usize, ()>, E>>,
{
    let mut task = Task::new(run);
    let message = panic_of(|| task.settle());
    let mut results = ids(&task.finish().unwrap().results);
    results.sort_unstable();
    assert_eq!(results, [0, 1, 2]);
    message
}

#[test]
fn limits_of_zero_are_refused() {
    let run = || fetch_and_aggregate(sources(1).1, NEVER);
    assert_eq!(
        panic_of(|| run().concurrency_per(|_| (), 0)),
        "a limit of 0 for each key would never start a source; it must be at least 1"
    );
    assert_eq!(
        panic_of(|| run().look_ahead(0)),
        "with a look-ahead of 0 no source would be taken from the list; it must be at least 1"
    );
}

#[test]
fn parked_sources_are_dropped_one_by_one() {
    let (handles, sources) = sources(4);
    for handle in &handles[1..] {
        handle.on_drop(|| panic!("dropped"));
    }
    let mut task = Task::new(
        fetch_and_aggregate(sources, NEVER)
            .concurrency_per(|_| (), 1)
            .look_ahead(2),
    );
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "dropped");
    assert_eq!(alive(&handles), 0);
}

#[test]
fn run_with_keys_can_be_spawned_with_a_borrowed_stream() {
    fn spawnable<F: Future + Send>(future: F) -> F {
        future
    }
    let hosts = ["a".to_owned(), "b".to_owned()];
    let mut stream =
        futures::stream::iter(0..10_u32).map(|id| (id, async move { Ok::<_, ()>(id) }));
    let run = spawnable(
        fetch_and_aggregate(from_stream(&mut stream), NEVER)
            .concurrency_per(|id| &hosts[*id as usize % 2], 1)
            .weight(|id| *id as usize),
    );
    assert_eq!(Task::new(run).finish().unwrap().results.len(), 10);
}

#[test]
fn outcomes_are_in_the_order_of_the_list_although_sources_start_in_another() {
    let (handles, list) = sources(6);
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency_per(key, 1)
        .in_order();
    let mut task = Task::new(run);
    for id in [5, 3, 4, 0, 1] {
        assert!(task.settle().is_pending());
        handles[id].answer(Ok(1));
    }
    assert!(task.settle().is_pending());
    handles[2].answer(Ok(1));
    assert_eq!(ids(&task.finish().unwrap().results), [0, 1, 2, 3, 4, 5]);

    // Source 1 has the place of key 0 next, and is as heavy as the limit. The outcomes behind it must not keep
    // it from starting.
    let (handles, list) = sources(6);
    let (sender, receiver) = async_channel::unbounded();
    let run = stream_results(list, sender)
        .concurrency_per(key, 1)
        .weight(|id| if *id == 1 { 4 } else { 1 })
        .concurrency(4)
        .in_order();
    let mut task = Task::new(run);
    for id in [3, 5, 0, 1, 2, 4] {
        assert!(task.settle().is_pending());
        handles[id].answer(Ok(1));
    }
    assert_eq!(task.finish().unwrap().delivered, 6);
    let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(ids(&received), [0, 1, 2, 3, 4, 5]);
}

/// A source, or a key, that panics when it is dropped.
#[derive(PartialEq, Eq, Hash)]
struct PanicsInDrop(usize);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        KEYS.set(KEYS.get() + 1);
        panic!("dropped");
    }
}

#[test]
fn keys_and_sources_that_panic_when_they_are_dropped_do_not_abort() {
    let list = |count| {
        let hangs = |id| (id, (PanicsInDrop(id), std::future::pending::<Answer>()));
        let hang = |(id, (bomb, source))| {
            (id, async move {
                let _bomb: PanicsInDrop = bomb;
                source.await
            })
        };
        (0..count).map(hangs).map(hang).collect::<Vec<_>>()
    };
    let run = fetch_and_aggregate(list(4), NEVER)
        .concurrency_per(|_| (), 1)
        .look_ahead(1)
        .concurrency_per(|_| (), 1)
        .weight(|_| 1);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "dropped");
    assert_eq!(KEYS.replace(0), 4);

    let run = fetch_and_aggregate(list(4), NEVER).concurrency_per(|id| PanicsInDrop(id / 2), 1);
    let mut task = Task::new(run);
    // A key that was looked up and is known already is dropped at once.
    while std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.settle())).is_err() {}
    assert_eq!(panic_of(|| task.drop_future()), "dropped");
    assert_eq!(KEYS.replace(0), 8, "four sources, and a key for each");
}

#[test]
fn run_keeps_no_place_for_a_source_that_has_no_room_in_its_own_limit() {
    let limit = Limit::new(3);
    limit_is_taken_while(&limit, |limit, _| {
        let (handles, list) = sources(4);
        let run = fetch_and_aggregate(list, NEVER)
            .concurrency(4)
            .concurrency(limit)
            .concurrency_per(|id| [0, 0, 2, 1][*id], 1)
            .weight(|id| [1, 4, 1, 1][*id]);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        // Source 3 waits for a place.
        assert_eq!((running(&handles), limit.in_use()), (vec![0, 2], 3));
        // Now source 1 is the next one. It is too heavy for the run beside source 2.
        assert_eq!(after(0, &handles, &mut task), [2]);
        assert_eq!(limit.in_use(), 2);
    });
}

#[test]
fn run_without_time_sees_the_end_of_its_list() {
    // While the outcome of the source waits for a body, there is no room for another source.
    let sources = [(0, std::future::ready(Ok::<_, ()>(0)))];
    let run = for_each_result(sources, |_| std::future::ready(Ok::<_, ()>(())));
    let run = run.weight(|_| 1).concurrency(1).timeout(Duration::ZERO);
    let handled = block_on(run.timer(TestTimer::new()));
    assert_eq!(handled.unwrap().handled, 1);
}

#[test]
fn list_that_is_slow_does_not_hold_up_the_deadline() {
    let timer = TestTimer::new();
    let clock = timer.clone();
    let slow = (0..1000_usize).inspect(move |_| clock.advance(Duration::from_millis(2)));
    let run = fetch_and_aggregate(
        each(slow, |_| std::future::pending::<Answer>()),
        Duration::from_millis(20),
    )
    .concurrency_per(|_| (), 1)
    .look_ahead(1000)
    .timer(timer.clone());
    let mut task = Task::new(run);
    let mut longest = Duration::ZERO;
    loop {
        let before = timer.elapsed();
        let poll = task.poll();
        if poll.is_ready() {
            break;
        }
        longest = longest.max(timer.elapsed() - before);
    }
    assert!(
        longest <= Duration::from_millis(40),
        "a poll took {longest:?}"
    );
}

/// What a run may have in flight, by the rules in the documentation.
struct Rules {
    keys: Vec<usize>,
    weights: Vec<usize>,
    per_key: usize,
    total: usize,
}

impl Rules {
    /// Checks what is running, and that no source waits that could start.
    fn check(&self, running: &[usize], started: &[usize], look_ahead: usize) {
        let mut by_key = BTreeMap::new();
        for id in running {
            *by_key.entry(self.keys[*id]).or_insert(0) += 1;
        }
        assert!(by_key.values().all(|count| *count <= self.per_key));
        let weight = |ids: &[usize]| ids.iter().map(|id| self.weights[*id].max(1)).sum::<usize>();
        assert!(weight(running) <= self.total || running.len() == 1);
        // Sources with the same key start in order.
        for (at, id) in started.iter().enumerate() {
            let later = &started[at + 1..];
            assert!(
                later
                    .iter()
                    .all(|it| self.keys[*it] != self.keys[*id] || it > id)
            );
        }
        // The first source whose key has room, among those that the run may look at, has no room in all.
        let waiting = (0..self.keys.len()).filter(|id| !started.contains(id));
        let has_room =
            |id: &usize| by_key.get(&self.keys[*id]).copied().unwrap_or(0) < self.per_key;
        if let Some(next) = waiting.take(look_ahead).find(has_room) {
            let sum = weight(running) + self.weights[next].max(1);
            assert!(
                sum > self.total && !running.is_empty(),
                "{next} could start: running {running:?} started {started:?} of {:?} {:?}, {} {} {look_ahead}",
                self.keys,
                self.weights,
                self.per_key,
                self.total
            );
        }
    }
}

proptest! {
    #[test]
    fn limits_hold_and_no_source_waits_that_could_start(
        places in prop::collection::vec((0..4_usize, 0..6_usize), 1..30),
        per_key in 1..4_usize,
        total in 1..8_usize,
        look_ahead in 1..8_usize,
        weight_first in any::<bool>(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 30),
    ) {
        let (keys, weights): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let rules = Rules { keys: keys.clone(), weights: weights.clone(), per_key, total };
        let (handles, list) = sources(keys.len());
        let started = Rc::new(RefCell::new(Vec::new()));
        let run = fetch_and_aggregate(list, NEVER).concurrency(total).look_ahead(look_ahead);
        let key = move |id: &usize| keys[*id];
        let of = move |id: &usize| weights[*id];
        let log = Rc::clone(&started);
        let note = move |event: Event<'_, usize, u32, &str>| {
            if let Event::Started { id, .. } = event {
                log.borrow_mut().push(*id);
            }
        };
        type Run = std::pin::Pin<Box<dyn Future<Output = usize>>>;
        let run: Run = match weight_first {
            true => {
                let run = run.weight(of).concurrency_per(key, per_key).observe(note);
                Box::pin(async { run.await.unwrap().results.len() })
            }
            false => {
                let run = run.concurrency_per(key, per_key).weight(of).observe(note);
                Box::pin(async { run.await.unwrap().results.len() })
            }
        };
        let mut task = Task::new(run);
        for index in order.iter().take(handles.len()) {
            assert!(task.settle().is_pending());
            let running = running(&handles);
            rules.check(&running, &started.borrow(), look_ahead);
            handles[running[index.index(running.len())]].answer(Ok(1));
        }
        assert_eq!(task.finish(), handles.len());
    }
}

#[allow(dead_code, reason = "names the types of a run in a struct")]
struct Named {
    run: futures_aggregate::FetchAndAggregate<
        futures_aggregate::types::Parking<
            std::vec::IntoIter<(usize, Source)>,
            usize,
            Source,
            futures_aggregate::types::ByKey<
                fn(&usize) -> usize,
                usize,
                futures_aggregate::types::ForEachKey,
            >,
        >,
        usize,
        Source,
        u32,
        &'static str,
    >,
}

#[test]
fn types_of_a_run_with_keys_can_be_named() {
    let (handles, sources) = sources(6);
    let key: fn(&usize) -> usize = key;
    let run = fetch_and_aggregate(sources, NEVER).concurrency_per(key, 1);
    let mut task = Task::new(Named { run }.run);
    assert!(task.settle().is_pending());
    assert_eq!(running(&handles), [0, 3, 5]);
}
