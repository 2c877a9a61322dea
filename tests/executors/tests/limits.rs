//! Limits that runs on several threads and executors share: a server counts the requests of real clients, and
//! sources note when they start.

mod throttled;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::future::{BoxFuture, FutureExt};
use futures::{AsyncReadExt, AsyncWriteExt};
use futures_aggregate::{Limit, Rate, each, fetch_and_aggregate};
use throttled::{Request, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};

const LONG: Duration = Duration::from_secs(60);
const RUNS: usize = 8;
const SOURCES: usize = 100;
const PER_KEY: usize = 2;

/// An executor with two threads.
trait Threads {
    fn spawn(&self, task: BoxFuture<'static, ()>);
    fn ask(server: &Server, request: Request) -> BoxFuture<'static, [u8; Request::BYTES]>;
}

impl Threads for Runtime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.spawn(task);
    }

    fn ask(server: &Server, request: Request) -> BoxFuture<'static, [u8; Request::BYTES]> {
        let address = server.address;
        let ask = async move {
            let mut server = tokio::net::TcpStream::connect(address).await.unwrap();
            server.write_all(&request.bytes()).await.unwrap();
            let mut answer = [0; Request::BYTES];
            server.read_exact(&mut answer).await.unwrap();
            answer
        };
        ask.boxed()
    }
}

/// Two threads run the tasks of one executor.
struct Smol {
    tasks: Arc<async_executor::Executor<'static>>,
    _stop: async_channel::Sender<()>,
}

impl Smol {
    fn new() -> Self {
        let tasks = Arc::new(async_executor::Executor::new());
        let (stop, stopped) = async_channel::bounded::<()>(1);
        for _ in 0..2 {
            let (tasks, stopped) = (tasks.clone(), stopped.clone());
            thread::spawn(move || block_on(tasks.run(stopped.recv())));
        }
        Self { tasks, _stop: stop }
    }
}

impl Threads for Smol {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tasks.spawn(task).detach();
    }

    fn ask(server: &Server, request: Request) -> BoxFuture<'static, [u8; Request::BYTES]> {
        let address = server.address;
        let ask = async move {
            let mut server = smol::net::TcpStream::connect(address).await.unwrap();
            server.write_all(&request.bytes()).await.unwrap();
            let mut answer = [0; Request::BYTES];
            server.read_exact(&mut answer).await.unwrap();
            answer
        };
        ask.boxed()
    }
}

fn tokio() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Numbers that look random.
fn random(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize
    }
}

/// Calls `before` before each poll.
async fn before_each_poll<F: Future>(future: F, before: impl Fn()) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        before();
        future.as_mut().poll(cx)
    })
    .await
}

/// One key for most sources.
fn key(id: usize) -> usize {
    usize::from(id % 10 == 9)
}

/// A run of requests under the limit, with keys or with weights.
#[allow(
    clippy::redundant_async_block,
    reason = "a task does not compile without it"
)]
async fn run<T: Threads>(server: Server, limit: Limit, number: usize) {
    let has_keys = number % 4 < 2;
    let weight = move |id: usize| if has_keys { 1 } else { 2 + id * 7 % 5 };
    let changes = AtomicUsize::new(0);
    // The function is called in the poll that gives the source its place.
    let sources = each(0..SOURCES, |&id| {
        let request = Request {
            run: number,
            id,
            weight: weight(id),
            changes: changes.load(Ordering::Relaxed),
        };
        let ask = T::ask(&server, request);
        ask.map(move |answer| Ok::<_, ()>(answer == request.bytes()))
    });
    let run = fetch_and_aggregate(sources, LONG).concurrency(&limit);
    let note = || changes.store(server.changes(), Ordering::Relaxed);
    let aggregate = match has_keys {
        true => {
            let run = run.concurrency_per(|id| key(*id), PER_KEY);
            before_each_poll(async { run.await }, note).await
        }
        false => {
            let run = run.weight(|id| weight(*id));
            before_each_poll(async { run.await }, note).await
        }
    };
    let mut answers = aggregate.unwrap().results;
    answers.sort_unstable();
    assert!(answers.into_iter().eq((0..SOURCES).map(|id| (id, true))));
}

