//! The rule of an adaptive limit: from what happens to sources to the number that may be in flight.
//!
//! It is pure: no lock, no clock, no waker. A [`Limit`](super::Limit) holds it under its mutex, tells it of
//! every start and every end, and takes the number from it.
//!
//! The rule compares two latencies. The *base* is the latency of a server without a queue. To measure it, the
//! rule halves the limit for a short time: a *dip*. Between dips it looks at *windows* of outcomes, and moves
//! the limit by the ratio of the base to the latency in the window.
//!
//! - A mean of latencies is geometric, so that sources of very different lengths do not hide a queue.
//! - A dip waits for all of the first sources that start in it. The first ones to end would be the short ones.
//! - The limit grows only while the caller uses it, and never on errors.

mod dip;
mod random;
#[cfg(test)]
mod tests;
mod window;

use std::ops::RangeInclusive;

use dip::Dip;
use random::Random;
use window::{Level, MOST_BAD, Window};

use crate::timer::Instant;

/// Where the limit begins, if that is within its range.
const FIRST_LIMIT: f64 = 4.0;
/// The variance of the logarithm of latencies, until it is known.
const FIRST_VARIANCE: f64 = 0.36;
/// The part of bad outcomes above which the server is down, so that the limit may grow fast afterwards.
const OUTAGE: f64 = 0.9;
/// What an overload makes of the limit.
const FALL: f64 = 0.7;
/// How much the limit grows in each window at first.
const RAMP: f64 = 1.5;
/// Where the ratio of the base to the latency ends that.
const RAMP_END: f64 = 0.9;
/// A change of the base in one dip, as a logarithm, up to which it may be noise.
const NOISE: f64 = 0.4;
/// The part of such a change that counts.
const DAMPING: f64 = 0.35;
/// The time between two dips, in latencies and in lengths of a dip.
const DIP_EVERY: (f64, f64) = (200.0, 25.0);
/// So many dips come sooner.
const EARLY_DIPS: u32 = 3;
/// How much sooner.
const EARLIER: f64 = 4.0;
/// How much sooner a dip comes after one that has found quite another base.
const SOONEST: f64 = 10.0;
/// After so many windows in a row with twice the base, the base is in doubt.
const SLOW_WINDOWS: u32 = 5;
/// The base is not in doubt for so many latencies after a dip.
const TRUST: f64 = 50.0;

/// How a source has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With an answer.
    Answer,
    /// With an error that says nothing about the load of the server.
    Error,
    /// It has run into its own timeout.
    TimedOut,
    /// With an outcome that the caller takes as a sign of overload.
    Overload,
    /// It was dropped before it had answered.
    Dropped,
}

/// A source that has started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// How many have started before it.
    number: u64,
    at: Instant,
}

/// The state of the rule. Times are in seconds, latencies are logarithms of seconds.
#[derive(Debug)]
pub(crate) struct Adaptive {
    least: f64,
    most: f64,
    /// The limit, which is rounded when it is used.
    limit: f64,
    /// The last instant of which the rule was told.
    last: Option<Instant>,
    /// That as a time.
    now: f64,
    /// The number of sources that have started.
    starts: u64,
    /// The number of the last one that took the last place.
    last_full: Option<u64>,
    /// The results of the last two dips, the later one first. The base is the smaller one.
    bases: [Option<f64>; 2],
    /// The variance of latencies.
    variance: f64,
    /// The latency in the last window.
    latency: Option<f64>,
    /// Whether the limit grows fast.
    is_ramping: bool,
    /// Before this time, outcomes say nothing about the limit, which has just fallen.
    rests_until: f64,
    /// The number of dips so far.
    dips: u32,
    /// When the last dip ended.
    last_dip: f64,
    /// When the next one comes.
    next_dip: f64,
    /// Whether the next dip replaces the base, which seems to be too small.
    is_doubted: bool,
    /// Whether the limit was half of what it was one dip before when the last dip began.
    has_collapsed: bool,
    /// Whether the last dip has found quite another base. One dip may be wrong, and half of a limit that is far
    /// too high is still too high.
    is_changing: bool,
    /// Limit and latency before the last dip.
    before_dip: Option<Level>,
    /// The number of windows in a row with twice the base.
    slow_windows: u32,
    stage: Stage,
    random: Random,
}

#[derive(Debug)]
enum Stage {
    Window(Window),
    Dip(Dip),
}

