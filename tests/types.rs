//! Types of operations, as callers use them: each test compiles one use and runs it.
//!
//! Many tests spawn a task that borrows. The compiler may fail to prove that such a task is `Send`, although
//! every part of it is: "implementation of `FnOnce` is not general enough" (rust-lang/rust#104382).

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::marker::{PhantomData, PhantomPinned};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use async_channel::{Receiver, Sender, unbounded};
use common::NEVER;
use futures::executor::{ThreadPool, block_on};
use futures::future::{BoxFuture, FutureExt, join};
use futures::stream;
use futures_aggregate::types::{
    Aggregating, Deliver, First, Hooks, IntoBatches, IntoSources, Items, Never, OutcomeTypes,
    Signals, Sources,
};
use futures_aggregate::{
    BatchOutcome, Event, FetchAndAggregate, Interrupted, Operation, Outcome, ProcessBatch, Reason,
    StreamResults, each, fetch_and_aggregate, from_stream, process_batch, stream_results,
};

/// Runs a task on a thread of a pool. It has to be `Send` and `'static`.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    let pool = ThreadPool::builder().pool_size(1).create().unwrap();
    let (sender, receiver) = unbounded();
    pool.spawn_ok(async move { sender.send(task.await).await.unwrap() });
    receiver.recv_blocking().expect("the task panicked")
}

/// Returns pending once.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A source that borrows across an await.
async fn ask(host: &str, port: u16) -> Result<usize, String> {
    yield_now().await;
    Ok(host.len() + usize::from(port))
}

fn hosts() -> Vec<String> {
    ["a.example", "b.example", "c.example"]
        .map(String::from)
        .into()
}

#[test]
fn spawned_task_fetches_from_borrowed_sources_of_each_kind() {
    let counts = spawn(async {
        let hosts = hosts();
        let list = hosts.iter().map(|host| (host.as_str(), ask(host, 80)));
        let listed = fetch_and_aggregate(list, NEVER).await.unwrap();

        let made = each(&hosts, |host| ask(host, 80));
        let made = fetch_and_aggregate(made, NEVER).await.unwrap();

        let stream = stream::iter(hosts.iter().map(|host| (host, ask(host, 80))));
        let streamed = fetch_and_aggregate(from_stream(stream), NEVER)
            .await
            .unwrap();

        let run = pin!(fetch_and_aggregate(
            each(&hosts, |host| ask(host, 80)),
            NEVER
        ));
        let pinned = run.await.unwrap();
        [
            listed.results.len(),
            made.results.len(),
            streamed.results.len(),
            pinned.results.len(),
        ]
    });
    assert_eq!(counts, [3, 3, 3, 3]);
}

fn answers<K, T, E>(batch: BatchOutcome<K, T, E>) -> usize {
    batch.map_or(0, |aggregate| aggregate.results.len())
}

#[test]
fn spawned_task_processes_batches_of_borrowed_sources_of_each_kind() {
    let counts = spawn(async {
        let (hosts, ports) = (hosts(), [80, 443]);
        let lists = hosts
            .iter()
            .map(|host| ports.iter().map(move |&port| (port, ask(host, port))));
        let listed = process_batch(lists).await.unwrap();

        let made = hosts
            .iter()
            .map(|host| each(&ports, move |&&port| ask(host, port)));
        let made = process_batch(made).await.unwrap();

        let streams = hosts.iter().map(|host| {
            let sources = ports.iter().map(move |port| (port, ask(host, *port)));
            from_stream(stream::iter(sources))
        });
        let streamed = process_batch(streams).await.unwrap();

        let batches = hosts
            .iter()
            .map(|host| each(&ports, move |&&port| ask(host, port)));
        let arriving = from_stream(stream::iter(batches));
        let arriving = process_batch(arriving).await.unwrap();
        [
            listed.into_iter().map(answers).sum::<usize>(),
            made.into_iter().map(answers).sum(),
            streamed.into_iter().map(answers).sum(),
            arriving.into_iter().map(answers).sum(),
        ]
    });
    assert_eq!(counts, [6, 6, 6, 6]);
}

