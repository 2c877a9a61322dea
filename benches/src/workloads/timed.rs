//! Timeouts that do not fire.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join, join_all, select};
use futures::stream::FuturesUnordered;
use futures::{StreamExt, stream};
use futures_aggregate::fetch_and_aggregate;
use futures_timer::Delay;

use super::{Answers, NEVER, check, collect, complete, current_thread, sorted, with_id};
use crate::harness::Contender;
use crate::sources::{Answer, Gate, Yields, waiting};

const TIMEOUT: Duration = Duration::from_secs(2);
const LIMIT: usize = 256;
/// The answer of a source that times out.
const LATE: Answer = Err(0);

async fn with_delay(id: usize) -> (usize, Answer) {
    match select(Yields::new(id, 1), Delay::new(TIMEOUT)).await {
        Either::Left((answer, _)) => (id, answer),
        Either::Right(_) => (id, LATE),
    }
}

async fn with_tokio(id: usize) -> (usize, Answer) {
    let answer = tokio::time::timeout(TIMEOUT, Yields::new(id, 1)).await;
    (id, answer.unwrap_or(LATE))
}

pub(super) fn each(size: usize) -> Vec<Contender> {
    let runtime = current_thread();
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, Yields::new(id, 1)));
            let run = fetch_and_aggregate(sources, NEVER)
                .concurrency(LIMIT)
                .source_timeout(TIMEOUT);
            complete(size, async { run.await.unwrap() });
        }),
        Contender::new("FuturesUnordered", move || {
            let futures = stream::iter((0..size).map(with_delay));
            complete(size, collect(futures.buffer_unordered(LIMIT)));
        }),
        Contender::new("tokio", move || {
            let futures = stream::iter((0..size).map(with_tokio));
            let answers = runtime.block_on(collect(futures.buffer_unordered(LIMIT)));
            check(size, &answers);
        }),
    ]
}

pub(super) fn whole(size: usize) -> Vec<Contender> {
    let runtime = current_thread();
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, Yields::new(id, 1)));
            complete(size, async {
                fetch_and_aggregate(sources, TIMEOUT).await.unwrap()
            });
        }),
        Contender::new("FuturesUnordered", move || {
            let futures = (0..size).map(|id| with_id(id, Yields::new(id, 1)));
            let all = Box::pin(collect(futures.collect::<FuturesUnordered<_>>()));
            complete(size, async {
                match select(all, Delay::new(TIMEOUT)).await {
                    Either::Left((answers, _)) => answers,
                    Either::Right(_) => Answers::default(),
                }
            });
        }),
        Contender::new("tokio", move || {
            let futures = (0..size).map(|id| with_id(id, Yields::new(id, 1)));
            let all = async { tokio::time::timeout(TIMEOUT, join_all(futures)).await };
            let answers = runtime.block_on(all).map(sorted).unwrap_or_default();
            check(size, &answers);
        }),
    ]
}

/// The same with sources that wait until another task opens their gates, so that the deadline needs a
/// timer.
pub(super) fn whole_waiting(size: usize) -> Vec<Contender> {
    let runtime = current_thread();
    vec![
        Contender::new("futures-aggregate", move || {
            let (gates, sources) = waiting(size);
            let run = fetch_and_aggregate(sources.into_iter().enumerate(), TIMEOUT);
            complete(size, then_open(async { run.await.unwrap() }, gates));
        }),
        Contender::new("FuturesUnordered", move || {
            let (gates, sources) = waiting(size);
            let futures = sources.into_iter().enumerate();
            let futures = futures.map(|(id, source)| with_id(id, source));
            let all = Box::pin(collect(futures.collect::<FuturesUnordered<_>>()));
            let all = async {
                match select(all, Delay::new(TIMEOUT)).await {
                    Either::Left((answers, _)) => answers,
                    Either::Right(_) => Answers::default(),
                }
            };
            complete(size, then_open(all, gates));
        }),
        Contender::new("tokio", move || {
            let (gates, sources) = waiting(size);
            let futures = sources.into_iter().enumerate();
            let futures = futures.map(|(id, source)| with_id(id, source));
            let all = async { tokio::time::timeout(TIMEOUT, join_all(futures)).await };
            let all = async { all.await.map(sorted).unwrap_or_default() };
            let answers = runtime.block_on(then_open(all, gates));
            check(size, &answers);
        }),
    ]
}

/// Opens the gates when the work waits for them.
async fn then_open<W: Future>(work: W, gates: Vec<Arc<Gate>>) -> W::Output {
    let open = async { gates.iter().for_each(|gate| gate.open()) };
    join(work, open).await.0
}