impl Adaptive {
    pub(crate) fn new(range: &RangeInclusive<usize>) -> Self {
        let (least, most) = (*range.start() as f64, *range.end() as f64);
        let limit = FIRST_LIMIT.clamp(least, most);
        Self {
            least,
            most,
            limit,
            last: None,
            now: 0.0,
            starts: 0,
            last_full: None,
            bases: [None; 2],
            variance: FIRST_VARIANCE,
            latency: None,
            is_ramping: true,
            rests_until: 0.0,
            dips: 0,
            last_dip: 0.0,
            next_dip: 0.0,
            is_doubted: false,
            has_collapsed: false,
            is_changing: false,
            before_dip: None,
            slow_windows: 0,
            stage: Stage::Dip(Dip::first(limit, 0)),
            random: Random::new(),
        }
    }

    /// The limit, which is at least 1.
    pub(crate) fn limit(&self) -> usize {
        (self.limit + 0.5) as usize
    }

    /// Begins anew from a limit, as far as that is within the range. Returns the limit.
    pub(crate) fn restart(&mut self, limit: usize) -> usize {
        let range = self.least as usize..=self.most as usize;
        let limit = limit.clamp(*range.start(), *range.end());
        *self = Self {
            limit: limit as f64,
            last: self.last,
            now: self.now,
            starts: self.starts,
            stage: Stage::Dip(Dip::first(limit as f64, self.starts)),
            ..Self::new(&range)
        };
        limit
    }

    /// A source was refused. If it is heavy, that may be although fewer places are taken than the limit.
    pub(crate) fn note_full(&mut self) {
        self.last_full = self.starts.checked_sub(1);
    }

    /// A source starts. It is one of `in_use`.
    pub(crate) fn start(&mut self, at: Instant, in_use: usize) -> Start {
        let now = self.seconds(at);
        let number = self.starts;
        self.starts += 1;
        if in_use >= self.limit() {
            self.last_full = Some(number);
        }
        match &mut self.stage {
            Stage::Window(window) => window.start(in_use),
            Stage::Dip(dip) => dip.start(now),
        }
        self.check_dip();
        Start { number, at }
    }

    /// A source ends. The time is unknown if it was dropped with its run.
    pub(crate) fn end(&mut self, start: Start, ending: Ending, at: Option<Instant>) {
        let age = at.map(|at| at.saturating_duration_since(start.at));
        if let Some(at) = at {
            self.seconds(at);
        }
        let age = age.map(|age| age.as_secs_f64().max(1e-9).ln());
        let latency = match ending {
            Ending::Answer | Ending::TimedOut => age,
            Ending::Dropped => age.filter(|age| self.base().is_some_and(|base| *age > base)),
            Ending::Error | Ending::Overload => None,
        };
        let is_bad = matches!(ending, Ending::TimedOut | Ending::Overload);
        match &mut self.stage {
            Stage::Dip(dip) => dip.end(start.number, latency, is_bad, self.now),
            Stage::Window(window) => {
                let is_outcome = ending != Ending::Dropped || latency.is_some();
                if is_outcome && self.now >= self.rests_until {
                    // Sources may start together. Then only the last of them finds the limit full.
                    let was_full = self.last_full >= Some(start.number);
                    window.end(latency, is_bad, was_full);
                }
                if window.is_over() {
                    self.end_window();
                }
            }
        }
        self.check_dip();
    }

    /// The latency of a server without a queue.
    fn base(&self) -> Option<f64> {
        self.bases.into_iter().flatten().reduce(f64::min)
    }

    /// Notes the time. Runs with different clocks may share a limit. So time that goes back begins anew.
    fn seconds(&mut self, at: Instant) -> f64 {
        let before = self.last.replace(at).unwrap_or(at);
        self.now += at.saturating_duration_since(before).as_secs_f64();
        self.now
    }

    /// Ends a window, and moves the limit.
    fn end_window(&mut self) {
        let next = Window::new(self.limit, self.variance);
        let window = match std::mem::replace(&mut self.stage, Stage::Window(next)) {
            Stage::Window(window) => window,
            stage => {
                self.stage = stage;
                return;
            }
        };
        if let Some(latency) = window.latencies.mean() {
            self.latency = Some(latency);
            self.blend_variance(window.latencies.variance());
        }
        let bad = window.bad_part();
        if bad > MOST_BAD {
            self.is_ramping = bad > OUTAGE;
            self.fall();
            return;
        }
        let (Some(latency), Some(base)) = (window.latency(), self.base()) else {
            return;
        };
        if !window.is_used() {
            self.drift(latency, base, window.peak);
            return;
        }
        if self.is_in_doubt(latency, base) {
            self.is_doubted = true;
            self.begin_dip();
            return;
        }
        let ratio = (base - latency).exp().clamp(0.5, 1.0);
        self.is_ramping &= ratio >= RAMP_END;
        let limit = match self.is_ramping {
            true => RAMP * self.limit,
            false if window.has_bad() => ratio * self.limit,
            false => ratio * self.limit + self.limit.sqrt().max(0.5),
        };
        self.move_to(limit);
        if self.now >= self.next_dip {
            self.begin_dip();
        }
    }

