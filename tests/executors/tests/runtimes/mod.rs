//! Both flavours of tokio, and sources that use up the cooperative budget of a task.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures_aggregate::{
    Aggregate, Interrupted, SystemTimer, Timer, fetch_and_aggregate, process_batch, stream_results,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

pub type Answer = Result<u32, &'static str>;
pub type Source = (u32, BoxFuture<'static, Answer>);

/// No deadline.
pub const NEVER: Duration = Duration::MAX;

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The two flavours, by name.
pub fn flavours() -> [(&'static str, Runtime); 2] {
    [
        ("current thread", current_thread()),
        ("two workers", workers(2)),
    ]
}

pub fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn workers(count: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(count).enable_all().build().unwrap()
}

/// Runs one future in `block_on`, and another one in a spawned task.
pub fn in_block_on_and_spawned<F>(
    runtime: &Runtime,
    make: impl Fn() -> F,
    check: impl Fn(F::Output),
) where
    F: Future + Send + 'static,
    F::Output: Send,
{
    check(runtime.block_on(make()));
    check(runtime.block_on(async { tokio::spawn(make()).await.unwrap() }));
}

/// A busy source: it reads from a channel that is never empty, for at most 5 seconds.
pub fn never_dry() -> BoxFuture<'static, Answer> {
    Box::pin(async {
        let started = Instant::now();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        sender.send(()).unwrap();
        while started.elapsed() < ms(5000) {
            receiver.recv().await;
            sender.send(()).unwrap();
        }
        Err("ran for five seconds")
    })
}

/// A source that wakes itself in every poll, for at most 5 seconds.
pub fn restless() -> BoxFuture<'static, Answer> {
    struct Restless(Instant);

    impl Future for Restless {
        type Output = Answer;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
            cx.waker().wake_by_ref();
            match self.0.elapsed() < ms(5000) {
                true => Poll::Pending,
                false => Poll::Ready(Err("ran for five seconds")),
            }
        }
    }
    Box::pin(Restless(Instant::now()))
}

/// A source that sleeps. Its value is the number of milliseconds by which it woke late.
pub fn sleeps(duration: Duration) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let started = Instant::now();
        tokio::time::sleep(duration).await;
        Ok(started.elapsed().saturating_sub(duration).as_millis() as u32)
    })
}

/// Keeps the thread busy.
pub fn compute(duration: Duration) {
    let started = Instant::now();
    while started.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// The timer of the runtime.
#[derive(Default)]
pub struct TokioTimer;

impl Timer for TokioTimer {
    type Sleep = tokio::time::Sleep;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        tokio::time::sleep_until(at.into())
    }
}

/// A timer that runs can be spawned with.
pub trait AnyTimer: Timer<Sleep: Send> + Default + Send + 'static {}

impl<Z: Timer<Sleep: Send> + Default + Send + 'static> AnyTimer for Z {}

/// Which timeout bounds a run: that of the run, of each batch, or of each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Run,
    Batch,
    Source,
    /// The run expires by a timer of the runtime.
    Timer,
}

/// The result of a run of any operation.
#[derive(Debug, Default)]
pub struct Account {
    pub results: Vec<(u32, u32)>,
    pub timed_out: Vec<u32>,
    pub unfinished: Vec<u32>,
}

impl Account {
    fn add(
        &mut self,
        outcome: Result<
            Aggregate<u32, u32, &'static str>,
            Interrupted<Aggregate<u32, u32, &'static str>>,
        >,
    ) {
        let aggregate = outcome.unwrap_or_else(Interrupted::into_partial);
        self.results.extend(aggregate.results);
        for (id, error) in aggregate.errors {
            assert!(error.is_timed_out(), "{id}: {error}");
            self.timed_out.push(id);
        }
        self.unfinished.extend(aggregate.unfinished);
    }

    pub fn late(&self) -> usize {
        self.timed_out.len() + self.unfinished.len()
    }
}

/// An operation with a timeout.
pub type Operation = fn(Vec<Source>, Limit, Duration) -> BoxFuture<'static, Account>;

