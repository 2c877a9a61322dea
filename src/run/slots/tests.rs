use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::Slots;
use crate::run::panics::Panics;

/// Inserts sources that are plain numbers. Returns their slots.
fn filled(ids: std::ops::Range<u32>) -> (Slots<u32, u32>, Vec<usize>) {
    let mut slots = Slots::new();
    let indices = ids.map(|id| insert(&mut slots, id)).collect();
    (slots, indices)
}

fn insert(slots: &mut Slots<u32, u32>, id: u32) -> usize {
    slots.insert(id, id * 10, |_| Waker::noop().clone())
}

fn remove(slots: &mut Slots<u32, u32>, index: usize) -> Option<(u32, u32)> {
    slots.remove(index, &mut Panics::default(), |source, _| *source)
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
fn slot_is_used_again_with_the_waker_it_has() {
    let (mut slots, indices) = filled(0..3);
    remove(&mut slots, indices[1]);
    remove(&mut slots, indices[0]);
    let no_new_slot = |_| -> Waker { panic!("there are free slots") };
    let mut again = [
        slots.insert(7, 70, no_new_slot),
        slots.insert(8, 80, no_new_slot),
    ];
    again.sort_unstable();
    assert_eq!(again, [indices[0], indices[1]]);
    assert_eq!(drain(&mut slots), [2, 7, 8]);
}

#[test]
fn empty_slot_has_nothing_to_poll_or_to_remove() {
    let (mut slots, indices) = filled(0..1);
    let poll = slots.poll(indices[0], |source, _| Poll::Ready(*source));
    assert_eq!(poll, Poll::Ready(0));
    assert!(remove(&mut slots, indices[0]).is_some());
    assert!(slots.poll(indices[0], |_, _| Poll::Ready(())).is_pending());
    assert_eq!(remove(&mut slots, indices[0]), None);
}

#[test]
fn deadlines_are_those_of_the_start_and_come_in_its_order() {
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
    // The slots of the first two have no deadline left over.
    insert(&mut slots, 3);
    let last = slots.oldest().unwrap();
    remove(&mut slots, last);
    assert_eq!(slots.next_deadline(), None);
}
