//! Draining: after its signal nothing starts, and the sources in flight go on.

mod common;

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use async_channel::unbounded;
use common::{Handle, NEVER, Task, alive, ids, polls, ready, source, sources};
use futures::channel::oneshot;
use futures::future::FutureExt;
use futures::stream;
use futures_aggregate::{
    Event, Interrupted, Reason, SourceError, each, fetch_and_aggregate, from_stream, process_batch,
    stream_results,
};

type Partial = Interrupted<futures_aggregate::Aggregate<usize, u32, &'static str>>;

/// Answers all sources of these handles.
fn answer_all(handles: &[Handle]) {
    handles.iter().for_each(|handle| handle.answer(Ok(1)));
}

#[test]
fn drain_before_the_first_poll_starts_nothing_and_names_all() {
    let (handles, sources) = sources(3);
    let run = fetch_and_aggregate(sources, NEVER).drain_on(async {});
    let interrupted: Partial = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
    assert!(!interrupted.partial.unseen);
    assert_eq!(polls(&handles), [0, 0, 0]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn drain_of_no_sources_is_complete() {
    let run = fetch_and_aggregate(sources(0).1, NEVER).drain_on(async {});
    assert!(Task::new(run).finish().is_ok());
}

#[test]
fn sources_in_flight_finish_and_the_others_are_named() {
    let (handles, sources) = sources(6);
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(2)
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[1].answer(Ok(1));
    assert!(run.settle().is_pending());
    assert_eq!(polls(&handles[..4]), [1, 2, 1, 0]);

    drain.send(()).unwrap();
    handles[0].answer(Ok(0));
    assert!(run.settle().is_pending());
    assert_eq!(polls(&handles[3..]), [0, 0, 0], "nothing starts");
    handles[2].answer(Err("refused"));
    let interrupted: Partial = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(ids(&interrupted.partial.results), [1, 0]);
    assert_eq!(ids(&interrupted.partial.errors), [2]);
    assert_eq!(interrupted.partial.unfinished, [3, 4, 5]);
}

#[test]
fn drain_when_all_sources_have_started_is_complete() {
    let (handles, sources) = sources(3);
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(3)
        .drain_on(async {});
    // Drained in the first poll: nothing has started.
    assert!(Task::new(run).finish().is_err());

    let (more, sources) = common::sources(3);
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(3)
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert!(run.settle().is_pending());
    answer_all(&more);
    assert_eq!(run.finish().unwrap().results.len(), 3);
    assert_eq!(alive(&handles) + alive(&more), 0);
}

/// The signal is checked right before each start, also if a source or the list sets it off.
#[test]
fn nothing_starts_after_a_signal_within_the_same_poll() {
    let (drain, drained) = oneshot::channel::<()>();
    let mut drain = Some(drain);
    let started = Rc::new(Cell::new(0));
    let log = Rc::clone(&started);
    let (handle, first) = source();
    handle.on_poll(move |_| drain.take().unwrap().send(()).unwrap());
    handle.answer(Ok(1));
    let first = std::iter::once((0, first));
    let list = first.chain((1..5).map(|id| (id, ready(Ok(1)))));
    let run = fetch_and_aggregate(list, NEVER)
        .drain_on(drained)
        .observe(move |event| {
            log.set(log.get() + usize::from(matches!(event, Event::Started { .. })))
        });
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(started.get(), 1);
    assert_eq!(ids(&interrupted.partial.results), [0]);
    assert_eq!(interrupted.partial.unfinished, [1, 2, 3, 4]);

    // By the list: the source that it yields then is named, and does not start.
    let (drain, drained) = oneshot::channel::<()>();
    let mut drain = Some(drain);
    let list = (0..5).map(|id| {
        if id == 2 {
            drain.take().unwrap().send(()).unwrap();
        }
        (id, ready(Ok(1)))
    });
    let run = fetch_and_aggregate(list, NEVER).drain_on(drained);
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(ids(&interrupted.partial.results), [0, 1]);
    assert_eq!(interrupted.partial.unfinished, [2, 3, 4]);
}

#[test]
fn sources_that_were_not_started_are_reported_as_such() {
    let (handles, sources) = sources(3);
    let (drain, drained) = oneshot::channel::<()>();
    let mut log = Vec::new();
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(1)
        .drain_on(drained)
        .observe(|event| {
            log.push(match event {
                Event::Started { id, .. } => (*id, "started", None),
                Event::Finished { id, .. } => (*id, "finished", None),
                Event::NotStarted { id, reason, .. } => (*id, "not started", Some(reason)),
                event => panic!("{event:?}"),
            });
        });
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    handles[0].answer(Ok(1));
    assert!(run.finish().is_err());
    drop(run);
    let drained = Some(Reason::Drained);
    assert_eq!(
        log,
        [
            (0, "started", None),
            (0, "finished", None),
            (1, "not started", drained),
            (2, "not started", drained),
        ]
    );
}

#[test]
fn later_cancel_still_cancels() {
    let (handles, sources) = sources(3);
    let (drain, drained) = oneshot::channel::<()>();
    let (cancel, cancelled) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(2)
        .drain_on(drained)
        .cancel_on(cancelled);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert!(run.settle().is_pending());
    cancel.send(()).unwrap();
    let interrupted: Partial = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
    assert_eq!(alive(&handles), 0);
}

#[test]
fn deadline_of_the_run_and_timeouts_of_sources_remain() {
    let drain = |run_for, source_for| -> Partial {
        let (drain, drained) = oneshot::channel::<()>();
        let run = fetch_and_aggregate(sources(3).1, run_for)
            .concurrency(1)
            .source_timeout(source_for)
            .drain_on(drained);
        let mut run = Task::new(run);
        assert!(run.settle().is_pending());
        drain.send(()).unwrap();
        run.wait().unwrap_err()
    };
    let late = drain(Duration::from_millis(50), NEVER);
    assert_eq!(late.reason, Reason::TimedOut);
    assert_eq!(late.partial.unfinished, [0, 1, 2]);
    let timed_out = drain(NEVER, Duration::from_millis(50));
    assert_eq!(timed_out.reason, Reason::Drained);
    assert_eq!(timed_out.partial.errors, [(0, SourceError::TimedOut)]);
    assert_eq!(timed_out.partial.unfinished, [1, 2]);
}

#[test]
fn drain_timeout_cuts_off_what_is_in_flight() {
    let (drain, drained) = oneshot::channel::<()>();
    let (handles, sources) = sources(3);
    let run = fetch_and_aggregate(sources, NEVER)
        .concurrency(2)
        .drain_on(drained)
        .drain_timeout(Duration::from_millis(10));
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    let interrupted: Partial = run.wait().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(ids(&interrupted.partial.results), [0]);
    assert_eq!(interrupted.partial.unfinished, [1, 2]);
}

#[test]
fn drain_timeout_without_a_signal_has_no_effect() {
    let sleep = || futures_timer::Delay::new(Duration::from_millis(20)).map(Ok::<_, ()>);
    let run = fetch_and_aggregate([(0, sleep())], NEVER).drain_timeout(Duration::ZERO);
    assert_eq!(futures::executor::block_on(run).unwrap().results.len(), 1);
}

#[test]
fn drain_timeout_of_zero_ends_the_run_at_once() {
    let (handles, sources) = sources(2);
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources, NEVER)
        .drain_on(drained)
        .drain_timeout(Duration::ZERO);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[1].answer(Ok(1));
    drain.send(()).unwrap();
    let interrupted: Partial = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(ids(&interrupted.partial.results), [1], "an answer beats it");
    assert_eq!(interrupted.partial.unfinished, [0]);
}

#[test]
fn end_of_a_stream_is_looked_for_when_the_last_source_has_answered() {
    // All items were pulled, but not the end.
    let run = |items: usize, limit| {
        let (handles, sources) = sources(items);
        let (drain, drained) = oneshot::channel::<()>();
        let run = fetch_and_aggregate(from_stream(stream::iter(sources)), NEVER)
            .concurrency(limit)
            .drain_on(drained);
        let mut run = Task::new(run);
        assert!(run.settle().is_pending());
        drain.send(()).unwrap();
        answer_all(&handles);
        run.finish()
    };
    assert_eq!(run(2, 2).unwrap().results.len(), 2);
    let interrupted = run(5, 2).unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(
        interrupted.partial.unfinished,
        [2],
        "the item that came instead"
    );
    assert!(interrupted.partial.unseen);
}

#[test]
fn drained_stream_that_is_pending_is_unseen() {
    let (sender, receiver) = unbounded();
    sender.try_send((0, ready(Ok(1)))).unwrap();
    let (drain, drained) = oneshot::channel::<()>();
    let mut receiver = Box::pin(receiver);
    let run = fetch_and_aggregate(from_stream(&mut receiver), NEVER).drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(ids(&interrupted.partial.results), [0]);
    assert!(interrupted.partial.unseen);
    drop(run);
    sender.try_send((1, ready(Ok(1)))).unwrap();
    assert_eq!(
        receiver.try_recv().unwrap().0,
        1,
        "the stream is left to the caller"
    );
}

#[test]
fn outcomes_in_line_are_delivered_to_the_end() {
    let (handles, sources) = sources(4);
    let (sender, receiver) = async_channel::bounded(1);
    let (drain, drained) = oneshot::channel::<()>();
    let run = stream_results(sources, sender)
        .concurrency(3)
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    answer_all(&handles[..3]);
    drain.send(()).unwrap();
    assert!(run.settle().is_pending());
    assert_eq!(receiver.try_recv().unwrap().0, 0);
    assert!(run.settle().is_pending());
    assert_eq!(receiver.try_recv().unwrap().0, 1);
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(interrupted.partial.delivered, 3);
    assert_eq!(interrupted.partial.unfinished, [3]);
    assert_eq!(receiver.try_recv().unwrap().0, 2);
}

#[test]
fn no_batch_starts_and_no_source_in_batches_that_have_started() {
    let (handles, sources) = sources(9);
    let mut batches: Vec<Vec<_>> = Vec::new();
    for (id, source) in sources {
        if id % 3 == 0 {
            batches.push(Vec::new());
        }
        batches.last_mut().unwrap().push((id, source));
    }
    let (drain, drained) = oneshot::channel::<()>();
    let run = process_batch(batches)
        .concurrency(2)
        .source_concurrency(2)
        .batch_timeout(NEVER)
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(run.settle().is_pending());
    // In flight: 1 and 2 of the first batch, 3 and 4 of the second.
    drain.send(()).unwrap();
    assert!(run.settle().is_pending());
    answer_all(&handles[1..5]);
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    let [first, second, third] = &interrupted.partial[..] else {
        panic!("{interrupted:?}");
    };
    assert_eq!(
        first.as_ref().unwrap().results.len(),
        3,
        "it had started all"
    );
    let second = second.as_ref().unwrap_err();
    assert_eq!(second.reason, Reason::Drained);
    assert_eq!(ids(&second.partial.results), [3, 4]);
    assert_eq!(second.partial.unfinished, [5]);
    let third = third.as_ref().unwrap_err();
    assert_eq!(third.reason, Reason::Drained);
    assert_eq!(third.partial.unfinished, [6, 7, 8]);
    assert_eq!(polls(&handles[5..]), [0; 4]);
}

#[test]
fn batches_that_had_started_all_their_sources_are_complete() {
    let (handles, sources) = sources(2);
    let (drain, drained) = oneshot::channel::<()>();
    let batches = sources
        .into_iter()
        .map(|source| [source])
        .collect::<Vec<_>>();
    let mut run = Task::new(
        process_batch(batches)
            .batch_timeout(NEVER)
            .drain_on(drained),
    );
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert!(run.settle().is_pending());
    answer_all(&handles);
    assert_eq!(run.finish().unwrap().len(), 2);
}

/// A batch whose sources come from a stream has nothing in flight, and is not woken.
#[test]
fn batch_that_waits_for_its_stream_is_drained() {
    let batch = from_stream(stream::pending::<(usize, common::Source)>());
    let (drain, drained) = oneshot::channel::<()>();
    let mut run = Task::new(
        process_batch([batch])
            .batch_timeout(NEVER)
            .drain_on(drained),
    );
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    let batch = interrupted.partial[0].as_ref().unwrap_err();
    assert_eq!(batch.reason, Reason::Drained);
    assert!(batch.partial.unseen);
}

/// A batch that is drained has not failed.
#[test]
fn fail_fast_does_not_cut_off_other_batches_at_a_drain() {
    let (handles, sources) = sources(3);
    let mut sources = sources.into_iter();
    let batches = [
        sources.by_ref().take(2).collect(),
        sources.collect::<Vec<_>>(),
    ];
    let (drain, drained) = oneshot::channel::<()>();
    let run = process_batch(batches)
        .source_concurrency(1)
        .batch_timeout(NEVER)
        .fail_fast()
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    handles[0].answer(Ok(1));
    assert!(
        run.settle().is_pending(),
        "the other batch has its source in flight"
    );
    handles[2].answer(Ok(1));
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(
        interrupted.partial[0]
            .as_ref()
            .unwrap_err()
            .partial
            .unfinished,
        [1]
    );
    assert!(interrupted.partial[1].is_ok());
}

#[test]
fn first_of_several_signals_counts_and_one_that_panics_disturbs_no_other() {
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources(2).1, NEVER)
        .concurrency(1)
        .drain_on(async { panic!("signal") })
        .drain_on(drained);
    let mut run = Task::new(run);
    assert_eq!(common::panic_of(|| run.poll()), "signal");
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert!(run.settle().is_pending(), "a source is in flight");

    let run = fetch_and_aggregate([(0, ready(Ok(1)))], NEVER)
        .drain_on(pending::<()>())
        .drain_on(async {});
    assert_eq!(Task::new(run).finish().unwrap_err().partial.unfinished, [0]);
}

