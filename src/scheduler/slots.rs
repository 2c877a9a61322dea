//! The sources in flight, each pinned in a slot that later sources reuse.

mod order;
mod queue;
mod storage;
mod varied;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub(crate) use order::Links;
use order::Order;
use pin_project_lite::pin_project;
use queue::Queue;
use storage::Storage;
use varied::Varied;

use super::admission::Permit;
use super::ready::{CountedWaker, Ready};
use super::samples::Sample;
use crate::panics::Panics;
use crate::timer::Instant;

/// The sources in flight, with their ids, positions, start times and deadlines.
pub(crate) struct Slots<K, G> {
    /// All slots, used or free.
    slots: Storage<Slot<K, G>>,
    /// The used slots in the order in which their sources started, and the free ones.
    order: Order,
    /// When the source in each slot started. Shorter than `slots` where `note_start` was not called.
    starts: Vec<Option<Instant>>,
    /// What few runs need. `None` until it is used.
    extras: Option<Box<Extras>>,
    /// The most sources in flight since memory was given back.
    peak: usize,
    /// Whether a burst of sources was over at the end of the last poll that looked.
    was_over: bool,
}

/// What only some runs note of their sources.
#[derive(Default)]
struct Extras {
    /// Deadlines that differ from source to source.
    varied: Varied,
    /// When the source in each slot, which is a run, is to be polled without a wake.
    wakes: Queue,
    /// The permit of the source in each slot, if it holds places in limits that runs share.
    permits: Vec<Option<Permit>>,
    /// What adaptive limits are told of the source in each slot.
    samples: Vec<Option<Sample>>,
    /// The position of the source in each slot.
    positions: Vec<usize>,
    /// The position of the next source.
    next_position: usize,
}

impl Extras {
    /// Forgets the slots from `len` on, which are not used.
    fn truncate(&mut self, len: usize) {
        self.varied.truncate(len);
        self.wakes.truncate(len);
        truncate(&mut self.permits, len);
        truncate(&mut self.samples, len);
        truncate(&mut self.positions, len);
    }

    /// Forgets the deadlines of the source in a slot.
    fn release(&mut self, slot: usize) {
        self.varied.release(slot);
        self.wakes.set(slot, None);
    }
}

/// The fewest sources in flight whose memory is given back when most of them have ended.
const BURST: usize = 1024;

