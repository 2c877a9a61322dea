//! The `Debug` output of operations and events: counts and states, and none of the caller's values except
//! ids.

mod common;

use std::time::Duration;

use common::NEVER;
use futures::future::{FutureExt, Ready, pending, ready};
use futures_aggregate::{
    FetchAndAggregate, Reason, fetch_and_aggregate, hedge, process_batch, stream_results,
};

/// A value that is not `Debug`.
struct Opaque;

#[test]
fn operations_show_their_counts() {
    let sources = vec![
        (1, ready(Ok(Opaque)).left_future()),
        (2, ready(Err(Opaque)).left_future()),
        (3, pending().right_future()),
        (4, pending().right_future()),
    ];
    let mut run = Box::pin(fetch_and_aggregate(sources, NEVER));
    assert!(run.as_mut().now_or_never().is_none());
    assert_eq!(
        format!("{run:?}"),
        "FetchAndAggregate { in_flight: 2, results: 1, errors: 1, .. }"
    );

    let batches = [[(1, pending::<Result<Opaque, Opaque>>())]];
    let mut run = Box::pin(process_batch(batches).batch_timeout(NEVER));
    assert!(run.as_mut().now_or_never().is_none());
    assert_eq!(format!("{run:?}"), "ProcessBatch { in_flight: 1, .. }");

    let (sender, _receiver) = async_channel::bounded(1);
    let sources = [(1, pending::<Result<Opaque, Opaque>>())];
    let mut run = Box::pin(stream_results(sources, sender));
    assert!(run.as_mut().now_or_never().is_none());
    assert_eq!(format!("{run:?}"), "StreamResults { in_flight: 1, .. }");
}

/// The derive requires `S: Debug`, so the signals have to be `Debug` even if their futures are not.
#[derive(Debug)]
#[allow(dead_code, reason = "Debug reads it")]
struct Query<S> {
    run: FetchAndAggregate<List, u32, Source, Opaque, Opaque, S>,
}

type Source = Ready<Result<Opaque, Opaque>>;
type List = std::iter::Empty<(u32, Source)>;

#[test]
fn struct_with_an_operation_can_derive_debug() {
    let run = fetch_and_aggregate(std::iter::empty(), NEVER)
        .cancel_on(async {})
        .expire_on(async {});
    assert_eq!(
        format!("{:?}", Query { run }),
        "Query { run: FetchAndAggregate { in_flight: 0, results: 0, errors: 0, .. } }"
    );
}

#[test]
fn hedge_shows_the_counts_of_its_attempts() {
    let attempts = |attempt| match attempt {
        0 => ready(Err::<Opaque, Opaque>(Opaque)).left_future(),
        _ => pending().right_future(),
    };
    let mut run = Box::pin(hedge(Duration::MAX, 2, attempts));
    assert!(run.as_mut().now_or_never().is_none());
    assert_eq!(format!("{run:?}"), "Hedge { in_flight: 1, failed: 1, .. }");
}

#[test]
fn events_show_the_id_and_the_end_of_their_source() {
    let mut shown = Vec::new();
    let sources = vec![
        (1, ready(Ok(Opaque)).left_future()),
        (2, ready(Err(Opaque)).left_future()),
        (3, pending().right_future()),
        (4, pending().right_future()),
    ];
    let run = fetch_and_aggregate(sources, Duration::ZERO).concurrency(1);
    let run = run.observe(|event| shown.push(format!("{event:?}")));
    assert!(
        run.now_or_never()
            .expect("a timeout of zero ends the run in its first poll")
            .is_err()
    );
    // The elapsed time differs from run to run.
    let without_elapsed = |shown: String| match shown.split_once("elapsed: ") {
        Some((before, _)) => format!("{before}elapsed: .."),
        None => shown,
    };
    let shown: Vec<_> = shown.into_iter().map(without_elapsed).collect();
    assert_eq!(
        shown,
        [
            "Started { id: 1 }",
            "Finished { id: 1, is_ok: true, elapsed: ..",
            "Started { id: 2 }",
            "Finished { id: 2, is_ok: false, elapsed: ..",
            "Started { id: 3 }",
            "Unfinished { id: 3, reason: TimedOut, elapsed: ..",
            "NotStarted { id: 4, reason: TimedOut }",
        ]
    );
}

#[test]
fn reason_is_an_error() {
    let error: Box<dyn std::error::Error> = Reason::TimedOut.into();
    assert_eq!(error.to_string(), "timed out");
}
