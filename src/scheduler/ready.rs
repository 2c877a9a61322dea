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
//! 7. A sweep takes the bits in order, or shuffled: bit `i` of a word at place `i ^ x`, where `x` is
//!    a hash of the sweep, the segment and the word. Of two sources that are woken again and again,
//!    each is polled before the other in half of the sweeps. Every second shuffled sweep is the
//!    exact reverse of the one before it.

mod tree;
mod wakers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

pub(super) use tree::MOST_SLOTS;
use tree::{
    AWAKE, DIRECT, DIRECT_SLOTS, FANOUT, FLAGS, MOST_SEGMENTS, SEGMENTS, SINGLE, Tree, single,
};
use wakers::Spare;

use super::panics::Panics;

/// What can be woken besides the slots.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flag {
    /// The future that cancels the run.
    Cancel = 55,
    /// The future that expires the run.
    Expire,
    /// The run's alarm.
    Alarm,
    /// The end of the receivers.
    Receiver,
    /// A send that waits for room in the channel.
    Room,
    /// The list of sources, if it may be pending.
    Sources,
}

impl Flag {
    fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

/// What follows a poll that left the run pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another poll at once: there is work left.
    Again,
    /// The next wake. What was woken during the poll counts.
    Wait,
    /// The next wake from outside. What was woken during the poll waits too.
    Rest,
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
    /// The slots that the sweep is at: the first of them, and a bit for each that is still to be
    /// polled.
    leaf: usize,
    leaf_bits: Shuffled,
    /// Bits of the slots in the root word, where the sweep comes to them last.
    direct: u64,
    /// Segments that the sweep has still to look at.
    unswept: Shuffled,
    /// The segment that the sweep is in.
    segment: usize,
    /// From the segment's top word down to where the sweep is: each word taken on the way, but for
    /// the leaf, with its bits that are still to be looked at, of which there are some.
    path: Vec<(usize, Shuffled)>,
    /// Decides on the order of the sweep. Zero keeps all bits in order.
    seed: u64,
    /// How many sweeps were shuffled.
    sweeps: u64,
}

/// Bits of a word in another order: bit `i ^ x` is the word's bit `i`.
#[derive(Debug, Clone, Copy, Default)]
struct Shuffled {
    bits: u64,
    x: u32,
}

impl Shuffled {
    /// The bits in order.
    fn ordered(bits: u64) -> Self {
        Self { bits, x: 0 }
    }

    /// The bits of a word, shuffled by the low bits of `x`. Those above a word of `width` bits,
    /// which is a power of two, are empty.
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

    /// Takes the first bit. Returns its place in the word.
    fn take_first(&mut self) -> usize {
        let first = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        (first ^ self.x) as usize
    }

    /// Takes the bit at a place in the word. Returns whether it was set.
    fn take(&mut self, place: usize) -> bool {
        let bit = 1 << (place as u32 ^ self.x);
        let was_set = self.bits & bit != 0;
        self.bits &= !bit;
        was_set
    }
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
            leaf_bits: Shuffled::default(),
            direct: 0,
            unswept: Shuffled::default(),
            segment: 0,
            path: Vec::new(),
            seed: 0,
            sweeps: 0,
        }
    }

    /// Opens a poll: the task is awake.
    #[inline]
    pub(crate) fn begin_poll(&mut self) {
        self.take_woken();
    }

    /// Closes a poll that left the run pending: the task waits, unless it is to come again, or
    /// something was woken meanwhile. Then it is woken at once.
    ///
    /// # Panics
    ///
    /// If a waker of the caller's panics. The task is woken, or waits, all the same.
    #[inline]
    pub(crate) fn end_poll(&mut self, waker: &Waker, next: Next) {
        let is_registered = |task: &Arc<Waker>| task.will_wake(waker);
        let is_registered = self.task.as_ref().is_some_and(is_registered);
        if is_registered && next == Next::Wait && self.wait() {
            return;
        }
        self.end_poll_slowly(waker, next, is_registered);
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
                // Takes what sources have woken, so that the root word is empty and the next wake is
                // seen. A flag, such as that of the alarm, is not to be waited out.
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
        // The destructor of the previous task's waker may panic. The new one waits by now.
        panics.catch(|| drop(previous));
        panics.resume();
    }

    /// Has the registered task woken by the next bit. Returns whether there was none yet.
    #[inline]
    fn wait(&self) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let root = &self.tree.root;
        root.compare_exchange(AWAKE, 0, success, failure).is_ok()
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
            let slot = single(root);
            root &= !SINGLE & !DIRECT_SLOTS;
            if self.woken & !FLAGS == 0 {
                // The task has waited, so no sweep is under way: this slot is one by itself.
                (self.leaf, self.leaf_bits) = (slot, Shuffled::ordered(1));
            } else {
                // The task has rested although others were woken.
                self.woken |= self.tree.mark(slot).unwrap_or(0);
            }
        }
        self.woken |= root;
    }

    /// Starts a sweep over the slots woken so far, unless one is under way.
    #[inline]
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

    /// A new seed, or in every second sweep the one before with all bits flipped, which reverses the
    /// order. The first sweep is in order.
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

    /// Whether the sweep has come to its end.
    #[inline]
    pub(crate) fn is_swept(&self) -> bool {
        self.leaf_bits.is_empty()
            && self.unswept.is_empty()
            && self.direct == 0
            && self.path.is_empty()
    }

    /// The next slot of the sweep. A sweep names each slot once at the most, whatever is woken
    /// meanwhile, because it takes each word once.
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

    /// Takes the bit of one slot, ahead of the sweep. Returns whether it was set.
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

    /// Whether any of some flags is set, for what the poll has taken so far.
    #[inline]
    pub(crate) fn has_flag(&self, flags: &[Flag]) -> bool {
        flags.iter().any(|flag| self.woken & flag.bit() != 0)
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

/// Mixes all bits of a number into all others.
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// How to shuffle a word of a segment. Flipping all bits of the seed flips all bits of the hash.
fn hash(seed: u64, segment: usize, word: usize) -> u32 {
    let place = mix((segment as u64) << 40 | word as u64);
    let rotated = seed.rotate_left((place % 64) as u32) ^ place;
    (rotated >> 32) as u32
}

#[cfg(all(test, futures_aggregate_loom))]
mod models;
#[cfg(test)]
mod tests;
