//! The outcomes of batches, and the policies that end the run of all batches.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Batch, BatchOutcome, Batches};
use crate::fetch_and_aggregate::drop_aggregate;
use crate::run::{Budget, Decide, End, Observe, Operation, Panics, Stop};
use crate::{Aggregate, Interrupted, Reason};

/// The outcomes of the batches that are over, at their numbers, and when they are enough.
pub(super) struct Outcomes<K, T, E> {
    batches: Vec<Option<BatchOutcome<K, T, E>>>,
    succeeded: usize,
    failed: usize,
    pub(super) stop: Stop,
}

impl<K, T, E> Outcomes<K, T, E> {
    pub(super) fn new() -> Self {
        Self {
            batches: Vec::new(),
            succeeded: 0,
            failed: 0,
            stop: Stop::default(),
        }
    }

    fn set(&mut self, number: usize, outcome: BatchOutcome<K, T, E>) {
        match &outcome {
            Ok(_) => self.succeeded += 1,
            Err(_) => self.failed += 1,
        }
        if self.batches.len() <= number {
            self.batches.resize_with(number + 1, || None);
        }
        self.batches[number] = Some(outcome);
    }

    /// All of them. None is missing, as every batch that was pulled is over.
    pub(super) fn take(&mut self) -> Batches<K, T, E> {
        let batches = std::mem::take(&mut self.batches);
        batches.into_iter().flatten().collect()
    }
}

impl<K, T, E> Drop for Outcomes<K, T, E> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        for outcome in std::mem::take(&mut self.batches).into_iter().flatten() {
            let mut aggregate = outcome.unwrap_or_else(Interrupted::into_partial);
            drop_aggregate(&mut aggregate, &mut panics);
        }
        panics.resume();
    }
}

impl<I, K, F, T, E, N, H> Operation<usize, Batch<I, K, F, T, E, N>, H> for Outcomes<K, T, E>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    N: Observe<K, T, E> + Decide<Aggregate<K, T, E>>,
    H: Decide<[Option<BatchOutcome<K, T, E>>]>,
{
    type Output = BatchOutcome<K, T, E>;
    type Rest = BatchOutcome<K, T, E>;

    const SOURCES_ARE_RUNS: bool = true;

    fn poll_source(
        &mut self,
        batch: Pin<&mut Batch<I, K, F, T, E, N>>,
        cx: &mut Context<'_>,
        may_start: bool,
    ) -> Poll<Self::Output> {
        batch.poll_within(cx, may_start)
    }

    fn stop(
        &mut self,
        batch: Pin<&mut Batch<I, K, F, T, E, N>>,
        reason: Reason,
        budget: &mut Budget,
        panics: &mut Panics,
    ) -> Poll<Self::Rest> {
        batch.interrupt(reason, budget, panics)
    }

    fn expire(
        &mut self,
        batch: Pin<&mut Batch<I, K, F, T, E, N>>,
        budget: &mut Budget,
        panics: &mut Panics,
    ) {
        batch.expire(budget, panics);
    }

    fn finished(
        &mut self,
        number: usize,
        outcome: Self::Output,
        _: &mut H,
        _: &mut Panics,
    ) -> ControlFlow<End> {
        self.set(number, outcome);
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, _: usize, _: &mut H, _: &mut Panics) -> ControlFlow<End> {
        unreachable!("a batch whose time is up returns its own outcome")
    }

    fn panicked(&mut self, _: usize, _: String, _: &mut H, _: &mut Panics) {}

    fn unfinished(&mut self, number: usize, rest: Self::Rest) {
        self.set(number, rest);
    }

    fn verdict(&mut self, hooks: &mut H, most_left: impl FnOnce() -> Option<usize>) -> Option<End> {
        let is_enough = || hooks.is_enough(&self.batches);
        self.stop
            .verdict(self.succeeded, self.failed, most_left, is_enough)
    }
}
