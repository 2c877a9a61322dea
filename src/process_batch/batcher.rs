//! Runs batches inside a run, and collects their outcomes.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::consumer::{Aggregating, Consumer, OutcomeTypes};
use crate::fetch_and_aggregate::{Collector, drop_aggregate};
use crate::hooks::Hooks;
use crate::interrupted::resolve;
use crate::panics::Panics;
use crate::scheduler::{
    AnySignals, Around, Budget, Clock, Counts, Driver, End, Inside, Options, Policies, RaisedFlag,
    Run, Starts, Stay, Verdicts,
};
use crate::sealed::Sealed;
use crate::source_driver::abandon;
use crate::sources::Sources;
use crate::timer::Instant;
use crate::{Aggregate, BatchOutcome, Batches, Interrupted, Reason};

/// One batch: a run inside the run of all batches.
pub struct Batch<I, K, F, T, E> {
    run: Run<I, K, F>,
    collector: Collector<K, T, E>,
    /// When it is to be polled without a wake.
    wakes_at: Option<Instant>,
}

impl<I, K, F, T, E> Batch<I, K, F, T, E>
where
    I: Sources<Id = K>,
{
    pub(super) fn new(sources: I) -> Self {
        Self {
            run: Run::new(sources, Options::NONE),
            collector: Collector::new(),
            wakes_at: None,
        }
    }
}

// The sources in a batch are boxed.
impl<I, K, F, T, E> Unpin for Batch<I, K, F, T, E> {}

/// The consumer of [`process_batch`](crate::process_batch()): collects the outcomes of batches.
pub struct Batcher<I, K, T, E> {
    /// At their positions. Batches that are not over are `None`.
    outcomes: Vec<Option<BatchOutcome<K, T, E>>>,
    succeeded: usize,
    failed: usize,
    /// Shows to the batches whether the signal to drain was woken.
    drain: Option<RaisedFlag>,
    /// Whether a batch was told to drain before all its sources had started.
    has_drained: bool,
    verdicts: Verdicts,
    /// The settings of each batch.
    pub(super) options: Options,
    sources: PhantomData<fn(I)>,
}

impl<I, K, T, E> Batcher<I, K, T, E> {
    pub(super) fn new(options: Options) -> Self {
        Self {
            outcomes: Vec::new(),
            succeeded: 0,
            failed: 0,
            drain: None,
            has_drained: false,
            verdicts: Verdicts::default(),
            options,
            sources: PhantomData,
        }
    }

    fn set(&mut self, position: usize, outcome: BatchOutcome<K, T, E>) {
        match &outcome {
            Ok(_) => self.succeeded += 1,
            Err(interrupted) if interrupted.reason == Reason::Drained => self.has_drained = true,
            Err(_) => self.failed += 1,
        }
        if self.outcomes.len() <= position {
            self.outcomes.resize_with(position + 1, || None);
        }
        self.outcomes[position] = Some(outcome);
    }
}

impl<I, K, T, E> Drop for Batcher<I, K, T, E> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        for outcome in std::mem::take(&mut self.outcomes).into_iter().flatten() {
            let mut aggregate = outcome.unwrap_or_else(Interrupted::into_partial);
            drop_aggregate(&mut aggregate, &mut panics);
        }
        panics.resume();
    }
}

impl<I, K, T, E> Sealed for Batcher<I, K, T, E> {}

impl<I, K, T, E> Aggregating for Batcher<I, K, T, E> {}

// Nothing in it is pinned.
impl<I, K, T, E> Unpin for Batcher<I, K, T, E> {}

impl<I, K, T, E> OutcomeTypes for Batcher<I, K, T, E> {
    type Id = K;
    type Value = T;
    type Error = E;
    type Key = usize;
    type Slot<F> = Batch<I, K, F, T, E>;

    fn source_options<'a>(&'a mut self, _: &'a mut Options) -> &'a mut Options {
        &mut self.options
    }

    fn abandon<L, F, H>(
        run: &mut Run<L, usize, Batch<I, K, F, T, E>>,
        clock: &dyn Clock,
        hooks: &mut H,
        panics: &mut Panics,
    ) where
        H: Hooks<K, T, E>,
    {
        run.each_in_flight(|batch| {
            abandon(&mut batch.get_mut().run, clock, hooks, panics);
        });
    }

    fn print(&self, in_flight: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBatch")
            .field("in_flight", &in_flight)
            .finish_non_exhaustive()
    }
}

