//! The three operations, in the form in which the model is compared with them.

use std::pin::Pin;
use std::time::Duration;

use async_channel::Receiver;

use super::End;
use super::schedule::{Setup, Ticks};
use super::source::Source;
use crate::{Aggregate, Interrupted, Outcome, fetch_and_aggregate, process_batch, stream_results};

/// The length of a tick on the clock of the run.
pub(super) const TICK: Duration = Duration::from_micros(100);

/// Outcomes and unfinished sources.
pub(super) type Report = Aggregate<usize, u32, &'static str>;

/// The channel that outcomes are sent into.
pub(super) type Outcomes = Receiver<Outcome<usize, u32, &'static str>>;

/// A real run. It resolves to how it ended, and to what it did not send into the channel.
pub(super) type Run = Pin<Box<dyn Future<Output = (End, Report)> + Send>>;

/// Makes an operation on sources, with the signals of `cancel_on` and `expire_on`.
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

/// `process_batch` with one batch.
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

/// Sends all outcomes into a channel when the run has ended.
fn deliver(run: impl Future<Output = (End, Report)> + Send + 'static) -> (Run, Outcomes) {
    let (sender, receiver) = async_channel::unbounded();
    let run = async move {
        let (end, report) = run.await;
        let results = report.results.into_iter();
        let errors = report.errors.into_iter();
        let outcomes = results.map(|(id, value)| (id, Ok(value)));
        for outcome in outcomes.chain(errors.map(|(id, error)| (id, Err(error)))) {
            sender
                .try_send(outcome)
                .expect("an unbounded channel has room");
        }
        let unfinished = Report {
            unfinished: report.unfinished,
            ..Report::default()
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
    let (sender, receiver) = match setup.capacity {
        usize::MAX => async_channel::unbounded(),
        capacity => async_channel::bounded(capacity),
    };
    let run = stream_results(sources, sender)
        .timeout(time(setup.timeout))
        .concurrency(setup.limit)
        .source_timeout(time(setup.source_timeout))
        .cancel_on(cancel)
        .expire_on(expire);
    let undelivered = async {
        let (end, streamed) = end_of(run.await);
        let mut report = Report {
            unfinished: streamed.unfinished,
            ..Report::default()
        };
        streamed
            .undelivered
            .into_iter()
            .for_each(|outcome| report.record(outcome));
        (end, report)
    };
    (Box::pin(undelivered), receiver)
}
