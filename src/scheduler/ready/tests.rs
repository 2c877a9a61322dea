use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::tree::{DIRECT, MOST_SEGMENTS, SINGLE, Segment, locate, segment_start};
use super::{Flag, MOST_SLOTS, Next, Ready, Shuffled};

/// Counts wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        // Relaxed, here and below: the tests have one thread.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A tree, the wakers of its first `slots` slots, and the task that polls it.
fn tree(slots: usize) -> (Ready, Vec<Waker>, Arc<Wakes>) {
    let mut ready = Ready::new();
    let wakers = (0..slots).map(|slot| waker(&mut ready, slot)).collect();
    (ready, wakers, Arc::default())
}

/// The waker of a slot, kept by its source.
fn waker(ready: &mut Ready, slot: usize) -> Waker {
    ready.cover(slot);
    let kept = ready.lend(slot).clone();
    let own = ready.take_kept().unwrap();
    assert!(own.waker().will_wake(&kept));
    kept
}

/// Ends a poll as a run does.
fn end_poll(ready: &mut Ready, waker: &Waker) {
    let next = match ready.has_work() {
        true => Next::Again,
        false => Next::Wait,
    };
    ready.end_poll(waker, next);
}

fn sweep(ready: &mut Ready) -> Vec<usize> {
    ready.start_sweep(false);
    std::iter::from_fn(|| ready.next()).collect()
}

#[test]
fn segments_follow_each_other_without_gap_or_overlap() {
    let mut start = DIRECT;
    for number in 0..MOST_SEGMENTS {
        assert_eq!(segment_start(number), start);
        assert_eq!(locate(start), (number, 0));
        let len = 64 << number;
        assert_eq!(locate(start + len - 1), (number, len - 1));
        start += len;
    }
    assert_eq!(start, MOST_SLOTS);
}

#[test]
fn segments_have_one_word_for_64_slots_and_one_above_64_words() {
    for (number, words) in [
        (0, 1),
        (1, 1 + 2),
        (6, 1 + 64),
        (7, 1 + 64 + 128),
        (12, 1 + 64 + 4096),
        (13, 1 + 64 + 4096 + 8192),
    ] {
        assert_eq!(Segment::new(number).words.len(), words);
    }
}

#[test]
fn every_woken_slot_is_found_at_the_edges_of_words_and_levels() {
    for slots in [
        1, 31, 32, 33, 95, 96, 97, 223, 224, 225, 4127, 4128, 4129, 8224, 600_000,
    ] {
        let (mut ready, wakers, _) = tree(slots);
        ready.begin_poll();
        for waker in wakers.iter().rev() {
            waker.wake_by_ref();
        }
        assert_eq!(sweep(&mut ready), (0..slots).collect::<Vec<_>>());
        for slot in [0, slots / 2, slots - 1] {
            wakers[slot].wake_by_ref();
            assert_eq!(sweep(&mut ready), [slot], "of {slots}");
        }
        assert_eq!(sweep(&mut ready), []);
    }
}

#[test]
fn first_wake_between_polls_wakes_the_task_and_later_ones_do_not() {
    let (mut ready, wakers, task) = tree(200);
    ready.begin_poll();
    end_poll(&mut ready, &task.clone().into());
    for waker in &wakers {
        waker.wake_by_ref();
    }
    assert_eq!(task.count(), 1);

    ready.begin_poll();
    assert_eq!(sweep(&mut ready).len(), 200);
    end_poll(&mut ready, &task.clone().into());
    assert_eq!(task.count(), 1);
    wakers[199].wake_by_ref();
    assert_eq!(task.count(), 2);
}

#[test]
fn wake_during_a_poll_wakes_the_task_once_when_the_poll_ends() {
    let (mut ready, wakers, task) = tree(2);
    ready.begin_poll();
    wakers[0].wake_by_ref();
    assert_eq!(sweep(&mut ready), [0]);
    wakers[0].wake_by_ref();
    wakers[1].wake_by_ref();
    assert_eq!(task.count(), 0);
    end_poll(&mut ready, &task.clone().into());
    assert_eq!(task.count(), 1);
}

