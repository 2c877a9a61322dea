//! The rule, told of sources one by one.

use std::time::Duration;

use super::{Adaptive, Ending, Stage, Start};
use crate::timer::Instant;

/// A rule, a clock, and the sources in flight.
struct Caller {
    rule: Adaptive,
    now: Instant,
    in_flight: Vec<Start>,
}

impl Caller {
    fn new() -> Self {
        Self {
            rule: Adaptive::new(&(1..=256)),
            now: Instant::now(),
            in_flight: Vec::new(),
        }
    }

    /// Starts as many sources as the limit allows, and ends all of them after `latency`, which depends on
    /// their number.
    fn round(&mut self, ending: Ending, latency: impl Fn(usize) -> f64) {
        while self.in_flight.len() < self.rule.limit() {
            let in_use = self.in_flight.len() + 1;
            self.in_flight.push(self.rule.start(self.now, in_use));
        }
        let latency = latency(self.in_flight.len());
        self.now += Duration::from_secs_f64(latency);
        for start in self.in_flight.drain(..) {
            self.rule.end(start, ending, Some(self.now));
        }
    }

    fn rounds(&mut self, count: u32, latency: impl Fn(usize) -> f64) {
        for _ in 0..count {
            self.round(Ending::Answer, &latency);
        }
    }
}

/// A server with so many places.
fn queue(places: usize) -> impl Fn(usize) -> f64 {
    move |in_flight| 0.01 * (in_flight as f64 / places as f64).max(1.0)
}

#[test]
fn it_finds_the_places_of_a_server_and_follows_them() {
    let mut caller = Caller::new();
    for places in [16, 8, 32] {
        caller.rounds(200, queue(places));
        let found = caller.rule.limit;
        let places = places as f64;
        assert!(
            (places..1.5 * places).contains(&found),
            "{found} of {places}"
        );
    }
}

#[test]
fn it_believes_a_latency_that_stays_whatever_the_limit_is() {
    let mut caller = Caller::new();
    caller.rounds(100, queue(64));
    let before = caller.rule.limit;
    caller.rounds(60, |in_flight| 0.04 + queue(64)(in_flight));
    let after = caller.rule.limit;
    assert!(after > 0.8 * before, "{before}, {after}");
}

#[test]
fn a_dip_waits_for_its_slowest_source() {
    let mut caller = Caller::new();
    let slow = caller.rule.start(caller.now, 1);
    let is_dip = |caller: &Caller| matches!(caller.rule.stage, Stage::Dip(_));
    caller.rounds(50, queue(16));
    assert!(is_dip(&caller));
    assert_eq!(caller.rule.limit(), 4);
    caller.rule.end(slow, Ending::Answer, Some(caller.now));
    assert!(!is_dip(&caller));
}

#[test]
fn it_does_not_wait_for_ever() {
    let mut caller = Caller::new();
    caller.rounds(50, queue(16));
    while !matches!(caller.rule.stage, Stage::Dip(_)) {
        caller.rounds(1, queue(16));
    }
    let before = caller.rule.limit;
    let stuck = caller.rule.start(caller.now, 1);
    caller.rounds(200, queue(16));
    assert!(caller.rule.limit > 1.2 * before);
    caller.rule.end(stuck, Ending::Dropped, None);
}

#[test]
fn one_dropped_source_says_nothing_unless_it_is_old() {
    let latencies = |age: f64| {
        let mut caller = Caller::new();
        caller.rounds(7, queue(16));
        let start = caller.rule.start(caller.now, 1);
        caller.now += Duration::from_secs_f64(age);
        let Stage::Window(window) = &caller.rule.stage else {
            panic!("the first dip is over");
        };
        let before = window.latencies.count();
        caller.rule.end(start, Ending::Dropped, Some(caller.now));
        match &caller.rule.stage {
            Stage::Window(window) => window.latencies.count() - before,
            Stage::Dip(_) => panic!("the next dip is far"),
        }
    };
    assert_eq!((latencies(0.001), latencies(0.1)), (0, 1));
}

#[test]
fn it_falls_in_an_outage_and_comes_back() {
    let mut caller = Caller::new();
    caller.rounds(100, queue(16));
    for _ in 0..400 {
        caller.round(Ending::Overload, |_| 0.001);
    }
    assert_eq!(caller.rule.limit(), 1);
    caller.rounds(60, queue(16));
    assert!(caller.rule.limit() >= 14, "{}", caller.rule.limit());
}

#[test]
fn clocks_that_differ_do_no_harm() {
    let mut caller = Caller::new();
    caller.rounds(20, queue(16));
    let early = caller.now.checked_sub(Duration::from_secs(60));
    let start = caller.rule.start(caller.now, 1);
    caller.rule.end(start, Ending::Answer, early);
    caller.rounds(200, queue(16));
    assert!((16..24).contains(&caller.rule.limit()));
}
