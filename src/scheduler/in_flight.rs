//! The sources of a run: those in flight, and the list of those not started yet. They are dropped one by
//! one, so that two panicking destructors do not abort the process.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::clock::Clock;
use super::driver::Stay;
use super::ready::{Flag, Ready};
use super::slots::Slots;
use crate::panics::Panics;
use crate::sources::Sources;
use crate::timer::Instant;

/// Sources in slots, and the list of the sources after them.
pub(crate) struct InFlight<L, K, G> {
    pub(super) slots: Slots<K, G>,
    /// The sources not started yet. `None` when exhausted.
    pub(super) list: Option<L>,
    /// Whether a source was taken from the list and not started, in a run that drains.
    pub(super) has_left_out: bool,
    /// The id of a source that was taken from the list when the signal to drain came.
    pub(super) set_aside: Option<K>,
    /// The waker of the list, if the list may be pending.
    pub(super) waker: Option<Waker>,
    /// Drops the rest of the list one by one.
    drain: fn(&mut L, &mut Panics),
}

impl<L, K, G> InFlight<L, K, G> {
    #[inline(always)]
    pub(super) fn new(list: L) -> Self
    where
        L: Sources<Id = K>,
    {
        Self {
            slots: Slots::new(),
            list: Some(list),
            has_left_out: false,
            set_aside: None,
            waker: None,
            drain,
        }
    }

    /// What is known of a source, with the elapsed time if it is timed. A panic of the clock is noted in
    /// `panics`.
    #[inline]
    pub(super) fn stay(
        &self,
        index: usize,
        is_timed: bool,
        clock: &dyn Clock,
        panics: &mut Panics,
    ) -> Stay {
        Stay {
            position: self.slots.position(index),
            elapsed: match is_timed {
                true => self.elapsed(index, clock, panics),
                false => Duration::ZERO,
            },
        }
    }

    /// The time since a source started, or zero if its start was not noted.
    pub(super) fn elapsed(&self, index: usize, clock: &dyn Clock, panics: &mut Panics) -> Duration {
        let started = self.slots.started_at(index);
        let elapsed = started.and_then(|_| panics.catch(|| clock.since(started)));
        elapsed.unwrap_or_default()
    }

    /// Drops every source in flight, oldest first. Passes on its id and when it started, if that was
    /// noted.
    pub(super) fn drop_each(
        &mut self,
        panics: &mut Panics,
        mut dropped: impl FnMut(&K, Option<Instant>),
    ) {
        while let Some(oldest) = self.slots.oldest() {
            let started = self.slots.started_at(oldest);
            let Some(id) = self.slots.remove(oldest, panics) else {
                return;
            };
            panics.catch(|| dropped(&id, started));
            panics.drop_each([id]);
        }
    }
}

impl<L, K, G> InFlight<L, K, G>
where
    L: Sources<Id = K>,
{
    /// Polls the list, with a waker if it may be pending.
    #[inline(always)]
    pub(super) fn poll_list<R>(
        &mut self,
        ready: &Ready,
        poll: impl FnOnce(&mut L, &mut Context<'_>) -> Poll<Option<R>>,
    ) -> Poll<Option<R>> {
        let Some(list) = &mut self.list else {
            return Poll::Ready(None);
        };
        if !L::MAY_WAIT {
            return poll(list, &mut Context::from_waker(Waker::noop()));
        }
        let waker = self
            .waker
            .get_or_insert_with(|| ready.flag_waker(Flag::Sources));
        poll(list, &mut Context::from_waker(waker))
    }

    /// The next source of a list whose run has ended.
    pub(super) fn next_to_name(&mut self) -> Poll<Option<(K, L::Seed)>> {
        match &mut self.list {
            Some(list) => list.poll_left(&mut Context::from_waker(Waker::noop())),
            None => Poll::Ready(None),
        }
    }

    /// The weight of the sources in flight: their number, if they have no weights.
    #[inline(always)]
    pub(super) fn in_use(&self) -> usize {
        match &self.list {
            Some(list) if L::PARKS => list.in_use(),
            _ => self.slots.len(),
        }
    }

    /// Tells the list that the source in a slot has ended.
    #[inline(always)]
    pub(super) fn note_end(&mut self, index: usize) {
        if let Some(list) = &mut self.list {
            list.note_end(index);
        }
    }

    /// Bounds on the number of sources left to start, as the list reports them. If the list panics, they
    /// are unknown.
    #[inline(never)]
    pub(super) fn not_started(&self) -> (usize, Option<usize>) {
        self.not_started_or_panic(&mut Panics::default())
    }

    /// The same. A panic is noted in `panics`.
    pub(super) fn not_started_or_panic(&self, panics: &mut Panics) -> (usize, Option<usize>) {
        self.list.as_ref().map_or((0, Some(0)), |list| {
            let hint = panics.catch(|| list.sources_left());
            hint.unwrap_or((0, None))
        })
    }

    /// How many sources may still answer, if that is known. Not in a run that has left sources out: it
    /// ends because of that, and not by its policies.
    pub(super) fn most_left(&self) -> Option<usize> {
        let not_started = self.not_started().1.filter(|_| !self.has_left_out);
        not_started?.checked_add(self.slots.len())
    }
}

/// Whether a list is the iterator of a standard collection, whose items exist already. There is no trait
/// for that, so this compares the name of the type.
fn is_collection<L>() -> bool {
    const WRAPPERS: [&str; 4] = [
        "futures_aggregate::parking::Parking<",
        "futures_aggregate::process_batch::numbered::Numbered<",
        "futures_aggregate::sources::Each<",
        "futures_aggregate::spawned::Spawned<",
    ];
    const COLLECTIONS: [&str; 4] = [
        "alloc::vec::",
        "alloc::collections::",
        "core::array::",
        "core::option::",
    ];
    let mut name = std::any::type_name::<L>();
    while let Some(inside) = WRAPPERS
        .iter()
        .find_map(|wrapper| name.strip_prefix(wrapper))
    {
        name = inside;
    }
    std::mem::needs_drop::<L>() && COLLECTIONS.iter().any(|module| name.starts_with(module))
}

/// Drops the sources of a list one by one, up to its upper bound.
fn drain<L: Sources>(list: &mut L, panics: &mut Panics) {
    if !list.names_all() {
        return;
    }
    let most = panics.catch(|| list.sources_left().1.unwrap_or(0));
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..most.unwrap_or(0) {
        match panics.catch(|| list.poll_left(cx)) {
            Some(Poll::Ready(Some((id, seed)))) => list.discard(id, seed, panics),
            Some(_) => return,
            None => {}
        }
    }
}

impl<L, K, G> Drop for InFlight<L, K, G> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        self.drop_each(&mut panics, |_, _| {});
        panics.drop_each(self.set_aside.take());
        if let Some(mut list) = self.list.take() {
            // A collection with two sources that panic in their destructors would abort the process. So
            // its sources are dropped one by one. After a panic, which may be unwinding already, the same
            // is done for any other list, which makes its sources for that.
            let has_panicked = panics.is_some() || std::thread::panicking();
            if has_panicked || is_collection::<L>() {
                (self.drain)(&mut list, &mut panics);
            }
            panics.catch(|| drop(list));
        }
        panics.resume();
    }
}