#[test]
fn spawned_task_streams_results_of_borrowed_sources_of_each_kind() {
    let counts = spawn(async {
        let hosts = hosts();
        let (sender, receiver) = unbounded();
        let list = hosts.iter().map(|host| (host, ask(host, 80)));
        let listed = stream_results(list, sender.clone()).await.unwrap();

        let made = each(&hosts, |host| ask(host, 80));
        let made = stream_results(made, sender.clone()).await.unwrap();

        let stream = stream::iter(hosts.iter().map(|host| (host, ask(host, 80))));
        let streamed = stream_results(from_stream(stream), sender.clone());
        let streamed = streamed.await.unwrap();

        let driver = pin!(stream_results(each(&hosts, |host| ask(host, 80)), sender));
        let pinned = driver.await.unwrap();
        [
            listed.delivered,
            made.delivered,
            streamed.delivered,
            pinned.delivered,
            receiver.len(),
        ]
    });
    assert_eq!(counts, [3, 3, 3, 3, 12]);
}

#[test]
fn closures_need_no_annotations() {
    let (aggregate, batches, streamed, events) = spawn(async {
        let hosts = hosts();
        let mut events = 0;
        let mut longest = 0;
        let list = hosts.iter().map(|host| (host.as_str(), ask(host, 80)));
        let aggregate = fetch_and_aggregate(list, NEVER)
            .concurrency(1)
            .observe(|event| events += event.id().len())
            .observe(|event| match event {
                Event::Finished {
                    id,
                    result: Ok(size),
                    ..
                } => longest = longest.max(id.len() + size),
                event => assert!(!format!("{event:?}").is_empty()),
            })
            .stop_when(|so_far| so_far.results.len() == 2)
            .await
            .unwrap();
        assert_eq!(longest, 9 + 9 + 80);

        let batches = hosts
            .iter()
            .map(|host| each([80, 443], |&port| ask(host, port)));
        let batches = process_batch(batches)
            .concurrency(1)
            .observe(|event| events += usize::from(*event.id()))
            .stop_when(|so_far| so_far.iter().flatten().count() == 1)
            .await
            .unwrap();

        let (sender, _receiver) = unbounded();
        let stream = from_stream(stream::iter(hosts.iter().map(|host| (host, ask(host, 80)))));
        let streamed = stream_results(stream, sender)
            .observe(|event| events += event.id().len())
            .await
            .unwrap();
        (
            aggregate.results.len(),
            batches.len(),
            streamed.delivered,
            events,
        )
    });
    assert_eq!((aggregate, batches, streamed), (2, 3, 3));
    // A source that starts has two events, and one that does not start has one.
    let fetched = (2 + 2 + 1) * "a.example".len();
    let processed = (2 + 1 + 1) * (80 + 443);
    let streamed = (2 + 2 + 2) * "a.example".len();
    assert_eq!(events, fetched + processed + streamed);
}

#[test]
fn sources_need_not_be_send_and_may_borrow() {
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
    let made = each((1..4).map(Rc::new), |id| ask(**id));
    let aggregate = block_on(fetch_and_aggregate(made, NEVER));
    assert_eq!(aggregate.unwrap().results.len(), 3);
    let stream = from_stream(stream::iter((1..4).map(|id| (id, ask(id)))));
    let aggregate = block_on(fetch_and_aggregate(stream, NEVER));
    assert_eq!(aggregate.unwrap().results.len(), 3);
    let batches = block_on(process_batch((1..4).map(|id| [(id, ask(id))])));
    assert_eq!(batches.unwrap().len(), 3);
    let (sender, receiver) = unbounded();
    let streamed = block_on(stream_results((1..4).map(|id| (id, ask(id))), sender));
    assert_eq!(streamed.unwrap().delivered, 3);
    assert_eq!((receiver.len(), count.get()), (3, 5 * 6));
}

type Boxed = BoxFuture<'static, Result<u32, String>>;

