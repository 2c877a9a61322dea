//! The wakers that are handed out. Each owns a place in the tree, never a source.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};

use super::Flag;
use super::tree::Tree;
use crate::scheduler::sync::{AtomicUsize, Users, fence};

/// A waker that goes from slot to slot, until a source keeps it. Sources that have their answer
/// when they are asked, or that wake themselves, never do.
#[derive(Debug)]
pub(super) struct Spare {
    slot: Arc<SlotWaker>,
    waker: Waker,
}

impl Spare {
    pub(super) fn new(tree: &Arc<Tree>) -> Self {
        let slot = Arc::new(SlotWaker {
            tree: Arc::clone(tree),
            slot: AtomicUsize::new(0),
            users: Users::new(),
        });
        Self {
            waker: Waker::from(Arc::clone(&slot)),
            slot,
        }
    }

    /// The waker, for a slot.
    #[inline]
    pub(super) fn lend(&self, slot: usize) -> &Waker {
        self.slot.users.none();
        self.slot.slot.store(slot, Ordering::Relaxed);
        &self.waker
    }

    /// Whether anybody has kept the waker, beside the two handles here.
    #[inline]
    pub(super) fn is_kept(&self) -> bool {
        self.slot.users.count();
        let kept = Arc::strong_count(&self.slot) > 2;
        // Acquire: pairs with the Release by which others have dropped their clones, so that what
        // they did with them was done before.
        fence(Ordering::Acquire);
        kept
    }

    pub(super) fn into_waker(self) -> Waker {
        self.waker
    }
}

/// Wakes one slot.
#[derive(Debug)]
struct SlotWaker {
    tree: Arc<Tree>,
    /// Changes only while the run alone has the waker.
    slot: AtomicUsize,
    /// Lets loom see who uses the slot.
    users: Users,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
        self.users.release();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.users.one();
        self.tree.wake(self.slot.load(Ordering::Relaxed));
    }
}

pub(super) fn flag_waker(tree: &Arc<Tree>, flag: Flag) -> Waker {
    Waker::from(Arc::new(FlagWaker {
        tree: Arc::clone(tree),
        flag,
    }))
}

/// Raises one flag.
#[derive(Debug)]
struct FlagWaker {
    tree: Arc<Tree>,
    flag: Flag,
}

impl Wake for FlagWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.tree.raise(self.flag);
    }
}
