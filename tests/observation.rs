//! Observers: each source has an event when it starts and one when it ends, or a single one if it is
//! named without having started.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{NEVER, Source, Task, ready, source, sources};
use futures::future::{FutureExt, LocalBoxFuture};
use futures_aggregate::{
    Event, Reason, SourceError, each, fetch_and_aggregate, process_batch, stream_results,
};

/// The events, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn observer<K: Debug, T: Debug, E: Debug>(
        &self,
    ) -> impl FnMut(Event<'_, K, T, E>) + use<K, T, E> {
        let log = self.clone();
        move |event| {
            let line = match event {
                Event::Started { id, .. } => format!("{id:?} started"),
                Event::Finished { id, result, .. } => format!("{id:?} {result:?}"),
                Event::Unfinished { id, reason, .. } => format!("{id:?} {reason:?}"),
                Event::NotStarted { id, reason, .. } => format!("{id:?} not started: {reason:?}"),
                other => panic!("unknown {other:?}"),
            };
            log.0.borrow_mut().push(line);
        }
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// For each source, the number of events at its start and at its end.
    fn balance(&self) -> BTreeMap<String, (usize, usize)> {
        let mut balance = BTreeMap::<_, (usize, usize)>::new();
        for line in self.0.borrow().iter() {
            let (id, what) = line.split_once(' ').unwrap();
            let counts = balance.entry(id.to_owned()).or_default();
            match what {
                _ if what.starts_with("not started") => continue,
                "started" => counts.0 += 1,
                _ => counts.1 += 1,
            }
        }
        balance
    }
}

#[test]
fn events_come_in_the_poll_that_notices_them() {
    let log = Log::default();
    let (handles, list) = sources(2);
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(1)
        .observe(log.observer());
    let mut task = Task::new(run);
    assert!(log.take().is_empty());
    assert!(task.poll().is_pending());
    assert_eq!(log.take(), ["0 started"]);
    handles[0].answer(Err("refused"));
    assert!(task.poll().is_pending());
    assert_eq!(log.take(), ["0 Err(Failed(\"refused\"))", "1 started"]);
    handles[1].answer(Ok(10));
    assert!(task.poll().is_ready());
    assert_eq!(log.take(), ["1 Ok(10)"]);
}

#[test]
fn every_end_of_a_source_is_reported_with_its_reason() {
    let (log, (handles, list)) = (Log::default(), sources(4));
    let (cancel, signal) = source();
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(2)
        .cancel_on(signal)
        .observe(log.observer());
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(0));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    assert!(task.finish().is_err());
    assert_eq!(
        log.take(),
        [
            "0 started",
            "1 started",
            "0 Ok(0)",
            "2 started",
            "1 Cancelled",
            "2 Cancelled",
            "3 not started: Cancelled"
        ]
    );

    let (log, (_, list)) = (Log::default(), sources(1));
    let run = fetch_and_aggregate(list, Duration::ZERO).observe(log.observer());
    assert!(Task::new(run).finish().is_err());
    assert_eq!(log.take(), ["0 started", "0 TimedOut"]);

    let (log, (_, list)) = (Log::default(), sources(1));
    let run = fetch_and_aggregate(list, NEVER)
        .source_timeout(Duration::ZERO)
        .observe(log.observer());
    assert!(Task::new(run).finish().is_ok());
    assert_eq!(log.take(), ["0 started", "0 Err(TimedOut)"]);

    let (log, (_, mut list)) = (Log::default(), sources(1));
    list.push((1, ready(Ok(10))));
    let run = fetch_and_aggregate(list, NEVER)
        .quorum(1)
        .observe(log.observer());
    assert!(Task::new(run).finish().is_ok());
    assert_eq!(
        log.take(),
        ["0 started", "1 started", "1 Ok(10)", "0 NotNeeded"]
    );
}

#[test]
fn sources_in_flight_are_reported_when_the_operation_is_dropped() {
    let (log, (handles, list)) = (Log::default(), sources(3));
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(2)
        .observe(log.observer());
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(0));
    assert!(task.settle().is_pending());
    log.take();
    task.drop_future();
    assert_eq!(log.take(), ["1 Cancelled", "2 Cancelled"]);

    let (log, (_, mut list)) = (Log::default(), sources(4));
    let second = list.split_off(2);
    let mut task = Task::new(process_batch([list, second]).observe(log.observer()));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(log.balance().len(), 4);
    assert!(log.balance().values().all(|&counts| counts == (1, 1)));

    let (log, (_, list)) = (Log::default(), sources(2));
    let (sender, _receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(list, sender).observe(log.observer()));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert!(log.balance().values().all(|&counts| counts == (1, 1)));
}

