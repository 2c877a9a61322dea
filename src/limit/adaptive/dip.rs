//! A measurement of the latency without a queue, at half of the limit.

use super::window::{Latencies, MOST_BAD, samples};

/// The least and the most sources of a dip.
const SIZES: (f64, f64) = (24.0, 96.0);

/// A dip is over after so many times the time that it should take.
const PATIENCE: f64 = 2.0;

/// A source may take so many latencies before a dip is over without it.
const LONGEST: f64 = 30.0;

/// A measurement that goes on. It waits for all of the first sources that start in it.
#[derive(Debug)]
pub(super) struct Dip {
    /// The limit after it.
    pub(super) restore: f64,
    /// The number of its first source.
    first: u64,
    size: usize,
    /// When each of its sources started, unless it has ended.
    in_flight: Vec<Option<f64>>,
    ended: usize,
    bad: u32,
    latencies: Latencies,
    began: f64,
    /// When it is over at the latest.
    until: f64,
}

impl Dip {
    /// The measurement at the beginning, when there is no latency to compare with.
    pub(super) fn first(limit: f64, first: u64) -> Self {
        Self {
            restore: limit,
            first,
            size: SIZES.0 as usize,
            in_flight: Vec::new(),
            ended: 0,
            bad: 0,
            latencies: Latencies::default(),
            began: 0.0,
            until: f64::INFINITY,
        }
    }

    pub(super) fn new(limit: f64, first: u64, now: f64, latency: f64, variance: f64) -> Self {
        let size = samples(variance).clamp(SIZES.0, SIZES.1);
        let expected = (1.0 + size / (limit / 2.0).max(1.0)) * latency;
        Self {
            size: size as usize,
            began: now,
            until: now + PATIENCE * expected + LONGEST * latency,
            ..Self::first(limit, first)
        }
    }

    pub(super) fn start(&mut self, now: f64) {
        if self.in_flight.is_empty() {
            self.began = now;
        }
        if self.in_flight.len() < self.size {
            self.in_flight.push(Some(now));
        }
    }

    /// A source has ended, which may be an older one.
    pub(super) fn end(&mut self, number: u64, latency: Option<f64>, is_bad: bool, now: f64) {
        let number = number.checked_sub(self.first);
        let place = number.and_then(|number| self.in_flight.get_mut(usize::try_from(number).ok()?));
        if place.and_then(Option::take).is_none() {
            return;
        }
        self.ended += 1;
        self.bad += u32::from(is_bad);
        if let Some(latency) = latency {
            self.latencies.add(latency);
        }
        if self.until.is_infinite() && self.ended * 2 >= self.size {
            // Now it is known how long sources take. One of them may never end.
            self.until = match self.bad_part() > MOST_BAD {
                true => now,
                false => now + LONGEST * (now - self.began),
            };
        }
    }

    pub(super) fn is_over(&self, now: f64) -> bool {
        self.ended == self.size || now >= self.until
    }

    pub(super) fn length(&self, now: f64) -> f64 {
        now - self.began
    }

    pub(super) fn bad_part(&self) -> f64 {
        f64::from(self.bad) / self.ended.max(1) as f64
    }

    /// The latencies, if half of the sources have one. A source in flight counts with its age.
    pub(super) fn finish(mut self, now: f64) -> Option<Latencies> {
        for began in self.in_flight.into_iter().flatten() {
            self.latencies.add((now - began).max(1e-9).ln());
        }
        let is_known = self.latencies.count() as usize * 2 >= self.size;
        is_known.then_some(self.latencies)
    }
}
