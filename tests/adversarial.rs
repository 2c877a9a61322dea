//! Failures that other crates of this field had, with a test for each. This file is about wakers. The
//! failures by panics and drops are in `adversarial_drops.rs`, and those by sizes, time and receivers in
//! `adversarial_loads.rs`. These have their tests elsewhere:
//!
//! | | |
//! |---|---|
//! | a wake between the scan and the registration, in every order of threads | `src/scheduler/ready/models.rs` |
//! | a runtime's cooperative budget (futures-rs #2526, tokio #2390) | `tests/executors/tests/tokio.rs` |
//! | sources that panic when they are polled or dropped, at every point of a run | `tests/exhaustive.rs` |
//! | iterators that panic before their end | `tests/bad_lists.rs` |
//! | a wake while the run is dropped, in every order of threads | `src/scheduler/ready/models.rs` |
//! | timeouts of zero and of the maximum, and sources that are always ready | `tests/bad_durations.rs`, `tests/bad_lists.rs` |
//! | operations that are `Send` if their parts are (futures-rs #2788, #3003) | `tests/auto_traits.rs`, `tests/types.rs` |

mod common;

use std::future::{pending, poll_fn};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::counting::{Counting, Counts};
use common::waker::{Use, waker};
use common::{NEVER, Task, alive, panic_of, polls, source, sources};
use futures::executor::block_on;
use futures_aggregate::{Reason, fetch_and_aggregate};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// futures-rs #1006.
#[test]
fn wake_between_the_scan_and_the_registration_is_not_lost() {
    for slot in [0, 59] {
        let (handles, list) = sources(60);
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        let woken = handles[slot].clone();
        let own = task.waker();
        // The source is woken when the poll clones the waker to register it, after all sources were polled.
        let registers = waker(move |usage| match usage {
            Use::Clone => woken.answer(Ok(1)),
            Use::Wake => own.wake_by_ref(),
            Use::Drop => {}
        });
        assert!(task.poll_with(&registers).is_pending());
        assert!(task.is_woken());
        assert!(task.settle().is_pending());
        assert!(!handles[slot].is_alive());
    }
}

/// The failure: a set clears the ready flag of a source after it has polled the source.
#[test]
fn source_that_wakes_itself_while_it_is_polled_is_polled_again() {
    for slot in [0, 99] {
        let (handles, list) = sources(100);
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        assert!(task.settle().is_pending());
        let mut once = Some(());
        handles[slot].on_poll(move |waker| {
            if once.take().is_some() {
                waker.wake_by_ref();
            }
        });
        handles[slot].wake();
        assert!(task.settle().is_pending());
        assert_eq!(handles[slot].polls(), 3);
    }
}

/// futures-rs #2047, #2049, #2333.
#[test]
fn source_that_wakes_itself_for_ever_is_polled_once_in_each_poll() {
    let (handles, list) = sources(1);
    handles[0].never_rests();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    for poll in 1..10 {
        assert!(task.poll().is_pending());
        assert_eq!(handles[0].polls(), poll);
        assert!(task.is_woken());
    }
}

/// tokio #3516.
#[test]
fn nested_runs_do_not_multiply_polls() {
    let (handles, mut list) = sources(4);
    let inner = fetch_and_aggregate(list.split_off(2), NEVER);
    let middle = fetch_and_aggregate([(0, inner)], NEVER);
    let mut task = Task::new(fetch_and_aggregate([(0, middle)], NEVER));
    assert!(task.settle().is_pending());
    handles[3].wake();
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [0, 0, 1, 2]);
    handles[2].answer(Ok(1));
    handles[3].answer(Ok(2));
    assert!(task.finish().is_ok());
}

/// futures-rs #2725.
#[test]
fn run_that_moves_between_tasks_wakes_the_task_that_polled_it_last() {
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    let other = Task::new(pending::<()>());
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

/// futures-rs #1603.
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

/// futures-buffered #5, #10.
#[test]
fn stale_waker_costs_the_next_source_in_its_slot_at_most_one_poll() {
    let (handles, list) = sources(2);
    handles[0].keep_waker();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).concurrency(1));
    assert!(task.settle().is_pending());
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [2, 1]);
    handles[0].wake();
    handles[0].wake();
    assert!(task.settle().is_pending());
    assert_eq!(polls(&handles), [2, 2]);
    handles[1].answer(Ok(2));
    assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
}

/// futures-buffered #5, #10.
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

/// The failure: a set holds the waker of its task for as long as one of its own wakers exists.
#[test]
fn wake_after_the_end_or_the_drop_of_a_run_does_not_wake_its_task() {
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
        assert_eq!(alive(&handles), 0);
    }
}

