//! The clock of a run, whatever its timer is.

use std::time::Duration;

use crate::timer::{Instant, Timer, TimerKind};

/// The clock of a timer.
pub trait Clock {
    /// Reads the clock.
    fn now(&self) -> Instant;

    /// What a run can conclude from a poll that comes late.
    fn kind(&self) -> TimerKind;

    /// The time since a source started, or zero if its start was not noted.
    fn since(&self, started: Option<Instant>) -> Duration {
        started.map_or(Duration::ZERO, |at| {
            self.now().saturating_duration_since(at)
        })
    }
}

impl<T: Timer> Clock for T {
    #[inline]
    fn now(&self) -> Instant {
        Timer::now(self)
    }

    fn kind(&self) -> TimerKind {
        Timer::kind(self)
    }
}
