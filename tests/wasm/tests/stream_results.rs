//! `stream_results` on wasm32-unknown-unknown, with a driver that is spawned and detached.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use async_channel::bounded;
use futures::channel::oneshot;
use futures_aggregate::{Reason, stream_results};
use wasm_bindgen_futures::spawn_local;
use wasm_bindgen_test::wasm_bindgen_test;
use wasm_tests::{SOON, after, never};

#[wasm_bindgen_test]
async fn every_outcome_goes_through_a_channel_of_capacity_one() {
    let (sender, receiver) = bounded(1);
    let driver = stream_results((0..100).map(|id| (id, after(id % 3, Ok(id)))), sender);
    spawn_local(async move { assert_eq!(driver.await.unwrap().delivered, 100) });
    let mut received = Vec::new();
    while let Ok((id, result)) = receiver.recv().await {
        assert_eq!(result, Ok(id));
        received.push(id);
    }
    received.sort_unstable();
    assert!(received.into_iter().eq(0..100));
}

#[wasm_bindgen_test]
async fn a_dropped_receiver_ends_the_driver() {
    let (sender, receiver) = bounded(1);
    let (held, dropped) = oneshot::channel::<()>();
    let source = async move {
        let _held = held;
        never().await
    };
    let driver = stream_results([("silent", source)], sender);
    let (ended, end) = oneshot::channel();
    spawn_local(async move { ended.send(driver.await).unwrap() });
    spawn_local(async move { drop(receiver) });
    assert!(dropped.await.is_err(), "the source is dropped");
    let interrupted = end.await.unwrap().unwrap_err();
    assert_eq!(interrupted.reason, Reason::ReceiverClosed);
    assert_eq!(interrupted.partial.unfinished, ["silent"]);
}

#[wasm_bindgen_test]
async fn a_deadline_closes_the_channel() {
    let (sender, receiver) = bounded::<(_, Result<_, _>)>(1);
    let driver = stream_results([("silent", never())], sender).timeout(SOON);
    let (ended, end) = oneshot::channel();
    spawn_local(async move { ended.send(driver.await).unwrap() });
    assert!(receiver.recv().await.is_err(), "nothing was sent");
    let interrupted = end.await.unwrap().unwrap_err();
    assert_eq!(interrupted.reason, Reason::TimedOut);
}
