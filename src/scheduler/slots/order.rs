//! In which order the slots were taken that are in use.
//!
//! A doubly linked list in a vector, closed to a ring by an end that stands before the oldest and
//! after the newest, so that no link ever leads nowhere. Where all sources have the same timeout
//! this is the order of their deadlines too: the queue of deadlines needs no memory of its own for
//! its order, and a source that finishes leaves it at once.

use crate::scheduler::clock::Instant;

/// The place of the end of the ring. Slot 0 is at the place after it.
const END: u32 = 0;

#[derive(Debug)]
pub(super) struct Order {
    links: Vec<Link>,
    /// A place that is not in use, if it is not the end, linked to more by `newer`.
    free: u32,
    len: usize,
    /// Filled up to the last place that was ever given a deadline.
    deadlines: Vec<Option<Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
}

impl Order {
    pub(super) fn new() -> Self {
        Self {
            links: Vec::new(),
            free: END,
            len: 0,
            deadlines: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a slot, as the newest: one that was used before, or else the first that never was.
    #[inline(always)]
    pub(super) fn take(&mut self) -> usize {
        if self.free == END {
            self.grow();
        }
        let place = self.free;
        let newest = self.links[END as usize].older;
        let link = &mut self.links[place as usize];
        self.free = link.newer;
        *link = Link {
            older: newest,
            newer: END,
        };
        self.links[newest as usize].newer = place;
        self.links[END as usize].older = place;
        self.len += 1;
        if let Some(deadline) = self.deadlines.get_mut(place as usize) {
            *deadline = None;
        }
        slot(place)
    }

    /// Makes one more place, and the end of the ring before the first.
    #[cold]
    fn grow(&mut self) {
        const ALONE: Link = Link {
            older: END,
            newer: END,
        };
        if self.links.is_empty() {
            self.links.reserve(16);
            self.links.push(ALONE);
        }
        self.free = self.links.len() as u32;
        self.links.push(ALONE);
    }

    /// Gives back a slot that is in use.
    #[inline(always)]
    pub(super) fn give_back(&mut self, slot: usize) {
        let place = place(slot);
        let link = &mut self.links[place as usize];
        let Link { older, newer } = *link;
        link.newer = self.free;
        self.free = place;
        self.links[older as usize].newer = newer;
        self.links[newer as usize].older = older;
        self.len -= 1;
    }

    /// Makes a slot that is in use the newest, without a deadline.
    pub(super) fn renew(&mut self, slot: usize) {
        let place = place(slot);
        let Link { older, newer } = self.links[place as usize];
        self.links[older as usize].newer = newer;
        self.links[newer as usize].older = older;
        let newest = self.links[END as usize].older;
        self.links[place as usize] = Link {
            older: newest,
            newer: END,
        };
        self.links[newest as usize].newer = place;
        self.links[END as usize].older = place;
        if let Some(deadline) = self.deadlines.get_mut(place as usize) {
            *deadline = None;
        }
    }

    /// The slot that was taken first.
    #[inline]
    pub(super) fn oldest(&self) -> Option<usize> {
        match self.links.first()?.newer {
            END => None,
            oldest => Some(slot(oldest)),
        }
    }

    /// Gives a deadline to every slot in use that has none yet: those taken last.
    pub(super) fn stamp(&mut self, deadline: Instant) {
        self.deadlines.resize(self.links.len(), None);
        let mut place = self.links.first().map_or(END, |end| end.older);
        while place != END && self.deadlines[place as usize].is_none() {
            self.deadlines[place as usize] = Some(deadline);
            place = self.links[place as usize].older;
        }
    }

    /// The deadline of a slot that is in use.
    #[inline]
    pub(super) fn deadline(&self, slot: usize) -> Option<Instant> {
        *self.deadlines.get(place(slot) as usize)?
    }

    /// The deadline of the slot that was taken first.
    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadline(self.oldest()?)
    }
}

fn slot(place: u32) -> usize {
    place as usize - 1
}

fn place(slot: usize) -> u32 {
    slot as u32 + 1
}
