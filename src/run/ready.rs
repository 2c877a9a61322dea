//! Who was woken: one bit per slot, in a tree that finds the set ones without looking at the rest.
//!
//! 1. The first slots have their bits in the root word, so that a small run is one word. The bit
//!    of any other slot is one of 64 in a leaf word: the first bit set in an empty word sets the
//!    word's own bit one level up. The first bit set in the root word wakes the task. Whoever finds
//!    a word not empty is done: the one who set the first bit is on the way up.
//! 2. Whoever takes bits goes the other way, from the root down, and takes whole words. A bit set
//!    behind it finds an empty word and climbs again; one set before it is found.
//! 3. The tree grows by segments of twice the size, each under a root bit of its own, so that no
//!    word ever moves and no waker has to wait for the tree to grow.
//! 4. While the task is awake, a bit of the root word that belongs to nobody keeps it from being
//!    empty: the task is not woken for what it will see before it waits. Once the run has ended its
//!    task's waker is gone, and there is nobody to wake.
//! 5. If one slot is woken while the task waits, and no other before the task looks, no bit is set:
//!    the root word has the slot's number. Whoever comes second sets the bits for both.
//! 6. A slot gets a waker of its own when its source keeps the one it is polled with. Until then
//!    one spare waker serves them all.

mod tree;
mod wakers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

pub(super) use tree::MOST_SLOTS;
use tree::{AWAKE, DIRECT, DIRECT_SLOTS, FANOUT, SEGMENTS, SINGLE, Tree, single};
use wakers::Spare;

/// What can be woken besides the slots.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    /// The future that cancels the run.
    Cancel = 58,
    /// The future that expires the run.
    Expire,
    /// The run's alarm.
    Alarm,
    /// The end of the receivers.
    Receiver,
    /// A send that waits for room in the channel.
    Room,
}

impl Flag {
    fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

/// The poller's side of the tree.
#[derive(Debug)]
pub struct Ready {
    tree: Arc<Tree>,
    /// How many slots the tree has bits for.
    slots: usize,
    /// The waker of the task that waited last.
    task: Option<Arc<Waker>>,
    spare: Option<Spare>,
    /// Bits taken from the root word that no sweep and nobody else has looked at.
    woken: u64,
    /// The slots that the sweep is at: one bit each, from this one on.
    leaf: usize,
    leaf_bits: u64,
    /// Bits of the root word that the sweep has still to look at.
    unswept: u64,
    /// The segment that the sweep is in.
    segment: usize,
    /// From the segment's top word down to where the sweep is: each word taken on the way, but for
    /// the leaf, with its bits that are still to be looked at, of which there are some.
    path: Vec<(usize, u64)>,
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self {
            tree: Arc::new(Tree::new()),
            slots: DIRECT,
            task: None,
            spare: None,
            woken: 0,
            leaf: 0,
            leaf_bits: 0,
            unswept: 0,
            segment: 0,
            path: Vec::new(),
        }
    }

    /// Opens a poll: the task is awake.
    #[inline]
    pub(crate) fn begin_poll(&mut self) {
        self.take_woken();
    }

    /// Closes a poll that left the run pending: the task waits, unless it is to come again, or
    /// something is woken meanwhile. Then it is woken at once.
    pub(crate) fn end_poll(&mut self, waker: &Waker, again: bool) {
        if again || !self.wait(waker) {
            waker.wake_by_ref();
        }
    }

    /// Has the task of `waker` woken by the next bit. Returns whether there was none yet.
    #[inline]
    fn wait(&mut self, waker: &Waker) -> bool {
        let is_registered = |task: &Arc<Waker>| task.will_wake(waker);
        if !self.task.as_ref().is_some_and(is_registered) {
            let task = Arc::new(waker.clone());
            self.tree.task.register(&task);
            self.task = Some(task);
        }
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.tree
            .root
            .compare_exchange(AWAKE, 0, success, failure)
            .is_ok()
    }

    /// Ends the run: its task's waker is let go, so that nobody can wake it any more.
    pub(crate) fn close(&mut self) {
        self.task = None;
    }

