//! What batches came to, and when that is enough.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Batch, BatchOutcome, Batches};
use crate::run::{Budget, Decide, End, Observe, Operation, Panics, Stop};
use crate::{Aggregate, Reason};

/// The outcomes of the batches that are over, at their numbers, and when they are enough.
pub(super) struct Outcomes<K, T, E> {
    batches: Vec<Option<BatchOutcome<K, T, E>>>,
    succeeded: usize,
    failed: usize,
    pub(super) stop: Stop,
    /// Whether the time of the whole is up.
    line_drawn: bool,
    /// Whether a batch was interrupted by that.
    cut_short: bool,
}

impl<K, T, E> Outcomes<K, T, E> {
    pub(super) fn new() -> Self {
        Self {
            batches: Vec::new(),
            succeeded: 0,
            failed: 0,
            stop: Stop::default(),
            line_drawn: false,
            cut_short: false,
        }
    }

    fn set(&mut self, number: usize, outcome: BatchOutcome<K, T, E>) {
        match &outcome {
            Ok(_) => self.succeeded += 1,
            Err(interrupted) if self.line_drawn && interrupted.reason == Reason::TimedOut => {
                self.cut_short = true;
            }
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

    fn close(&mut self, batch: Pin<&mut Batch<I, K, F, T, E, N>>) {
        batch.expire();
    }

    fn draw_line(&mut self) {
        self.line_drawn = true;
    }

    fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    fn poll_source(
        &mut self,
        batch: Pin<&mut Batch<I, K, F, T, E, N>>,
        cx: &mut Context<'_>,
        budget: &mut Budget,
    ) -> Poll<Self::Output> {
        batch.poll_within(cx, budget)
    }

    fn stop(
        &mut self,
        batch: Pin<&mut Batch<I, K, F, T, E, N>>,
        reason: Reason,
        panics: &mut Panics,
    ) -> Self::Rest {
        batch.interrupt(reason, panics)
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

    fn timed_out(
        &mut self,
        number: usize,
        rest: Self::Rest,
        _: &mut H,
        _: &mut Panics,
    ) -> ControlFlow<End> {
        self.set(number, rest);
        ControlFlow::Continue(())
    }

    fn panicked(&mut self, _: usize, _: String, _: &mut H, _: &mut Panics) {}

    fn unfinished(&mut self, number: usize, rest: Self::Rest) {
        self.set(number, rest);
    }

    fn verdict(&mut self, hooks: &mut H, most_left: impl FnOnce() -> Option<usize>) -> Option<End> {
        // A batch that the deadline has cut off has not failed, and decides nothing.
        let most_left = || if self.cut_short { None } else { most_left() };
        let is_enough = || hooks.is_enough(&self.batches);
        self.stop
            .verdict(self.succeeded, self.failed, most_left, is_enough)
    }
}
