//! The workloads. This crate and its peers do each of them as a competent user would write it, and return
//! every result and every error with its id.

mod bounded;
mod cancelled;
mod joined;
mod nested;
mod timed;
mod woken;

use std::future::Future;
use std::hint::black_box;

use futures::executor::block_on;
use futures::{Stream, StreamExt};
use futures_aggregate::Aggregate;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::harness::Contender;
use crate::sources::Answer;

/// No timeout.
pub(crate) const NEVER: std::time::Duration = std::time::Duration::MAX;

/// A workload, which is measured with several numbers of sources.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) sizes: Vec<usize>,
    pub(crate) contenders: fn(usize) -> Vec<Contender>,
    /// The divisor of the cost, if it is not the number of sources.
    pub(crate) units: Option<usize>,
}

pub(crate) fn all() -> Vec<Workload> {
    let workload = |name, sizes: &[usize], contenders| Workload {
        name,
        sizes: sizes.to_vec(),
        contenders,
        units: None,
    };
    vec![
        workload("ready at once", &[1, 10, 1000, 100_000], joined::ready),
        workload(
            "pending once",
            &[1, 10, 1000, 100_000],
            joined::pending_once,
        ),
        workload("pending four times", &[1000], joined::pending_four_times),
        workload(
            "64 at a time, pending once",
            &[1000, 1_000_000],
            bounded::pending_once,
        ),
        workload(
            "woken by two threads",
            &[1000, 100_000],
            woken::from_two_threads,
        ),
        Workload {
            units: Some(woken::WAKES),
            ..workload(
                "one woken at a time, in order",
                &[1000, 100_000, 1_000_000],
                woken::one_at_a_time,
            )
        },
        Workload {
            units: Some(woken::WAKES),
            ..workload(
                "one woken at a time, at random",
                &[1000, 100_000, 1_000_000],
                woken::one_at_a_time_at_random,
            )
        },
        workload("256 at a time, timeout each", &[100_000], timed::each),
        workload("fan-out under a deadline", &[5], timed::whole),
        workload(
            "fan-out under a deadline, waiting",
            &[5],
            timed::whole_waiting,
        ),
        workload(
            "through a channel of 128",
            &[1_000_000],
            bounded::through_a_channel,
        ),
        workload("batches of 100", &[100_000], nested::batches),
        workload("dropped while pending", &[100_000], cancelled::dropped),
    ]
}

/// The result of every contender.
type Answers = Aggregate<usize, u64, u32>;

/// A future that carries its id.
async fn with_id<F: Future>(id: usize, future: F) -> (usize, F::Output) {
    (id, future.await)
}

fn record(answers: &mut Answers, (id, answer): (usize, Answer)) {
    answers.record((id, answer.map_err(futures_aggregate::SourceError::Failed)));
}

/// Collects the answers of a stream into results and errors.
async fn collect(answers: impl Stream<Item = (usize, Answer)>) -> Answers {
    let mut answers = std::pin::pin!(answers);
    let mut all = Answers::default();
    while let Some(answer) = answers.next().await {
        record(&mut all, answer);
    }
    all
}

/// The same for answers that come all at once.
fn sorted(answers: impl IntoIterator<Item = (usize, Answer)>) -> Answers {
    let mut all = Answers::default();
    for answer in answers {
        record(&mut all, answer);
    }
    all
}

/// The same for spawned tasks.
async fn all_joined(mut set: JoinSet<(usize, Answer)>) -> Answers {
    let mut all = Answers::default();
    while let Some(answer) = set.join_next().await {
        record(&mut all, answer.unwrap());
    }
    all
}

/// Runs the work to its end, and checks its result.
fn complete(size: usize, work: impl Future<Output = Answers>) {
    check(size, &black_box(block_on(work)));
}

/// Checks that every source has answered.
fn check(size: usize, answers: &Answers) {
    assert_eq!(answers.results.len() + answers.errors.len(), size);
}

fn current_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}
