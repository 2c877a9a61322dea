use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::thread;

use super::{MOST, POOL};
use crate::scheduler::ready::tree::{AWAKE, DIRECT};
use crate::scheduler::ready::{Flag, Next, Ready};
use crate::timer::Wakes;

/// The size of the pool of this thread.
fn len() -> usize {
    POOL.with(|pool| pool.borrow().len())
}

/// The waker of a slot, kept by its source.
fn keep(ready: &mut Ready, slot: usize) -> Waker {
    ready.cover(slot);
    let kept = ready.lend(slot).clone();
    ready.kept(slot);
    kept
}

/// The wakers of five sources that wait.
fn five(ready: &mut Ready) -> Vec<Waker> {
    (0..5).map(|slot| keep(ready, slot)).collect()
}

/// Runs the test in a thread of its own, whose pool is empty.
fn in_thread(test: impl FnOnce() + Send + 'static) {
    thread::spawn(test).join().unwrap();
}

#[test]
fn tree_and_wakers_return_when_their_run_is_dropped() {
    in_thread(|| {
        let mut first = Ready::new();
        let data = five(&mut first)[3].data();
        let tree = Arc::as_ptr(first.tree());
        assert_eq!(len(), 0);
        drop(first);
        assert_eq!(len(), 1);
        let mut second = Ready::new();
        assert_eq!(len(), 0);
        assert_eq!(Arc::as_ptr(second.tree()), tree);
        assert_eq!(second.lend(3).data(), data);
    });
}

#[test]
fn run_that_is_never_polled_takes_nothing() {
    in_thread(|| {
        drop(Ready::new());
        let mut unused = Ready::unused();
        unused.close();
        assert_eq!(len(), 1);
        drop(unused);
        assert_eq!(len(), 1);
    });
}

#[test]
fn waker_that_is_held_elsewhere_does_not_return() {
    in_thread(|| {
        let hold: [fn(&mut Ready) -> Waker; 5] = [
            |ready| five(ready).swap_remove(0),
            |ready| five(ready).swap_remove(4),
            |ready| ready.flag_waker(Flag::Cancel),
            // The spare one, kept by a source that has answered.
            |ready| ready.lend(7).clone(),
            // The same, replaced by another spare one.
            |ready| {
                let kept = ready.lend(7).clone();
                ready.lend(8);
                kept
            },
        ];
        for hold in hold {
            let mut ready = Ready::new();
            let held = hold(&mut ready);
            drop(ready);
            assert_eq!(len(), 0);
            let mut next = Ready::new();
            held.wake();
            assert!(!next.has_work());
            drop(next);
            assert_eq!(len(), 1);
            drop(Ready::new().flag_waker(Flag::Cancel));
            POOL.with(|pool| pool.borrow_mut().clear());
        }
    });
}

#[test]
fn slot_keeps_its_waker_while_the_spare_one_is_held() {
    let mut ready = Ready::new();
    let own = five(&mut ready).swap_remove(2);
    let spare = ready.lend(7).clone();
    assert!(ready.lend(2).will_wake(&own));
    assert!(ready.kept(2).is_none());
    assert!(ready.lend(2).will_wake(&own));
    assert!(!ready.lend(8).will_wake(&spare));
}

#[test]
fn wakes_and_the_task_of_a_run_do_not_return() {
    in_thread(|| {
        let (first, second) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
        let count = |wakes: &Wakes| wakes.0.load(Ordering::Relaxed);
        for _ in 0..3 {
            // Sources are woken, and a sweep that has begun does not end.
            let mut ready = Ready::new();
            let wakers = five(&mut ready);
            wakers.iter().for_each(Waker::wake_by_ref);
            ready.start_sweep(true);
            assert_eq!(ready.next(), Some(0));
            wakers[2].wake_by_ref();
            ready.flag_waker(Flag::Cancel).wake();
            assert!(ready.take_flag(Flag::Cancel));
            ready.end_poll(&first.clone().into(), Next::Again);
            ready.end_poll(&first.clone().into(), Next::Rest);
            wakers.into_iter().for_each(Waker::wake);
            drop(ready);
            assert_eq!((len(), Arc::strong_count(&first)), (1, 1));

            // The next run sees no wake, and wakes neither the first task nor its own before it waits.
            let mut ready = Ready::new();
            assert!(!ready.has_work());
            assert!(!ready.is_registered(&first.clone().into()));
            let before = (count(&first), count(&second));
            ready.tree().root.store(0, Ordering::Relaxed);
            ready.wake(2);
            assert_eq!((count(&first), count(&second)), before);
            ready.tree().root.store(AWAKE, Ordering::Relaxed);
            ready.end_poll(&second.clone().into(), Next::Wait);
            ready.lend(1).wake_by_ref();
            assert_eq!((count(&first), count(&second)), (before.0, before.1 + 1));
            ready.begin_poll();
            ready.start_sweep(false);
            assert_eq!((ready.next(), ready.next()), (Some(1), None));
        }
    });
}

#[test]
fn tree_with_segments_does_not_return() {
    in_thread(|| {
        let mut ready = Ready::new();
        drop(keep(&mut ready, DIRECT - 1));
        drop(ready);
        assert_eq!(len(), 1);
        let mut ready = Ready::new();
        drop(keep(&mut ready, DIRECT));
        drop(ready);
        assert_eq!(len(), 0);
    });
}

#[test]
fn pool_is_bounded() {
    in_thread(|| {
        let ready: Vec<_> = (0..2 * MOST).map(|_| Ready::new()).collect();
        drop(ready);
        assert_eq!(len(), MOST);
    });
}

#[test]
fn tree_returns_to_the_pool_of_the_thread_that_drops_its_run() {
    in_thread(|| {
        let mut ready = Ready::new();
        drop(five(&mut ready));
        in_thread(move || {
            drop(ready);
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
            drop(std::mem::replace(&mut self.0, Ready::unused()));
            drop(five(&mut Ready::new()));
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
        let runs = [Ready::new(), Ready::new()];
        drop(Ready::new());
        let [first, second] = runs;
        BEFORE.with_borrow_mut(|last| last.as_mut().unwrap().0 = first);
        AFTER.set(Some(Last(second, after)));
    });
    assert!(was_gone.load(Ordering::Relaxed));
}
