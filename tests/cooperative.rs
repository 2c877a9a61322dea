//! A simulated runtime with a cooperative budget, as tokio has one: in each poll, the task may do 128
//! operations. A source that is refused an operation is woken when the worker idles, or after 61 polls.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::{NEVER, Task};
use futures_aggregate::{Reason, fetch_and_aggregate, process_batch, stream_results};

/// Operations in one poll of a task.
const OPERATIONS: u32 = 128;
/// The worker wakes the refused sources after this many polls, even if it never idles.
const TICKS: usize = 61;

type Answer = Result<usize, &'static str>;
type Source = (usize, Pin<Box<dyn Future<Output = Answer>>>);

/// The worker of the task, and a clock of its polls.
#[derive(Clone, Default)]
struct Worker(Rc<State>);

#[derive(Default)]
struct State {
    left: Cell<u32>,
    refused: RefCell<Vec<Waker>>,
    ticks: Cell<usize>,
    /// Sources that answer at a tick.
    timers: RefCell<Vec<(usize, Waker)>>,
    /// What was polled, in order.
    polled: RefCell<Vec<usize>>,
}

impl Worker {
    /// Does one operation if the budget allows it.
    fn operate(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.left.get() {
            0 => {
                self.0.refused.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
            left => {
                self.0.left.set(left - 1);
                Poll::Ready(())
            }
        }
    }

    /// Polls the task as the worker does, for at most `most` ticks.
    fn drive<F: Future>(&self, task: &mut Task<F>, most: usize) -> Option<F::Output> {
        let mut is_woken = true;
        for _ in 0..most {
            let now = self.0.ticks.get() + 1;
            self.0.ticks.set(now);
            let timers = self.0.timers.take();
            let (due, waiting) = timers.into_iter().partition(|timer| timer.0 <= now);
            self.0.timers.replace(waiting);
            let due: Vec<_> = due;
            due.into_iter().for_each(|(_, waker)| waker.wake());
            if !is_woken || now % TICKS == 0 {
                let refused = self.0.refused.take();
                refused.into_iter().rev().for_each(Waker::wake);
            }
            if is_woken || task.is_woken() {
                self.0.left.set(OPERATIONS);
                if let Poll::Ready(output) = task.poll() {
                    return Some(output);
                }
            }
            is_woken = task.is_woken();
        }
        None
    }

    /// A source that uses up the budget in every poll.
    fn never_dry(&self, id: usize) -> Source {
        let worker = self.clone();
        let source = poll_fn(move |cx| {
            worker.0.polled.borrow_mut().push(id);
            while worker.operate(cx).is_ready() {}
            Poll::Pending
        });
        (id, Box::pin(source))
    }

    /// A source that wakes itself in every poll, and does no operations.
    fn restless(&self, id: usize) -> Source {
        let source = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        (id, Box::pin(source))
    }

    /// A source that answers once `tick` has come, with the number of ticks since then.
    fn answers_at(&self, id: usize, tick: usize) -> Source {
        let worker = self.clone();
        let mut is_registered = false;
        let source = poll_fn(move |cx| {
            worker.0.polled.borrow_mut().push(id);
            if worker.operate(cx).is_pending() {
                return Poll::Pending;
            }
            let now = worker.0.ticks.get();
            if now >= tick {
                return Poll::Ready(Ok(now - tick));
            }
            if !std::mem::replace(&mut is_registered, true) {
                let timer = (tick, cx.waker().clone());
                worker.0.timers.borrow_mut().push(timer);
            }
            Poll::Pending
        });
        (id, Box::pin(source))
    }

    /// A signal that fires at `tick`.
    fn signal_at(&self, tick: usize) -> impl Future<Output = Answer> + use<> {
        self.answers_at(usize::MAX, tick).1
    }
}

/// Sources that answer at different ticks, with busy and restless sources inserted at position `at`.
fn mix(worker: &Worker, busy: usize, restless: usize, others: usize, at: usize) -> Vec<Source> {
    let mut list: Vec<_> = (0..others)
        .map(|id| worker.answers_at(id, 200 + id % 300))
        .collect();
    let busy = (0..busy).map(|number| worker.never_dry(10_000 + number));
    let restless = (0..restless).map(|number| worker.restless(20_000 + number));
    list.splice(at..at, busy.chain(restless));
    list
}

/// The most ticks that a source may answer late: a few times the interval at which a worker that never
/// idles wakes the refused sources.
const NEAR: usize = 20 * TICKS;

#[test]
fn sources_beside_busy_ones_answer_near_their_time() {
    for (busy, restless, others) in [
        (1, 0, 2),
        (1, 1, 2),
        (2, 0, 3),
        (10, 3, 40),
        (1, 0, 300),
        (3, 1, 500),
    ] {
        for at in [0, others / 2, others] {
            let worker = Worker::default();
            let list = mix(&worker, busy, restless, others, at);
            let stop = worker.signal_at(500 + NEAR);
            let mut task = Task::new(fetch_and_aggregate(list, NEVER).cancel_on(stop));
            let partial = worker
                .drive(&mut task, 10_000)
                .unwrap()
                .unwrap_err()
                .partial;
            let what = format!("{busy} busy, {restless} restless at {at} of {others}");
            assert_eq!(partial.results.len(), others, "{what}");
            let latest = partial.results.iter().map(|&(_, late)| late).max();
            assert!(latest < Some(NEAR), "{what}: {latest:?}");
        }
    }
}

#[test]
fn sources_of_batches_and_streams_answer_near_their_time() {
    for at in [0, 1, 2] {
        let worker = Worker::default();
        let batches = mix(&worker, 1, 1, 2, at).into_iter().map(|source| [source]);
        let run = process_batch(batches)
            .batch_timeout(NEVER)
            .cancel_on(worker.signal_at(500 + NEAR));
        let outcomes = worker
            .drive(&mut Task::new(run), 10_000)
            .unwrap()
            .unwrap_err()
            .partial;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);

        let worker = Worker::default();
        let (sender, receiver) = async_channel::unbounded();
        let driver = stream_results(mix(&worker, 1, 1, 2, at), sender);
        let driver = driver.cancel_on(worker.signal_at(500 + NEAR));
        assert!(
            worker
                .drive(&mut Task::new(driver), 10_000)
                .unwrap()
                .is_err()
        );
        assert_eq!(receiver.len(), 2);
    }
}

