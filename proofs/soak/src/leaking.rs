//! The same runs in the way of the leaking service: a task for each source, which sends its answer into a
//! channel, and a receiver that stops reading before the last answer.

use std::future::Future;
use std::time::Duration;

use async_channel::{Receiver, bounded};
use futures_aggregate::Reason;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use crate::run::{Operation, Run};
use crate::sources;
use crate::wakers::with_counted_waker;

pub(crate) fn start(operation: Operation, timeout: Duration, over: watch::Receiver<()>) -> Run {
    match operation {
        Operation::FetchAndAggregate | Operation::ForEachResult => {
            let answers = answers(sources::list(over));
            receive(answers, timeout, Reason::Cancelled)
        }
        Operation::ProcessBatch => {
            let batches = sources::batches(over).map(|batch| read(answers(batch)));
            receive(answers(batches.enumerate()), timeout, Reason::Cancelled)
        }
        Operation::StreamResults { .. } => {
            let answers = answers(sources::list(over));
            receive(answers, timeout, Reason::ReceiverClosed)
        }
    }
}

/// A channel of the answers of the sources. Each source has a task.
fn answers<T: Send + 'static>(
    sources: impl Iterator<Item = (usize, impl Future<Output = T> + Send + 'static)>,
) -> Receiver<(usize, T)> {
    let (sender, receiver) = bounded(1);
    for (number, source) in sources {
        // A channel in Go has no separate ends, and a sender does not notice that the reader has stopped.
        // To model that, each task keeps a receiver, so that the channel does not close.
        let (sender, receiver) = (sender.clone(), receiver.clone());
        tokio::spawn(with_counted_waker(async move {
            let answer = source.await;
            let _ = sender.send((number, answer)).await;
            drop(receiver);
        }));
    }
    receiver
}

async fn read<T>(answers: Receiver<T>) {
    while answers.recv().await.is_ok() {}
}

/// Reads answers until the timeout, the cancellation, the drain, or the drop of the receiver.
fn receive<T: Send + 'static>(answers: Receiver<T>, timeout: Duration, left: Reason) -> Run {
    let (cancel, cancelled) = oneshot::channel();
    let (drain, drained) = oneshot::channel();
    let (mut answer, receiver) = oneshot::channel::<()>();
    let driver = async move {
        tokio::select! {
            () = read(answers) => unreachable!("some sources never answer"),
            _ = cancelled => Reason::Cancelled,
            _ = drained => Reason::Drained,
            () = answer.closed() => left,
            () = sleep(timeout) => Reason::TimedOut,
        }
    };
    Run {
        driver: tokio::spawn(with_counted_waker(driver)),
        cancel,
        drain,
        receiver: Box::new(receiver),
    }
}
