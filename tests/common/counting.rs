//! An allocator that counts the allocations of each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Counting;

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts::ZERO) };
}

/// The allocations of a thread so far.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Allocations and reallocations.
    pub made: usize,
    /// Allocations that were not freed.
    pub live: isize,
    /// Their bytes.
    pub bytes: isize,
}

impl Counts {
    const ZERO: Self = Self {
        made: 0,
        live: 0,
        bytes: 0,
    };

    pub fn now() -> Self {
        COUNTS.get()
    }

    /// How many allocations were made since then.
    pub fn made_since(self) -> usize {
        Self::now().made - self.made
    }

    /// How many more bytes are allocated than at that time.
    pub fn bytes_since(self) -> isize {
        Self::now().bytes - self.bytes
    }
}

fn count(made: usize, live: isize, bytes: isize) {
    let so_far = COUNTS.get();
    COUNTS.set(Counts {
        made: so_far.made + made,
        live: so_far.live + live,
        bytes: so_far.bytes + bytes,
    });
}

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 1, layout.size() as isize);
        // SAFETY: as the caller guarantees.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -1, -(layout.size() as isize));
        // SAFETY: as the caller guarantees.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, 0, size as isize - layout.size() as isize);
        // SAFETY: as the caller guarantees.
        unsafe { System.realloc(memory, layout, size) }
    }
}
