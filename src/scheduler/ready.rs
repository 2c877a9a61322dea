//! Wakeup bookkeeping: one bit per slot, in a tree that finds the woken slots without a look at the
//! others.
//!
//! 1. The first 32 slots have their bits in the root word, so a small run needs one word. Every other
//!    slot has its bit in a leaf word of 64 bits. A waker that sets the first bit of a word also sets
//!    the bit of that word one level up. The first bit of the root word wakes the task. If a word was
//!    not empty, the waker stops: the waker that set its first bit propagates upward.
//! 2. A sweep goes down from the root and takes whole words. A bit that is set behind the sweep finds
//!    an empty word and propagates again. The sweep finds a bit that is set ahead of it.
//! 3. The tree grows by segments. Each has twice the size of the one before, and its own root bit. No
//!    word ever moves, so no waker waits for the tree to grow.
//! 4. While the task is awake, the bit [`AWAKE`] keeps the root word from being empty, so no waker
//!    wakes the task. The task looks at the root word before it waits. When the run ends, it drops
//!    the waker of its task.
//! 5. If one slot outside the root word is woken while the task waits, the root word holds the number
//!    of that slot instead of bits. The next waker replaces the number by bits.
//! 6. A spare waker is lent to every source whose slot has no waker. If the source keeps it, it
//!    becomes the waker of that slot, and the next spare one is lent. At the end of the run the wakers of
//!    the slots are spare again. A later run can take the tree with them from a [`pool`](super::pool).
//! 7. A sweep takes the bits of a word in order, or shuffled: bit `i` at position `i ^ x`, where `x`
//!    is a hash of the sweep, the segment and the word. Of two sources that are always woken, each is
//!    polled first in half of the sweeps. Every second shuffled sweep reverses the one before it.

mod tree;
mod wakers;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

pub(super) use tree::MOST_SLOTS;
use tree::{
    AWAKE, DIRECT, DIRECT_SLOTS, FANOUT, FLAGS, MOST_SEGMENTS, SEGMENTS, SINGLE, Tree,
    segment_start, single_slot,
};
use wakers::Spares;
pub(super) use wakers::{CountedWaker, MOST_SPARES};

use super::sync::fence;
use crate::panics::Panics;

/// What can be woken besides the slots. Each has a bit in the root word.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    /// The future that cancels the run.
    Cancel = 55,
    /// The future that expires the run.
    Expire,
    /// The future that completes when the receivers are gone.
    Receiver,
    /// A send that waits for room in the channel.
    Room,
    /// The source list, if it may be pending.
    Sources,
    /// The future after which no source starts.
    Drain,
    /// The bodies that handle outcomes.
    Bodies,
    /// A place in a limit that runs share.
    Limit,
}

impl Flag {
    fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

/// When to poll a pending run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// At once: there is work left.
    Again,
    /// At the next wake, or at once if a slot was woken during this poll.
    Wait,
    /// At the next wake after this poll. Slots that were woken during this poll wait until then, so
    /// that sources that wake themselves do not keep the runtime from parking.
    Rest,
}

/// What was woken in a run, from its first poll to its end. In between it is that of another run, or in the
/// [`pool`](super::pool).
#[derive(Debug)]
pub struct Ready(Option<Box<Wakeups>>);

/// The woken slots and flags, as the run sees them. The wakers see the [`Tree`].
#[derive(Debug)]
pub struct Wakeups {
    /// The tree, shared with the wakers.
    tree: Arc<Tree>,
    /// The wakers that no slot has.
    spares: Spares,
    /// The number of wakers that slots have.
    kept: usize,
    /// The number of slots that the tree has bits for.
    slots: usize,
    /// The waker of the task that waited last. The tree has a weak reference to it.
    task: Option<Arc<Waker>>,
    /// Bits taken from the root word and not handled yet.
    woken: u64,
    /// The first slot of the word that the sweep is in.
    leaf: usize,
    /// The slots of that word that the sweep has not returned yet.
    leaf_bits: Shuffled,
    /// The bits of the slots in the root word, if the sweep takes the segments first.
    direct: u64,
    /// Segments that the sweep has not entered yet.
    unswept: Shuffled,
    /// The segment that the sweep is in.
    segment: usize,
    /// The inner words between the top of the segment and the sweep, each with the bits that the
    /// sweep has not followed yet. Never contains a word without bits.
    path: Vec<(usize, Shuffled)>,
    /// The seed of the order in this sweep. Zero keeps all bits in order.
    seed: u64,
    /// The number of shuffled sweeps.
    sweeps: u64,
}

