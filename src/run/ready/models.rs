//! The tree under loom, which tries every order in which threads can do what they do, up to a number
//! of preemptions. A wake that is lost leaves the poller waiting for ever, which loom reports.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use loom::sync::Notify;
use loom::thread;

use super::{Next, Ready};

/// The first slot beyond the root word, and one under another word.
const IN_SEGMENTS: [usize; 2] = [32, 96];

/// A task that waits until it is woken.
struct Task(Notify);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Tries every order of the model with up to three preemptions, and prints how many there were.
#[track_caller]
fn check(model: impl Fn() + Sync + Send + 'static) {
    check_up_to(3, model);
}

#[track_caller]
fn check_up_to(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!(
        "{} orders tried at {}",
        orders.load(Ordering::Relaxed),
        Location::caller()
    );
}

fn task() -> Arc<Task> {
    Arc::new(Task(Notify::new()))
}

/// What a source does that waits: it keeps the waker it is polled with.
fn kept(ready: &mut Ready, slot: usize) -> Waker {
    ready.cover(slot);
    let waker = ready.lend(slot).clone();
    assert!(ready.kept().is_some());
    waker
}

/// Polls the tree as a run does until all these slots were woken. No other may be, but one of these
/// may be twice.
fn poll_until(ready: &mut Ready, task: &Arc<Task>, slots: &[usize]) {
    let waker = Waker::from(Arc::clone(task));
    let mut left = slots.to_vec();
    loop {
        ready.begin_poll();
        ready.start_sweep(false);
        while let Some(slot) = ready.next() {
            assert!(slots.contains(&slot));
            left.retain(|&left| left != slot);
        }
        if left.is_empty() {
            return;
        }
        let next = match ready.has_work() {
            true => Next::Again,
            false => Next::Wait,
        };
        ready.end_poll(&waker, next);
        task.0.wait();
    }
}

fn in_threads(wakers: Vec<Waker>) -> Vec<thread::JoinHandle<()>> {
    let wake = |waker: Waker| thread::spawn(move || waker.wake());
    wakers.into_iter().map(wake).collect()
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

/// Slots are woken by threads of their own, each once, while the tree is polled. Three threads have
/// so many orders that one preemption has to do.
#[track_caller]
fn every_wake_is_seen(slots: &'static [usize]) {
    let preemptions = if slots.len() > 2 { 1 } else { 3 };
    check_up_to(preemptions, move || {
        let mut ready = Ready::new();
        let wakers = slots.iter().map(|&slot| kept(&mut ready, slot)).collect();
        let threads = in_threads(wakers);
        let task = task();
        poll_until(&mut ready, &task, slots);
        join(threads);
    });
}

#[test]
fn wakes_in_the_root_word_are_seen() {
    every_wake_is_seen(&[0, 1]);
}

#[test]
fn wakes_in_one_word_are_seen() {
    every_wake_is_seen(&[32, 33]);
}

#[test]
fn wakes_in_two_segments_are_seen() {
    every_wake_is_seen(&IN_SEGMENTS);
}

#[test]
fn wakes_in_two_words_of_a_segment_are_seen() {
    every_wake_is_seen(&[96, 160]);
}

#[test]
fn wakes_of_three_threads_are_seen() {
    every_wake_is_seen(&[0, 32, 33]);
}

#[test]
fn wakes_are_seen_while_the_tree_grows() {
    check(|| {
        let mut ready = Ready::new();
        let threads = in_threads(vec![kept(&mut ready, 32)]);
        let task = task();
        ready.begin_poll();
        ready.start_sweep(false);
        let early: Vec<_> = std::iter::from_fn(|| ready.next()).collect();
        let late = kept(&mut ready, 96);
        ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Again);
        task.0.wait();
        late.wake();
        let slots: &[usize] = if early.is_empty() { &[32, 96] } else { &[96] };
        poll_until(&mut ready, &task, slots);
        join(threads);
    });
}

#[test]
fn wakes_reach_the_task_that_polled_last() {
    check(|| {
        let mut ready = Ready::new();
        let wakers = [0, 32].map(|slot| kept(&mut ready, slot));
        let first = Waker::from(task());
        ready.begin_poll();
        ready.end_poll(&first, Next::Wait);
        let threads = in_threads(wakers.into());
        poll_until(&mut ready, &task(), &[0, 32]);
        join(threads);
    });
}

/// While the task waits, the first slot to be woken is named by its number, and the second makes
/// bits of both.
#[test]
fn wakes_of_a_waiting_task_are_seen() {
    for slots in [[32, 33], [32, 96], [0, 32]] {
        check(move || {
            let mut ready = Ready::new();
            let wakers = slots.map(|slot| kept(&mut ready, slot));
            let task = task();
            ready.begin_poll();
            ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Wait);
            let threads = in_threads(wakers.into());
            task.0.wait();
            poll_until(&mut ready, &task, &slots);
            join(threads);
        });
    }
}

#[test]
fn tree_that_is_dropped_meanwhile_lets_go_of_its_task() {
    check(|| {
        let mut ready = Ready::new();
        let wakers = [0, 32].map(|slot| kept(&mut ready, slot));
        let task = task();
        ready.begin_poll();
        ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Wait);
        let threads = in_threads(wakers.into());
        drop(ready);
        join(threads);
        assert_eq!(Arc::strong_count(&task), 1);
    });
}

#[test]
fn waker_that_was_lent_wakes_the_slot_it_was_lent_to() {
    check(|| {
        let mut ready = Ready::new();
        // The source of slot 1 hands its waker to a thread, and answers.
        let waker = ready.lend(1).clone();
        let threads = in_threads(vec![waker]);
        // The waker may be free by now, and may be not.
        let _ = ready.lend(2);
        let task = task();
        poll_until(&mut ready, &task, &[1]);
        join(threads);
    });
}
