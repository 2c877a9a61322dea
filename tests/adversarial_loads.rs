//! Failures that other crates of this field had with sizes, with time, and with slow receivers. See
//! `adversarial.rs` for the others.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread;

use common::counting::{Counting, Counts};
use common::{NEVER, Task, polls, ready, source, sources};
use futures::FutureExt;
use futures::lock::Mutex;
use futures_aggregate::{Reason, fetch_and_aggregate, stream_results};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Makes sources that answer in their second poll, and collects the wakers of their first one.
struct Waiting {
    wakers: RefCell<Vec<Waker>>,
    polls: Cell<usize>,
}

impl Waiting {
    fn source(&self) -> impl Future<Output = Result<(), ()>> {
        let mut was_polled = false;
        poll_fn(move |cx| {
            self.polls.set(self.polls.get() + 1);
            if std::mem::replace(&mut was_polled, true) {
                return Poll::Ready(Ok(()));
            }
            self.wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Wakes the second half of the pending sources, last first, and returns how many it woke.
    fn wake_half(&self) -> usize {
        let mut wakers = self.wakers.borrow_mut();
        let rest = wakers.len() / 2;
        wakers.drain(rest..).rev().map(Waker::wake).count()
    }
}

/// The failure: a set misses the last bit of a word, or polls a whole word for one bit.
#[test]
fn sources_at_the_edges_of_words_of_bits_are_polled_exactly_when_woken() {
    for count in [
        0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 4_095, 4_096, 4_097, 4_127, 4_128, 4_129,
        1_000_000,
    ] {
        let waiting = Waiting {
            wakers: RefCell::new(Vec::with_capacity(count)),
            polls: Cell::new(0),
        };
        let list = (0..count).map(|id| (id, waiting.source()));
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        let mut polls = count;
        while task.settle().is_pending() {
            assert_eq!(waiting.polls.get(), polls, "of {count}");
            polls += waiting.wake_half();
        }
        assert_eq!(waiting.polls.get(), 2 * count);
    }
}

/// The failure: a set visits all its sources for each one that is woken.
#[test]
fn answers_in_reverse_order_one_at_a_time_take_linear_time() {
    const COUNT: usize = 100_000;
    let (handles, list) = sources(COUNT);
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(task.settle().is_pending());
    let (before, wakes) = (Counts::now(), task.wakes());
    for handle in handles[1..].iter().rev() {
        handle.answer(Ok(1));
        assert!(task.poll().is_pending());
    }
    // It gives memory back three times.
    assert!(before.made_since() < 30, "{}", before.made_since());
    assert_eq!(task.wakes() - wakes, COUNT - 1);
    handles[0].answer(Ok(1));
    assert_eq!(task.finish().unwrap().results.len(), COUNT);
    assert_eq!(polls(&handles), vec![2; COUNT]);
}

#[test]
fn dropping_a_million_pending_sources_neither_recurses_nor_allocates() {
    const COUNT: usize = 1_000_000;
    let small = thread::Builder::new().stack_size(64 << 10);
    let dropped = small.spawn(|| {
        let witness = Arc::new(());
        let list = (0..COUNT).map(|id| {
            let seen = witness.clone();
            let waits = async move {
                let _seen = seen;
                pending::<Result<(), ()>>().await
            };
            (id, waits)
        });
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        assert!(task.settle().is_pending());
        assert!(Arc::strong_count(&witness) > COUNT);
        let before = Counts::now();
        task.drop_future();
        assert_eq!((Arc::strong_count(&witness), before.made_since()), (1, 0));
    });
    dropped.unwrap().join().unwrap();
}

/// The failure: a timer that fires too early, or not at all, is polled again and again.
#[test]
fn timer_that_wakes_without_firing_is_polled_once_for_each_wake() {
    let (handles, list) = sources(2);
    let (clock, timer) = source();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER).expire_on(timer));
    assert!(task.settle().is_pending());
    clock.wake();
    assert!(task.settle().is_pending());
    for _ in 0..3 {
        assert!(task.poll().is_pending());
    }
    assert_eq!((clock.polls(), task.wakes()), (2, 1));
    handles[0].answer(Ok(1));
    assert!(task.settle().is_pending());
    assert_eq!(clock.polls(), 2);
    clock.answer(Ok(0));
    assert_eq!(task.finish().unwrap_err().partial.results, [(0, 1)]);
}

/// futures-rs #264.
#[test]
fn receiver_dropped_while_a_send_waits_gives_the_outcomes_back() {
    let (handles, list) = sources(4);
    let (sender, receiver) = async_channel::bounded(1);
    let mut task = Task::new(stream_results(list, sender));
    for handle in &handles[..3] {
        handle.answer(Ok(0));
    }
    assert!(task.settle().is_pending());
    drop(receiver);
    let interrupted = task.finish().unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.delivered, 1);
    assert_eq!(interrupted.partial.undelivered, [(1, Ok(0)), (2, Ok(0))]);
    assert_eq!(interrupted.partial.unfinished, [3]);
}

/// Oxide RFD 609, futures-rs #2387.
#[test]
fn source_is_polled_while_a_send_waits_so_a_lock_shared_with_the_receiver_cannot_deadlock() {
    let lock = Arc::new(Mutex::new(()));
    let (holder, held) = source();
    let holds = lock.clone();
    let holds = async move {
        let _held = holds.lock().await;
        held.await
    };
    let list = [
        (0, ready(Ok(0)).left_future()),
        (1, ready(Ok(1)).left_future()),
        (2, holds.boxed().right_future()),
    ];
    let (sender, receiver) = async_channel::bounded(1);
    let mut driver = Task::new(stream_results(list, sender));
    assert!(driver.settle().is_pending());

    let mut receives = Task::new(async {
        let mut received = Vec::new();
        let _held = lock.lock().await;
        while let Ok((id, _)) = receiver.recv().await {
            received.push(id);
        }
        received
    });
    assert!(receives.settle().is_pending());
    holder.answer(Ok(2));
    for _ in 0..3 {
        assert!(driver.is_woken());
        let is_done = driver.settle().is_ready();
        assert!(receives.is_woken());
        if is_done {
            assert_eq!(receives.finish(), [0, 1, 2]);
            return;
        }
        assert!(receives.settle().is_pending());
    }
    panic!("three outcomes take at most three rounds");
}