/// Eight runs under a limit that changes, by turns on one and on the other executor.
fn runs_share_a_limit<A: Threads, B: Threads>(one: &A, other: &B, seed: u64) {
    let limit = Limit::new(4);
    let server = Server::start(&limit, key);
    let (over, all_over) = async_channel::bounded::<()>(1);
    for number in 0..RUNS {
        let over = over.clone();
        let (server, limit) = (server.clone(), limit.clone());
        let task = async move {
            match number % 2 {
                0 => run::<A>(server, limit, number).await,
                _ => run::<B>(server, limit, number).await,
            }
            drop(over);
        };
        match number % 2 {
            0 => one.spawn(task.boxed()),
            _ => other.spawn(task.boxed()),
        }
    }
    drop(over);
    let mut random = random(seed);
    server.change_limit(&limit, 5, RUNS * SOURCES, || 1 + random() % 24);
    assert!(all_over.recv_blocking().is_err());
    server.check(RUNS, SOURCES, PER_KEY);
    assert_eq!(limit.in_use(), 0);
}

#[test]
fn runs_on_two_threads_of_tokio_share_a_limit_that_changes() {
    let tokio = tokio();
    runs_share_a_limit(&tokio, &tokio, 1);
}

#[test]
fn runs_on_two_threads_of_async_executor_share_a_limit_that_changes() {
    let smol = Smol::new();
    runs_share_a_limit(&smol, &smol, 2);
}

#[test]
fn runs_on_two_executors_share_a_limit_that_changes() {
    runs_share_a_limit(&tokio(), &Smol::new(), 3);
}

/// A start: the beginning of the poll in which its run got the permit, and a time in the first poll of the
/// source. The start was counted between them.
#[derive(Debug, Clone, Copy)]
struct Start {
    earliest: Instant,
    latest: Instant,
}

/// Fails if there are too many starts in any span of time.
fn keep_the_rate(starts: &[Start], interval: Duration, burst: u32) {
    for from in starts {
        let mut latest: Vec<_> = starts
            .iter()
            .filter(|start| start.earliest >= from.earliest)
            .map(|start| start.latest)
            .collect();
        latest.sort_unstable();
        // The starts up to each of these times, which are no farther apart than this.
        for (count, to) in (1..).zip(latest) {
            let span = to.duration_since(from.earliest);
            let least = interval * u32::saturating_sub(count, burst);
            assert!(
                span >= least,
                "{count} starts in {span:?}, {burst} at once, one in {interval:?}"
            );
        }
    }
}

fn runs_share_a_rate(executors: [&dyn Fn(BoxFuture<'static, ()>); 2]) {
    const BURST: u32 = 5;
    const INTERVAL: Duration = Duration::from_millis(1);
    let rate = Rate::per_second(1000.0).burst(BURST);
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (over, all_over) = async_channel::bounded::<()>(1);
    let began = Instant::now();
    for number in 0..RUNS {
        let (rate, starts, over) = (rate.clone(), starts.clone(), over.clone());
        let task = async move {
            let poll = Mutex::new(Instant::now());
            let sources = each(0..SOURCES, |_| {
                let (earliest, starts) = (*poll.lock().unwrap(), starts.clone());
                async move {
                    let latest = Instant::now();
                    starts.lock().unwrap().push(Start { earliest, latest });
                    Ok::<_, ()>(())
                }
            });
            let run = fetch_and_aggregate(sources, LONG).rate(&rate);
            let note = || *poll.lock().unwrap() = Instant::now();
            let aggregate = before_each_poll(run, note).await.unwrap();
            assert_eq!(aggregate.results.len(), SOURCES);
            drop(over);
        };
        executors[number % 2](task.boxed());
    }
    drop(over);
    assert!(all_over.recv_blocking().is_err());
    let starts = starts.lock().unwrap();
    assert_eq!(starts.len(), RUNS * SOURCES);
    keep_the_rate(&starts, INTERVAL, BURST);
    assert!(began.elapsed() >= INTERVAL * ((RUNS * SOURCES) as u32 - BURST));
}

#[test]
fn runs_on_two_threads_of_tokio_share_a_rate() {
    let tokio = tokio();
    let spawn = |task| drop(tokio.spawn(task));
    runs_share_a_rate([&spawn, &spawn]);
}

#[test]
fn runs_on_two_executors_share_a_rate() {
    let (tokio, smol) = (tokio(), Smol::new());
    runs_share_a_rate([&|task| drop(tokio.spawn(task)), &|task| smol.spawn(task)]);
}
