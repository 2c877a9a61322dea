//! Runs of the operations of the crate.

use std::future::Future;
use std::time::Duration;

use futures::stream;
use futures_aggregate::{
    Aggregate, Reason, fetch_and_aggregate, for_each_result, from_stream, process_batch,
    stream_results,
};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use crate::run::{Operation, Run};
use crate::sources::{self, NUMBER};
use crate::wakers::with_counted_waker;

/// The time that a drain has, and that a body takes.
const DRAIN: Duration = Duration::from_millis(1);
const BODY: Duration = Duration::from_millis(1);

pub(crate) fn start(operation: Operation, timeout: Duration, over: watch::Receiver<()>) -> Run {
    let (cancel, cancelled) = oneshot::channel::<()>();
    let (drain, drained) = oneshot::channel::<()>();
    let signals = Signals { cancel, drain };
    match operation {
        Operation::FetchAndAggregate => {
            let (mut answer, receiver) = oneshot::channel();
            let driver = async move {
                let run = fetch_and_aggregate(sources::list(over), timeout)
                    .cancel_on(cancelled)
                    .drain_on(drained)
                    .drain_timeout(DRAIN)
                    .cancel_on(answer.closed());
                let interrupted = run.await.expect_err("some sources never answer");
                let reason = interrupted.reason;
                assert_eq!(accounted(&interrupted.partial), NUMBER);
                let _ = answer.send(interrupted);
                reason
            };
            spawned(driver, signals, receiver)
        }
        Operation::ProcessBatch => {
            let (mut answer, receiver) = oneshot::channel();
            let driver = async move {
                let run = process_batch(sources::batches(over))
                    .batch_timeout(timeout)
                    .cancel_on(cancelled)
                    .drain_on(drained)
                    .drain_timeout(DRAIN)
                    .cancel_on(answer.closed());
                let (reason, batches) = match run.await {
                    Ok(batches) => (Reason::TimedOut, batches),
                    Err(interrupted) => (interrupted.reason, interrupted.partial),
                };
                let accounted = batches.iter().map(|batch| {
                    let interrupted = batch.as_ref().expect_err("some sources never answer");
                    assert_eq!(interrupted.reason, reason);
                    accounted(&interrupted.partial)
                });
                assert_eq!(accounted.sum::<usize>(), NUMBER);
                let _ = answer.send(batches);
                reason
            };
            spawned(driver, signals, receiver)
        }
        Operation::StreamResults { room } => {
            let (sender, receiver) = async_channel::bounded(room);
            let run = stream_results(sources::list(over), sender)
                .timeout(timeout)
                .drain_on(drained)
                .drain_timeout(DRAIN)
                .cancel_on(cancelled);
            // One outcome has to wait for that of an earlier source.
            let run = if room > 1 { run.in_order() } else { run };
            let driver = async move {
                let interrupted = run.await.expect_err("some sources never answer");
                let rest = interrupted.partial;
                let not_delivered = rest.undelivered.len() + rest.unfinished.len();
                assert_eq!(rest.delivered + not_delivered, NUMBER);
                interrupted.reason
            };
            spawned(driver, signals, receiver)
        }
        Operation::ForEachResult => {
            let (mut answer, receiver) = oneshot::channel();
            let driver = async move {
                let body = |outcome| async move {
                    sleep(BODY).await;
                    drop(outcome);
                    Ok::<_, ()>(())
                };
                let sources = from_stream(stream::iter(sources::list(over)));
                let run = for_each_result(sources, body)
                    .timeout(timeout)
                    .cancel_on(cancelled)
                    .drain_on(drained)
                    .drain_timeout(DRAIN)
                    .cancel_on(answer.closed());
                let interrupted = run.await.expect_err("some sources never answer");
                let rest = &interrupted.partial;
                let not_handled = rest.undelivered.len() + rest.unfinished.len();
                // On a busy machine the run may end before it has taken all sources from the stream.
                let accounted = rest.handled + not_handled;
                assert!(accounted == NUMBER || rest.unseen && accounted < NUMBER);
                let reason = interrupted.reason;
                let _ = answer.send(interrupted);
                reason
            };
            spawned(driver, signals, receiver)
        }
    }
}

struct Signals {
    cancel: oneshot::Sender<()>,
    drain: oneshot::Sender<()>,
}

fn spawned(
    driver: impl Future<Output = Reason> + Send + 'static,
    signals: Signals,
    receiver: impl Send + 'static,
) -> Run {
    Run {
        driver: tokio::spawn(with_counted_waker(driver)),
        cancel: signals.cancel,
        drain: signals.drain,
        receiver: Box::new(receiver),
    }
}

fn accounted<K, T, E>(aggregate: &Aggregate<K, T, E>) -> usize {
    aggregate.results.len() + aggregate.errors.len() + aggregate.unfinished.len()
}
