//! Admission: what may start, and when.
//!
//! A source starts only with a [`Permit`], which its slot keeps until the source leaves it, on every
//! path: an answer, a timeout, a panic, a drop. Today the only limit is a number of sources in
//! flight, so a permit is nothing but the proof that it was asked for.

use super::options::Options;
use super::ready::MOST_SLOTS;

/// Decides what may start.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The most sources in flight, outcomes that wait to be passed on included.
    limit: usize,
    /// Whether this poll may start sources. Not if the run is part of another one whose time is up.
    is_open: bool,
    /// Whether this poll may start one source although its budget is spent: sources that take long
    /// would keep new ones from starting for ever.
    may_start_one: bool,
}

/// Allows one source to be in flight.
#[derive(Debug)]
pub(crate) struct Permit(());

impl Admission {
    #[inline]
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            limit: options.concurrency.min(MOST_SLOTS),
            is_open: true,
            may_start_one: true,
        }
    }

    /// Begins a poll, which starts sources only if it `may_start` them.
    pub(crate) fn begin_poll(&mut self, may_start: bool) {
        self.is_open = may_start;
        self.may_start_one = true;
    }

    /// Takes the one start that a poll may make although its budget is spent.
    pub(crate) fn take_free_start(&mut self) -> bool {
        std::mem::take(&mut self.may_start_one)
    }

    /// Whether a source may start while so many are in flight.
    #[inline]
    pub(crate) fn may_start(&self, in_flight: usize) -> bool {
        self.is_open && self.has_room(in_flight)
    }

    /// Whether there is room for another source, in this poll or in a later one.
    #[inline]
    pub(crate) fn has_room(&self, in_flight: usize) -> bool {
        in_flight < self.limit
    }

    /// Permits the start of a source for which there is room.
    #[inline]
    pub(crate) fn permit(&self, in_flight: usize) -> Option<Permit> {
        self.has_room(in_flight).then_some(Permit(()))
    }

    /// Permits a run that has ended to hold a source while it names what is inside it.
    pub(crate) fn permit_naming(&self) -> Permit {
        Permit(())
    }

    /// Admits one more source from now on.
    pub(crate) fn raise(&mut self) {
        self.limit = self.limit.saturating_add(1);
    }
}
