//! What a consumer does with the sources of a run and with their outcomes.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::budget::Budget;
use super::options::Policies;
use super::ready::Ready;
use crate::Reason;
use crate::panics::Panics;

/// How a run ends: every source has answered, or it was interrupted.
pub(crate) type End = Result<(), Reason>;

/// The part of a run that differs from operation to operation: a consumer with the caller's hooks, for
/// one poll. A panic of a hook is noted in `panics` and loses nothing. `elapsed` is the time since a
/// source started, or zero unless it is [timed](Self::TIMES_SOURCES).
pub(crate) trait Driver<K, G> {
    /// What a source resolves to.
    type Answer;

    /// Whether the sources are runs themselves. Such a source can be polled again after a panic,
    /// because it has dropped what panicked; and stopping it takes more than dropping it.
    const SOURCES_ARE_RUNS: bool = false;

    /// Whether the run notes when each source starts.
    const TIMES_SOURCES: bool;

    /// Prepares for this many outcomes.
    fn expect(&mut self, _sources: usize) {}

    /// A source is about to be polled for the first time.
    fn started(&mut self, id: &K);

    /// Polls a source. One that is a run starts sources of its own only if it `may_start` them.
    fn poll_source(
        &mut self,
        source: Pin<&mut G>,
        cx: &mut Context<'_>,
        may_start: bool,
    ) -> Poll<Self::Answer>;

    /// Stops a source that is a run: drops its sources at once. Returns pending while the budget is
    /// too small to name those that it never started.
    fn stop(
        &mut self,
        _id: &K,
        _source: Pin<&mut G>,
        _reason: Reason,
        _budget: &mut Budget,
        _panics: &mut Panics,
    ) -> Poll<()> {
        Poll::Ready(())
    }

    /// A source has answered, and was dropped.
    fn finished(
        &mut self,
        id: K,
        answer: Self::Answer,
        elapsed: Duration,
        panics: &mut Panics,
    ) -> ControlFlow<End>;

    /// A source has run into its own timeout, and was dropped.
    fn timed_out(&mut self, id: K, elapsed: Duration, panics: &mut Panics) -> ControlFlow<End>;

    /// A source has panicked, and was dropped.
    fn panicked(&mut self, id: K, message: String, elapsed: Duration, panics: &mut Panics);

    /// A source was dropped before it answered, because the run has ended.
    fn unfinished(&mut self, id: K, reason: Reason, elapsed: Duration, panics: &mut Panics);

    /// A source was not started before the run ended.
    fn not_started(&mut self, id: K, reason: Reason, panics: &mut Panics);

    /// Whether the run may have more sources than it has named.
    fn leave_unseen(&mut self);

    /// How the run ends, if its outcomes decide that. `most_left` returns how many sources may still
    /// answer, if that is known.
    fn verdict(
        &mut self,
        _policies: &Policies,
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
