//! The budget of one poll: a number of source polls, and a length of time.
//!
//! A long poll delays the other tasks of its thread, and the timers and sockets of its runtime, and spends
//! the task's cooperative budget (tokio: 128 operations per poll). So a poll stops when its own budget is
//! spent, and the next poll continues.
//!
//! Runs can be nested: batches in `process_batch`, or a run inside a source of another run, behind any
//! combinator. The outermost poll on a thread opens a thread-local pool. Each run inside it takes its
//! budget from that pool.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Clock;
use crate::timer::Instant;

/// Source polls in one poll of a run. Tokio looks at its timers and sockets after 61 polls of tasks, so
/// more would delay them. The model of the tests knows no budget, and has up to 110 sources.
const POLLS: u32 = if cfg!(test) { 128 } else { 64 };

/// The least that a run takes from the pool.
const SHARE: u32 = POLLS / 4;

/// The length of a poll. A poll that takes longer ends after the current source.
const TIME: Duration = Duration::from_millis(1);

/// The number of source polls before the clock is read first: with deadlines, and without.
const FIRST_LOOK: [u32; 2] = [8, 32];

/// If source polls take longer than this on average, the clock is read after each.
const LONG: Duration = Duration::from_micros(20);

/// After this many short source polls in a row, a thread is expected to have short ones.
const TRUST: u32 = 128;

/// Numbers for threads.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static POOL: Pool = const { Pool::new() };
}

/// The pool of one thread.
struct Pool {
    /// Whether an outermost poll is in progress.
    is_open: Cell<bool>,
    /// Source polls left for the runs inside the outermost one.
    left: Cell<u32>,
    /// The end of the outermost poll. Unknown until the clock is read.
    ends: Cell<Option<Instant>>,
    /// The work of the runs inside the outermost one.
    inside: Cell<Work>,
    /// The number of source polls that are still timed one by one. A new thread starts with some, to
    /// notice long ones at once.
    timed: Cell<u32>,
    /// The number of outermost polls on this thread.
    ticks: Cell<u32>,
    /// The number of this thread, or 0 if it has none yet.
    thread: Cell<u64>,
}

/// A reading of the poll counter of a thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    thread: u64,
    ticks: u32,
}

impl Ticks {
    /// Reads the counter of this thread.
    pub(super) fn now() -> Self {
        POOL.with(|pool| {
            if pool.thread.get() == 0 {
                pool.thread.set(NEXT_THREAD.fetch_add(1, Ordering::Relaxed));
            }
            Self {
                thread: pool.thread.get(),
                ticks: pool.ticks.get(),
            }
        })
    }

    /// The number of polls since an earlier reading, including the current one. The polls of another
    /// thread are unknown, so they count as one.
    pub(super) fn since(self, earlier: Self) -> u32 {
        match self.thread == earlier.thread {
            true => self.ticks.wrapping_sub(earlier.ticks).max(1),
            false => 1,
        }
    }
}

/// An amount of work: polls of sources, and their outcomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) polls: u32,
    pub(super) outcomes: u32,
}

impl Work {
    pub(super) const NONE: Self = Self {
        polls: 0,
        outcomes: 0,
    };

    pub(super) fn add(self, other: Self) -> Self {
        Self {
            polls: self.polls.saturating_add(other.polls),
            outcomes: self.outcomes.saturating_add(other.outcomes),
        }
    }

    /// The work since an earlier reading.
    #[inline]
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            polls: self.polls.saturating_sub(earlier.polls),
            outcomes: self.outcomes.saturating_sub(earlier.outcomes),
        }
    }

    /// Whether at least half of the polls had an outcome.
    pub(super) fn is_productive(self) -> bool {
        self.outcomes > 0 && 2 * self.outcomes >= self.polls
    }
}

impl Pool {
    const fn new() -> Self {
        Self {
            is_open: Cell::new(false),
            left: Cell::new(0),
            ends: Cell::new(None),
            inside: Cell::new(Work::NONE),
            timed: Cell::new(TRUST),
            ticks: Cell::new(0),
            thread: Cell::new(0),
        }
    }

    /// Begins a poll. Returns how many source polls it has. If it is not the outermost poll, also returns the
    /// work of the runs inside that one so far.
    #[inline(always)]
    fn open(&self) -> (u32, Option<Work>) {
        if self.is_open.replace(true) {
            return (self.take_share(), Some(self.inside.get()));
        }
        self.ticks.set(self.ticks.get().wrapping_add(1));
        self.left.set(POLLS);
        self.ends.set(None);
        self.inside.set(Work::NONE);
        (POLLS, None)
    }

    /// Takes the share of one run: half of what is left, but at least [`SHARE`] while there is that
    /// much. It is at least one, because an executor inside a source may poll a run to its end within
    /// one poll.
    fn take_share(&self) -> u32 {
        let left = self.left.get();
        let share = left.div_ceil(2).max(SHARE).min(left);
        self.left.set(left - share);
        share.max(1)
    }

    /// Notes the length of some source polls.
    fn note(&self, are_long: bool, polls: u32) {
        let timed = match are_long {
            true => TRUST,
            false => self.timed.get().saturating_sub(polls),
        };
        self.timed.set(timed);
    }
}

