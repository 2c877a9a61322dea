//! The synchronization primitives of the scheduler, apart so that tests can replace them: by those of
//! loom, which tries every interleaving of the threads, or by those of shuttle, which tries random
//! ones where there are too many.

#[cfg(not(all(test, any(futures_aggregate_loom, futures_aggregate_shuttle))))]
pub(super) use std::{
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
    },
    thread_local,
};

#[cfg(all(test, futures_aggregate_loom))]
pub(super) use loom::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
    },
    thread_local,
};

#[cfg(all(test, futures_aggregate_shuttle))]
pub(super) use shuttle::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
    },
    thread_local,
};

#[cfg(all(test, any(futures_aggregate_loom, futures_aggregate_shuttle)))]
pub(super) use once_lock::OnceLock;

#[cfg(all(test, any(futures_aggregate_loom, futures_aggregate_shuttle)))]
mod once_lock {
    use super::AtomicBool;
    use std::sync::atomic::Ordering;

    /// The one of the standard library with an atomic flag, at which loom and shuttle can switch
    /// threads.
    #[derive(Debug)]
    pub(in crate::scheduler) struct OnceLock<T> {
        /// The value.
        cell: std::sync::OnceLock<T>,
        /// Set after the value.
        is_set: AtomicBool,
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self {
                cell: std::sync::OnceLock::new(),
                is_set: AtomicBool::new(false),
            }
        }
    }

    impl<T> OnceLock<T> {
        pub(in crate::scheduler) fn get(&self) -> Option<&T> {
            // Acquire: pairs with the Release in `set`, as in the standard library.
            self.is_set
                .load(Ordering::Acquire)
                .then(|| self.cell.get())?
        }

        pub(in crate::scheduler) fn set(&self, value: T) -> Result<(), T> {
            // Acquire: as in `get`. Only a point at which to switch threads.
            self.is_set.load(Ordering::Acquire);
            self.cell.set(value)?;
            // Release: pairs with the Acquire in `get`.
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }
    }
}

#[cfg(not(all(test, futures_aggregate_loom)))]
pub(super) use unchecked::Clones;

#[cfg(all(test, futures_aggregate_loom))]
pub(super) use checked::Clones;

/// Without loom there is nothing to check.
#[cfg(not(all(test, futures_aggregate_loom)))]
mod unchecked {
    /// The clones of a waker.
    #[derive(Debug)]
    pub(in crate::scheduler) struct Clones;

    impl Clones {
        pub(in crate::scheduler) fn new() -> Self {
            Self
        }

        /// A clone wakes its slot.
        #[inline(always)]
        pub(in crate::scheduler) fn note_use(&self) {}

        /// A clone is dropped.
        #[inline(always)]
        pub(in crate::scheduler) fn note_drop(&self) {}

        /// The references to the waker are counted.
        #[inline(always)]
        pub(in crate::scheduler) fn note_count(&self) {}

        /// Checks that the last count has made every use of a dropped clone visible.
        #[inline(always)]
        pub(in crate::scheduler) fn assert_all_uses_seen(&self) {}
    }
}

/// Wakers are in an `Arc` of the standard library, whose count is invisible to loom. This type has
/// the same orderings in atomics of loom: a drop is a Release, and a count is Relaxed. A thread that
/// sees the drop of a clone must also see its use.
#[cfg(all(test, futures_aggregate_loom))]
mod checked {
    use super::AtomicUsize;
    use std::sync::atomic::Ordering::{Relaxed, Release};

    #[derive(Debug)]
    pub(in crate::scheduler) struct Clones {
        /// 1 after a clone was used.
        used: AtomicUsize,
        /// The clones that were dropped.
        drops: AtomicUsize,
        /// The drops that the last count has seen.
        counted: AtomicUsize,
    }

    impl Clones {
        pub(in crate::scheduler) fn new() -> Self {
            Self {
                used: AtomicUsize::new(0),
                drops: AtomicUsize::new(0),
                counted: AtomicUsize::new(0),
            }
        }

        pub(in crate::scheduler) fn note_use(&self) {
            // Relaxed: the drop that follows publishes it.
            self.used.store(1, Relaxed);
        }

        pub(in crate::scheduler) fn note_drop(&self) {
            // Release: as in the drop of an `Arc`.
            self.drops.fetch_add(1, Release);
        }

        pub(in crate::scheduler) fn note_count(&self) {
            // Relaxed: as in `Arc::strong_count`. The fence after it acquires. Not a load, which may miss
            // a drop that the count has seen.
            self.counted
                .store(self.drops.fetch_add(0, Relaxed), Relaxed);
        }

        pub(in crate::scheduler) fn assert_all_uses_seen(&self) {
            // Relaxed: the fence after the count must be enough.
            if self.counted.load(Relaxed) > 0 {
                assert_eq!(
                    self.used.load(Relaxed),
                    1,
                    "a drop of a clone was seen, and its use was not"
                );
            }
        }
    }
}