#[test]
fn sources_behind_a_limit_answer_beside_a_busy_one() {
    let worker = Worker::default();
    let mut list = vec![worker.never_dry(1000)];
    list.extend((0..99).map(|id| worker.answers_at(id, 0)));
    let run = fetch_and_aggregate(list, NEVER).concurrency(10);
    let mut task = Task::new(run.cancel_on(worker.signal_at(10_000)));
    let partial = worker
        .drive(&mut task, 20_000)
        .unwrap()
        .unwrap_err()
        .partial;
    assert_eq!(partial.results.len(), 99);
}

#[test]
fn signals_have_the_budget_before_the_sources() {
    for (busy, restless) in [(1, 0), (1, 1), (20, 0), (20, 1)] {
        for reason in [Reason::Cancelled, Reason::TimedOut] {
            let worker = Worker::default();
            let run = fetch_and_aggregate(mix(&worker, busy, restless, 0, 0), NEVER);
            let signal = worker.signal_at(1000);
            let mut task: Task<Pin<Box<dyn Future<Output = _>>>> = Task::new(match reason {
                Reason::Cancelled => Box::pin(run.cancel_on(signal)),
                _ => Box::pin(run.expire_on(signal)),
            });
            let interrupted = worker.drive(&mut task, 5000).expect("the signal is seen");
            assert_eq!(interrupted.unwrap_err().reason, reason);
            let ticks = worker.0.ticks.get();
            assert!(ticks < 1000 + 8 * TICKS, "{ticks}");
        }
    }
}

/// All answers arrive before the deadline, and the budget of one poll is not enough to read them.
#[test]
fn answers_that_arrived_beat_the_deadline_however_many_they_are() {
    for count in [1, 63, 64, 65, 127, 128, 129, 500, 5000] {
        let worker = Worker::default();
        let list: Vec<_> = (0..count).map(|id| worker.answers_at(id, 300)).collect();
        let run = fetch_and_aggregate(list, NEVER).expire_on(worker.signal_at(301));
        let mut task = Task::new(run);
        assert!(worker.drive(&mut task, 250).is_none());
        worker.0.ticks.set(310);
        let aggregate = worker.drive(&mut task, 5000).unwrap();
        assert_eq!(
            aggregate.map(|aggregate| aggregate.results.len()),
            Ok(count)
        );
    }
}

