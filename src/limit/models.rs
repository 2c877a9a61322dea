//! The queue of a limit that threads share, in every interleaving up to a number of preemptions. If a wake is
//! lost, a thread waits for ever, which loom reports as a deadlock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Wake, Waker};

use loom::sync::Notify;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

use super::{Limit, Released};

/// Tries every interleaving of the model with up to two preemptions.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// A task that waits until it is woken.
struct Task(Notify);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// A source under the limit. Returns the most that were in flight with it.
fn run_source(limit: &Limit, in_flight: &AtomicUsize) -> usize {
    let task = Arc::new(Task(Notify::new()));
    let waker = Waker::from(Arc::clone(&task));
    let cx = &mut Context::from_waker(&waker);
    let mut place = Released {
        limit: limit.clone(),
        weight: 1,
        is_released: true,
        ticket: None,
    };
    while place.poll_take(cx).is_pending() {
        task.0.wait();
    }
    let together = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    in_flight.fetch_sub(1, Ordering::SeqCst);
    limit.give_back(1);
    together
}

#[test]
fn two_runs_take_turns_under_a_limit() {
    check(|| {
        let limit = Limit::new(1);
        let in_flight = Arc::new(AtomicUsize::new(0));
        let other = {
            let (limit, in_flight) = (limit.clone(), Arc::clone(&in_flight));
            thread::spawn(move || assert_eq!(run_source(&limit, &in_flight), 1))
        };
        assert_eq!(run_source(&limit, &in_flight), 1);
        other.join().unwrap();
        assert_eq!(limit.in_use(), 0);
    });
}

#[test]
fn limit_that_is_changed_while_two_runs_wait_lets_both_start() {
    check(|| {
        let limit = Limit::new(1);
        assert!(limit.try_take(1));
        let in_flight = Arc::new(AtomicUsize::new(0));
        let run = || {
            let (limit, in_flight) = (limit.clone(), Arc::clone(&in_flight));
            thread::spawn(move || assert!(run_source(&limit, &in_flight) <= 2))
        };
        let runs = [run(), run()];
        limit.set(2);
        limit.set(1);
        limit.give_back(1);
        runs.into_iter().for_each(|run| run.join().unwrap());
        assert_eq!(limit.in_use(), 0);
    });
}

#[test]
fn run_that_leaves_the_queue_passes_its_place_on() {
    check(|| {
        let limit = Limit::new(1);
        assert!(limit.try_take(1));
        let other = {
            let (limit, in_flight) = (limit.clone(), AtomicUsize::new(0));
            thread::spawn(move || assert_eq!(run_source(&limit, &in_flight), 1))
        };
        assert!(!limit.try_take(1));
        let ticket = limit.wait(1, Waker::noop().clone());
        assert!(!ticket.take());
        limit.give_back(1);
        // It is dropped whether the place was granted to it or not.
        drop(ticket);
        other.join().unwrap();
        assert_eq!(limit.in_use(), 0);
    });
}
