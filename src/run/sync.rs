//! What threads share state by: that of the standard library, that of loom, which tries every order
//! of what they do, or that of shuttle, which tries orders at random where there are too many.

#[cfg(not(any(
    all(test, futures_aggregate_loom),
    all(test, futures_aggregate_shuttle)
)))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
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
