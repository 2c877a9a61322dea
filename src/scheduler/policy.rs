//! Stop policies: which outcomes end a run before every source has answered.

use super::driver::End;
use super::options::Policies;
use crate::Reason;

/// The outcomes of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
}

/// Asks the policies after each outcome.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// How many outcomes there were when the caller's rule was last asked.
    asked: usize,
}

impl Verdicts {
    /// How the run ends, if the outcomes so far decide that. `most_left` returns how many sources may
    /// still answer, if that is known. `is_enough` asks the caller's rule: once for each outcome that
    /// does not decide by itself.
    #[inline(always)]
    pub(crate) fn verdict(
        &mut self,
        policies: &Policies,
        counts: Counts,
        most_left: impl FnOnce() -> Option<usize>,
        is_enough: impl FnOnce() -> bool,
    ) -> Option<End> {
        let end = by_counts(policies, counts, most_left);
        let outcomes = counts.succeeded + counts.failed;
        if end.is_some() || self.asked == outcomes {
            return end;
        }
        self.asked = outcomes;
        is_enough().then_some(Ok(()))
    }
}

#[inline(always)]
fn by_counts(
    policies: &Policies,
    counts: Counts,
    most_left: impl FnOnce() -> Option<usize>,
) -> Option<End> {
    if policies.fail_fast && counts.failed > 0 {
        return Some(Err(Reason::SourceFailed));
    }
    let quorum = policies.quorum?;
    if counts.succeeded >= quorum {
        return Some(Ok(()));
    }
    let missing = quorum - counts.succeeded;
    let is_unreachable = most_left().is_some_and(|left| left < missing);
    is_unreachable.then_some(Err(Reason::QuorumUnreachable))
}
