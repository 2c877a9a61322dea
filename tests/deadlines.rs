//! Deadlines of runs, batches and sources: which results still count, and what they stop.

mod common;

use std::future::{Pending, pending};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{NEVER, Task, alive, ready, source, sources};
use futures::executor::block_on;
use futures_aggregate::{
    Reason, SourceError, Timer, fetch_and_aggregate, for_each_result, process_batch, stream_results,
};

/// A timeout that a test can wait for.
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn result_that_arrived_before_the_deadline_was_seen_beats_the_timeout() {
    let (handles, sources) = sources(2);
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).expire_on(timer));
    assert!(task.settle().is_pending());
    deadline.answer(Ok(0));
    handles[0].answer(Ok(1));
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.results, [(0, 1)]);
    assert_eq!(partial.unfinished, [1]);
}

#[test]
fn source_woken_in_the_poll_of_the_deadline_is_polled_once_more() {
    // Source 1 is woken after the sweep of this poll has passed it.
    let (handles, sources) = sources(3);
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).expire_on(timer));
    assert!(task.settle().is_pending());
    let other = handles[1].clone();
    handles[2].on_poll(move |_| other.answer(Ok(10)));
    handles[2].wake();
    deadline.answer(Ok(0));
    let Poll::Ready(Err(interrupted)) = task.poll() else {
        panic!("the deadline has passed");
    };
    assert_eq!(interrupted.partial.results, [(1, 10)]);
    assert_eq!(interrupted.partial.unfinished, [0, 2]);
}

#[test]
fn run_is_complete_if_every_source_answers_in_the_poll_of_the_deadline() {
    let (handles, sources) = sources(2);
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(sources, NEVER).expire_on(timer));
    assert!(task.settle().is_pending());
    deadline.answer(Ok(0));
    handles[0].answer(Ok(1));
    handles[1].answer(Ok(2));
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
}

#[test]
fn run_completes_in_the_poll_in_which_its_last_sources_time_out() {
    let (_handles, list) = sources(2);
    let run = fetch_and_aggregate(list, NEVER)
        .source_timeout(Duration::ZERO)
        .concurrency(2);
    assert!(Task::new(run).poll().is_ready());

    let (_handles, list) = sources(2);
    let run = process_batch([list])
        .batch_timeout(Duration::ZERO)
        .source_timeout(Duration::ZERO)
        .source_concurrency(2);
    let batches = Task::new(run).finish().unwrap();
    assert_eq!(batches[0].as_ref().unwrap().errors.len(), 2);
}

#[test]
fn deadline_wakes_a_run_whose_sources_are_never_woken() {
    let (handles, sources) = sources(3);
    let interrupted = block_on(fetch_and_aggregate(sources, SHORT)).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.unfinished, [0, 1, 2]);
    assert_eq!(common::polls(&handles), [1, 1, 1]);
}

#[test]
fn source_that_times_out_is_an_error_and_affects_no_other() {
    let (handles, mut list) = sources(2);
    list.push((2, ready(Ok(20))));
    let run = fetch_and_aggregate(list, NEVER).source_timeout(SHORT);
    let aggregate = block_on(run).unwrap();
    assert_eq!(aggregate.results, [(2, 20)]);
    assert_eq!(
        aggregate.errors,
        [(0, SourceError::TimedOut), (1, SourceError::TimedOut)]
    );
    assert_eq!(alive(&handles), 0);
}

#[test]
fn source_that_times_out_frees_its_slot() {
    let (_, list) = sources(3);
    let run = fetch_and_aggregate(list, NEVER)
        .source_timeout(SHORT)
        .concurrency(1);
    let late: Vec<_> = block_on(run).unwrap().errors;
    assert_eq!(late.len(), 3);
    assert!(late.iter().map(|(id, _)| *id).eq(0..3));
}

