//! The budget of one poll: a number of source polls, and a length of time.
//!
//! A poll that does too much keeps the other tasks of its thread waiting, and uses up what the
//! runtime grants to a task (tokio: 128 operations for each poll of a task). So a poll stops when
//! its budget is spent, and the rest is done in the next one.
//!
//! Runs can be nested: batches in `process_batch`, or a run inside a source of another run, behind
//! any combinator. The outermost poll on a thread opens a pool, and each run polled inside it takes
//! its budget out of that pool.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::{self, Instant};

/// Source polls in one poll of a run.
pub(super) const POLLS: u32 = 128;

/// The least share of a pool that a run takes.
const SHARE: u32 = 32;

/// How long a poll may take. A poll that is over it ends after the source that is being polled.
const TIME: Duration = Duration::from_millis(1);

/// After how many source polls the clock is read first, in a run with deadlines and in one without.
const FIRST_LOOK: [u32; 2] = [8, 32];

/// Source polls that take longer than this on average are timed one by one.
const LONG: Duration = Duration::from_micros(20);

/// No more source polls than this are made without a look at the clock.
const MOST_UNTIMED: u32 = 96;

/// How many short source polls in a row it takes to trust a thread to have short ones.
const TRUST: u32 = 128;

/// Numbers for threads.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static POOL: Pool = const { Pool::new() };
}

/// What the polls of one thread share.
struct Pool {
    /// Whether a poll is going on.
    is_open: Cell<bool>,
    /// Source polls left for the runs inside the outermost one.
    left: Cell<u32>,
    /// When the time of the outermost poll is up. It is not known before the clock is read.
    ends: Cell<Option<Instant>>,
    /// What the runs inside the outermost one did.
    inside: Cell<Work>,
    /// How many source polls have still to be timed one by one. A thread starts with some, so that
    /// long ones are noticed at once.
    timed: Cell<u32>,
    /// How many outermost polls there were on this thread.
    ticks: Cell<u32>,
    /// The number of this thread, once it was asked for.
    thread: Cell<u64>,
}

/// How many polls of runs a thread has seen.
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

    /// How many polls there were since an earlier reading, and at least one: that of the caller. Those
    /// of another thread are not known.
    pub(super) fn since(self, earlier: Self) -> u32 {
        match self.thread == earlier.thread {
            true => self.ticks.wrapping_sub(earlier.ticks).max(1),
            false => 1,
        }
    }
}

/// Source polls, and outcomes.
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

    /// What was done since an earlier look at the same work.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            polls: self.polls.saturating_sub(earlier.polls),
            outcomes: self.outcomes.saturating_sub(earlier.outcomes),
        }
    }

    /// Whether most of the sources that were polled had their answers.
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

    /// Takes a share for one run: half of what is left, but no less than it takes to be worth the
    /// while. It is at least one, so that a run inside a source that is driven to its end within one
    /// poll gets there.
    fn take_share(&self) -> u32 {
        let left = self.left.get();
        let share = left.div_ceil(2).max(SHARE).min(left);
        self.left.set(left - share);
        share.max(1)
    }

    /// Learns whether some source polls were long.
    fn note(&self, are_long: bool, polls: u32) {
        let timed = match are_long {
            true => TRUST,
            false => self.timed.get().saturating_sub(polls),
        };
        self.timed.set(timed);
    }
}

/// What is left of the budget of one poll. Dropping it ends the poll.
#[derive(Debug)]
pub struct Budget {
    /// Source polls left until the clock is read.
    left: u32,
    /// Source polls left after that.
    later: u32,
    /// Source polls that will have been made when the clock is read.
    planned: u32,
    /// Source polls that had been made when the clock was last read.
    looked_after: u32,
    /// What the clock said then.
    looked_at: Option<Instant>,
    is_time_up: bool,
    /// Source polls that are kept for new sources.
    reserved: u32,
    /// Whether what is spent tells how long source polls take.
    is_for_sources: bool,
    /// Outcomes of this run.
    outcomes: u32,
    /// What the runs inside the outermost one had done before this poll, unless this is the
    /// outermost one.
    before: Option<Work>,
}

