//! A set of pending sources that is started and dropped.

use std::future::{Future, pending};
use std::pin::pin;

use futures::stream::FuturesUnordered;
use futures_aggregate::fetch_and_aggregate;

use super::{NEVER, collect, with_id};
use crate::harness::Contender;
use crate::sources::Answer;
use crate::task::Task;

fn start_and_drop<F: Future>(all: F) {
    Task::new().start(pin!(all));
}

pub(super) fn dropped(size: usize) -> Vec<Contender> {
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = (0..size).map(|id| (id, pending::<Answer>()));
            start_and_drop(fetch_and_aggregate(sources, NEVER));
        }),
        Contender::new("FuturesUnordered", move || {
            let futures = (0..size).map(|id| with_id(id, pending::<Answer>()));
            start_and_drop(collect(futures.collect::<FuturesUnordered<_>>()));
        }),
        Contender::new("futures-buffered", move || {
            let futures = (0..size).map(|id| with_id(id, pending::<Answer>()));
            let all = futures.collect::<futures_buffered::FuturesUnordered<_>>();
            start_and_drop(collect(all));
        }),
    ]
}
