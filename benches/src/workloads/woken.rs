//! Sources that wait to be woken from outside.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;

use futures::stream::FuturesUnordered;
use futures_aggregate::fetch_and_aggregate;
use futures_concurrency::prelude::*;

use super::{Answers, NEVER, collect, complete, sorted, with_id};
use crate::harness::Contender;
use crate::sources::{Gate, Waits, waiting};

/// Wakes in one sample of sources that are woken one at a time.
pub(super) const WAKES: usize = 1000;

/// Every number below the size once, in an order that looks random and is always the same.
fn shuffled(size: usize) -> impl Iterator<Item = usize> {
    let stride = (0..)
        .map(|more| size * 5 / 8 + 1 + more)
        .find(|stride| gcd(*stride, size) == 1)
        .unwrap_or(1);
    (0..size).map(move |place| place * stride % size)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Does the work while two threads open the gates of every other source each.
fn while_two_threads_open(gates: &[Arc<Gate>], work: impl FnOnce()) {
    thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for place in shuffled(gates.len()).filter(|place| place % 2 == half) {
                    gates[place].open();
                }
            });
        }
        work();
    });
}

pub(super) fn from_two_threads(size: usize) -> Vec<Contender> {
    vec![
        Contender::new("futures-aggregate", move || {
            let (gates, sources) = waiting(size);
            let run = fetch_and_aggregate(sources.into_iter().enumerate(), NEVER);
            while_two_threads_open(&gates, || complete(size, async { run.await.unwrap() }));
        }),
        Contender::new("FuturesUnordered", move || {
            let (gates, sources) = waiting(size);
            let futures = sources.into_iter().enumerate();
            let futures: FuturesUnordered<_> = futures.map(|(id, it)| with_id(id, it)).collect();
            while_two_threads_open(&gates, || complete(size, collect(futures)));
        }),
        Contender::new("futures-buffered", move || {
            let (gates, sources) = waiting(size);
            let futures = sources.into_iter().enumerate();
            let futures: futures_buffered::FuturesUnordered<_> =
                futures.map(|(id, it)| with_id(id, it)).collect();
            while_two_threads_open(&gates, || complete(size, collect(futures)));
        }),
        Contender::new("futures-concurrency", move || {
            let (gates, sources) = waiting(size);
            let futures = sources.into_iter().enumerate();
            let futures: Vec<_> = futures.map(|(id, it)| with_id(id, it)).collect();
            while_two_threads_open(&gates, || {
                complete(size, async { sorted(futures.join().await) });
            });
        }),
    ]
}

/// Wakes one of many pending sources and polls, again and again. Only that is measured.
pub(super) fn one_at_a_time(size: usize) -> Vec<Contender> {
    vec![
        wakes("futures-aggregate", size, |sources| {
            Box::pin(async {
                let run = fetch_and_aggregate(sources.into_iter().enumerate(), NEVER);
                run.await.unwrap_or_default()
            })
        }),
        wakes("FuturesUnordered", size, |sources| {
            let futures = sources.into_iter().enumerate();
            let futures: FuturesUnordered<_> = futures.map(|(id, it)| with_id(id, it)).collect();
            Box::pin(collect(futures))
        }),
        wakes("futures-buffered", size, |sources| {
            let futures = sources.into_iter().enumerate();
            let futures: futures_buffered::FuturesUnordered<_> =
                futures.map(|(id, it)| with_id(id, it)).collect();
            Box::pin(collect(futures))
        }),
    ]
}

fn wakes(
    name: &'static str,
    size: usize,
    make: impl FnOnce(Vec<Waits>) -> Pin<Box<dyn Future<Output = Answers>>>,
) -> Contender {
    let (gates, sources) = waiting(size);
    let mut all = make(sources);
    let cx = &mut Context::from_waker(Waker::noop());
    while !gates.iter().all(|gate| gate.is_awaited()) {
        assert!(all.as_mut().poll(cx).is_pending());
    }
    let order: Vec<_> = shuffled(size).collect();
    let mut order = order.into_iter().cycle();
    Contender::new(name, move || {
        let cx = &mut Context::from_waker(Waker::noop());
        for place in order.by_ref().take(WAKES) {
            gates[place].wake();
            assert!(all.as_mut().poll(cx).is_pending());
        }
    })
}