/// Sources that each have a hundred messages to read from tick 300 on.
fn readers(worker: &Worker) -> Vec<Source> {
    let reader = |id| -> Source {
        let (worker, mut left) = (worker.clone(), 100);
        let mut waits = worker.answers_at(id, 300).1;
        let source = async move {
            waits.as_mut().await?;
            poll_fn(|cx| {
                while left > 0 && worker.operate(cx).is_ready() {
                    left -= 1;
                }
                match left {
                    0 => Poll::Ready(Ok(100)),
                    _ => Poll::Pending,
                }
            })
            .await
        };
        (id, Box::pin(source))
    };
    (0..5).map(reader).collect()
}

/// Drives a run to its end. The worker does not poll between tick 250 and tick 310, which is after the
/// deadline.
fn drive_late<F: Future>(worker: &Worker, run: F) -> F::Output {
    let mut task = Task::new(run);
    assert!(worker.drive(&mut task, 250).is_none());
    worker.0.ticks.set(310);
    worker.drive(&mut task, 10_000).expect("the run ends")
}

#[test]
fn sources_with_much_to_read_beat_the_deadline() {
    let worker = Worker::default();
    let run = fetch_and_aggregate(readers(&worker), NEVER).expire_on(worker.signal_at(301));
    let aggregate = drive_late(&worker, run);
    assert_eq!(aggregate.map(|aggregate| aggregate.results.len()), Ok(5));
}

#[test]
fn sources_of_a_batch_with_much_to_read_beat_the_deadline() {
    let worker = Worker::default();
    let run = process_batch([readers(&worker)]).batch_timeout(NEVER);
    let outcomes = drive_late(&worker, run.expire_on(worker.signal_at(301))).unwrap();
    let came = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().results.len());
    assert_eq!(came.collect::<Vec<_>>(), [5]);
}

#[test]
fn results_are_in_order_if_all_sources_are_ready() {
    let worker = Worker::default();
    let list: Vec<_> = (0..1000).map(|id| worker.answers_at(id, 0)).collect();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    let results = worker.drive(&mut task, 5000).unwrap().unwrap().results;
    assert!(results.iter().map(|&(id, _)| id).eq(0..1000));

    // The same if all sources answer at their first wake.
    let worker = Worker::default();
    let list: Vec<_> = (0..100).map(|id| worker.answers_at(id, 10)).collect();
    let mut task = Task::new(fetch_and_aggregate(list, NEVER));
    let results = worker.drive(&mut task, 5000).unwrap().unwrap().results;
    assert!(results.iter().map(|&(id, _)| id).eq(0..100));
}

/// Of two sources that are woken together again and again, each is polled first every second time.
#[test]
fn every_second_sweep_reverses_the_order() {
    for places in [[0, 1], [0, 40], [33, 90], [40, 4000]] {
        let (handles, list) = common::sources(5000);
        let mut task = Task::new(fetch_and_aggregate(list, NEVER));
        assert!(task.settle().is_pending());
        let mut first = Vec::new();
        for _ in 0..40 {
            places.iter().for_each(|&place| handles[place].wake());
            let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            for place in places {
                let log = log.clone();
                handles[place].on_poll(move |_| log.lock().unwrap().push(place));
            }
            assert!(task.settle().is_pending());
            first.push(log.lock().unwrap()[0]);
        }
        // The first sweep is in order, and so is the second one.
        assert_eq!(first[..2], [places[0]; 2]);
        for pair in first[2..].chunks_exact(2) {
            assert_ne!(pair[0], pair[1], "{places:?}: {first:?}");
        }
        assert!(
            first[2..].chunks_exact(2).any(|pair| pair[0] == places[0]),
            "{first:?}"
        );
        assert!(
            first[2..].chunks_exact(2).any(|pair| pair[1] == places[0]),
            "{first:?}"
        );
    }
}
