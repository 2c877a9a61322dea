//! The plain settings of a run.

use std::time::Duration;

/// Everything about a run that the caller sets by a number, a duration or a switch.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The most sources in flight.
    pub(crate) concurrency: usize,
    /// The time of the run from its first poll. [`Duration::MAX`] is no limit.
    pub(crate) timeout: Duration,
    /// The time of each source from its own start. [`Duration::MAX`] is no limit.
    pub(crate) source_timeout: Duration,
    /// Whether a source whose time is up has timed out although the deadline of the run came first, if
    /// both are noticed in one poll.
    pub(crate) sources_first: bool,
    /// How long after the last start one more source may start than `concurrency` admits.
    /// [`Duration::MAX`] is never.
    pub(crate) pace: Duration,
    /// Whether a source that panics is one more outcome, rather than the end of the poll.
    pub(crate) catches_panics: bool,
    /// When outcomes end the run.
    pub(crate) policies: Policies,
}

impl Options {
    /// No limits.
    pub(crate) const NONE: Self = Self {
        concurrency: usize::MAX,
        timeout: Duration::MAX,
        source_timeout: Duration::MAX,
        sources_first: false,
        pace: Duration::MAX,
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
