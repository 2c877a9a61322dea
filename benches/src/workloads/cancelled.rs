//! A set of pending sources that is started and dropped.

use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Waker};

use futures::stream::FuturesUnordered;
use futures_aggregate::fetch_and_aggregate;

use super::{NEVER, collect, with_id};
use crate::harness::Contender;
use crate::sources::Answer;

/// More than any contender needs to start all sources, as each poll starts some hundred.
fn polls(size: usize) -> usize {
    size / 100 + 1
}

fn start_and_drop<F: Future>(size: usize, all: F) {
    let mut all = pin!(all);
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..polls(size) {
        assert!(all.as_mut().poll(cx).is_pending());
    }
}

pub(super) fn dropped(size: usize) -> Vec<Contender> {
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, pending::<Answer>()));
            start_and_drop(size, fetch_and_aggregate(sources, NEVER));
        }),
        Contender::new("FuturesUnordered", move || {
            let futures = (0..size).map(|id| with_id(id, pending::<Answer>()));
            start_and_drop(size, collect(futures.collect::<FuturesUnordered<_>>()));
        }),
        Contender::new("futures-buffered", move || {
            let futures = (0..size).map(|id| with_id(id, pending::<Answer>()));
            let all = futures.collect::<futures_buffered::FuturesUnordered<_>>();
            start_and_drop(size, collect(all));
        }),
    ]
}
