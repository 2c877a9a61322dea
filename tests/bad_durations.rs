//! Timeouts of zero and timeouts too long for any clock, and a timer thread that cannot be started: rows
//! of the table in `src/guide/unusual_input.md`.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use async_channel::bounded;
use common::{Handle, NEVER, Source, Task, alive, polls, ready, source, sources};
use futures::executor::block_on;
use futures_aggregate::{
    Reason, SourceError, TestTimer, fetch_and_aggregate, hedge, process_batch, stream_results,
};

/// A timeout that a test can wait for.
const SHORT: Duration = Duration::from_millis(20);

/// One source that wakes itself for ever, and one that is ready.
fn busy_and_ready() -> (Handle, [(usize, Source); 2]) {
    let (busy, future) = source();
    busy.never_rests();
    (busy, [(0, future), (1, ready(Ok(10)))])
}

#[test]
fn zero_timeout_gives_one_poll_to_each_source_that_the_first_poll_can_start() {
    let (busy, list) = busy_and_ready();
    let fetch = Task::new(fetch_and_aggregate(list, Duration::ZERO)).poll();
    let Poll::Ready(Err(interrupted)) = fetch else {
        panic!("a timeout of zero ends the run in its first poll");
    };
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results, [(1, 10)]);
    assert_eq!(interrupted.partial.unfinished, [0]);
    assert_eq!(busy.polls(), 1);

    let (busy, list) = busy_and_ready();
    let batch = Task::new(process_batch([list]).timeout(Duration::ZERO)).poll();
    let Poll::Ready(Err(interrupted)) = batch else {
        panic!("a timeout of zero ends the run in its first poll");
    };
    assert_eq!(interrupted.reason, Reason::TimedOut);
    let outcome = interrupted.partial[0].as_ref().unwrap_err();
    assert_eq!(outcome.reason, Reason::TimedOut);
    assert_eq!(outcome.partial.results, [(1, 10)]);
    assert_eq!(busy.polls(), 1);

    let (busy, list) = busy_and_ready();
    let (sender, receiver) = bounded(2);
    let stream = Task::new(stream_results(list, sender).timeout(Duration::ZERO)).poll();
    let Poll::Ready(Err(interrupted)) = stream else {
        panic!("a timeout of zero ends the run in its first poll");
    };
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.unfinished, [0]);
    assert_eq!(receiver.try_recv(), Ok((1, Ok(10))));
    assert_eq!(busy.polls(), 1);
}

#[test]
fn zero_timeout_is_enough_for_sources_that_are_ready() {
    let list = (0..60).map(|id| (id, ready(Ok(id))));
    let run = fetch_and_aggregate(list, Duration::ZERO)
        .concurrency(7)
        // A clock that stands still: on a busy machine the poll could last for longer than its budget.
        .timer(TestTimer::new());
    assert_eq!(Task::new(run).finish().unwrap().results.len(), 60);
}

#[test]
fn zero_timeout_of_a_source_or_a_batch_gives_it_one_poll() {
    let late = [(0, SourceError::TimedOut)];
    let (busy, list) = busy_and_ready();
    let run = fetch_and_aggregate(list, NEVER).source_timeout(Duration::ZERO);
    let aggregate = Task::new(run).finish().unwrap();
    assert_eq!(
        (&aggregate.results[..], &aggregate.errors[..]),
        (&[(1, 10)][..], &late[..])
    );
    assert_eq!(busy.polls(), 1);

    let (busy, list) = busy_and_ready();
    let run = process_batch([list]).source_timeout(Duration::ZERO);
    let outcomes = Task::new(run).finish().unwrap();
    let aggregate = outcomes[0].as_ref().unwrap();
    assert_eq!(
        (&aggregate.results[..], &aggregate.errors[..]),
        (&[(1, 10)][..], &late[..])
    );
    assert_eq!(busy.polls(), 1);

    let (busy, list) = busy_and_ready();
    let run = process_batch([list]).batch_timeout(Duration::ZERO);
    let outcomes = Task::new(run).finish().unwrap();
    let interrupted = outcomes[0].as_ref().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results, [(1, 10)]);
    assert_eq!(busy.polls(), 1);

    let (busy, list) = busy_and_ready();
    let (sender, receiver) = bounded(2);
    let run = stream_results(list, sender).source_timeout(Duration::ZERO);
    assert_eq!(Task::new(run).finish().unwrap().delivered, 2);
    let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert_eq!(received, [(1, Ok(10)), (0, Err(SourceError::TimedOut))]);
    assert_eq!(busy.polls(), 1);
}

#[test]
fn zero_delay_of_a_hedge_starts_every_attempt_at_once() {
    let (handles, list) = sources(3);
    let mut attempts = list.into_iter().map(|(_, attempt)| attempt);
    let mut task = Task::new(hedge(Duration::ZERO, 3, |_| attempts.next().unwrap()));
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [1, 1, 1]);
}

