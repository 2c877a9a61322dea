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
/// A spare one is lent to one slot after another until a source keeps a clone. A source that is ready
/// at its first poll, or that wakes itself, keeps none.
#[derive(Debug)]
pub(crate) struct CountedWaker {
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
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// The most wakers of a tree that no slot has.
pub(in crate::scheduler) const MOST_SPARES: usize = 4096;

/// The wakers of a tree that no slot has.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// The one that is lent.
    lent: Option<CountedWaker>,
    /// The others. No source has a clone of them.
    others: Vec<CountedWaker>,
    /// The first of the others, this many, were not lent in this run.
    untouched: usize,
}

impl Spares {
    pub(super) fn len(&self) -> usize {
        self.others.len() + usize::from(self.lent.is_some())
    }

    /// The waker to lend.
    #[inline(always)]
    pub(super) fn lend(&mut self, tree: &Arc<Tree>) -> &CountedWaker {
        // It may have been kept by a source that has answered.
        if self.lent.as_ref().is_some_and(CountedWaker::is_kept) {
            self.lent = None;
        }
        match &mut self.lent {
            Some(_) => {}
            lent => {
                *lent = self.others.pop();
                self.untouched = self.untouched.min(self.others.len());
            }
        }
        self.lent.get_or_insert_with(|| CountedWaker::new(tree))
    }

    /// Takes the waker that was lent last, if the source has kept it.
    #[inline(always)]
    pub(super) fn take_kept(&mut self) -> Option<CountedWaker> {
        match self.lent.as_ref()?.is_kept() {
            true => self.lent.take(),
            false => None,
        }
    }

    /// Adds the waker of a slot, or drops it if there are enough.
    pub(super) fn add(&mut self, waker: CountedWaker) {
        if self.others.len() < MOST_SPARES {
            self.others.push(waker);
        }
    }

    /// Drops all but so many.
    pub(super) fn truncate(&mut self, most: usize) {
        if self.len() <= most {
            return;
        }
        if most == 0 {
            self.lent = None;
        }
        self.others
            .truncate(most - usize::from(self.lent.is_some()));
        self.others.shrink_to_fit();
    }

    /// No waker was lent since.
    pub(super) fn note_untouched(&mut self) {
        self.untouched = self.others.len();
    }

    /// Whether a source has a clone of one of them.
    pub(super) fn are_kept(&self) -> bool {
        let others = self.others.iter().skip(self.untouched);
        others.chain(&self.lent).any(CountedWaker::is_kept)
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
