//! Timers in Node. Node does not exit while a timer is set, so a run that has ended must leave none.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use std::time::Duration;

use async_channel::unbounded;
use futures::future::join;
use futures::{StreamExt, poll};
use futures_aggregate::{Reason, fetch_and_aggregate};
use wasm_bindgen_futures::spawn_local;
use wasm_bindgen_test::wasm_bindgen_test;
use wasm_tests::{LATE, SOON, after, never, timers, timers_set};

#[wasm_bindgen_test]
async fn many_deadlines_pass_in_order() {
    let before = timers();
    let (sender, receiver) = unbounded();
    for id in 0..500 {
        let sender = sender.clone();
        spawn_local(async move {
            let deadline = SOON + Duration::from_micros(100) * id;
            let run = fetch_and_aggregate([(id, never())], deadline);
            let interrupted = run.await.unwrap_err();
            assert_eq!(interrupted.reason, Reason::TimedOut);
            sender.try_send(interrupted.partial.unfinished[0]).unwrap();
        });
    }
    drop(sender);
    let passed: Vec<_> = receiver.collect().await;
    assert!(passed.into_iter().eq(0..500));
    assert_eq!(timers(), before);
}

#[wasm_bindgen_test]
async fn an_earlier_deadline_passes_before_a_later_one() {
    let late = fetch_and_aggregate([("late", after(60, Ok(1)))], LATE);
    let early = fetch_and_aggregate([("early", never())], SOON);
    let (late, early) = join(late, early).await;
    assert_eq!(late.unwrap().results, [("late", 1)]);
    assert_eq!(early.unwrap_err().reason, Reason::TimedOut);
}

#[wasm_bindgen_test]
async fn runs_that_are_dropped_leave_no_timer() {
    let before = timers();
    let mut runs: Vec<_> = (0..100)
        .map(|id| Box::pin(fetch_and_aggregate([(id, never())], LATE * (id % 7 + 1))))
        .collect();
    for run in &mut runs {
        assert!(poll!(run).is_pending());
    }
    assert_eq!(timers(), before + 1);
    runs.truncate(1);
    assert_eq!(timers(), before + 1);
    runs.clear();
    assert_eq!(timers(), before);
}

#[wasm_bindgen_test]
async fn runs_that_have_ended_leave_no_timer() {
    let before = timers();
    for id in 0..3 {
        let aggregate = fetch_and_aggregate([(id, after(1, Ok(id)))], LATE).await;
        assert_eq!(aggregate.unwrap().results, [(id, id)]);
        assert_eq!(timers(), before);
    }
}

#[wasm_bindgen_test]
async fn no_timer_is_longer_than_node_allows() {
    // Node fires such a timer at once.
    let longest = f64::from(i32::MAX);
    for days in [30, 50, 1000, u32::MAX] {
        let deadline = LATE * 24 * days;
        let times = timers_set(async {
            let mut run = fetch_and_aggregate([(days, never())], deadline);
            assert!(poll!(&mut run).is_pending());
        })
        .await;
        assert_eq!(times, [longest], "{days} days");
    }
}

#[wasm_bindgen_test]
async fn a_deadline_that_the_clock_cannot_express_sets_no_timer() {
    let times = timers_set(async {
        let mut run = fetch_and_aggregate([(0, never())], Duration::MAX);
        assert!(poll!(&mut run).is_pending());
    })
    .await;
    assert!(times.is_empty(), "{times:?}");
}
