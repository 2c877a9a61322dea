//! Deadlines that differ from source to source.

use std::time::Duration;

use super::queue::Queue;
use crate::timer::Instant;

/// The timeouts and deadlines of the used slots.
#[derive(Debug, Default)]
pub(super) struct Varied {
    /// The timeout of the source in each slot.
    timeouts: Vec<Option<Duration>>,
    /// Slots whose sources have started and have no deadline yet. Some may be free again.
    fresh: Vec<usize>,
    /// The deadline of the source in each slot.
    deadlines: Queue,
}

impl Varied {
    /// Gives a timeout to the source in a slot, which counts from the next call of `stamp`.
    pub(super) fn limit(&mut self, slot: usize, timeout: Duration) {
        if self.timeouts.len() <= slot {
            self.timeouts.resize(slot + 1, None);
        }
        self.timeouts[slot] = Some(timeout);
        self.fresh.push(slot);
    }

    /// Gives deadlines to the sources that have none yet, if the clock can express them.
    pub(super) fn stamp(&mut self, now: Instant) {
        for slot in self.fresh.drain(..) {
            let timeout = self.timeouts.get(slot).copied().flatten();
            let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
            if deadline.is_some() && self.deadlines.get(slot).is_none() {
                self.deadlines.set(slot, deadline);
            }
        }
    }

    /// Forgets the source in a slot.
    pub(super) fn release(&mut self, slot: usize) {
        if let Some(timeout) = self.timeouts.get_mut(slot) {
            *timeout = None;
            self.deadlines.set(slot, None);
        }
    }

    /// Forgets the slots from `len` on, which have no sources.
    pub(super) fn truncate(&mut self, len: usize) {
        self.timeouts.truncate(len);
        self.timeouts.shrink_to_fit();
        self.deadlines.truncate(len);
    }

    /// The first deadline, and its slot.
    pub(super) fn first(&self) -> Option<(Instant, usize)> {
        self.deadlines.first()
    }

    /// The deadline of a slot.
    pub(super) fn deadline(&self, slot: usize) -> Option<Instant> {
        self.deadlines.get(slot)
    }

    /// Whether the timeout of a slot is zero.
    pub(super) fn is_zero(&self, slot: usize) -> bool {
        self.timeouts.get(slot) == Some(&Some(Duration::ZERO))
    }
}