#[test]
fn sweep_returns_a_slot_once_even_if_it_is_woken_again_meanwhile() {
    let (mut ready, wakers, _) = tree(130);
    ready.begin_poll();
    for waker in &wakers {
        waker.wake_by_ref();
    }
    ready.start_sweep(false);
    let mut seen = Vec::new();
    while let Some(slot) = ready.next() {
        wakers[slot].wake_by_ref();
        seen.push(slot);
    }
    assert_eq!(seen, (0..130).collect::<Vec<_>>());
    assert_eq!(sweep(&mut ready).len(), 130);
}

#[test]
fn sweep_that_was_cut_short_goes_on_and_wakes_the_task_for_it() {
    let (mut ready, wakers, task) = tree(5000);
    ready.begin_poll();
    for waker in &wakers {
        waker.wake_by_ref();
    }
    ready.start_sweep(false);
    let mut seen: Vec<_> = (0..100).filter_map(|_| ready.next()).collect();
    end_poll(&mut ready, &task.clone().into());
    assert_eq!(task.count(), 1);

    ready.begin_poll();
    ready.start_sweep(false);
    seen.extend(std::iter::from_fn(|| ready.next()));
    assert_eq!(seen, (0..5000).collect::<Vec<_>>());
}

#[test]
fn taking_one_slot_takes_it_from_the_words_and_from_the_sweep() {
    let (mut ready, wakers, _) = tree(70);
    ready.begin_poll();
    for slot in [3, 5, 69] {
        wakers[slot].wake_by_ref();
    }
    assert!(ready.take(5));
    assert!(!ready.take(5));
    ready.start_sweep(false);
    assert_eq!(ready.next(), Some(3));
    wakers[3].wake_by_ref();
    assert!(ready.take(3));
    assert!(ready.take(69));
    assert_eq!(ready.next(), None);
    wakers[69].wake_by_ref();
    assert_eq!(sweep(&mut ready), [69]);
}

#[test]
fn taking_one_slot_leaves_its_neighbours() {
    for slot in [0, 30, 31, 32, 33, 94, 95, 96, 5000] {
        let (mut ready, wakers, _) = tree(5002);
        ready.begin_poll();
        assert!(!ready.take(slot));
        wakers[slot].wake_by_ref();
        wakers[slot + 1].wake_by_ref();
        assert!(ready.take(slot));
        assert!(!ready.take(slot));
        assert_eq!(sweep(&mut ready), [slot + 1]);
    }
}

#[test]
fn taking_a_slot_that_the_sweep_already_holds_takes_it_out_of_the_sweep() {
    let (mut ready, wakers, _) = tree(64);
    ready.begin_poll();
    for slot in [1, 2, 3] {
        wakers[slot].wake_by_ref();
    }
    ready.start_sweep(false);
    assert_eq!(ready.next(), Some(1));
    assert!(ready.take(2));
    assert_eq!(ready.next(), Some(3));
}

#[test]
fn flags_are_apart_from_slots_and_from_each_other() {
    let (mut ready, wakers, task) = tree(1);
    ready.begin_poll();
    end_poll(&mut ready, &task.clone().into());
    ready.flag_waker(Flag::Cancel).wake();
    assert_eq!(task.count(), 1);
    wakers[0].wake_by_ref();
    assert!(!ready.take_flag(Flag::Expire));
    assert!(ready.take_flag(Flag::Cancel));
    assert!(!ready.take_flag(Flag::Cancel));
    assert_eq!(sweep(&mut ready), [0]);
}

#[test]
fn dropped_tree_wakes_no_task_and_holds_none() {
    let (mut ready, wakers, task) = tree(1);
    ready.begin_poll();
    end_poll(&mut ready, &task.clone().into());
    assert_eq!(Arc::strong_count(&task), 2);
    drop(ready);
    assert_eq!(Arc::strong_count(&task), 1);
    wakers[0].wake_by_ref();
    assert_eq!(task.count(), 0);
}