impl Budget {
    /// Begins a poll at `now`, which is known for a run with deadlines.
    #[inline]
    pub(super) fn open(now: Option<Instant>) -> Self {
        POOL.with(|pool| {
            let is_outermost = !pool.is_open.replace(true);
            let polls = if is_outermost {
                pool.ticks.set(pool.ticks.get().wrapping_add(1));
                pool.left.set(POLLS);
                pool.ends.set(None);
                pool.inside.set(Work::NONE);
                POLLS
            } else {
                pool.take_share()
            };
            let mut budget = Self {
                left: FIRST_LOOK[usize::from(now.is_none())].min(polls),
                later: 0,
                planned: 0,
                looked_after: 0,
                looked_at: now,
                is_time_up: false,
                reserved: 0,
                is_for_sources: true,
                outcomes: 0,
                before: (!is_outermost).then(|| pool.inside.get()),
            };
            if pool.timed.get() > 0 {
                budget.left = 1;
                budget.looked_at = now.or_else(|| Some(clock::now()));
            }
            budget.later = polls - budget.left;
            budget.planned = budget.left;
            budget
        })
    }

    /// From now on the budget is spent on something else, and the clock is read each time.
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

    /// Whether there is anything left for runs inside this one. Each is granted one source poll all
    /// the same.
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
        let now = clock::now();
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
                (false, false) => (4 * self.planned).min(MOST_UNTIMED).min(self.later),
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

    /// What the clock said when it was last read in this poll.
    pub(super) fn looked_at(&self) -> Option<Instant> {
        self.looked_at
    }

    /// Pays for one source poll, or for work of its size.
    #[inline]
    pub(crate) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// How much was spent.
    #[inline]
    pub(super) fn spent(&self) -> u32 {
        self.planned - self.left
    }

    /// Reserves a quarter of the budget for new sources, so that those in flight cannot use it up.
    pub(super) fn reserve(&mut self) {
        let reserved = (self.left + self.later) / 4;
        let from_left = reserved.saturating_sub(self.later);
        self.later -= reserved - from_left;
        self.left -= from_left;
        self.planned -= from_left;
        self.reserved = reserved;
    }

    /// Gives back what was reserved, if anything was.
    pub(super) fn release(&mut self) {
        self.later += std::mem::take(&mut self.reserved);
    }

    /// Counts an outcome.
    #[inline]
    pub(super) fn note_outcome(&mut self) {
        self.outcomes += 1;
    }

    /// Whether nothing was spent yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.spent() == 0
    }

    /// What was done in this poll by runs inside this one.
    pub(super) fn inside(&self) -> Work {
        let inside = POOL.with(|pool| pool.inside.get());
        inside.since(self.before.unwrap_or(Work::NONE))
    }

    /// What was done in this poll, by runs inside this one too.
    pub(super) fn work(&self) -> Work {
        self.inside().add(self.own())
    }

    /// What was done in this poll, but for runs inside this one.
    fn own(&self) -> Work {
        Work {
            polls: self.spent(),
            outcomes: self.outcomes,
        }
    }

    /// Outcomes of this run in this poll.
    pub(super) fn outcomes(&self) -> u32 {
        self.outcomes
    }

    /// Whether this poll is part of another run's poll.
    pub(super) fn is_nested(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Budget {
    #[inline]
    fn drop(&mut self) {
        POOL.with(|pool| {
            if !self.is_nested() {
                pool.is_open.set(false);
                return;
            }
            pool.inside.set(pool.inside.get().add(self.own()));
            // One source poll may have been granted beyond what was there.
            let left = pool.left.get() + self.left + self.later;
            pool.left.set(left.min(POLLS));
        });
    }
}
