//! The caller's rule for answers that are signs of overload.

use std::fmt;
use std::time::Duration;

use super::Hooks;
use crate::panics::{Contained, Panics};
use crate::sealed::Sealed;
use crate::{Aggregate, BatchOutcome, Event};

/// Hooks with one more rule for signs of overload, as [`overload_if`](crate::Operation::overload_if) adds
/// it.
pub struct WithOverload<H, N> {
    before: H,
    rule: Contained<N>,
}

impl<H, N> WithOverload<H, N> {
    pub(crate) fn new(before: H, rule: N) -> Self {
        Self {
            before,
            rule: Contained::new(rule),
        }
    }
}

impl<H, N> Sealed for WithOverload<H, N> {}

impl<K, T, E, H, N> Hooks<K, T, E> for WithOverload<H, N>
where
    H: Hooks<K, T, E>,
    N: FnMut(&Result<T, E>) -> bool,
{
    const OBSERVES: bool = H::OBSERVES;
    const LIMITS_SOURCES: bool = H::LIMITS_SOURCES;

    fn tell(&mut self, event: Event<'_, K, T, E>) {
        self.before.tell(event);
    }

    fn source_timeout(&mut self, id: &K, panics: &mut Panics) -> Duration {
        self.before.source_timeout(id, panics)
    }

    /// Each rule may find a sign.
    fn is_overload(&mut self, answer: &Result<T, E>, panics: &mut Panics) -> bool {
        let before = self.before.is_overload(answer, panics);
        let own = panics.catch(|| self.rule.get_mut()(answer));
        before || own.unwrap_or(false)
    }

    fn is_enough(&mut self, so_far: &Aggregate<K, T, E>) -> bool {
        self.before.is_enough(so_far)
    }

    fn are_enough(&mut self, so_far: &[Option<BatchOutcome<K, T, E>>]) -> bool {
        self.before.are_enough(so_far)
    }
}

impl<H, N> fmt::Debug for WithOverload<H, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithOverload").finish_non_exhaustive()
    }
}