#[test]
fn task_waker_that_panics_leaves_the_tree_intact() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("the task's waker");
        }
    }
    let (mut ready, wakers, task) = tree(1);
    let panicking = Waker::from(Arc::new(Panics));
    ready.begin_poll();
    end_poll(&mut ready, &panicking);
    let wake = || ready.flag_waker(Flag::Expire).wake();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(wake)).is_err());

    ready.begin_poll();
    assert!(ready.take_flag(Flag::Expire));
    wakers[0].wake_by_ref();
    assert_eq!(sweep(&mut ready), [0]);
    end_poll(&mut ready, &task.clone().into());
    wakers[0].wake_by_ref();
    assert_eq!(task.count(), 1);
}

#[test]
fn only_slot_woken_while_the_task_waits_is_a_number_in_the_root_word() {
    for slot in [0, 31, 32, 5000] {
        let (mut ready, wakers, task) = tree(5001);
        wakers[slot].wake_by_ref();
        assert_eq!(sweep(&mut ready), [slot]);
        ready.begin_poll();
        end_poll(&mut ready, &task.clone().into());
        wakers[slot].wake_by_ref();
        let root = if slot < DIRECT {
            1 << slot
        } else {
            SINGLE | slot as u64
        };
        assert_eq!(ready.tree.root.load(Ordering::Relaxed), root);
    }
}

#[test]
fn slots_woken_while_the_task_waits_are_found_whether_one_or_more() {
    let slots = [0, 31, 32, 95, 96, 5000];
    for first in slots {
        for second in slots {
            let (mut ready, wakers, task) = tree(5001);
            let waker = Waker::from(task.clone());
            ready.begin_poll();
            end_poll(&mut ready, &waker);
            wakers[first].wake_by_ref();
            assert_eq!(task.count(), 1);
            ready.begin_poll();
            assert!(ready.has_work());
            assert_eq!(sweep(&mut ready), [first]);
            end_poll(&mut ready, &waker);
            assert_eq!(task.count(), 1);

            wakers[first].wake_by_ref();
            ready.flag_waker(Flag::Room).wake();
            wakers[second].wake_by_ref();
            assert_eq!(task.count(), 2);
            ready.begin_poll();
            assert!(ready.take_flag(Flag::Room));
            let mut expected = vec![first, second];
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(sweep(&mut ready), expected);
            assert!(!ready.has_work());

            end_poll(&mut ready, &waker);
            wakers[first].wake_by_ref();
            ready.begin_poll();
            assert!(ready.take(first));
            assert_eq!(sweep(&mut ready), []);
        }
    }
}

#[test]
fn shuffled_word_has_its_bits_in_another_order() {
    for width in [32, 64] {
        for x in 0..2 * width {
            let positions = [0, 1, 5, 17, 30, width as usize - 1];
            let bits = positions.iter().fold(0, |bits, at| bits | 1 << at);
            let mut shuffled = Shuffled::new(bits, x, width);
            let order =
                std::iter::from_fn(|| (!shuffled.is_empty()).then(|| shuffled.take_first()));
            let mut expected = positions.to_vec();
            expected.sort_by_key(|position| *position as u32 ^ (x % width));
            expected.dedup();
            assert_eq!(order.collect::<Vec<_>>(), expected);

            let mut shuffled = Shuffled::new(bits, x, width);
            assert!(shuffled.take(17) && !shuffled.take(17) && !shuffled.take(2));
            let left = std::iter::from_fn(|| (!shuffled.is_empty()).then(|| shuffled.take_first()));
            assert_eq!(left.count(), expected.len() - 1);
        }
    }
}

#[test]
fn shuffled_sweeps_find_every_slot_once() {
    const SLOTS: usize = 5000;
    let (mut ready, wakers, task) = tree(SLOTS);
    let mut orders = Vec::new();
    for _ in 0..6 {
        wakers.iter().for_each(Waker::wake_by_ref);
        ready.begin_poll();
        ready.start_sweep(true);
        let order: Vec<_> = std::iter::from_fn(|| ready.next()).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..SLOTS));
        orders.push(order);
        end_poll(&mut ready, &task.clone().into());
    }
    assert!(orders[0].is_sorted());
    for pair in orders[1..].chunks_exact(2) {
        assert!(!pair[0].is_sorted());
        assert!(pair[0].iter().rev().eq(&pair[1]), "the reverse");
    }
    assert_ne!(orders[1], orders[3]);
}