#[test]
fn operation_that_is_never_polled_has_no_events() {
    let (log, (_, list)) = (Log::default(), sources(2));
    drop(fetch_and_aggregate(list, NEVER).observe(log.observer()));
    assert!(log.take().is_empty());
}

#[test]
fn panic_of_a_source_is_reported_as_its_outcome() {
    for catches in [true, false] {
        let (log, (handles, list)) = (Log::default(), sources(2));
        handles[0].on_poll(|_| panic!("boom"));
        handles[1].answer(Ok(10));
        let run = fetch_and_aggregate(list, NEVER).observe(log.observer());
        if catches {
            assert!(Task::new(run.catch_panics()).finish().is_ok());
        } else {
            let mut task = Task::new(run);
            assert!(catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).is_err());
            assert!(task.finish().is_ok());
        }
        assert_eq!(
            log.take(),
            [
                "0 started",
                "0 Err(Panicked(\"boom\"))",
                "1 started",
                "1 Ok(10)"
            ]
        );
    }
}

#[test]
fn observer_of_batches_has_the_events_of_all_sources() {
    let log = Log::default();
    let batches = [
        vec![("a", ready(Ok(1))), ("b", ready(Err("refused")))],
        vec![("c", ready(Ok(3)))],
    ];
    let run = process_batch(batches).observe(log.observer());
    assert!(Task::new(run).finish().is_ok());
    assert_eq!(
        log.take(),
        [
            "\"a\" started",
            "\"a\" Ok(1)",
            "\"b\" started",
            "\"b\" Err(Failed(\"refused\"))",
            "\"c\" started",
            "\"c\" Ok(3)"
        ]
    );
}

#[test]
fn observer_of_a_stream_is_called_before_the_outcome_is_sent() {
    let (sender, receiver) = async_channel::unbounded();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (told, channel) = (seen.clone(), receiver.clone());
    let list = (0..2).map(|id| (id, ready(Ok(id))));
    let run = stream_results(list, sender).observe(move |event| {
        if let Event::Finished { id, result, .. } = event {
            told.borrow_mut()
                .push((*id, result.copied().ok(), channel.len()));
        }
    });
    assert!(Task::new(run).finish().is_ok());
    assert_eq!(seen.take(), [(0, Some(0), 0), (1, Some(1), 1)]);
    assert_eq!(receiver.len(), 2);
}

#[test]
fn several_observers_are_called_in_the_order_in_which_they_were_added() {
    let (first, second) = (Log::default(), Log::default());
    let both = Rc::new(RefCell::new(Vec::new()));
    let (one, other) = (both.clone(), both.clone());
    let run = fetch_and_aggregate([(0, ready(Ok(1)))], NEVER)
        .observe(move |_| one.borrow_mut().push(1))
        .observe(move |_| other.borrow_mut().push(2));
    assert!(Task::new(run).finish().is_ok());
    assert_eq!(both.take(), [1, 2, 1, 2]);

    let run = process_batch([[(0, ready(Ok(1)))]])
        .observe(first.observer())
        .observe(second.observer());
    assert!(Task::new(run).finish().is_ok());
    assert_eq!(first.take(), ["0 started", "0 Ok(1)"]);
    assert_eq!(second.take(), ["0 started", "0 Ok(1)"]);
}

