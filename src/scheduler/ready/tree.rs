//! The bits that wakers set: one per slot, and the words of bits that lead to them.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use super::Flag;
use crate::scheduler::sync::AtomicU64;
use crate::scheduler::task::Task;

/// Slots under one word, and words under one word.
pub(super) const FANOUT: usize = u64::BITS as usize;
/// Slots whose bits are in the root word itself.
pub(super) const DIRECT: usize = 32;
/// Segments, each under one bit of the root word above those.
pub(super) const MOST_SEGMENTS: usize = 22;
/// As many slots as there can be bits for.
pub(in crate::scheduler) const MOST_SLOTS: usize = segment_start(MOST_SEGMENTS);
/// The bits of those slots in the root word.
pub(super) const DIRECT_SLOTS: u64 = (1 << DIRECT) - 1;
/// The bits of the segments.
pub(super) const SEGMENTS: u64 = ((1 << MOST_SEGMENTS) - 1) << DIRECT;
/// In place of bits of slots and segments, the root word has the number of the one slot that was
/// woken. Above this bit are the flags.
pub(super) const SINGLE: u64 = 1 << (DIRECT + MOST_SEGMENTS);
/// The bits of the flags.
pub(super) const FLAGS: u64 = !(DIRECT_SLOTS | SEGMENTS | SINGLE | AWAKE);
/// Keeps the root word from being empty while nobody waits for it.
pub(super) const AWAKE: u64 = 1 << 63;

const _: () = assert!(Flag::Cancel as usize == DIRECT + MOST_SEGMENTS + 1);

/// What all wakers of a run share.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: AtomicU64,
    pub(super) task: Task,
    /// Made when there are more slots than the root word has bits for.
    segments: OnceLock<Box<[OnceLock<Segment>; MOST_SEGMENTS]>>,
}

/// 64 slots, or twice as many as the segment before.
#[derive(Debug)]
pub(super) struct Segment {
    /// Level after level from the top, so that the words below word `w` are `64 w + 1` to
    /// `64 w + 64`. Only the last level, of the leaves, may be shorter than it could be.
    pub(super) words: Box<[AtomicU64]>,
    /// Where the last level begins.
    leaves: usize,
    /// The first slot.
    start: usize,
}

impl Tree {
    /// A tree whose task is awake.
    pub(super) fn new() -> Self {
        Self {
            root: AtomicU64::new(AWAKE),
            task: Task::default(),
            segments: OnceLock::new(),
        }
    }

    /// Wakes a slot.
    pub(super) fn wake(&self, slot: usize) {
        // The first slot that is woken while the task waits needs no bits: the root word can name
        // it, and usually nobody else is woken before the task looks.
        if slot >= DIRECT && self.root.load(Ordering::Relaxed) == 0 {
            let single = SINGLE | slot as u64;
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
        if self.root.fetch_or(flag.bit(), Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }

    /// Sets the bit of a slot below the root word. Returns the bit that is to be set there, unless
    /// whoever was before sets it.
    pub(super) fn mark(&self, slot: usize) -> Option<u64> {
        if slot < DIRECT {
            return Some(1 << slot);
        }
        let (number, offset) = place(slot);
        let is_first = self.segment(number)?.wake(offset);
        is_first.then_some(1 << (DIRECT + number))
    }

    /// Sets bits of the root word, and wakes the task if it waits for one.
    fn set_root(&self, mut bits: u64) {
        let mut root = self.root.load(Ordering::Relaxed);
        loop {
            let mut others = root;
            if root & SINGLE != 0 {
                // Its number makes room for its bit, and for ours.
                bits |= self.mark(single(root)).unwrap_or(0);
                others &= !SINGLE & !DIRECT_SLOTS;
            }
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            let set = self
                .root
                .compare_exchange_weak(root, others | bits, success, failure);
            match set {
                // Not empty means that whoever set the first bit wakes the task, or that it is
                // awake and will look at the word once more before it waits.
                Ok(0) => return self.task.wake(),
                Ok(_) => return,
                Err(changed) => root = changed,
            }
        }
    }

    /// Takes the bit of a slot that is not in the root word. Returns whether it was set.
    pub(super) fn take(&self, slot: usize) -> bool {
        let (number, offset) = place(slot);
        self.segment(number).is_some_and(|segment| {
            let (word, bit) = segment.leaf(offset);
            segment.words[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0
        })
    }

    #[inline]
    pub(super) fn segment(&self, number: usize) -> Option<&Segment> {
        self.segments.get()?[number].get()
    }

    /// Makes room for one slot more than there are. Returns for how many there is room now.
    pub(super) fn grow(&self, slots: usize) -> usize {
        let (number, _) = place(slots);
        let segments = self
            .segments
            .get_or_init(|| Box::new([const { OnceLock::new() }; MOST_SEGMENTS]));
        segments[number].get_or_init(|| Segment::new(number));
        segment_start(number + 1)
    }
}

impl Segment {
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

    /// The leaf word of the slot at `offset`, and its bit there.
    fn leaf(&self, offset: usize) -> (usize, u64) {
        (self.leaves + offset / FANOUT, 1 << (offset % FANOUT))
    }

    /// Sets the bit of the slot at `offset`. Returns whether it is the first of the segment.
    fn wake(&self, offset: usize) -> bool {
        let (mut word, mut bit) = self.leaf(offset);
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
        self.words[word].swap(0, Ordering::AcqRel)
    }

    /// The slot of the first bit of a word, if the word is a leaf.
    pub(super) fn first_slot(&self, word: usize) -> Option<usize> {
        let leaf = word.checked_sub(self.leaves)?;
        Some(self.start + leaf * FANOUT)
    }
}

/// The slot that a root word names.
pub(super) fn single(root: u64) -> usize {
    (root & DIRECT_SLOTS) as usize
}

/// The segment of a slot that is not in the root word, and where in it the slot is.
pub(super) fn place(slot: usize) -> (usize, usize) {
    let words = (slot - DIRECT) / FANOUT + 1;
    let number = words.ilog2() as usize;
    (number, slot - segment_start(number))
}

/// The first slot of a segment.
pub(super) const fn segment_start(number: usize) -> usize {
    DIRECT + FANOUT * ((1 << number) - 1)
}
