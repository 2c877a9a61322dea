//! Scripted runs of up to a hundred sources, from bytes that are made up at random. A fuzzer goes on
//! where this ends, see `fuzz`.

mod common;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn runs_of_any_bytes_end_in_order(bytes in vec(any::<u8>(), 0..104)) {
        common::bytes::play(&bytes);
    }
}
