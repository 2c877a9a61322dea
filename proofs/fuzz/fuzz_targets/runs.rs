//! Plays scripted runs from arbitrary bytes. No source and no waker may outlive its run, wherever the
//! script interferes, and every source must be accounted for.

#![no_main]

#[path = "../../../tests/common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| common::bytes::play(bytes));