#[test]
fn sources_that_wake_themselves_for_ever_do_not_hold_up_the_deadline() {
    let (handles, list) = sources(1000);
    handles.iter().for_each(Handle::never_rests);
    let interrupted = block_on(fetch_and_aggregate(list, SHORT)).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.unfinished.len(), 1000);
    assert_eq!(alive(&handles), 0);
}

/// Runs the test of this name in a process in which no thread can be started. Returns whether this is that
/// process.
fn without_threads(test: &str) -> bool {
    const INSIDE: &str = "FUTURES_AGGREGATE_WITHOUT_THREADS";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1"])
        .env(INSIDE, "yes")
        // A stack of this size does not fit into the address space.
        .env("RUST_MIN_STACK", (usize::MAX / 4).to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    false
}

#[test]
fn duration_that_the_clock_cannot_express_is_no_limit_and_sets_no_timer() {
    // In the process without threads, setting a timer panics.
    if !without_threads("duration_that_the_clock_cannot_express_is_no_limit_and_sets_no_timer") {
        return;
    }
    for forever in [
        Duration::MAX,
        Duration::MAX - Duration::from_nanos(1),
        Duration::from_secs(u64::MAX),
    ] {
        let (handles, mut list) = sources(4);
        let mut attempts = list.split_off(3).into_iter().map(|(_, attempt)| attempt);
        let mut list = list.into_iter().map(|source| [source]);
        let mut next = || list.next().unwrap();
        let (sender, _receiver) = bounded(2);
        let fetch = fetch_and_aggregate(next(), forever).source_timeout(forever);
        let batch = process_batch([next()])
            .timeout(forever)
            .batch_timeout(forever)
            .source_timeout(forever);
        let stream = stream_results(next(), sender)
            .timeout(forever)
            .source_timeout(forever);
        let hedge = hedge(forever, 2, |_| attempts.next().unwrap());
        let (fetch, batch) = (&mut Task::new(fetch), &mut Task::new(batch));
        let (stream, hedge) = (&mut Task::new(stream), &mut Task::new(hedge));
        assert!(fetch.settle().is_pending() && batch.settle().is_pending());
        assert!(stream.settle().is_pending() && hedge.settle().is_pending());
        handles.iter().for_each(|handle| handle.answer(Ok(1)));
        assert_eq!(fetch.finish().unwrap().results, [(0, 1)]);
        assert_eq!(
            batch.finish().unwrap()[0].as_ref().unwrap().results,
            [(1, 1)]
        );
        assert_eq!(stream.finish().unwrap().delivered, 1);
        assert_eq!(hedge.finish(), Ok(1));
    }
}

#[test]
fn longest_duration_that_the_clock_can_express_is_a_deadline_and_delays_no_other() {
    let is_expressed = |seconds| {
        Instant::now()
            .checked_add(Duration::from_secs(seconds))
            .is_some()
    };
    let farthest = (0..u64::BITS).rev().fold(0, |farthest, bit| {
        let farther = farthest | 1 << bit;
        if is_expressed(farther) {
            farther
        } else {
            farthest
        }
    });
    let (handle, only) = source();
    let run = fetch_and_aggregate([(0, only)], Duration::from_secs(farthest - 3600));
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    let (_, list) = sources(1);
    let other = block_on(fetch_and_aggregate(list, SHORT)).unwrap_err();
    assert_eq!(other.reason, Reason::TimedOut);
    assert!(!task.is_woken());
    handle.answer(Ok(1));
    assert_eq!(task.finish().unwrap().results, [(0, 1)]);
}

#[test]
fn timer_thread_that_cannot_be_started_panics_and_loses_no_outcome() {
    if !without_threads("timer_thread_that_cannot_be_started_panics_and_loses_no_outcome") {
        return;
    }
    assert!(thread::Builder::new().spawn(|| ()).is_err());
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, Duration::from_secs(3600)));
    let mut polled = || catch_unwind(AssertUnwindSafe(|| task.poll()));
    // As long as a source is pending, each poll needs a timer.
    assert!(polled().is_err());
    handles[0].answer(Ok(1));
    assert!(polled().is_err());
    handles[1].answer(Ok(2));
    let Ok(Poll::Ready(Ok(aggregate))) = polled() else {
        panic!("every source has answered, so no timer is needed");
    };
    assert_eq!(aggregate.results, [(0, 1), (1, 2)]);
    drop(task);

    let (handles, list) = sources(2);
    let started = Instant::now();
    let mut task = Task::new(fetch_and_aggregate(list, SHORT));
    let interrupted = loop {
        if let Ok(poll) = catch_unwind(AssertUnwindSafe(|| task.poll())) {
            let Poll::Ready(outcome) = poll else {
                panic!("the run is pending, and nothing would wake it");
            };
            break outcome.unwrap_err();
        }
    };
    assert!(started.elapsed() >= SHORT);
    assert_eq!(interrupted.partial.unfinished, [0, 1]);
    assert_eq!((alive(&handles), task.wakers()), (0, 0));
}
