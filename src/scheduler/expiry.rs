//! Deadline handling: which deadlines have passed, and what stops then.
//!
//! A result beats the timeout: an answer that arrived before the deadline counts, even if the task was
//! not polled until later. So a [`Grace`] lies between a deadline and its effect.

use std::ops::ControlFlow;
use std::time::Duration;

use super::Run;
use super::budget::{Budget, Work};
use super::clock::{self, Instant};
use super::driver::{Driver, End};
use super::grace::{Arrival, Grace, LATE, Polled, TURN, Verdict};
use super::ready::Next;
use crate::Reason;
use crate::panics::Panics;
use crate::sources::Sources;

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// At the start of a poll: begins a grace if the poll is late. If the last poll panicked, it may not
    /// have come to the deadlines, and this one may panic as well. So they take effect now.
    pub(super) fn note_lateness(
        &mut self,
        is_expired: bool,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        let is_expired = is_expired && self.has_panicked;
        let Some(now) = self.now.or_else(|| is_expired.then(clock::now)) else {
            return ControlFlow::Continue(());
        };
        if self.has_panicked {
            self.stamp(budget);
        }
        let is_over = is_expired || self.deadlines.is_over(now);
        if let Some(grace) = &mut self.grace {
            if is_over && grace.is_over && !grace.covers_run {
                // It has ended for sources that are still to be stopped. The run gets its own.
                self.grace = None;
            } else {
                grace.covers_run |= is_over;
            }
        }
        if self.grace.is_some() {
            // Another deadline does not prolong it.
        } else if is_over && self.has_panicked {
            self.begin_grace(Grace::after_panic(now));
        } else if let Some(lateness) = self.lateness(now) {
            self.begin_grace(Grace::late(now, is_over, lateness));
        }
        if !self.has_panicked {
            return ControlFlow::Continue(());
        }
        match &mut self.grace {
            Some(grace) if now >= grace.ends => {
                grace.is_over = true;
                self.end_grace(budget, driver)?;
            }
            Some(_) => {}
            None => self.stop_late_sources(budget, driver)?,
        }
        ControlFlow::Continue(())
    }

    /// How late this poll is for the first deadline that has passed, if it is late. Deadlines that have
    /// had their grace do not count.
    fn lateness(&self, now: Instant) -> Option<Duration> {
        let lateness = |deadline: Instant| {
            if deadline >= now || self.had_grace(deadline) {
                return None;
            }
            Some(now.saturating_duration_since(deadline)).filter(|lateness| *lateness >= LATE)
        };
        let counts =
            self.options.limits.source_timeout.is_some() && !self.options.limits.is_source_zero();
        let source = counts
            .then(|| self.in_flight.slots.next_deadline())
            .flatten();
        let source = source.and_then(lateness);
        source.max(self.deadlines.whole().and_then(lateness))
    }

    /// Notes the progress of a covered source, from the budget before its poll.
    #[cold]
    pub(super) fn note_covered(
        &mut self,
        (inside, outcomes): (Work, u32),
        budget: &Budget,
        driver: &impl Driver<K, G>,
    ) {
        let own = Work {
            polls: 1,
            outcomes: budget.outcomes() - outcomes,
        };
        let inside = budget.inside().since(inside);
        if let Some(grace) = &mut self.grace {
            grace.note_covered(own, inside, Self::are_runs(driver));
        }
    }

    #[cold]
    fn begin_grace(&mut self, grace: Grace) {
        self.grace = Some(Box::new(grace));
    }

    /// Whether the grace covers the source in a slot.
    pub(super) fn is_covered(&self, index: usize) -> bool {
        match &self.grace {
            Some(grace) => grace.covers_run || self.in_flight.slots.is_late(index, grace.due),
            None => false,
        }
    }

    /// Whether a deadline has had its grace.
    fn had_grace(&self, deadline: Instant) -> bool {
        self.settled.is_some_and(|settled| deadline <= settled)
    }

    /// At the end of a poll: checks the deadline of the run, and the grace. Returns what follows if a
    /// grace goes on.
    pub(super) fn check_grace(
        &mut self,
        is_expired: bool,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End, Option<Next>> {
        let latest = self.latest(budget);
        let arrival = match is_expired {
            true => Arrival::Unknown,
            false => Arrival::OnTime,
        };
        let is_over = is_expired || latest.is_some_and(|now| self.deadlines.is_over(now));
        if is_over && self.options.limits.is_zero() {
            return ControlFlow::Break(Err(Reason::TimedOut));
        }
        match &mut self.grace {
            Some(grace) => grace.covers_run |= is_over,
            None if is_over => {
                let now = latest.unwrap_or_else(clock::now);
                self.begin_grace(Grace::new(now, true, arrival));
            }
            None => return ControlFlow::Continue(None),
        }
        self.go_on_with_grace(budget, driver)
    }

    /// Sets the deadlines of the sources that started in this poll.
    pub(super) fn stamp(&mut self, budget: &Budget) {
        if !std::mem::take(&mut self.has_started) || self.now.is_none() {
            return;
        }
        if self.options.limits.needs_start_times() {
            let now = clock::now();
            self.now = Some(now);
            if let Some(deadline) = self.options.limits.of_source(now) {
                self.in_flight.slots.stamp(deadline);
            }
        } else {
            self.now = self.latest(budget);
        }
    }

    /// The latest reading of the clock, in a run with deadlines.
    fn latest(&self, budget: &Budget) -> Option<Instant> {
        self.now
            .map(|now| budget.looked_at().map_or(now, |looked| looked.max(now)))
    }

    /// Stops the sources that are late. A source that was woken in time is polled once before. If the
    /// runtime may have refused a source, a grace begins instead.
    pub(super) fn stop_late_sources(
        &mut self,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        self.late_left = false;
        let Some(now) = self.latest(budget) else {
            return ControlFlow::Continue(());
        };
        let due = self.deadlines.due(now, &self.options.limits);
        let is_zero = self.options.limits.is_source_zero();
        while let Some(index) = self.in_flight.slots.late(due) {
            if is_zero {
                // It started in this poll, and its start was paid for.
                self.stop_late(index, driver)?;
                continue;
            }
            if !Self::may_poll(budget, driver) {
                // The rest is not late, however long it takes to come to them.
                self.settled = self.settled.max(Some(due));
                self.late_left = true;
                break;
            }
            if self.ready.take(index) {
                self.poll_slot(index, budget, driver)?;
            } else {
                budget.spend();
            }
            if self.in_flight.slots.oldest() != Some(index) {
                continue;
            }
            let deadline = self.in_flight.slots.next_deadline();
            let is_final = deadline.is_none_or(|deadline| self.had_grace(deadline));
            if !is_final && self.may_be_refused(budget) {
                self.begin_grace(Grace::new(now, false, Arrival::OnTime));
                break;
            }
            self.stop_late(index, driver)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether the runtime may have refused a source: in this poll, or so recently that it may not have
    /// woken the source yet.
    fn may_be_refused(&self, budget: &Budget) -> bool {
        self.calm_polls < TURN || self.left_pending(budget)
    }

    /// Counts the polls since a sweep in which the runtime may have refused a source.
    pub(super) fn note_sweep(&mut self, budget: &Budget) {
        self.is_shuffled |= self.pending_after > 0;
        self.calm_polls = match self.left_pending(budget) {
            true => 0,
            false => self.calm_polls.saturating_add(1),
        };
    }

    /// Whether a source is pending that was not the first to be polled in this poll.
    fn left_pending(&self, budget: &Budget) -> bool {
        match self.pending_after {
            0 => false,
            1 => budget.is_nested() || budget.inside().polls > 1,
            _ => true,
        }
    }

    fn stop_late(&mut self, index: usize, driver: &mut impl Driver<K, G>) -> ControlFlow<End> {
        let mut panics = Panics::default();
        let elapsed = self.in_flight.elapsed(index);
        let flow = match self.in_flight.slots.remove(index, &mut panics) {
            Some(id) => driver.timed_out(id, elapsed, &mut panics),
            None => ControlFlow::Continue(()),
        };
        panics.resume();
        flow?;
        self.verdict(driver)
    }

    /// Continues a grace: to the end of the current sweep, through one more sweep, and then as long as
    /// the grace decides.
    fn go_on_with_grace(
        &mut self,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End, Option<Next>> {
        loop {
            let Some(grace) = &mut self.grace else {
                return ControlFlow::Continue(None);
            };
            let covers_run = grace.covers_run;
            if covers_run && self.ready.is_swept() && !grace.is_last_sweep {
                grace.is_last_sweep = true;
                self.ready.start_sweep(self.is_shuffled);
                self.go_on_sweeping(budget, driver)?;
                continue;
            }
            if covers_run {
                driver.flush(&mut self.ready, budget)?;
                if self.is_complete(driver) {
                    return ControlFlow::Break(Ok(()));
                }
            }
            return match self.judge(budget, driver) {
                Verdict::Again => ControlFlow::Continue(Some(Next::Again)),
                Verdict::WaitUntil(until) if covers_run => {
                    self.deadlines.arm_at(until, &self.ready);
                    ControlFlow::Continue(Some(Next::Rest))
                }
                Verdict::WaitUntil(until) => {
                    ControlFlow::Continue(Some(self.wait_until(Some(until), driver)))
                }
                Verdict::Over => self.end_grace(budget, driver),
            };
        }
    }

    /// Ends a grace: stops the sources that it covers, and ends the run if it covers the run.
    fn end_grace(
        &mut self,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End, Option<Next>> {
        if let Some(grace) = &self.grace {
            self.settled = self.settled.max(Some(grace.due));
        }
        self.stop_late_sources(budget, driver)?;
        if self.late_left {
            return ControlFlow::Continue(Some(Next::Again));
        }
        driver.flush(&mut self.ready, budget)?;
        if self.is_complete(driver) {
            return ControlFlow::Break(Ok(()));
        }
        // A run that is on time has polled its list in this poll.
        let is_late = |grace: &Grace| grace.covers_run && grace.is_late();
        let may_have_ended = L::MAY_WAIT && self.grace.as_deref().is_some_and(is_late);
        if may_have_ended && self.poll_end(driver) && self.is_complete(driver) {
            return ControlFlow::Break(Ok(()));
        }
        match self.grace.take() {
            Some(grace) if grace.covers_run => ControlFlow::Break(Err(Reason::TimedOut)),
            _ => ControlFlow::Continue(None),
        }
    }

    /// Asks the grace what follows, after the sources were polled.
    fn judge(&mut self, budget: &mut Budget, driver: &impl Driver<K, G>) -> Verdict {
        let polled = Polled {
            now: clock::now(),
            may_be_refused: self.may_be_refused(budget),
            is_swept: self.ready.is_swept(),
            is_woken: self.ready.has_work(),
            are_runs: Self::are_runs(driver),
            can_flush: driver.can_flush(),
            is_time_up: budget.is_time_up(),
            source_polls: budget.work().polls,
        };
        match &mut self.grace {
            Some(grace) => grace.judge(&polled),
            None => Verdict::Over,
        }
    }
}

#[cfg(test)]
mod tests;