#[test]
fn observer_that_panics_unwinds_and_loses_nothing() {
    for when in ["started", "finished", "unfinished"] {
        let (handles, list) = sources(3);
        let (cancel, signal) = source();
        let mut left = 1;
        let run = fetch_and_aggregate(list, NEVER)
            .cancel_on(signal)
            .observe(move |event| {
                let what = match event {
                    Event::Started { .. } => "started",
                    Event::Finished { .. } => "finished",
                    _ => "unfinished",
                };
                if what == when && left > 0 {
                    left -= 1;
                    panic!("observer");
                }
            });
        let mut task = Task::new(run);
        let mut panics = 0;
        let mut settle = |task: &mut Task<_>| loop {
            match catch_unwind(AssertUnwindSafe(|| task.settle())) {
                Ok(poll) => return poll,
                Err(_) => panics += 1,
            }
        };
        assert!(settle(&mut task).is_pending());
        handles[1].answer(Ok(10));
        assert!(settle(&mut task).is_pending());
        cancel.answer(Ok(0));
        let std::task::Poll::Ready(Err(interrupted)) = settle(&mut task) else {
            panic!("it was cancelled");
        };
        assert_eq!(panics, 1, "{when}");
        assert_eq!(interrupted.reason, Reason::Cancelled);
        assert_eq!(interrupted.partial.results, [(1, 10)]);
        assert_eq!(interrupted.partial.unfinished, [0, 2]);
        assert_eq!(common::polls(&handles)[0], 1);
        assert_eq!(common::alive(&handles), 0);
    }
}

#[test]
fn panics_of_observers_unwind_even_if_panics_of_sources_are_caught() {
    for when in ["started", "finished"] {
        let (handles, list) = sources(2);
        handles[0].on_poll(|_| panic!("source"));
        let mut left = 1;
        let run = fetch_and_aggregate(list, NEVER)
            .catch_panics()
            .observe(move |event| {
                let now = match event {
                    Event::Started { .. } => "started",
                    _ => "finished",
                };
                if now == when && left > 0 {
                    left -= 1;
                    panic!("observer");
                }
            });
        let mut task = Task::new(run);
        let panic = catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"observer"));
        assert!(task.settle().is_pending());
        handles[1].answer(Ok(1));
        let aggregate = task.finish().unwrap();
        assert!(aggregate.errors[0].1.is_panicked());
        assert_eq!(aggregate.results, [(1, 1)]);
    }
}

#[test]
fn observer_that_panics_does_not_keep_others_from_being_called() {
    let log = Log::default();
    let run = fetch_and_aggregate([(0, ready(Ok(1)))], NEVER)
        .observe(|_| panic!("observer"))
        .observe(log.observer());
    let mut task = Task::new(run);
    while let Err(payload) = catch_unwind(AssertUnwindSafe(|| task.settle().is_ready())) {
        assert_eq!(payload.downcast_ref(), Some(&"observer"));
    }
    assert_eq!(log.take(), ["0 started", "0 Ok(1)"]);
}

#[test]
fn caught_panics_do_not_poll_other_sources_twice_in_the_same_poll() {
    let (handles, list) = sources(50);
    handles[0].never_rests();
    for handle in &handles[1..] {
        handle.on_poll(|_| panic!("boom"));
    }
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).catch_panics());
    // This takes more than one poll if printing the messages of the panics takes long.
    let mut polls = 0;
    while common::polls(&handles).contains(&0) {
        assert!(task.poll().is_pending());
        polls += 1;
    }
    assert_eq!(common::polls(&handles[1..]), [1; 49]);
    assert_eq!(handles[0].polls(), polls);

    let (handles, list) = sources(2);
    handles[0].never_rests();
    handles[1].on_poll(|_| panic!("boom"));
    let run = fetch_and_aggregate(list, Duration::ZERO).catch_panics();
    assert_eq!(Task::new(run).finish().unwrap_err().partial.unfinished, [0]);
    assert_eq!(common::polls(&handles), [1, 1]);
}

#[test]
fn caught_panics_affect_no_other_source() {
    let (handles, list) = sources(300);
    for handle in handles.iter().step_by(2) {
        handle.on_poll(|_| panic!("boom"));
    }
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).catch_panics());
    assert!(task.settle().is_pending());
    for handle in handles.iter().skip(1).step_by(2) {
        handle.answer(Ok(1));
    }
    let aggregate = task.finish().unwrap();
    assert_eq!(
        (aggregate.results.len(), aggregate.errors.len()),
        (150, 150)
    );
    let boom = SourceError::Panicked("boom".to_owned());
    assert!(aggregate.errors.iter().all(|(_, error)| *error == boom));

    let (handles, mut list) = sources(4);
    let second = list.split_off(2);
    handles[0].on_poll(|_| panic!("boom"));
    let mut task = Task::new(process_batch([list, second]).catch_panics());
    assert!(task.settle().is_pending());
    handles[1..].iter().for_each(|handle| handle.answer(Ok(1)));
    let outcomes = task.finish().unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().errors, [(0, boom.clone())]);
    assert_eq!(outcomes[1].as_ref().unwrap().results.len(), 2);

    let (handles, list) = sources(2);
    handles[0].on_poll(|_| panic!("boom"));
    handles[1].answer(Ok(1));
    let (sender, receiver) = async_channel::unbounded();
    let streamed = Task::new(stream_results(list, sender).catch_panics()).finish();
    assert_eq!(streamed.unwrap().delivered, 2);
    assert_eq!(receiver.try_recv(), Ok((0, Err(boom))));
}

