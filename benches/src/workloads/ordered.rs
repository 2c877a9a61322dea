//! Outcomes in the order of their sources. The sources answer in that order, or in a shuffled one.

use async_channel::bounded;
use futures::executor::block_on;
use futures::future::join;
use futures::{Stream, StreamExt, stream};
use futures_aggregate::{fetch_and_aggregate, for_each_result, stream_results};
use futures_buffered::BufferedStreamExt;

use super::bounded::LIMIT;
use super::{Answers, NEVER, Tally, check, collect, receive, send_all, with_id};
use crate::harness::Contender;
use crate::sources::{Answer, Yields, shuffled};

/// Makes a source from its id.
type Source = fn(usize) -> Yields;

fn sorted(id: usize) -> Yields {
    Yields::new(id, 1)
}

pub(super) fn collected(size: usize) -> Vec<Contender> {
    collected_from(size, sorted)
}

pub(super) fn collected_shuffled(size: usize) -> Vec<Contender> {
    collected_from(size, shuffled)
}

fn collected_from(size: usize, source: Source) -> Vec<Contender> {
    let futures = move || stream::iter((0..size).map(move |id| with_id(id, source(id))));
    let check_sorted = move |answers: Answers| {
        check(size, &answers);
        assert!(answers.results.is_sorted() && answers.errors.is_sorted_by_key(|(id, _)| *id));
    };
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, source(id)));
            let run = fetch_and_aggregate(sources, NEVER).concurrency(LIMIT);
            check_sorted(block_on(run.in_order()).unwrap());
        }),
        Contender::new("FuturesUnordered", move || {
            check_sorted(block_on(collect(futures().buffered(LIMIT))));
        }),
        Contender::new("futures-buffered", move || {
            check_sorted(block_on(collect(futures().buffered_ordered(LIMIT))));
        }),
    ]
}

pub(super) fn one_by_one(size: usize) -> Vec<Contender> {
    one_by_one_from(size, sorted)
}

pub(super) fn one_by_one_shuffled(size: usize) -> Vec<Contender> {
    one_by_one_from(size, shuffled)
}

/// The caller gets one outcome after another: in a body, or in a loop.
fn one_by_one_from(size: usize, source: Source) -> Vec<Contender> {
    let futures = move || stream::iter((0..size).map(move |id| with_id(id, source(id))));
    vec![
        Contender::new("futures-aggregate", move || {
            let tally = Tally::default();
            let sources = (0..size).map(|id| (id, source(id)));
            let run = for_each_result(sources, async |(id, answer)| {
                tally.add_next(id, &answer);
                Ok::<_, ()>(())
            });
            let run = run.concurrency(LIMIT).in_order();
            assert_eq!(block_on(run).unwrap().handled, size);
            tally.check(size);
        }),
        Contender::new("FuturesUnordered", move || {
            block_on(count(futures().buffered(LIMIT))).check(size);
        }),
        Contender::new("futures-buffered", move || {
            block_on(count(futures().buffered_ordered(LIMIT))).check(size);
        }),
    ]
}

async fn count(mut answers: impl Stream<Item = (usize, Answer)> + Unpin) -> Tally {
    let tally = Tally::default();
    while let Some((id, answer)) = answers.next().await {
        tally.add_next(id, &answer);
    }
    tally
}

pub(super) fn through_a_channel(size: usize) -> Vec<Contender> {
    let futures = move || stream::iter((0..size).map(|id| with_id(id, sorted(id))));
    vec![
        Contender::new("futures-aggregate", move || {
            let (sender, receiver) = bounded(128);
            let sources = (0..size).map(|id| (id, sorted(id)));
            let driver = stream_results(sources, sender)
                .concurrency(LIMIT)
                .in_order();
            let (streamed, tally) = block_on(join(driver, receive(receiver, Tally::add_next)));
            assert_eq!(streamed.unwrap().delivered, size);
            tally.check(size);
        }),
        Contender::new("FuturesUnordered", move || {
            let (sender, receiver) = bounded(128);
            let driver = send_all(futures().buffered(LIMIT), sender);
            block_on(join(driver, receive(receiver, Tally::add_next)))
                .1
                .check(size);
        }),
        Contender::new("futures-buffered", move || {
            let (sender, receiver) = bounded(128);
            let driver = send_all(futures().buffered_ordered(LIMIT), sender);
            block_on(join(driver, receive(receiver, Tally::add_next)))
                .1
                .check(size);
        }),
    ]
}
