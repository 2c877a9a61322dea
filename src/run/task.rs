//! The task that polls a run, and how it is told to come back.
//!
//! A cell of its own rather than `AtomicWaker`, which clones and drops wakers while it holds its
//! cell: a `clone` that panics there leaves the cell locked for ever, and every wake after it is
//! lost. Here no foreign code runs under the lock, so that none can wedge it or poison it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The waker of the task that polled last, until it is woken.
#[derive(Debug, Default)]
pub(super) struct Task {
    waker: Mutex<Option<Waker>>,
}

impl Task {
    /// Makes `waker` the one to wake. It is cloned even if it is known, which costs less than to
    /// look first, as each wake has taken the one before.
    pub(super) fn register(&self, waker: &Waker) {
        let waker = waker.clone();
        let previous = self.lock().replace(waker);
        drop(previous);
    }

    /// Wakes the task, which registers again when it polls.
    pub(super) fn wake(&self) {
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets go of the waker.
    pub(super) fn clear(&self) {
        let waker = self.lock().take();
        drop(waker);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