#[test]
fn observer_of_batches_that_panics_has_all_later_events() {
    let (handles, list) = sources(4);
    let mut list = list.into_iter();
    let batches: Vec<Vec<_>> = (0..2).map(|_| list.by_ref().take(2).collect()).collect();
    let log = Log::default();
    let mut log_event = log.observer();
    let mut panics = false;
    let run = process_batch(batches).observe(move |event| {
        log_event(event);
        if matches!(event, Event::Finished { .. }) && !std::mem::replace(&mut panics, true) {
            panic!("observer");
        }
    });
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    log.take();
    handles[0].answer(Ok(1));
    assert!(catch_unwind(AssertUnwindSafe(|| task.settle())).is_err());
    assert_eq!(log.take(), ["0 Ok(1)"]);
    for (handle, id) in handles[1..].iter().zip(1..) {
        handle.answer(Ok(1));
        let poll = task.settle();
        assert_eq!(log.take(), [format!("{id} Ok(1)")]);
        assert_eq!(poll.is_ready(), id == 3);
    }
}

/// Waits until the clock shows that this much time has passed.
fn pass(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// The ids of sources that have ended, and how long they took.
type Ends = Rc<RefCell<Vec<(usize, Duration)>>>;

/// One of the three operations, with one source in flight at a time.
fn timed_run(
    operation: usize,
    list: Vec<(usize, Source)>,
    source_timeout: Duration,
    signal: Source,
    ends: &Ends,
) -> LocalBoxFuture<'static, ()> {
    let ends = ends.clone();
    let observer = move |event: Event<'_, usize, u32, &'static str>| match event {
        Event::Finished { id, elapsed, .. } | Event::Unfinished { id, elapsed, .. } => {
            ends.borrow_mut().push((*id, elapsed));
        }
        _ => {}
    };
    match operation {
        0 => fetch_and_aggregate(list, NEVER)
            .concurrency(1)
            .source_timeout(source_timeout)
            .cancel_on(signal)
            .catch_panics()
            .observe(observer)
            .map(drop)
            .boxed_local(),
        1 => process_batch([list])
            .source_concurrency(1)
            .batch_timeout(NEVER)
            .source_timeout(source_timeout)
            .cancel_on(signal)
            .catch_panics()
            .observe(observer)
            .map(drop)
            .boxed_local(),
        _ => {
            let (sender, receiver) = async_channel::unbounded();
            stream_results(list, sender)
                .concurrency(1)
                .source_timeout(source_timeout)
                .cancel_on(signal)
                .catch_panics()
                .observe(observer)
                .map(move |_| drop(receiver))
                .boxed_local()
        }
    }
}

#[test]
fn event_at_the_end_of_a_source_has_the_time_since_its_start() {
    const TIME: Duration = Duration::from_millis(5);
    for (operation, way) in
        (0..3).flat_map(|it| ["answer", "panic", "time out", "cancel", "drop"].map(|way| (it, way)))
    {
        let (handles, list) = sources(2);
        let (cancel, signal) = source();
        let source_timeout = if way == "time out" { TIME } else { NEVER };
        let ends = Ends::default();
        let run = timed_run(operation, list, source_timeout, signal, &ends);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        pass(TIME);
        handles[0].answer(Ok(0));
        // The second source starts in the poll in which the first one ends.
        let earliest = Instant::now();
        assert!(task.settle().is_pending());
        pass(TIME);
        match way {
            "answer" => handles[1].answer(Ok(1)),
            "panic" => {
                handles[1].on_poll(|_| panic!("boom"));
                handles[1].wake();
            }
            "cancel" => cancel.answer(Ok(0)),
            "drop" => task.drop_future(),
            _ => {}
        }
        if way != "drop" {
            task.wait();
        }
        let most = earliest.elapsed();
        let ends = ends.take();
        let [(0, first), (1, second)] = ends[..] else {
            panic!("operation {operation}, {way}: {ends:?}");
        };
        assert!(first >= TIME, "operation {operation}, {way}: {first:?}");
        assert!(second >= TIME, "operation {operation}, {way}: {second:?}");
        assert!(
            second <= most,
            "operation {operation}, {way}: {second:?} of {most:?}"
        );
    }
}

