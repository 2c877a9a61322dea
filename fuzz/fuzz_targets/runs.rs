//! Scripted runs of any bytes: no source and no waker outlives a run, wherever it is interfered with,
//! and every source is accounted for.

#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| common::bytes::play(bytes));
