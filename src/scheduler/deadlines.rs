//! The deadlines of a run that are not those of sources. Every poll compares them with the clock.

use super::clock::Clock;
use super::options::TimeLimits;
use crate::Reason;
use crate::timer::Instant;

/// The deadlines of the run, and of its next start.
pub(crate) struct Deadlines {
    /// The deadline of the whole run, known from its first poll or from the time it was told to drain.
    whole: Option<Instant>,
    /// Whether that is the end of the drain timeout.
    ends_drain: bool,
    /// When the concurrency limit is raised by one. Unknown until the clock is read after a start.
    next_start: Option<Instant>,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            whole: None,
            ends_drain: false,
            next_start: None,
        }
    }

    /// Sets the deadline of the whole run, if the clock can express it. Returns the time, if there is
    /// any limit.
    pub(crate) fn start(&mut self, limits: &TimeLimits, clock: &dyn Clock) -> Option<Instant> {
        let now = limits.now(clock)?;
        let timeout = limits.timeout.and_then(|timeout| now.checked_add(timeout));
        self.whole = timeout.into_iter().chain(limits.deadline).min();
        Some(now)
    }

    /// Starts the drain timeout, if there is one and it ends before the deadline of the whole run.
    pub(crate) fn drain(&mut self, now: Instant, limits: &TimeLimits) {
        let ends = limits.drain_timeout.and_then(|left| now.checked_add(left));
        let is_first = |ends: &Instant| self.whole.is_none_or(|whole| *ends < whole);
        if let Some(ends) = ends.filter(is_first) {
            self.whole = Some(ends);
            self.ends_drain = true;
        }
    }

    /// The reason of a run that ends at its deadline.
    pub(crate) fn reason(&self) -> Reason {
        match self.ends_drain {
            true => Reason::Drained,
            false => Reason::TimedOut,
        }
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
}

#[cfg(test)]
mod tests;
