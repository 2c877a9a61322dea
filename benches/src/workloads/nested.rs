//! Batches of sources.

use futures::executor::block_on;
use futures::stream::FuturesUnordered;
use futures_aggregate::process_batch;

use super::{NEVER, collect, with_id};
use crate::harness::Contender;
use crate::sources::Yields;

const IN_EACH: usize = 100;

pub(super) fn batches(size: usize) -> Vec<Contender> {
    let batches = size / IN_EACH;
    vec![
        Contender::new("futures-aggregate", move || {
            let sources = |_| (0..IN_EACH).map(|id| (id, Yields::new(id, 1)));
            let run = process_batch((0..batches).map(sources)).batch_timeout(NEVER);
            assert_eq!(block_on(run).unwrap().len(), batches);
        }),
        Contender::new("FuturesUnordered", move || {
            let batch = |_| {
                let futures = (0..IN_EACH).map(|id| with_id(id, Yields::new(id, 1)));
                collect(futures.collect::<FuturesUnordered<_>>())
            };
            let all = futures::future::join_all((0..batches).map(batch));
            assert_eq!(block_on(all).len(), batches);
        }),
        Contender::new("futures-buffered", move || {
            let batch = |_| {
                let futures = (0..IN_EACH).map(|id| with_id(id, Yields::new(id, 1)));
                collect(futures.collect::<futures_buffered::FuturesUnordered<_>>())
            };
            let all = futures_buffered::join_all((0..batches).map(batch));
            assert_eq!(block_on(all).len(), batches);
        }),
    ]
}
