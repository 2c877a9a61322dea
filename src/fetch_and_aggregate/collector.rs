//! Collects the outcomes of a run into an aggregate.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::consumer::{Aggregating, Consumer, OutcomeTypes};
use crate::event::Event;
use crate::hooks::Hooks;
use crate::interrupted::resolve;
use crate::panics::Panics;
use crate::scheduler::{Counts, Driver, End, Policies, Run, Signals, Verdicts};
use crate::sealed::Sealed;
use crate::sources::Sources;
use crate::{Aggregate, Interrupted, Outcome, Reason, SourceError};

/// The consumer of [`fetch_and_aggregate`](crate::fetch_and_aggregate()): collects outcomes.
pub struct Collector<K, T, E> {
    aggregate: Aggregate<K, T, E>,
    verdicts: Verdicts,
}

impl<K, T, E> Collector<K, T, E> {
    pub(crate) fn new() -> Self {
        Self {
            aggregate: Aggregate::default(),
            verdicts: Verdicts::default(),
        }
    }

    /// A driver of this collector, for one poll.
    pub(crate) fn with<'a, H>(&'a mut self, hooks: &'a mut H) -> Collecting<'a, K, T, E, H> {
        Collecting {
            collector: self,
            hooks,
        }
    }

    /// The result of a run that has ended.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        end: End,
    ) -> Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>> {
        self.aggregate.shrink();
        resolve(end, std::mem::take(&mut self.aggregate))
    }
}

impl<K, T, E> Drop for Collector<K, T, E> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<(K, T, E)>() {
            let mut panics = Panics::default();
            drop_aggregate(&mut self.aggregate, &mut panics);
            panics.resume();
        }
    }
}

/// Drops all that an aggregate holds, one by one.
pub(crate) fn drop_aggregate<K, T, E>(aggregate: &mut Aggregate<K, T, E>, panics: &mut Panics) {
    panics.drop_pairs(std::mem::take(&mut aggregate.results));
    panics.drop_pairs(std::mem::take(&mut aggregate.errors));
    panics.drop_each(std::mem::take(&mut aggregate.unfinished));
}

impl<K, T, E> Sealed for Collector<K, T, E> {}

impl<K, T, E> Aggregating for Collector<K, T, E> {}

impl<K, T, E> OutcomeTypes for Collector<K, T, E> {
    type Id = K;
    type Value = T;
    type Error = E;
    type Key = K;
    type Slot<F> = F;

    fn abandon<L, F, H>(run: &mut Run<L, K, F>, hooks: &mut H, panics: &mut Panics)
    where
        H: Hooks<K, T, E>,
    {
        if !H::OBSERVES {
            return;
        }
        run.drop_each(panics, |id, elapsed| {
            let reason = Reason::Cancelled;
            hooks.tell(Event::Unfinished {
                id,
                reason,
                elapsed,
            });
        });
    }

    fn print(&self, in_flight: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchAndAggregate")
            .field("in_flight", &in_flight)
            .field("results", &self.aggregate.results.len())
            .field("errors", &self.aggregate.errors.len())
            .finish_non_exhaustive()
    }
}

impl<K, T, E, F> Consumer<F> for Collector<K, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>;

    #[inline]
    fn poll<L, X, Y, H>(
        self: Pin<&mut Self>,
        run: &mut Run<L, K, F>,
        signals: Pin<&mut Signals<X, Y>>,
        hooks: &mut H,
        cx: &mut Context<'_>,
    ) -> Poll<Self::Output>
    where
        L: Sources<Id = K, Future = F>,
        X: Future,
        Y: Future,
        H: Hooks<K, T, E>,
    {
        let this = self.get_mut();
        let end = ready!(run.poll(cx, signals, true, &mut this.with(hooks)));
        Poll::Ready(this.finish(end))
    }
}

// Nothing in a collector is pinned.
impl<K, T, E> Unpin for Collector<K, T, E> {}

/// A collector with the caller's hooks, for one poll.
pub(crate) struct Collecting<'a, K, T, E, H> {
    collector: &'a mut Collector<K, T, E>,
    hooks: &'a mut H,
}

impl<K, T, E, H> Collecting<'_, K, T, E, H>
where
    H: Hooks<K, T, E>,
{
    fn record(&mut self, (id, result): Outcome<K, T, E>, elapsed: Duration, panics: &mut Panics) {
        if H::OBSERVES {
            let event = Event::Finished {
                id: &id,
                result: result.as_ref(),
                elapsed,
            };
            panics.catch(|| self.hooks.tell(event));
        }
        self.collector.aggregate.record((id, result));
    }
}

impl<K, F, T, E, H> Driver<K, F> for Collecting<'_, K, T, E, H>
where
    F: Future<Output = Result<T, E>>,
    H: Hooks<K, T, E>,
{
    type Answer = Result<T, E>;

    const TIMES_SOURCES: bool = H::OBSERVES;

    fn expect(&mut self, sources: usize) {
        self.collector.aggregate.reserve(sources);
    }

    fn started(&mut self, id: &K) {
        self.hooks.tell(Event::Started { id });
    }

    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        _: bool,
    ) -> Poll<Self::Answer> {
        source.poll(cx)
    }

    fn finished(
        &mut self,
        id: K,
        answer: Self::Answer,
        elapsed: Duration,
        panics: &mut Panics,
    ) -> ControlFlow<End> {
        self.record((id, answer.map_err(SourceError::Failed)), elapsed, panics);
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, id: K, elapsed: Duration, panics: &mut Panics) -> ControlFlow<End> {
        self.record((id, Err(SourceError::TimedOut)), elapsed, panics);
        ControlFlow::Continue(())
    }

    fn panicked(&mut self, id: K, message: String, elapsed: Duration, panics: &mut Panics) {
        self.record((id, Err(SourceError::Panicked(message))), elapsed, panics);
    }

    fn unfinished(&mut self, id: K, reason: Reason, elapsed: Duration, panics: &mut Panics) {
        if H::OBSERVES {
            let id = &id;
            let event = Event::Unfinished {
                id,
                reason,
                elapsed,
            };
            panics.catch(|| self.hooks.tell(event));
        }
        self.collector.aggregate.unfinished.push(id);
    }

    fn not_started(&mut self, id: K, reason: Reason, panics: &mut Panics) {
        if H::OBSERVES {
            let event = Event::NotStarted { id: &id, reason };
            panics.catch(|| self.hooks.tell(event));
        }
        self.collector.aggregate.unfinished.push(id);
    }

    fn leave_unseen(&mut self) {
        self.collector.aggregate.unseen = true;
    }

    fn verdict(
        &mut self,
        policies: &Policies,
        most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        let Collector {
            aggregate,
            verdicts,
        } = self.collector;
        let counts = Counts {
            succeeded: aggregate.results.len(),
            failed: aggregate.errors.len(),
        };
        let is_enough = || self.hooks.is_enough(aggregate);
        verdicts.verdict(policies, counts, most_left, is_enough)
    }
}
