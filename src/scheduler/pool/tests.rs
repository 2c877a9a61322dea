use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::thread;

use super::{MOST_TREES, MOST_WAKERS, POOL, Pooled, put_back, take};
use crate::scheduler::ready::{CountedWaker, Flag, Next, Ready, Wakeups};
use crate::scheduler::slots::Links;
use crate::timer::Wakes;

/// The number of trees in the pool of this thread.
fn len() -> usize {
    POOL.with(|pool| pool.borrow().all.len())
}

/// The number of their wakers, as the pool counts them and as they are.
fn wakers() -> [usize; 2] {
    POOL.with(|pool| {
        let pool = pool.borrow();
        let each = pool.all.iter().map(|pooled| pooled.wakeups.wakers());
        [pool.wakers, each.sum()]
    })
}

/// Lets sources wait in these slots. Returns the wakers of the slots, and their clones that the sources
/// keep.
fn keep(ready: &mut Ready, slots: Range<usize>) -> (Vec<CountedWaker>, Vec<Waker>) {
    let keep = |slot| {
        ready.cover(slot);
        let kept = ready.lend(slot).clone();
        (ready.take_kept().unwrap(), kept)
    };
    slots.map(keep).unzip()
}

/// A run that begins.
fn begin() -> Ready {
    let mut ready = Ready::unused();
    ready.begin(take().wakeups);
    ready
}

/// Ends a run whose slots have these wakers.
fn end(mut ready: Ready, own: Vec<CountedWaker>) {
    own.into_iter().for_each(|waker| ready.take_back(waker));
    if let Some(wakeups) = ready.end() {
        let links = Links::default();
        put_back(Pooled { wakeups, links });
    }
}

/// A run whose sources have waited in these slots, and are gone.
fn run(slots: Range<usize>) {
    let mut ready = begin();
    let (own, kept) = keep(&mut ready, slots);
    drop(kept);
    end(ready, own);
}

/// Runs the test in a thread of its own, whose pool is empty.
fn in_thread(test: impl FnOnce() + Send + 'static) {
    thread::spawn(test).join().unwrap();
}

#[test]
fn tree_and_wakers_return_when_their_run_has_ended() {
    in_thread(|| {
        let mut first = begin();
        let (own, kept) = keep(&mut first, 0..5);
        let data = |wakers: &[Waker]| wakers.iter().map(Waker::data).collect::<BTreeSet<_>>();
        let before = data(&kept);
        drop(kept);
        assert_eq!(len(), 0);
        end(first, own);
        assert_eq!((len(), wakers()), (1, [5, 5]));
        let mut second = begin();
        assert_eq!((len(), wakers()), (0, [0, 0]));
        let (own, kept) = keep(&mut second, 7..12);
        assert_eq!(data(&kept), before);
        drop(kept);
        end(second, own);
        assert_eq!((len(), wakers()), (1, [5, 5]));
    });
}

#[test]
fn run_that_has_not_begun_or_has_not_ended_returns_nothing() {
    in_thread(|| {
        drop(begin());
        end(Ready::unused(), Vec::new());
        assert_eq!(len(), 0);
    });
}

#[test]
fn waker_that_is_held_elsewhere_does_not_return() {
    in_thread(|| {
        let hold: [fn(&mut Ready) -> Waker; 3] = [
            |ready| ready.flag_waker(Flag::Cancel),
            // Kept by a source that has answered.
            |ready| ready.lend(7).clone(),
            // The same, and another one was lent since.
            |ready| {
                let kept = ready.lend(7).clone();
                ready.lend(8);
                kept
            },
        ];
        let not_returned = |held: Waker| {
            assert_eq!(len(), 0);
            let mut next = begin();
            held.wake();
            assert!(!next.has_work());
            end(next, Vec::new());
            assert_eq!(len(), 1);
            POOL.with(RefCell::take);
        };
        for is_new in [true, false, true, false] {
            for hold in hold {
                if !is_new {
                    run(0..5);
                }
                let mut ready = begin();
                let held = hold(&mut ready);
                end(ready, Vec::new());
                not_returned(held);
            }
            for index in 0..5 {
                if !is_new {
                    run(0..40);
                }
                let mut ready = begin();
                let (own, mut kept) = keep(&mut ready, 30..35);
                let held = kept.swap_remove(index);
                drop(kept);
                end(ready, own);
                not_returned(held);
            }
        }
    });
}

#[test]
fn source_that_has_answered_does_not_share_its_waker_with_others() {
    let mut ready = begin();
    let kept = ready.lend(7).clone();
    assert!(!ready.lend(2).will_wake(&kept));
    assert!(ready.take_kept().is_none());
    assert!(!ready.lend(8).will_wake(&kept));
}

