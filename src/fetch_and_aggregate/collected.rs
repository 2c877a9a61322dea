//! The outcomes of a run's sources, collected, and the policies that end it.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::run::{Budget, Decide, End, Observe, Operation, Panics, Stop};
use crate::{Aggregate, Outcome, Reason, SourceError};

/// The aggregate so far, and when it is enough.
pub(super) struct Collected<K, T, E> {
    pub(super) aggregate: Aggregate<K, T, E>,
    pub(super) stop: Stop,
}

impl<K, T, E> Collected<K, T, E> {
    pub(super) fn new() -> Self {
        Self {
            aggregate: Aggregate::default(),
            stop: Stop::default(),
        }
    }

    /// The aggregate of a run that has ended.
    pub(super) fn take(&mut self) -> Aggregate<K, T, E> {
        self.aggregate.shrink();
        std::mem::take(&mut self.aggregate)
    }

    fn record(
        &mut self,
        (id, result): Outcome<K, T, E>,
        hooks: &mut impl Observe<K, T, E>,
        panics: &mut Panics,
    ) {
        panics.catch(|| hooks.finished(&id, result.as_ref()));
        self.aggregate.record((id, result));
    }
}

impl<K, T, E> Drop for Collected<K, T, E> {
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

impl<K, F, T, E, H> Operation<K, F, H> for Collected<K, T, E>
where
    F: Future<Output = Result<T, E>>,
    H: Observe<K, T, E> + Decide<Aggregate<K, T, E>>,
{
    type Output = Result<T, E>;
    type Rest = ();

    fn expect(&mut self, sources: usize) {
        if !self.stop.may_be_early() {
            self.aggregate.reserve(sources);
        }
    }

    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        _: bool,
    ) -> Poll<Self::Output> {
        source.poll(cx)
    }

    fn stop(
        &mut self,
        _: Pin<&mut F>,
        _: Reason,
        _: &mut Budget,
        _: &mut Panics,
    ) -> Poll<Self::Rest> {
        Poll::Ready(())
    }

    fn finished(
        &mut self,
        id: K,
        output: Self::Output,
        hooks: &mut H,
        panics: &mut Panics,
    ) -> ControlFlow<End> {
        self.record((id, output.map_err(SourceError::Failed)), hooks, panics);
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, id: K, hooks: &mut H, panics: &mut Panics) -> ControlFlow<End> {
        self.record((id, Err(SourceError::TimedOut)), hooks, panics);
        ControlFlow::Continue(())
    }

    fn panicked(&mut self, id: K, message: String, hooks: &mut H, panics: &mut Panics) {
        self.record((id, Err(SourceError::Panicked(message))), hooks, panics);
    }

    fn unfinished(&mut self, id: K, (): ()) {
        self.aggregate.unfinished.push(id);
    }

    fn verdict(&mut self, hooks: &mut H, most_left: impl FnOnce() -> Option<usize>) -> Option<End> {
        let (succeeded, failed) = (self.aggregate.results.len(), self.aggregate.errors.len());
        let is_enough = || hooks.is_enough(&self.aggregate);
        self.stop.verdict(succeeded, failed, most_left, is_enough)
    }
}
