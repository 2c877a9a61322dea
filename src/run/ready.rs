//! Who was woken: one bit per slot, in a tree that finds the set ones without looking at the rest.
//!
//! 1. A slot's bit is one of 64 in a leaf word. The first bit set in an empty word sets the word's
//!    own bit one level up; the first bit set in the root word wakes the task. Whoever finds the
//!    word not empty is done: the one who set the first bit is on the way up.
//! 2. Whoever takes bits goes the other way, from the root down, and takes whole words. A bit set
//!    behind it finds an empty word and climbs again; one set before it is found.
//! 3. The tree grows by segments of twice the size, each under a root bit of its own, so that no
//!    word ever moves and no waker has to wait for the tree to grow.
//! 4. While the run is polled, and for ever once it has ended, a bit of the root word that belongs
//!    to nobody keeps it from being empty: the task is not woken for what the poll will see when
//!    it ends, nor for a run that is gone.
//! 5. Wakers own a place in the tree, never a source. Keeping one keeps some words of bits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

use super::panics::discard;
use super::task::Task;

/// Slots under one word, and words under one word.
const FANOUT: usize = u64::BITS as usize;
/// Root bits from this one on are flags; those below are segments.
const FIRST_FLAG: u32 = 58;
const SEGMENTS: u64 = (1 << FIRST_FLAG) - 1;
/// Keeps the root word from being empty while the run is polled, and after its end.
const POLLING: u64 = 1 << 63;

/// What can be woken besides the slots.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    /// The future that cancels the run.
    Cancel = FIRST_FLAG as isize,
    /// The future that expires the run.
    Expire,
    /// The run's timer.
    Timer,
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
    root: Arc<Root>,
    segments: Vec<Arc<Segment>>,
    /// Segments of the current sweep that are still to be looked at.
    unswept: u64,
    /// The segment that the sweep is in.
    segment: usize,
    /// From the segment's top word down to where the sweep is: each word taken on the way, with
    /// its bits that are still to be looked at.
    path: Path,
}

/// Words on the way from the top of the largest segment to a leaf, at the most.
const DEPTH: usize = 6;

/// A stack of words and their bits.
#[derive(Debug, Default)]
struct Path {
    words: [(usize, u64); DEPTH],
    len: usize,
}

impl Path {
    fn push(&mut self, word: usize, bits: u64) {
        self.words[self.len] = (word, bits);
        self.len += 1;
    }

    fn taken(&mut self) -> &mut [(usize, u64)] {
        &mut self.words[..self.len]
    }