impl Log {
    /// The ids and reasons of the `NotStarted` events.
    fn not_started(&self) -> Vec<String> {
        let log = self.take();
        let lines = log.iter().filter_map(|line| {
            let (id, reason) = line.split_once(" not started: ")?;
            Some(format!("{id} {reason}"))
        });
        lines.collect()
    }
}

#[test]
fn ids_that_never_start_are_reported_with_the_reason_of_the_run() {
    let cases = [
        ("cancel", "Cancelled"),
        ("expire", "TimedOut"),
        ("timeout", "TimedOut"),
        ("fail_fast", "SourceFailed"),
        ("quorum", "NotNeeded"),
        ("rule", "NotNeeded"),
        ("unreachable", "QuorumUnreachable"),
    ];
    for (ending, reason) in cases {
        let log = Log::default();
        let (handles, list) = sources(4);
        let (cancel, signal) = source();
        let (deadline, timer) = source();
        let timeout = if ending == "timeout" {
            Duration::ZERO
        } else {
            NEVER
        };
        let run = fetch_and_aggregate(list, timeout)
            .concurrency(2)
            .cancel_on(signal)
            .expire_on(timer)
            .observe(log.observer());
        let run = match ending {
            "fail_fast" => run.fail_fast(),
            "quorum" => run.quorum(1),
            "unreachable" => run.quorum(4),
            _ => run,
        };
        let mut task =
            Task::new(run.stop_when(|so_far| ending == "rule" && !so_far.results.is_empty()));
        if task.settle().is_pending() {
            match ending {
                "cancel" => cancel.answer(Ok(0)),
                "expire" => deadline.answer(Ok(0)),
                "fail_fast" | "unreachable" => handles[0].answer(Err("refused")),
                _ => handles[0].answer(Ok(0)),
            }
            let _ = task.finish();
        }
        let expected = [2, 3].map(|id| format!("{id} {reason}"));
        assert_eq!(log.not_started(), expected, "{ending}");
    }

    // A run that ends before it starts any source names all of them.
    let (log, (_, list)) = (Log::default(), sources(2));
    let run = fetch_and_aggregate(list, NEVER).quorum(3);
    assert!(Task::new(run.observe(log.observer())).finish().is_err());
    assert_eq!(
        log.take(),
        [
            "0 not started: QuorumUnreachable",
            "1 not started: QuorumUnreachable"
        ]
    );
}

#[test]
fn ids_that_never_start_are_reported_by_stream_results() {
    for (ending, reason) in [
        ("cancel", "Cancelled"),
        ("expire", "TimedOut"),
        ("timeout", "TimedOut"),
        ("leave", "ReceiverClosed"),
    ] {
        let log = Log::default();
        let (cancel, signal) = source();
        let (deadline, timer) = source();
        let timeout = if ending == "timeout" {
            Duration::ZERO
        } else {
            NEVER
        };
        let (sender, receiver) = async_channel::unbounded();
        let run = stream_results(each(0..4, |_| source().1), sender)
            .concurrency(2)
            .timeout(timeout)
            .cancel_on(signal)
            .expire_on(timer)
            .observe(log.observer());
        let mut task = Task::new(run);
        if task.settle().is_pending() {
            match ending {
                "cancel" => cancel.answer(Ok(0)),
                "expire" => deadline.answer(Ok(0)),
                _ => drop(receiver),
            }
            assert!(task.finish().is_err());
        }
        let expected = [2, 3].map(|id| format!("{id} {reason}"));
        assert_eq!(log.not_started(), expected, "{ending}");
    }
}