/// Runs in fields. Their types name an iterator, or the associated type of `IntoSources`.
struct Client {
    fetch: FetchAndAggregate<std::vec::IntoIter<(u8, Boxed)>, u8, Boxed, u32, String>,
    converted:
        FetchAndAggregate<<Vec<(u8, Boxed)> as IntoSources>::Sources, u8, Boxed, u32, String>,
    batch: ProcessBatch<
        std::vec::IntoIter<Vec<(u8, Boxed)>>,
        std::vec::IntoIter<(u8, Boxed)>,
        u8,
        Boxed,
        u32,
        String,
        Signals<First<Never, std::future::Ready<()>>>,
    >,
    converted_batch: ProcessBatch<
        <Vec<Vec<(u8, Boxed)>> as IntoBatches>::Items,
        <Vec<(u8, Boxed)> as IntoSources>::Sources,
        u8,
        Boxed,
        u32,
        String,
    >,
    driver: Pin<Box<dyn Future<Output = usize> + Send>>,
}

#[test]
fn runs_are_fields_of_a_struct() {
    let list = || vec![(1, ready(Ok(1)).boxed())];
    let (sender, _receiver) = unbounded();
    let driver = stream_results(list(), sender)
        .map(|streamed| streamed.unwrap_or_else(Interrupted::into_partial).delivered);
    let mut client = Client {
        fetch: fetch_and_aggregate(list(), NEVER),
        converted: fetch_and_aggregate(list(), NEVER),
        batch: process_batch(vec![list()]).cancel_on(ready(())),
        converted_batch: process_batch(vec![list()]),
        driver: Box::pin(driver),
    };
    // A run in a field can be polled without moving it, because it is `Unpin`.
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(aggregate)) = Pin::new(&mut client.fetch).poll(&mut cx) else {
        panic!("every source is ready");
    };
    assert_eq!(aggregate.results, [(1, 1)]);
    assert!(block_on(&mut client.converted).is_ok());
    assert_eq!(
        block_on(client.batch).unwrap_err().reason,
        Reason::Cancelled
    );
    assert_eq!(block_on(client.converted_batch).unwrap().len(), 1);
    assert_eq!(block_on(client.driver), 1);
}

/// Generic over `IntoSources`.
async fn fetch_any<L, K, F, T, E>(sources: L) -> usize
where
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    let run = fetch_and_aggregate(sources, NEVER).concurrency(2);
    run.await
        .unwrap_or_else(Interrupted::into_partial)
        .results
        .len()
}

async fn process_any<B, L, K, F, T, E>(batches: B) -> usize
where
    B: IntoBatches<Batch = L>,
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    process_batch(batches)
        .await
        .map_or(0, |batches| batches.len())
}

async fn stream_any<L, K, F, T, E>(sources: L, sender: Sender<Outcome<K, T, E>>) -> usize
where
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    let driver = stream_results(sources, sender).concurrency(2);
    driver.await.map_or(0, |streamed| streamed.delivered)
}

/// In a spawned task the future of such a function has to be boxed if the sources contain a closure that
/// borrows. Without the box the compiler reports "implementation of `FnOnce` is not general enough".
#[test]
fn functions_are_generic_over_into_sources() {
    let counts = spawn(async {
        let hosts = hosts();
        let list = || hosts.iter().map(|host| (host.as_str(), ask(host, 80)));
        let (sender, receiver) = unbounded();
        let streamed = stream_any(list(), sender).boxed().await;
        let collected: Vec<_> = list().collect();
        let stream = from_stream(stream::iter(list()));
        [
            fetch_any(collected).await,
            fetch_any(list()).boxed().await,
            fetch_any(each(&hosts, |host| ask(host, 80))).boxed().await,
            fetch_any(stream).boxed().await,
            process_any([list(), list()]).boxed().await,
            process_any([each(&hosts, |host| ask(host, 80))])
                .boxed()
                .await,
            process_any(from_stream(stream::iter([list()])))
                .boxed()
                .await,
            streamed,
            receiver.len(),
        ]
    });
    assert_eq!(counts, [3, 3, 3, 3, 2, 1, 1, 3, 3]);
}

