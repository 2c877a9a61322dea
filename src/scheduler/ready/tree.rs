//! The tree of bits that wakers share. It is apart from the sweep, because any thread may use it.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use super::Flag;
use crate::scheduler::sync::AtomicU64;
use crate::scheduler::task::Task;

/// The number of slots or words below one word.
pub(super) const FANOUT: usize = u64::BITS as usize;
/// The number of slots that have their bits in the root word.
pub(super) const DIRECT: usize = 32;
/// The number of segments that have a bit in the root word.
pub(super) const MOST_SEGMENTS: usize = 22;
/// The number of slots that the tree can have bits for.
pub(in crate::scheduler) const MOST_SLOTS: usize = segment_start(MOST_SEGMENTS);
/// The bits of slots in the root word.
pub(super) const DIRECT_SLOTS: u64 = (1 << DIRECT) - 1;
/// The bits of segments in the root word.
pub(super) const SEGMENTS: u64 = ((1 << MOST_SEGMENTS) - 1) << DIRECT;
/// Set if the bits of slots are the number of the only woken slot instead. The bits of flags, which
/// are above this one, remain flags.
pub(super) const SINGLE: u64 = 1 << (DIRECT + MOST_SEGMENTS);
/// The bits of flags in the root word.
pub(super) const FLAGS: u64 = !(DIRECT_SLOTS | SEGMENTS | SINGLE | AWAKE);
/// Set while the task is awake, so that no waker finds the root word empty and wakes the task.
pub(super) const AWAKE: u64 = 1 << 63;

const _: () = assert!(Flag::Cancel as usize == DIRECT + MOST_SEGMENTS + 1);

/// The bits of all slots and flags, and the task to wake.
#[derive(Debug)]
pub(super) struct Tree {
    /// Bits of slots, segments and flags. Empty only while the task waits.
    pub(super) root: AtomicU64,
    /// The task that the first bit in an empty root word wakes.
    pub(super) task: Task,
    /// Allocated when a slot has no bit in the root word.
    segments: OnceLock<Box<[OnceLock<Segment>; MOST_SEGMENTS]>>,
}

/// The bits of 64 slots, or of twice as many as the segment before.
#[derive(Debug)]
pub(super) struct Segment {
    /// The words of all levels, from the top word to the leaves. The words below word `w` are
    /// `64 w + 1` to `64 w + 64`. Only the level of the leaves may be incomplete.
    pub(super) words: Box<[AtomicU64]>,
    /// The index of the first leaf.
    leaves: usize,
    /// The first slot of the segment.
    start: usize,
}

impl Default for Tree {
    /// A tree without segments, whose task is awake.
    fn default() -> Self {
        Self {
            root: AtomicU64::new(AWAKE),
            task: Task::default(),
            segments: OnceLock::new(),
        }
    }
}

impl Tree {
    /// Wakes a slot.
    pub(super) fn wake(&self, slot: usize) {
        // Usually only one slot is woken while the task waits. The root word holds its number, so it
        // needs no bits.
        // Relaxed: the compare-exchange decides.
        if slot >= DIRECT && self.root.load(Ordering::Relaxed) == 0 {
            let single = SINGLE | slot as u64;
            // Acquire: pairs with the Release in `Ready::wait`, so that the registered task is seen.
            // Release: pairs with the Acquire in `Ready::take_woken`, so that what was written before
            // the wake is seen.
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            if self
                .root
                .compare_exchange(0, single, success, failure)
                .is_ok()
            {
                return self.task.wake();
            }
        }
        if let Some(bit) = self.mark(slot) {
            self.set_root(bit);
        }
    }

