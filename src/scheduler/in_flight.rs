//! The sources of a run: those in flight, and the list of those not started yet. They are dropped one by
//! one, so that two panicking destructors do not abort the process.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::clock;
use super::ready::{Flag, Ready};
use super::slots::Slots;
use crate::panics::Panics;
use crate::sources::Sources;

/// Sources in slots, and the list of the sources after them.
pub(crate) struct InFlight<L, K, G> {
    pub(super) slots: Slots<K, G>,
    /// The sources not started yet. `None` when exhausted.
    pub(super) list: Option<L>,
    /// The waker of the list, if the list may be pending.
    waker: Option<Waker>,
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
            waker: None,
            drain,
        }
    }

    /// The time since a source started, or zero if its start was not noted.
    #[inline]
    pub(super) fn elapsed(&self, index: usize) -> Duration {
        let started = self.slots.started_at(index);
        started.map_or(Duration::ZERO, |at| {
            clock::now().saturating_duration_since(at)
        })
    }

    /// Drops every source in flight, oldest first. Passes on its id and the time since it started.
    pub(super) fn drop_each(&mut self, panics: &mut Panics, mut dropped: impl FnMut(&K, Duration)) {
        while let Some(oldest) = self.slots.oldest() {
            let elapsed = self.elapsed(oldest);
            let Some(id) = self.slots.remove(oldest, panics) else {
                return;
            };
            panics.catch(|| dropped(&id, elapsed));
            panics.drop_each([id]);
        }
    }
}

impl<L, K, G> InFlight<L, K, G>
where
    L: Sources<Id = K>,
{
    /// The next source of the list, as its id and what its future is made of.
    #[inline(always)]
    pub(super) fn next(&mut self, ready: &Ready) -> Poll<Option<(K, L::Seed)>> {
        let Some(list) = &mut self.list else {
            return Poll::Ready(None);
        };
        if !L::MAY_WAIT {
            return list.poll_next(&mut Context::from_waker(Waker::noop()));
        }
        let waker = self
            .waker
            .get_or_insert_with(|| ready.flag_waker(Flag::Sources));
        list.poll_next(&mut Context::from_waker(waker))
    }

    /// The next source of a list whose run has ended.
    pub(super) fn next_to_name(&mut self) -> Poll<Option<(K, L::Seed)>> {
        match &mut self.list {
            Some(list) => list.poll_next(&mut Context::from_waker(Waker::noop())),
            None => Poll::Ready(None),
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
}

/// Whether a list is the iterator of a standard collection, whose items exist already. There is no trait
/// for that, so this compares the name of the type.
fn is_collection<L>() -> bool {
    const WRAPPERS: [&str; 2] = [
        "futures_aggregate::process_batch::numbered::Numbered<",
        "futures_aggregate::sources::Each<",
    ];
    const COLLECTIONS: [&str; 4] = [
        "alloc::vec::",
        "alloc::collections::",
        "core::array::",
        "core::option::",
    ];
    let mut name = std::any::type_name::<L>();
    for wrapper in WRAPPERS {
        name = name.strip_prefix(wrapper).unwrap_or(name);
    }
    std::mem::needs_drop::<L>() && COLLECTIONS.iter().any(|module| name.starts_with(module))
}

/// Drops the sources of a list one by one, up to its upper bound.
fn drain<L: Sources>(list: &mut L, panics: &mut Panics) {
    if L::MAY_WAIT {
        return;
    }
    let most = panics.catch(|| list.sources_left().1.unwrap_or(0));
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..most.unwrap_or(0) {
        match panics.catch(|| list.poll_next(cx)) {
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
