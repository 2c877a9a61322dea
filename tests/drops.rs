//! Drops that panic: however many parts of a run panic in their destructors, each part is dropped exactly
//! once, and the first panic is resumed. If two panics met, the process would abort.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{NEVER, Task, panic_of};
use futures::future::{Either, pending, ready};
use futures_aggregate::{
    Aggregate, Event, each, fetch_and_aggregate, for_each_result, hedge, process_batch,
    stream_results,
};

/// Counts the parts that were made, and those that were dropped.
#[derive(Clone, Default)]
struct Parts {
    made: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Parts {
    fn part(&self, name: &'static str) -> Part {
        self.made.fetch_add(1, Ordering::Relaxed);
        Part {
            name,
            dropped: self.dropped.clone(),
        }
    }

    #[track_caller]
    fn check(&self) {
        let made = self.made.load(Ordering::Relaxed);
        assert_eq!(self.dropped.load(Ordering::Relaxed), made);
        assert!(made > 1, "at least two parts panic");
    }
}

/// Panics when it is dropped.
#[derive(Debug)]
struct Part {
    name: &'static str,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        panic!("{}", self.name);
    }
}

type Answer = Result<Part, Part>;

/// A source that never answers, and panics in its drop.
async fn hangs(part: Part) -> Answer {
    pending::<()>().await;
    Ok(part)
}

/// Makes a closure capture this part.
fn keep(part: &Part) {
    assert!(!part.name.is_empty());
}

#[test]
fn sources_in_flight_and_never_started() {
    for (count, limit) in [(2, 1), (10, 3), (300, usize::MAX), (1000, usize::MAX)] {
        let parts = Parts::default();
        let list: Vec<_> = (0..count)
            .map(|id| (id, hangs(parts.part("source"))))
            .collect();
        let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(limit));
        assert!(task.poll().is_pending());
        assert_eq!(panic_of(|| task.drop_future()), "source");
        parts.check();
    }
}

#[test]
fn ids_and_sources() {
    let parts = Parts::default();
    let list: Vec<_> = (0..10)
        .map(|_| (parts.part("id"), hangs(parts.part("source"))))
        .collect();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(3));
    assert!(task.poll().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    parts.check();
}

