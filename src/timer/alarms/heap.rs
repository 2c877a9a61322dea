//! Alarms sorted by time, of which any can be removed.
//!
//! A heap with four children to each node, in a vector. Most deadlines of a service are later than those
//! before, and most alarms are dropped soon after they were set. Such an alarm is at the end of the
//! vector when it is set and when it is dropped, so both cost the same however many others there are.

use std::task::Waker;

use crate::timer::Instant;

const CHILDREN: usize = 4;

/// If more alarms than this are due at once, they are picked out in one pass over all alarms.
const FEW: usize = 32;

/// Beyond this size, the memory of a list whose alarms are all gone is freed.
const SMALL: usize = 1024;

/// No slot, and no position in the heap.
const NONE: u32 = u32::MAX;

/// Alarms, each in a slot that is its own until it is removed.
#[derive(Debug)]
pub(super) struct Heap {
    /// The alarms that have not gone off. The time of each is not before that of its parent.
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    /// The first slot of the free list.
    free: u32,
    /// The number of slots in use.
    used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    at: Instant,
    slot: u32,
}

#[derive(Debug)]
struct Slot {
    /// Where its node is, if it has not gone off. In a free slot, the next one of the free list.
    position: u32,
    /// What it wakes, if it has not gone off.
    waker: Option<Waker>,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            slots: Vec::new(),
            free: NONE,
            used: 0,
        }
    }

    /// Adds an alarm. Returns its slot.
    ///
    /// # Panics
    ///
    /// If there are 4,294,967,294 alarms already.
    pub(super) fn insert(&mut self, at: Instant, waker: Waker) -> u32 {
        let slot = self.take_slot();
        self.slots[slot as usize].waker = Some(waker);
        self.used += 1;
        let end = self.nodes.len();
        self.nodes.push(Node { at, slot });
        self.move_up(end);
        slot
    }

    /// Removes an alarm. Returns its waker, if it has not gone off.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Waker> {
        let entry = &mut self.slots[slot as usize];
        let position = entry.position;
        let waker = entry.waker.take();
        entry.position = self.free;
        self.free = slot;
        self.used -= 1;
        if waker.is_some() {
            self.remove_node(position as usize);
        }
        if self.used == 0 && self.slots.len() > SMALL {
            *self = Self::new();
        }
        waker
    }

    /// The waker of an alarm, if it has not gone off.
    pub(super) fn waker(&self, slot: u32) -> Option<&Waker> {
        self.slots[slot as usize].waker.as_ref()
    }

    /// The time of the first alarm.
    pub(super) fn first(&self) -> Option<Instant> {
        self.nodes.first().map(|node| node.at)
    }

    /// The number of alarms after some time that have not gone off.
    #[cfg(test)]
    pub(super) fn after(&self, time: Instant) -> usize {
        self.nodes.iter().filter(|node| node.at > time).count()
    }

    /// Takes the wakers of the alarms that are due, first those that were due first.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while self.first().is_some_and(|first| first <= now) {
            if due.len() == FEW {
                self.take_all_due(now, &mut due);
                break;
            }
            let slot = self.nodes[0].slot;
            self.remove_node(0);
            due.extend(self.slots[slot as usize].waker.take());
        }
        due
    }

    /// Takes the wakers of all alarms, which go off.
    pub(super) fn take_all(&mut self) -> Vec<Waker> {
        let slots = &mut self.slots;
        let nodes = self.nodes.drain(..);
        nodes
            .filter_map(|node| slots[node.slot as usize].waker.take())
            .collect()
    }

    fn take_all_due(&mut self, now: Instant, due: &mut Vec<Waker>) {
        let mut taken = Vec::new();
        self.nodes.retain(|node| {
            if node.at <= now {
                taken.push(*node);
            }
            node.at > now
        });
        taken.sort_by_key(|node| node.at);
        let slots = &mut self.slots;
        due.extend(
            taken
                .iter()
                .filter_map(|node| slots[node.slot as usize].waker.take()),
        );
        for position in (0..self.nodes.len()).rev() {
            self.note_position(position);
            self.move_down(position);
        }
    }

    fn take_slot(&mut self) -> u32 {
        if self.free == NONE {
            let slot = u32::try_from(self.slots.len()).ok();
            let slot = slot.filter(|&slot| slot < NONE).expect("too many timers");
            self.slots.push(Slot {
                position: NONE,
                waker: None,
            });
            return slot;
        }
        let slot = self.free;
        self.free = self.slots[slot as usize].position;
        slot
    }

    fn remove_node(&mut self, position: usize) {
        self.nodes.swap_remove(position);
        if position < self.nodes.len() {
            // It was the last one. It may be earlier than its new parent, or later than its children.
            let position = self.move_up(position);
            self.move_down(position);
        }
    }

    /// Moves a node towards the first one, as far as it is earlier. Returns where it is then.
    fn move_up(&mut self, mut position: usize) -> usize {
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if self.nodes[parent].at <= self.nodes[position].at {
                break;
            }
            self.swap(position, parent);
            position = parent;
        }
        self.note_position(position);
        position
    }

    /// Moves a node towards the last one, as far as it is later.
    fn move_down(&mut self, mut position: usize) {
        loop {
            let first = position * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.nodes.len());
            let Some(earliest) = children.min_by_key(|&child| self.nodes[child].at) else {
                break;
            };
            if self.nodes[position].at <= self.nodes[earliest].at {
                break;
            }
            self.swap(position, earliest);
            position = earliest;
        }
        self.note_position(position);
    }

    /// Swaps two nodes. The caller notes the new position of the first one.
    fn swap(&mut self, moving: usize, other: usize) {
        self.nodes.swap(moving, other);
        self.note_position(moving);
    }

    fn note_position(&mut self, position: usize) {
        let slot = self.nodes[position].slot;
        self.slots[slot as usize].position = position as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::timer::Wakes;

    const SECOND: Duration = Duration::from_secs(1);

    /// An alarm of the model.
    struct Alarm {
        slot: u32,
        at: u32,
        wakes: Arc<Wakes>,
        has_gone_off: bool,
    }

    impl Alarm {
        fn wakes(&self) -> usize {
            // Relaxed: one thread.
            self.wakes.0.load(Ordering::Relaxed)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Alarms are set and dropped at random, and time passes. Those that are due go off, once, and no
        /// other, in the order of their times.
        #[test]
        fn each_alarm_goes_off_at_its_time_unless_it_was_dropped(
            steps in vec((0..3_u8, 0..200_u32, any::<prop::sample::Index>()), 1..200),
        ) {
            let began = Instant::now();
            let mut now = 0;
            let mut heap = Heap::new();
            let mut alarms: Vec<Alarm> = Vec::new();
            for (step, number, index) in steps {
                match step {
                    0 => for after in 0..number % 50 {
                        let at = now + number + after;
                        let wakes = Arc::<Wakes>::default();
                        let waker = wakes.clone().into();
                        let slot = heap.insert(began + SECOND * at, waker);
                        alarms.push(Alarm { slot, at, wakes, has_gone_off: false });
                    },
                    1 if !alarms.is_empty() => {
                        let dropped = alarms.swap_remove(index.index(alarms.len()));
                        let waker = heap.remove(dropped.slot);
                        prop_assert_eq!(waker.is_none(), dropped.has_gone_off);
                    }
                    _ => {
                        now += number;
                        let due = heap.take_due(began + SECOND * now);
                        let mut last = 0;
                        for waker in due {
                            waker.wake();
                            let is_next = |alarm: &&mut Alarm| {
                                alarm.wakes() == 1 && !alarm.has_gone_off
                            };
                            let woken = alarms.iter_mut().find(is_next).unwrap();
                            woken.has_gone_off = true;
                            prop_assert!(woken.at >= last);
                            last = woken.at;
                        }
                        for alarm in &alarms {
                            prop_assert_eq!(alarm.has_gone_off, alarm.at <= now);
                        }
                    }
                }
                let waiting = alarms.iter().filter(|alarm| !alarm.has_gone_off);
                let first = waiting.map(|alarm| began + SECOND * alarm.at).min();
                prop_assert_eq!(heap.first(), first);
            }
        }
    }
}