#[test]
fn list_that_panics_during_a_drain_delays_its_end_by_one_poll() {
    let (handle, first) = source();
    let (drain, drained) = oneshot::channel::<()>();
    let mut list = vec![(0, first)].into_iter();
    let list = std::iter::from_fn(move || Some(list.next().expect("scripted")));
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(1)
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    handle.answer(Ok(1));
    assert!(common::panic_of(|| run.settle()).starts_with("scripted"));
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(ids(&interrupted.partial.results), [0]);
    assert!(interrupted.partial.unseen);
}

#[test]
fn futures_of_sources_that_do_not_start_are_not_made() {
    let made = Cell::new(0);
    let list = each(0..1000, |_| {
        made.set(made.get() + 1);
        pending::<common::Answer>()
    });
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(3)
        .drain_on(drained)
        .drain_timeout(Duration::ZERO);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert_eq!(run.finish().unwrap_err().partial.unfinished.len(), 1000);
    drop(run);
    assert_eq!(made.get(), 3);
}

/// A source of one batch sets off the signal: nothing starts in any batch after it.
#[test]
fn nothing_starts_in_batches_after_a_signal_within_the_same_poll() {
    let (drain, drained) = oneshot::channel::<()>();
    let drain = Cell::new(Some(drain));
    let late = Cell::new(0);
    let batch = |first: usize| {
        let (drain, late) = (&drain, &late);
        each(first..first + 5, move |&id| {
            let is_drained = drain.take().map(|unused| drain.set(Some(unused))).is_none();
            late.set(late.get() + usize::from(is_drained));
            async move {
                if id == 10 {
                    drain.take().unwrap().send(()).unwrap();
                }
                Ok::<_, ()>(id)
            }
        })
    };
    let run = process_batch([batch(0), batch(10), batch(20)])
        .source_concurrency(1)
        .batch_timeout(NEVER)
        .drain_on(drained);
    let interrupted = Task::new(run).finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(late.get(), 0);
}