/// Generic over the `Sources` of an operation.
async fn results_of<L, K, F, T, E>(run: FetchAndAggregate<L, K, F, T, E>) -> usize
where
    L: Sources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    run.await.map_or(0, |aggregate| aggregate.results.len())
}

async fn outcomes_of<B, L, K, F, T, E>(run: ProcessBatch<B, L::Sources, K, F, T, E>) -> usize
where
    B: Items<Item = L>,
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    run.await.map_or(0, |batches| batches.len())
}

/// Generic over the driver of `stream_results`, with its signals and hooks.
async fn delivered_by<L, K, F, T, E, D, X, Y, H>(
    driver: StreamResults<L, K, F, T, E, D, Signals<X, Y>, H>,
) -> usize
where
    L: Sources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
    D: Deliver<Outcome<K, T, E>>,
    X: Future,
    Y: Future,
    H: Hooks<K, T, E>,
{
    let streamed = driver.concurrency(2).await;
    streamed.unwrap_or_else(Interrupted::into_partial).delivered
}

#[test]
fn functions_are_generic_over_sources() {
    let counts = spawn(async {
        let hosts = hosts();
        let list = || hosts.iter().map(|host| (host.as_str(), ask(host, 80)));
        let (sender, receiver) = unbounded();
        let driver = stream_results(list(), sender)
            .cancel_on(pending::<()>())
            .observe(|_| {});
        let delivered = delivered_by(driver).boxed().await;
        let made = fetch_and_aggregate(each(&hosts, |host| ask(host, 80)), NEVER);
        let stream = fetch_and_aggregate(from_stream(stream::iter(list())), NEVER);
        let batches = process_batch(from_stream(stream::iter([list(), list()])));
        [
            results_of(fetch_and_aggregate(list(), NEVER)).boxed().await,
            results_of(made).boxed().await,
            results_of(stream).boxed().await,
            outcomes_of(process_batch([list()])).boxed().await,
            outcomes_of(batches).boxed().await,
            delivered,
            receiver.len(),
        ]
    });
    assert_eq!(counts, [3, 3, 3, 1, 2, 3, 3]);
}

/// Generic over an operation.
async fn end_of<L, F, C, S, H, P>(run: Operation<L, F, C, S, H>) -> Result<(), Reason>
where
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
    Operation<L, F, C, S, H>: Future<Output = Result<P, Interrupted<P>>>,
{
    let end = run.concurrency(1).catch_panics().await;
    end.map(drop).map_err(|interrupted| interrupted.reason)
}

/// Generic over an operation that waits for its results.
fn strict<L, F, C, S, H>(run: Operation<L, F, C, S, H>) -> Operation<L, F, C, S, H>
where
    C: Aggregating,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    run.fail_fast()
}

#[test]
fn functions_are_generic_over_operations() {
    let list = || (0..3).map(|id| (id, ready(Err::<u32, _>("refused"))));
    let fetch = strict(fetch_and_aggregate(list(), NEVER));
    assert_eq!(block_on(end_of(fetch)), Err(Reason::SourceFailed));
    let batches = strict(process_batch([list()]).batch_fail_fast());
    assert_eq!(block_on(end_of(batches)), Err(Reason::SourceFailed));
    let (sender, _receiver) = unbounded();
    let driver = stream_results(list(), sender).cancel_on(ready(()));
    assert_eq!(block_on(end_of(driver)), Err(Reason::Cancelled));
}

async fn count<O>(receiver: Receiver<O>) -> usize {
    let mut received = 0;
    while receiver.recv().await.is_ok() {
        received += 1;
    }
    received
}

