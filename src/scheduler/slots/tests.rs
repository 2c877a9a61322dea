use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::Slots;
use super::storage::Storage;
use crate::panics::Panics;
use crate::scheduler::admission::Admission;
use crate::scheduler::options::Options;
use crate::scheduler::ready::Ready;
use crate::timer::SystemTimer;

/// Inserts numbers as sources. Returns their slots.
fn filled(ids: std::ops::Range<u32>) -> (Slots<u32, u32>, Vec<usize>) {
    let mut slots = Slots::new();
    let indices = ids.map(|id| insert(&mut slots, id)).collect();
    (slots, indices)
}

/// Ends a poll, and another one if that is needed to give memory back.
fn end_poll(slots: &mut Slots<u32, u32>, ready: &mut Ready) {
    if slots.give_back_unused(ready) {
        assert!(!slots.give_back_unused(ready));
    }
}

fn insert(slots: &mut Slots<u32, u32>, id: u32) -> usize {
    let permit = Admission::new(&Options::NONE, false).permit(0, &SystemTimer, &Ready::new());
    slots.insert(id, Some(id * 10), permit.expect("no limit"))
}

fn remove(slots: &mut Slots<u32, u32>, index: usize) -> Option<(u32, u32)> {
    let source = slots.source(index).map(|(_, source)| *source);
    slots.remove(index, &mut Panics::default()).zip(source)
}

/// Removes all sources, oldest first. Returns their ids.
fn drain(slots: &mut Slots<u32, u32>) -> Vec<u32> {
    std::iter::from_fn(|| slots.oldest().and_then(|index| remove(slots, index)))
        .map(|(id, _)| id)
        .collect()
}

#[test]
fn sources_stay_in_the_order_in_which_they_were_started() {
    for gone in 0..4 {
        let (mut slots, indices) = filled(0..4);
        assert_eq!(
            remove(&mut slots, indices[gone]),
            Some((gone as u32, gone as u32 * 10))
        );
        assert_eq!(slots.len(), 3);
        insert(&mut slots, 9);
        let mut left: Vec<_> = (0..4).filter(|&id| id != gone as u32).collect();
        left.push(9);
        assert_eq!(drain(&mut slots), left);
        assert!(slots.is_empty());
        assert_eq!(slots.oldest(), None);
    }
}

#[test]
fn slot_is_used_again_with_the_waker_that_a_source_has_kept() {
    let (mut slots, indices) = filled(0..3);
    let mut ready = Ready::new();
    let kept = wakers(&mut slots, &mut ready, &indices);
    assert!(!kept[0].will_wake(&kept[1]));
    remove(&mut slots, indices[1]);
    remove(&mut slots, indices[0]);
    let mut again = [insert(&mut slots, 7), insert(&mut slots, 8)];
    again.sort_unstable();
    assert_eq!(again, [indices[0], indices[1]]);
    let kept_again = wakers(&mut slots, &mut ready, &indices);
    for (kept, again) in kept.iter().zip(&kept_again) {
        assert!(kept.will_wake(again));
    }
    assert_eq!(drain(&mut slots), [2, 7, 8]);
}

