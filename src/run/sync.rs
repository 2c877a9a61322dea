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
    pub(in crate::run) struct OnceLock<T> {
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
        pub(in crate::run) fn get(&self) -> Option<&T> {
            self.is_set
                .load(Ordering::Acquire)
                .then(|| self.cell.get())?
        }

        pub(in crate::run) fn set(&self, value: T) -> Result<(), T> {
            self.is_set.load(Ordering::Acquire);
            self.cell.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }
    }
}
