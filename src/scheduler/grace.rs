//! How long a run waits between a deadline and its effect. Plain bookkeeping: nothing is polled here.
//!
//! An answer that arrived before the deadline may not have reached its source yet, for two reasons:
//!
//! - The thread was busy, or the process was stopped. The alarm comes from the timer thread, so the run
//!   may be polled before the runtime has polled its sockets and timers.
//! - Other sources have spent the cooperative budget of the task (tokio: 128 operations per poll). The
//!   runtime refuses further operations, and wakes those sources later.
//!
//! So a run that is on time waits only for sources that may have been refused. A run that is late
//! first gives the runtime a turn.

use std::time::Duration;

use super::budget::{Ticks, Work};
use crate::timer::{Instant, TimerKind};

/// A poll is late if it begins this long after a deadline.
pub(super) const LATE: Duration = Duration::from_millis(1);

/// How long a run waits without an outcome. A late run waits longer, see [`LATENESS_PART`].
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// A late run waits this part of its lateness without an outcome, up to [`MOST_PATIENCE`]. After a long
/// stall all threads of a runtime compete for the processor, and the one that polls the sockets may
/// come last.
const LATENESS_PART: u32 = 8;
const MOST_PATIENCE: Duration = Duration::from_millis(15);

/// Timers of runtimes are exact to a few milliseconds. A poll that is late by no more does not show that
/// the thread was busy.
const COARSE: Duration = Duration::from_millis(8);

/// How long a run waits whose deadline is a future of the caller. If a worker has refused a source, it
/// may be some milliseconds before that worker is scheduled, while another one polls the run.
pub(super) const FUTURE_PATIENCE: Duration = Duration::from_millis(4);

/// The most time from the last outcome on, and in all. There are two exceptions. A late run may take as
/// long as it was late, up to [`MOST_LIMIT`]. A run with more woken sources than budget goes on while
/// most of those it polls have their answers.
pub(super) const LIMIT: Duration = Duration::from_millis(20);
const MOST_LIMIT: Duration = Duration::from_millis(100);

/// A late run has at least this many polls, whatever their distance: its thread may be busy.
const LEAST_POLLS: u32 = 3;

/// This many polls without an outcome are a turn of the runtime: tokio polls its sockets and timers
/// after 61 polls of tasks, if it never idles.
pub(super) const TURN: u32 = 64;

/// The most polls of sources without an outcome, unless the run is late.
const MOST_SOURCE_POLLS: u32 = 128;

/// The most polls without an outcome. It is reached only if the clock stands still, as in tests.
pub(super) const MOST_POLLS: u32 = 4096;

/// Whether a run noticed its deadline in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    OnTime,
    Late,
    /// The deadline is a future of the caller, which does not say when it was due.
    Unknown,
}

/// The time between a deadline and its effect.
#[derive(Debug)]
pub(super) struct Grace {
    /// Deadlines of sources up to this time are covered.
    pub(super) due: Instant,
    /// Whether the deadline of the run is covered. Then no source starts any more.
    pub(super) covers_run: bool,
    /// Whether the deadline was noticed in time.
    arrival: Arrival,
    /// Whether the current sweep, or the one that just ended, began after the deadline.
    pub(super) is_last_sweep: bool,
    /// Whether the runtime may have refused a source.
    may_be_refused: bool,
    /// First wait for the alarm of this time: when it has gone off, the runtime has polled its sockets.
    waits_for_alarm: Option<Instant>,
    /// How long to wait without an outcome.
    patience: Duration,
    /// The end of that wait. Set when the last sweep has ended.
    waits_until: Option<Instant>,
    /// Polls of the run without an outcome, since that wait.
    idle_polls: u32,
    /// Polls of sources in those.
    idle_source_polls: u32,
    /// Polls of the run.
    polls: u32,
    /// When the grace ends if no more outcomes come.
    pub(super) ends: Instant,
    /// When the grace ends although outcomes come.
    ends_for_certain: Instant,
    /// Whether the grace has ended.
    pub(super) is_over: bool,
    /// Polls and outcomes of the covered sources, in this poll.
    covered: Work,
    /// Whether runs inside the covered sources had outcomes in this poll.
    has_inner_outcome: bool,
    /// The polls of all runs on this thread, when the wait began.
    ticks: Ticks,
}

/// A poll of a run, after its sources were polled.
pub(super) struct Polled {
    pub(super) now: Instant,
    /// The time of the latest alarm that has gone off.
    pub(super) slept_until: Option<Instant>,
    /// Whether the runtime may have refused a source.
    pub(super) may_be_refused: bool,
    /// Whether the sweep has ended.
    pub(super) is_swept: bool,
    /// Whether a source was woken since.
    pub(super) is_woken: bool,
    /// Whether the sources are runs, which need several polls for their work.
    pub(super) are_runs: bool,
    /// Whether outcomes wait that could be passed on.
    pub(super) can_flush: bool,
    /// Whether the poll has taken as long as it may.
    pub(super) is_time_up: bool,
    /// Polls of sources in this poll.
    pub(super) source_polls: u32,
}

/// What follows a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another poll at once.
    Again,
    /// The next wake, or a poll at this time.
    WaitUntil(Instant),
    /// The effect of the deadline.
    Over,
}

impl Grace {
    pub(super) fn new(now: Instant, covers_run: bool, arrival: Arrival) -> Self {
        Self {
            due: now,
            covers_run,
            arrival,
            is_last_sweep: arrival == Arrival::Late,
            may_be_refused: false,
            waits_for_alarm: None,
            patience: match arrival {
                Arrival::Unknown => FUTURE_PATIENCE,
                Arrival::OnTime | Arrival::Late => PATIENCE,
            },
            waits_until: None,
            idle_polls: 0,
            idle_source_polls: 0,
            polls: 0,
            ends: now + LIMIT,
            ends_for_certain: now + LIMIT,
            is_over: false,
            covered: Work::NONE,
            has_inner_outcome: false,
            ticks: Ticks::now(),
        }
    }

