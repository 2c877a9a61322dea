//! The caller's closures: observers and stop rules.
//!
//! Each closure is wrapped around those before it, so an operation without closures pays nothing for
//! them. All of them implement one trait, whose methods do nothing by default.

use std::fmt;

use crate::panics::{Contained, Panics};

use crate::sealed::Sealed;
use crate::{Aggregate, BatchOutcome, Event};

/// The closures that an operation calls.
///
/// The trait is sealed. [`NoHooks`] implements it, and what the methods of an
/// [`Operation`](crate::Operation) put around it: [`WithObserver`], [`WithRule`], [`WithBatchRule`].
pub trait Hooks<K, T, E>: Sealed {
    /// Whether there is an observer.
    #[doc(hidden)]
    const OBSERVES: bool = false;

    /// Tells the observers of an event.
    #[doc(hidden)]
    fn tell(&mut self, _event: Event<'_, K, T, E>) {}

    /// Whether a stop rule is satisfied by the outcomes so far.
    #[doc(hidden)]
    fn is_enough(&mut self, _so_far: &Aggregate<K, T, E>) -> bool {
        false
    }

    /// Whether a stop rule is satisfied by the batches that are over. The others are `None`.
    #[doc(hidden)]
    fn are_enough(&mut self, _so_far: &[Option<BatchOutcome<K, T, E>>]) -> bool {
        false
    }
}

/// No closures.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Sealed for NoHooks {}

impl<K, T, E> Hooks<K, T, E> for NoHooks {}

/// Hooks with one more observer, as [`observe`](crate::Operation::observe) adds it.
pub struct WithObserver<H, N> {
    before: H,
    observer: Contained<N>,
}

impl<H, N> WithObserver<H, N> {
    pub(crate) fn new(before: H, observer: N) -> Self {
        Self {
            before,
            observer: Contained::new(observer),
        }
    }
}

impl<H, N> Sealed for WithObserver<H, N> {}

impl<K, T, E, H, N> Hooks<K, T, E> for WithObserver<H, N>
where
    H: Hooks<K, T, E>,
    N: FnMut(Event<'_, K, T, E>),
{
    const OBSERVES: bool = true;

    /// Tells this observer even if one before it panics.
    fn tell(&mut self, event: Event<'_, K, T, E>) {
        let mut panics = Panics::default();
        panics.catch(|| self.before.tell(event));
        panics.catch(|| self.observer.get_mut()(event));
        panics.resume();
    }

    fn is_enough(&mut self, so_far: &Aggregate<K, T, E>) -> bool {
        self.before.is_enough(so_far)
    }

    fn are_enough(&mut self, so_far: &[Option<BatchOutcome<K, T, E>>]) -> bool {
        self.before.are_enough(so_far)
    }
}

/// Hooks with one more stop rule, as [`stop_when`](crate::FetchAndAggregate::stop_when) adds it.
pub struct WithRule<H, N> {
    before: H,
    rule: Contained<N>,
}

impl<H, N> WithRule<H, N> {
    pub(crate) fn new(before: H, rule: N) -> Self {
        Self {
            before,
            rule: Contained::new(rule),
        }
    }
}

impl<H, N> Sealed for WithRule<H, N> {}

impl<K, T, E, H, N> Hooks<K, T, E> for WithRule<H, N>
where
    H: Hooks<K, T, E>,
    N: FnMut(&Aggregate<K, T, E>) -> bool,
{
    const OBSERVES: bool = H::OBSERVES;

    fn tell(&mut self, event: Event<'_, K, T, E>) {
        self.before.tell(event);
    }

    fn is_enough(&mut self, so_far: &Aggregate<K, T, E>) -> bool {
        self.before.is_enough(so_far) || self.rule.get_mut()(so_far)
    }

    fn are_enough(&mut self, so_far: &[Option<BatchOutcome<K, T, E>>]) -> bool {
        self.before.are_enough(so_far)
    }
}

/// Hooks with one more stop rule for batches, as [`stop_when`](crate::ProcessBatch::stop_when) adds
/// it.
pub struct WithBatchRule<H, N> {
    before: H,
    rule: Contained<N>,
}

impl<H, N> WithBatchRule<H, N> {
    pub(crate) fn new(before: H, rule: N) -> Self {
        Self {
            before,
            rule: Contained::new(rule),
        }
    }
}

impl<H, N> Sealed for WithBatchRule<H, N> {}

impl<K, T, E, H, N> Hooks<K, T, E> for WithBatchRule<H, N>
where
    H: Hooks<K, T, E>,
    N: FnMut(&[Option<BatchOutcome<K, T, E>>]) -> bool,
{
    const OBSERVES: bool = H::OBSERVES;

    fn tell(&mut self, event: Event<'_, K, T, E>) {
        self.before.tell(event);
    }

    fn is_enough(&mut self, so_far: &Aggregate<K, T, E>) -> bool {
        self.before.is_enough(so_far)
    }

    fn are_enough(&mut self, so_far: &[Option<BatchOutcome<K, T, E>>]) -> bool {
        self.before.are_enough(so_far) || self.rule.get_mut()(so_far)
    }
}

impl<H, N> fmt::Debug for WithObserver<H, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithObserver").finish_non_exhaustive()
    }
}

impl<H, N> fmt::Debug for WithRule<H, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithRule").finish_non_exhaustive()
    }
}

impl<H, N> fmt::Debug for WithBatchRule<H, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithBatchRule").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
