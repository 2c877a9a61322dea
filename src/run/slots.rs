//! Where futures stay pinned: a slot for each source in flight, used again by the next source.
//!
//! 1. A slot is boxed once and never moves, so that neither growing nor moving the run moves a
//!    future.
//! 2. The slots in use form a list in the order in which their sources were started. Where all
//!    sources have the same timeout this is the order of their deadlines too: the queue of
//!    deadlines needs no memory of its own, and a source that finishes leaves it at once.
//! 3. A slot is taken out of the list before its future is dropped, so that a future whose drop
//!    panics or wakes finds everything in order.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::panics::Panics;

/// The sources in flight.
pub(crate) struct Slots<K, F> {
    slots: Vec<Pin<Box<Slot<K, F>>>>,
    /// Slots without a source, linked by `newer`.
    free: Option<u32>,
    oldest: Option<u32>,
    newest: Option<u32>,
    len: usize,
}

pin_project! {
    struct Slot<K, F> {
        id: Option<K>,
        #[pin]
        source: Option<F>,
        // Made once, for every source that will live here.
        waker: Waker,
        deadline: Option<Instant>,
        older: Option<u32>,
        newer: Option<u32>,
    }
}

impl<K, F> Slots<K, F> {
    /// As many slots as can be told apart.
    pub(crate) const MAX: usize = u32::MAX as usize;

    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: None,
            oldest: None,
            newest: None,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a source into a slot, as the newest. `waker` makes the waker of a slot that was never
    /// used before.
    pub(crate) fn insert(&mut self, id: K, source: F, waker: impl FnOnce(usize) -> Waker) -> usize {
        let index = match self.free {
            Some(index) => {
                let mut slot = self.slots[index as usize].as_mut().project();
                self.free = slot.newer.take();
                *slot.id = Some(id);
                slot.source.set(Some(source));
                *slot.deadline = None;
                *slot.older = self.newest;
                index
            }
            None => {
                let index = u32::try_from(self.slots.len()).expect("no more slots than Slots::MAX");
                self.slots.push(Box::pin(Slot {
                    id: Some(id),
                    source: Some(source),
                    waker: waker(index as usize),
                    deadline: None,
                    older: self.newest,
                    newer: None,
                }));
                index
            }
        };
        *self.newer_of(self.newest) = Some(index);
        self.newest = Some(index);
        self.len += 1;
        index as usize
    }

    /// The id of the source in the slot.
    pub(crate) fn id(&self, index: usize) -> Option<&K> {
        self.slots[index].id.as_ref()
    }

    /// Lets `poll` poll the source in the slot, with the slot's own waker. A slot without a source,
    /// which a waker kept from an earlier one can wake, is pending.
    pub(crate) fn poll<R>(
        &mut self,
        index: usize,
        poll: impl FnOnce(Pin<&mut F>, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let slot = self.slots[index].as_mut().project();
        match slot.source.as_pin_mut() {
            Some(source) => poll(source, &mut Context::from_waker(slot.waker)),
            None => Poll::Pending,
        }
    }

    /// Wakes the slot, as its source would.
    pub(crate) fn wake(&self, index: usize) {
        self.slots[index].waker.wake_by_ref();
    }

    /// Takes the source out of its slot, lets `last` have one more look at it, and drops it.
    /// Returns its id and what was seen, unless the slot was empty. A drop that panics is noted in
    /// `panics`.
    pub(crate) fn remove<R>(
        &mut self,
        index: usize,
        panics: &mut Panics,
        last: impl FnOnce(Pin<&mut F>, &mut Panics) -> R,
    ) -> Option<(K, R)> {
        let slot = self.slots[index].as_mut().project();
        let id = slot.id.take()?;
        let (older, newer) = (slot.older.take(), slot.newer.take());
        *slot.newer = self.free;
        self.free = u32::try_from(index).ok();
        *self.newer_of(older) = newer;
        *self.older_of(newer) = older;
        self.len -= 1;

        let mut source = self.slots[index].as_mut().project().source;
        let seen = last(source.as_mut().as_pin_mut()?, panics);
        if std::mem::needs_drop::<F>() {
            panics.catch(|| source.set(None));
        } else {
            source.set(None);
        }
        Some((id, seen))
    }

    /// The source that was started first.
    pub(crate) fn oldest(&self) -> Option<usize> {
        self.oldest.map(|index| index as usize)
    }

    /// Gives a deadline to every source that has none yet: those started last.
    pub(crate) fn stamp(&mut self, deadline: Instant) {
        let mut next = self.newest;
        while let Some(index) = next {
            let slot = self.slots[index as usize].as_mut().project();
            if slot.deadline.is_some() {
                break;
            }
            *slot.deadline = Some(deadline);
            next = *slot.older;
        }
    }

    /// The source that was started first, if its deadline is not after `due`.
    pub(crate) fn late(&self, due: Instant) -> Option<usize> {
        self.next_deadline().filter(|deadline| *deadline <= due)?;
        self.oldest()
    }

    /// The deadline that comes first.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.slots[self.oldest()?].deadline
    }

    /// What names the slot after `older`: its link, or the head of the list.
    fn newer_of(&mut self, older: Option<u32>) -> &mut Option<u32> {
        match older {
            Some(index) => self.slots[index as usize].as_mut().project().newer,
            None => &mut self.oldest,
        }
    }

    /// What names the slot before `newer`: its link, or the tail of the list.
    fn older_of(&mut self, newer: Option<u32>) -> &mut Option<u32> {
        match newer {
            Some(index) => self.slots[index as usize].as_mut().project().older,
            None => &mut self.newest,
        }
    }
}

#[cfg(test)]
mod tests;
