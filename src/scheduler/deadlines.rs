//! The deadlines of a run, and the alarm that wakes the task at the next one.
//!
//! Every poll compares the deadlines with the clock. The alarm only makes sure that there is a poll
//! when a deadline passes. A run has one alarm, which is set when a poll leaves the run pending.

use super::alarms::Alarm;
use super::clock::Instant;
use super::options::TimeLimits;
use super::ready::{Flag, Ready};

/// The deadlines of a run that are not those of sources, and its alarm.
pub(crate) struct Deadlines {
    /// The deadline of the whole run, known from its first poll.
    whole: Option<Instant>,
    /// When the concurrency limit is raised by one. Unknown until the clock is read after a start.
    next_start: Option<Instant>,
    /// The alarm for the next deadline. It may fire earlier.
    alarm: Option<Alarm>,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            whole: None,
            next_start: None,
            alarm: None,
        }
    }

    /// Sets the deadline of the whole run, if the clock can express it. Returns the time, if there is
    /// any limit.
    pub(crate) fn start(&mut self, limits: &TimeLimits) -> Option<Instant> {
        let now = limits.now()?;
        self.whole = limits.timeout.and_then(|timeout| now.checked_add(timeout));
        Some(now)
    }

    /// The deadline of the whole run.
    pub(crate) fn whole(&self) -> Option<Instant> {
        self.whole
    }

    /// Restarts the pace, because a source was started.
    pub(crate) fn note_start(&mut self) {
        self.next_start = None;
    }

    /// Whether it is time to raise the concurrency limit by one. The first call after a start begins
    /// to count.
    pub(crate) fn is_start_due(&mut self, now: Instant, limits: &TimeLimits) -> bool {
        match self.next_start {
            None => self.next_start = limits.pace.and_then(|pace| now.checked_add(pace)),
            Some(at) if at <= now => {
                self.next_start = None;
                return true;
            }
            Some(_) => {}
        }
        false
    }

    /// When it will be time to raise the concurrency limit by one.
    pub(crate) fn next_start(&self) -> Option<Instant> {
        self.next_start
    }

    /// Whether the deadline of the whole run has passed.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.whole.is_some_and(|whole| whole <= now)
    }

    /// Sources with deadlines up to this time are late. After the deadline of the run it no longer
    /// advances, so that the earlier one of the two deadlines counts.
    pub(crate) fn due(&self, now: Instant, limits: &TimeLimits) -> Instant {
        match self.whole {
            Some(whole) if !limits.sources_first => whole.min(now),
            _ => now,
        }
    }

    /// Drops the alarm if it has fired.
    #[inline]
    pub(crate) fn note_alarm(&mut self, ready: &mut Ready) {
        if ready.take_flag(Flag::Alarm) {
            self.alarm = None;
        }
    }

    /// Makes sure that the task is woken at the next deadline, that of the run or one of `others`.
    /// Returns true, and does nothing, if it has passed already.
    pub(crate) fn arm(
        &mut self,
        now: Instant,
        others: [Option<Instant>; 2],
        ready: &Ready,
    ) -> bool {
        let all = self.whole.into_iter().chain(others.into_iter().flatten());
        let Some(next) = all.min() else {
            self.alarm = None;
            return false;
        };
        if next <= now {
            return true;
        }
        // Keep an earlier alarm: a spurious wakeup costs less than another alarm.
        self.arm_at(next, ready);
        false
    }

    /// Makes sure that the task is woken at `at`. An earlier alarm remains.
    pub(crate) fn arm_at(&mut self, at: Instant, ready: &Ready) {
        if self.alarm.as_ref().is_none_or(|alarm| alarm.at() > at) {
            self.alarm = Some(Alarm::set(at, ready.flag_waker(Flag::Alarm)));
        }
    }

    /// Drops the alarm.
    pub(crate) fn disarm(&mut self) {
        self.alarm = None;
    }
}

#[cfg(test)]
mod tests;
