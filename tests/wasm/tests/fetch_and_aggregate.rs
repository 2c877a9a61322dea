//! `fetch_and_aggregate` on wasm32-unknown-unknown, with a deadline and without.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{FutureExt, join};
use futures_aggregate::{Reason, SourceError, fetch_and_aggregate};
use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use wasm_bindgen_test::wasm_bindgen_test;
use wasm_tests::{LATE, SOON, after, never};

#[wasm_bindgen_test]
async fn results_are_in_completion_order() {
    let sources = [
        ("slow", after(40, Ok(1)).left_future()),
        ("bad", after(20, Err("refused")).left_future()),
        ("quick", async { Ok(3) }.right_future()),
    ];
    let aggregate = fetch_and_aggregate(sources, LATE).await.unwrap();
    assert_eq!(aggregate.results, [("quick", 3), ("slow", 1)]);
    assert_eq!(aggregate.errors, [("bad", SourceError::Failed("refused"))]);
}

#[wasm_bindgen_test]
async fn promises_are_sources() {
    let sources = [
        ("good", Promise::resolve(&JsValue::from(1))),
        ("bad", Promise::reject(&JsValue::from("refused"))),
    ];
    let sources = sources.map(|(id, promise)| (id, JsFuture::from(promise)));
    let aggregate = fetch_and_aggregate(sources, LATE).await.unwrap();
    assert_eq!(aggregate.results, [("good", JsValue::from(1))]);
    let refused = SourceError::Failed(JsValue::from("refused"));
    assert_eq!(aggregate.errors, [("bad", refused)]);
}

#[wasm_bindgen_test]
async fn a_deadline_keeps_the_results_so_far() {
    let sources = [
        ("quick", async { Ok(1) }.left_future()),
        ("silent", never().right_future()),
    ];
    let interrupted = fetch_and_aggregate(sources, SOON).await.unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
    assert_eq!(interrupted.partial.results, [("quick", 1)]);
    assert_eq!(interrupted.partial.unfinished, ["silent"]);
}

#[wasm_bindgen_test]
async fn sources_that_time_out_are_errors() {
    let sources = (0..10).map(|id| (id, never()));
    let aggregate = fetch_and_aggregate(sources, Duration::MAX)
        .concurrency(5)
        .source_timeout(SOON)
        .await
        .unwrap();
    let late = (0..10).map(|id| (id, SourceError::TimedOut));
    assert!(aggregate.errors.into_iter().eq(late));
}

#[wasm_bindgen_test]
async fn another_task_cancels() {
    let (started, was_started) = oneshot::channel();
    let (cancel, cancelled) = oneshot::channel::<()>();
    spawn_local(async move {
        was_started.await.unwrap();
        cancel.send(()).unwrap();
    });
    let source = async move {
        started.send(()).unwrap();
        never().await
    };
    let interrupted = fetch_and_aggregate([("silent", source)], LATE)
        .cancel_on(cancelled)
        .await
        .unwrap_err();
    assert_eq!(interrupted.reason, Reason::Cancelled);
    assert_eq!(interrupted.partial.unfinished, ["silent"]);
}

#[wasm_bindgen_test]
async fn a_timer_of_the_caller_ends_the_run() {
    let interrupted = fetch_and_aggregate([("silent", never())], Duration::MAX)
        .expire_on(after(20, Ok(0)))
        .await
        .unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
}

#[wasm_bindgen_test]
async fn zero_timeout_gives_each_source_one_poll() {
    let sources = || {
        [
            (1, async { Ok(1) }.left_future()),
            (2, never().right_future()),
        ]
    };
    let (of_run, of_source) = join(
        fetch_and_aggregate(sources(), Duration::ZERO),
        fetch_and_aggregate(sources(), Duration::MAX).source_timeout(Duration::ZERO),
    )
    .await;
    let partial = of_run.unwrap_err().partial;
    assert_eq!(
        (partial.results, partial.unfinished),
        (vec![(1, 1)], vec![2])
    );
    let aggregate = of_source.unwrap();
    assert_eq!(aggregate.results, [(1, 1)]);
    assert_eq!(aggregate.errors, [(2, SourceError::TimedOut)]);
}
