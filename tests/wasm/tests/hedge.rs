//! `hedge` on wasm32-unknown-unknown.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use std::time::Duration;

use futures::future::FutureExt;
use futures_aggregate::{fetch_and_aggregate, hedge};
use wasm_bindgen_test::wasm_bindgen_test;
use wasm_tests::{LATE, SOON, after, never};

#[wasm_bindgen_test]
async fn the_next_attempt_starts_after_the_delay() {
    let attempt = |attempt: usize| match attempt {
        2 => after(1, Ok(7)).left_future(),
        _ => never().right_future(),
    };
    let sources = [("replicas", hedge(SOON, 3, attempt))];
    let aggregate = fetch_and_aggregate(sources, LATE).await.unwrap();
    assert_eq!(aggregate.results, [("replicas", 7)]);
}

#[wasm_bindgen_test]
async fn the_next_attempt_after_a_failure_needs_no_timer() {
    let attempt = |attempt| async move { Err::<(), _>(attempt) };
    let failed = hedge(Duration::MAX, 2, attempt).await.unwrap_err();
    assert_eq!((failed.others, failed.last), (vec![0], 1));
}