    /// Raises a flag.
    pub(super) fn raise(&self, flag: Flag) {
        // Acquire and Release: as in `wake`.
        if self.root.fetch_or(flag.bit(), Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }

    /// Sets the bit of a slot below the root word. Returns the root bit that the caller must set, or
    /// `None` if an earlier waker sets it.
    #[inline]
    pub(super) fn mark(&self, slot: usize) -> Option<u64> {
        if slot < DIRECT {
            return Some(1 << slot);
        }
        let (number, offset) = locate(slot);
        let is_first = self.segment(number)?.wake(offset);
        is_first.then_some(1 << (DIRECT + number))
    }

    /// Sets bits of the root word, and wakes the task if it waits.
    fn set_root(&self, mut bits: u64) {
        // Relaxed: the compare-exchange decides.
        let mut root = self.root.load(Ordering::Relaxed);
        loop {
            let mut others = root;
            if root & SINGLE != 0 {
                // Replace the number of the slot by its bit.
                bits |= self.mark(single_slot(root)).unwrap_or(0);
                others &= !SINGLE & !DIRECT_SLOTS;
            }
            // Acquire and Release: as in `wake`.
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            let set = self
                .root
                .compare_exchange_weak(root, others | bits, success, failure);
            match set {
                Ok(0) => return self.task.wake(),
                // The waker that set the first bit wakes the task; or the task is awake, and `wait`
                // finds this bit.
                Ok(_) => return,
                Err(changed) => root = changed,
            }
        }
    }

    /// Takes the bit of a slot that has it in a leaf. Returns whether it was set.
    pub(super) fn take(&self, slot: usize) -> bool {
        let (number, offset) = locate(slot);
        self.segment(number).is_some_and(|segment| {
            let (word, bit) = segment.leaf(offset);
            // Acquire and Release: as in `Segment::take`.
            segment.words[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0
        })
    }

    #[inline]
    pub(super) fn segment(&self, number: usize) -> Option<&Segment> {
        self.segments.get()?[number].get()
    }

    /// Forgets the bits of this many slots, and all flags. No other thread may refer to the tree.
    pub(super) fn clear(&self, slots: usize) {
        // Relaxed: a thread that gets a waker later sees this too.
        self.root.store(AWAKE, Ordering::Relaxed);
        let segments = (0..MOST_SEGMENTS).take_while(|&number| segment_start(number) < slots);
        for segment in segments.filter_map(|number| self.segment(number)) {
            for word in &segment.words {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Adds a segment to a tree that has bits for this many slots. Returns for how many it has now.
    pub(super) fn grow(&self, slots: usize) -> usize {
        let (number, _) = locate(slots);
        let segments = self
            .segments
            .get_or_init(|| Box::new([const { OnceLock::new() }; MOST_SEGMENTS]));
        segments[number].get_or_init(|| Segment::new(number));
        segment_start(number + 1)
    }
}

impl Segment {
    /// A segment of `64 << number` slots.
    pub(super) fn new(number: usize) -> Self {
        let leaf_words = 1 << number;
        let (mut leaves, mut level) = (0, 1);
        while level < leaf_words {
            leaves += level;
            level *= FANOUT;
        }
        Self {
            words: (0..leaves + leaf_words)
                .map(|_| AtomicU64::new(0))
                .collect(),
            leaves,
            start: segment_start(number),
        }
    }

    /// The leaf word and the bit of the slot at `offset`.
    fn leaf(&self, offset: usize) -> (usize, u64) {
        (self.leaves + offset / FANOUT, 1 << (offset % FANOUT))
    }

    /// Sets the bit of the slot at `offset`. Returns whether the top word was empty.
    fn wake(&self, offset: usize) -> bool {
        let (mut word, mut bit) = self.leaf(offset);
        // Release: pairs with the Acquire in `take`, so that the bits below, and what was written
        // before the wake, are seen.
        // Acquire: pairs with the Release in `take`, so that the sweep which emptied this word cannot
        // clear the bit that is set above it next.
        while self.words[word].fetch_or(bit, Ordering::AcqRel) == 0 {
            if word == 0 {
                return true;
            }
            bit = 1 << ((word - 1) % FANOUT);
            word = (word - 1) / FANOUT;
        }
        false
    }

    /// Takes all bits of a word.
    pub(super) fn take(&self, word: usize) -> u64 {
        // Acquire: pairs with the Release in `wake`, so that the bits below, and what was written
        // before the wake, are seen.
        // Release: pairs with the Acquire in `wake`, so that a waker that finds the word empty sets
        // the bit above after the sweep has taken the word above.
        self.words[word].swap(0, Ordering::AcqRel)
    }

    /// The slot of the first bit of a word, if the word is a leaf.
    pub(super) fn first_slot(&self, word: usize) -> Option<usize> {
        let leaf = word.checked_sub(self.leaves)?;
        Some(self.start + leaf * FANOUT)
    }
}

/// The slot whose number a root word holds.
pub(super) fn single_slot(root: u64) -> usize {
    (root & DIRECT_SLOTS) as usize
}

/// The segment that has the bit of a slot, and the offset of the slot in it.
pub(super) fn locate(slot: usize) -> (usize, usize) {
    let words = (slot - DIRECT) / FANOUT + 1;
    let number = words.ilog2() as usize;
    (number, slot - segment_start(number))
}

/// The first slot of a segment.
pub(super) const fn segment_start(number: usize) -> usize {
    DIRECT + FANOUT * ((1 << number) - 1)
}
