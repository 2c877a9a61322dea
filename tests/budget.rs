//! The budget of a poll: one poll does a bounded amount of work, and the next polls do the rest.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{Handle, NEVER, Task, alive, polls, ready, source, sources};
use futures_aggregate::{Reason, TestTimer, fetch_and_aggregate, process_batch, stream_results};

/// More sources than one poll of a run may poll.
const MANY: usize = 5000;

/// No poll of a run polls more sources than this.
const BOUND: usize = 1000;

/// As many sources as the budget of one poll allows to poll.
const ALL_OF_ONE_POLL: usize = 64;

/// Polls until the run has ended. Panics if that takes longer than `limit`.
fn finish_within<F: Future>(task: &mut Task<F>, limit: Duration) -> F::Output {
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Poll::Ready(output) = task.poll() {
            return output;
        }
    }
    panic!("still running after {limit:?}");
}

#[test]
fn starting_many_sources_takes_several_polls() {
    let (handles, list) = sources(MANY);
    let started = || polls(&handles).iter().sum::<usize>();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    let mut before = 0;
    while before < MANY {
        assert!(task.poll().is_pending());
        let now = started();
        assert!(now > before && now - before <= BOUND);
        assert_eq!(task.is_woken(), now < MANY);
        before = now;
    }
}

#[test]
fn many_ready_sources_take_several_polls() {
    let list = (0..MANY).map(|id| (id, ready(Ok(0))));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.poll().is_pending());
    assert!(task.is_woken());
    assert_eq!(task.finish().unwrap().results.len(), MANY);
}

#[test]
fn many_sources_woken_at_once_are_each_polled_once_over_several_polls() {
    let (handles, list) = sources(MANY);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    for handle in &handles {
        handle.wake();
    }
    assert!(task.poll().is_pending());
    assert!(polls(&handles).iter().sum::<usize>() - MANY <= BOUND);
    assert!(task.is_woken());
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), vec![2; MANY]);
}

#[test]
fn sources_that_wake_themselves_for_ever_are_all_polled() {
    let (handles, list) = sources(MANY);
    handles.iter().for_each(common::Handle::never_rests);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    while polls(&handles).iter().sum::<usize>() < 10 * MANY {
        assert!(task.poll().is_pending());
    }
    let polls = polls(&handles);
    let (least, most) = (polls.iter().min(), polls.iter().max());
    assert!(least > Some(&1), "{least:?} to {most:?} polls");
}

#[test]
fn sources_that_wake_themselves_for_ever_do_not_keep_others_from_being_started() {
    let (handles, mut list) = sources(1000);
    handles.iter().for_each(common::Handle::never_rests);
    let (last, future) = source();
    list.push((1000, future));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    for _ in 0..100 {
        assert!(task.poll().is_pending());
    }
    assert_eq!(last.polls(), 1);
}

#[test]
fn cancel_is_seen_while_sources_wake_themselves_for_ever() {
    let (handles, list) = sources(300);
    handles.iter().for_each(common::Handle::never_rests);
    let (cancel, signal) = source();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    for _ in 0..10 {
        assert!(task.poll().is_pending());
    }
    cancel.answer(Ok(0));
    assert!(task.poll().is_ready());
}

#[test]
fn batches_share_one_budget() {
    let (handles, list) = sources(MANY);
    let mut flat = list.into_iter();
    let batches: Vec<Vec<_>> = (0..50).map(|_| flat.by_ref().take(100).collect()).collect();
    let mut task = Task::new(process_batch(batches));
    assert!(task.poll().is_pending());
    assert!(polls(&handles).iter().sum::<usize>() <= BOUND);
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), vec![1; MANY]);
    for handle in &handles {
        handle.answer(Ok(1));
    }
    assert_eq!(task.finish().unwrap().len(), 50);
}

#[test]
fn batch_of_sources_that_wake_themselves_for_ever_does_not_starve_the_others() {
    let (handles, mut list) = sources(2000);
    handles[..1000].iter().for_each(common::Handle::never_rests);
    let second = list.split_off(1000);
    let mut task = Task::new(process_batch([list, second]));
    for _ in 0..200 {
        assert!(task.poll().is_pending());
    }
    assert_eq!(polls(&handles[1000..]), vec![1; 1000]);
}