/// The bits of a word in another order: bit `i` of the word is bit `i ^ x` here.
#[derive(Debug, Clone, Copy, Default)]
struct Shuffled {
    /// The bits in the other order.
    bits: u64,
    /// Zero keeps the order.
    x: u32,
}

impl Shuffled {
    /// The bits of a word in order.
    fn ordered(bits: u64) -> Self {
        Self { bits, x: 0 }
    }

    /// The bits of a word of `width` bits, shuffled by the low bits of `x`. `width` is a power of two.
    fn new(mut bits: u64, x: u32, width: u32) -> Self {
        // The masks of the lower halves of all pairs of 1, 2, 4, .. bits.
        const LOWER: [u64; 6] = [
            0x5555_5555_5555_5555,
            0x3333_3333_3333_3333,
            0x0f0f_0f0f_0f0f_0f0f,
            0x00ff_00ff_00ff_00ff,
            0x0000_ffff_0000_ffff,
            0x0000_0000_ffff_ffff,
        ];
        let x = x % width;
        for (level, lower) in LOWER.iter().enumerate() {
            if x & 1 << level != 0 {
                let half = 1 << level;
                bits = (bits & lower) << half | bits >> half & lower;
            }
        }
        Self { bits, x }
    }

    fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Takes the first bit. Returns its position in the word.
    fn take_first(&mut self) -> usize {
        let first = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        (first ^ self.x) as usize
    }

    /// Takes the bit at a position in the word. Returns whether it was set.
    fn take(&mut self, position: usize) -> bool {
        let bit = 1 << (position as u32 ^ self.x);
        let was_set = self.bits & bit != 0;
        self.bits &= !bit;
        was_set
    }
}

impl Ready {
    /// That of a run that was never polled.
    pub(crate) fn unused() -> Self {
        Self(None)
    }

    /// That of a run that has begun.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self(Some(Box::default()))
    }

    /// Whether the run has begun.
    #[inline]
    pub(crate) fn has_begun(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a run. The first poll calls this before it uses anything else.
    #[inline]
    pub(crate) fn begin(&mut self, wakeups: Box<Wakeups>) {
        self.0 = Some(wakeups);
    }

    /// Ends a run. Returns what a later run can use.
    pub(crate) fn end(&mut self) -> Option<Box<Wakeups>> {
        self.close();
        self.0.take()
    }

    /// Drops the waker of the task, so that no source can wake the task any more.
    pub(crate) fn close(&mut self) {
        if let Some(wakeups) = &mut self.0 {
            wakeups.task = None;
        }
    }
}

impl Deref for Ready {
    type Target = Wakeups;

    #[inline(always)]
    fn deref(&self) -> &Wakeups {
        self.0.as_ref().expect("the run was polled")
    }
}

impl DerefMut for Ready {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Wakeups {
        self.0.as_mut().expect("the run was polled")
    }
}

impl Default for Wakeups {
    /// A tree that has no wakers yet.
    fn default() -> Self {
        Self {
            tree: Arc::default(),
            spares: Spares::default(),
            kept: 0,
            slots: DIRECT,
            task: None,
            woken: 0,
            leaf: 0,
            leaf_bits: Shuffled::default(),
            direct: 0,
            unswept: Shuffled::default(),
            segment: 0,
            path: Vec::new(),
            seed: 0,
            sweeps: 0,
        }
    }
}

impl Wakeups {
    /// The most slots of a tree that a later run can use.
    pub(super) const MOST_SLOTS: usize = segment_start(8);

    /// The number of wakers.
    pub(crate) fn wakers(&self) -> usize {
        self.spares.len()
    }

