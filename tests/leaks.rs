//! Leaks: after many runs, one after another, no source, no waker and no memory is left.

mod common;

use std::future::Future;
use std::time::{Duration, Instant};

use common::counting::{Counting, Counts};
use common::{NEVER, Task, alive, source, sources};
use futures_aggregate::{fetch_and_aggregate, process_batch, stream_results};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How a run ends.
#[derive(Clone, Copy)]
enum Ending {
    Answered,
    Expired,
    Cancelled,
    Dropped,
}

const ENDINGS: [Ending; 4] = [
    Ending::Answered,
    Ending::Expired,
    Ending::Cancelled,
    Ending::Dropped,
];

/// Drives a run of `handles` to its end and checks that no source and no waker is left.
fn end<F: Future>(run: F, ending: Ending, handles: &[common::Handle], signals: &[common::Handle]) {
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    handles[1].answer(Err("refused"));
    assert!(task.settle().is_pending());
    match ending {
        Ending::Answered => {
            for handle in &handles[2..] {
                handle.answer(Ok(2));
                let _ = task.settle();
            }
        }
        Ending::Expired | Ending::Cancelled => {
            signals[ending as usize - 1].answer(Ok(0));
            assert!(task.settle().is_ready());
        }
        Ending::Dropped => task.drop_future(),
    }
    assert_eq!((alive(handles), alive(signals), task.wakers()), (0, 0, 0));
}

/// Two signals, to let a run expire and to cancel it.
fn signals() -> (Vec<common::Handle>, common::Source, common::Source) {
    let (expire, timer) = source();
    let (cancel, signal) = source();
    (vec![expire, cancel], timer, signal)
}

fn fetch(ending: Ending) {
    let (handles, list) = sources(5);
    let (ends, timer, signal) = signals();
    let run = fetch_and_aggregate(list, NEVER)
        .expire_on(timer)
        .cancel_on(signal);
    end(run, ending, &handles, &ends);
}

fn batch(ending: Ending) {
    let (handles, mut list) = sources(5);
    let (ends, timer, signal) = signals();
    let second = list.split_off(3);
    let run = process_batch([list, second])
        .batch_timeout(NEVER)
        .expire_on(timer)
        .cancel_on(signal);
    end(run, ending, &handles, &ends);
}

fn stream(ending: Ending, capacity: usize) {
    let (handles, list) = sources(5);
    let (ends, timer, signal) = signals();
    let (sender, receiver) = async_channel::bounded(capacity);
    let run = stream_results(list, sender)
        .expire_on(timer)
        .cancel_on(signal);
    end(run, ending, &handles, &ends);
    assert!(receiver.is_closed());
}

#[test]
fn runs_that_end_in_every_way_leave_nothing_behind() {
    let round = || {
        for ending in ENDINGS {
            fetch(ending);
            batch(ending);
            stream(ending, 5);
            if !matches!(ending, Ending::Answered) {
                stream(ending, 1);
            }
        }
    };
    // The first round allocates what a thread allocates once.
    round();
    let before = Counts::now();
    for _ in 0..250 {
        round();
    }
    let after = Counts::now();
    assert_eq!((after.live, after.bytes), (before.live, before.bytes));
}

#[test]
fn timers_of_runs_that_ended_early_hold_no_tasks() {
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (handles, list) = sources(2);
            let run = fetch_and_aggregate(list, Duration::from_secs(3600))
                .source_timeout(Duration::from_secs(1800));
            let mut task = Task::new(run);
            assert!(task.settle().is_pending());
            handles[0].answer(Ok(1));
            handles[1].answer(Ok(2));
            assert!(task.finish().is_ok());
            task
        })
        .collect();
    assert_eq!(tasks.iter().map(Task::wakers).sum::<usize>(), 0);
}

#[test]
fn runs_that_time_out_by_real_timers_leave_no_source_and_no_waker() {
    let timeout = Duration::from_millis(1);
    for round in 0..60 {
        let (handles, mut list) = sources(4);
        let (sender, receiver) = async_channel::bounded(1);
        let started = Instant::now();
        match round % 3 {
            0 => drop(futures::executor::block_on(fetch_and_aggregate(
                list, timeout,
            ))),
            1 => {
                let second = list.split_off(2);
                let run = process_batch([list, second]).batch_timeout(timeout);
                drop(futures::executor::block_on(run));
            }
            _ => {
                let run = stream_results(list, sender).timeout(timeout);
                drop(futures::executor::block_on(run));
                assert!(receiver.is_closed());
            }
        }
        assert!(started.elapsed() >= timeout);
        assert_eq!(alive(&handles), 0);
    }
}
