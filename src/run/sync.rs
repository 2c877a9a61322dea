//! What threads share state by: that of the standard library, or that of loom, which tries every
//! order of what they do.

#[cfg(not(all(test, futures_aggregate_loom)))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
};

#[cfg(all(test, futures_aggregate_loom))]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
};