    /// The grace of a run that is late.
    pub(super) fn late(
        now: Instant,
        covers_run: bool,
        lateness: Duration,
        kind: TimerKind,
    ) -> Self {
        let is_runtime = kind == TimerKind::Runtime;
        let patience = match is_runtime && lateness < COARSE {
            true => Duration::ZERO,
            false => (lateness / LATENESS_PART).clamp(PATIENCE, MOST_PATIENCE),
        };
        Self {
            waits_for_alarm: is_runtime.then(|| now - lateness),
            patience,
            ends_for_certain: now + lateness.clamp(LIMIT, MOST_LIMIT),
            ..Self::new(now, covers_run, Arrival::Late)
        }
    }

    /// The grace after a panic, which may have ended the last poll before it came to the deadline.
    pub(super) fn after_panic(now: Instant) -> Self {
        Self {
            ends: now + PATIENCE,
            ..Self::new(now, true, Arrival::OnTime)
        }
    }

    /// Whether the run noticed its deadline late.
    pub(super) fn is_late(&self) -> bool {
        self.arrival == Arrival::Late
    }

    /// Notes a poll of a covered source, and the work of the runs inside it.
    pub(super) fn note_covered(&mut self, own: Work, inside: Work, is_run: bool) {
        self.covered = self.covered.add(own);
        if is_run {
            self.covered = self.covered.add(inside);
        } else if self.covers_run {
            self.has_inner_outcome |= inside.outcomes > 0;
        }
    }

    /// Decides what follows a poll.
    pub(super) fn judge(&mut self, polled: &Polled) -> Verdict {
        if self.is_over {
            return Verdict::Over;
        }
        let now = polled.now;
        self.polls += 1;
        if self.idle_polls > 0 {
            self.idle_source_polls += polled.source_polls;
        }
        self.may_be_refused |= polled.may_be_refused;
        let covered = std::mem::replace(&mut self.covered, Work::NONE);
        let has_inner_outcome = std::mem::take(&mut self.has_inner_outcome);
        let has_outcome = covered.outcomes > 0 || has_inner_outcome;
        let has_more = polled.are_runs && polled.is_woken;
        let is_productive = covered.is_productive() && (has_more || !polled.is_swept);
        self.note_outcomes(now, is_productive, has_outcome);

        // Sources whose polls are as long as a poll may be get one after the deadline, not more.
        let was_long = self.polls > 1 && polled.is_time_up && polled.source_polls <= 2;
        let is_late = self.is_late();
        let is_too_long = was_long && !is_late && !has_outcome;
        let least_polls = if is_late { LEAST_POLLS } else { 1 };
        if (now >= self.ends || is_too_long) && self.polls >= least_polls {
            self.is_over = true;
            return Verdict::Over;
        }

        // The last sweep comes first, and then the outcomes that it has set off.
        let is_sweeping = !polled.is_swept && (is_late || self.waits_until.is_none());
        let goes_on = is_productive || has_inner_outcome && polled.is_woken || polled.can_flush;
        if is_sweeping || goes_on {
            return Verdict::Again;
        }

        // The runtime polls its sockets and its timer in the same turn.
        if let Some(alarm) = self.waits_for_alarm {
            if polled.slept_until < Some(alarm) {
                return Verdict::WaitUntil(alarm);
            }
        }

        // A late run rests until no outcome has come for some time.
        if self.waits_until.is_none() {
            self.ticks = Ticks::now();
        }
        let next = now + self.patience;
        let waits_until = *self.waits_until.get_or_insert(next);
        // Polls of other runs on this thread are polls of tasks, too.
        let idle_polls = Ticks::now().since(self.ticks).max(self.idle_polls);
        let has_turns = idle_polls < TURN;
        if is_late && self.idle_polls == 0 && !self.patience.is_zero() {
            if now < waits_until {
                return Verdict::WaitUntil(waits_until);
            }
            if now >= waits_until + LATE && has_turns {
                // The alarm was late, so the thread was busy again.
                self.waits_until = Some(next);
                return Verdict::WaitUntil(next);
            }
        }

        // Then polls at once give the runtime its turn.
        let has_time = now < waits_until;
        let is_cheap = self.idle_source_polls < MOST_SOURCE_POLLS;
        let is_waiting = match self.arrival {
            Arrival::Late => has_turns,
            Arrival::OnTime => has_time && has_turns && is_cheap,
            // The worker that has refused a source may wake it while another worker polls the run, so
            // polls alone do not show that it had its turn.
            Arrival::Unknown => (has_time && self.idle_polls < MOST_POLLS || has_turns) && is_cheap,
        };
        if is_waiting && (is_late || self.may_be_refused || has_more) {
            self.idle_polls += 1;
            return Verdict::Again;
        }
        // The runtime has had its turn, also for the deadlines that passed in the meantime.
        self.due = now;
        self.is_over = true;
        Verdict::Over
    }

    /// Outcomes put off the end, and the wait begins anew.
    fn note_outcomes(&mut self, now: Instant, is_productive: bool, has_outcome: bool) {
        if is_productive {
            self.ends = now + LIMIT;
            self.ends_for_certain = self.ends_for_certain.max(self.ends);
        } else if has_outcome {
            self.ends = self.ends_for_certain.min(now + LIMIT);
        }
        if is_productive || has_outcome && self.arrival != Arrival::OnTime {
            self.waits_until = None;
            self.idle_polls = 0;
            self.idle_source_polls = 0;
        }
    }
}
