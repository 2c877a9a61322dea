//! What is done with the sources of a run and with their outcomes.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::budget::Budget;
use super::panics::Panics;
use super::ready::Ready;
use crate::Reason;

/// How a run ends: every source has answered, or it was interrupted.
pub(crate) type End = Result<(), Reason>;

/// The part of a run that differs from operation to operation. `hooks` are those of the run, to be
/// told of outcomes; a hook that panics is noted in `panics`, and loses nothing.
pub(crate) trait Operation<K, F, H> {
    /// What a source resolves to.
    type Output;
    /// What is left of a source that is stopped.
    type Rest;

    /// Whether the sources are runs themselves. Such a source can be polled again after a panic,
    /// because it has dropped what panicked; and stopping it takes more than dropping it.
    const SOURCES_ARE_RUNS: bool = false;

    /// The iterator reports this exact length.
    fn expect(&mut self, _sources: usize) {}

    /// Polls a source. One that is a run starts sources of its own only if it `may_start` them.
    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        may_start: bool,
    ) -> Poll<Self::Output>;

    /// Prepares a source for being dropped, and returns what is left of it. A run drops its sources
    /// at once, and is pending while the budget is too small to name those that it never started.
    fn stop(
        &mut self,
        source: Pin<&mut F>,
        reason: Reason,
        budget: &mut Budget,
        panics: &mut Panics,
    ) -> Poll<Self::Rest>;

    /// Interrupts a source that is a run, because its time is up. Its next poll returns what it came
    /// to.
    fn expire(&mut self, _source: Pin<&mut F>, _budget: &mut Budget, _panics: &mut Panics) {}

    /// A source has answered, and is gone.
    fn finished(
        &mut self,
        id: K,
        output: Self::Output,
        hooks: &mut H,
        panics: &mut Panics,
    ) -> ControlFlow<End>;

    /// A source has run into its own timeout, and is gone.
    fn timed_out(&mut self, id: K, hooks: &mut H, panics: &mut Panics) -> ControlFlow<End>;

    /// A source has panicked, and is gone.
    fn panicked(&mut self, id: K, message: String, hooks: &mut H, panics: &mut Panics);

    /// The run has ended before the source answered, and the source is gone.
    fn unfinished(&mut self, id: K, rest: Self::Rest);

    /// How the run ends for what its outcomes are, if they decide it. `most_left` says how many
    /// sources may still answer, if that is known.
    fn verdict(
        &mut self,
        _hooks: &mut H,
        _most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        None
    }

    /// Whether there is no more use for outcomes.
    fn poll_stop(&mut self, _ready: &mut Ready) -> Option<Reason> {
        None
    }

    /// Passes on outcomes that have waited, each out of `budget`.
    fn flush(&mut self, _ready: &mut Ready, _budget: &mut Budget) -> ControlFlow<End> {
        ControlFlow::Continue(())
    }

    /// Whether there are outcomes that could be passed on at once.
    fn can_flush(&self) -> bool {
        false
    }

    /// How many outcomes wait to be passed on. They count as sources in flight.
    fn waiting(&self) -> usize {
        0
    }

    /// The run has ended, and no source is in flight any more.
    fn ended(&mut self, _panics: &mut Panics) {}
}
