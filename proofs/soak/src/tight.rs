//! Runs of the three operations of the crate.

use std::future::Future;
use std::time::Duration;

use futures_aggregate::{Aggregate, Reason, fetch_and_aggregate, process_batch, stream_results};
use tokio::sync::{oneshot, watch};

use crate::run::{Operation, Run};
use crate::sources::{self, NUMBER};
use crate::wakers::with_counted_waker;

pub(crate) fn start(operation: Operation, timeout: Duration, over: watch::Receiver<()>) -> Run {
    let (cancel, cancelled) = oneshot::channel::<()>();
    match operation {
        Operation::FetchAndAggregate => {
            let (mut answer, receiver) = oneshot::channel();
            let driver = async move {
                let run = fetch_and_aggregate(sources::list(over), timeout)
                    .cancel_on(cancelled)
                    .cancel_on(answer.closed());
                let interrupted = run.await.expect_err("some sources never answer");
                let reason = interrupted.reason;
                assert_eq!(accounted(&interrupted.partial), NUMBER);
                let _ = answer.send(interrupted);
                reason
            };
            spawned(driver, cancel, receiver)
        }
        Operation::ProcessBatch => {
            let (mut answer, receiver) = oneshot::channel();
            let driver = async move {
                let run = process_batch(sources::batches(over))
                    .batch_timeout(timeout)
                    .cancel_on(cancelled)
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
            spawned(driver, cancel, receiver)
        }
        Operation::StreamResults { room } => {
            let (sender, receiver) = async_channel::bounded(room);
            let run = stream_results(sources::list(over), sender)
                .timeout(timeout)
                .cancel_on(cancelled);
            let driver = async move {
                let interrupted = run.await.expect_err("some sources never answer");
                let rest = interrupted.partial;
                let not_delivered = rest.undelivered.len() + rest.unfinished.len();
                assert_eq!(rest.delivered + not_delivered, NUMBER);
                interrupted.reason
            };
            spawned(driver, cancel, receiver)
        }
    }
}

fn spawned(
    driver: impl Future<Output = Reason> + Send + 'static,
    cancel: oneshot::Sender<()>,
    receiver: impl Send + 'static,
) -> Run {
    Run {
        driver: tokio::spawn(with_counted_waker(driver)),
        cancel,
        receiver: Box::new(receiver),
    }
}

fn accounted<K, T, E>(aggregate: &Aggregate<K, T, E>) -> usize {
    aggregate.results.len() + aggregate.errors.len() + aggregate.unfinished.len()
}
