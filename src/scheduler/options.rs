//! The plain settings of a run.

use std::time::Duration;

use super::clock::{self, Instant};

/// Everything about a run that the caller sets by a number, a duration or a switch.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The most sources in flight.
    pub(crate) concurrency: usize,
    /// The time limits.
    pub(crate) limits: TimeLimits,
    /// Whether a source that panics is one more outcome, rather than the end of the poll.
    pub(crate) catches_panics: bool,
    /// When outcomes end the run.
    pub(crate) policies: Policies,
}

impl Options {
    /// No limits.
    pub(crate) const NONE: Self = Self {
        concurrency: usize::MAX,
        limits: TimeLimits {
            timeout: None,
            source_timeout: None,
            pace: None,
            sources_first: false,
        },
        catches_panics: false,
        policies: Policies {
            fail_fast: false,
            quorum: None,
            has_rule: false,
        },
    };

    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub(crate) fn set_concurrency(&mut self, limit: usize) {
        assert!(
            limit > 0,
            "a concurrency limit of 0 would never start a source; it must be at least 1"
        );
        self.concurrency = limit;
    }
}

/// The time limits of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    /// The timeout of the run, from its first poll.
    pub(crate) timeout: Option<Duration>,
    /// The timeout of each source, from its start.
    pub(crate) source_timeout: Option<Duration>,
    /// How long after the last start the concurrency limit is raised by one.
    pub(crate) pace: Option<Duration>,
    /// Whether a source whose time is up has timed out although the deadline of the run came first, if
    /// one poll notices both.
    pub(crate) sources_first: bool,
}

impl TimeLimits {
    /// Reads the clock, if there is any limit.
    #[inline]
    pub(crate) fn now(&self) -> Option<Instant> {
        let any = self.timeout.or(self.source_timeout).or(self.pace);
        any.map(|_| clock::now())
    }

    /// Whether any limit depends on when sources start.
    pub(crate) fn needs_start_times(&self) -> bool {
        self.source_timeout.or(self.pace).is_some()
    }

    /// The deadline of a source that starts now, if the clock can express it.
    pub(crate) fn of_source(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.source_timeout?)
    }

    /// Whether the timeout of the run is zero, so that each source gets one poll.
    pub(crate) fn is_zero(&self) -> bool {
        self.timeout == Some(Duration::ZERO)
    }

    /// Whether the timeout of sources is zero, so that each source gets one poll.
    pub(crate) fn is_source_zero(&self) -> bool {
        self.source_timeout == Some(Duration::ZERO)
    }
}

/// The limit that a duration sets. [`Duration::MAX`] is none.
pub(crate) fn limit(duration: Duration) -> Option<Duration> {
    (duration < Duration::MAX).then_some(duration)
}

/// When the outcomes of sources end a run before every source has answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policies {
    /// The first failure ends the run.
    pub(crate) fail_fast: bool,
    /// This many successes end the run.
    pub(crate) quorum: Option<usize>,
    /// The hooks have a stop rule.
    pub(crate) has_rule: bool,
}

impl Policies {
    /// # Panics
    ///
    /// If `successes` is zero.
    #[track_caller]
    pub(crate) fn set_quorum(&mut self, successes: usize) {
        assert!(
            successes > 0,
            "a quorum of 0 is reached before any source is asked; it must be at least 1"
        );
        self.quorum = Some(successes);
    }

    /// Whether a few successes may end the run.
    pub(crate) fn may_be_early(&self) -> bool {
        self.has_rule || self.quorum.is_some()
    }
}