pin_project! {
    /// A place for one source at a time.
    struct Slot<K, G> {
        // The id of the source.
        id: Option<K>,
        // The source, if the slot is used.
        #[pin]
        source: Option<G>,
        // Set when a source first keeps a clone of the waker it is polled with. Later sources are polled
        // with it too.
        waker: Option<CountedWaker>,
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
            extras: None,
            peak: 0,
            was_over: false,
        }
    }

    /// Uses the memory of an earlier run.
    pub(crate) fn begin(&mut self, links: Links) {
        self.order.begin(links);
    }

    /// Ends a run that has no source left. Returns what a later run can use, and gives the wakers of the
    /// slots back.
    pub(crate) fn end(&mut self, ready: &mut Ready) -> Links {
        for index in 0..self.slots.len() {
            if !ready.has_kept() {
                break;
            }
            let slot = self.slots.get(index);
            if let Some(waker) = slot.and_then(|slot| slot.project().waker.take()) {
                ready.take_back(waker);
            }
        }
        self.order.end()
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// At the end of a poll, gives memory back if a burst of sources is over. The last sources of a run often
    /// end together, so memory is kept for one more poll. Returns whether the run needs that poll.
    #[inline]
    pub(crate) fn give_back_unused(&mut self, ready: &mut Ready) -> bool {
        let len = self.len();
        self.peak = self.peak.max(len);
        let is_empty = len == 0 && self.slots.len() >= BURST;
        let is_over = is_empty || self.peak >= BURST && len <= self.peak / 16;
        let was_over = std::mem::replace(&mut self.was_over, is_over);
        if is_over && was_over {
            self.give_back(ready);
        }
        is_over && !was_over
    }

    /// Gives the memory of unused slots back. This looks at all slots, so it waits until enough sources
    /// have ended.
    #[cold]
    fn give_back(&mut self, ready: &mut Ready) {
        let ended = self.peak - self.len();
        if ended < self.slots.len() / 64 && !self.is_empty() {
            return;
        }
        self.peak = self.len();
        let discard = |slot: Pin<&mut Slot<K, G>>| {
            if let Some(waker) = slot.project().waker.take() {
                ready.take_unused(waker);
            }
        };
        self.slots.give_back(|slot| slot.id.is_some(), discard);
        self.order.compact();
        let len = self.slots.len();
        truncate(&mut self.starts, len);
        if let Some(extras) = &mut self.extras {
            extras.truncate(len);
        }
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
        let mut slot = self.slots.get_or_default(index).project();
        *slot.id = Some(id);
        slot.source.set(source);
        if let Some(start) = self.starts.get_mut(index) {
            *start = None;
        }
        if permit.is_shared() {
            self.keep_permit(index, permit);
        }
        index
    }

    /// Fills a slot that was taken without a source.
    #[inline]
    pub(crate) fn fill(&mut self, index: usize, make: impl FnOnce(&K) -> G) {
        let mut slot = self.slots.get_or_default(index).project();
        if let Some(id) = slot.id {
            slot.source.set(Some(make(id)));
        }
    }

    /// Keeps the permit of a source until the source leaves its slot.
    #[cold]
    fn keep_permit(&mut self, index: usize, permit: Permit) {
        let permits = &mut self.extras.get_or_insert_default().permits;
        if permits.len() <= index {
            permits.resize_with(index + 1, || None);
        }
        permits[index] = Some(permit);
    }

    /// Releases the permit of a source that was dropped.
    #[inline]
    fn release_permit(&mut self, index: usize, panics: &mut Panics) {
        let permits = self.extras.as_mut().map(|extras| &mut extras.permits);
        if let Some(permit) = permits.and_then(|all| all.get_mut(index)?.take()) {
            permit.release(panics);
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
        let Some(slot) = self.slots.get(index) else {
            return Poll::Pending;
        };
        let mut slot = slot.project();
        let Some(source) = slot.source.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let polled = match slot.waker {
            Some(own) => poll(source, &mut Context::from_waker(own.waker())),
            None => {
                let polled = poll(source, &mut Context::from_waker(ready.lend(index)));
                if polled.is_pending() {
                    if let Some(kept) = ready.take_kept() {
                        *slot.waker = Some(kept);
                    }
                }
                polled
            }
        };
        let Poll::Ready(answer) = polled else {
            return Poll::Pending;
        };
        let id = slot.id.take().expect("a source in a slot has an id");
        self.order.release(index);
        if let Some(extras) = &mut self.extras {
            extras.release(index);
        }
        drop_source(slot.source, panics);
        self.release_permit(index, panics);
        Poll::Ready((id, answer))
    }

    /// The source in the slot, with its id.
    pub(crate) fn source(&mut self, index: usize) -> Option<(&K, Pin<&mut G>)> {
        let slot = self.slots.get(index)?.project();
        let id = slot.id.as_ref()?;
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

    /// Calls `found` with every used slot.
    pub(crate) fn each_used(&mut self, mut found: impl FnMut(usize)) {
        for index in 0..self.slots.len() {
            if self.source(index).is_some() {
                found(index);
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

    /// Records the position of the source in a slot. If it is not known, it is one after that of the source
    /// before it.
    #[inline(never)]
    pub(crate) fn note_position(&mut self, index: usize, position: Option<usize>) {
        let extras = self.extras.get_or_insert_default();
        if extras.positions.len() <= index {
            extras.positions.resize(index + 1, 0);
        }
        extras.positions[index] = position.unwrap_or(extras.next_position);
        extras.next_position += 1;
    }

    /// The position of the source that is or was last in a slot, or zero if it was not recorded.
    #[inline]
    pub(crate) fn position(&self, index: usize) -> usize {
        let extras = self.extras.as_ref();
        let position = extras.and_then(|extras| extras.positions.get(index));
        position.copied().unwrap_or(0)
    }

    /// Drops the source in the slot and returns its id, or `None` if the slot is free. A drop that
    /// panics is noted in `panics`.
    #[inline]
    pub(crate) fn remove(&mut self, index: usize, panics: &mut Panics) -> Option<K> {
        let slot = self.slots.get(index)?.project();
        let id = slot.id.take()?;
        self.order.release(index);
        if let Some(extras) = &mut self.extras {
            extras.release(index);
        }
        drop_source(slot.source, panics);
        if let Some(sample) = self.take_sample(index) {
            panics.catch(|| drop(sample));
        }
        self.release_permit(index, panics);
        Some(id)
    }

    /// Keeps what adaptive limits are told of a source.
    #[cold]
    pub(crate) fn keep_sample(&mut self, index: usize, sample: Sample) {
        let samples = &mut self.extras.get_or_insert_default().samples;
        if samples.len() <= index {
            samples.resize_with(index + 1, || None);
        }
        samples[index] = Some(sample);
    }

    /// Takes it, after the source has left its slot or before.
    #[inline]
    pub(crate) fn take_sample(&mut self, index: usize) -> Option<Sample> {
        let extras = self.extras.as_mut()?;
        extras.samples.get_mut(index)?.take()
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

    /// Gives the source in a slot a timeout of its own, which counts from the next call of
    /// `stamp_limits`.
    #[cold]
    pub(crate) fn limit(&mut self, index: usize, timeout: Duration) {
        let extras = self.extras.get_or_insert_default();
        extras.varied.limit(index, timeout);
    }

    /// Gives deadlines to the sources with timeouts of their own that have none yet.
    pub(crate) fn stamp_limits(&mut self, now: Instant) {
        if let Some(extras) = &mut self.extras {
            extras.varied.stamp(now);
        }
    }

    /// Notes when the source in a slot, which is a run, is to be polled without a wake.
    #[inline]
    pub(crate) fn note_wake(
        &mut self,
        index: usize,
        wakes_at: impl FnOnce(Pin<&mut G>) -> Option<Instant>,
    ) {
        let source = self
            .slots
            .get(index)
            .and_then(|slot| slot.project().source.as_pin_mut());
        let at = source.and_then(wakes_at);
        if at.is_some() || self.extras.is_some() {
            self.extras.get_or_insert_default().wakes.set(index, at);
        }
    }

    /// When the first of those sources is to be polled.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let (at, _) = self.extras.as_ref()?.wakes.first()?;
        Some(at)
    }

    /// The slot of a source that is to be polled now without a wake, and has not been taken before.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<usize> {
        let wakes = &mut self.extras.as_mut()?.wakes;
        let (at, index) = wakes.first()?;
        if at > now {
            return None;
        }
        wakes.set(index, None);
        Some(index)
    }

    /// A slot whose deadline is not after `due`: that of the first deadline.
    pub(crate) fn late(&self, due: Instant) -> Option<usize> {
        let (deadline, index) = self.first_deadline()?;
        (deadline <= due).then_some(index)
    }

    /// Whether the deadline of the source in the slot is not after `due`.
    pub(crate) fn is_late(&self, index: usize, due: Instant) -> bool {
        let deadline = self.deadline(index);
        deadline.is_some_and(|deadline| deadline <= due)
    }

    /// Whether the source in the slot has a timeout of its own, and that is zero.
    pub(crate) fn has_zero_limit(&self, index: usize) -> bool {
        let extras = self.extras.as_ref();
        extras.is_some_and(|extras| extras.varied.is_zero(index))
    }

    /// The deadline of the source in the slot.
    pub(crate) fn deadline(&self, index: usize) -> Option<Instant> {
        let extras = self.extras.as_ref();
        let own = extras.and_then(|extras| extras.varied.deadline(index));
        let common = self.order.deadline(index);
        own.into_iter().chain(common).min()
    }

    /// The first deadline of all sources.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.first_deadline().map(|(deadline, _)| deadline)
    }

    /// The first deadline of all sources, and its slot.
    #[inline]
    fn first_deadline(&self) -> Option<(Instant, usize)> {
        let common = self.order.first_deadline();
        match &self.extras {
            Some(extras) => common.into_iter().chain(extras.varied.first()).min(),
            None => common,
        }
    }
}

/// Forgets the values from `len` on, and gives their memory back.
fn truncate<V>(values: &mut Vec<V>, len: usize) {
    values.truncate(len);
    values.shrink_to_fit();
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
