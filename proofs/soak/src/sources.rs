//! The sources of the runs. In every run some sources answer soon, some too late, and some never.

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

use crate::census::{Alive, SOURCES};

/// A response of some kilobytes, or an error.
pub(crate) type Answer = Result<Vec<u8>, &'static str>;

#[derive(Clone, Copy)]
enum Kind {
    /// Gets its answer from another task.
    Quick,
    Failing,
    /// Answers when the run has ended.
    Slow,
    /// Never answers, and holds a part of its response in memory.
    Hanging,
    /// Never answers. Its waker is kept, and is woken long after the run has ended.
    Kept,
}

/// The batches. None of them completes.
static BATCHES: [[Kind; 3]; 2] = [
    [Kind::Quick, Kind::Slow, Kind::Hanging],
    [Kind::Failing, Kind::Slow, Kind::Kept],
];

/// How many sources a run has.
pub(crate) const NUMBER: usize = 6;

const RESPONSE: usize = 2048;
const QUICK: Duration = Duration::from_millis(1);

/// The sources of a run, with their numbers. The run has ended when the sender of `over` is dropped.
pub(crate) fn list(
    over: watch::Receiver<()>,
) -> impl Iterator<Item = (usize, impl Future<Output = Answer> + Send)> + Send {
    sources(BATCHES.as_flattened(), over)
}

/// The same sources in batches.
pub(crate) fn batches(
    over: watch::Receiver<()>,
) -> impl Iterator<Item = impl Iterator<Item = (usize, impl Future<Output = Answer> + Send)> + Send> + Send
{
    BATCHES
        .iter()
        .map(move |batch| sources(batch, over.clone()))
}

fn sources(
    kinds: &'static [Kind],
    over: watch::Receiver<()>,
) -> impl Iterator<Item = (usize, impl Future<Output = Answer> + Send)> + Send {
    let numbered = kinds.iter().enumerate();
    numbered.map(move |(number, &kind)| (number, ask(kind, over.clone(), SOURCES.enter())))
}

async fn ask(kind: Kind, mut over: watch::Receiver<()>, _alive: Alive) -> Answer {
    match kind {
        Kind::Quick => {
            let (sender, receiver) = oneshot::channel();
            tokio::spawn(async {
                sleep(QUICK).await;
                let _ = sender.send(response());
            });
            return receiver.await.map_err(|_| "gone");
        }
        Kind::Failing => {
            sleep(QUICK).await;
            return Err("refused");
        }
        Kind::Slow => drop(over.changed().await),
        Kind::Hanging => {
            let _response = response();
            static NEVER: Notify = Notify::const_new();
            NEVER.notified().await;
        }
        Kind::Kept => {
            poll_fn(|cx| {
                keep(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
            pending::<()>().await;
        }
    }
    Ok(response())
}

fn response() -> Vec<u8> {
    vec![b'.'; RESPONSE]
}

/// Keeps a waker. If there are too many, wakes the oldest one and drops it.
fn keep(waker: Waker) {
    const MOST: usize = 1024;
    static KEPT: Mutex<VecDeque<Waker>> = Mutex::new(VecDeque::new());
    let oldest = {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(waker);
        if kept.len() > MOST {
            kept.pop_front()
        } else {
            None
        }
    };
    if let Some(waker) = oldest {
        waker.wake();
    }
}
