//! Traits that operations and their results have to implement: `Send`, `FusedFuture`, `Debug`, and those
//! of plain data. How callers use the types is in `types.rs`.

mod common;

use std::future::{Future, ready};
use std::marker::PhantomPinned;
use std::time::Duration;

use common::{NEVER, Task};
use futures::executor::ThreadPool;
use futures::future::FusedFuture;
use futures_aggregate::{
    Aggregate, Interrupted, Outcome, Reason, SourceError, Streamed, fetch_and_aggregate,
    process_batch, stream_results,
};

fn spawnable<F: Future + FusedFuture + Send + 'static>(future: F) -> F {
    future
}

/// A future that is `Send` and not `Unpin`.
async fn pinned() -> Result<u32, String> {
    let pinned = PhantomPinned;
    std::future::ready(()).await;
    let _ = pinned;
    Ok(1)
}

#[test]
fn operations_are_send_and_fused() {
    let pool = ThreadPool::new().unwrap();
    let (sender, receiver) = async_channel::bounded(2);
    let list = || (0..4).map(|id| (id, pinned()));
    let driver = spawnable(stream_results(list(), sender));
    pool.spawn_ok(async { assert!(driver.await.is_ok()) });
    let mut received = 0;
    while receiver.recv_blocking().is_ok() {
        received += 1;
    }
    assert_eq!(received, 4);

    drop(spawnable(fetch_and_aggregate(list(), NEVER)));
    drop(spawnable(process_batch([list(), list()])));
}

#[test]
fn operations_with_every_setting_are_send_and_fused() {
    let second = Duration::from_secs(1);
    let list = || (0..4).map(|id| (id, pinned()));
    let (sender, _receiver) = async_channel::bounded(2);
    let fetch = fetch_and_aggregate(list(), second)
        .concurrency(2)
        .source_timeout(second)
        .cancel_on(std::future::pending::<()>())
        .expire_on(std::future::pending::<String>());
    drop(spawnable(fetch));
    let batch = process_batch([list()])
        .concurrency(2)
        .source_concurrency(2)
        .timeout(second)
        .batch_timeout(second)
        .source_timeout(second)
        .cancel_on(std::future::pending::<()>())
        .expire_on(std::future::pending::<String>());
    drop(spawnable(batch));
    let stream = stream_results(list(), sender)
        .concurrency(2)
        .timeout(second)
        .source_timeout(second)
        .cancel_on(std::future::pending::<()>())
        .expire_on(std::future::pending::<String>());
    drop(spawnable(stream));
}

#[test]
fn boxed_operations_can_be_sent_to_another_thread_between_polls() {
    let (handles, list) = common::sources(2);
    let mut first = Task::new(fetch_and_aggregate(list, NEVER));
    assert!(first.settle().is_pending());
    let mut moved = std::thread::spawn(move || {
        handles[0].answer(Ok(1));
        handles[1].answer(Ok(2));
        first
    })
    .join()
    .unwrap();
    assert!(moved.finish().is_ok());
}

#[test]
fn results_are_plain_data() {
    fn data<D: Clone + PartialEq + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync>() {}
    data::<Aggregate<u8, u8, u8>>();
    data::<Streamed<u8, u8, u8>>();
    data::<SourceError<u8>>();
    data::<Interrupted<Aggregate<u8, u8, u8>>>();
    data::<Reason>();
    data::<Outcome<u8, u8, u8>>();
}

#[test]
fn debug_requires_nothing_of_the_parts() {
    struct Opaque;
    let list = || [(Opaque, ready(Err::<Opaque, _>(Opaque)))];
    let fetch = fetch_and_aggregate(list(), NEVER).cancel_on(ready(Opaque));
    assert!(format!("{fetch:?}").starts_with("FetchAndAggregate {"));
    assert!(format!("{:?}", process_batch([list()])).starts_with("ProcessBatch {"));
    let (sender, _receiver) = async_channel::unbounded();
    assert!(format!("{:?}", stream_results(list(), sender)).starts_with("StreamResults {"));
}