#[test]
fn wakes_and_the_task_of_a_run_do_not_return() {
    in_thread(|| {
        let (first, second) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
        let count = |wakes: &Wakes| wakes.0.load(Ordering::Relaxed);
        for _ in 0..3 {
            // Sources are woken, and a sweep that has begun does not end.
            let mut ready = begin();
            let (own, wakers) = keep(&mut ready, 0..5);
            let (in_segment, more) = keep(&mut ready, 100..110);
            more.into_iter().for_each(Waker::wake);
            wakers.iter().for_each(Waker::wake_by_ref);
            ready.start_sweep(false);
            assert_eq!(ready.next(), Some(0));
            wakers[2].wake_by_ref();
            ready.flag_waker(Flag::Cancel).wake();
            assert!(ready.take_flag(Flag::Cancel));
            ready.end_poll(&first.clone().into(), Next::Again);
            ready.end_poll(&first.clone().into(), Next::Rest);
            wakers.into_iter().for_each(Waker::wake);
            end(ready, own.into_iter().chain(in_segment).collect());
            assert_eq!((len(), Arc::strong_count(&first)), (1, 1));

            // The next run sees no wake, and wakes neither the first task nor its own before it waits.
            let mut ready = begin();
            ready.cover(110);
            assert!(!ready.has_work());
            assert!(!ready.is_registered(&first.clone().into()));
            let before = (count(&first), count(&second));
            ready.end_poll(&second.clone().into(), Next::Wait);
            ready.lend(1).wake_by_ref();
            assert_eq!((count(&first), count(&second)), (before.0, before.1 + 1));
            ready.begin_poll();
            ready.start_sweep(false);
            assert_eq!((ready.next(), ready.next()), (Some(1), None));
            ready.wake(101);
            ready.start_sweep(false);
            assert_eq!((ready.next(), ready.next()), (Some(101), None));
            end(ready, Vec::new());
        }
    });
}

#[test]
fn large_tree_does_not_return() {
    in_thread(|| {
        run(Wakeups::MOST_SLOTS - 1..Wakeups::MOST_SLOTS);
        assert_eq!(len(), 1);
        run(Wakeups::MOST_SLOTS..Wakeups::MOST_SLOTS + 1);
        assert_eq!(len(), 0);
    });
}

#[test]
fn pool_is_bounded() {
    in_thread(|| {
        let ready: Vec<_> = (0..2 * MOST_TREES).map(|_| begin()).collect();
        ready.into_iter().for_each(|ready| end(ready, Vec::new()));
        assert_eq!(len(), MOST_TREES);
        // Those of later runs return as far as there is room, and those of one that has more.
        POOL.with(RefCell::take);
        let mut first = begin();
        let (own, kept) = keep(&mut first, 0..100);
        drop(kept);
        run(0..MOST_WAKERS - 60);
        end(first, own);
        assert_eq!((len(), wakers()), (2, [MOST_WAKERS; 2]));
        run(0..60);
        assert_eq!((len(), wakers()), (2, [MOST_WAKERS; 2]));
        POOL.with(RefCell::take);
        run(0..MOST_WAKERS + 100);
        assert_eq!((len(), wakers()), (1, [MOST_WAKERS; 2]));
    });
}

#[test]
fn tree_returns_to_the_pool_of_the_thread_that_ends_its_run() {
    in_thread(|| {
        let mut ready = begin();
        let (own, kept) = keep(&mut ready, 0..5);
        drop(kept);
        in_thread(move || {
            end(ready, own);
            assert_eq!(len(), 1);
        });
        assert_eq!(len(), 0);
    });
}

/// One run ends after the pool is gone, and another one is polled only then.
#[test]
fn pool_of_a_thread_that_ends_is_not_used() {
    struct Last(Ready, Arc<AtomicBool>);
    impl Drop for Last {
        fn drop(&mut self) {
            let is_gone = POOL.try_with(|_| {}).is_err();
            self.1.fetch_or(is_gone, Ordering::Relaxed);
            end(std::mem::replace(&mut self.0, Ready::unused()), Vec::new());
            run(0..5);
        }
    }
    thread_local! {
        static BEFORE: RefCell<Option<Last>> = const { RefCell::new(None) };
        static AFTER: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    let was_gone = Arc::<AtomicBool>::default();
    let noted = [was_gone.clone(), was_gone.clone()];
    in_thread(|| {
        // Thread-locals are dropped in some order, so that one of these outlives the pool.
        let [before, after] = noted;
        BEFORE.with(|last| *last.borrow_mut() = Some(Last(Ready::unused(), before)));
        let runs = [begin(), begin()];
        drop(begin());
        let [first, second] = runs;
        BEFORE.with_borrow_mut(|last| last.as_mut().unwrap().0 = first);
        AFTER.set(Some(Last(second, after)));
    });
    assert!(was_gone.load(Ordering::Relaxed));
}
