//! A limited number of bodies at a time for the outcomes of a limited number of sources.

use std::future::Future;

use futures::executor::block_on;
use futures::{StreamExt, stream};
use futures_aggregate::for_each_result;
use futures_buffered::BufferedStreamExt;
use futures_concurrency::prelude::*;

use super::bounded::LIMIT;
use super::{Tally, with_id};
use crate::harness::Contender;
use crate::sources::Yields;

const BODIES: usize = 8;

pub(super) fn ready(size: usize) -> Vec<Contender> {
    contenders(size, || std::future::ready(()))
}

pub(super) fn pending_once(size: usize) -> Vec<Contender> {
    contenders(size, || async {
        let _ = Yields::new(0, 1).await;
    })
}

fn contenders<F>(size: usize, work: impl Fn() -> F + Copy + 'static) -> Vec<Contender>
where
    F: Future<Output = ()>,
{
    let futures = move || stream::iter((0..size).map(|id| with_id(id, Yields::new(id, 1))));
    vec![
        Contender::new("futures-aggregate", move || {
            let tally = &Tally::default();
            let sources = (0..size).map(|id| (id, Yields::new(id, 1)));
            let run = for_each_result(sources, async |(id, answer)| {
                work().await;
                tally.add(id, &answer);
                Ok::<_, ()>(())
            });
            let run = run.concurrency(LIMIT).bodies(BODIES);
            assert_eq!(block_on(run).unwrap().handled, size);
            tally.check(size);
        }),
        Contender::new("FuturesUnordered", move || {
            let tally = &Tally::default();
            let answers = futures().buffer_unordered(LIMIT);
            let body = async |(id, answer)| {
                work().await;
                tally.add(id, &answer);
            };
            block_on(StreamExt::for_each_concurrent(answers, BODIES, body));
            tally.check(size);
        }),
        Contender::new("futures-buffered", move || {
            let tally = &Tally::default();
            let answers = futures().buffered_unordered(LIMIT);
            let body = async |(id, answer)| {
                work().await;
                tally.add(id, &answer);
            };
            block_on(BufferedStreamExt::for_each_concurrent(
                answers, BODIES, body,
            ));
            tally.check(size);
        }),
        Contender::new("futures-concurrency", move || {
            let tally = &Tally::default();
            let answers = futures().buffer_unordered(LIMIT).co();
            let answers = answers.limit(std::num::NonZeroUsize::new(BODIES));
            block_on(answers.for_each(async |(id, answer)| {
                work().await;
                tally.add(id, &answer);
            }));
            tally.check(size);
        }),
    ]
}
