//! Counts of what is alive in this process: sources, wakers, tasks, threads, and memory.

use std::alloc::System;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Handle;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

pub(crate) static SOURCES: Count = Count::new();
pub(crate) static WAKERS: Count = Count::new();

/// How many things of one kind are alive, and the maximum so far.
pub(crate) struct Count {
    alive: AtomicUsize,
    most: AtomicUsize,
}

impl Count {
    const fn new() -> Self {
        Self {
            alive: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    /// Counts one more, until the returned value is dropped.
    pub(crate) fn enter(&'static self) -> Alive {
        let alive = self.alive.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(alive, Ordering::Relaxed);
        Alive(self)
    }

    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

pub(crate) struct Alive(&'static Count);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is alive at one moment. Threads and resident memory are not known on every system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) sources: usize,
    /// Wakers of tasks. All clones of a waker count as one.
    pub(crate) wakers: usize,
    pub(crate) tasks: usize,
    pub(crate) threads: Option<usize>,
    pub(crate) allocations: usize,
    pub(crate) allocated_bytes: usize,
    pub(crate) resident_bytes: Option<usize>,
}

impl Census {
    /// Counts everything. It has to be called in a runtime.
    pub(crate) fn take() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stats = ALLOCATOR.stats();
        Self {
            sources: SOURCES.alive.load(Ordering::Relaxed),
            wakers: WAKERS.alive.load(Ordering::Relaxed),
            tasks: Handle::current().metrics().num_alive_tasks(),
            threads: field(&status, "Threads:"),
            // Allocations are read before deallocations, so the difference could be negative.
            allocations: stats.allocations.saturating_sub(stats.deallocations),
            allocated_bytes: stats
                .bytes_allocated
                .saturating_sub(stats.bytes_deallocated),
            resident_bytes: field(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024),
        }
    }

    /// The resident memory of the process if it is known, or else the allocated memory.
    pub(crate) fn memory(&self) -> usize {
        self.resident_bytes.unwrap_or(self.allocated_bytes)
    }

    /// Whether no source, no waker and no task is alive.
    pub(crate) fn is_at_rest(&self) -> bool {
        (self.sources, self.wakers, self.tasks) == (0, 0, 0)
    }
}

fn field(status: &str, name: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
