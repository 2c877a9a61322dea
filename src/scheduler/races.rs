//! Whole runs, and threads that wake their sources, in random interleavings chosen by shuttle. If a
//! wake is lost, the run waits forever, which shuttle reports as a deadlock.
//!
//! SeqCst everywhere: shuttle knows no weaker ordering.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::thread;

use crate::{Interrupted, Reason, fetch_and_aggregate, process_batch};

/// The interleavings that each test tries, half of them with few preemptions.
const INTERLEAVINGS: usize = 20_000;

/// More sources than the root word has bits for.
const SOURCES: usize = 40;

/// The concurrency limit, also more than the root word has bits for.
const LIMIT: usize = 36;

fn check(race: fn()) {
    shuttle::check_random(race, INTERLEAVINGS / 2);
    shuttle::check_pct(race, INTERLEAVINGS / 2, 3);
    println!("{INTERLEAVINGS} interleavings tried");
}

/// A gate that a thread opens, and the waker of the source that waits for it.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gate {
    fn open(&self) {
        let waker = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            gate.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the source although the gate is not open.
    fn wake_spuriously(&self) {
        let waker = self.0.lock().unwrap().1.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A source that succeeds when its gate is open.
struct GatedSource {
    /// Its result.
    id: usize,
    /// The gate that it waits for.
    gate: Gate,
    /// The number of sources not dropped yet.
    alive: Arc<AtomicUsize>,
}

impl Future for GatedSource {
    type Output = Result<usize, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut gate = self.gate.0.lock().unwrap();
        if gate.0 {
            return Poll::Ready(Ok(self.id));
        }
        gate.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for GatedSource {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The gates of a run's sources.
struct Race {
    /// The gate of each source.
    gates: Vec<Gate>,
    /// The number of sources not dropped yet.
    alive: Arc<AtomicUsize>,
}

impl Race {
    fn new(count: usize) -> Self {
        Self {
            gates: (0..count).map(|_| Gate::default()).collect(),
            alive: Arc::new(AtomicUsize::new(count)),
        }
    }

    fn sources(&self) -> Vec<(usize, GatedSource)> {
        let source = |(id, gate): (usize, &Gate)| {
            let (gate, alive) = (gate.clone(), Arc::clone(&self.alive));
            (id, GatedSource { id, gate, alive })
        };
        self.gates.iter().enumerate().map(source).collect()
    }

    /// Starts three threads. Each opens every third gate, last gate first, and spuriously wakes the
    /// source of the gate beside it.
    fn open_all(&self) -> Vec<thread::JoinHandle<()>> {
        let open_every_third = |first: usize| {
            let gates = self.gates.clone();
            thread::spawn(move || {
                for id in (first..gates.len()).step_by(3).rev() {
                    gates[(id + 1) % gates.len()].wake_spuriously();
                    gates[id].open();
                }
            })
        };
        (0..3).map(open_every_third).collect()
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

fn ids<T>(outcomes: &[(usize, T)]) -> Vec<usize> {
    let mut ids: Vec<_> = outcomes.iter().map(|&(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

/// A task whose waker sets a flag. The flag is never read; it is one more point at which shuttle can
/// switch threads.
#[derive(Default)]
struct FlagTask(AtomicBool);

impl Wake for FlagTask {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn is_ready<F: Future>(run: Pin<&mut F>, task: &Arc<FlagTask>) -> bool {
    let waker = Waker::from(Arc::clone(task));
    run.poll(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn run_that_grows_and_finishes_sees_every_wake() {
    check(|| {
        let race = Race::new(SOURCES);
        let run = fetch_and_aggregate(race.sources(), Duration::MAX).concurrency(LIMIT);
        let threads = race.open_all();
        let aggregate = block_on(run).unwrap();
        assert_eq!(ids(&aggregate.results), Vec::from_iter(0..SOURCES));
        assert_eq!(race.alive(), 0);
        join(threads);
    });
}

/// All wakes come while the run waits or sweeps.
#[test]
fn run_that_waits_sees_every_wake() {
    check(|| {
        let race = Race::new(SOURCES);
        let mut run = Box::pin(fetch_and_aggregate(race.sources(), Duration::MAX));
        assert!(!is_ready(run.as_mut(), &Arc::default()));
        let threads = race.open_all();
        assert_eq!(block_on(run).unwrap().results.len(), SOURCES);
        join(threads);
    });
}

#[test]
fn runs_within_a_run_see_every_wake() {
    check(|| {
        let race = Race::new(6);
        let mut first = race.sources();
        let second = first.split_off(3);
        let threads = race.open_all();
        let batches = block_on(process_batch([first, second])).unwrap();
        for (batch, expected) in batches.into_iter().zip([[0, 1, 2], [3, 4, 5]]) {
            assert_eq!(ids(&batch.unwrap().results), expected);
        }
        join(threads);
    });
}

#[test]
fn run_that_goes_to_another_task_sees_every_wake() {
    check(|| {
        let race = Race::new(SOURCES);
        let mut run = Box::pin(fetch_and_aggregate(race.sources(), Duration::MAX));
        let threads = race.open_all();
        let is_done = (0..2).any(|_| is_ready(run.as_mut(), &Arc::default()));
        if !is_done {
            let elsewhere = thread::spawn(move || block_on(run).unwrap().results.len());
            assert_eq!(elsewhere.join().unwrap(), SOURCES);
        }
        join(threads);
    });
}

#[test]
fn run_that_is_dropped_leaves_nothing_to_wake() {
    check(|| {
        let race = Race::new(SOURCES);
        let run = fetch_and_aggregate(race.sources(), Duration::MAX).concurrency(LIMIT);
        let mut run = Box::pin(run);
        let threads = race.open_all();
        let task = Arc::<FlagTask>::default();
        let _is_done = (0..2).any(|_| is_ready(run.as_mut(), &task));
        drop(run);
        assert_eq!(race.alive(), 0);
        join(threads);
        assert_eq!(Arc::strong_count(&task), 1, "wakers of the task are left");
    });
}

#[test]
fn run_that_is_cancelled_by_a_thread_ends() {
    check(|| {
        let race = Race::new(3);
        let cancel = Race::new(1);
        let run = fetch_and_aggregate(race.sources(), Duration::MAX)
            .cancel_on(cancel.sources().remove(0).1);
        let mut threads = cancel.open_all();
        threads.extend(race.open_all());
        match block_on(run) {
            Ok(aggregate) => assert_eq!(ids(&aggregate.results), [0, 1, 2]),
            Err(Interrupted { reason, partial }) => {
                assert_eq!(reason, Reason::Cancelled);
                let mut all = ids(&partial.results);
                all.extend(partial.unfinished);
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2]);
            }
        }
        assert_eq!((race.alive(), cancel.alive()), (0, 0));
        join(threads);
    });
}
