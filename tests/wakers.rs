//! Wakers: who is polled because of one, and what outlives the run.

mod common;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};

use common::{NEVER, Task, polls, source, sources};
use futures_aggregate::{Reason, fetch_and_aggregate, process_batch, stream_results};

#[test]
fn only_woken_sources_are_polled() {
    let (handles, list) = sources(200);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    handles[63].wake();
    handles[64].wake();
    handles[199].wake();
    assert!(task.settle().is_pending());
    let again: Vec<_> = (0..200).filter(|&id| handles[id].polls() == 2).collect();
    assert_eq!(again, [63, 64, 199]);
    assert_eq!(polls(&handles).iter().sum::<usize>(), 203);
}

#[test]
fn spurious_poll_polls_no_source() {
    let (handles, list) = sources(3);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    for _ in 0..3 {
        assert!(task.poll().is_pending());
    }
    assert_eq!(polls(&handles), [1, 1, 1]);
    assert_eq!(task.wakes(), 0);
}

#[test]
fn many_wakes_between_two_polls_wake_the_task_once() {
    let (handles, list) = sources(100);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    for handle in &handles {
        handle.wake();
        handle.wake();
    }
    assert_eq!(task.wakes(), 1);
}

#[test]
fn source_that_wakes_itself_is_polled_once_in_each_poll() {
    let (handles, list) = sources(1);
    handles[0].never_rests();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    for poll in 1..10 {
        assert!(task.poll().is_pending());
        assert_eq!(handles[0].polls(), poll);
        assert!(task.is_woken());
    }
}

#[test]
fn run_follows_the_task_that_polled_it_last() {
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    let other = Task::new(std::future::pending::<()>());
    assert!(task.poll().is_pending());
    assert!(task.poll_with(&other.waker()).is_pending());
    handles[0].answer(Ok(1));
    assert_eq!((task.wakes(), other.wakes()), (0, 1));
    assert_eq!(task.wakers(), 0);

    assert!(task.poll().is_pending());
    handles[1].answer(Ok(2));
    assert_eq!((task.wakes(), other.wakes()), (1, 1));
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
}

#[test]
fn stale_waker_costs_the_next_source_of_its_slot_one_poll_at_the_most() {
    let (handles, list) = sources(2);
    let stale = Arc::new(Mutex::new(None));
    let kept = stale.clone();
    handles[0].on_poll(move |waker| *kept.lock().unwrap() = Some(waker.clone()));
    handles[0].answer(Ok(1));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(1));
    assert!(task.settle().is_pending());
    let stale = stale.lock().unwrap().take().unwrap();
    stale.wake_by_ref();
    stale.wake_by_ref();
    assert!(task.settle().is_pending());
    assert_eq!(handles[1].polls(), 2);
    handles[1].answer(Ok(2));
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
}

#[test]
fn stale_waker_of_an_empty_slot_is_harmless() {
    let (handles, list) = sources(2);
    handles[0].keep_waker();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    handles[0].wake();
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [2, 1]);
}

#[test]
fn waker_that_outlives_the_run_wakes_nobody_and_holds_nothing() {
    for drops in [true, false] {
        let (handles, list) = sources(2);
        handles[0].keep_waker();
        let (cancel, signal) = source();
        cancel.keep_waker();
        let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
        assert!(task.settle().is_pending());
        if drops {
            task.drop_future();
        } else {
            handles[0].answer(Ok(1));
            handles[1].answer(Ok(2));
            assert!(task.finish().is_ok());
        }
        let wakes = task.wakes();
        handles[0].wake();
        cancel.wake();
        assert_eq!(task.wakes(), wakes);
        assert_eq!(task.wakers(), 0);
        assert_eq!(common::alive(&handles), 0);
    }
}

#[test]
fn task_waker_is_held_once_while_pending_and_not_at_all_afterwards() {
    let (handles, list) = sources(70);
    let (sender, receiver) = async_channel::unbounded();
    let mut task = Task::new(stream_results(list, sender));
    for _ in 0..3 {
        assert!(task.poll().is_pending());
        assert_eq!(task.wakers(), 1);
    }
    for handle in &handles {
        handle.answer(Ok(0));
    }
    assert!(task.finish().is_ok());
    assert_eq!(task.wakers(), 0);
    drop(receiver);
}

