//! Sources that wait for something of a runtime: sleeps, answers of another task, places of a semaphore,
//! channels and sockets. The set and what it waits for are tasks of tokio, on one thread or on two.

use std::cell::RefCell;
use std::future::Future;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures_aggregate::{fetch_and_aggregate, spawned};
use futures_concurrency::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};

use super::{Answers, NEVER, all_joined, check, collect, sorted, with_id, woken};
use crate::harness::Contender;
use crate::sources::{Answer, answer};

/// The number of sources that have a place at the same time.
const PLACES: usize = 16;

/// The number of messages in each channel.
const MESSAGES: usize = 20;

/// The number of questions and answers on each connection.
const ROUND_TRIPS: usize = 4;

/// What runs the tasks.
type Start = fn() -> Runtime;

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Counts the sources that wait. Whoever wakes them waits for all of them.
#[derive(Clone)]
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    async fn all(&self, size: usize) {
        while self.0.load(Ordering::Relaxed) < size {
            yield_now().await;
        }
    }
}

/// The contenders on sources that `start` makes inside the runtime, together with the task that they wait
/// for. If `is_spawned`, this crate gives each source a task, as a `JoinSet` does.
fn contenders<F, W>(
    size: usize,
    runtime: Start,
    is_spawned: bool,
    start: impl Fn(usize) -> (Vec<F>, W) + Clone + 'static,
) -> Vec<Contender>
where
    F: Future<Output = Answer> + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let runtime = Rc::new(runtime());
    let contender = |name, collected: fn(Vec<F>) -> tokio::task::JoinHandle<Answers>| {
        let (runtime, start) = (Rc::clone(&runtime), start.clone());
        Contender::new(name, move || {
            let answers = runtime.block_on(async {
                let (sources, beside) = start(size);
                let beside = tokio::spawn(beside);
                let answers = collected(sources).await.unwrap();
                beside.await.unwrap();
                answers
            });
            check(size, &answers);
        })
    };
    let own = match is_spawned {
        false => contender("futures-aggregate", |sources| {
            let run = fetch_and_aggregate(sources.into_iter().enumerate(), NEVER);
            tokio::spawn(async { run.await.unwrap() })
        }),
        true => contender("futures-aggregate", |sources| {
            let sources = spawned(sources.into_iter().enumerate(), |task| {
                tokio::spawn(task);
            });
            let run = fetch_and_aggregate(sources, NEVER);
            tokio::spawn(async { run.await.unwrap() })
        }),
    };
    let mut contenders = vec![
        own,
        contender("FuturesUnordered", |sources| {
            tokio::spawn(collect(with_ids(sources).collect::<FuturesUnordered<_>>()))
        }),
        contender("futures-buffered", |sources| {
            let futures: futures_buffered::FuturesUnordered<_> = with_ids(sources).collect();
            tokio::spawn(collect(futures))
        }),
        contender("tokio", |sources| {
            tokio::spawn(async { all_joined(with_ids(sources).collect::<JoinSet<_>>()).await })
        }),
    ];
    if !is_spawned {
        contenders.push(contender("futures-concurrency", |sources| {
            let futures: Vec<_> = with_ids(sources).collect();
            tokio::spawn(async { sorted(futures.join().await) })
        }));
    }
    contenders
}

/// The sources, each with its place as its id.
fn with_ids<F: Future>(
    sources: Vec<F>,
) -> impl Iterator<Item = impl Future<Output = (usize, F::Output)>> {
    let sources = sources.into_iter().enumerate();
    sources.map(|(id, source)| with_id(id, source))
}

/// Sources that sleep for one to four milliseconds.
fn sleeping(size: usize, runtime: Start) -> Vec<Contender> {
    contenders(size, runtime, false, |size| {
        let sleep = |id: usize| async move {
            tokio::time::sleep(Duration::from_millis(1 + id as u64 * 5 % 4)).await;
            answer(id)
        };
        ((0..size).map(sleep).collect(), async {})
    })
}

pub(super) fn sleeps(size: usize) -> Vec<Contender> {
    sleeping(size, one_thread)
}

pub(super) fn sleeps_on_two_threads(size: usize) -> Vec<Contender> {
    sleeping(size, two_threads)
}

/// Sources that another task answers in an order, once all of them wait.
fn answered(size: usize, runtime: Start, order: fn(usize) -> Vec<usize>) -> Vec<Contender> {
    contenders(size, runtime, false, move |size| {
        let waiting = Waiting::new();
        let channel = |id: usize| {
            let (sender, receiver) = oneshot::channel();
            let waiting = waiting.clone();
            let source = async move {
                waiting.note();
                let _: () = receiver.await.unwrap();
                answer(id)
            };
            (Some(sender), source)
        };
        let (mut senders, sources): (Vec<_>, _) = (0..size).map(channel).unzip();
        let in_order = order(size)
            .into_iter()
            .map(|id| senders[id].take().unwrap());
        let senders: Vec<_> = in_order.collect();
        let answering = async move {
            waiting.all(size).await;
            for sender in senders {
                sender.send(()).unwrap();
            }
        };
        (sources, answering)
    })
}

pub(super) fn oneshots(size: usize) -> Vec<Contender> {
    answered(size, one_thread, |size| (0..size).collect())
}

/// The order in which futures-concurrency's own benchmark wakes the futures of a join.
pub(super) fn shuffled_oneshots(size: usize) -> Vec<Contender> {
    answered(size, one_thread, |size| woken::shuffled(size).collect())
}

pub(super) fn oneshots_on_two_threads(size: usize) -> Vec<Contender> {
    answered(size, two_threads, |size| (0..size).collect())
}