/// The last source drops the last sender: the stream ends in the very poll in which it answers.
#[test]
fn crawl_that_is_complete_when_it_is_drained_is_ok() {
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let (answer, answered) = oneshot::channel::<()>();
    let held = sender.clone();
    let page = async move {
        answered.await.unwrap();
        drop(held);
        Ok::<_, ()>(1)
    }
    .boxed();
    sender.unbounded_send((0, page)).unwrap();
    drop(sender);
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(from_stream(receiver), NEVER).drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    assert!(run.settle().is_pending());
    answer.send(()).unwrap();
    assert_eq!(run.finish().unwrap().results, [(0, 1)]);
}

#[test]
fn signal_that_panics_while_a_source_is_pulled_loses_no_source() {
    let waker = Rc::new(std::cell::RefCell::new(None::<std::task::Waker>));
    let kept = Rc::clone(&waker);
    let mut polls = 0;
    let signal = std::future::poll_fn(move |cx| -> std::task::Poll<()> {
        polls += 1;
        assert!(polls != 2, "signal");
        *kept.borrow_mut() = Some(cx.waker().clone());
        std::task::Poll::Pending
    });
    let list = (0..5).map(|id| {
        if id == 2 {
            waker.borrow().as_ref().unwrap().wake_by_ref();
        }
        (id, ready(Ok(1)))
    });
    let mut run = Task::new(fetch_and_aggregate(list, NEVER).drain_on(signal));
    assert_eq!(common::panic_of(|| run.settle()), "signal");
    let mut results = ids(&run.finish().unwrap().results);
    results.sort_unstable();
    assert_eq!(results, [0, 1, 2, 3, 4]);
}

