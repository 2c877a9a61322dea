//! The three operations with one signature, for rules that hold for all of them.

use std::pin::Pin;
use std::time::Duration;

use async_channel::bounded;
use futures::future::BoxFuture;
use futures_aggregate::{Interrupted, Reason, fetch_and_aggregate, process_batch, stream_results};

/// A source that is `Send` and `'static`.
pub type Source = (u32, BoxFuture<'static, Result<u32, String>>);

/// A run of an operation.
pub type Run = BoxFuture<'static, Summary>;

/// Makes a run from sources and a timeout.
pub type Operation = fn(Vec<Source>, Duration) -> Run;

/// The three operations, by name.
pub const OPERATIONS: [(&str, Operation); 3] = [
    ("fetch_and_aggregate", fetch),
    ("process_batch", batches),
    ("stream_results", stream),
];

/// The result of a run.
pub struct Summary {
    /// The reason, if the run was interrupted.
    pub reason: Option<Reason>,
    /// The ids and values of the sources that have answered, in the order of the ids.
    pub answered: Vec<(u32, u32)>,
    /// The sources that had not answered, in the order in which they were started.
    pub unfinished: Vec<u32>,
    /// The operation, which has ended but is not dropped, so that its drop does not hide a source that it
    /// still holds.
    pub operation: Pin<Box<dyn Send>>,
}

fn fetch(list: Vec<Source>, timeout: Duration) -> Run {
    Box::pin(async move {
        let mut operation = Box::pin(fetch_and_aggregate(list, timeout));
        let (reason, aggregate) = part(operation.as_mut().await);
        Summary {
            reason,
            answered: sorted(aggregate.results),
            unfinished: aggregate.unfinished,
            operation,
        }
    })
}

/// Two batches, each with half of the sources.
fn batches(mut list: Vec<Source>, timeout: Duration) -> Run {
    Box::pin(async move {
        let rest = list.split_off(list.len() / 2);
        let mut operation = Box::pin(process_batch([list, rest]).batch_timeout(timeout));
        let (mut reason, outcomes) = part(operation.as_mut().await);
        let (mut answered, mut unfinished) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            let (of_batch, aggregate) = part(outcome);
            reason = reason.or(of_batch);
            answered.extend(aggregate.results);
            unfinished.extend(aggregate.unfinished);
        }
        Summary {
            reason,
            answered: sorted(answered),
            unfinished,
            operation,
        }
    })
}

/// Streams into a channel with room for all outcomes.
fn stream(list: Vec<Source>, timeout: Duration) -> Run {
    Box::pin(async move {
        let (sender, receiver) = bounded(list.len());
        let mut operation = Box::pin(stream_results(list, sender).timeout(timeout));
        let (reason, streamed) = part(operation.as_mut().await);
        let mut answered = Vec::new();
        while let Ok((id, result)) = receiver.try_recv() {
            answered.extend(result.ok().map(|value| (id, value)));
        }
        Summary {
            reason,
            answered: sorted(answered),
            unfinished: streamed.unfinished,
            operation,
        }
    })
}

fn part<P>(outcome: Result<P, Interrupted<P>>) -> (Option<Reason>, P) {
    match outcome {
        Ok(whole) => (None, whole),
        Err(Interrupted {
            reason, partial, ..
        }) => (Some(reason), partial),
    }
}

fn sorted(mut answered: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    answered.sort_unstable();
    answered
}