    /// An overload.
    fn fall(&mut self) {
        self.move_to(FALL * self.limit);
        let latency = self.latency.or(self.base());
        self.rests_until = self.now + latency.map_or(0.0, f64::exp);
    }

    fn move_to(&mut self, limit: f64) {
        self.limit = limit.clamp(self.least, self.most);
        match &mut self.stage {
            Stage::Window(window) => *window = Window::new(self.limit, self.variance),
            Stage::Dip(dip) => dip.restore = self.limit,
        }
    }

    /// The caller uses little of the limit. Then there is no queue of its own, and latency is the base.
    fn drift(&mut self, latency: f64, base: f64, peak: usize) {
        if peak as f64 > self.limit / 2.0 {
            return;
        }
        let base = base + 0.1 * (latency - base);
        self.bases = [Some(base), None];
        self.plan_dip(0.0);
    }

    /// Whether the base is too small: the limit has fallen and the latency has not, or the latency stays
    /// high.
    fn is_in_doubt(&mut self, latency: f64, base: f64) -> bool {
        let is_slow = latency >= base + 2f64.ln();
        self.slow_windows = if is_slow { self.slow_windows + 1 } else { 0 };
        let is_trusted = self.now < self.last_dip + TRUST * latency.exp();
        let has_fallen = self.before_dip.is_some_and(|before| {
            self.limit < 0.4 * before.limit && latency > before.latency + 0.8f64.ln()
        });
        has_fallen || (self.slow_windows >= SLOW_WINDOWS && !is_trusted)
    }

    /// Halves the limit, to see the latency without a queue.
    fn begin_dip(&mut self) {
        self.slow_windows = 0;
        let latency = self.latency.or(self.base()).unwrap_or(0.0);
        let level = Level {
            limit: self.limit,
            latency,
        };
        let before = self.before_dip.replace(level);
        self.has_collapsed = before.is_some_and(|before| self.limit < 0.5 * before.limit);
        let dip = Dip::new(
            self.limit,
            self.starts,
            self.now,
            latency.exp(),
            self.variance,
        );
        self.limit = (self.limit / 2.0).max(self.least);
        self.stage = Stage::Dip(dip);
    }

    /// Ends a dip whose sources have all ended, or which takes too long.
    fn check_dip(&mut self) {
        let Stage::Dip(dip) = &self.stage else {
            return;
        };
        if !dip.is_over(self.now) {
            return;
        }
        let next = Window::new(dip.restore, self.variance);
        let Stage::Dip(dip) = std::mem::replace(&mut self.stage, Stage::Window(next)) else {
            return;
        };
        self.limit = dip.restore;
        let (length, bad) = (dip.length(self.now), dip.bad_part());
        match dip.finish(self.now) {
            Some(latencies) => self.learn(latencies.mean().unwrap_or(0.0), latencies.variance()),
            None if self.base().is_none() => {
                self.stage = Stage::Dip(Dip::first(self.limit, self.starts));
            }
            None => {}
        }
        self.dips += 1;
        self.last_dip = self.now;
        self.plan_dip(length);
        if bad > MOST_BAD {
            self.is_ramping = bad > OUTAGE;
            self.fall();
        }
    }

    /// Takes the result of a dip.
    fn learn(&mut self, found: f64, variance: f64) {
        let base = self.base();
        let later = match base {
            Some(base) if (found - base).abs() <= NOISE => base + DAMPING * (found - base),
            _ => found,
        };
        self.is_changing = base.is_some_and(|base| {
            found < base - NOISE || (self.has_collapsed && found > base + NOISE)
        });
        // Of a server that is farther away, more answers are under way.
        self.is_ramping |= base.is_some_and(|base| found > base + NOISE);
        self.random.mix(found);
        let is_doubted = std::mem::take(&mut self.is_doubted);
        self.bases = [Some(later), self.bases[0].filter(|_| !is_doubted)];
        self.blend_variance(variance);
        self.latency.get_or_insert(found);
    }

    fn plan_dip(&mut self, length: f64) {
        let latency = self.latency.or(self.base()).map_or(0.0, f64::exp);
        let every = (DIP_EVERY.0 * latency).max(DIP_EVERY.1 * length);
        let sooner = match self.dips <= EARLY_DIPS {
            _ if self.is_changing => SOONEST,
            true => EARLIER,
            false => 1.0,
        };
        self.next_dip = self.now + every / sooner * self.random.between(0.8, 1.2);
    }

    fn blend_variance(&mut self, variance: f64) {
        self.variance += 0.2 * (variance - self.variance);
    }
}
