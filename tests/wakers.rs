//! Wakers: which sources a wake polls, and which wakers outlive the run.

mod common;

use common::{NEVER, Task, alive, polls, sources};
use futures_aggregate::{TestTimer, fetch_and_aggregate, process_batch, stream_results};

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
fn many_wakes_between_two_polls_wake_the_task_once() {
    let (handles, list) = sources(60);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    for handle in &handles {
        handle.wake();
        handle.wake();
    }
    assert_eq!(task.wakes(), 1);
}

#[test]
fn run_holds_one_waker_of_its_task_while_pending_and_none_afterwards() {
    let (handles, list) = sources(60);
    let (sender, receiver) = async_channel::unbounded();
    // The clock stands still, so that each poll reaches every source.
    let mut task = Task::new(stream_results(list, sender).timer(TestTimer::new()));
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
fn wakes_of_sources_by_other_threads_are_not_lost() {
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

#[test]
fn source_that_wakes_itself_as_the_run_is_dropped_does_not_wake_the_task() {
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    for handle in &handles {
        handle.keep_waker();
        let woken = handle.clone();
        handle.on_drop(move || woken.wake());
    }
    task.drop_future();
    assert_eq!((task.wakes(), alive(&handles)), (0, 0));
}

#[test]
fn waker_that_outlives_its_run_polls_no_source_of_a_later_run() {
    for held in [0..5, 2..3] {
        let (early, list) = sources(5);
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        assert!(task.settle().is_pending());
        early[held].iter().for_each(|handle| handle.keep_waker());
        early.iter().for_each(|handle| handle.answer(Ok(0)));
        assert!(task.finish().is_ok());
        drop(task);

        let (late, list) = sources(5);
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        assert!(task.settle().is_pending());
        early.iter().for_each(|handle| handle.wake());
        assert_eq!(task.wakes(), 0);
        assert!(task.poll().is_pending());
        assert_eq!(polls(&late), [1; 5]);
    }
}
