//! What the operations can be used for at all: spawned, borrowed from, moved, and named.

mod common;

use std::cell::Cell;
use std::future::{Future, ready};
use std::marker::PhantomPinned;
use std::rc::Rc;
use std::time::Duration;

use common::{NEVER, Task};
use futures::executor::{ThreadPool, block_on};
use futures::future::FusedFuture;
use futures_aggregate::types::{First, Never, Signals};
use futures_aggregate::{
    Aggregate, FetchAndAggregate, Interrupted, Outcome, ProcessBatch, Reason, SourceError,
    Streamed, fetch_and_aggregate, process_batch, stream_results,
};

fn spawnable<F: Future + FusedFuture + Send + 'static>(future: F) -> F {
    future
}

/// A future that must not be moved, and may be sent.
async fn pinned() -> Result<u32, String> {
    let pinned = PhantomPinned;
    std::future::ready(()).await;
    let _ = pinned;
    Ok(1)
}

#[test]
fn operations_are_spawnable_as_they_are_returned() {
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
fn operations_with_every_setting_are_spawnable() {
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

/// Closures and borrowed parameters inside a spawned async block are where inference of `Send`
/// has failed for crates that store projections.
#[test]
fn async_blocks_around_operations_are_spawnable() {
    async fn ask(host: &str, port: u16) -> Result<usize, std::io::Error> {
        ready(()).await;
        Ok(host.len() + usize::from(port))
    }
    let pool = ThreadPool::new().unwrap();
    let (done, all_done) = async_channel::unbounded();
    pool.spawn_ok(async move {
        let hosts = ["one".to_owned(), "two".to_owned()];
        let ports = [80, 443];
        let fetched = fetch_and_aggregate(
            hosts.iter().map(|host| (host.as_str(), ask(host, 80))),
            Duration::from_secs(9),
        )
        .await;
        let batches = process_batch(
            hosts
                .iter()
                .map(|host| ports.iter().map(move |&port| (port, ask(host, port)))),
        )
        .await;
        let (sender, receiver) = async_channel::bounded(2);
        let streamed = stream_results(hosts.iter().map(|host| (host, ask(host, 80))), sender).await;
        // As the documentation says, `join` takes it in an async block of its own.
        let joined = fetch_and_aggregate(hosts.iter().map(|host| (host, ask(host, 80))), NEVER);
        #[allow(clippy::redundant_async_block)]
        let (joined, ()) = futures::future::join(async { joined.await }, ready(())).await;
        let counts = [
            joined.unwrap().results.len(),
            fetched.unwrap().results.len(),
            batches.unwrap().len(),
            streamed.unwrap().delivered,
            receiver.len(),
        ];
        let _ = done.send(counts).await;
    });
    assert_eq!(all_done.recv_blocking(), Ok([2, 2, 2, 2, 2]));
}

#[test]
fn parts_that_cannot_be_sent_or_must_be_borrowed_are_welcome() {
    let count = Cell::new(0);
    let ask = |id: u32| {
        let local = Rc::new(id);
        let count = &count;
        async move {
            count.set(count.get() + *local);
            Ok::<_, Rc<str>>(local)
        }
    };
    let aggregate = block_on(fetch_and_aggregate((1..4).map(|id| (id, ask(id))), NEVER));
    assert_eq!(aggregate.unwrap().results.len(), 3);
    let batches = block_on(process_batch((1..4).map(|id| [(id, ask(id))])));
    assert_eq!(batches.unwrap().len(), 3);
    let (sender, receiver) = async_channel::unbounded();
    let streamed = block_on(stream_results((1..4).map(|id| (id, ask(id))), sender));
    assert_eq!(streamed.unwrap().delivered, 3);
    assert_eq!((receiver.len(), count.get()), (3, 18));
}

#[test]
fn operations_can_be_moved_between_polls_in_a_box_of_their_own() {
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
fn types_of_operations_can_be_written_down() {
    type Source = std::future::Ready<Result<u32, String>>;
    struct Client {
        fetch: FetchAndAggregate<std::vec::IntoIter<(u8, Source)>, u8, Source, u32, String>,
        batch: ProcessBatch<
            std::vec::IntoIter<Vec<(u8, Source)>>,
            std::vec::IntoIter<(u8, Source)>,
            u8,
            Source,
            u32,
            String,
            Signals<First<Never, std::future::Ready<()>>>,
        >,
    }
    let client = Client {
        fetch: fetch_and_aggregate(vec![(1, ready(Ok(1)))], NEVER),
        batch: process_batch(vec![vec![(1, ready(Ok(1)))]]).cancel_on(ready(())),
    };
    assert!(block_on(client.fetch).is_ok());
    assert_eq!(
        block_on(client.batch).unwrap_err().reason,
        Reason::Cancelled
    );
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
fn debug_asks_nothing_of_the_parts() {
    struct Opaque;
    let list = || [(Opaque, ready(Err::<Opaque, _>(Opaque)))];
    let fetch = fetch_and_aggregate(list(), NEVER).cancel_on(ready(Opaque));
    assert!(format!("{fetch:?}").starts_with("FetchAndAggregate {"));
    assert!(format!("{:?}", process_batch([list()])).starts_with("ProcessBatch {"));
    let (sender, _receiver) = async_channel::unbounded();
    assert!(format!("{:?}", stream_results(list(), sender)).starts_with("StreamResults {"));
}
