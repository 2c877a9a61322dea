//! What a consumer does with the sources of a run and with their outcomes.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::budget::Budget;
use super::clock::Clock;
use super::options::Policies;
use super::ready::Ready;
use crate::Reason;
use crate::limit::Ending;
use crate::panics::Panics;
use crate::timer::Instant;

/// How a run ends: every source has answered, or it was interrupted.
pub(crate) type End = Result<(), Reason>;

/// What a run knows of a source that has left it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stay {
    /// The number of sources that started before it. Zero unless the run is in order.
    pub(crate) position: usize,
    /// The time since it started. Zero unless the driver [times](Driver::TIMES_SOURCES) its sources.
    pub(crate) elapsed: Duration,
}

impl Stay {
    /// That of a source that was never started.
    pub(crate) const NONE: Self = Self {
        position: 0,
        elapsed: Duration::ZERO,
    };
}

/// What a batch or another run inside a run may do in a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starts {
    /// Start sources.
    Allowed,
    /// Start none in this poll, because the time of the batch is up.
    Paused,
    /// Start no more sources, and end when those in flight have answered.
    Over,
}

/// What a run tells those among its sources that are runs.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) clock: &'a dyn Clock,
    /// Whether they may start sources.
    pub(crate) starts: Starts,
    /// The time of the latest alarm that has gone off.
    pub(crate) slept_until: Option<Instant>,
}

/// The part of a run that differs from operation to operation: a consumer with the caller's hooks, for
/// one poll. A panic of a hook is noted in `panics` and loses nothing.
pub(crate) trait Driver<K, G> {
    /// What a source resolves to.
    type Answer;

    /// Whether the sources are runs themselves. Such a source can be polled again after a panic,
    /// because it has dropped what panicked; and stopping it takes more than dropping it.
    const SOURCES_ARE_RUNS: bool = false;

    /// Whether the run notes when each source starts.
    const TIMES_SOURCES: bool;

    /// Whether sources have timeouts of their own.
    const LIMITS_SOURCES: bool = false;

    /// Prepares for this many outcomes.
    fn expect(&mut self, _sources: usize) {}

    /// A source is about to be polled for the first time.
    fn started(&mut self, id: &K);

    /// The timeout of a source that starts. [`Duration::MAX`] is none. A panic is noted in `panics`.
    fn source_timeout(&mut self, _id: &K, _panics: &mut Panics) -> Duration {
        Duration::MAX
    }

    /// Polls a source. `around` is for one that is a run.
    fn poll_source(
        &mut self,
        source: Pin<&mut G>,
        cx: &mut Context<'_>,
        around: Around<'_>,
    ) -> Poll<Self::Answer>;

    /// When a source that is a run, and pending, is to be polled without a wake.
    fn wakes_at(_source: Pin<&mut G>) -> Option<Instant> {
        None
    }

    /// Stops a source that is a run: drops its sources at once. Returns pending while the budget is
    /// too small to name those that it never started.
    fn stop(
        &mut self,
        _id: &K,
        _source: Pin<&mut G>,
        _reason: Reason,
        _budget: &mut Budget<'_>,
        _panics: &mut Panics,
    ) -> Poll<()> {
        Poll::Ready(())
    }

    /// What an answer says to an adaptive limit. A panic of the caller's closure is noted in `panics`.
    fn ending(&mut self, _answer: &Self::Answer, _panics: &mut Panics) -> Ending {
        Ending::Answer
    }

    /// A source has answered, and was dropped.
    fn finished(
        &mut self,
        id: K,
        answer: Self::Answer,
        stay: Stay,
        panics: &mut Panics,
    ) -> ControlFlow<End>;

    /// A source has run into its own timeout, and was dropped.
    fn timed_out(&mut self, id: K, stay: Stay, panics: &mut Panics) -> ControlFlow<End>;

    /// A source has panicked, and was dropped.
    fn panicked(&mut self, id: K, message: String, stay: Stay, panics: &mut Panics);

    /// A source was dropped before it answered, because the run has ended.
    fn unfinished(&mut self, id: K, reason: Reason, elapsed: Duration, panics: &mut Panics);

    /// A source was not started before the run ended.
    fn not_started(&mut self, id: K, reason: Reason, panics: &mut Panics);

    /// Notes that the run may have more sources than it has named.
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

    /// Passes on outcomes that have waited, before the sources are polled.
    fn flush_first(&mut self, ready: &mut Ready, budget: &mut Budget<'_>) -> ControlFlow<End> {
        self.flush(ready, budget)
    }

    /// Passes on outcomes that have waited, each out of `budget`.
    fn flush(&mut self, _ready: &mut Ready, _budget: &mut Budget<'_>) -> ControlFlow<End> {
        ControlFlow::Continue(())
    }

    /// Whether there are outcomes that could be passed on at once.
    fn can_flush(&self) -> bool {
        false
    }

    /// Whether sources may start.
    fn may_start(&self) -> bool {
        true
    }

    /// Whether a run among the sources has left sources unstarted because it was told to end.
    fn has_drained(&self) -> bool {
        false
    }

    /// How many outcomes wait to be passed on. They count as sources in flight.
    fn waiting(&self) -> usize {
        0
    }

    /// How many of them wait for the outcome of an earlier source.
    fn held_back(&self) -> usize {
        0
    }

    /// The run has ended, and no source is in flight any more.
    fn ended(&mut self, _end: End, _panics: &mut Panics) {}
}
