//! The driver of the operations whose sources are futures. It tells the hooks what happens to each source,
//! and hands every outcome to the sink of the operation.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::hooks::Hooks;
use crate::limit::Ending;
use crate::panics::Panics;
use crate::scheduler::{Around, Budget, Clock, Driver, End, Policies, Ready, Run, Stay};
use crate::{Event, Outcome, Reason, SourceError};

/// Where the outcomes of an operation go: into an aggregate, a channel, or the bodies of the caller.
pub(crate) trait OutcomeSink<K, T, E> {
    /// Prepares for this many outcomes.
    fn expect(&mut self, _sources: usize) {}

    /// Takes an outcome. Sources have positions only in a run [in order](crate::Operation::in_order).
    fn accept(&mut self, position: usize, outcome: Outcome<K, T, E>) -> ControlFlow<End>;

    /// Takes the id of a source that has not answered.
    fn unfinished(&mut self, id: K);

    /// Notes that there may be sources that are not named.
    fn leave_unseen(&mut self);

    /// How the run ends, if its outcomes decide that. `most_left` returns how many sources may still
    /// answer, if that is known.
    fn verdict(
        &mut self,
        hooks: &mut impl Hooks<K, T, E>,
        policies: &Policies,
        most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End>;

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

    /// How many outcomes wait to be passed on. They count as sources in flight.
    fn waiting(&self) -> usize {
        0
    }

    /// How many of them wait for the outcome of an earlier source.
    fn held_back(&self) -> usize {
        0
    }

    /// Notes that the run has ended.
    fn ended(&mut self, _end: End, _panics: &mut Panics) {}
}

/// A sink with the caller's hooks, for one poll.
pub(crate) struct SourceDriver<'a, R, H> {
    pub(crate) sink: R,
    pub(crate) hooks: &'a mut H,
}

impl<R, H> SourceDriver<'_, R, H> {
    #[inline(always)]
    fn end<K, T, E>(
        &mut self,
        (id, result): Outcome<K, T, E>,
        stay: Stay,
        panics: &mut Panics,
    ) -> ControlFlow<End>
    where
        R: OutcomeSink<K, T, E>,
        H: Hooks<K, T, E>,
    {
        if H::OBSERVES {
            let event = Event::Finished {
                id: &id,
                result: result.as_ref(),
                elapsed: stay.elapsed,
            };
            panics.catch(|| self.hooks.tell(event));
        }
        self.sink.accept(stay.position, (id, result))
    }
}

impl<K, F, T, E, R, H> Driver<K, F> for SourceDriver<'_, R, H>
where
    F: Future<Output = Result<T, E>>,
    R: OutcomeSink<K, T, E>,
    H: Hooks<K, T, E>,
{
    type Answer = Result<T, E>;

    const TIMES_SOURCES: bool = H::OBSERVES;
    const LIMITS_SOURCES: bool = H::LIMITS_SOURCES;

    fn expect(&mut self, sources: usize) {
        self.sink.expect(sources);
    }

    fn started(&mut self, id: &K) {
        self.hooks.tell(Event::Started { id });
    }

    fn source_timeout(&mut self, id: &K, panics: &mut Panics) -> Duration {
        self.hooks.source_timeout(id, panics)
    }

    #[inline(always)]
    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        _: Around<'_>,
    ) -> Poll<Self::Answer> {
        source.poll(cx)
    }

    fn ending(&mut self, answer: &Self::Answer, panics: &mut Panics) -> Ending {
        match answer {
            _ if self.hooks.is_overload(answer, panics) => Ending::Overload,
            Ok(_) => Ending::Answer,
            Err(_) => Ending::Error,
        }
    }

    #[inline(always)]
    fn finished(
        &mut self,
        id: K,
        answer: Self::Answer,
        stay: Stay,
        panics: &mut Panics,
    ) -> ControlFlow<End> {
        self.end((id, answer.map_err(SourceError::Failed)), stay, panics)
    }

    fn timed_out(&mut self, id: K, stay: Stay, panics: &mut Panics) -> ControlFlow<End> {
        self.end((id, Err(SourceError::TimedOut)), stay, panics)
    }

    fn panicked(&mut self, id: K, message: String, stay: Stay, panics: &mut Panics) {
        // If this ends the run, the next poll sees it.
        let _ = self.end((id, Err(SourceError::Panicked(message))), stay, panics);
    }

    fn unfinished(&mut self, id: K, reason: Reason, elapsed: Duration, panics: &mut Panics) {
        if H::OBSERVES {
            let event = Event::Unfinished {
                id: &id,
                reason,
                elapsed,
            };
            panics.catch(|| self.hooks.tell(event));
        }
        self.sink.unfinished(id);
    }

    fn not_started(&mut self, id: K, reason: Reason, panics: &mut Panics) {
        if H::OBSERVES {
            let event = Event::NotStarted { id: &id, reason };
            panics.catch(|| self.hooks.tell(event));
        }
        self.sink.unfinished(id);
    }

    fn leave_unseen(&mut self) {
        self.sink.leave_unseen();
    }

    #[inline(always)]
    fn verdict(
        &mut self,
        policies: &Policies,
        most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        self.sink.verdict(self.hooks, policies, most_left)
    }

    #[inline(always)]
    fn poll_stop(&mut self, ready: &mut Ready) -> Option<Reason> {
        self.sink.poll_stop(ready)
    }

    #[inline(always)]
    fn flush_first(&mut self, ready: &mut Ready, budget: &mut Budget<'_>) -> ControlFlow<End> {
        self.sink.flush_first(ready, budget)
    }

    #[inline(always)]
    fn flush(&mut self, ready: &mut Ready, budget: &mut Budget<'_>) -> ControlFlow<End> {
        self.sink.flush(ready, budget)
    }

    #[inline(always)]
    fn can_flush(&self) -> bool {
        self.sink.can_flush()
    }

    #[inline(always)]
    fn waiting(&self) -> usize {
        self.sink.waiting()
    }

    fn held_back(&self) -> usize {
        self.sink.held_back()
    }

    fn ended(&mut self, end: End, panics: &mut Panics) {
        self.sink.ended(end, panics);
    }
}

/// Drops the sources in flight of an operation that is dropped, and tells the hooks.
pub(crate) fn abandon<L, K, F, T, E, H>(
    run: &mut Run<L, K, F>,
    clock: &dyn Clock,
    hooks: &mut H,
    panics: &mut Panics,
) where
    H: Hooks<K, T, E>,
{
    if !H::OBSERVES {
        return;
    }
    run.drop_each(panics, |id, started| {
        hooks.tell(Event::Unfinished {
            id,
            reason: Reason::Cancelled,
            elapsed: clock.since(started),
        });
    });
}
