//! The task that waits for a run, and how it is told to come back.
//!
//! A cell of its own rather than `AtomicWaker`, which clones and drops wakers while it holds its
//! cell: a `clone` that panics there leaves the cell locked for ever, and every wake after it is
//! lost. Here no foreign code runs under the lock, so that none can wedge it or poison it. The run
//! holds the waker, and the cell only knows where: a task that waits again is not registered again,
//! and a run that is gone leaves no waker behind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::task::Waker;

use super::sync::{AtomicBool, Mutex, MutexGuard, OnceLock};

/// Where the waker of the waiting task is.
#[derive(Debug, Default)]
pub(super) struct Task {
    /// That of the first task, which few runs ever leave, and which needs no lock.
    first: OnceLock<Weak<Waker>>,
    is_moved: AtomicBool,
    /// That of the last task, after the run was moved to another.
    last: Mutex<Weak<Waker>>,
}

impl Task {
    /// Makes `waker` the one to wake, as long as its owner keeps it.
    pub(super) fn register(&self, waker: &Arc<Waker>) {
        if let Err(waker) = self.first.set(Arc::downgrade(waker)) {
            *self.last() = waker;
            self.is_moved.store(true, Ordering::Release);
        }
    }

    pub(super) fn wake(&self) {
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