    fn is_done(&self) -> bool {
        self.words[..self.len].iter().all(|&(_, bits)| bits == 0)
    }
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self {
            root: Arc::default(),
            segments: Vec::new(),
            unswept: 0,
            segment: 0,
            path: Path::default(),
        }
    }

    /// Opens a poll by the task of `waker`, which is registered before any bit is read: what is
    /// woken before is seen by this poll, what is woken later wakes the task when the poll ends.
    pub(crate) fn begin_poll(&self, waker: &Waker) {
        self.root.task.register(waker);
        self.root.woken.fetch_or(POLLING, Ordering::AcqRel);
    }

    /// Closes a poll that left the run pending. Wakes its task if the poll left work behind, or if
    /// something was woken meanwhile.
    pub(crate) fn end_poll(&self, waker: &Waker, again: bool) {
        let woken = self.root.woken.fetch_and(!POLLING, Ordering::AcqRel) & !POLLING;
        if again || woken != 0 || !self.is_swept() {
            waker.wake_by_ref();
        }
    }

    /// Ends the run: no task is woken any more, and its waker is let go.
    pub(crate) fn close(&self) {
        self.root.woken.fetch_or(POLLING, Ordering::AcqRel);
        self.root.task.clear();
    }

    /// Whether anything was woken that this poll has not seen.
    pub(crate) fn is_woken(&self) -> bool {
        self.root.woken.load(Ordering::Acquire) & !POLLING != 0
    }

    /// Starts a sweep over the slots woken so far, unless one is under way.
    pub(crate) fn start_sweep(&mut self) {
        if self.is_swept() {
            self.path.len = 0;
            let woken = self.root.woken.load(Ordering::Relaxed) & SEGMENTS;
            if woken != 0 {
                self.unswept = self.root.woken.fetch_and(!SEGMENTS, Ordering::AcqRel) & SEGMENTS;
            }
        }
    }

    /// Whether the sweep has come to its end.
    pub(crate) fn is_swept(&self) -> bool {
        self.unswept == 0 && self.path.is_done()
    }

    /// The next slot of the sweep. A sweep names each slot once at the most, whatever is woken
    /// meanwhile, because it takes each word once.
    pub(crate) fn next(&mut self) -> Option<usize> {
        loop {
            let Some((word, bits)) = self.path.taken().last_mut() else {
                if self.unswept == 0 {
                    return None;
                }
                self.segment = take_lowest(&mut self.unswept);
                self.descend(0);
                continue;
            };
            if *bits == 0 {
                self.path.len -= 1;
                continue;
            }
            let (word, bit) = (*word, take_lowest(bits));
            match self.segments[self.segment].slot(word, bit) {
                Some(slot) => return Some(slot),
                None => self.descend(word * FANOUT + bit + 1),
            }
        }
    }

    /// Takes the bit of one slot, ahead of the sweep. Returns whether it was set.
    pub(crate) fn take(&mut self, slot: usize) -> bool {
        let (number, offset) = place(slot);
        let segment = &self.segments[number];
        let (word, bit) = segment.leaf(offset);
        let mut woken = segment.words[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if let Some((_, bits)) = self
            .path
            .taken()
            .iter_mut()
            .find(|(taken, _)| self.segment == number && *taken == word)
        {
            woken |= *bits & bit != 0;
            *bits &= !bit;
        }
        woken
    }

    /// Takes a flag. Returns whether it was set.
    pub(crate) fn take_flag(&self, flag: Flag) -> bool {
        let bit = flag.bit();
        self.root.woken.load(Ordering::Relaxed) & bit != 0
            && self.root.woken.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Makes the waker of a slot, growing the tree where it ends before the slot.
    pub(crate) fn waker(&mut self, slot: usize) -> Waker {
        let (number, offset) = place(slot);
        while self.segments.len() <= number {
            let segment = Segment::new(Arc::clone(&self.root), self.segments.len());
            self.segments.push(Arc::new(segment));
        }
        Waker::from(Arc::new(SlotWaker {
            segment: Arc::clone(&self.segments[number]),
            offset,
        }))
    }

    /// Makes the waker of a flag.
    pub(crate) fn flag_waker(&self, flag: Flag) -> Waker {
        Waker::from(Arc::new(FlagWaker {
            root: Arc::clone(&self.root),
            flag,
        }))
    }

    fn descend(&mut self, word: usize) {
        let bits = self.segments[self.segment].words[word].swap(0, Ordering::AcqRel);
        self.path.push(word, bits);
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.close();
    }
}

/// What all wakers of a run share: the top of the tree, and the task.
#[derive(Debug, Default)]
struct Root {
    woken: AtomicU64,
    task: Task,
}

impl Root {
    fn wake(&self, bit: u64) {
        // Not empty means that whoever set the first bit wakes the task, or that a poll is under
        // way and will look at the word once more before it ends.
        if self.woken.fetch_or(bit, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

/// One part of the tree: 64 slots, or as many as all segments before it together.
#[derive(Debug)]
struct Segment {
    root: Arc<Root>,
    number: usize,
    /// Level after level from the top, so that the words below word `w` are `64 w + 1` to
    /// `64 w + 64`. Only the last level, of the leaves, may be shorter than it could be.
    words: Box<[AtomicU64]>,
    /// Where the last level begins.
    leaves: usize,
}

impl Segment {
    fn new(root: Arc<Root>, number: usize) -> Self {
        let leaf_words = segment_len(number) / FANOUT;
        let (mut leaves, mut level) = (0, 1);
        while level < leaf_words {
            leaves += level;
            level *= FANOUT;
        }
        Self {
            root,
            number,
            words: (0..leaves + leaf_words)
                .map(|_| AtomicU64::new(0))
                .collect(),
            leaves,
        }
    }

    /// The leaf word of the slot at `offset` in this segment, and its bit there.
    fn leaf(&self, offset: usize) -> (usize, u64) {
        (self.leaves + offset / FANOUT, 1 << (offset % FANOUT))
    }

    /// The slot that a bit of a word stands for, if the word is a leaf.
    fn slot(&self, word: usize, bit: usize) -> Option<usize> {
        let leaf = word.checked_sub(self.leaves)?;
        Some(segment_start(self.number) + leaf * FANOUT + bit)
    }

    fn wake(&self, offset: usize) {
        let (mut word, mut bit) = self.leaf(offset);
        while self.words[word].fetch_or(bit, Ordering::AcqRel) == 0 {
            if word == 0 {
                return self.root.wake(1 << self.number);
            }
            bit = 1 << ((word - 1) % FANOUT);
            word = (word - 1) / FANOUT;
        }
    }
}

/// Wakes one slot.
#[derive(Debug)]
struct SlotWaker {
    segment: Arc<Segment>,
    offset: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.segment.wake(self.offset);
    }
}

/// Raises one flag.
#[derive(Debug)]
struct FlagWaker {
    root: Arc<Root>,
    flag: Flag,
}

impl Wake for FlagWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wake = || self.root.wake(self.flag.bit());
        match self.flag {
            // One thread runs all timers of the process: a task's waker that panics there must
            // not end them.
            Flag::Timer => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(wake)) {
                    discard(payload);
                }
            }
            _ => wake(),
        }
    }
}

/// The segment of a slot, and where in it the slot is.
fn place(slot: usize) -> (usize, usize) {
    let number = (usize::BITS - (slot / FANOUT).leading_zeros()) as usize;
    (number, slot - segment_start(number))
}

fn segment_start(number: usize) -> usize {
    match number {
        0 => 0,
        _ => FANOUT << (number - 1),
    }
}

fn segment_len(number: usize) -> usize {
    segment_start(number).max(FANOUT)
}

fn take_lowest(bits: &mut u64) -> usize {
    let lowest = bits.trailing_zeros() as usize;
    *bits &= *bits - 1;
    lowest
}

#[cfg(test)]
mod tests;
