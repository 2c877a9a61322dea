//! Random numbers that keep the dips of several clients apart.

/// A generator of random numbers (SplitMix64). Clients differ because each mixes in what it measures. So the
/// same measurements give the same numbers.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Mixes a number in.
    pub(super) fn mix(&mut self, number: f64) {
        self.0 ^= number.to_bits();
        self.next();
    }

    pub(super) fn between(&mut self, least: f64, most: f64) -> f64 {
        let part = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        least + part * (most - least)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
