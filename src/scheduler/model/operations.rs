//! The three operations, as runs that the model can be compared with.

use std::pin::Pin;
use std::time::Duration;

use async_channel::Receiver;

use super::End;
use super::schedule::{Setup, Ticks};
use super::source::Source;
use crate::{Aggregate, Interrupted, Outcome, fetch_and_aggregate, process_batch, stream_results};

/// What a tick is on the clock of the run.
pub(super) const TICK: Duration = Duration::from_micros(100);

pub(super) type CameTo = Aggregate<usize, u32, &'static str>;
pub(super) type Outcomes = Receiver<Outcome<usize, u32, &'static str>>;

/// The real run, of whichever operation. It comes to what it has not put into the channel.
pub(super) type Run = Pin<Box<dyn Future<Output = (End, CameTo)> + Send>>;

/// Starts an operation on sources, with a signal that cancels it and one that ends its time. Outcomes
/// come by the channel.
pub(super) type Start = fn(&Setup, Vec<(usize, Source)>, [Source; 2]) -> (Run, Outcomes);

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
) -> (Run, Outcomes) {
    let run = fetch_and_aggregate(sources, time(setup.timeout))
        .concurrency(setup.limit)
        .source_timeout(time(setup.source_timeout))
        .cancel_on(cancel)
        .expire_on(expire);
    deliver(async { end_of(run.await) })
}

/// A batch that is the only one.
pub(super) fn process(
    setup: &Setup,
    sources: Vec<(usize, Source)>,
    [cancel, expire]: [Source; 2],
) -> (Run, Outcomes) {
    let run = process_batch([sources])
        .batch_timeout(time(setup.timeout))
        .source_concurrency(setup.limit)
        .source_timeout(time(setup.source_timeout))
        .cancel_on(cancel)
        .expire_on(expire);
    deliver(async {
        let (_, mut batches) = end_of(run.await);
        end_of(batches.remove(0))
    })
}

/// Puts all outcomes into the channel at the end.
fn deliver(run: impl Future<Output = (End, CameTo)> + Send + 'static) -> (Run, Outcomes) {
    let (sender, receiver) = async_channel::unbounded();
    let run = async move {
        let (end, came_to) = run.await;
        let results = came_to.results.into_iter();
        let errors = came_to.errors.into_iter();
        let outcomes = results.map(|(id, value)| (id, Ok(value)));
        for outcome in outcomes.chain(errors.map(|(id, error)| (id, Err(error)))) {
            sender.try_send(outcome).expect("room without bounds");
        }
        let unfinished = CameTo {
            unfinished: came_to.unfinished,
            ..CameTo::default()
        };
        (end, unfinished)
    };
    (Box::pin(run), receiver)
}

pub(super) fn stream(
    setup: &Setup,
    sources: Vec<(usize, Source)>,
    [cancel, expire]: [Source; 2],
) -> (Run, Outcomes) {
    let (sender, receiver) = match setup.room {
        usize::MAX => async_channel::unbounded(),
        room => async_channel::bounded(room),
    };
    let run = stream_results(sources, sender)
        .timeout(time(setup.timeout))
        .concurrency(setup.limit)
        .source_timeout(time(setup.source_timeout))
        .cancel_on(cancel)
        .expire_on(expire);
    let undelivered = async {
        let (end, streamed) = end_of(run.await);
        let mut came_to = CameTo {
            unfinished: streamed.unfinished,
            ..CameTo::default()
        };
        streamed
            .undelivered
            .into_iter()
            .for_each(|outcome| came_to.record(outcome));
        (end, came_to)
    };
    (Box::pin(undelivered), receiver)
}