/// Every operation that has this timeout, with the default timer and with that of the runtime. Batches
/// have two sources each.
pub fn runs_with_both_timers(limit: Limit) -> Vec<(String, Operation)> {
    let system = runs_with::<SystemTimer>(limit).into_iter();
    let tokio = runs_with::<TokioTimer>(limit).into_iter();
    let system = system.map(|(name, run)| (name.to_owned(), run));
    system
        .chain(tokio.map(|(name, run)| (format!("{name} with tokio's timer"), run)))
        .collect()
}

fn runs_with<Z: AnyTimer>(limit: Limit) -> Vec<(&'static str, Operation)> {
    match limit {
        Limit::Batch => vec![
            ("process_batch", batches::<Z>),
            ("one batch", one_batch::<Z>),
        ],
        _ => vec![
            ("fetch_and_aggregate", fetch_with::<Z>),
            ("process_batch", batches::<Z>),
            ("one batch", one_batch::<Z>),
            ("stream_results", stream::<Z>),
        ],
    }
}

pub fn fetch(sources: Vec<Source>, limit: Limit, timeout: Duration) -> BoxFuture<'static, Account> {
    fetch_with::<SystemTimer>(sources, limit, timeout)
}

fn fetch_with<Z: AnyTimer>(
    sources: Vec<Source>,
    limit: Limit,
    timeout: Duration,
) -> BoxFuture<'static, Account> {
    Box::pin(async move {
        let mut account = Account::default();
        let run = fetch_and_aggregate(sources, NEVER).timer(Z::default());
        let outcome = match limit {
            Limit::Run => run.timeout(timeout).await,
            Limit::Source => run.source_timeout(timeout).await,
            Limit::Timer => run.expire_on(tokio::time::sleep(timeout)).await,
            Limit::Batch => unreachable!("there are no batches"),
        };
        account.add(outcome);
        account
    })
}

fn batches<Z: AnyTimer>(
    mut sources: Vec<Source>,
    limit: Limit,
    timeout: Duration,
) -> BoxFuture<'static, Account> {
    let mut batches = Vec::new();
    while !sources.is_empty() {
        batches.push(sources.split_off(sources.len().saturating_sub(2)));
    }
    batches.reverse();
    in_batches::<Z>(batches, limit, timeout)
}

fn one_batch<Z: AnyTimer>(
    sources: Vec<Source>,
    limit: Limit,
    timeout: Duration,
) -> BoxFuture<'static, Account> {
    in_batches::<Z>(vec![sources], limit, timeout)
}

fn in_batches<Z: AnyTimer>(
    batches: Vec<Vec<Source>>,
    limit: Limit,
    timeout: Duration,
) -> BoxFuture<'static, Account> {
    Box::pin(async move {
        let run = process_batch(batches)
            .timer(Z::default())
            .batch_timeout(NEVER);
        let outcome = match limit {
            Limit::Run => run.timeout(timeout).await,
            Limit::Batch => run.batch_timeout(timeout).await,
            Limit::Source => run.source_timeout(timeout).await,
            Limit::Timer => run.expire_on(tokio::time::sleep(timeout)).await,
        };
        let mut account = Account::default();
        for batch in outcome.unwrap_or_else(Interrupted::into_partial) {
            account.add(batch);
        }
        account
    })
}

fn stream<Z: AnyTimer>(
    sources: Vec<Source>,
    limit: Limit,
    timeout: Duration,
) -> BoxFuture<'static, Account> {
    Box::pin(async move {
        let (sender, receiver) = async_channel::unbounded();
        let driver = stream_results(sources, sender).timer(Z::default());
        let outcome = match limit {
            Limit::Run => driver.timeout(timeout).await,
            Limit::Source => driver.source_timeout(timeout).await,
            Limit::Timer => driver.expire_on(tokio::time::sleep(timeout)).await,
            Limit::Batch => unreachable!("there are no batches"),
        };
        let streamed = outcome.unwrap_or_else(Interrupted::into_partial);
        let mut aggregate = Aggregate::default();
        while let Ok(outcome) = receiver.try_recv() {
            aggregate.record(outcome);
        }
        aggregate.unfinished = streamed.unfinished;
        let mut account = Account::default();
        account.add(Ok(aggregate));
        account
    })
}
