//! A pool for each thread of what runs can use one after another: trees with their wakers, and the links
//! between slots. So a run allocates none of them.
//!
//! 1. A run takes them in its first poll. When it has ended, they return to the pool of the thread that
//!    polls it.
//! 2. They return only if nothing else refers to the tree or to one of its wakers. From then on no other
//!    thread can clone, wake or drop a waker of it. So no waker of an earlier run wakes a later one.
//! 3. The pool holds nothing of a caller: a waker has the number of a slot, and the tree has a weak
//!    reference to the waker of the last task, which is gone.
//! 4. The memory is bounded. A pool has at most 32 trees of at most 3 KB, each with links of at most
//!    4 KB, and at most 4,096 wakers of 72 bytes, in vectors that may have twice the capacity. Together that
//!    is at most 0.6 MB. After a run of five sources it is 1 KB.

use std::cell::RefCell;

use super::ready::{MOST_SPARES, Wakeups};
use super::slots::Links;
use super::sync::thread_local;

/// The most trees in a pool.
const MOST_TREES: usize = 32;

/// The most wakers in a pool.
const MOST_WAKERS: usize = MOST_SPARES;

/// The most links of one entry.
const MOST_LINKS: usize = 512;

thread_local! {
    // The macro of loom takes no const block.
    #[allow(clippy::missing_const_for_thread_local)]
    static POOL: RefCell<Pool> = RefCell::new(Pool::default());
}

#[derive(Default)]
struct Pool {
    all: Vec<Pooled>,
    /// The number of their wakers.
    wakers: usize,
}

/// What a run takes from the pool.
#[derive(Default)]
pub(super) struct Pooled {
    pub(super) wakeups: Box<Wakeups>,
    pub(super) links: Links,
}

/// Takes what the last run on this thread has put back, or makes it.
#[inline]
pub(super) fn take() -> Pooled {
    // The thread may be ending, so that its pool is gone.
    let pooled = POOL.try_with(|pool| pool.borrow_mut().take()).ok();
    pooled.flatten().unwrap_or_default()
}

/// Puts it back at the end of a run, if a later one can use it.
pub(super) fn put_back(pooled: Pooled) {
    let _ = POOL.try_with(|pool| pool.borrow_mut().add(pooled));
}

impl Pool {
    fn take(&mut self) -> Option<Pooled> {
        let pooled = self.all.pop()?;
        self.wakers -= pooled.wakeups.wakers();
        Some(pooled)
    }

    fn add(&mut self, mut pooled: Pooled) {
        let room = MOST_WAKERS - self.wakers;
        if self.all.len() < MOST_TREES && pooled.wakeups.reset(room) {
            self.wakers += pooled.wakeups.wakers();
            pooled.links.clear(MOST_LINKS);
            self.all.push(pooled);
        }
    }
}

#[cfg(test)]
mod tests;
