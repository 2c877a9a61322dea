//! `process_batch` on wasm32-unknown-unknown.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use std::time::Duration;

use futures::future::FutureExt;
use futures_aggregate::{Reason, process_batch};
use wasm_bindgen_test::wasm_bindgen_test;
use wasm_tests::{SOON, after, never};

#[wasm_bindgen_test]
async fn batches_that_time_out_affect_no_other() {
    let batches = [
        vec![
            (0, never().left_future()),
            (1, after(1, Ok(1)).right_future()),
        ],
        vec![(2, after(1, Ok(2)).right_future())],
        vec![(3, never().left_future())],
    ];
    let outcomes = process_batch(batches).batch_timeout(SOON).await.unwrap();
    let [late, good, silent] = &outcomes[..] else {
        panic!("three outcomes")
    };
    let late = late.as_ref().unwrap_err();
    assert_eq!(late.reason, Reason::TimedOut);
    assert_eq!(late.partial.results, [(1, 1)]);
    assert_eq!(late.partial.unfinished, [0]);
    assert_eq!(good.as_ref().unwrap().results, [(2, 2)]);
    assert_eq!(silent.as_ref().unwrap_err().partial.unfinished, [3]);
}

#[wasm_bindgen_test]
async fn a_deadline_of_the_run_keeps_the_results_so_far() {
    let batches = [vec![(0, never())], vec![(1, never())]];
    let interrupted = process_batch(batches)
        .batch_timeout(Duration::MAX)
        .timeout(SOON)
        .await
        .unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
}
