//! The workloads. This crate and its peers do each of them as a competent user would write it, and return
//! every result and every error with its id.

mod bounded;
mod cancelled;
mod handled;
mod joined;
mod limited;
mod nested;
mod ordered;
mod real;
mod streamed;
mod timed;
mod woken;

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;

use async_channel::{Receiver, Sender};
use futures::executor::block_on;
use futures::{Stream, StreamExt};
use futures_aggregate::Aggregate;
use num_format::{Locale, ToFormattedString};
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

impl Workload {
    pub(crate) fn row_name(&self, size: usize) -> String {
        format!("{}, {}", self.name, size.to_formatted_string(&Locale::en))
    }
}

pub(crate) fn all() -> Vec<Workload> {
    let workload = |name, sizes: &[usize], contenders| Workload {
        name,
        sizes: sizes.to_vec(),
        contenders,
        units: None,
    };
    vec![
        workload(
            "ready at once",
            &[1, 3, 10, 32, 1000, 100_000, 512_000],
            joined::ready,
        ),
        workload(
            "pending once",
            &[1, 3, 10, 32, 1000, 100_000],
            joined::pending_once,
        ),
        workload("pending four times", &[1000], joined::pending_four_times),
        workload(
            "64 at a time, pending once",
            &[1000, 1_000_000],
            bounded::pending_once,
        ),
        workload(
            "64 at a time, 4 of each of 32 keys",
            &[1000, 100_000],
            limited::even_keys,
        ),
        workload(
            "64 at a time, 4 of each key, one is frequent",
            &[1000, 100_000],
            limited::skewed_keys,
        ),
        workload(
            "weights from 1 to 8, 64 in all",
            &[1000, 100_000],
            limited::weights,
        ),
        workload(
            "8 runs share a limit of 64",
            &[1000, 100_000],
            limited::shared,
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
        workload("tokio's sleeps", &[1000, 10_000], real::sleeps),
        workload(
            "tokio's sleeps, two threads",
            &[10_000],
            real::sleeps_on_two_threads,
        ),
        workload(
            "tokio's sleeps of 100 µs, 256 at a time",
            &[65_536],
            real::short_sleeps_256_at_a_time,
        ),
        workload(
            "answers of a task",
            &[10, 100, 1000, 10_000],
            real::oneshots,
        ),
        workload(
            "answers of a task, shuffled",
            &[1000],
            real::shuffled_oneshots,
        ),
        workload(
            "answers of a task, two threads",
            &[1000, 10_000],
            real::oneshots_on_two_threads,
        ),
        workload("16 places of a semaphore", &[1000, 10_000], real::semaphore),
        workload(
            "16 places of a semaphore, two threads",
            &[1000, 10_000],
            real::semaphore_on_two_threads,
        ),
        workload("channels of 20 messages", &[10, 1000], real::channels),
        workload(
            "channels of 20 messages, two threads",
            &[10, 1000],
            real::channels_on_two_threads,
        ),
        workload("sockets, four round trips", &[50], real::sockets),
        workload(
            "sockets, four round trips, two threads",
            &[50],
            real::sockets_on_two_threads,
        ),
        workload(
            "tasks: channels of 20 messages",
            &[1000],
            real::channels_of_tasks,
        ),
        workload(
            "tasks: sockets, four round trips",
            &[50],
            real::sockets_of_tasks,
        ),
        workload("tasks: computing", &[10, 1000], real::computing_tasks),
        workload("256 at a time, timeout each", &[100_000], timed::each),
        workload("fan-out under a deadline", &[1, 5, 32], timed::whole),
        workload(
            "fan-out under a deadline, waiting",
            &[1, 5, 32],
            timed::whole_waiting,
        ),
        workload(
            "through a channel of 128",
            &[1_000_000],
            bounded::through_a_channel,
        ),
        workload("from a stream", &[1000, 100_000], streamed::always_ready),
        workload("from a stream that pauses", &[100_000], streamed::pausing),
        workload(
            "from a stream, through a channel",
            &[100_000],
            streamed::through_a_channel,
        ),
        workload("in order", &[1000, 100_000], ordered::collected),
        workload(
            "in order, shuffled",
            &[1000, 100_000],
            ordered::collected_shuffled,
        ),
        workload(
            "in order, one by one",
            &[1000, 100_000],
            ordered::one_by_one,
        ),
        workload(
            "in order, one by one, shuffled",
            &[1000, 100_000],
            ordered::one_by_one_shuffled,
        ),
        workload(
            "in order, through a channel",
            &[100_000],
            ordered::through_a_channel,
        ),
        workload("8 bodies, ready at once", &[100_000], handled::ready),
        workload("8 bodies, pending once", &[100_000], handled::pending_once),
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

/// What a consumer has seen of the answers.
#[derive(Default)]
struct Tally {
    answers: Cell<usize>,
    sum: Cell<usize>,
}

impl Tally {
    fn add<T, E>(&self, id: usize, answer: &Result<T, E>) {
        self.answers.set(self.answers.get() + 1);
        let failed = usize::from(answer.is_err());
        self.sum.set(self.sum.get() + id + failed);
    }

    /// The same for answers in the order of their sources.
    fn add_next<T, E>(&self, id: usize, answer: &Result<T, E>) {
        assert_eq!(self.answers.get(), id);
        self.add(id, answer);
    }

    /// Checks that there was each answer once.
    fn check(&self, size: usize) {
        let failed = size / 8;
        assert_eq!(self.answers.get(), size);
        assert_eq!(self.sum.get(), (0..size).sum::<usize>() + failed);
    }
}

/// Sends the answers of a stream into a channel.
async fn send_all<O>(mut answers: impl Stream<Item = O> + Unpin, sender: Sender<O>) {
    while let Some(answer) = answers.next().await {
        assert!(sender.send(answer).await.is_ok());
    }
}

/// Receives the answers from a channel, and adds them to a tally by `add`.
async fn receive<T, E>(
    receiver: Receiver<(usize, Result<T, E>)>,
    add: fn(&Tally, usize, &Result<T, E>),
) -> Tally {
    let tally = Tally::default();
    while let Ok((id, answer)) = receiver.recv().await {
        add(&tally, id, &answer);
    }
    tally
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
