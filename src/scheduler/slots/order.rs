//! The used slots, in the order in which their sources started, and a free list of the others.
//!
//! The order is a doubly linked list in a vector. A sentinel node closes it to a ring, so that every
//! link leads to a node. The timeout of `source_timeout` is the same for all sources, so the list is also the queue of
//! their deadlines, and a source that finishes leaves the queue at once.

use crate::timer::Instant;

/// The sentinel node, between the newest slot and the oldest one. Node 1 is slot 0.
const SENTINEL: u32 = 0;

/// The order of the used slots, and their deadlines.
#[derive(Debug)]
pub(super) struct Order {
    /// The sentinel and a node for each slot. Empty before the first slot is taken.
    nodes: Vec<Node>,
    /// The first node of the free list, or the sentinel. Free nodes are linked by `newer`.
    free: u32,
    /// The number of used slots.
    len: usize,
    /// The deadline of each node. A node beyond its end has none.
    deadlines: Vec<Option<Instant>>,
}

/// The neighbours of a slot in the order.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// The slot that was taken just before, or the sentinel.
    older: u32,
    /// The slot that was taken just after, or the sentinel.
    newer: u32,
}

impl Node {
    /// Its only neighbour is the sentinel.
    const ALONE: Self = Self {
        older: SENTINEL,
        newer: SENTINEL,
    };
}

/// The links of an earlier run, for their memory.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Node>);

impl Links {
    /// Forgets the links. Keeps the memory of no more than so many.
    pub(crate) fn clear(&mut self, most: usize) {
        self.0.clear();
        self.0.shrink_to(most);
    }
}

impl Order {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: SENTINEL,
            len: 0,
            deadlines: Vec::new(),
        }
    }

    /// Uses the memory of an earlier run.
    pub(super) fn begin(&mut self, links: Links) {
        self.nodes = links.0;
    }

    /// Gives the links away, at the end of a run.
    pub(super) fn end(&mut self) -> Links {
        self.free = SENTINEL;
        Links(std::mem::take(&mut self.nodes))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a slot, as the newest: one of the free list, or the next one that was never used.
    #[inline(always)]
    pub(super) fn take(&mut self) -> usize {
        if self.free == SENTINEL {
            self.grow();
        }
        let node = self.free;
        let newest = self.nodes[SENTINEL as usize].older;
        let entry = &mut self.nodes[node as usize];
        self.free = entry.newer;
        *entry = Node {
            older: newest,
            newer: SENTINEL,
        };
        self.nodes[newest as usize].newer = node;
        self.nodes[SENTINEL as usize].older = node;
        self.len += 1;
        if let Some(deadline) = self.deadlines.get_mut(node as usize) {
            *deadline = None;
        }
        slot(node)
    }

    /// Adds a free node, and before the first one the sentinel.
    #[inline]
    fn grow(&mut self) {
        if self.nodes.is_empty() {
            self.nodes.reserve(16);
            self.nodes.push(Node::ALONE);
        }
        self.free = self.nodes.len() as u32;
        self.nodes.push(Node::ALONE);
    }

    /// Puts a used slot on the free list.
    #[inline(always)]
    pub(super) fn release(&mut self, slot: usize) {
        let node = node(slot);
        let entry = &mut self.nodes[node as usize];
        let Node { older, newer } = *entry;
        entry.newer = self.free;
        self.free = node;
        self.nodes[older as usize].newer = newer;
        self.nodes[newer as usize].older = older;
        self.len -= 1;
    }

    /// Makes a used slot the newest, without a deadline.
    pub(super) fn renew(&mut self, slot: usize) {
        let node = node(slot);
        let Node { older, newer } = self.nodes[node as usize];
        self.nodes[older as usize].newer = newer;
        self.nodes[newer as usize].older = older;
        let newest = self.nodes[SENTINEL as usize].older;
        self.nodes[node as usize] = Node {
            older: newest,
            newer: SENTINEL,
        };
        self.nodes[newest as usize].newer = node;
        self.nodes[SENTINEL as usize].older = node;
        if let Some(deadline) = self.deadlines.get_mut(node as usize) {
            *deadline = None;
        }
    }

    /// Sorts the free list, so that the first slots are used again before the others, and forgets the free
    /// slots after the last used one.
    pub(super) fn compact(&mut self) {
        let mut is_used = vec![false; self.nodes.len()];
        let mut last = SENTINEL;
        let mut node = self.nodes.first().map_or(SENTINEL, |first| first.newer);
        while node != SENTINEL {
            is_used[node as usize] = true;
            last = last.max(node);
            node = self.nodes[node as usize].newer;
        }
        self.nodes.truncate(last as usize + 1);
        self.nodes.shrink_to_fit();
        self.deadlines.truncate(self.nodes.len());
        self.deadlines.shrink_to_fit();
        self.free = SENTINEL;
        for node in (1..=last).rev().filter(|node| !is_used[*node as usize]) {
            self.nodes[node as usize].newer = self.free;
            self.free = node;
        }
    }

    /// The used slot that was taken first.
    #[inline]
    pub(super) fn oldest(&self) -> Option<usize> {
        match self.nodes.first()?.newer {
            SENTINEL => None,
            oldest => Some(slot(oldest)),
        }
    }

    /// Gives a deadline to the newest slots: those that have none yet.
    pub(super) fn stamp(&mut self, deadline: Instant) {
        self.deadlines.resize(self.nodes.len(), None);
        let mut node = self.nodes.first().map_or(SENTINEL, |first| first.older);
        while node != SENTINEL && self.deadlines[node as usize].is_none() {
            self.deadlines[node as usize] = Some(deadline);
            node = self.nodes[node as usize].older;
        }
    }

    /// The deadline of a used slot.
    #[inline]
    pub(super) fn deadline(&self, slot: usize) -> Option<Instant> {
        *self.deadlines.get(node(slot) as usize)?
    }

    /// The deadline of the oldest slot, which is the first of all, and that slot.
    #[inline]
    pub(super) fn first_deadline(&self) -> Option<(Instant, usize)> {
        let oldest = self.oldest()?;
        Some((self.deadline(oldest)?, oldest))
    }
}

/// The slot of a node.
fn slot(node: u32) -> usize {
    node as usize - 1
}

/// The node of a slot.
fn node(slot: usize) -> u32 {
    slot as u32 + 1
}
