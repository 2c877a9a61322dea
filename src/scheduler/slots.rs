//! The sources in flight, each pinned in a slot that later sources reuse.

mod order;
mod storage;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use order::Order;
use pin_project_lite::pin_project;
use storage::Storage;

use super::admission::Permit;
use super::clock::Instant;
use super::ready::Ready;
use crate::panics::Panics;

/// The sources in flight, with their ids, start times and deadlines.
pub(crate) struct Slots<K, G> {
    /// All slots, used or free.
    slots: Storage<Slot<K, G>>,
    /// The used slots in the order in which their sources started, and the free ones.
    order: Order,
    /// When the source in each slot started. Shorter than `slots` where `note_start` was not called.
    starts: Vec<Option<Instant>>,
}

pin_project! {
    /// A place for one source at a time.
    struct Slot<K, G> {
        // The id of the source, and the permit that it holds while it is in flight.
        id: Option<(K, Permit)>,
        // The source, if the slot is used.
        #[pin]
        source: Option<G>,
        // Set when a source first keeps a clone of the waker it is polled with. Later sources are
        // polled with it too.
        waker: Option<Waker>,
    }
}

impl<K, G> Default for Slot<K, G> {
    fn default() -> Self {
        Self {
            id: None,
            source: None,
            waker: None,
        }
    }
}

impl<K, G> Slots<K, G> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Storage::new(),
            order: Order::new(),
            starts: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a source into a free slot, as the newest. Without a source, the slot is to be filled.
    #[inline(always)]
    pub(crate) fn insert(&mut self, id: K, source: Option<G>, permit: Permit) -> usize {
        let index = self.order.take();
        if index == self.slots.len() {
            self.slots.grow();
        }
        let mut slot = self.slots.get(index).project();
        *slot.id = Some((id, permit));
        slot.source.set(source);
        if let Some(start) = self.starts.get_mut(index) {
            *start = None;
        }
        index
    }

    /// Fills a slot that was taken without a source.
    #[inline]
    pub(crate) fn fill(&mut self, index: usize, make: impl FnOnce(&K) -> G) {
        let mut slot = self.slots.get(index).project();
        if let Some((id, _)) = slot.id {
            slot.source.set(Some(make(id)));
        }
    }

    /// Calls `poll` with the source in the slot and a waker that wakes the slot. Drops a source that is
    /// ready, and returns its id with the answer. A free slot is pending; the waker of an earlier
    /// source may have woken it. A drop that panics is noted in `panics`.
    #[inline(always)]
    pub(crate) fn poll<R>(
        &mut self,
        index: usize,
        ready: &mut Ready,
        panics: &mut Panics,
        poll: impl FnOnce(Pin<&mut G>, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<(K, R)> {
        let mut slot = self.slots.get(index).project();
        let Some(source) = slot.source.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let polled = match slot.waker {
            Some(waker) => poll(source, &mut Context::from_waker(waker)),
            None => {
                let polled = poll(source, &mut Context::from_waker(ready.lend(index)));
                if polled.is_pending() {
                    *slot.waker = ready.kept();
                }
                polled
            }
        };
        let Poll::Ready(answer) = polled else {
            return Poll::Pending;
        };
        let (id, _permit) = slot.id.take().expect("a source in a slot has an id");
        self.order.release(index);
        drop_source(slot.source, panics);
        Poll::Ready((id, answer))
    }

    /// The source in the slot, with its id.
    pub(crate) fn source(&mut self, index: usize) -> Option<(&K, Pin<&mut G>)> {
        let slot = self.slots.get(index).project();
        let (id, _) = slot.id.as_ref()?;
        Some((id, slot.source.as_pin_mut()?))
    }

    /// Calls `found` with every source, oldest first. Afterwards no source has a deadline.
    pub(crate) fn each(&mut self, mut found: impl FnMut(Pin<&mut G>)) {
        for _ in 0..self.len() {
            let Some(oldest) = self.oldest() else {
                return;
            };
            self.renew(oldest);
            if let Some((_, source)) = self.source(oldest) {
                found(source);
            }
        }
    }

    /// Records when the source in a slot started.
    #[inline]
    pub(crate) fn note_start(&mut self, index: usize, now: Instant) {
        if self.starts.len() <= index {
            self.starts.resize(index + 1, None);
        }
        self.starts[index] = Some(now);
    }

    /// When the source in a slot started, if that was recorded.
    #[inline]
    pub(crate) fn started_at(&self, index: usize) -> Option<Instant> {
        *self.starts.get(index)?
    }

    /// Drops the source in the slot and returns its id, or `None` if the slot is free. A drop that
    /// panics is noted in `panics`.
    #[inline]
    pub(crate) fn remove(&mut self, index: usize, panics: &mut Panics) -> Option<K> {
        let slot = self.slots.get(index).project();
        let (id, _permit) = slot.id.take()?;
        self.order.release(index);
        drop_source(slot.source, panics);
        Some(id)
    }

    /// Makes a source the newest, without a deadline.
    pub(crate) fn renew(&mut self, index: usize) {
        self.order.renew(index);
    }

    /// The slot of the source that was started first.
    pub(crate) fn oldest(&self) -> Option<usize> {
        self.order.oldest()
    }

    /// Gives a deadline to the newest sources: those that have none yet.
    pub(crate) fn stamp(&mut self, deadline: Instant) {
        self.order.stamp(deadline);
    }

    /// The slot of the source that was started first, if its deadline is not after `due`.
    pub(crate) fn late(&self, due: Instant) -> Option<usize> {
        self.next_deadline().filter(|deadline| *deadline <= due)?;
        self.oldest()
    }

    /// Whether the deadline of the source in the slot is not after `due`.
    pub(crate) fn is_late(&self, index: usize, due: Instant) -> bool {
        let deadline = self.order.deadline(index);
        deadline.is_some_and(|deadline| deadline <= due)
    }

    /// The first deadline of all sources.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.order.next_deadline()
    }
}

fn drop_source<G>(mut source: Pin<&mut Option<G>>, panics: &mut Panics) {
    if std::mem::needs_drop::<G>() {
        panics.catch(|| source.set(None));
    } else {
        source.set(None);
    }
}

#[cfg(test)]
mod tests;