    /// Forgets the run, which has ended, and all wakers but so many. Returns whether another run can use
    /// the rest: nothing else refers to it.
    pub(crate) fn reset(&mut self, most_wakers: usize) -> bool {
        if self.slots > Self::MOST_SLOTS || self.spares.are_kept() {
            return false;
        }
        self.spares.truncate(most_wakers);
        // Others are the wakers of flags, and wakers that a source has kept after its answer.
        let is_unshared = Arc::strong_count(&self.tree) == self.spares.len() + 1;
        // Acquire: pairs with the Release when a reference is dropped, so that the last wake comes before
        // the bits are forgotten.
        fence(Ordering::Acquire);
        if is_unshared {
            self.tree.clear(self.slots);
            self.spares.note_untouched();
            (self.slots, self.kept) = (DIRECT, 0);
            self.forget_wakes();
        }
        is_unshared
    }

    /// Forgets what was woken, and the order of the sweeps.
    fn forget_wakes(&mut self) {
        self.woken = 0;
        self.leaf = 0;
        self.leaf_bits = Shuffled::default();
        self.direct = 0;
        self.unswept = Shuffled::default();
        self.path.clear();
        self.sweeps = 0;
    }

    /// Begins a poll: marks the task as awake.
    #[inline]
    pub(crate) fn begin_poll(&mut self) {
        self.take_woken();
    }

    /// Ends a poll that left the run pending. Lets the task wait, or wakes it at once.
    ///
    /// # Panics
    ///
    /// If a waker of the caller panics. Even then the task waits or was woken.
    #[inline]
    pub(crate) fn end_poll(&mut self, waker: &Waker, next: Next) {
        let is_registered = self.is_registered(waker);
        if is_registered && next == Next::Wait && self.wait() {
            return;
        }
        self.end_poll_slowly(waker, next, is_registered);
    }

    /// Whether the task of this waker has waited last.
    #[inline]
    pub(crate) fn is_registered(&self, waker: &Waker) -> bool {
        let is_registered = |task: &Arc<Waker>| task.will_wake(waker);
        self.task.as_ref().is_some_and(is_registered)
    }

    #[inline(never)]
    fn end_poll_slowly(&mut self, waker: &Waker, next: Next, is_registered: bool) {
        let mut panics = Panics::default();
        let mut previous = None;
        if !is_registered && next != Next::Again {
            if let Some(task) = panics.catch(|| Arc::new(waker.clone())) {
                self.tree.task.register(&task);
                previous = self.task.replace(task);
            }
        }
        let is_waiting = !panics.is_some()
            && match next {
                Next::Again => false,
                Next::Wait => self.wait(),
                // Take the slots that were woken, so that the next wake finds the root word empty and
                // wakes the task. If a flag is set, such as that of a signal, do not wait.
                Next::Rest => loop {
                    if self.woken & FLAGS != 0 {
                        break false;
                    }
                    if self.wait() {
                        break true;
                    }
                    self.take_woken();
                },
            };
        if !is_waiting {
            panics.catch(|| waker.wake_by_ref());
        }
        // Only now, because the destructor of the previous waker may panic.
        panics.catch(|| drop(previous));
        panics.resume();
    }

    /// Makes the next bit wake the registered task. Returns false if the root word has a bit already.
    #[inline]
    fn wait(&self) -> bool {
        // Release: pairs with the Acquire in `Tree::wake`, `Tree::set_root` and `Tree::raise`, so that
        // the waker that finds the word empty sees the registered task.
        // Acquire: not relied upon, because `take_woken` acquires before anything is read.
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let root = &self.tree.root;
        root.compare_exchange(AWAKE, 0, success, failure).is_ok()
    }