/// The failure: a waker owns the source that it wakes.
#[test]
fn source_that_stores_its_own_waker_is_dropped_with_the_run() {
    let witness = Arc::new(());
    let seen = witness.clone();
    let keeps = async move {
        let _seen = seen;
        let mut kept = None;
        poll_fn(|cx| {
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

/// tokio #5861, futures-rs #853.
#[test]
fn waker_that_outlives_the_run_retains_a_few_bytes_and_no_source() {
    let kept = Mutex::new(None);
    let large = async {
        let large = [0_u8; 10_000];
        poll_fn(|cx| {
            *kept.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        })
        .await;
        Ok::<_, ()>(large.len())
    };
    let before = Counts::now();
    let mut task = Task::new(fetch_and_aggregate([(0, large)], NEVER));
    assert!(task.settle().is_pending());
    assert!(before.bytes_since() > 10_000);
    drop(task);
    assert!(kept.lock().unwrap().is_some());
    assert!(before.bytes_since() < 200, "{}", before.bytes_since());
}

/// tokio #5429, #5578.
#[test]
fn waker_used_under_a_lock_calls_nothing_but_the_wake_of_the_task() {
    let lock = Arc::new(Mutex::new(()));
    let needs_the_lock = || {
        let lock = lock.clone();
        move || drop(lock.try_lock().expect("the lock is free"))
    };
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (handles, list) = sources(2);
    let (signal, cancel) = source();
    for handle in handles.iter().chain([&signal]) {
        let (kept, when_polled) = (kept.clone(), needs_the_lock());
        handle.on_poll(move |waker| {
            when_polled();
            kept.lock().unwrap().push(waker.clone());
        });
        handle.on_drop(needs_the_lock());
    }
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(cancel));
    let when_held = needs_the_lock();
    let own = task.waker();
    let own = waker(move |usage| match usage {
        Use::Clone | Use::Drop => when_held(),
        Use::Wake => own.wake_by_ref(),
    });
    let use_all_wakers = || {
        let wakers = std::mem::take(&mut *kept.lock().unwrap());
        let _held = lock.lock().unwrap();
        for waker in wakers.iter().cloned() {
            waker.wake_by_ref();
            waker.wake();
        }
        let kept = wakers.clone();
        drop(wakers);
        kept
    };
    assert!(task.poll_with(&own).is_pending());
    let used = use_all_wakers();
    kept.lock().unwrap().extend(used);
    assert!(task.is_woken());
    assert!(task.poll_with(&own).is_pending());
    let used = use_all_wakers();
    kept.lock().unwrap().extend(used);
    task.drop_future();
    let last = use_all_wakers();
    let _held = lock.lock().unwrap();
    assert_eq!(last.len(), 6);
    drop(last);
}

/// The failure: a set holds a lock of its own while it wakes its task.
#[test]
fn task_may_poll_drop_or_cancel_the_run_in_its_wake() {
    for reaction in ["poll", "drop", "cancel"] {
        let (handles, list) = sources(2);
        let (cancel, signal) = source();
        let task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(signal));
        let task = Arc::new(Mutex::new(task));
        let woken = task.clone();
        let reacts = waker(move |usage| match reaction {
            _ if usage != Use::Wake => {}
            "poll" => assert!(woken.lock().unwrap().poll().is_pending()),
            "drop" => woken.lock().unwrap().drop_future(),
            _ => cancel.answer(Ok(0)),
        });
        // The run is polled by two tasks, because the waker of the first one is stored in another place.
        assert!(task.lock().unwrap().poll().is_pending());
        assert!(task.lock().unwrap().poll_with(&reacts).is_pending());
        handles[0].wake();
        let mut task = task.lock().unwrap();
        match reaction {
            "poll" => {
                assert_eq!(polls(&handles), [2, 1]);
                handles[0].answer(Ok(1));
                handles[1].answer(Ok(2));
                assert_eq!(task.wakes(), 1);
                assert_eq!(task.finish().unwrap().results, [(0, 1), (1, 2)]);
            }
            "drop" => assert_eq!(alive(&handles), 0),
            _ => assert_eq!(task.finish().unwrap_err().reason, Reason::Cancelled),
        }
    }
}

/// The failure: a wake that panics poisons a lock of the set, or leaves a flag set.
#[test]
fn panic_in_the_wake_of_the_task_loses_no_other_wake() {
    let (handles, list) = sources(2);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    let panics = waker(|usage| assert!(usage != Use::Wake, "wake"));
    assert!(task.poll_with(&panics).is_pending());
    assert_eq!(panic_of(|| handles[0].answer(Ok(1))), "wake");
    handles[1].answer(Ok(2));
    let Poll::Ready(aggregate) = task.poll() else {
        panic!("both have answered");
    };
    assert_eq!(aggregate.unwrap().results, [(0, 1), (1, 2)]);
}

/// futures-timer 3.0.4: its thread ends at such a panic, and with it all timers of the process.
#[test]
fn panic_in_the_wake_for_a_deadline_stops_no_other_timer() {
    const SHORT: Duration = Duration::from_millis(100);
    let (_, list) = sources(1);
    let mut task = Task::new(fetch_and_aggregate(list, SHORT));
    let (woken, was_woken) = mpsc::channel();
    let panics = waker(move |usage| {
        if usage == Use::Wake {
            woken.send(thread::current().id()).unwrap();
            panic!("wake");
        }
    });
    assert!(task.poll_with(&panics).is_pending());
    assert_ne!(was_woken.recv().unwrap(), thread::current().id());
    assert_eq!(task.wait().unwrap_err().reason, Reason::TimedOut);

    let (_, list) = sources(1);
    let interrupted = block_on(fetch_and_aggregate(list, SHORT)).unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
}
