//! What threads share state by: that of the standard library, that of loom, which tries every order
//! of what they do, or that of shuttle, which tries orders at random where there are too many.

#[cfg(not(all(test, any(futures_aggregate_loom, futures_aggregate_shuttle))))]
pub(super) use std::sync::{
    Mutex, MutexGuard, OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
};

#[cfg(all(test, futures_aggregate_loom))]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
};

#[cfg(all(test, futures_aggregate_shuttle))]
pub(super) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
};

#[cfg(all(test, any(futures_aggregate_loom, futures_aggregate_shuttle)))]
pub(super) use once_lock::OnceLock;

#[cfg(all(test, any(futures_aggregate_loom, futures_aggregate_shuttle)))]
mod once_lock {
    use super::AtomicBool;
    use std::sync::atomic::Ordering;

    /// That of the standard library, with an atomic before and after it, where another thread can
    /// come between.
    #[derive(Debug)]
    pub(in crate::scheduler) struct OnceLock<T> {
        cell: std::sync::OnceLock<T>,
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
            self.is_set
                .load(Ordering::Acquire)
                .then(|| self.cell.get())?
        }

        pub(in crate::scheduler) fn set(&self, value: T) -> Result<(), T> {
            self.is_set.load(Ordering::Acquire);
            self.cell.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }
    }
}

#[cfg(not(all(test, futures_aggregate_loom)))]
pub(super) use unseen::Users;

#[cfg(all(test, futures_aggregate_loom))]
pub(super) use seen::Users;

/// Outside loom the count of an `Arc` does all of this.
#[cfg(not(all(test, futures_aggregate_loom)))]
mod unseen {
    /// The clones of a waker.
    #[derive(Debug)]
    pub(in crate::scheduler) struct Users;

    impl Users {
        pub(in crate::scheduler) fn new() -> Self {
            Self
        }

        /// A clone is used.
        #[inline(always)]
        pub(in crate::scheduler) fn one(&self) {}

        /// A clone is dropped.
        #[inline(always)]
        pub(in crate::scheduler) fn release(&self) {}

        /// The clones are counted.
        #[inline(always)]
        pub(in crate::scheduler) fn count(&self) {}

        /// There is no clone that is used.
        #[inline(always)]
        pub(in crate::scheduler) fn none(&self) {}
    }
}

/// The wakers are in an `Arc` of the standard library, whose count loom does not see. This stands
/// beside it: a drop of a clone releases, and a look at the count reads without an ordering of its own.
/// What a clone did before it was dropped must be seen by whoever sees the drop.
#[cfg(all(test, futures_aggregate_loom))]
mod seen {
    use super::AtomicUsize;
    use std::sync::atomic::Ordering::{Relaxed, Release};

    #[derive(Debug)]
    pub(in crate::scheduler) struct Users {
        used: AtomicUsize,
        drops: AtomicUsize,
        /// The drops that were counted.
        counted: AtomicUsize,
    }

    impl Users {
        pub(in crate::scheduler) fn new() -> Self {
            Self {
                used: AtomicUsize::new(0),
                drops: AtomicUsize::new(0),
                counted: AtomicUsize::new(0),
            }
        }

        pub(in crate::scheduler) fn one(&self) {
            self.used.store(1, Relaxed);
        }

        pub(in crate::scheduler) fn release(&self) {
            self.drops.fetch_add(1, Release);
        }

        pub(in crate::scheduler) fn count(&self) {
            self.counted.store(self.drops.load(Relaxed), Relaxed);
        }

        pub(in crate::scheduler) fn none(&self) {
            if self.counted.load(Relaxed) > 0 {
                assert_eq!(
                    self.used.load(Relaxed),
                    1,
                    "a drop was seen, and not the use"
                );
            }
        }
    }
}