    /// Whether a slot or a flag was woken and not handled yet.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        self.take_woken();
        self.woken != 0 || !self.is_swept()
    }

    /// Takes the bits of the root word.
    #[inline]
    fn take_woken(&mut self) {
        // Relaxed: `wait` finds a bit that this load misses.
        if self.tree.root.load(Ordering::Relaxed) == AWAKE {
            return;
        }
        // Acquire: pairs with the Release in `Tree::wake`, `Tree::set_root` and `Tree::raise`, so that
        // the bits below, and what was written before the wake, are seen.
        // Release: not relied upon, because a waker that finds `AWAKE` reads nothing else.
        let mut root = self.tree.root.swap(AWAKE, Ordering::AcqRel) & !AWAKE;
        if root & SINGLE != 0 {
            let slot = single_slot(root);
            root &= !SINGLE & !DIRECT_SLOTS;
            if self.woken & !FLAGS == 0 {
                // The task has waited, so no sweep is under way. The next one has only this slot.
                (self.leaf, self.leaf_bits) = (slot, Shuffled::ordered(1));
            } else {
                // `Next::Rest` has left other slots in `woken`.
                self.woken |= self.tree.mark(slot).unwrap_or(0);
            }
        }
        self.woken |= root;
    }

    /// Starts a sweep over the slots that were woken so far, unless a sweep is under way.
    #[inline(always)]
    pub(crate) fn start_sweep(&mut self, is_shuffled: bool) {
        if !self.is_swept() {
            return;
        }
        self.take_woken();
        if self.woken & !FLAGS != 0 {
            self.start_sweep_of_woken(is_shuffled);
        }
    }

    fn start_sweep_of_woken(&mut self, is_shuffled: bool) {
        let direct = self.woken & DIRECT_SLOTS;
        let segments = (self.woken & SEGMENTS) >> DIRECT;
        self.woken &= FLAGS;
        self.leaf = 0;
        let is_single = segments == 0 && direct & direct.wrapping_sub(1) == 0;
        self.seed = match is_shuffled && !is_single {
            true => self.next_seed(),
            false => 0,
        };
        if self.seed == 0 {
            self.leaf_bits = Shuffled::ordered(direct);
            self.unswept = Shuffled::ordered(segments);
            return;
        }
        self.unswept = Shuffled::new(segments, hash(self.seed, MOST_SEGMENTS, 0), 32);
        if hash(self.seed, MOST_SEGMENTS, 1) & 1 == 0 || segments == 0 {
            self.leaf_bits = self.shuffled_direct(direct);
        } else {
            self.direct = direct;
        }
    }

    /// A new seed, or in every second sweep the previous one with all bits flipped, which reverses
    /// the order. The first sweep is in order.
    fn next_seed(&mut self) -> u64 {
        let sweep = self.sweeps;
        self.sweeps += 1;
        let seed = mix(sweep.div_ceil(2)) | 1;
        match sweep {
            0 => 0,
            _ if sweep % 2 == 1 => seed,
            _ => !seed,
        }
    }

    fn shuffled_direct(&self, direct: u64) -> Shuffled {
        Shuffled::new(direct, hash(self.seed, MOST_SEGMENTS, 2), 32)
    }

    /// Whether no sweep is under way.
    #[inline]
    pub(crate) fn is_swept(&self) -> bool {
        self.leaf_bits.is_empty()
            && self.unswept.is_empty()
            && self.direct == 0
            && self.path.is_empty()
    }

    /// The next slot of the sweep. A sweep returns each slot at most once, because it takes each word
    /// once.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<usize> {
        while self.leaf_bits.is_empty() {
            if self.is_swept() {
                return None;
            }
            self.descend();
        }
        Some(self.leaf + self.leaf_bits.take_first())
    }

    /// Takes the next word on the way to the next leaf.
    fn descend(&mut self) {
        let word = if let Some((word, bits)) = self.path.last_mut() {
            let below = *word * FANOUT + bits.take_first() + 1;
            if bits.is_empty() {
                self.path.pop();
            }
            below
        } else if !self.unswept.is_empty() {
            self.segment = self.unswept.take_first();
            0
        } else {
            let direct = std::mem::take(&mut self.direct);
            (self.leaf, self.leaf_bits) = (0, self.shuffled_direct(direct));
            return;
        };
        let Some(segment) = self.tree.segment(self.segment) else {
            return;
        };
        let bits = segment.take(word);
        let bits = if self.seed == 0 || bits & bits.wrapping_sub(1) == 0 {
            Shuffled::ordered(bits)
        } else {
            Shuffled::new(bits, hash(self.seed, self.segment, word), u64::BITS)
        };
        match segment.first_slot(word) {
            Some(slot) => (self.leaf, self.leaf_bits) = (slot, bits),
            None => self.path.push((word, bits)),
        }
    }

    /// Takes the bit of one slot, wherever it is, so that no sweep returns it. Returns whether it was
    /// set.
    pub(crate) fn take(&mut self, slot: usize) -> bool {
        let mut woken = false;
        if let Some(bit @ ..64) = slot.checked_sub(self.leaf) {
            woken |= self.leaf_bits.take(bit);
        }
        if slot < DIRECT {
            self.take_woken();
            woken |= (self.woken | self.direct) & 1 << slot != 0;
            self.woken &= !(1 << slot);
            self.direct &= !(1 << slot);
        } else {
            woken |= self.tree.take(slot);
        }
        woken
    }

    /// Whether one of `flags` is set among the bits taken so far.
    #[inline]
    pub(crate) fn has_flag(&self, flags: &[Flag]) -> bool {
        flags.iter().any(|flag| self.woken & flag.bit() != 0)
    }

    /// Whether any flag is set among the bits taken so far.
    #[inline]
    pub(crate) fn has_any_flag(&self) -> bool {
        self.woken & FLAGS != 0
    }

    /// Whether a flag is set, now.
    #[inline]
    pub(crate) fn is_raised(&mut self, flag: Flag) -> bool {
        self.take_woken();
        self.has_flag(&[flag])
    }

    /// Takes a flag. Returns whether it was set.
    #[inline]
    pub(crate) fn take_flag(&mut self, flag: Flag) -> bool {
        self.take_woken();
        let woken = self.woken & flag.bit() != 0;
        self.woken &= !flag.bit();
        woken
    }

    /// Grows the tree until it has a bit for the slot.
    #[inline]
    pub(crate) fn cover(&mut self, slot: usize) {
        while self.slots <= slot {
            self.slots = self.tree.grow(self.slots);
        }
    }

    /// Wakes a slot, as its source does.
    pub(crate) fn wake(&self, slot: usize) {
        self.tree.wake(slot);
    }

    /// A waker for one poll of the source in a slot that has no waker.
    #[inline(always)]
    pub(crate) fn lend(&mut self, slot: usize) -> &Waker {
        self.spares.lend(&self.tree).lend(slot)
    }

    /// The waker that was lent last, if the source has kept it. From now on it is the waker of the slot.
    #[inline(always)]
    pub(crate) fn take_kept(&mut self) -> Option<CountedWaker> {
        let kept = self.spares.take_kept()?;
        self.kept += 1;
        Some(kept)
    }

    /// Whether slots have wakers that a later run can use.
    #[inline]
    pub(crate) fn has_kept(&self) -> bool {
        self.kept > 0 && self.slots <= Wakeups::MOST_SLOTS
    }

    /// Takes the waker of a slot that is not used any more. It is spare, unless someone still has a clone.
    pub(crate) fn take_unused(&mut self, waker: CountedWaker) {
        self.kept -= 1;
        if !waker.is_kept() {
            self.spares.add(waker);
        }
    }

    /// Takes the waker of a slot back, at the end of the run.
    pub(crate) fn take_back(&mut self, waker: CountedWaker) {
        self.kept -= 1;
        self.spares.add(waker);
    }

    /// For another run, to see whether a flag is raised.
    pub(crate) fn raised_flag(&self, flag: Flag) -> RaisedFlag {
        RaisedFlag {
            tree: Arc::clone(&self.tree),
            flag,
        }
    }

    /// Makes a waker that raises a flag.
    pub(crate) fn flag_waker(&self, flag: Flag) -> Waker {
        wakers::flag_waker(&self.tree, flag)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // The destructor of the waker may panic.
        self.close();
    }
}

/// Shows whether a flag is raised and was not taken yet.
#[derive(Debug)]
pub struct RaisedFlag {
    tree: Arc<Tree>,
    flag: Flag,
}

impl RaisedFlag {
    /// Not once the run has taken the flag from the root word, to handle it in its next poll.
    #[inline]
    pub(crate) fn is_raised(&self) -> bool {
        // Relaxed: nothing is read because of it. The run polls the signal before it decides.
        self.tree.root.load(Ordering::Relaxed) & self.flag.bit() != 0
    }
}

/// Hashes a number.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Decides how to shuffle a word of a segment. Flipping all bits of the seed flips all bits of the
/// hash.
fn hash(seed: u64, segment: usize, word: usize) -> u32 {
    let position = mix((segment as u64) << 40 | word as u64);
    let rotated = seed.rotate_left((position % 64) as u32) ^ position;
    (rotated >> 32) as u32
}

#[cfg(all(test, futures_aggregate_loom))]
mod models;
#[cfg(test)]
mod tests;
