//! Scripted runs of up to a hundred sources, chosen by random bytes. The fuzzer in `fuzz` does the same for
//! longer.

mod common;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn runs_of_any_bytes_keep_the_rules(bytes in vec(any::<u8>(), 0..104)) {
        common::bytes::play(&bytes);
    }
}