    /// Whether anything was woken that no poll has seen.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        self.take_woken();
        self.woken != 0 || !self.is_swept()
    }

    /// Takes what the root word has.
    #[inline]
    fn take_woken(&mut self) {
        if self.tree.root.load(Ordering::Relaxed) == AWAKE {
            return;
        }
        let mut root = self.tree.root.swap(AWAKE, Ordering::AcqRel) & !AWAKE;
        if root & SINGLE != 0 {
            // The task has waited, and so there is no sweep under way: this slot is the next.
            (self.leaf, self.leaf_bits) = (single(root), 1);
            root &= !SINGLE & !DIRECT_SLOTS;
        }
        self.woken |= root;
    }

    /// Starts a sweep over the slots woken so far, unless one is under way.
    #[inline]
    pub(crate) fn start_sweep(&mut self) {
        if self.is_swept() {
            self.take_woken();
            (self.leaf, self.leaf_bits) = (0, self.woken & DIRECT_SLOTS);
            self.unswept = self.woken & SEGMENTS;
            self.woken &= !DIRECT_SLOTS & !SEGMENTS;
        }
    }

    /// Whether the sweep has come to its end.
    #[inline]
    pub(crate) fn is_swept(&self) -> bool {
        self.leaf_bits == 0 && self.unswept == 0 && self.path.is_empty()
    }

    /// The next slot of the sweep. A sweep names each slot once at the most, whatever is woken
    /// meanwhile, because it takes each word once.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<usize> {
        while self.leaf_bits == 0 {
            if self.is_swept() {
                return None;
            }
            self.descend();
        }
        Some(self.leaf + take_lowest(&mut self.leaf_bits))
    }

    /// Takes the next word on the way to the next leaf.
    fn descend(&mut self) {
        let word = if let Some((word, bits)) = self.path.last_mut() {
            let below = *word * FANOUT + take_lowest(bits) + 1;
            if *bits == 0 {
                self.path.pop();
            }
            below
        } else {
            self.segment = take_lowest(&mut self.unswept) - DIRECT;
            0
        };
        let Some(segment) = self.tree.segment(self.segment) else {
            return;
        };
        let bits = segment.take(word);
        match segment.first_slot(word) {
            Some(slot) => (self.leaf, self.leaf_bits) = (slot, bits),
            None => self.path.push((word, bits)),
        }
    }

    /// Takes the bit of one slot, ahead of the sweep. Returns whether it was set.
    pub(crate) fn take(&mut self, slot: usize) -> bool {
        let mut woken = false;
        if let Some(bit @ ..64) = slot.checked_sub(self.leaf) {
            woken |= self.leaf_bits & 1 << bit != 0;
            self.leaf_bits &= !(1 << bit);
        }
        if slot < DIRECT {
            self.take_woken();
            woken |= self.woken & 1 << slot != 0;
            self.woken &= !(1 << slot);
        } else {
            woken |= self.tree.take(slot);
        }
        woken
    }

    /// Takes a flag. Returns whether it was set.
    #[inline]
    pub(crate) fn take_flag(&mut self, flag: Flag) -> bool {
        self.take_woken();
        let woken = self.woken & flag.bit() != 0;
        self.woken &= !flag.bit();
        woken
    }

    /// Makes sure that the tree has a bit for the slot.
    #[inline]
    pub(crate) fn cover(&mut self, slot: usize) {
        while self.slots <= slot {
            self.slots = self.tree.grow(self.slots);
        }
    }

    /// Wakes a slot, as its source would.
    pub(crate) fn wake(&self, slot: usize) {
        self.tree.wake(slot);
    }

    /// A waker for one poll of the source in a slot that has none of its own.
    #[inline]
    pub(crate) fn lend(&mut self, slot: usize) -> &Waker {
        if self.spare.as_ref().is_some_and(Spare::is_kept) {
            self.spare = None;
        }
        self.spare
            .get_or_insert_with(|| Spare::new(&self.tree))
            .lend(slot)
    }

    /// The waker that was lent, if the source has kept it: from then on it is the slot's own.
    #[inline]
    pub(crate) fn kept(&mut self) -> Option<Waker> {
        self.spare
            .take_if(|spare| spare.is_kept())
            .map(Spare::into_waker)
    }

    /// Makes the waker of a flag.
    pub(crate) fn flag_waker(&self, flag: Flag) -> Waker {
        wakers::flag_waker(&self.tree, flag)
    }
}

fn take_lowest(bits: &mut u64) -> usize {
    let lowest = bits.trailing_zeros() as usize;
    *bits &= *bits - 1;
    lowest
}

#[cfg(all(test, futures_aggregate_loom))]
mod models;
#[cfg(test)]
mod tests;
