//! A limited number of sources at a time.

use async_channel::bounded;
use futures::future::join;
use futures::{StreamExt, stream};
use futures_aggregate::{fetch_and_aggregate, stream_results};
use futures_buffered::BufferedStreamExt;
use futures_concurrency::prelude::*;
use tokio::task::JoinSet;

use super::joined::answered;
use super::{Answers, NEVER, check, collect, complete, current_thread, record, sorted, with_id};
use crate::harness::Contender;
use crate::sources::Yields;

pub(super) const LIMIT: usize = 64;

pub(super) fn pending_once(size: usize) -> Vec<Contender> {
    let futures = move || (0..size).map(|id| with_id(id, Yields::new(id, 1)));
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, Yields::new(id, 1)));
            let run = fetch_and_aggregate(sources, NEVER).concurrency(LIMIT);
            complete(size, async { run.await.unwrap() });
        }),
        Contender::new("FuturesUnordered", move || {
            complete(
                size,
                collect(stream::iter(futures()).buffer_unordered(LIMIT)),
            );
        }),
        Contender::new("futures-buffered", move || {
            complete(
                size,
                collect(stream::iter(futures()).buffered_unordered(LIMIT)),
            );
        }),
        Contender::new("tokio", {
            let runtime = current_thread();
            move || {
                let mut futures = futures();
                let answers = runtime.block_on(async {
                    let mut set: JoinSet<_> = futures.by_ref().take(LIMIT).collect();
                    let mut answers = Answers::default();
                    while let Some(answer) = set.join_next().await {
                        record(&mut answers, answer.unwrap());
                        if let Some(next) = futures.next() {
                            set.spawn(next);
                        }
                    }
                    answers
                });
                check(size, &answers);
            }
        }),
        Contender::new("futures-concurrency", move || {
            let limit = std::num::NonZeroUsize::new(LIMIT);
            complete(size, async move {
                let futures = stream::iter(futures()).co().limit(limit);
                sorted(futures.map(|future| future).collect::<Vec<_>>().await)
            });
        }),
    ]
}

pub(super) fn through_a_channel(size: usize) -> Vec<Contender> {
    vec![
        Contender::new("futures-aggregate", move || {
            let (sender, receiver) = bounded(128);
            let sources = (0..size).map(|id| (id, answered(id)));
            let driver = stream_results(sources, sender).concurrency(LIMIT);
            let received = async {
                let mut received = 0;
                while receiver.recv().await.is_ok() {
                    received += 1;
                }
                received
            };
            let (streamed, received) = futures::executor::block_on(join(driver, received));
            assert_eq!((streamed.unwrap().delivered, received), (size, size));
        }),
        Contender::new("FuturesUnordered", move || {
            let (sender, receiver) = bounded(128);
            let futures = (0..size).map(|id| with_id(id, answered(id)));
            let driver = async move {
                let mut answers = stream::iter(futures).buffer_unordered(LIMIT);
                while let Some(answer) = answers.next().await {
                    sender.send(answer).await.unwrap();
                }
            };
            let received = async {
                let mut received = 0;
                while receiver.recv().await.is_ok() {
                    received += 1;
                }
                received
            };
            let ((), received) = futures::executor::block_on(join(driver, received));
            assert_eq!(received, size);
        }),
    ]
}