#[test]
fn results_beat_the_deadline_even_if_one_poll_cannot_reach_all_sources() {
    let (handles, list) = sources(MANY);
    let (deadline, timer) = source();
    let mut task = Task::new(
        fetch_and_aggregate(list, NEVER)
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    assert!(task.settle().is_pending());
    for handle in &handles[1..] {
        handle.answer(Ok(1));
    }
    deadline.answer(Ok(0));
    let partial = task.finish().unwrap_err().partial;
    assert_eq!(partial.results.len(), MANY - 1);
    assert_eq!(partial.unfinished, [0]);
}

#[test]
fn time_is_up_after_one_last_poll_of_sources_that_wake_themselves_for_ever() {
    let (handles, list) = sources(MANY);
    handles.iter().for_each(common::Handle::never_rests);
    let (deadline, timer) = source();
    let mut task = Task::new(
        fetch_and_aggregate(list, NEVER)
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    while polls(&handles).contains(&0) {
        assert!(task.poll().is_pending());
    }
    deadline.answer(Ok(0));
    let before = polls(&handles).iter().sum::<usize>();
    assert!(task.settle().is_ready());
    let after = polls(&handles).iter().sum::<usize>();
    assert!(after - before <= 2 * MANY);
}

#[test]
fn streaming_many_ready_sources_takes_several_polls() {
    let (sender, receiver) = async_channel::unbounded();
    let list = (0..MANY).map(|id| (id, ready(Ok(0))));
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.poll().is_pending());
    assert!(receiver.len() <= BOUND);
    assert_eq!(task.finish().unwrap().delivered, MANY);
}

#[test]
fn timeouts_of_sources_hold_while_busy_sources_spend_the_whole_budget() {
    for busy in [ALL_OF_ONE_POLL, ALL_OF_ONE_POLL + 1, 4 * ALL_OF_ONE_POLL] {
        let (handles, list) = sources(busy);
        handles.iter().for_each(common::Handle::never_rests);
        let run = fetch_and_aggregate(list, NEVER).source_timeout(Duration::from_millis(20));
        let aggregate = finish_within(&mut Task::new(run), Duration::from_secs(20)).unwrap();
        assert_eq!(aggregate.errors.len(), busy);
    }
}

#[test]
fn timeouts_of_batches_hold_while_busy_sources_spend_the_whole_budget() {
    for in_each in [1, ALL_OF_ONE_POLL] {
        let (handles, list) = sources(ALL_OF_ONE_POLL);
        handles.iter().for_each(common::Handle::never_rests);
        let mut list = list.into_iter();
        let batches: Vec<Vec<_>> = (0..ALL_OF_ONE_POLL / in_each)
            .map(|_| list.by_ref().take(in_each).collect())
            .collect();
        let run = process_batch(batches).batch_timeout(Duration::from_millis(20));
        let outcomes = finish_within(&mut Task::new(run), Duration::from_secs(20)).unwrap();
        assert!(outcomes.iter().all(Result::is_err));
    }
}

#[test]
fn batch_that_spends_the_whole_budget_does_not_keep_another_from_being_started() {
    let (handles, list) = sources(ALL_OF_ONE_POLL + 1);
    handles.iter().for_each(common::Handle::never_rests);
    let (last, future) = source();
    let run = process_batch([list, vec![(9999, future)]])
        .source_concurrency(ALL_OF_ONE_POLL)
        .batch_timeout(NEVER);
    let mut task = Task::new(run);
    for _ in 0..100 {
        assert!(task.poll().is_pending());
    }
    assert!(last.polls() > 0);
}

#[test]
fn batch_with_one_source_poll_in_each_poll_starts_and_polls_all_its_sources() {
    let (handles, mut list) = sources(ALL_OF_ONE_POLL - 1 + 300);
    handles.iter().for_each(common::Handle::never_rests);
    let second = list.split_off(ALL_OF_ONE_POLL - 1);
    let mut task = Task::new(process_batch([list, second]).batch_timeout(NEVER));
    for _ in 0..2000 {
        assert!(task.poll().is_pending());
    }
    let polls = polls(&handles[ALL_OF_ONE_POLL - 1..]);
    assert!(polls.iter().all(|&polls| polls > 1), "{polls:?}");
}

#[test]
fn result_beats_the_deadline_even_if_the_sweep_has_passed_its_source() {
    let (handles, list) = sources(4 * ALL_OF_ONE_POLL);
    let (deadline, timer) = source();
    let mut task = Task::new(
        fetch_and_aggregate(list, NEVER)
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    assert!(task.settle().is_pending());
    handles.iter().for_each(common::Handle::wake);
    assert!(task.poll().is_pending());
    assert_eq!(handles[0].polls(), 2);
    handles[0].answer(Ok(1));
    deadline.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().partial.results, [(0, 1)]);
}

#[test]
fn results_beat_the_deadline_of_the_whole_in_a_batch_that_one_poll_cannot_reach() {
    let (handles, list) = sources(MANY);
    let (deadline, timer) = source();
    let mut task = Task::new(
        process_batch([list])
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    assert!(task.settle().is_pending());
    for handle in &handles {
        handle.answer(Ok(1));
    }
    deadline.answer(Ok(0));
    let outcomes = task.finish().unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().results.len(), MANY);

    let (handles, list) = sources(MANY);
    let (deadline, timer) = source();
    let mut task = Task::new(
        process_batch([list])
            .expire_on(timer)
            .timer(TestTimer::new()),
    );
    assert!(task.settle().is_pending());
    for handle in &handles[1..] {
        handle.answer(Ok(1));
    }
    deadline.answer(Ok(0));
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    let batch = interrupted.partial[0].as_ref().unwrap_err();
    assert_eq!(batch.reason, Reason::TimedOut);
    assert_eq!(batch.partial.results.len(), MANY - 1);
    assert_eq!(batch.partial.unfinished, [0]);
}

#[test]
fn results_beat_the_timeout_of_a_batch_that_one_poll_cannot_reach() {
    let (handles, list) = sources(MANY);
    let timeout = Duration::from_millis(300);
    let run = process_batch([list])
        .batch_timeout(timeout)
        .source_concurrency(MANY);
    let mut task = Task::new(run);
    let started = Instant::now();
    assert!(task.settle().is_pending());
    for handle in &handles {
        handle.answer(Ok(1));
    }
    while started.elapsed() < timeout {
        std::hint::spin_loop();
    }
    let outcomes = task.wait().unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().results.len(), MANY);
}