#[test]
fn source_that_was_woken_before_its_timeout_is_polled_once_more() {
    // The second source blocks its poll until both are late, and then wakes the first one.
    let (handles, list) = sources(2);
    let first = handles[0].clone();
    let mut polled = false;
    handles[1].on_poll(move |waker| {
        if std::mem::replace(&mut polled, true) {
            std::thread::sleep(2 * SHORT);
            first.answer(Ok(10));
        } else {
            waker.wake_by_ref();
        }
    });
    let run = fetch_and_aggregate(list, NEVER).source_timeout(SHORT);
    let aggregate = block_on(run).unwrap();
    assert_eq!(aggregate.results, [(0, 10)]);
    assert_eq!(aggregate.errors, [(1, SourceError::TimedOut)]);
}

#[test]
fn source_timeout_after_the_deadline_of_the_run_does_not_count() {
    let (_, list) = sources(1);
    let run = fetch_and_aggregate(list, SHORT).source_timeout(2 * SHORT);
    let partial = block_on(run).unwrap_err().partial;
    assert_eq!(partial.unfinished, [0]);
    assert!(partial.errors.is_empty());
}

#[test]
fn earlier_of_two_deadlines_that_have_passed_counts() {
    let (_, list) = sources(1);
    let run = fetch_and_aggregate(list, SHORT).source_timeout(2 * SHORT);
    let mut task = Task::new(run);
    let started = Instant::now();
    assert!(task.poll().is_pending());
    while started.elapsed() < 4 * SHORT {
        std::hint::spin_loop();
    }
    let partial = task.wait().unwrap_err().partial;
    assert_eq!(partial.unfinished, [0]);
    assert!(partial.errors.is_empty());
}

#[test]
fn timer_that_has_fired_does_not_keep_the_run_busy() {
    let (handles, list) = sources(2);
    let run = fetch_and_aggregate(list, NEVER)
        .source_timeout(10 * SHORT)
        .concurrency(1);
    let mut task = Task::new(run);
    assert!(task.settle().is_pending());
    while handles[0].is_alive() {
        if task.is_woken() {
            assert!(task.settle().is_pending());
        }
    }
    // The second source has just started, so the run waits.
    assert_eq!(handles[1].polls(), 1);
    assert!(!task.is_woken());
}

#[test]
fn batch_that_times_out_keeps_its_partial_aggregate() {
    let (handle, slow) = source();
    let batches = [
        vec![("done", ready(Ok(1)))],
        vec![("fast", ready(Err("refused"))), ("slow", slow)],
    ];
    let outcomes = block_on(process_batch(batches).batch_timeout(SHORT)).unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().results, [("done", 1)]);
    let late = outcomes[1].as_ref().unwrap_err();
    assert_eq!(late.reason, Reason::TimedOut);
    assert_eq!(
        late.partial.errors,
        [("fast", SourceError::Failed("refused"))]
    );
    assert_eq!(late.partial.unfinished, ["slow"]);
    assert!(!handle.is_alive());
}

#[test]
fn batch_times_out_after_five_seconds_by_default() {
    let (_, list) = sources(1);
    let started = Instant::now();
    let outcomes = block_on(process_batch([list])).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(5));
    assert_eq!(outcomes[0].as_ref().unwrap_err().reason, Reason::TimedOut);
}

#[test]
fn batches_have_timeouts_of_the_run_and_of_each_source() {
    let (_, list) = sources(1);
    let whole = block_on(process_batch([list]).timeout(SHORT)).unwrap_err();
    assert_eq!(whole.reason, Reason::TimedOut);
    assert_eq!(
        whole.partial[0].as_ref().unwrap_err().partial.unfinished,
        [0]
    );

    let (_, list) = sources(1);
    let outcomes = block_on(process_batch([list]).source_timeout(SHORT)).unwrap();
    assert_eq!(
        outcomes[0].as_ref().unwrap().errors,
        [(0, SourceError::TimedOut)]
    );
}