/// `join(driver, reader)` does not compile here: "implementation of `Deliver` is not general enough". It
/// compiles if the driver is awaited in an async block of its own. The same holds for the other operations.
#[test]
#[allow(clippy::redundant_async_block, reason = "it makes the task `Send`")]
fn driver_and_reader_are_joined_in_a_spawned_task() {
    let counts = spawn(async {
        let hosts = hosts();
        let (sender, receiver) = async_channel::bounded(1);
        let list = hosts.iter().map(|host| (host, ask(host, 80)));
        let driver = stream_results(list, sender);
        let (streamed, listed) = join(async { driver.await }, count(receiver)).await;

        let (sender, receiver) = async_channel::bounded(1);
        let driver = stream_results(each(&hosts, |host| ask(host, 80)), sender);
        let (_, made) = join(async { driver.await }, count(receiver)).await;

        let fetch = fetch_and_aggregate(each(&hosts, |host| ask(host, 80)), NEVER);
        let (fetched, ()) = join(async { fetch.await }, ready(())).await;
        let batches = process_batch([each(&hosts, |host| ask(host, 80))]);
        let (batches, ()) = join(async { batches.await }, ready(())).await;
        [
            streamed.unwrap().delivered,
            listed,
            made,
            fetched.unwrap().results.len(),
            batches.unwrap().len(),
        ]
    });
    assert_eq!(counts, [3, 3, 3, 3, 1]);
}

#[test]
fn boxed_futures_of_different_types_are_sources_of_one_list() {
    async fn cached() -> Result<u32, String> {
        Ok(1)
    }
    let sources = || -> [(&str, Boxed); 3] {
        [
            ("cache", cached().boxed()),
            ("default", ready(Ok(2)).boxed()),
            ("peer", async { Err("refused".to_owned()) }.boxed()),
        ]
    };
    let aggregate = block_on(fetch_and_aggregate(sources(), NEVER)).unwrap();
    assert_eq!(aggregate.results, [("cache", 1), ("default", 2)]);
    assert_eq!(aggregate.errors.len(), 1);
    let batches = block_on(process_batch([sources(), sources()])).unwrap();
    assert_eq!(batches[1].as_ref().unwrap().results, aggregate.results);
    let (sender, receiver) = unbounded();
    assert!(block_on(stream_results(sources(), sender)).is_ok());
    assert_eq!(receiver.len(), 3);
}

struct Probe<T>(PhantomData<T>);

impl<T: Unpin> Probe<T> {
    fn is_unpin(&self) -> bool {
        true
    }
}

/// A call resolves to this method if the bound of the method above does not hold.
trait NotUnpin {
    fn is_unpin(&self) -> bool {
        false
    }
}

impl<T> NotUnpin for Probe<T> {}

fn probe<T>(_: &T) -> Probe<T> {
    Probe(PhantomData)
}

#[test]
fn fetches_and_batches_are_unpin_with_unpin_signals_and_drivers_of_streams_are_not() {
    async fn pinned() -> Result<u32, String> {
        let pinned = PhantomPinned;
        ready(()).await;
        let _ = pinned;
        Ok(1)
    }
    let list = || (0..2).map(|id| (id, pinned()));
    let stream = || from_stream(stream::unfold((), |()| async { Some(((1, pinned()), ())) }));
    assert!(!probe(&pinned()).is_unpin());

    assert!(probe(&fetch_and_aggregate(list(), NEVER)).is_unpin());
    assert!(probe(&fetch_and_aggregate(stream(), NEVER)).is_unpin());
    assert!(probe(&fetch_and_aggregate(each([1], |_| pinned()), NEVER)).is_unpin());
    assert!(probe(&process_batch([list()])).is_unpin());
    assert!(probe(&process_batch([stream()])).is_unpin());
    assert!(
        probe(&process_batch(from_stream(stream::pending::<
            [(u8, Boxed); 1],
        >())))
        .is_unpin()
    );

    let (sender, _receiver) = unbounded();
    assert!(!probe(&stream_results([(1, ready(Ok::<_, ()>(1)))], sender)).is_unpin());

    // Signals are not boxed, so they have to be `Unpin`.
    assert!(probe(&fetch_and_aggregate(list(), NEVER).cancel_on(pending::<()>())).is_unpin());
    assert!(!probe(&fetch_and_aggregate(list(), NEVER).cancel_on(pinned())).is_unpin());
    assert!(!probe(&process_batch([list()]).expire_on(pinned())).is_unpin());
    let boxed = Box::pin(pinned());
    assert!(probe(&fetch_and_aggregate(list(), NEVER).cancel_on(boxed)).is_unpin());
}