#[test]
fn poll_polls_no_more_sources_than_its_budget() {
    let list = (0..ALL_OF_ONE_POLL + 1).map(|id| (id, ready(Ok(0))));
    let run = fetch_and_aggregate(list, Duration::ZERO).timer(TestTimer::new());
    let partial = Task::new(run).finish().unwrap_err().partial;
    assert_eq!(partial.results.len(), ALL_OF_ONE_POLL);
    assert_eq!(partial.unfinished, [ALL_OF_ONE_POLL]);
}

#[test]
fn run_that_uses_its_budget_exactly_completes_in_the_same_poll() {
    for len in ALL_OF_ONE_POLL - 1..ALL_OF_ONE_POLL + 1 {
        let is_complete = |_| {
            let list = (0..len).map(|id| (id, ready(Ok(0))));
            let poll = Task::new(fetch_and_aggregate(list, Duration::ZERO)).poll();
            matches!(poll, Poll::Ready(Ok(aggregate)) if aggregate.results.len() == len)
        };
        // If the thread is preempted in the poll, the time of the poll may be up earlier.
        assert!((0..100).any(is_complete), "{len}");
    }
}

#[test]
fn queued_outcomes_are_delivered_over_several_polls() {
    let (sender, receiver) = async_channel::bounded(1);
    let list = (0..MANY).map(|id| (id, ready(Ok(0))));
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.settle().is_pending());
    let mut received = 0;
    while task.poll().is_pending() {
        received += receiver.try_recv().into_iter().count();
    }
    assert_eq!(received + receiver.len(), MANY);
    assert!(receiver.is_closed());

    // A channel that other senders have filled, until the receiver makes room for everything at once.
    let (sender, receiver) = async_channel::bounded(MANY);
    (0..MANY).for_each(|id| sender.try_send((id, Ok(0))).unwrap());
    let list = (0..MANY).map(|id| (id, ready(Ok(0))));
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.settle().is_pending());
    while receiver.try_recv().is_ok() {}
    assert!(task.poll().is_pending());
    assert!(receiver.len() <= BOUND);
    assert_eq!(task.finish().unwrap().delivered, MANY);
}

/// A poll ends early if the thread is preempted in it, because its time is up then. So the test tries
/// several times.
#[test]
fn source_that_panics_in_a_sweep_costs_no_more_than_its_own_poll() {
    let starts_as_many_again = |_| {
        let (handle, first) = source();
        let started = Arc::new(AtomicUsize::new(0));
        let counted = started.clone();
        let rest = (1..).map(move |id| {
            counted.fetch_add(1, Ordering::Relaxed);
            (id, ready(Ok(0)))
        });
        let list = std::iter::once((0, first)).chain(rest);
        let mut task = Task::new(fetch_and_aggregate(list, NEVER).catch_panics());
        assert!(task.poll().is_pending());
        let before = started.load(Ordering::Relaxed);
        // Without the panic hook, whose message takes longer than the time of a poll.
        handle.on_poll(|_| std::panic::resume_unwind(Box::new("in a sweep")));
        handle.wake();
        assert!(task.poll().is_pending());
        assert!(!handle.is_alive());
        started.load(Ordering::Relaxed) - before == before
    };
    assert!((0..100).any(starts_as_many_again));
}

#[test]
fn sources_that_wake_themselves_and_that_one_poll_cannot_reach_do_not_delay_the_end_of_a_batch() {
    let (handles, list) = sources(300);
    handles.iter().for_each(Handle::never_rests);
    let (deadline, timer) = source();
    let run = process_batch([list]).batch_timeout(NEVER).expire_on(timer);
    let mut task = Task::new(run);
    assert!(task.poll().is_pending());
    deadline.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().reason, Reason::TimedOut);
    assert_eq!(alive(&handles), 0);
}
