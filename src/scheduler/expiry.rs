//! Deadline handling, for sources and for the whole run.
//!
//! A result beats the timeout: an answer that arrived before the deadline counts, even if the task
//! was not polled until later. Two things can hold such an answer back:
//!
//! - The thread was busy, or the process was stopped, past the deadline. The alarm comes from
//!   another thread, so the run may be polled before the runtime has looked at its sockets and
//!   timers.
//! - The runtime's cooperative budget (tokio: 128 operations for each poll of a task) was used up by
//!   the sources that were polled first. It refuses the others, and wakes them later.
//!
//! So there is a *grace* between a deadline and what follows from it. A run that is polled on time
//! ends as soon as the sources that were woken are polled, unless some may have been refused. A run
//! that is polled late gives the runtime a turn first.

use std::ops::ControlFlow;
use std::time::Duration;

use super::Run;
use super::budget::{Budget, POLLS, Ticks, Work};
use super::clock::{self, Instant};
use super::driver::{Driver, End};
use super::panics::Panics;
use super::ready::Next;
use crate::Reason;
use crate::sources::Sources;

/// A run is polled late if the poll begins this long after a deadline.
pub(super) const LATE: Duration = Duration::from_millis(1);

/// How long a run that is on time waits for sources that may have been refused, and a late one at
/// least for an outcome, from the last one on.
const PATIENCE: Duration = Duration::from_millis(1);

/// How long a late run waits for an outcome at the most, and which part of its lateness. After a long
/// stall all threads of a runtime want the processor, and that which looks at the sockets may come
/// last.
const MOST_PATIENCE: Duration = Duration::from_millis(8);
const PART_OF_LATENESS: u32 = 16;

/// No grace takes longer than this from the last outcome on, nor longer in all, with two exceptions.
/// One that began late may take as long as it was late. And one that has no budget for all the sources
/// that were woken goes on for as long as most of those it polls have their answers.
const LIMIT: Duration = Duration::from_millis(20);

/// The exception for a late run has a limit itself.
const MOST_LIMIT: Duration = Duration::from_millis(100);

/// No grace of a late run ends for its length before it has had this many polls: they may be far apart
/// where the thread has much else to do.
const LEAST_POLLS: u32 = 3;

/// How many polls without an outcome give the runtime its turn for certain: tokio looks at sockets
/// and timers after every 61 polls of its tasks, if it never idles.
const TURNS: u32 = 64;

/// No wait takes more polls than this, even if the clock stands still, as it may in tests.
const MOST_TURNS: u32 = 2048;

/// Whether a run is polled in time to see a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    OnTime,
    Late,
    /// The deadline is a future of the caller's, which does not say when it was due.
    Unknown,
}

/// The time between a deadline and its consequences.
#[derive(Debug)]
pub(super) struct Grace {
    /// Sources whose deadlines came no later than this are covered.
    due: Instant,
    /// Whether the deadline of the whole run has passed. Then no source is started any more.
    pub(super) covers_run: bool,
    arrival: Arrival,
    /// Whether the sweep under way, or the one just finished, began after the deadline.
    is_last_sweep: bool,
    /// Whether a source may have been refused by the runtime.
    is_suspicious: bool,
    /// How long to wait for an outcome.
    patience: Duration,
    /// Until when that is. Set when the sweep is over.
    waits_until: Option<Instant>,
    /// Polls without an outcome, after the wait.
    turns: u32,
    /// Source polls in those.
    extra: u32,
    /// Polls in all.
    polls: u32,
    /// When it ends, if nothing else ends it before.
    ends: Instant,
    /// When it ends although outcomes come.
    ends_for_certain: Instant,
    is_over: bool,
    /// What the sources that are covered did in this poll.
    covered: Work,
    /// Whether runs inside them had outcomes, which they may have for ever.
    has_progress_inside: bool,
    /// When it began to wait.
    ticks: Ticks,
}

impl Grace {
    fn new(now: Instant, covers_run: bool, arrival: Arrival) -> Self {
        Self {
            due: now,
            covers_run,
            arrival,
            is_last_sweep: arrival == Arrival::Late,
            is_suspicious: false,
            patience: PATIENCE,
            waits_until: None,
            turns: 0,
            extra: 0,
            polls: 0,
            ends: now + LIMIT,
            ends_for_certain: now + LIMIT,
            is_over: false,
            covered: Work::NONE,
            has_progress_inside: false,
            ticks: Ticks::now(),
        }
    }

    /// The same for a run that is late by so much.
    fn late(now: Instant, covers_run: bool, lateness: Duration) -> Self {
        Self {
            patience: (lateness / PART_OF_LATENESS).clamp(PATIENCE, MOST_PATIENCE),
            ends_for_certain: now + lateness.clamp(LIMIT, MOST_LIMIT),
            ..Self::new(now, covers_run, Arrival::Late)
        }
    }
}

