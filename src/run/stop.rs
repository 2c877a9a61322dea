//! When a run is over before every source has answered, for what the outcomes are.

use super::End;
use crate::Reason;

/// The rules that need nothing but counts. None is set unless the caller sets it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stop {
    fail_fast: bool,
    quorum: Option<usize>,
}

impl Stop {
    /// The first failure ends the run.
    pub(crate) fn set_fail_fast(&mut self) {
        self.fail_fast = true;
    }

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

    /// How the run ends for what it has come to, if it does. `most_left` says how many sources may
    /// still answer, if that is known.
    pub(crate) fn verdict(
        &self,
        succeeded: usize,
        failed: usize,
        most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        if self.fail_fast && failed > 0 {
            return Some(Err(Reason::SourceFailed));
        }
        let quorum = self.quorum?;
        if succeeded >= quorum {
            return Some(Ok(()));
        }
        let unreachable = most_left().is_some_and(|left| left < quorum - succeeded);
        unreachable.then_some(Err(Reason::QuorumUnreachable))
    }
}