/// The budget of one poll. Dropping it ends the poll.
pub struct Budget<'a> {
    /// The clock of the run.
    clock: &'a dyn Clock,
    /// Source polls left until the next reading of the clock.
    left: u32,
    /// Source polls left after that.
    later: u32,
    /// The number of source polls made when the clock is read next.
    planned: u32,
    /// The number of source polls made when the clock was last read.
    looked_after: u32,
    /// The last reading of the clock.
    looked_at: Option<Instant>,
    /// Whether the poll has taken as long as it may.
    is_time_up: bool,
    /// Source polls reserved for new sources.
    reserved: u32,
    /// Whether the budget is spent on source polls, so that their length can be measured.
    is_for_sources: bool,
    /// The outcomes of this run in this poll.
    outcomes: u32,
    /// The work of the runs inside the outermost one before this poll. `None` for the outermost one.
    before: Option<Work>,
}

impl<'a> Budget<'a> {
    /// Begins a poll. A run with deadlines passes the time.
    #[inline(always)]
    pub(super) fn open(now: Option<Instant>, clock: &'a dyn Clock) -> Self {
        let is_timed = POOL.with(|pool| pool.timed.get() > 0);
        // Before the pool is open, because the clock may panic.
        let looked_at = match is_timed {
            true => now.or_else(|| Some(clock.now())),
            false => now,
        };
        let (polls, before) = POOL.with(Pool::open);
        let planned = match is_timed {
            true => 1,
            false => FIRST_LOOK[usize::from(now.is_none())].min(polls),
        };
        Self {
            clock,
            left: planned,
            later: polls - planned,
            planned,
            looked_after: 0,
            looked_at,
            is_time_up: false,
            reserved: 0,
            is_for_sources: true,
            outcomes: 0,
            before,
        }
    }

    /// From now on the budget is spent on other work, and the clock is read each time.
    pub(super) fn leave_sources(&mut self) {
        if std::mem::replace(&mut self.is_for_sources, false) {
            let untimed = self.left.saturating_sub(1);
            self.left -= untimed;
            self.planned -= untimed;
            self.later += untimed;
        }
    }

    /// Whether another source may be polled. Reads the clock now and then.
    #[inline]
    pub(crate) fn has_more(&mut self) -> bool {
        self.left > 0 || self.look()
    }

    /// Whether there is budget left for runs inside this one. Without it each run gets one source poll.
    pub(super) fn has_share(&self) -> bool {
        POOL.with(|pool| pool.left.get() > 0)
    }

    /// Reads the clock, and allows more source polls unless the time is up.
    #[cold]
    #[inline(never)]
    fn look(&mut self) -> bool {
        if self.later == 0 || self.is_time_up {
            return false;
        }
        let now = self.clock.now();
        POOL.with(|pool| {
            let before = self.looked_at.unwrap_or(now);
            if self.is_for_sources && self.looked_at.is_some() {
                let polls = self.planned - self.looked_after + self.inside().polls;
                pool.note(now > before + LONG * polls.max(1), polls);
            }
            let ends = pool.ends.get().unwrap_or_else(|| before + TIME);
            pool.ends.set(Some(ends));
            self.looked_at = Some(now);
            self.looked_after = self.planned;
            self.is_time_up = now >= ends;
            let is_timed = pool.timed.get() > 0 || !self.is_for_sources;
            let polls = match (self.is_time_up, is_timed) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => (4 * self.planned).min(self.later),
            };
            self.left = polls;
            self.later -= polls;
            self.planned += polls;
            polls > 0
        })
    }

    /// Whether the poll has taken as long as it may.
    pub(super) fn is_time_up(&self) -> bool {
        self.is_time_up
    }

    /// The clock of the run.
    pub(crate) fn clock(&self) -> &'a dyn Clock {
        self.clock
    }

    /// The last reading of the clock in this poll.
    pub(super) fn looked_at(&self) -> Option<Instant> {
        self.looked_at
    }

    /// Spends the budget of one source poll, or of work of its size.
    #[inline]
    pub(crate) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// The number of source polls spent.
    #[inline]
    pub(super) fn spent(&self) -> u32 {
        self.planned - self.left
    }

    /// Reserves a quarter of the budget for new sources.
    pub(super) fn reserve(&mut self) {
        let reserved = (self.left + self.later) / 4;
        let from_left = reserved.saturating_sub(self.later);
        self.later -= reserved - from_left;
        self.left -= from_left;
        self.planned -= from_left;
        self.reserved = reserved;
    }

    /// Releases the reserve.
    pub(super) fn release(&mut self) {
        self.later += std::mem::take(&mut self.reserved);
    }

    /// Counts an outcome.
    #[inline]
    pub(super) fn note_outcome(&mut self) {
        self.outcomes += 1;
    }

    /// Whether nothing has been spent.
    pub(super) fn is_fresh(&self) -> bool {
        self.spent() == 0
    }

    /// The work of the runs inside this one, in this poll.
    #[inline]
    pub(super) fn inside(&self) -> Work {
        let inside = POOL.with(|pool| pool.inside.get());
        inside.since(self.before.unwrap_or(Work::NONE))
    }

    /// The work of this run and of those inside it, in this poll.
    pub(super) fn work(&self) -> Work {
        self.inside().add(self.own())
    }

    /// The work of this run alone, in this poll.
    fn own(&self) -> Work {
        Work {
            polls: self.spent(),
            outcomes: self.outcomes,
        }
    }

    /// The outcomes of this run in this poll.
    pub(super) fn outcomes(&self) -> u32 {
        self.outcomes
    }

    /// Whether this poll is inside the poll of another run.
    pub(super) fn is_nested(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Budget<'_> {
    #[inline]
    fn drop(&mut self) {
        POOL.with(|pool| {
            if !self.is_nested() {
                pool.is_open.set(false);
                return;
            }
            pool.inside.set(pool.inside.get().add(self.own()));
            // A run may have spent one source poll more than the pool had.
            let left = pool.left.get() + self.left + self.later;
            pool.left.set(left.min(POLLS));
        });
    }
}