/// A batch that was drained has not failed, and may have succeeded otherwise.
#[test]
fn quorum_does_not_cut_off_other_batches_at_a_drain() {
    let (handles, sources) = sources(4);
    let mut sources = sources.into_iter();
    let batches = [
        sources.by_ref().take(2).collect(),
        sources.collect::<Vec<_>>(),
    ];
    let (drain, drained) = oneshot::channel::<()>();
    let run = process_batch(batches)
        .source_concurrency(1)
        .batch_timeout(NEVER)
        .quorum(2)
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    drain.send(()).unwrap();
    handles[0].answer(Ok(1));
    assert!(
        run.settle().is_pending(),
        "the other batch has its source in flight"
    );
    handles[2].answer(Ok(1));
    assert_eq!(run.finish().unwrap_err().reason, Reason::Drained);
}

#[test]
fn deadline_that_came_before_the_signal_is_the_reason() {
    let (handles, sources) = sources(3);
    let (drain, drained) = oneshot::channel::<()>();
    let run = fetch_and_aggregate(sources, Duration::from_millis(5))
        .concurrency(1)
        .drain_on(drained);
    let mut run = Task::new(run);
    assert!(run.settle().is_pending());
    std::thread::sleep(Duration::from_millis(40));
    // Late: the run waits for answers.
    assert!(run.poll().is_pending());
    handles[0].answer(Ok(1));
    drain.send(()).unwrap();
    assert_eq!(run.wait().unwrap_err().reason, Reason::TimedOut);
}

#[test]
fn source_that_is_left_out_and_panics_in_its_drop_is_named() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("drop");
        }
    }
    let (drain, drained) = oneshot::channel::<()>();
    let mut drain = Some(drain);
    let list = (0..3).map(|id| {
        let bomb = (id == 1).then(|| {
            drain.take().unwrap().send(()).unwrap();
            Bomb
        });
        (id, async move {
            drop(bomb);
            Ok::<u32, ()>(1)
        })
    });
    let mut run = Task::new(fetch_and_aggregate(list, NEVER).drain_on(drained));
    assert_eq!(common::panic_of(|| run.settle()), "drop");
    let interrupted = run.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::Drained);
    assert_eq!(ids(&interrupted.partial.results), [0]);
    assert_eq!(interrupted.partial.unfinished, [1, 2]);
}