/// Sources that yield once while they have one of 16 places.
fn sharing_places(size: usize, runtime: Start) -> Vec<Contender> {
    contenders(size, runtime, false, |size| {
        let places = Arc::new(Semaphore::new(PLACES));
        let source = |id: usize| {
            let places = Arc::clone(&places);
            async move {
                let place = places.acquire().await.unwrap();
                yield_now().await;
                drop(place);
                answer(id)
            }
        };
        ((0..size).map(source).collect(), async {})
    })
}

pub(super) fn semaphore(size: usize) -> Vec<Contender> {
    sharing_places(size, one_thread)
}

pub(super) fn semaphore_on_two_threads(size: usize) -> Vec<Contender> {
    sharing_places(size, two_threads)
}

/// Sources that read a channel to its end. Another task sends to all of them by turns.
fn reading(size: usize, runtime: Start, is_spawned: bool) -> Vec<Contender> {
    contenders(size, runtime, is_spawned, |size| {
        let waiting = Waiting::new();
        let channel = |id: usize| {
            let (sender, mut receiver) = mpsc::channel(MESSAGES);
            let waiting = waiting.clone();
            let source = async move {
                waiting.note();
                let mut messages = 0;
                while let Some(()) = receiver.recv().await {
                    messages += 1;
                }
                assert_eq!(messages, MESSAGES);
                answer(id)
            };
            (sender, source)
        };
        let (senders, sources): (Vec<_>, _) = (0..size).map(channel).unzip();
        let sending = async move {
            waiting.all(size).await;
            for _ in 0..MESSAGES {
                for sender in &senders {
                    sender.send(()).await.unwrap();
                }
                yield_now().await;
            }
        };
        (sources, sending)
    })
}

pub(super) fn channels(size: usize) -> Vec<Contender> {
    reading(size, one_thread, false)
}

pub(super) fn channels_on_two_threads(size: usize) -> Vec<Contender> {
    reading(size, two_threads, false)
}

pub(super) fn channels_of_tasks(size: usize) -> Vec<Contender> {
    reading(size, two_threads, true)
}

/// Sources that ask an echo server on connections that stay open.
fn asking(size: usize, runtime: Start, is_spawned: bool) -> Vec<Contender> {
    // The connections belong to the runtime that is the first to use them.
    let connections = Rc::new(RefCell::new(Arc::<[Mutex<TcpStream>]>::default()));
    contenders(size, runtime, is_spawned, move |size| {
        let mut connections = connections.borrow_mut();
        if connections.is_empty() {
            *connections = (0..size).map(|_| Mutex::new(connect())).collect();
        }
        let source = |id: usize| {
            let connections = Arc::clone(&connections);
            async move {
                let mut connection = connections[id].lock().await;
                let mut answered = [0; 16];
                for trip in 0..ROUND_TRIPS {
                    connection.write_all(&[trip as u8; 16]).await.unwrap();
                    connection.read_exact(&mut answered).await.unwrap();
                    assert_eq!(answered, [trip as u8; 16]);
                }
                answer(id)
            }
        };
        ((0..size).map(source).collect(), async {})
    })
}

/// A connection to a task that sends everything back.
fn connect() -> TcpStream {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    client.set_nodelay(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        let (mut server, _) = listener.accept().await.unwrap();
        server.set_nodelay(true).unwrap();
        let (mut reader, mut writer) = server.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    TcpStream::from_std(client).unwrap()
}

pub(super) fn sockets(size: usize) -> Vec<Contender> {
    asking(size, one_thread, false)
}

pub(super) fn sockets_on_two_threads(size: usize) -> Vec<Contender> {
    asking(size, two_threads, false)
}

pub(super) fn sockets_of_tasks(size: usize) -> Vec<Contender> {
    asking(size, two_threads, true)
}

/// Sources that compute for some microseconds, in two steps.
pub(super) fn computing_tasks(size: usize) -> Vec<Contender> {
    contenders(size, two_threads, true, |size| {
        let compute = |id: usize| async move {
            black_box(work(id as u64));
            yield_now().await;
            black_box(work(id as u64 + 1));
            answer(id)
        };
        ((0..size).map(compute).collect(), async {})
    })
}

/// Some microseconds of work.
fn work(seed: u64) -> u64 {
    (0..2000).fold(black_box(seed), |sum, step| {
        (sum ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// The timers of futures-buffered's own benchmark: 100 microseconds each, 256 at a time.
pub(super) fn short_sleeps_256_at_a_time(size: usize) -> Vec<Contender> {
    use futures::StreamExt;
    use futures_buffered::BufferedStreamExt;

    const AT_A_TIME: usize = 256;
    let runtime = Rc::new(one_thread());
    let contender = |name, work: fn(usize, &Runtime) -> Answers| {
        let runtime = Rc::clone(&runtime);
        Contender::new(name, move || check(size, &work(size, &runtime)))
    };
    vec![
        contender("futures-aggregate", |size, runtime| {
            let run = fetch_and_aggregate((0..size).map(|id| (id, nap(id))), NEVER);
            runtime.block_on(run.concurrency(AT_A_TIME)).unwrap()
        }),
        contender("FuturesUnordered", |size, runtime| {
            let futures = (0..size).map(|id| with_id(id, nap(id)));
            let futures = futures::stream::iter(futures);
            runtime.block_on(collect(StreamExt::buffer_unordered(futures, AT_A_TIME)))
        }),
        contender("futures-buffered", |size, runtime| {
            let futures = (0..size).map(|id| with_id(id, nap(id)));
            let futures = futures::stream::iter(futures);
            runtime.block_on(collect(futures.buffered_unordered(AT_A_TIME)))
        }),
    ]
}

async fn nap(id: usize) -> Answer {
    tokio::time::sleep(Duration::from_micros(100)).await;
    answer(id)
}
