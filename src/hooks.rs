//! The caller's closures: observers, stop rules and timeouts.
//!
//! Each closure is wrapped around those before it, so an operation without closures pays nothing for
//! them. All of them implement one trait, whose methods do nothing by default.

mod overload;

use std::fmt;
use std::time::Duration;

use crate::panics::{Contained, Panics};

use crate::sealed::Sealed;
use crate::{Aggregate, BatchOutcome, Event};

pub use overload::WithOverload;

/// The closures that an operation calls.
///
/// The trait is sealed. [`NoHooks`] implements it, and what the methods of an
/// [`Operation`](crate::Operation) put around it: [`WithObserver`], [`WithRule`], [`WithBatchRule`],
/// [`WithSourceTimeout`], [`WithOverload`].
pub trait Hooks<K, T, E>: Sealed {
    /// Whether there is an observer.
    #[doc(hidden)]
    const OBSERVES: bool = false;

    /// Whether sources have timeouts of their own.
    #[doc(hidden)]
    const LIMITS_SOURCES: bool = false;

    /// Tells the observers of an event.
    #[doc(hidden)]
    fn tell(&mut self, _event: Event<'_, K, T, E>) {}

    /// The timeout of a source that starts. [`Duration::MAX`] is none. A panic is noted in `panics`.
    #[doc(hidden)]
    fn source_timeout(&mut self, _id: &K, _panics: &mut Panics) -> Duration {
        Duration::MAX
    }

    /// Whether an answer is a sign that its server has too much to do. A panic is noted in `panics`.
    #[doc(hidden)]
    fn is_overload(&mut self, _answer: &Result<T, E>, _panics: &mut Panics) -> bool {
        false
    }

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
    const LIMITS_SOURCES: bool = H::LIMITS_SOURCES;

    /// Tells this observer even if one before it panics.
    fn tell(&mut self, event: Event<'_, K, T, E>) {
        let mut panics = Panics::default();
        panics.catch(|| self.before.tell(event));
        panics.catch(|| self.observer.get_mut()(event));
        panics.resume();
    }

    fn source_timeout(&mut self, id: &K, panics: &mut Panics) -> Duration {
        self.before.source_timeout(id, panics)
    }

    fn is_overload(&mut self, answer: &Result<T, E>, panics: &mut Panics) -> bool {
        self.before.is_overload(answer, panics)
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
    const LIMITS_SOURCES: bool = H::LIMITS_SOURCES;

    fn tell(&mut self, event: Event<'_, K, T, E>) {
        self.before.tell(event);
    }

    fn source_timeout(&mut self, id: &K, panics: &mut Panics) -> Duration {
        self.before.source_timeout(id, panics)
    }

    fn is_overload(&mut self, answer: &Result<T, E>, panics: &mut Panics) -> bool {
        self.before.is_overload(answer, panics)
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
    const LIMITS_SOURCES: bool = H::LIMITS_SOURCES;

    fn tell(&mut self, event: Event<'_, K, T, E>) {
        self.before.tell(event);
    }

    fn source_timeout(&mut self, id: &K, panics: &mut Panics) -> Duration {
        self.before.source_timeout(id, panics)
    }

    fn is_overload(&mut self, answer: &Result<T, E>, panics: &mut Panics) -> bool {
        self.before.is_overload(answer, panics)
    }

    fn is_enough(&mut self, so_far: &Aggregate<K, T, E>) -> bool {
        self.before.is_enough(so_far)
    }

    fn are_enough(&mut self, so_far: &[Option<BatchOutcome<K, T, E>>]) -> bool {
        self.before.are_enough(so_far) || self.rule.get_mut()(so_far)
    }
}

/// Hooks with one more rule for the timeouts of sources, as
/// [`source_timeout_by`](crate::Operation::source_timeout_by) adds it.
pub struct WithSourceTimeout<H, N> {
    before: H,
    timeout: Contained<N>,
}

impl<H, N> WithSourceTimeout<H, N> {
    pub(crate) fn new(before: H, timeout: N) -> Self {
        Self {
            before,
            timeout: Contained::new(timeout),
        }
    }
}

impl<H, N> Sealed for WithSourceTimeout<H, N> {}

impl<K, T, E, H, N> Hooks<K, T, E> for WithSourceTimeout<H, N>
where
    H: Hooks<K, T, E>,
    N: FnMut(&K) -> Duration,
{
    const OBSERVES: bool = H::OBSERVES;
    const LIMITS_SOURCES: bool = true;

    fn tell(&mut self, event: Event<'_, K, T, E>) {
        self.before.tell(event);
    }

    /// The shorter one of two timeouts counts.
    fn source_timeout(&mut self, id: &K, panics: &mut Panics) -> Duration {
        let before = self.before.source_timeout(id, panics);
        let own = panics.catch(|| self.timeout.get_mut()(id));
        before.min(own.unwrap_or(Duration::MAX))
    }

    fn is_overload(&mut self, answer: &Result<T, E>, panics: &mut Panics) -> bool {
        self.before.is_overload(answer, panics)
    }

    fn is_enough(&mut self, so_far: &Aggregate<K, T, E>) -> bool {
        self.before.is_enough(so_far)
    }

    fn are_enough(&mut self, so_far: &[Option<BatchOutcome<K, T, E>>]) -> bool {
        self.before.are_enough(so_far)
    }
}

impl<H, N> fmt::Debug for WithSourceTimeout<H, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithSourceTimeout").finish_non_exhaustive()
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