#[test]
fn stream_has_timeouts_of_the_run_and_of_each_source() {
    let (_, list) = sources(1);
    let (sender, receiver) = async_channel::unbounded();
    let whole = block_on(stream_results(list, sender).timeout(SHORT)).unwrap_err();
    assert_eq!(whole.reason, Reason::TimedOut);
    assert_eq!(whole.partial.unfinished, [0]);
    assert!(receiver.is_closed() && receiver.is_empty());

    let (_, list) = sources(1);
    let (sender, receiver) = async_channel::unbounded();
    let streamed = block_on(stream_results(list, sender).source_timeout(SHORT)).unwrap();
    assert_eq!(streamed.delivered, 1);
    assert_eq!(receiver.try_recv(), Ok((0, Err(SourceError::TimedOut))));
}

#[test]
fn deadline_counts_from_the_first_poll() {
    let timeout = 10 * SHORT;
    let (handles, list) = sources(1);
    let built = Instant::now();
    let mut task = Task::new(fetch_and_aggregate(list, timeout));
    while built.elapsed() < timeout {
        std::hint::spin_loop();
    }
    assert!(task.poll().is_pending());
    handles[0].answer(Ok(1));
    assert_eq!(task.finish().unwrap().results, [(0, 1)]);
}

#[test]
fn run_expires_at_the_earliest_of_its_timers() {
    let (_, list) = sources(1);
    let (late, timer) = source();
    let run = fetch_and_aggregate(list, SHORT).expire_on(timer);
    assert_eq!(block_on(run).unwrap_err().reason, Reason::TimedOut);
    assert!(!late.is_alive());

    for first in 0..2 {
        let (_, list) = sources(1);
        let (timers, mut futures) = sources(2);
        let (one, other) = (futures.remove(0).1, futures.remove(0).1);
        let run = fetch_and_aggregate(list, NEVER)
            .expire_on(one)
            .expire_on(other);
        let mut task = Task::new(run);
        assert!(task.settle().is_pending());
        timers[first].answer(Ok(0));
        assert_eq!(task.finish().unwrap_err().reason, Reason::TimedOut);
    }
}

#[test]
fn source_timeout_before_the_alarm_that_is_set_moves_the_alarm() {
    let (late, slow) = source();
    let (sender, receiver) = async_channel::bounded(1);
    let list = [(0, ready(Ok(0))), (1, ready(Ok(1))), (2, slow)];
    let run = stream_results(list, sender)
        .concurrency(1)
        .timeout(Duration::from_secs(3600))
        .source_timeout(SHORT);
    let mut task = Task::new(run);
    // No source is in flight, so the alarm is set for the deadline of the run.
    assert!(task.settle().is_pending());
    assert_eq!(late.polls(), 0);
    let mut received = vec![receiver.try_recv().unwrap()];
    assert!(task.settle().is_pending());
    received.push(receiver.try_recv().unwrap());
    assert!(task.settle().is_pending());
    assert_eq!(late.polls(), 1);
    while late.is_alive() {
        if task.is_woken() {
            let _ = task.settle();
        }
    }
    received.push(receiver.try_recv().unwrap());
    assert_eq!(received[2], (2, Err(SourceError::TimedOut)));
}

#[test]
fn deadlines_that_pass_while_their_timers_are_set_leave_other_timers_working() {
    // Some of these timers fire while they are being set.
    for nanoseconds in 0..20_000 {
        let timeout = Duration::from_nanos(nanoseconds % 6000);
        let (handle, list) = source();
        let mut task = Task::new(fetch_and_aggregate([(0, list)], timeout));
        let _ = task.poll();
        drop(task);
        assert!(!handle.is_alive());
    }
    deadline_wakes_a_run_whose_sources_are_never_woken();
}

