//! A time for each of some slots, sorted.

use std::collections::BTreeSet;

use crate::timer::Instant;

/// At most one time for each slot.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The time of each slot.
    times: Vec<Option<Instant>>,
    /// All times, with their slots.
    sorted: BTreeSet<(Instant, usize)>,
}

impl Queue {
    /// Sets or removes the time of a slot.
    pub(super) fn set(&mut self, slot: usize, time: Option<Instant>) {
        let before = self.get(slot);
        if before == time {
            return;
        }
        if self.times.len() <= slot {
            self.times.resize(slot + 1, None);
        }
        self.times[slot] = time;
        if let Some(before) = before {
            self.sorted.remove(&(before, slot));
        }
        if let Some(time) = time {
            self.sorted.insert((time, slot));
        }
    }

    /// Forgets the slots from `len` on, which have no times.
    pub(super) fn truncate(&mut self, len: usize) {
        self.times.truncate(len);
        self.times.shrink_to_fit();
    }

    /// The time of a slot.
    pub(super) fn get(&self, slot: usize) -> Option<Instant> {
        *self.times.get(slot)?
    }

    /// The first time, and its slot.
    pub(super) fn first(&self) -> Option<(Instant, usize)> {
        self.sorted.first().copied()
    }
}
