//! When time is up: for a source, and for the whole run. A result beats the timeout in both cases:
//! what was woken before is polled once more before the line is drawn.

use std::ops::ControlFlow;

use super::budget::Budget;
use super::clock::Instant;
use super::hooks::Follow;
use super::operation::{End, Operation};
use super::panics::Panics;
use super::{Run, Stage};
use crate::Reason;

impl<I, K, F, H> Run<I, K, F, H>
where
    I: Iterator<Item = (K, F)>,
    H: Follow<K>,
{
    /// Stops the sources that are late. One that was woken in time is polled once more before.
    /// Returns what the clock says, if there is any limit to compare it with.
    #[inline]
    pub(super) fn expire_sources(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End, Option<Instant>> {
        self.late_left = false;
        let Some(now) = self.deadlines.now() else {
            return ControlFlow::Continue(None);
        };
        if let Some(deadline) = self.deadlines.of_source(now) {
            self.in_flight.slots.stamp(deadline);
        }
        let due = self.deadlines.due(now);
        while let Some(index) = self.in_flight.slots.late(due) {
            if budget.is_spent() {
                self.late_left = true;
                break;
            }
            if self.deadlines.is_source_zero() {
                self.stop_late(index, operation)?;
                budget.spend();
            } else if Self::are_runs(operation) {
                self.close_slot(index, budget, operation)?;
            } else {
                if self.ready.take(index) {
                    self.poll_slot(index, budget, operation)?;
                } else {
                    budget.spend();
                }
                if self.in_flight.slots.oldest() == Some(index) {
                    self.stop_late(index, operation)?;
                }
            }
        }
        ControlFlow::Continue(Some(now))
    }

    fn stop_late(
        &mut self,
        index: usize,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        let mut panics = Panics::default();
        let slots = &mut self.in_flight.slots;
        let removed = slots.remove(index, &mut panics, |source, panics| {
            operation.stop(source, Reason::TimedOut, panics)
        });
        let flow = match removed {
            Some((id, rest)) => operation.timed_out(id, rest, self.in_flight.hooks(), &mut panics),
            None => ControlFlow::Continue(()),
        };
        panics.resume();
        flow?;
        self.verdict(operation)
    }

    /// Tells a source that is a run that its time is up, and polls it towards its end. It comes
    /// there unless the budget is spent before.
    fn close_slot(
        &mut self,
        index: usize,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        let slots = &mut self.in_flight.slots;
        slots.with(index, |source| operation.close(source));
        self.poll_slot(index, budget, operation)
    }

    /// The run's time is up, says somebody else.
    pub(crate) fn expire(&mut self) {
        if let Stage::New | Stage::Running = self.stage {
            self.stage = Stage::Closing { last_sweep: false };
        }
    }

    /// After the deadline: polls once more what was woken before, then draws the line.
    pub(super) fn close(
        &mut self,
        last_sweep: bool,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End, bool> {
        let flow = if Self::are_runs(operation) {
            self.close_runs(budget, operation)
        } else {
            self.sweep_to_the_end(last_sweep, budget, operation)
        };
        let flow = match flow {
            ControlFlow::Continue(true) => operation.flush(&mut self.ready, budget),
            ControlFlow::Continue(false) => return ControlFlow::Continue(true),
            ControlFlow::Break(end) => ControlFlow::Break(end),
        };
        self.end_list();
        match flow {
            // A receiver that left has left after the deadline. What else the outcomes decide they
            // decide as they would have before.
            ControlFlow::Break(Err(Reason::ReceiverClosed)) => {
                ControlFlow::Break(Err(Reason::TimedOut))
            }
            ControlFlow::Break(end) => ControlFlow::Break(end),
            ControlFlow::Continue(()) if operation.can_flush() => ControlFlow::Continue(true),
            ControlFlow::Continue(())
                if self.is_complete(operation) && !operation.is_cut_short() =>
            {
                ControlFlow::Break(Ok(()))
            }
            ControlFlow::Continue(()) => ControlFlow::Break(Err(Reason::TimedOut)),
        }
    }

    /// Goes to the end of the sweep under way, and of one more for what was woken meanwhile.
    /// Returns whether it got there.
    fn sweep_to_the_end(
        &mut self,
        mut last_sweep: bool,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End, bool> {
        loop {
            self.go_on_sweeping(budget, operation)?;
            if last_sweep || !self.ready.is_swept() {
                return ControlFlow::Continue(self.ready.is_swept());
            }
            last_sweep = true;
            self.stage = Stage::Closing { last_sweep };
            self.ready.start_sweep();
        }
    }

    /// Brings every run in flight to its end. Returns whether all are there.
    fn close_runs(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End, bool> {
        while let Some(index) = self.in_flight.slots.oldest() {
            if budget.is_spent() {
                return ControlFlow::Continue(false);
            }
            self.close_slot(index, budget, operation)?;
        }
        ControlFlow::Continue(true)
    }
}
