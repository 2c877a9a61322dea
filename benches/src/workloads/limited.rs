//! Sources with keys or weights, and a limit that several runs share.

use std::future::Future;

use async_lock::Semaphore as AsyncLock;
use future_queue::{FutureQueueContext, StreamExt as _};
use futures::executor::block_on;
use futures::stream::{self, FuturesUnordered, StreamExt as _};
use futures_aggregate::{Limit, fetch_and_aggregate};
use tokio::sync::Semaphore as Tokio;

use super::bounded::LIMIT;
use super::{Answers, NEVER, collect, complete, with_id};
use crate::harness::Contender;
use crate::sources::{Answer, Yields};

/// The number of different keys.
const KEYS: usize = 32;
/// The limit for each key.
const PER_KEY: usize = 4;
/// The number of runs that share a limit.
const RUNS: usize = 8;

/// Each key as often as the others.
fn even(id: usize) -> usize {
    id % KEYS
}

/// One key for half of the sources.
fn skewed(id: usize) -> usize {
    if id % 2 == 0 { 0 } else { id % KEYS }
}

/// From 1 to 8.
fn weight(id: usize) -> usize {
    1 + id % 8
}

pub(super) fn even_keys(size: usize) -> Vec<Contender> {
    keys(size, even)
}

pub(super) fn skewed_keys(size: usize) -> Vec<Contender> {
    keys(size, skewed)
}

fn keys(size: usize, key: fn(usize) -> usize) -> Vec<Contender> {
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, Yields::new(id, 1)));
            let run = fetch_and_aggregate(sources, NEVER)
                .concurrency(LIMIT)
                .concurrency_per(|id| key(*id), PER_KEY);
            complete(size, async { run.await.unwrap() });
        }),
        Contender::new("future-queue", move || {
            let groups = (0..KEYS).map(|key| (key, PER_KEY));
            let futures = stream::iter(0..size).map(move |id| {
                let make = move |_: FutureQueueContext| with_id(id, Yields::new(id, 1));
                (1, Some(key(id)), make)
            });
            complete(size, collect(futures.future_queue_grouped(LIMIT, groups)));
        }),
    ]
}

pub(super) fn weights(size: usize) -> Vec<Contender> {
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, Yields::new(id, 1)));
            let run = fetch_and_aggregate(sources, NEVER)
                .concurrency(LIMIT)
                .weight(|id| weight(*id));
            complete(size, async { run.await.unwrap() });
        }),
        Contender::new("future-queue", move || {
            let futures = stream::iter(0..size).map(move |id| {
                let make = move |_: FutureQueueContext| with_id(id, Yields::new(id, 1));
                (weight(id), make)
            });
            complete(size, collect(futures.future_queue(LIMIT)));
        }),
    ]
}

/// The sources of one of the runs.
fn part(size: usize, run: usize) -> impl Iterator<Item = usize> {
    (0..size).skip(run).step_by(RUNS)
}

/// Polls the runs that are woken.
fn all<F: Future<Output = Answers>>(size: usize, run: impl Fn(usize) -> F) {
    let runs: FuturesUnordered<_> = (0..RUNS).map(run).collect();
    let answers = block_on(runs.collect::<Vec<_>>());
    let answered = answers.iter().map(|it| it.results.len() + it.errors.len());
    assert_eq!(answered.sum::<usize>(), size);
}

pub(super) fn shared(size: usize) -> Vec<Contender> {
    async fn of_tokio(permits: &Tokio, id: usize) -> Answer {
        let _permit = permits.acquire().await.unwrap();
        Yields::new(id, 1).await
    }
    async fn of_async_lock(permits: &AsyncLock, id: usize) -> Answer {
        let _permit = permits.acquire().await;
        Yields::new(id, 1).await
    }
    vec![
        Contender::new("futures-aggregate", move || {
            let limit = Limit::new(LIMIT);
            all(size, |run| {
                let sources = part(size, run).map(|id| (id, Yields::new(id, 1)));
                let run = fetch_and_aggregate(sources, NEVER).concurrency(&limit);
                async { run.await.unwrap() }
            });
        }),
        // A run that starts all its sources, and a semaphore that they wait for.
        Contender::new("tokio", move || {
            let permits = Tokio::new(LIMIT);
            all(size, |run| {
                let permits = &permits;
                let sources = part(size, run).map(move |id| (id, of_tokio(permits, id)));
                let run = fetch_and_aggregate(sources, NEVER);
                async { run.await.unwrap() }
            });
        }),
        Contender::new("async-lock", move || {
            let permits = AsyncLock::new(LIMIT);
            all(size, |run| {
                let permits = &permits;
                let sources = part(size, run).map(move |id| (id, of_async_lock(permits, id)));
                let run = fetch_and_aggregate(sources, NEVER);
                async { run.await.unwrap() }
            });
        }),
        // Each of them starts no more sources than the limit lets work.
        Contender::new("FuturesUnordered", move || {
            let permits = Tokio::new(LIMIT);
            all(size, |run| {
                let permits = &permits;
                let futures = part(size, run).map(move |id| with_id(id, of_tokio(permits, id)));
                collect(stream::iter(futures).buffer_unordered(LIMIT))
            });
        }),
    ]
}