/// Polls the sources, and keeps the wakers that they are polled with.
fn wakers(slots: &mut Slots<u32, u32>, ready: &mut Ready, indices: &[usize]) -> Vec<Waker> {
    let mut kept = Vec::new();
    for &index in indices {
        let poll = slots.poll(index, ready, &mut Panics::default(), |_, cx| {
            kept.push(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(poll.is_pending());
    }
    kept
}

#[test]
fn sources_that_keep_no_waker_share_one() {
    let (mut slots, indices) = filled(0..3);
    let mut ready = Ready::new();
    let mut seen: Vec<*const ()> = Vec::new();
    for &index in &indices {
        let poll = slots.poll(index, &mut ready, &mut Panics::default(), |_, cx| {
            cx.waker().wake_by_ref();
            seen.push(cx.waker().data());
            Poll::<()>::Pending
        });
        assert!(poll.is_pending());
    }
    assert_eq!(seen, [seen[0]; 3]);
    ready.start_sweep(false);
    let woken: Vec<_> = std::iter::from_fn(|| ready.next()).collect();
    assert_eq!(woken, indices);
}

#[test]
fn waker_kept_by_a_source_that_has_answered_wakes_no_other() {
    let (mut slots, indices) = filled(0..2);
    let mut ready = Ready::new();
    let mut kept = None;
    let answered = slots.poll(indices[0], &mut ready, &mut Panics::default(), |_, cx| {
        kept = Some(cx.waker().clone());
        Poll::Ready(())
    });
    assert_eq!(answered, Poll::Ready((0, ())));
    let poll = slots.poll(indices[1], &mut ready, &mut Panics::default(), |_, cx| {
        assert!(!kept.as_ref().unwrap().will_wake(cx.waker()));
        Poll::<()>::Pending
    });
    assert!(poll.is_pending());
    kept.unwrap().wake();
    ready.start_sweep(false);
    assert_eq!(ready.next(), Some(indices[0]));
    assert_eq!(ready.next(), None);
}

#[test]
fn empty_slot_has_nothing_to_poll_or_to_remove() {
    let (mut slots, indices) = filled(0..1);
    let mut ready = Ready::new();
    let mut poll = |slots: &mut Slots<u32, u32>| {
        let panics = &mut Panics::default();
        slots.poll(indices[0], &mut ready, panics, |source, _| {
            Poll::Ready(*source)
        })
    };
    assert_eq!(poll(&mut slots), Poll::Ready((0, 0)));
    assert!(poll(&mut slots).is_pending());
    assert_eq!(remove(&mut slots, indices[0]), None);
}

#[test]
fn deadlines_are_in_the_order_of_the_starts() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let (mut slots, indices) = filled(0..2);
    assert_eq!(slots.next_deadline(), None);
    slots.stamp(now);
    assert_eq!(slots.next_deadline(), Some(now));
    insert(&mut slots, 2);
    slots.stamp(later);
    remove(&mut slots, indices[1]);
    assert_eq!(slots.next_deadline(), Some(now));
    remove(&mut slots, indices[0]);
    assert_eq!(slots.next_deadline(), Some(later));
    // The slot that is reused has lost the deadline of its earlier source.
    insert(&mut slots, 3);
    let last = slots.oldest().unwrap();
    remove(&mut slots, last);
    assert_eq!(slots.next_deadline(), None);
}

#[test]
fn values_of_up_to_half_a_kibibyte_share_allocations() {
    type HalfKibibyte = [[u64; 16]; 4];
    let lengths = |grow: &mut dyn FnMut() -> usize| [(); 6].map(|()| grow());
    let mut small = Storage::<HalfKibibyte>::new();
    let grown = lengths(&mut || {
        small.grow();
        small.len()
    });
    assert_eq!(grown, [4, 8, 12, 16, 32, 48]);
    let mut large = Storage::<(HalfKibibyte, u8)>::new();
    let grown = lengths(&mut || {
        large.grow();
        large.len()
    });
    assert_eq!(grown, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn each_index_has_a_value_of_its_own() {
    let mut storage = Storage::<usize>::new();
    while storage.len() < 200 {
        storage.grow();
    }
    for index in 0..storage.len() {
        *storage.get(index).unwrap() = index;
    }
    for index in 0..storage.len() {
        assert_eq!(*storage.get(index).unwrap(), index);
    }
}

#[test]
fn memory_of_values_that_are_not_used_is_given_back() {
    for used in [&[][..], &[0], &[15], &[16], &[47, 100], &[100, 101, 199]] {
        let mut storage = Storage::<usize>::new();
        while storage.len() < 208 {
            storage.grow();
        }
        for index in used {
            *storage.get(*index).unwrap() = 1 + index;
        }
        let mut discarded = 0;
        storage.give_back(|value| *value > 0, |_| discarded += 1);
        let sixteens = used.iter().filter(|index| **index >= 16);
        let sixteens: std::collections::BTreeSet<_> = sixteens.map(|index| index / 16).collect();
        assert_eq!(discarded, 208 - 16 - 16 * sixteens.len());
        assert_eq!(
            storage.len(),
            16 * (1 + sixteens.last().copied().unwrap_or(0))
        );
        for index in 0..storage.len() {
            let expected = match used.contains(&index) {
                true => Some(1 + index),
                false => (index < 16 || sixteens.contains(&(index / 16))).then_some(0),
            };
            assert_eq!(storage.get(index).map(|value| *value), expected);
        }
        for index in 0..storage.len() {
            let expected = if used.contains(&index) { 1 + index } else { 0 };
            assert_eq!(*storage.get_or_default(index), expected);
        }
    }
    let mut large = Storage::<[[u64; 32]; 4]>::new();
    (0..10).for_each(|_| large.grow());
    large.get(3).unwrap()[0][0] = 1;
    large.give_back(|value| value[0][0] > 0, |_| {});
    assert_eq!(large.len(), 4);
    assert!((0..3).all(|index| large.get(index).is_none()));
    assert_eq!(
        large.get_or_default(1)[0][0] + large.get(3).unwrap()[0][0],
        1
    );
}

#[test]
fn all_memory_is_given_back_when_the_last_source_of_a_burst_has_ended() {
    let (mut slots, indices) = filled(0..3000);
    let mut ready = Ready::new();
    let now = Instant::now();
    for &index in &indices {
        slots.note_start(index, now);
        slots.note_position(index, None);
        slots.limit(index, Duration::from_secs(1));
    }
    slots.stamp_limits(now);
    end_poll(&mut slots, &mut ready);
    for &index in &indices[..2999] {
        remove(&mut slots, index);
    }
    end_poll(&mut slots, &mut ready);
    assert_eq!(slots.slots.len(), 3008);
    remove(&mut slots, indices[2999]);
    end_poll(&mut slots, &mut ready);
    let extras = slots.extras.as_ref().unwrap();
    let capacities = [
        slots.slots.len(),
        slots.starts.capacity(),
        extras.positions.capacity(),
    ];
    assert_eq!(capacities, [16; 3]);
    insert(&mut slots, 1);
    assert_eq!(drain(&mut slots), [1]);
}

#[test]
fn waker_of_a_burst_that_is_still_held_is_lent_to_no_other() {
    let (mut slots, indices) = filled(0..2000);
    let mut ready = Ready::new();
    ready.cover(2000);
    let mut held = wakers(&mut slots, &mut ready, &indices).split_off(300);
    let held = held.swap_remove(0);
    end_poll(&mut slots, &mut ready);
    for index in indices {
        remove(&mut slots, index);
    }
    end_poll(&mut slots, &mut ready);
    assert!(slots.slots.get(300).is_none());
    let again: Vec<_> = (0..2000).map(|id| insert(&mut slots, id)).collect();
    let others = wakers(&mut slots, &mut ready, &again);
    assert!(others.iter().all(|other| !other.will_wake(&held)));
}

#[test]
fn slots_are_used_again_in_order_after_a_burst() {
    let (mut slots, indices) = filled(0..3000);
    let mut ready = Ready::new();
    end_poll(&mut slots, &mut ready);
    let kept = [7, 40, 2000];
    // In an order that looks random.
    for number in 0..3000 {
        let index = number * 7 % 3000;
        if !kept.contains(&index) {
            remove(&mut slots, indices[index]);
        }
    }
    assert_eq!(slots.slots.len(), 3008);
    end_poll(&mut slots, &mut ready);
    assert_eq!(slots.slots.len(), 2000 / 16 * 16 + 16);
    // A waker of an earlier source may wake them.
    for given_back in [100, 1999, 2016, 2999] {
        let panics = &mut Panics::default();
        let poll = slots.poll(given_back, &mut ready, panics, |_, _| Poll::Ready(()));
        assert_eq!(poll, Poll::Pending);
    }
    let again: Vec<_> = (0..100).map(|id| insert(&mut slots, id)).collect();
    let free = (0..).filter(|index| !kept.contains(index));
    assert!(again.into_iter().eq(free.take(100)));
    assert_eq!(slots.len(), 103);
    let order = drain(&mut slots);
    assert_eq!(order[..3], [7, 40, 2000]);
    assert!(order[3..].iter().copied().eq(0..100));
}

/// Many sources, of which all but ten have ended in the last poll.
fn burst_that_is_over() -> (Slots<u32, u32>, Ready) {
    let (mut slots, indices) = filled(0..2000);
    let mut ready = Ready::new();
    assert!(!slots.give_back_unused(&mut ready));
    for &index in &indices[10..] {
        remove(&mut slots, index);
    }
    let grown = slots.slots.len();
    assert!(slots.give_back_unused(&mut ready));
    assert_eq!(slots.slots.len(), grown);
    (slots, ready)
}

#[test]
fn memory_is_kept_for_one_more_poll() {
    let (mut slots, mut ready) = burst_that_is_over();
    assert!(!slots.give_back_unused(&mut ready));
    assert_eq!(slots.slots.len(), 16);
    assert_eq!(drain(&mut slots), (0..10).collect::<Vec<_>>());
}

#[test]
fn memory_is_kept_if_there_are_many_sources_again() {
    let (mut slots, mut ready) = burst_that_is_over();
    let more: Vec<_> = (0..2000).map(|id| insert(&mut slots, id)).collect();
    assert!(!slots.give_back_unused(&mut ready));
    for index in more {
        remove(&mut slots, index);
    }
    assert!(slots.give_back_unused(&mut ready));
    assert!(slots.slots.len() >= 2000);
}