/// What a grace comes to in a poll.
enum Verdict {
    /// It goes on, with another poll at once.
    Again,
    /// It goes on, until then or until the next wake.
    WaitUntil(Instant),
    Over,
}

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// At the start of a poll: begins a grace if the poll is late. If the last poll has panicked, it
    /// may have ended before it came to the deadlines, and so may this one. They are dealt with now.
    pub(super) fn note_lateness(
        &mut self,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        let Some(now) = self.now else {
            return ControlFlow::Continue(());
        };
        if self.has_panicked {
            self.stamp(budget);
        }
        let is_over = self.deadlines.is_over(now);
        if let Some(grace) = &mut self.grace {
            if is_over && grace.is_over && !grace.covers_run {
                // That of sources is over, but for stopping them. The run has one of its own.
                self.grace = None;
            } else {
                grace.covers_run |= is_over;
            }
        }
        if self.grace.is_some() {
            // Another deadline does not make it longer.
        } else if is_over && self.has_panicked {
            self.begin_grace(Grace {
                ends: now + PATIENCE,
                ..Grace::new(now, true, Arrival::OnTime)
            });
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

    /// How late this poll is for the first deadline that has passed, if it is late. A deadline that
    /// has had its grace does not count.
    fn lateness(&self, now: Instant) -> Option<Duration> {
        let lateness = |deadline: Instant| {
            if deadline >= now || self.had_grace(deadline) {
                return None;
            }
            Some(now.saturating_duration_since(deadline)).filter(|lateness| *lateness >= LATE)
        };
        let counts = self.deadlines.has_source_timeout() && !self.deadlines.is_source_zero();
        let source = counts
            .then(|| self.in_flight.slots.next_deadline())
            .flatten();
        let source = source.and_then(lateness);
        source.max(self.deadlines.whole().and_then(lateness))
    }

    /// Notes what a source did that is covered; if it is a run, what was done inside it, too.
    #[cold]
    pub(super) fn note_covered(
        &mut self,
        (inside, outcomes): (Work, u32),
        budget: &Budget,
        driver: &impl Driver<K, G>,
    ) {
        let Some(grace) = &mut self.grace else {
            return;
        };
        grace.covered = grace.covered.add(Work {
            polls: 1,
            outcomes: budget.outcomes() - outcomes,
        });
        let inside = budget.inside().since(inside);
        if Self::are_runs(driver) {
            grace.covered = grace.covered.add(inside);
        } else if grace.covers_run {
            grace.has_progress_inside |= inside.outcomes > 0;
        }
    }

    #[cold]
    fn begin_grace(&mut self, grace: Grace) {
        self.grace = Some(Box::new(grace));
    }

    /// Whether the time of the source in a slot is up.
    pub(super) fn is_covered(&self, index: usize) -> bool {
        match &self.grace {
            Some(grace) => grace.covers_run || self.in_flight.slots.is_late(index, grace.due),
            None => false,
        }
    }

    /// Whether a grace that is over has covered a deadline.
    fn had_grace(&self, deadline: Instant) -> bool {
        self.settled.is_some_and(|settled| deadline <= settled)
    }

    /// At the end of a poll, after the sources that are late: what the deadline of the whole run and
    /// a grace come to. Returns what is to follow if a grace goes on.
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
        if is_over && self.deadlines.is_zero() {
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

    /// Gives the sources started in this poll their deadlines.
    pub(super) fn stamp(&mut self, budget: &Budget) {
        if !std::mem::take(&mut self.has_started) || self.now.is_none() {
            return;
        }
        if self.deadlines.needs_start_times() {
            let now = clock::now();
            self.now = Some(now);
            if let Some(deadline) = self.deadlines.of_source(now) {
                self.in_flight.slots.stamp(deadline);
            }
        } else {
            self.now = self.latest(budget);
        }
    }

    /// What the clock said when it was last read, in a run with deadlines.
    fn latest(&self, budget: &Budget) -> Option<Instant> {
        self.now
            .map(|now| budget.looked_at().map_or(now, |looked| looked.max(now)))
    }

    /// Stops the sources that are late, each after one more poll if it was woken in time. If one may
    /// have been refused in this poll, a grace begins.
    pub(super) fn stop_late_sources(
        &mut self,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        self.late_left = false;
        let Some(now) = self.latest(budget) else {
            return ControlFlow::Continue(());
        };
        let due = self.deadlines.due(now);
        let is_zero = self.deadlines.is_source_zero();
        while let Some(index) = self.in_flight.slots.late(due) {
            if is_zero {
                // It was started in this poll, which has paid for it.
                self.stop_late(index, driver)?;
                continue;
            }
            if !Self::may_poll(budget, driver) {
                // Those that are left are on time, however long it takes to come to them.
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
            if !is_final && self.is_suspicious(budget) {
                self.begin_grace(Grace::new(now, false, Arrival::OnTime));
                break;
            }
            self.stop_late(index, driver)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether the runtime may have refused a source: in this poll, or in one so short ago that it
    /// may not have woken the source since.
    fn is_suspicious(&self, budget: &Budget) -> bool {
        self.calm_polls < TURNS || self.left_pending(budget)
    }

    /// Counts the polls since a sweep left a source pending that the runtime may have refused.
    pub(super) fn note_sweep(&mut self, budget: &Budget) {
        self.is_shuffled |= self.pending_after > 0;
        self.calm_polls = match self.left_pending(budget) {
            true => 0,
            false => self.calm_polls.saturating_add(1),
        };
    }

    /// Whether a source was left pending in this poll that was not the first to be polled.
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

    /// Goes on with a grace: to the end of the sweep under way and of one more, and then for as long
    /// as sources may have been refused, or the runtime has not had its turn.
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

    /// Stops the sources that the grace has covered, and ends the run if it has covered that.
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
        match self.grace.take() {
            Some(grace) if grace.covers_run => ControlFlow::Break(Err(Reason::TimedOut)),
            _ => ControlFlow::Continue(None),
        }
    }

    /// What a grace comes to after the sources were polled.
    fn judge(&mut self, budget: &mut Budget, driver: &impl Driver<K, G>) -> Verdict {
        let is_suspicious = self.is_suspicious(budget);
        let Some(grace) = &mut self.grace else {
            return Verdict::Over;
        };
        if grace.is_over {
            return Verdict::Over;
        }
        let now = clock::now();
        grace.polls += 1;
        if grace.turns > 0 {
            grace.extra += budget.work().polls;
        }
        grace.is_suspicious |= is_suspicious;
        let covered = std::mem::replace(&mut grace.covered, Work::NONE);
        let inside = std::mem::take(&mut grace.has_progress_inside);
        let is_swept = self.ready.is_swept();
        let is_woken = self.ready.has_work();
        // A source that is a run does what it has to do in several polls.
        let has_more = Self::are_runs(driver) && is_woken;
        let is_productive = covered.is_productive() && (has_more || !is_swept);
        let has_progress = covered.outcomes > 0 || inside;
        if is_productive {
            grace.ends = now + LIMIT;
            grace.ends_for_certain = grace.ends_for_certain.max(grace.ends);
        } else if has_progress {
            grace.ends = grace.ends_for_certain.min(now + LIMIT);
        }
        if is_productive || has_progress && grace.arrival != Arrival::OnTime {
            grace.waits_until = None;
            grace.turns = 0;
            grace.extra = 0;
        }
        let is_late = grace.arrival == Arrival::Late;
        let least_polls = if is_late { LEAST_POLLS } else { 1 };
        // Sources that take as long as a whole poll may are not waited for, once one was polled after
        // the deadline.
        let was_long = grace.polls > 1 && budget.is_time_up() && budget.work().polls <= 2;
        let is_too_long = was_long && !is_late && !has_progress;
        if (now >= grace.ends || is_too_long) && grace.polls >= least_polls {
            grace.is_over = true;
            return Verdict::Over;
        }
        let is_first_sweep = is_late || grace.waits_until.is_none();
        let goes_on = is_productive || inside && is_woken || driver.can_flush();
        if !is_swept && is_first_sweep || goes_on {
            return Verdict::Again;
        }
        // Polls of other runs on this thread are turns of the runtime too.
        let ticks = Ticks::now();
        let again = now + grace.patience;
        if grace.waits_until.is_none() {
            grace.ticks = ticks;
        }
        let waits_until = *grace.waits_until.get_or_insert(again);
        let turns = ticks.since(grace.ticks);
        if is_late && grace.turns == 0 {
            if now < waits_until {
                return Verdict::WaitUntil(waits_until);
            }
            if now >= waits_until + LATE && turns < TURNS {
                // The alarm was late itself, so the thread was busy again.
                grace.waits_until = Some(again);
                return Verdict::WaitUntil(again);
            }
        }
        let has_time = now < waits_until;
        let has_turns = turns.max(grace.turns) < TURNS;
        let is_cheap = grace.extra < POLLS;
        let is_waiting = match grace.arrival {
            Arrival::Late => has_turns,
            Arrival::OnTime => has_time && has_turns && is_cheap,
            // A worker of the runtime that has refused a source wakes it when it comes to it, while
            // another polls the run.
            Arrival::Unknown => (has_time && grace.turns < MOST_TURNS || has_turns) && is_cheap,
        };
        let is_needed = is_late || grace.is_suspicious || has_more;
        if is_waiting && is_needed {
            grace.turns += 1;
            return Verdict::Again;
        }
        // The runtime has had its turn, for the deadlines that passed meanwhile too.
        grace.due = now;
        grace.is_over = true;
        Verdict::Over
    }
}

#[cfg(test)]
mod tests;
