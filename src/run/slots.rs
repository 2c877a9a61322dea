//! Where futures stay pinned: a slot for each source in flight, used again by the next source.

mod order;
mod storage;

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use order::Order;
use pin_project_lite::pin_project;
use storage::Storage;

use super::clock::Instant;
use super::panics::Panics;
use super::ready::{MOST_SLOTS, Ready};

/// The sources in flight.
pub(crate) struct Slots<K, F> {
    slots: Storage<Slot<K, F>>,
    order: Order,
}

pin_project! {
    struct Slot<K, F> {
        id: Option<K>,
        #[pin]
        source: Option<F>,
        // Once a source has kept the waker it was polled with, for every source that will live
        // here.
        waker: Option<Waker>,
    }
}

impl<K, F> Default for Slot<K, F> {
    fn default() -> Self {
        Self {
            id: None,
            source: None,
            waker: None,
        }
    }
}

impl<K, F> Slots<K, F> {
    /// As many slots as can be told apart.
    pub(crate) const MAX: usize = MOST_SLOTS;

    pub(crate) fn new() -> Self {
        Self {
            slots: Storage::new(),
            order: Order::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a source into a slot, as the newest.
    #[inline(always)]
    pub(crate) fn insert(&mut self, id: K, source: F) -> usize {
        let index = self.order.take();
        if index == self.slots.len() {
            self.slots.grow();
        }
        let mut slot = self.slots.get(index).project();
        *slot.id = Some(id);
        slot.source.set(Some(source));
        index
    }

    /// Lets `poll` poll the source in the slot, with a waker that wakes the slot. A source that
    /// answers is dropped, and its id returned with the answer. A slot without a source, which a
    /// waker kept from an earlier one can wake, is pending. A drop that panics is noted in `panics`.
    #[inline(always)]
    pub(crate) fn poll<R>(
        &mut self,
        index: usize,
        ready: &mut Ready,
        panics: &mut Panics,
        poll: impl FnOnce(Pin<&mut F>, &mut Context<'_>) -> Poll<R>,
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
        let id = slot.id.take().expect("a source with its id");
        self.order.give_back(index);
        drop_source(slot.source, panics);
        Poll::Ready((id, answer))
    }

    /// The source in the slot.
    pub(crate) fn source(&mut self, index: usize) -> Option<Pin<&mut F>> {
        self.slots.get(index).project().source.as_pin_mut()
    }

    /// Drops the source in the slot. Returns its id, unless the slot was empty. A drop that panics is
    /// noted in `panics`.
    #[inline]
    pub(crate) fn remove(&mut self, index: usize, panics: &mut Panics) -> Option<K> {
        let slot = self.slots.get(index).project();
        let id = slot.id.take()?;
        self.order.give_back(index);
        drop_source(slot.source, panics);
        Some(id)
    }

    /// Makes a source the newest, without a deadline.
    pub(crate) fn renew(&mut self, index: usize) {
        self.order.renew(index);
    }

    /// The source that was started first.
    pub(crate) fn oldest(&self) -> Option<usize> {
        self.order.oldest()
    }

    /// Gives a deadline to every source that has none yet: those started last.
    pub(crate) fn stamp(&mut self, deadline: Instant) {
        self.order.stamp(deadline);
    }

    /// The source that was started first, if its deadline is not after `due`.
    pub(crate) fn late(&self, due: Instant) -> Option<usize> {
        self.next_deadline().filter(|deadline| *deadline <= due)?;
        self.oldest()
    }

    /// Whether the source in the slot is late.
    pub(crate) fn is_late(&self, index: usize, due: Instant) -> bool {
        let deadline = self.order.deadline(index);
        deadline.is_some_and(|deadline| deadline <= due)
    }

    /// The deadline that comes first.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.order.next_deadline()
    }
}

fn drop_source<F>(mut source: Pin<&mut Option<F>>, panics: &mut Panics) {
    if std::mem::needs_drop::<F>() {
        panics.catch(|| source.set(None));
    } else {
        source.set(None);
    }
}

#[cfg(test)]
mod tests;