#[test]
fn run_that_is_polled_late_starts_no_more_sources() {
    let (handles, list) = sources(3);
    let mut task = Task::new(fetch_and_aggregate(list, SHORT).concurrency(1));
    let started = Instant::now();
    assert!(task.poll().is_pending());
    while started.elapsed() < 2 * SHORT {
        std::hint::spin_loop();
    }
    handles[0].answer(Ok(1));
    let partial = task.wait().unwrap_err().partial;
    assert_eq!(partial.results, [(0, 1)]);
    assert_eq!(partial.unfinished, [1, 2]);
    assert_eq!(common::polls(&handles), [2, 0, 0]);
}

/// An answer that arrives while a late run waits counts, because it could have been in a socket.
#[test]
fn run_that_is_polled_late_waits_for_answers() {
    for source_timeout in [false, true] {
        let (handles, list) = sources(2);
        let run = match source_timeout {
            false => fetch_and_aggregate(list, SHORT),
            true => fetch_and_aggregate(list, NEVER).source_timeout(SHORT),
        };
        let mut task = Task::new(run);
        let started = Instant::now();
        assert!(task.poll().is_pending());
        while started.elapsed() < 2 * SHORT {
            std::hint::spin_loop();
        }
        assert!(task.poll().is_pending());
        handles[0].answer(Ok(1));
        let aggregate = task
            .wait()
            .unwrap_or_else(|interrupted| interrupted.partial);
        assert_eq!(aggregate.results, [(0, 1)]);
    }
}

/// A clock that stands still.
struct Still(Instant);

impl Timer for Still {
    type Sleep = Pending<()>;

    fn now(&self) -> Instant {
        self.0
    }

    fn sleep_until(&self, _: Instant) -> Pending<()> {
        pending()
    }
}

#[test]
fn deadline_that_has_passed_at_the_first_poll_keeps_sources_from_being_polled() {
    let now = Instant::now();
    for deadline in [now, now - SHORT] {
        let (handles, list) = sources(2);
        let run = fetch_and_aggregate(list, NEVER);
        let ended = Task::new(run.timer(Still(now)).deadline(deadline)).finish();
        let interrupted = ended.unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        assert_eq!(interrupted.partial.unfinished, [0, 1]);
        assert_eq!(common::polls(&handles), [0, 0]);

        let (handles, list) = sources(2);
        let run = process_batch([list]).timer(Still(now)).deadline(deadline);
        let interrupted = Task::new(run).finish().unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
        let batch = interrupted.partial[0].as_ref().unwrap_err();
        assert_eq!(batch.partial.unfinished, [0, 1]);
        assert_eq!(common::polls(&handles), [0, 0]);

        let (handles, list) = sources(2);
        let (sender, _receiver) = async_channel::unbounded();
        let run = stream_results(list, sender).timer(Still(now));
        let interrupted = Task::new(run.deadline(deadline)).finish().unwrap_err();
        assert_eq!(interrupted.partial.unfinished, [0, 1]);
        assert_eq!(common::polls(&handles), [0, 0]);

        let (handles, list) = sources(2);
        let run = for_each_result(list, async |_| Ok::<_, ()>(())).timer(Still(now));
        let interrupted = Task::new(run.deadline(deadline)).finish().unwrap_err();
        assert_eq!(interrupted.partial.unfinished, [0, 1]);
        assert_eq!(common::polls(&handles), [0, 0]);
    }
}

#[test]
fn earlier_one_of_deadline_and_timeout_counts() {
    let now = Instant::now();
    let ends = |timeout, deadlines: &[Duration]| {
        let (_handles, list) = sources(1);
        let mut run = fetch_and_aggregate(list, timeout);
        for &after in deadlines {
            run = run.deadline(Instant::now() + after);
        }
        let interrupted = block_on(run).unwrap_err();
        assert_eq!(interrupted.reason, Reason::TimedOut);
    };
    let late = Duration::from_secs(3600);
    ends(NEVER, &[SHORT]);
    ends(SHORT, &[late]);
    ends(late, &[SHORT]);
    ends(NEVER, &[late, SHORT]);
    ends(NEVER, &[SHORT, late]);
    assert!(now.elapsed() < late);
}
