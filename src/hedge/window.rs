//! The percentile of the latest latencies, some of which are known only as "at least this slow".

use std::collections::VecDeque;
use std::time::Duration;

/// The latency of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Latency {
    pub(super) time: Duration,
    /// Whether the attempt ended without an answer, so that it would have taken longer.
    pub(super) is_at_least: bool,
}

/// The latest latencies.
#[derive(Debug)]
pub(super) struct Window {
    latest: VecDeque<Latency>,
    most: usize,
}

impl Window {
    pub(super) fn new(most: usize) -> Self {
        Self {
            latest: VecDeque::new(),
            most,
        }
    }

    pub(super) fn push(&mut self, latency: Latency) {
        if self.latest.len() == self.most {
            self.latest.pop_front();
        }
        self.latest.push_back(latency);
    }

    /// The time within which this part of the attempts have their answers, by the estimator of Kaplan
    /// and Meier: an attempt that ended without an answer counts until then. If too few answers are
    /// known, it is the longest time in the window.
    pub(super) fn percentile(&self, part: f64) -> Option<Duration> {
        let mut sorted: Vec<_> = self.latest.iter().copied().collect();
        // An answer comes before an attempt that was dropped at the same time.
        sorted.sort_unstable();
        let mut without_answer = 1.0;
        for (index, latency) in sorted.iter().enumerate() {
            if !latency.is_at_least {
                let left = (sorted.len() - index) as f64;
                without_answer *= 1.0 - 1.0 / left;
            }
            // Half of an attempt in the window is lost to rounding.
            if without_answer <= 1.0 - part + 1e-9 {
                return Some(latency.time);
            }
        }
        sorted.last().map(|latency| latency.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(latencies: &[(u64, bool)]) -> Window {
        let mut window = Window::new(100);
        for &(millis, is_at_least) in latencies {
            window.push(Latency {
                time: Duration::from_millis(millis),
                is_at_least,
            });
        }
        window
    }

    fn millis(window: &Window, part: f64) -> u128 {
        window.percentile(part).unwrap().as_millis()
    }

    #[test]
    fn percentile_of_answers_is_that_of_the_sorted_list() {
        let answers: Vec<_> = (1..=100).rev().map(|millis| (millis, false)).collect();
        let window = window(&answers);
        for part in [0.01, 0.5, 0.9, 0.95, 0.99, 1.0] {
            assert_eq!(millis(&window, part), (part * 100.0) as u128);
        }
        assert_eq!(Window::new(3).percentile(0.5), None);
    }

    #[test]
    fn dropped_attempts_count_as_at_least_this_slow() {
        // Of ten attempts, five were dropped after 10 ms. If they counted as answers, the 90th percentile
        // would be 10 ms.
        let answers = (1..=4).map(|millis| (millis, false));
        let dropped = (0..5).map(|_| (10, true));
        let all: Vec<_> = answers.chain(dropped).chain([(30, false)]).collect();
        assert_eq!(millis(&window(&all), 0.9), 30);
        // Nothing is known beyond the last one.
        let all: Vec<_> = all[..9].to_vec();
        assert_eq!(millis(&window(&all), 0.9), 10);
        assert_eq!(millis(&window(&all), 0.3), 3);
    }

    #[test]
    fn latencies_that_are_too_old_are_forgotten() {
        let mut window = Window::new(2);
        for millis in [100, 1, 2] {
            window.push(Latency {
                time: Duration::from_millis(millis),
                is_at_least: false,
            });
        }
        assert_eq!(millis(&window, 1.0), 2);
    }
}
