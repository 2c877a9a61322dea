//! Collects the outcomes of a run into an aggregate.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::consumer::{Aggregating, Consumer, OutcomeTypes, Single};
use crate::hooks::Hooks;
use crate::in_order::Positions;
use crate::interrupted::resolve;
use crate::panics::Panics;
use crate::scheduler::{AnySignals, Clock, Counts, End, Options, Policies, Run, Starts, Verdicts};
use crate::sealed::Sealed;
use crate::source_driver::{OutcomeSink, SourceDriver, abandon};
use crate::sources::Sources;
use crate::{Aggregate, Interrupted, Outcome};

/// The consumer of [`fetch_and_aggregate`](crate::fetch_and_aggregate()): collects outcomes.
pub struct Collector<K, T, E> {
    aggregate: Aggregate<K, T, E>,
    /// The positions of the outcomes, if they are to be sorted.
    order: Option<Box<Positions>>,
    verdicts: Verdicts,
}

impl<K, T, E> Collector<K, T, E> {
    pub(crate) fn new() -> Self {
        Self {
            aggregate: Aggregate::default(),
            order: None,
            verdicts: Verdicts::default(),
        }
    }

    /// A driver of this collector, for one poll.
    pub(crate) fn with<'a, H>(&'a mut self, hooks: &'a mut H) -> SourceDriver<'a, &'a mut Self, H> {
        SourceDriver { sink: self, hooks }
    }

    /// From the first poll on, keeps the positions of outcomes if they are to be sorted.
    pub(crate) fn begin(&mut self, options: &Options) {
        if options.in_order {
            self.order = Some(Box::default());
        }
    }

    /// The result of a run that has ended.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        end: End,
    ) -> Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>> {
        self.aggregate.shrink();
        if let Some(order) = self.order.take() {
            order.sort(&mut self.aggregate);
        }
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

impl<K, T, E> Single for Collector<K, T, E> {}

impl<K, T, E> OutcomeTypes for Collector<K, T, E> {
    type Id = K;
    type Value = T;
    type Error = E;
    type Key = K;
    type Slot<F> = F;

    fn abandon<L, F, H>(
        run: &mut Run<L, K, F>,
        clock: &dyn Clock,
        hooks: &mut H,
        panics: &mut Panics,
    ) where
        H: Hooks<K, T, E>,
    {
        abandon(run, clock, hooks, panics);
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
    fn poll<L, S, H>(
        self: Pin<&mut Self>,
        run: &mut Run<L, K, F>,
        clock: &dyn Clock,
        signals: Pin<&mut S>,
        hooks: &mut H,
        cx: &mut Context<'_>,
    ) -> Poll<Self::Output>
    where
        L: Sources<Id = K, Future = F>,
        S: AnySignals,
        H: Hooks<K, T, E>,
    {
        let this = self.get_mut();
        if run.is_new() {
            this.begin(run.options_mut());
        }
        let driver = &mut this.with(hooks);
        let end = ready!(run.poll(cx, clock, Starts::Allowed, signals, driver));
        Poll::Ready(this.finish(end))
    }
}

// Nothing in a collector is pinned.
impl<K, T, E> Unpin for Collector<K, T, E> {}

impl<K, T, E> OutcomeSink<K, T, E> for &mut Collector<K, T, E> {
    fn expect(&mut self, sources: usize) {
        self.aggregate.reserve(sources);
    }

    #[inline(always)]
    fn accept(&mut self, position: usize, outcome: Outcome<K, T, E>) -> ControlFlow<End> {
        if let Some(order) = &mut self.order {
            order.note(position, outcome.1.is_ok());
        }
        self.aggregate.record(outcome);
        ControlFlow::Continue(())
    }

    fn unfinished(&mut self, id: K) {
        self.aggregate.unfinished.push(id);
    }

    fn leave_unseen(&mut self) {
        self.aggregate.unseen = true;
    }

    #[inline(always)]
    fn verdict(
        &mut self,
        hooks: &mut impl Hooks<K, T, E>,
        policies: &Policies,
        most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        let Collector {
            aggregate,
            verdicts,
            ..
        } = &mut **self;
        let counts = Counts {
            succeeded: aggregate.results.len(),
            failed: aggregate.errors.len(),
        };
        let is_enough = || hooks.is_enough(aggregate);
        verdicts.verdict(policies, counts, most_left, is_enough)
    }
}