#[test]
fn source_and_signals_and_iterator() {
    let parts = Parts::default();
    let kept = parts.part("iterator");
    let made = parts.clone();
    let list = (0..10).map(move |id| {
        keep(&kept);
        (id, hangs(made.part("source")))
    });
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(1)
        .cancel_on(hangs(parts.part("cancel")))
        .cancel_on(hangs(parts.part("cancel")))
        .expire_on(hangs(parts.part("expire")))
        .expire_on(hangs(parts.part("expire")))
        .expire_on(hangs(parts.part("expire")));
    let mut task = Task::new(run);
    assert!(task.poll().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    parts.check();
}

#[test]
fn run_that_was_never_polled() {
    let parts = Parts::default();
    let kept = parts.part("iterator");
    let list = (0..10).map(move |id| {
        keep(&kept);
        (id, pending::<Answer>())
    });
    let observer = parts.part("observer");
    let run = fetch_and_aggregate(list, NEVER)
        .cancel_on(hangs(parts.part("cancel")))
        .observe(move |_: Event<'_, _, _, _>| keep(&observer));
    assert_eq!(panic_of(|| drop(run)), "iterator");
    parts.check();
}

#[test]
fn observers_and_rules_and_a_source() {
    let parts = Parts::default();
    let [first, second, rule, other] = [(); 4].map(|()| parts.part("hook"));
    let run = fetch_and_aggregate([(0, hangs(parts.part("source")))], NEVER)
        .observe(move |_| keep(&first))
        .observe(move |_| keep(&second))
        .stop_when(move |_| {
            keep(&rule);
            false
        })
        .stop_when(move |_| {
            keep(&other);
            false
        });
    let mut task = Task::new(run);
    assert!(task.poll().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    parts.check();
}

#[test]
fn collected_values_and_errors_and_a_source() {
    let parts = Parts::default();
    let answered = |id, answer: Answer| (id, Either::Left(ready(answer)));
    let list = [
        answered(0, Ok(parts.part("value"))),
        answered(1, Ok(parts.part("value"))),
        answered(2, Err(parts.part("error"))),
        answered(3, Err(parts.part("error"))),
        (4, Either::Right(hangs(parts.part("source")))),
    ];
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.poll().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    parts.check();
}

#[test]
fn queued_outcomes_and_a_source() {
    let parts = Parts::default();
    let answered = |answer: Answer| (parts.part("id"), Either::Left(ready(answer)));
    let mut list: Vec<_> = (0..5).map(|_| answered(Ok(parts.part("value")))).collect();
    list.push((parts.part("id"), Either::Right(hangs(parts.part("source")))));
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.poll().is_pending());
    let received = receiver.try_recv().unwrap();
    assert!(task.poll().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    // Outcomes in the channel belong to the receiver.
    for (id, result) in [received, receiver.try_recv().unwrap()] {
        assert_eq!(panic_of(|| drop(id)), "id");
        assert_eq!(panic_of(|| drop(result)), "value");
    }
    parts.check();
}

#[test]
fn batches_and_their_iterators() {
    for started in [1, 2] {
        let parts = Parts::default();
        let of_all = parts.part("iterator of batches");
        let made = parts.clone();
        let batches = (0..3).map(move |_| {
            keep(&of_all);
            let of_one = made.part("iterator of a batch");
            let made = made.clone();
            (0..10).map(move |id| {
                keep(&of_one);
                (id, hangs(made.part("source")))
            })
        });
        let observer = parts.part("observer");
        let run = process_batch(batches)
            .concurrency(started)
            .source_concurrency(2)
            .cancel_on(hangs(parts.part("cancel")))
            .observe(move |_: Event<'_, _, _, _>| keep(&observer));
        let mut task = Task::new(run);
        assert!(task.poll().is_pending());
        assert_eq!(panic_of(|| task.drop_future()), "source");
        parts.check();
    }
}

#[test]
fn outcomes_of_batches_and_a_batch() {
    let parts = Parts::default();
    let batches = vec![
        vec![
            (0, Either::Left(ready(Ok(parts.part("value"))))),
            (1, Either::Left(ready(Err(parts.part("error"))))),
        ],
        vec![(2, Either::Right(hangs(parts.part("source"))))],
    ];
    let mut task = Task::new(process_batch(batches));
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    parts.check();
}

#[test]
fn attempts_and_errors_of_a_hedge() {
    let parts = Parts::default();
    let kept = parts.part("closure");
    let made = parts.clone();
    let attempt = move |attempt: usize| {
        keep(&kept);
        match attempt {
            0 | 1 => Either::Left(ready(Answer::Err(made.part("error")))),
            _ => Either::Right(hangs(made.part("attempt"))),
        }
    };
    let mut task = Task::new(hedge(NEVER, 4, attempt));
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "attempt");
    parts.check();
}

#[test]
fn run_that_is_interrupted_accounts_for_all() {
    let parts = Parts::default();
    let list: Vec<_> = (0..1000)
        .map(|id| (id, hangs(parts.part("source"))))
        .collect();
    let (cancel, signal) = common::source();
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(10)
        .cancel_on(signal);
    let mut task = Task::new(run);
    assert!(task.poll().is_pending());
    cancel.answer(Ok(0));
    // The sources that are named in later polls panic too, and each such poll unwinds.
    let interrupted = loop {
        let poll = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.finish()));
        if let Ok(result) = poll {
            break result.map(|_: Aggregate<_, _, _>| ()).unwrap_err();
        }
    };
    assert!(interrupted.partial.unfinished.iter().copied().eq(0..1000));
    parts.check();
}

#[test]
fn only_sources_never_started() {
    let hanging = || Either::Right(pending::<Answer>());
    let list = |parts: &Parts, count| -> Vec<_> {
        (0..count)
            .map(|id| (id, Either::Left(hangs(parts.part("source")))))
            .collect()
    };
    for polls in [0, 1] {
        let parts = Parts::default();
        let mut sources = vec![(100, hanging())];
        sources.extend(list(&parts, 3));
        let mut task = Task::new(fetch_and_aggregate(sources, NEVER).concurrency(1));
        (0..polls).for_each(|_| assert!(task.poll().is_pending()));
        assert_eq!(panic_of(|| task.drop_future()), "source");
        parts.check();

        let parts = Parts::default();
        let batches = [vec![(100, hanging())], list(&parts, 3), list(&parts, 2)];
        let mut task = Task::new(process_batch(batches).concurrency(1));
        (0..polls).for_each(|_| assert!(task.poll().is_pending()));
        assert_eq!(panic_of(|| task.drop_future()), "source");
        parts.check();
    }
}

/// The sources of a plain collection are always dropped one by one. Those of this iterator are dropped one
/// by one only if a source in flight has panicked.
#[test]
fn source_in_flight_and_sources_of_an_adapted_collection() {
    for is_observed in [false, true] {
        let parts = Parts::default();
        let list: Vec<_> = (0..4).map(|id| (id, hangs(parts.part("source")))).collect();
        let list = list.into_iter().chain(std::iter::empty());
        let run = fetch_and_aggregate(list, NEVER).concurrency(1);
        if is_observed {
            let mut task = Task::new(run.observe(|_| {}));
            assert!(task.poll().is_pending());
            assert_eq!(panic_of(|| task.drop_future()), "source");
        } else {
            let mut task = Task::new(run);
            assert!(task.poll().is_pending());
            assert_eq!(panic_of(|| task.drop_future()), "source");
        }
        parts.check();
    }
}

/// Ids that keep a part.
struct Ids(Part);

impl Iterator for Ids {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        keep(&self.0);
        Some(0)
    }
}