/// Three batches of three sources.
fn batches() -> (Vec<common::Handle>, Vec<Vec<(usize, Source)>>) {
    let (handles, list) = sources(9);
    let mut list = list.into_iter();
    let batches = (0..3).map(|_| list.by_ref().take(3).collect()).collect();
    (handles, batches)
}

#[test]
fn ids_that_never_start_are_reported_when_a_run_of_batches_ends() {
    for (ending, reason) in [
        ("cancel", "Cancelled"),
        ("expire", "TimedOut"),
        ("fail_fast", "SourceFailed"),
        ("quorum", "NotNeeded"),
    ] {
        let log = Log::default();
        let (handles, batches) = batches();
        let (cancel, signal) = source();
        let (deadline, timer) = source();
        let run = process_batch(batches)
            .concurrency(2)
            .source_concurrency(1)
            .cancel_on(signal)
            .expire_on(timer)
            .observe(log.observer());
        let run = match ending {
            "fail_fast" => run.batch_fail_fast().fail_fast(),
            "quorum" => run.batch_quorum(1).quorum(1),
            _ => run,
        };
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        match ending {
            "cancel" => cancel.answer(Ok(0)),
            "expire" => deadline.answer(Ok(0)),
            "fail_fast" => handles[0].answer(Err("refused")),
            _ => handles[0].answer(Ok(0)),
        }
        let _ = task.finish();
        // One source of each of the first two batches has started.
        let expected = [1, 2, 4, 5, 6, 7, 8].map(|id| format!("{id} {reason}"));
        assert_eq!(log.not_started(), expected, "{ending}");
    }
}

#[test]
fn ids_that_never_start_are_reported_when_their_batch_ends() {
    for (ending, reason) in [
        ("timeout", "TimedOut"),
        ("fail_fast", "SourceFailed"),
        ("quorum", "NotNeeded"),
        ("unreachable", "QuorumUnreachable"),
    ] {
        let log = Log::default();
        let (handles, batches) = batches();
        let run = process_batch(batches)
            .source_concurrency(1)
            .observe(log.observer());
        let run = match ending {
            "timeout" => run.batch_timeout(Duration::ZERO),
            "fail_fast" => run.batch_fail_fast(),
            "quorum" => run.batch_quorum(1),
            _ => run.batch_quorum(3),
        };
        let mut task = Task::new(run);
        if task.settle().is_pending() {
            let answer = if ending == "quorum" {
                Ok(0)
            } else {
                Err("refused")
            };
            handles[3].answer(answer);
            assert!(task.settle().is_pending());
            let expected = [4, 5].map(|id| format!("{id} {reason}"));
            assert_eq!(log.not_started(), expected, "{ending}");
            continue;
        }
        let expected = [1, 2, 4, 5, 7, 8].map(|id| format!("{id} {reason}"));
        assert_eq!(log.not_started(), expected, "{ending}");
    }
}

#[test]
fn run_that_is_dropped_reports_no_id_that_never_started() {
    let (log, (_, list)) = (Log::default(), sources(3));
    let run = fetch_and_aggregate(list, NEVER).concurrency(1);
    let mut task = Task::new(run.observe(log.observer()));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(log.take(), ["0 started", "0 Cancelled"]);

    let (log, (_, batches)) = (Log::default(), batches());
    let run = process_batch(batches).concurrency(1).source_concurrency(1);
    let mut task = Task::new(run.observe(log.observer()));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(log.take(), ["0 started", "0 Cancelled"]);

    let (log, (_, list)) = (Log::default(), sources(3));
    let (sender, _receiver) = async_channel::bounded(1);
    let run = stream_results(list, sender).concurrency(1);
    let mut task = Task::new(run.observe(log.observer()));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(log.take(), ["0 started", "0 Cancelled"]);
}

#[test]
fn observer_that_panics_at_ids_that_never_start_loses_none_of_them() {
    let (log, (_, list)) = (Log::default(), sources(4));
    let run = fetch_and_aggregate(list, NEVER)
        .concurrency(1)
        .cancel_on(ready(Ok(0)))
        .observe(|_| panic!("observer"))
        .observe(log.observer());
    let mut task = Task::new(run);
    assert_eq!(common::panic_of(|| task.poll()), "observer");
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.unfinished, [0, 1, 2, 3]);
    assert_eq!(
        log.not_started(),
        [0, 1, 2, 3].map(|id| format!("{id} Cancelled"))
    );
}
