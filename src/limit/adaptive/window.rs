//! Outcomes at one limit.

/// The part of bad outcomes in a window above which the limit falls.
pub(super) const MOST_BAD: f64 = 0.1;

/// The least and the most outcomes of a window.
const SIZES: (f64, f64) = (12.0, 160.0);

/// The standard error of a mean of latencies that a window or a dip aims at.
const PRECISION: f64 = 0.12;

/// The number of latencies whose mean is so precise.
pub(super) fn samples(variance: f64) -> f64 {
    variance / (PRECISION * PRECISION)
}

/// A limit, and the latency at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) limit: f64,
    pub(super) latency: f64,
}

/// Mean and variance of some latencies.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Latencies {
    count: u32,
    mean: f64,
    /// The sum of the squares of the distances from the mean.
    squares: f64,
}

impl Latencies {
    pub(super) fn add(&mut self, latency: f64) {
        self.count += 1;
        let distance = latency - self.mean;
        self.mean += distance / f64::from(self.count);
        self.squares += distance * (latency - self.mean);
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    pub(super) fn variance(&self) -> f64 {
        self.squares / f64::from(self.count.max(2) - 1)
    }
}

/// The outcomes since the limit was last looked at.
#[derive(Debug)]
pub(super) struct Window {
    /// It is over with so many outcomes.
    size: u32,
    outcomes: u32,
    bad: u32,
    pub(super) latencies: Latencies,
    /// The outcomes of sources in whose time the limit was full.
    full: u32,
    /// The most sources in flight.
    pub(super) peak: usize,
}

impl Window {
    pub(super) fn new(limit: f64, variance: f64) -> Self {
        let size = samples(variance).min(4.0 * limit).max(2.0 * limit);
        Self {
            size: size.clamp(SIZES.0, SIZES.1) as u32,
            outcomes: 0,
            bad: 0,
            latencies: Latencies::default(),
            full: 0,
            peak: 0,
        }
    }

    pub(super) fn start(&mut self, in_use: usize) {
        self.peak = self.peak.max(in_use);
    }

    pub(super) fn end(&mut self, latency: Option<f64>, is_bad: bool, was_full: bool) {
        self.outcomes += 1;
        self.full += u32::from(was_full);
        self.bad += u32::from(is_bad);
        if let Some(latency) = latency {
            self.latencies.add(latency);
        }
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.outcomes >= self.size
    }

    pub(super) fn has_bad(&self) -> bool {
        self.bad > 0
    }

    pub(super) fn bad_part(&self) -> f64 {
        f64::from(self.bad) / f64::from(self.outcomes.max(1))
    }

    /// The latency, unless most outcomes are errors, which are no sign that there is room.
    pub(super) fn latency(&self) -> Option<f64> {
        let is_known = self.latencies.count() * 2 >= self.outcomes;
        self.latencies.mean().filter(|_| is_known)
    }

    /// Whether the caller uses the limit: it was full in the time of half of the sources.
    pub(super) fn is_used(&self) -> bool {
        self.full * 2 >= self.outcomes
    }
}
