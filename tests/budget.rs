//! One poll does a bounded amount of work, and what it leaves behind is not forgotten.

mod common;

use common::{NEVER, Task, polls, ready, source, sources};
use futures_aggregate::{fetch_and_aggregate, process_batch, stream_results};

/// More sources than one poll of a run may poll.
const MANY: usize = 5000;

/// No poll of a run polls more sources than this.
const BOUND: usize = 1000;

#[test]
fn starting_many_sources_yields_in_between() {
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
fn list_of_sources_that_are_all_ready_yields_in_between() {
    let list = (0..MANY).map(|id| (id, ready(Ok(0))));
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.poll().is_pending());
    assert!(task.is_woken());
    assert_eq!(task.finish().unwrap().results.len(), MANY);
}

#[test]
fn many_sources_woken_at_once_are_polled_over_several_polls_each_once() {
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
fn sources_that_wake_themselves_for_ever_take_turns() {
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
    let (handles, list) = sources(1000);
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
fn sources_woken_before_the_deadline_are_heard_even_if_one_poll_cannot_reach_them() {
    let (handles, list) = sources(MANY);
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).expire_on(timer));
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
fn time_is_up_after_one_last_look_at_sources_that_wake_themselves_for_ever() {
    let (handles, list) = sources(MANY);
    handles.iter().for_each(common::Handle::never_rests);
    let (deadline, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).expire_on(timer));
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
fn stream_of_many_ready_sources_yields_in_between() {
    let (sender, receiver) = async_channel::unbounded();
    let list = (0..MANY).map(|id| (id, ready(Ok(0))));
    let mut task = Task::new(stream_results(list, sender));
    assert!(task.poll().is_pending());
    assert!(receiver.len() <= BOUND);
    assert_eq!(task.finish().unwrap().delivered, MANY);
}