#[test]
fn ids_and_the_closure_that_makes_their_futures() {
    for polls in [0, 1] {
        let parts = Parts::default();
        let (ids, kept) = (Ids(parts.part("ids")), parts.part("closure"));
        let sources = each(ids, move |_| {
            keep(&kept);
            pending::<Answer>()
        });
        let mut task = Task::new(fetch_and_aggregate(sources, NEVER).concurrency(1));
        (0..polls).for_each(|_| assert!(task.poll().is_pending()));
        assert_eq!(panic_of(|| task.drop_future()), "ids");
        parts.check();
    }
}

#[test]
fn id_that_a_drain_has_set_aside() {
    let parts = Parts::default();
    let (drain, drained) = futures::channel::oneshot::channel::<()>();
    let mut drain = Some(drain);
    let made = parts.clone();
    let list = (0..2).map(move |place| {
        if place == 1 {
            drain.take().unwrap().send(()).unwrap();
        }
        (made.part("id"), pending::<Answer>())
    });
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).drain_on(drained));
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "id");
    parts.check();
}

#[test]
fn bodies_and_outcomes_and_sources() {
    let parts = Parts::default();
    let made = parts.clone();
    let list = (0..6).map(move |id| {
        let answer = match id < 4 {
            true => Either::Left(ready(Answer::Ok(made.part("value")))),
            false => Either::Right(hangs(made.part("source"))),
        };
        (id, answer)
    });
    let kept = parts.part("closure");
    let run = for_each_result(list, move |outcome| {
        keep(&kept);
        async move {
            pending::<()>().await;
            drop(outcome);
            Ok::<_, ()>(())
        }
    });
    let mut task = Task::new(run.bodies(2).in_order());
    assert!(task.settle().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "source");
    parts.check();
}

/// The run is dropped while it names sources, which takes several polls.
#[test]
fn ids_that_a_stream_has_named() {
    let parts = Parts::default();
    let list: Vec<_> = (0..5000)
        .map(|_| (parts.part("id"), pending::<Answer>()))
        .collect();
    let (sender, _receiver) = async_channel::bounded(1);
    let run = stream_results(list, sender)
        .concurrency(1)
        .cancel_on(async {});
    let mut task = Task::new(run);
    assert!(task.poll().is_pending());
    assert_eq!(panic_of(|| task.drop_future()), "id");
    parts.check();
}
