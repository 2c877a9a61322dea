//! The pauses between attempts.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential backoff with full jitter: each pause is a random part of one that doubles.
#[derive(Debug, Clone)]
pub(super) struct Pauses {
    first: Duration,
    /// The longest pause.
    pub(super) most: Duration,
    /// The state of the random numbers. `None` until the first one.
    random: Option<u64>,
}

impl Pauses {
    pub(super) fn new(first: Duration) -> Self {
        Self {
            first,
            most: Duration::from_secs(30),
            random: None,
        }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = Some(seed);
    }

    /// The pause before the attempt with this number, which is at least 1.
    pub(super) fn before(&mut self, number: usize) -> Duration {
        let doublings = u32::try_from(number - 1).unwrap_or(u32::MAX);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let longest = self.first.saturating_mul(factor).min(self.most);
        longest.mul_f64(self.random())
    }

    /// A random number from 0 to 1, by SplitMix64 (Steele, Lea and Flood, 2014).
    fn random(&mut self) -> f64 {
        // Each hasher of the standard library has other keys.
        let state = self
            .random
            .get_or_insert_with(|| RandomState::new().hash_one(0));
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_are_spread_evenly_up_to_a_limit_that_doubles() {
        let mut pauses = Pauses::new(SECOND);
        pauses.seed(1);
        for (number, longest) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1000, 30)] {
            let longest = SECOND * longest;
            let all: Vec<_> = (0..1000).map(|_| pauses.before(number)).collect();
            assert!(all.iter().all(|pause| *pause < longest));
            // Within a tenth of the middle, which is 5 times the deviation of such a mean.
            let mean = all.iter().sum::<Duration>() / 1000;
            assert!(mean > longest.mul_f64(0.45) && mean < longest.mul_f64(0.55));
        }
    }

    #[test]
    fn each_retry_has_pauses_of_its_own_unless_it_has_a_seed() {
        let first = |seed| {
            let mut pauses = Pauses::new(SECOND);
            if let Some(seed) = seed {
                pauses.seed(seed);
            }
            pauses.before(1)
        };
        assert_ne!(first(None), first(None));
        assert_eq!(first(Some(7)), first(Some(7)));
        assert_ne!(first(Some(7)), first(Some(8)));
    }

    #[test]
    fn longest_durations_do_not_overflow() {
        let mut pauses = Pauses::new(Duration::MAX);
        pauses.most = Duration::MAX;
        assert!(pauses.before(40) < Duration::MAX);
    }
}