#[test]
fn source_that_keeps_its_own_waker_is_no_cycle() {
    let witness = Arc::new(());
    let seen = witness.clone();
    let keeps = async move {
        let _seen = seen;
        let mut kept = None;
        std::future::poll_fn(|cx| {
            kept = Some(cx.waker().clone());
            Poll::<Result<u32, ()>>::Pending
        })
        .await
    };
    let mut task = Task::new(fetch_and_aggregate([(0, keeps)], NEVER));
    assert!(task.settle().is_pending());
    task.drop_future();
    assert_eq!(Arc::strong_count(&witness), 1);
    assert_eq!(task.wakers(), 0);
}

#[test]
fn drop_of_a_source_may_wake_the_run_that_drops_it() {
    let (handles, list) = sources(3);
    let (cancel, signal) = source();
    for (id, handle) in handles.iter().enumerate() {
        handle.keep_waker();
        let others = handles.clone();
        handle.on_drop(move || others[(id + 1) % 3].wake());
    }
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    cancel.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().reason, Reason::Cancelled);
    assert_eq!(common::alive(&handles), 0);
}

#[test]
fn runs_within_runs_do_not_multiply_polls() {
    let (handles, mut list) = sources(4);
    let inner = fetch_and_aggregate(list.split_off(2), NEVER);
    let outer_sources = [(0, inner)];
    let mut task = Task::new(fetch_and_aggregate(
        [(0, fetch_and_aggregate(outer_sources, NEVER))],
        NEVER,
    ));
    assert!(task.settle().is_pending());
    handles[3].wake();
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [0, 0, 1, 2]);
    handles[2].answer(Ok(1));
    handles[3].answer(Ok(2));
    assert!(task.finish().is_ok());
}

#[test]
fn sources_woken_by_other_threads_are_all_heard() {
    for _ in 0..50 {
        let (handles, list) = sources(130);
        let mut flat = list.into_iter();
        let batches: Vec<Vec<_>> = (0..13).map(|_| flat.by_ref().take(10).collect()).collect();
        let run = process_batch(batches);
        let (even, odd): (Vec<_>, Vec<_>) = handles
            .into_iter()
            .enumerate()
            .partition(|(id, _)| id % 2 == 0);
        let outcomes = std::thread::scope(|scope| {
            for half in [even, odd] {
                scope.spawn(move || {
                    for (_, handle) in half.iter().rev() {
                        handle.answer(Ok(1));
                    }
                });
            }
            futures::executor::block_on(run).unwrap()
        });
        let answered: usize = outcomes
            .iter()
            .map(|batch| batch.as_ref().unwrap().results.len())
            .sum();
        assert_eq!(answered, 130);
    }
}

/// A task that polls its future at once when it is woken, and for another task.
struct PollsAtOnce<F: Future> {
    task: Mutex<Task<F>>,
    for_task: Waker,
    polls: AtomicUsize,
}

impl<F: Future + Send + 'static> Wake for PollsAtOnce<F> {
    fn wake(self: Arc<Self>) {
        self.polls.fetch_add(1, Ordering::SeqCst);
        let mut task = self.task.lock().unwrap();
        assert!(task.poll_with(&self.for_task).is_pending());
    }
}

#[test]
fn task_that_polls_at_once_when_it_is_woken_can_wait_again() {
    let (handles, list) = sources(1);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    let last = Task::new(std::future::pending::<()>());
    let polls_at_once = Arc::new(PollsAtOnce {
        task: Mutex::new(task),
        for_task: last.waker(),
        polls: AtomicUsize::new(0),
    });
    // The run has moved.
    let waker = Waker::from(polls_at_once.clone());
    let poll = polls_at_once.task.lock().unwrap().poll_with(&waker);
    assert!(poll.is_pending());
    drop(waker);
    handles[0].wake();
    assert_eq!(polls_at_once.polls.load(Ordering::SeqCst), 1);
    handles[0].wake();
    assert_eq!(polls_at_once.polls.load(Ordering::SeqCst), 1);
    assert_eq!(last.wakes(), 1);
}
