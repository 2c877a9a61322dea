//! The three operations, as runs that the model can be compared with.

use std::pin::Pin;
use std::time::Duration;

use super::End;
use super::schedule::{Setup, Ticks};
use super::source::Source;
use crate::{Aggregate, Interrupted, fetch_and_aggregate, process_batch, stream_results};

/// What a tick is on the clock of the run.
pub(super) const TICK: Duration = Duration::from_secs(3600);

pub(super) type CameTo = Aggregate<usize, u32, &'static str>;
/// The real run, of whichever operation.
pub(super) type Run = Pin<Box<dyn Future<Output = (End, CameTo)> + Send>>;

fn time(ticks: Option<Ticks>) -> Duration {
    ticks.map_or(Duration::MAX, |ticks| TICK * ticks)
}

fn end_of<T>(result: Result<T, Interrupted<T>>) -> (End, T) {
    match result {
        Ok(whole) => (Ok(()), whole),
        Err(interrupted) => (Err(interrupted.reason), interrupted.partial),
    }
}

pub(super) fn fetch(
    setup: &Setup,
    sources: Vec<(usize, Source)>,
    [cancel, expire]: [Source; 2],
) -> Run {
    let run = fetch_and_aggregate(sources, time(setup.timeout))
        .concurrency(setup.limit)
        .source_timeout(time(setup.source_timeout))
        .cancel_on(cancel)
        .expire_on(expire);
    Box::pin(async { end_of(run.await) })
}

/// A batch that is the only one.
pub(super) fn process(
    setup: &Setup,
    sources: Vec<(usize, Source)>,
    [cancel, expire]: [Source; 2],
) -> Run {
    let run = process_batch([sources])
        .batch_timeout(time(setup.timeout))
        .source_concurrency(setup.limit)
        .source_timeout(time(setup.source_timeout))
        .cancel_on(cancel)
        .expire_on(expire);
    Box::pin(async {
        let (_, mut batches) = end_of(run.await);
        end_of(batches.remove(0))
    })
}

/// A stream whose receiver always has room.
pub(super) fn stream(
    setup: &Setup,
    sources: Vec<(usize, Source)>,
    [cancel, expire]: [Source; 2],
) -> Run {
    let (sender, receiver) = async_channel::unbounded();
    let run = stream_results(sources, sender)
        .timeout(time(setup.timeout))
        .concurrency(setup.limit)
        .source_timeout(time(setup.source_timeout))
        .cancel_on(cancel)
        .expire_on(expire);
    Box::pin(async move {
        let (end, streamed) = end_of(run.await);
        assert_eq!(streamed.undelivered, []);
        let mut came_to = CameTo {
            unfinished: streamed.unfinished,
            ..CameTo::default()
        };
        while let Ok(outcome) = receiver.try_recv() {
            came_to.record(outcome);
        }
        (end, came_to)
    })
}
