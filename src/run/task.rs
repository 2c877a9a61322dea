//! The task that waits for a run, and how it is told to come back.
//!
//! A cell of its own rather than `AtomicWaker`, which clones and drops wakers while it holds its
//! cell: a `clone` that panics there leaves the cell locked for ever, and every wake after it is
//! lost. Here no foreign code runs under the lock, so that none can wedge it or poison it. The run
//! holds the waker, and the cell only knows where: a task that waits again is not registered again,
//! and a run that is gone leaves no waker behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

/// Where the waker of the waiting task is.
#[derive(Debug, Default)]
pub(super) struct Task {
    waker: Mutex<Weak<Waker>>,
}

impl Task {
    /// Makes `waker` the one to wake, as long as its owner keeps it.
    pub(super) fn register(&self, waker: &Arc<Waker>) {
        let waker = Arc::downgrade(waker);
        *self.lock() = waker;
    }

    pub(super) fn wake(&self) {
        let waker = self.lock().upgrade();
        if let Some(waker) = waker {
            waker.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
