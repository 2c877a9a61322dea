//! What the caller wants to see of a run, and to decide in it. Nothing, unless it says so.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use super::panics::{Contained, Panics};
use crate::{Event, Reason, SourceError};

/// The caller's hooks: what `observe` and `stop_when` were given.
///
/// It is public so that the type of an operation can be written down.
pub struct Hooks<O = Unobserved, R = Unruled> {
    observer: O,
    rule: R,
}

impl Hooks {
    pub(crate) fn none() -> Self {
        Self {
            observer: Unobserved,
            rule: Unruled,
        }
    }
}

impl<O, R> Hooks<O, R> {
    /// Has `observer` told what happens, after those that are told already.
    pub(crate) fn observe<T, E, N>(self, observer: N) -> Hooks<Observed<O, N, T, E>, R> {
        Hooks {
            observer: Observed {
                before: self.observer,
                observer: Contained::new(observer),
                values: PhantomData,
            },
            rule: self.rule,
        }
    }

    /// Has `rule` asked too.
    pub(crate) fn stop_when<N>(self, rule: N) -> Hooks<O, Ruled<R, N>> {
        Hooks {
            observer: self.observer,
            rule: Ruled {
                before: self.rule,
                rule: Contained::new(rule),
            },
        }
    }
}

impl<O, R> fmt::Debug for Hooks<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// Is told which sources are in flight.
pub trait Follow<K> {
    /// A source has been started.
    fn started(&mut self, id: &K);

    /// A source was stopped before it answered.
    fn unfinished(&mut self, id: &K, reason: Reason);
}

/// Is told what sources come to as well.
pub trait Observe<K, T, E>: Follow<K> {
    /// A source has an outcome.
    fn finished(&mut self, id: &K, result: Result<&T, &SourceError<E>>);
}

/// Decides when a run has come to enough.
pub trait Decide<A: ?Sized> {
    /// Whether what the run has come to so far is enough.
    fn is_enough(&mut self, so_far: &A) -> bool;
}

impl<K, O: Follow<K>, R> Follow<K> for Hooks<O, R> {
    fn started(&mut self, id: &K) {
        self.observer.started(id);
    }

    fn unfinished(&mut self, id: &K, reason: Reason) {
        self.observer.unfinished(id, reason);
    }
}

impl<K, T, E, O: Observe<K, T, E>, R> Observe<K, T, E> for Hooks<O, R> {
    fn finished(&mut self, id: &K, result: Result<&T, &SourceError<E>>) {
        self.observer.finished(id, result);
    }
}

impl<A: ?Sized, O, R: Decide<A>> Decide<A> for Hooks<O, R> {
    fn is_enough(&mut self, so_far: &A) -> bool {
        self.rule.is_enough(so_far)
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl<K> Follow<K> for Unobserved {
    fn started(&mut self, _: &K) {}

    fn unfinished(&mut self, _: &K, _: Reason) {}
}

impl<K, T, E> Observe<K, T, E> for Unobserved {
    fn finished(&mut self, _: &K, _: Result<&T, &SourceError<E>>) {}
}

/// A closure of the caller's watches.
pub struct Observed<O, N, T, E> {
    before: O,
    observer: Contained<N>,
    values: PhantomData<fn(T, E)>,
}

impl<K, T, E, O, N> Follow<K> for Observed<O, N, T, E>
where
    O: Follow<K>,
    N: FnMut(Event<'_, K, T, E>),
{
    fn started(&mut self, id: &K) {
        tell_both(
            || self.before.started(id),
            || self.observer.get_mut()(Event::Started { id }),
        );
    }

    fn unfinished(&mut self, id: &K, reason: Reason) {
        tell_both(
            || self.before.unfinished(id, reason),
            || self.observer.get_mut()(Event::Unfinished { id, reason }),
        );
    }
}

impl<K, T, E, O, N> Observe<K, T, E> for Observed<O, N, T, E>
where
    O: Observe<K, T, E>,
    N: FnMut(Event<'_, K, T, E>),
{
    fn finished(&mut self, id: &K, result: Result<&T, &SourceError<E>>) {
        tell_both(
            || self.before.finished(id, result),
            || self.observer.get_mut()(Event::Finished { id, result }),
        );
    }
}

/// Tells two observers, the second even if the first panics.
fn tell_both(first: impl FnOnce(), second: impl FnOnce()) {
    let mut panics = Panics::default();
    panics.catch(first);
    panics.catch(second);
    panics.resume();
}

impl<O, N, T, E> fmt::Debug for Observed<O, N, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

/// One observer for all the runs of a batch. The mutex is uncontended: the runs are polled one after
/// another.
pub struct Shared<O>(Arc<Mutex<O>>);

impl<O> Shared<O> {
    pub(crate) fn new(observer: O) -> Self {
        Self(Arc::new(Mutex::new(observer)))
    }

    fn with(&self, tell: impl FnOnce(&mut O)) {
        // An observer that has panicked may have something to say the next time.
        tell(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<O, R> Hooks<O, R> {
    /// Makes the observer one that several runs can tell.
    pub(crate) fn share(self) -> Hooks<Shared<O>, R> {
        Hooks {
            observer: Shared::new(self.observer),
            rule: self.rule,
        }
    }
}

impl<O: Clone, R: Clone> Clone for Hooks<O, R> {
    fn clone(&self) -> Self {
        Self {
            observer: self.observer.clone(),
            rule: self.rule.clone(),
        }
    }
}

impl<O> Clone for Shared<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, O: Follow<K>> Follow<K> for Shared<O> {
    fn started(&mut self, id: &K) {
        self.with(|observer| observer.started(id));
    }

    fn unfinished(&mut self, id: &K, reason: Reason) {
        self.with(|observer| observer.unfinished(id, reason));
    }
}

impl<K, T, E, O: Observe<K, T, E>> Observe<K, T, E> for Shared<O> {
    fn finished(&mut self, id: &K, result: Result<&T, &SourceError<E>>) {
        self.with(|observer| observer.finished(id, result));
    }
}

impl<O> fmt::Debug for Shared<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Nothing but the sources decides.
#[derive(Debug, Clone, Copy)]
pub struct Unruled;

impl<A: ?Sized> Decide<A> for Unruled {
    fn is_enough(&mut self, _: &A) -> bool {
        false
    }
}

/// A closure of the caller's decides.
pub struct Ruled<R, N> {
    before: R,
    rule: Contained<N>,
}

impl<A: ?Sized, R, N> Decide<A> for Ruled<R, N>
where
    R: Decide<A>,
    N: FnMut(&A) -> bool,
{
    fn is_enough(&mut self, so_far: &A) -> bool {
        self.before.is_enough(so_far) || self.rule.get_mut()(so_far)
    }
}

impl<R, N> fmt::Debug for Ruled<R, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ruled").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
