//! The deadlines of a run and of its sources.
//!
//! Deadlines are compared with the clock; an alarm only makes sure that there is a poll when one of
//! them passes. One alarm serves the whole run. It is set when a poll leaves the run waiting.

use std::time::Duration;

use super::alarms::Alarm;
use super::clock::{self, Instant};
use super::options::Options;
use super::ready::{Flag, Ready};

/// The time limits of a run, where it has any, and its alarm.
pub(crate) struct Deadlines {
    timeout: Option<Duration>,
    source_timeout: Option<Duration>,
    /// How long after the last start one more source may be started than the limit admits.
    pace: Option<Duration>,
    /// Whether sources are compared with the clock although the deadline of the run came first.
    sources_first: bool,
    /// When the whole run ends, once it has begun.
    whole: Option<Instant>,
    /// When one more source may be started, once the clock was read after the last start.
    next_start: Option<Instant>,
    alarm: Option<Alarm>,
}

impl Deadlines {
    /// No limits.
    pub(crate) const NONE: Self = Self {
        timeout: None,
        source_timeout: None,
        pace: None,
        sources_first: false,
        whole: None,
        next_start: None,
        alarm: None,
    };

    pub(crate) fn new(options: &Options) -> Self {
        Self {
            timeout: limit(options.timeout),
            source_timeout: limit(options.source_timeout),
            pace: limit(options.pace),
            sources_first: options.sources_first,
            ..Self::NONE
        }
    }

    /// Begins to count. A limit that the clock cannot express is none. Returns what the clock says,
    /// if there is any limit to compare it with.
    pub(crate) fn start(&mut self) -> Option<Instant> {
        let now = self.now()?;
        self.whole = self.timeout.and_then(|timeout| now.checked_add(timeout));
        Some(now)
    }

    /// Reads the clock, if there is any limit to compare it with.
    #[inline]
    pub(crate) fn now(&self) -> Option<Instant> {
        let any = self.timeout.or(self.source_timeout).or(self.pace);
        any.map(|_| clock::now())
    }

    /// Whether it matters when a source was started.
    pub(crate) fn needs_start_times(&self) -> bool {
        self.source_timeout.or(self.pace).is_some()
    }

    /// Whether sources have deadlines of their own.
    #[inline]
    pub(crate) fn has_source_timeout(&self) -> bool {
        self.source_timeout.is_some()
    }

    /// The deadline of the whole run.
    pub(crate) fn whole(&self) -> Option<Instant> {
        self.whole
    }

    /// A source was started: the next has to wait from now on.
    pub(crate) fn note_start(&mut self) {
        self.next_start = None;
    }

    /// Whether it is time to start one more source than the limit admits.
    pub(crate) fn is_start_due(&mut self, now: Instant) -> bool {
        match self.next_start {
            None => self.next_start = self.pace.and_then(|pace| now.checked_add(pace)),
            Some(at) if at <= now => {
                self.next_start = None;
                return true;
            }
            Some(_) => {}
        }
        false
    }

    /// When that will be, if it is not yet.
    pub(crate) fn next_start(&self) -> Option<Instant> {
        self.next_start
    }

    /// Whether the whole run has come to its deadline.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.whole.is_some_and(|whole| whole <= now)
    }

    /// The time up to which sources can be late: they are compared with the run's own deadline
    /// where that has passed, so that of two deadlines the one that came first counts.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        match self.whole {
            Some(whole) if !self.sources_first => whole.min(now),
            _ => now,
        }
    }

    /// The deadline of a source that starts now, if the clock can express it.
    pub(crate) fn of_source(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.source_timeout?)
    }

    /// Whether a run without time gives each source one poll and no more.
    pub(crate) fn is_zero(&self) -> bool {
        self.timeout == Some(Duration::ZERO)
    }

    /// Whether a source without time gets one poll and no more.
    pub(crate) fn is_source_zero(&self) -> bool {
        self.source_timeout == Some(Duration::ZERO)
    }

    /// Lets go of an alarm that has gone off.
    #[inline]
    pub(crate) fn note_alarm(&mut self, ready: &mut Ready) {
        if ready.take_flag(Flag::Alarm) {
            self.alarm = None;
        }
    }

    /// Makes sure that the task is woken when the first deadline passes, which is that of the run
    /// or one of `others`. Returns whether it has passed already.
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
        // An alarm that goes off too early costs one poll; setting another costs more.
        self.arm_at(next, ready);
        false
    }

    /// Makes sure that the task is woken at a time.
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

/// `Duration::MAX` is no limit.
fn limit(duration: Duration) -> Option<Duration> {
    (duration < Duration::MAX).then_some(duration)
}

#[cfg(test)]
mod tests;