impl<I, K, F, T, E> Consumer<F> for Batcher<I, K, T, E>
where
    I: Sources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Batches<K, T, E>, Interrupted<Batches<K, T, E>>>;

    #[inline]
    fn poll<L, S, H>(
        self: Pin<&mut Self>,
        run: &mut Run<L, usize, Batch<I, K, F, T, E>>,
        clock: &dyn Clock,
        signals: Pin<&mut S>,
        hooks: &mut H,
        cx: &mut Context<'_>,
    ) -> Poll<Self::Output>
    where
        L: Sources<Id = usize, Future = Batch<I, K, F, T, E>>,
        S: AnySignals,
        H: Hooks<K, T, E>,
    {
        let batcher = self.get_mut();
        if run.is_new() {
            batcher.drain = run.raised_drain(&*signals);
            run.options_mut().limits.limits_inside = batcher.options.limits.has_any();
        }
        let driver = &mut Batching { batcher, hooks };
        let end = ready!(run.poll(cx, clock, Starts::Allowed, signals, driver));
        // None is missing: every batch that was pulled is over.
        let outcomes = std::mem::take(&mut batcher.outcomes);
        Poll::Ready(resolve(end, outcomes.into_iter().flatten().collect()))
    }
}

/// A batcher with the caller's hooks, for one poll.
struct Batching<'a, I, K, T, E, H> {
    batcher: &'a mut Batcher<I, K, T, E>,
    hooks: &'a mut H,
}

impl<I, K, F, T, E, H> Driver<usize, Batch<I, K, F, T, E>> for Batching<'_, I, K, T, E, H>
where
    I: Sources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
    H: Hooks<K, T, E>,
{
    type Answer = BatchOutcome<K, T, E>;

    const SOURCES_ARE_RUNS: bool = true;
    const TIMES_SOURCES: bool = false;

    fn started(&mut self, _: &usize) {}

    fn poll_source(
        &mut self,
        batch: Pin<&mut Batch<I, K, F, T, E>>,
        cx: &mut Context<'_>,
        around: Around<'_>,
    ) -> Poll<Self::Answer> {
        let Batch {
            run,
            collector,
            wakes_at,
        } = batch.get_mut();
        if run.is_new() {
            *run.options_mut() = self.batcher.options.clone();
            collector.begin(&self.batcher.options);
        }
        let inside = pin!(Inside {
            drain: self.batcher.drain.as_ref(),
            slept_until: around.slept_until,
            wakes_at,
        });
        let driver = &mut collector.with(self.hooks);
        let end = ready!(run.poll(cx, around.clock, around.starts, inside, driver));
        Poll::Ready(collector.finish(end))
    }

    fn wakes_at(batch: Pin<&mut Batch<I, K, F, T, E>>) -> Option<Instant> {
        batch.wakes_at
    }

    fn stop(
        &mut self,
        position: &usize,
        batch: Pin<&mut Batch<I, K, F, T, E>>,
        reason: Reason,
        budget: &mut Budget<'_>,
        panics: &mut Panics,
    ) -> Poll<()> {
        let Batch { run, collector, .. } = batch.get_mut();
        let driver = &mut collector.with(self.hooks);
        let end = ready!(run.interrupt(Err(reason), budget, driver, panics));
        self.batcher.set(*position, collector.finish(end));
        Poll::Ready(())
    }

    fn finished(
        &mut self,
        position: usize,
        outcome: Self::Answer,
        _: Stay,
        _: &mut Panics,
    ) -> ControlFlow<End> {
        self.batcher.set(position, outcome);
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, _: usize, _: Stay, _: &mut Panics) -> ControlFlow<End> {
        unreachable!("the run of a batch has its own deadline")
    }

    /// The sources of the batch could not be made.
    fn panicked(&mut self, position: usize, _: String, _: Stay, _: &mut Panics) {
        let end = Err(Reason::Panicked);
        self.batcher
            .set(position, resolve(end, Aggregate::default()));
    }

    // A batch that was stopped has left its outcome.
    fn unfinished(&mut self, _: usize, _: Reason, _: Duration, _: &mut Panics) {}

    fn not_started(&mut self, _: usize, _: Reason, _: &mut Panics) {
        unreachable!("a batch that was never started is made, to name its sources")
    }

    fn has_drained(&self) -> bool {
        self.batcher.has_drained
    }

    // The list of outcomes ends where the batches were no longer seen.
    fn leave_unseen(&mut self) {}

    fn verdict(
        &mut self,
        policies: &Policies,
        most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        let batcher = &mut *self.batcher;
        let counts = Counts {
            succeeded: batcher.succeeded,
            failed: batcher.failed,
        };
        // A run that drains and leaves sources out ends because of that.
        let has_drained = batcher.has_drained;
        let most_left = || most_left().filter(|_| !has_drained);
        let is_enough = || self.hooks.are_enough(&batcher.outcomes);
        batcher
            .verdicts
            .verdict(policies, counts, most_left, is_enough)
    }
}
