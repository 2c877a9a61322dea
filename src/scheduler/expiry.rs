//! Deadline handling: which deadlines have passed, and what stops then.
//!
//! A result beats the timeout: an answer that arrived before the deadline counts, even if the task was
//! not polled until later. So a [`Grace`] lies between a deadline and its effect.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::time::Duration;

use super::Run;
use super::budget::{Budget, Work};
use super::clock::Clock;
use super::driver::{Driver, End};
use super::grace::{Arrival, Grace, LATE, LIMIT, Polled, TURN, Verdict};
use super::ready::Next;
use super::signals::AnySignals;
use crate::Reason;
use crate::limit::Ending;
use crate::panics::Panics;
use crate::sources::Sources;
use crate::timer::{Instant, TimerKind};

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// At the start of a poll: begins a grace if the poll is late. If the last poll panicked, it may not
    /// have come to the deadlines, and this one may panic as well. So they take effect now.
    pub(super) fn note_lateness(
        &mut self,
        signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        let is_expired = signals.is_expired() && self.has_panicked;
        let Some(now) = self
            .now
            .or_else(|| is_expired.then(|| budget.clock().now()))
        else {
            return ControlFlow::Continue(());
        };
        if self.has_panicked {
            // The clock may be what has panicked.
            self.stamp_at_now();
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
        } else if let Some(lateness) = self.lateness(now, budget) {
            let kind = budget.clock().kind();
            self.begin_grace(Grace::late(now, is_over, lateness, kind));
        }
        self.note_closing(is_expired);
        if !self.has_panicked {
            return ControlFlow::Continue(());
        }
        match &mut self.grace {
            Some(grace) if now >= grace.ends => {
                grace.is_over = true;
                self.end_grace(signals, budget, driver)?;
            }
            Some(_) => {}
            None => self.stop_late_sources(budget, driver)?,
        }
        ControlFlow::Continue(())
    }

    /// Runs inside this one that are to be polled at this time or earlier are woken. With the timer of a
    /// runtime they wait for the alarm: polls in vain would not leave the others their budget.
    pub(super) fn due_inside(&self, now: Instant, clock: &dyn Clock) -> Instant {
        match clock.kind() {
            TimerKind::Runtime => {
                let least = now.checked_sub(LIMIT).unwrap_or(now);
                self.slept_until
                    .map_or(least, |slept| slept.max(least))
                    .min(now)
            }
            TimerKind::System | TimerKind::Test => now,
        }
    }

    /// Whether the run was polled for the first time after its deadline.
    #[inline]
    pub(super) fn is_too_late(&self) -> bool {
        let deadline = self.options.limits.deadline;
        deadline.is_some() && deadline <= self.now
    }

    /// How late this poll is for the first deadline that has passed, if it is late. Deadlines that have
    /// had their grace do not count.
    fn lateness(&self, now: Instant, budget: &Budget<'_>) -> Option<Duration> {
        if budget.clock().kind() == TimerKind::Test {
            return None;
        }
        let lateness = |deadline: Instant| {
            if deadline >= now || self.had_grace(deadline) {
                return None;
            }
            Some(now.saturating_duration_since(deadline)).filter(|lateness| *lateness >= LATE)
        };
        let counts =
            self.options.limits.has_source_timeouts() && !self.options.limits.is_source_zero();
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
        budget: &Budget<'_>,
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

    /// Once the grace covers the run, keeps the reason of the deadline that has passed.
    #[inline]
    fn note_closing(&mut self, is_expired: bool) {
        let covers_run = self.grace.as_ref().is_some_and(|grace| grace.covers_run);
        if !covers_run || self.closing.is_some() {
            return;
        }
        let reason = match is_expired {
            true => Reason::TimedOut,
            false => self.deadlines.reason(),
        };
        self.closing = Some(reason);
        self.admission.leave_queue();
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
        signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End, Option<Next>> {
        let is_expired = signals.is_expired();
        let latest = self.latest(budget);
        let arrival = match is_expired {
            true => Arrival::Unknown,
            false => Arrival::OnTime,
        };
        let is_over = is_expired || latest.is_some_and(|now| self.deadlines.is_over(now));
        if is_over && self.options.limits.is_zero() {
            return ControlFlow::Break(Err(self.deadlines.reason()));
        }
        match &mut self.grace {
            Some(grace) => grace.covers_run |= is_over,
            None if is_over => {
                let now = latest.unwrap_or_else(|| budget.clock().now());
                self.begin_grace(Grace::new(now, true, arrival));
            }
            None => return ControlFlow::Continue(None),
        }
        self.note_closing(is_expired);
        self.go_on_with_grace(signals, budget, driver)
    }

    /// Sets the deadlines of the sources that started in this poll.
    pub(super) fn stamp(&mut self, budget: &Budget<'_>) {
        if !self.has_started || self.now.is_none() {
            self.has_started = false;
            return;
        }
        self.now = match self.options.limits.needs_start_times() {
            true => Some(budget.clock().now()),
            false => self.latest(budget),
        };
        self.stamp_at_now();
    }

    /// The same, with the last reading of the clock.
    fn stamp_at_now(&mut self) {
        if !std::mem::take(&mut self.has_started) || !self.options.limits.needs_start_times() {
            return;
        }
        if let Some(now) = self.now {
            if let Some(deadline) = self.options.limits.of_source(now) {
                self.in_flight.slots.stamp(deadline);
            }
            self.in_flight.slots.stamp_limits(now);
        }
    }

    /// The latest reading of the clock, in a run with deadlines.
    fn latest(&self, budget: &Budget<'_>) -> Option<Instant> {
        self.now
            .map(|now| budget.looked_at().map_or(now, |looked| looked.max(now)))
    }

    /// Stops the sources that are late. A source that was woken in time is polled once before. If the
    /// runtime may have refused a source, a grace begins instead.
    pub(super) fn stop_late_sources(
        &mut self,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        self.late_left = false;
        let Some(now) = self.latest(budget) else {
            return ControlFlow::Continue(());
        };
        let due = self.deadlines.due(now, &self.options.limits);
        let is_zero = self.options.limits.is_source_zero();
        while let Some(index) = self.in_flight.slots.late(due) {
            if is_zero || self.in_flight.slots.has_zero_limit(index) {
                if self.not_polled.take_if(|slot| *slot == index).is_some()
                    && self.ready.take(index)
                {
                    self.poll_slot(index, budget, driver)?;
                    continue;
                }
                // It started in this poll, and its start was paid for.
                self.stop_late(index, budget, driver)?;
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
            if self.in_flight.slots.source(index).is_none() {
                continue;
            }
            let deadline = self.in_flight.slots.deadline(index);
            let is_final = deadline.is_none_or(|deadline| self.had_grace(deadline));
            if !is_final && self.may_be_refused(budget) {
                self.begin_grace(Grace::new(now, false, Arrival::OnTime));
                break;
            }
            self.stop_late(index, budget, driver)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether the runtime may have refused a source: in this poll, or so recently that it may not have
    /// woken the source yet.
    fn may_be_refused(&self, budget: &Budget<'_>) -> bool {
        self.calm_polls < TURN || self.left_pending(budget)
    }

    /// Counts the polls since a sweep in which the runtime may have refused a source.
    pub(super) fn note_sweep(&mut self, budget: &Budget<'_>) {
        self.is_shuffled |= self.pending_after > 0;
        self.calm_polls = match self.left_pending(budget) {
            true => 0,
            false => self.calm_polls.saturating_add(1),
        };
    }

    /// Whether a source is pending that was not the first to be polled in this poll.
    fn left_pending(&self, budget: &Budget<'_>) -> bool {
        match self.pending_after {
            0 => false,
            1 => budget.is_nested() || budget.inside().polls > 1,
            _ => true,
        }
    }

    fn stop_late(
        &mut self,
        index: usize,
        budget: &Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        let mut panics = Panics::default();
        let stay = self
            .in_flight
            .stay(index, true, budget.clock(), &mut panics);
        self.end_sample(index, Ending::TimedOut, budget.clock(), &mut panics);
        let removed = self.in_flight.slots.remove(index, &mut panics);
        self.note_end(index);
        let flow = match removed {
            Some(id) => driver.timed_out(id, stay, &mut panics),
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
        mut signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
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
                self.end_if_complete(signals.as_mut(), budget, driver)?;
            }
            return match self.judge(budget, driver) {
                Verdict::Again => ControlFlow::Continue(Some(Next::Again)),
                Verdict::WaitUntil(until) if covers_run => {
                    let now = self.now.unwrap_or(until);
                    let has_gone_off = signals.set_alarm(Some(until), now, &self.ready);
                    ControlFlow::Continue(Some(match has_gone_off {
                        true => Next::Again,
                        false => Next::Rest,
                    }))
                }
                Verdict::WaitUntil(_) if self.has_work(driver) => {
                    ControlFlow::Continue(Some(Next::Again))
                }
                Verdict::WaitUntil(until) => {
                    ControlFlow::Continue(Some(self.wait_until(None, Some(until), signals, driver)))
                }
                Verdict::Over => self.end_grace(signals, budget, driver),
            };
        }
    }

    /// Ends a grace: stops the sources that it covers, and ends the run if it covers the run.
    fn end_grace(
        &mut self,
        mut signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
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
        // A run that is closing has no further poll to look for the end of a stream.
        self.looks_for_end |= self.is_closing();
        self.end_if_complete(signals.as_mut(), budget, driver)?;
        // A run that is on time has polled its list in this poll.
        let is_late = |grace: &Grace| grace.covers_run && grace.is_late();
        let may_have_ended = L::MAY_WAIT && self.grace.as_deref().is_some_and(is_late);
        let reason = self.closing.unwrap_or(Reason::TimedOut);
        let may_look = self.has_to_look_for_end() && !self.list_waits;
        let may_have_ended = may_have_ended && may_look && self.occupied(driver) == 0;
        if may_have_ended && self.poll_end(reason, driver) {
            self.end_if_complete(signals, budget, driver)?;
        }
        match self.grace.take() {
            Some(grace) if grace.covers_run => ControlFlow::Break(Err(reason)),
            _ => ControlFlow::Continue(None),
        }
    }

    /// Asks the grace what follows, after the sources were polled.
    fn judge(&mut self, budget: &mut Budget<'_>, driver: &impl Driver<K, G>) -> Verdict {
        let polled = Polled {
            now: budget.clock().now(),
            slept_until: self.slept_until,
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
