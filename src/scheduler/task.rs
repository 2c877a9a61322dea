//! The waker of the task that polls a run.
//!
//! `AtomicWaker` clones and drops wakers while it is locked. If such a clone panics, it stays locked
//! and loses every later wake. Here no code of the caller runs under the lock. The run owns the waker
//! and this module has a weak reference to it, so a run that is dropped leaves no waker behind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::task::Waker;

use super::sync::{AtomicBool, Mutex, MutexGuard, OnceLock};

/// A weak reference to the waker of the task that waits.
#[derive(Debug, Default)]
pub(super) struct Task {
    /// The first waker, which needs no lock.
    first: OnceLock<Weak<Waker>>,
    /// Whether `last` is set.
    is_moved: AtomicBool,
    /// The last waker, if there was more than one: the run has moved to another task, or an earlier run had the
    /// tree.
    last: Mutex<Weak<Waker>>,
}

impl Task {
    /// Registers `waker` in place of the one before.
    pub(super) fn register(&self, waker: &Arc<Waker>) {
        if let Err(waker) = self.first.set(Arc::downgrade(waker)) {
            *self.last() = waker;
            // Release: pairs with the Acquire in `wake`, so that `last` is seen.
            self.is_moved.store(true, Ordering::Release);
        }
    }

    /// Wakes the task by the registered waker, if the run still has it.
    pub(super) fn wake(&self) {
        // Acquire: pairs with the Release in `register`, so that `last` is seen.
        let waker = if self.is_moved.load(Ordering::Acquire) {
            self.last().upgrade()
        } else {
            self.first.get().and_then(Weak::upgrade)
        };
        if let Some(waker) = waker {
            waker.wake_by_ref();
        }
    }

    fn last(&self) -> MutexGuard<'_, Weak<Waker>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
