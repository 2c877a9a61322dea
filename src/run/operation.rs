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

    /// There are so many sources, says their list.
    fn expect(&mut self, _sources: usize) {}

    /// Polls a source. One that polls sources of its own takes them out of `budget`.
    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        budget: &mut Budget,
    ) -> Poll<Self::Output>;

    /// Takes what is left of a source that is about to be dropped.
    fn stop(&mut self, source: Pin<&mut F>, reason: Reason, panics: &mut Panics) -> Self::Rest;

    /// A source has answered, and is gone.
    fn finished(
        &mut self,
        id: K,
        output: Self::Output,
        hooks: &mut H,
        panics: &mut Panics,
    ) -> ControlFlow<End>;

    /// A source has run into its own timeout, and is gone.
    fn timed_out(
        &mut self,
        id: K,
        rest: Self::Rest,
        hooks: &mut H,
        panics: &mut Panics,
    ) -> ControlFlow<End>;

    /// A source has panicked, and is gone.
    fn panicked(&mut self, id: K, message: String, hooks: &mut H, panics: &mut Panics);

    /// The run has ended before the source answered, and the source is gone.
    fn unfinished(&mut self, id: K, rest: Self::Rest);

    /// Whether the sources are runs themselves. Such a source can be polled again after a panic,
    /// because it dropped what panicked and has woken its task to say so; and when its time is up
    /// it is told, and ends by itself.
    const SOURCES_ARE_RUNS: bool = false;

    /// Tells a source that is a run that its time is up.
    fn close(&mut self, _source: Pin<&mut F>) {}

    /// The deadline of the whole has passed.
    fn draw_line(&mut self) {}

    /// Whether a source that is a run was not complete when it ended after that.
    fn is_cut_short(&self) -> bool {
        false
    }

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

    /// The run has ended, and no source exists any more.
    fn ended(&mut self, _panics: &mut Panics) {}
}
