//! All sources at once.

use std::future::Future;

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures_aggregate::fetch_and_aggregate;
use futures_concurrency::prelude::*;
use tokio::task::JoinSet;

use super::{NEVER, all_joined, check, collect, complete, current_thread, sorted, with_id};
use crate::harness::Contender;
use crate::sources::{Answer, Yields, answer};

/// A source that is ready.
pub(super) fn answered(id: usize) -> std::future::Ready<Answer> {
    std::future::ready(answer(id))
}

pub(super) fn ready(size: usize) -> Vec<Contender> {
    contenders(size, answered)
}

pub(super) fn pending_once(size: usize) -> Vec<Contender> {
    contenders(size, |id| Yields::new(id, 1))
}

pub(super) fn pending_four_times(size: usize) -> Vec<Contender> {
    contenders(size, |id| Yields::new(id, 4))
}

fn contenders<F>(size: usize, source: fn(usize) -> F) -> Vec<Contender>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let runtime = current_thread();
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, source(id)));
            complete(size, async {
                fetch_and_aggregate(sources, NEVER).await.unwrap()
            });
        }),
        Contender::new("FuturesUnordered", move || {
            let futures = (0..size).map(|id| with_id(id, source(id)));
            complete(size, collect(futures.collect::<FuturesUnordered<_>>()));
        }),
        Contender::new("futures-buffered", move || {
            let futures = (0..size).map(|id| with_id(id, source(id)));
            complete(
                size,
                collect(futures.collect::<futures_buffered::FuturesUnordered<_>>()),
            );
        }),
        Contender::new("join_all", move || {
            let futures = (0..size).map(|id| with_id(id, source(id)));
            complete(size, async { sorted(join_all(futures).await) });
        }),
        Contender::new("futures-concurrency", move || {
            let futures: Vec<_> = (0..size).map(|id| with_id(id, source(id))).collect();
            complete(size, async { sorted(futures.join().await) });
        }),
        Contender::new("tokio", move || {
            let answers = runtime.block_on(async {
                let mut set = JoinSet::new();
                for id in 0..size {
                    set.spawn(with_id(id, source(id)));
                }
                all_joined(set).await
            });
            check(size, &answers);
        }),
    ]
}
