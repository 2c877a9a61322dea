//! A pool of trees and their wakers for each thread, so that a run of a few sources allocates neither.
//!
//! 1. A run takes a tree in its first poll. When the run is dropped, the tree returns to the pool of the
//!    thread that drops it.
//! 2. It returns only if nothing else refers to it or to one of its wakers. From then on no other
//!    thread can clone, wake or drop a waker of it. So no waker of an earlier run wakes a later one.
//! 3. The pool holds nothing of a caller: a waker has the number of a slot, and the tree has a weak
//!    reference to the waker of the last task, which is gone.
//! 4. The memory is bounded. Only trees without segments return. Such a tree takes 2 KB with its wakers
//!    if all its slots were used, and 0.5 KB after a run of five sources. So the pool of a thread takes
//!    at most 65 KB.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tree::{AWAKE, Tree};
use super::wakers::CountedWaker;
use crate::scheduler::sync::{fence, thread_local};

/// The most trees in a pool.
const MOST: usize = 32;

thread_local! {
    // The macro of loom takes no const block.
    #[allow(clippy::missing_const_for_thread_local)]
    static POOL: RefCell<Vec<Shared>> = RefCell::new(Vec::new());
}

/// What a run shares with its sources, and a later run can use.
pub(super) struct Shared {
    /// The tree. It has no segments.
    pub(super) tree: Arc<Tree>,
    /// The wakers of its slots.
    pub(super) wakers: Vec<Option<CountedWaker>>,
    /// The waker that is lent to sources whose slots have none.
    pub(super) spare: Option<CountedWaker>,
}

impl Shared {
    /// Takes a tree from the pool of this thread, or makes a new one.
    pub(super) fn acquire() -> Self {
        // The thread may be ending, so that its pool is gone.
        let shared = POOL.try_with(|pool| pool.borrow_mut().pop()).ok();
        shared.flatten().unwrap_or_else(|| Self {
            tree: Arc::new(Tree::new()),
            wakers: Vec::new(),
            spare: None,
        })
    }

    /// Returns a tree without segments to the pool of this thread, if nothing else refers to it.
    pub(super) fn release(self) {
        if !self.is_unshared() {
            return;
        }
        // Forget the wakes that were not handled.
        // Relaxed: no other thread refers to the tree. A thread that gets a waker sees this too.
        self.tree.root.store(AWAKE, Ordering::Relaxed);
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MOST {
                pool.push(self);
            }
        });
    }

    /// Whether nothing else refers to the tree or to its wakers, so that another run can use them.
    fn is_unshared(&self) -> bool {
        let mut own = 1;
        for waker in self.wakers.iter().chain([&self.spare]).flatten() {
            if waker.is_kept() {
                return false;
            }
            own += 1;
        }
        // The others are the wakers of flags, and wakers that a source kept after its answer.
        let is_unshared = Arc::strong_count(&self.tree) == own;
        // Acquire: pairs with the Release when a reference is dropped, so that the last wake comes before
        // the bits are forgotten.
        fence(Ordering::Acquire);
        is_unshared
    }
}

#[cfg(test)]
mod tests;
