//! The wakers of slots and flags. They hold the tree, not the sources, so a waker that outlives its
//! source keeps no source alive.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};

use super::Flag;
use super::tree::Tree;
use crate::scheduler::sync::{AtomicUsize, Clones, fence};

/// The waker of a slot, which tells whether a source has a clone of it.
///
/// The spare one is lent to one slot after another until a source keeps a clone. A source that is ready
/// at its first poll, or that wakes itself, keeps none.
#[derive(Debug)]
pub(super) struct CountedWaker {
    /// What `waker` wakes, to change its slot.
    slot: Arc<SlotWaker>,
    /// The waker that sources are polled with.
    waker: Waker,
}

impl CountedWaker {
    pub(super) fn new(tree: &Arc<Tree>) -> Self {
        let slot = Arc::new(SlotWaker {
            tree: Arc::clone(tree),
            slot: AtomicUsize::new(0),
            clones: Clones::new(),
        });
        Self {
            waker: Waker::from(Arc::clone(&slot)),
            slot,
        }
    }

    /// The waker, for one poll of a slot. No source may have a clone of it.
    #[inline]
    pub(super) fn lend(&self, slot: usize) -> &Waker {
        self.slot.clones.assert_all_uses_seen();
        // Relaxed: no other thread has the waker. The source that passes a clone of it to another
        // thread also passes on what was written before.
        self.slot.slot.store(slot, Ordering::Relaxed);
        &self.waker
    }

    /// Whether a source has kept a clone of the waker.
    #[inline]
    pub(super) fn is_kept(&self) -> bool {
        self.slot.clones.note_count();
        // `slot` and `waker` are two references.
        let kept = Arc::strong_count(&self.slot) > 2;
        // Acquire: pairs with the Release when a clone is dropped, so that the clone has read its
        // slot before `lend` changes it.
        fence(Ordering::Acquire);
        kept
    }

    /// The waker, for a poll of the slot that it was lent to last.
    #[inline]
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Keeps the waker for the slot that it was lent to last.
    pub(super) fn into_waker(self) -> Waker {
        self.waker
    }
}

/// Wakes one slot.
#[derive(Debug)]
struct SlotWaker {
    /// The tree that has the bit of the slot.
    tree: Arc<Tree>,
    /// The slot. Changes only while no source has a clone of the waker.
    slot: AtomicUsize,
    /// Checks this under loom.
    clones: Clones,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
        self.clones.note_drop();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.clones.note_use();
        // Relaxed: the slot was stored before this clone was made.
        self.tree.wake(self.slot.load(Ordering::Relaxed));
    }
}

/// Makes a waker that raises a flag.
pub(super) fn flag_waker(tree: &Arc<Tree>, flag: Flag) -> Waker {
    Waker::from(Arc::new(FlagWaker {
        tree: Arc::clone(tree),
        flag,
    }))
}

/// Raises one flag.
#[derive(Debug)]
struct FlagWaker {
    /// The tree that has the bit of the flag.
    tree: Arc<Tree>,
    /// The flag that it raises.
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
