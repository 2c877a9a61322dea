//! Sources from a stream, a limited number at a time.

use async_channel::bounded;
use futures::executor::block_on;
use futures::future::join;
use futures::{Stream, StreamExt, stream};
use futures_aggregate::{fetch_and_aggregate, from_stream, stream_results};
use futures_buffered::BufferedStreamExt;

use super::bounded::LIMIT;
use super::{NEVER, Tally, collect, complete, receive, send_all, with_id};
use crate::harness::Contender;
use crate::sources::{Pauses, Yields};

pub(super) fn always_ready(size: usize) -> Vec<Contender> {
    collected(size, move || stream::iter(0..size))
}

pub(super) fn pausing(size: usize) -> Vec<Contender> {
    collected(size, move || Pauses::new(0..size))
}

fn collected<S>(size: usize, ids: impl Fn() -> S + Copy + 'static) -> Vec<Contender>
where
    S: Stream<Item = usize> + 'static,
{
    let sources = move || ids().map(|id| (id, Yields::new(id, 1)));
    let futures = move || ids().map(|id| with_id(id, Yields::new(id, 1)));
    vec![
        Contender::new("futures-aggregate", move || {
            let run = fetch_and_aggregate(from_stream(sources()), NEVER).concurrency(LIMIT);
            complete(size, async { run.await.unwrap() });
        }),
        Contender::new("FuturesUnordered", move || {
            complete(size, collect(futures().buffer_unordered(LIMIT)));
        }),
        Contender::new("futures-buffered", move || {
            complete(size, collect(futures().buffered_unordered(LIMIT)));
        }),
    ]
}

pub(super) fn through_a_channel(size: usize) -> Vec<Contender> {
    let futures = move || stream::iter(0..size).map(|id| with_id(id, Yields::new(id, 1)));
    vec![
        Contender::new("futures-aggregate", move || {
            let (sender, receiver) = bounded(128);
            let sources = stream::iter(0..size).map(|id| (id, Yields::new(id, 1)));
            let driver = stream_results(from_stream(sources), sender).concurrency(LIMIT);
            let (streamed, tally) = block_on(join(driver, receive(receiver, Tally::add)));
            assert_eq!(streamed.unwrap().delivered, size);
            tally.check(size);
        }),
        Contender::new("FuturesUnordered", move || {
            let (sender, receiver) = bounded(128);
            let driver = send_all(futures().buffer_unordered(LIMIT), sender);
            block_on(join(driver, receive(receiver, Tally::add)))
                .1
                .check(size);
        }),
        Contender::new("futures-buffered", move || {
            let (sender, receiver) = bounded(128);
            let driver = send_all(futures().buffered_unordered(LIMIT), sender);
            block_on(join(driver, receive(receiver, Tally::add)))
                .1
                .check(size);
        }),
    ]
}
