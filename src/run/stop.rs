//! When a run is over before every source has answered, for what the outcomes are.

use super::End;
use crate::Reason;

/// The rules that need nothing but counts, none of which is set unless the caller sets it, and when
/// the caller's own rule is to be asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stop {
    fail_fast: bool,
    quorum: Option<usize>,
    has_rule: bool,
    /// How many outcomes there were when the caller's rule was last asked.
    asked: usize,
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

    /// There is a rule of the caller's own.
    pub(crate) fn set_rule(&mut self) {
        self.has_rule = true;
    }

    /// Whether some successes may be enough.
    pub(crate) fn may_be_early(&self) -> bool {
        self.has_rule || self.quorum.is_some()
    }

    /// How the run ends for what it has come to, if it does. `most_left` says how many sources may
    /// still answer, if that is known; `is_enough` asks the caller's rule, once for each outcome
    /// that does not decide by itself.
    pub(crate) fn verdict(
        &mut self,
        succeeded: usize,
        failed: usize,
        most_left: impl FnOnce() -> Option<usize>,
        is_enough: impl FnOnce() -> bool,
    ) -> Option<End> {
        let counted = self.by_counts(succeeded, failed, most_left);
        if counted.is_some() || self.asked == succeeded + failed {
            return counted;
        }
        self.asked = succeeded + failed;
        is_enough().then_some(Ok(()))
    }

    fn by_counts(
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
