//! The plain settings of a run.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use crate::limit::{Concurrency, Kind, Limit};
use crate::rate::Rate;
use crate::timer::Instant;

/// Everything about a run that the caller sets by a number, a duration or a switch.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most sources in flight.
    pub(crate) concurrency: usize,
    /// The limits and rates that other runs share, if there are any.
    pub(crate) shared: Option<Arc<Shared>>,
    /// The most sources that wait because there is no room for their keys.
    pub(crate) look_ahead: usize,
    /// The time limits.
    pub(crate) limits: TimeLimits,
    /// Whether a source that panics is one more outcome, rather than the end of the poll.
    pub(crate) catches_panics: bool,
    /// Whether outcomes are in the order of their sources.
    pub(crate) in_order: bool,
    /// When outcomes end the run.
    pub(crate) policies: Policies,
}

impl Options {
    /// No limits.
    pub(crate) const NONE: Self = Self {
        concurrency: usize::MAX,
        shared: None,
        look_ahead: 64,
        limits: TimeLimits {
            timeout: None,
            deadline: None,
            limits_inside: false,
            source_timeout: None,
            source_timeout_by: false,
            drain_timeout: None,
            pace: None,
            has_rate: false,
            sources_first: false,
        },
        catches_panics: false,
        in_order: false,
        policies: Policies {
            fail_fast: false,
            quorum: None,
            has_rule: false,
            has_any: false,
        },
    };

    /// Adds a limit.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub(crate) fn limit_concurrency(&mut self, limit: Concurrency<'_>) {
        match limit.0 {
            Kind::Number(limit) => {
                assert!(
                    limit > 0,
                    "a concurrency limit of 0 would never start a source; it must be at least 1"
                );
                self.concurrency = self.concurrency.min(limit);
            }
            Kind::Shared(limit) => {
                let shared = Arc::make_mut(self.shared.get_or_insert_default());
                if !shared.limits.iter().any(|other| other.is(limit)) {
                    shared.limits.push(limit.clone());
                }
            }
        }
    }

    /// Adds a rate.
    pub(crate) fn limit_rate(&mut self, rate: &Rate) {
        let shared = Arc::make_mut(self.shared.get_or_insert_default());
        if !shared.rates.iter().any(|other| other.is(rate)) {
            shared.rates.push(rate.clone());
        }
        self.limits.has_rate = true;
    }
}

/// What runs share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    pub(crate) limits: Vec<Limit>,
    pub(crate) rates: Vec<Rate>,
}

/// The time limits of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    /// The timeout of the run, from its first poll.
    pub(crate) timeout: Option<Duration>,
    /// A time at which the run ends, if it is earlier.
    pub(crate) deadline: Option<Instant>,
    /// Whether the sources are runs with limits of their own.
    pub(crate) limits_inside: bool,
    /// The timeout of each source, from its start.
    pub(crate) source_timeout: Option<Duration>,
    /// Whether the hooks give sources timeouts of their own.
    pub(crate) source_timeout_by: bool,
    /// The time of the sources in flight after the run was told to drain.
    pub(crate) drain_timeout: Option<Duration>,
    /// How long after the last start the concurrency limit is raised by one.
    pub(crate) pace: Option<Duration>,
    /// Whether sources wait for a rate.
    pub(crate) has_rate: bool,
    /// Whether a source whose time is up has timed out although the deadline of the run came first, if
    /// one poll notices both.
    pub(crate) sources_first: bool,
}

impl TimeLimits {
    /// Reads the clock, if there is any limit.
    #[inline]
    pub(crate) fn now(&self, clock: &dyn Clock) -> Option<Instant> {
        self.has_any().then(|| clock.now())
    }

    /// Whether any limit depends on when sources start.
    pub(crate) fn needs_start_times(&self) -> bool {
        self.has_source_timeouts() || self.pace.is_some()
    }

    /// Whether sources have timeouts.
    pub(crate) fn has_source_timeouts(&self) -> bool {
        self.source_timeout.is_some() || self.source_timeout_by
    }

    /// The deadline of a source that starts now, if the clock can express it.
    pub(crate) fn of_source(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.source_timeout?)
    }

    /// Whether there is any limit.
    pub(crate) fn has_any(&self) -> bool {
        self.source_timeout_by
            || self.limits_inside
            || self.deadline.is_some()
            || self.timeout.is_some()
            || self.source_timeout.is_some()
            || self.drain_timeout.is_some()
            || self.pace.is_some()
            || self.has_rate
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
    pub(super) fail_fast: bool,
    /// This many successes end the run.
    pub(super) quorum: Option<usize>,
    /// The hooks have a stop rule.
    has_rule: bool,
    /// Any of these, so that most runs check one flag after each outcome.
    has_any: bool,
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
        self.has_any = true;
    }

    pub(crate) fn set_fail_fast(&mut self) {
        self.fail_fast = true;
        self.has_any = true;
    }

    /// The hooks have a stop rule, or the driver has one of its own.
    pub(crate) fn set_rule(&mut self) {
        self.has_rule = true;
        self.has_any = true;
    }

    /// Whether outcomes may end the run.
    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }

    /// Whether a few successes may end the run.
    pub(crate) fn may_be_early(&self) -> bool {
        self.has_rule || self.quorum.is_some()
    }
}
