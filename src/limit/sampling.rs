//! What runs tell an adaptive limit.

use super::adaptive::{Ending, Start};
use super::{Limit, MutexGuard, State, set_to};
use crate::timer::Instant;

impl Limit {
    /// Whether the limit finds its number by itself.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.lock().adaptive.is_some()
    }

    /// A source has taken a place and starts.
    pub(crate) fn begin_sample(&self, now: Instant) -> Option<Start> {
        let mut state = self.lock();
        let in_use = state.in_use;
        let adaptive = state.adaptive.as_mut()?;
        let start = adaptive.start(now, in_use);
        follow(state);
        Some(start)
    }

    /// That source is over. The time is unknown if it was dropped with its run.
    pub(crate) fn end_sample(&self, start: Start, ending: Ending, now: Option<Instant>) {
        let mut state = self.lock();
        if let Some(adaptive) = &mut state.adaptive {
            adaptive.end(start, ending, now);
            follow(state);
        }
    }
}

/// Sets the limit to what the rule has found.
fn follow(state: MutexGuard<'_, State>) {
    let found = state.adaptive.as_ref().map(|adaptive| adaptive.limit());
    if let Some(limit) = found.filter(|limit| *limit != state.limit) {
        set_to(state, limit);
    }
}
