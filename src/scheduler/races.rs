//! Whole runs against threads that wake their sources, in orders that shuttle chooses at random.
//! A wake that is lost leaves the run waiting for ever, which shuttle reports as a deadlock.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::thread;

use crate::{Interrupted, Reason, fetch_and_aggregate, process_batch};

/// Orders that are tried of each race, half of them with few preemptions at chosen places.
const ORDERS: usize = 20_000;

/// Sources beyond the root word, and their limit.
const SOURCES: usize = 40;
const LIMIT: usize = 36;

fn check(race: fn()) {
    shuttle::check_random(race, ORDERS / 2);
    shuttle::check_pct(race, ORDERS / 2, 3);
    println!("{ORDERS} orders tried");
}

/// A gate that a thread opens, and the source that waits there.
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

    /// Wakes whoever waits, for nothing.
    fn knock(&self) {
        let waker = self.0.lock().unwrap().1.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A source that succeeds once its gate is open.
struct Waits {
    id: usize,
    gate: Gate,
    alive: Arc<AtomicUsize>,
}

impl Future for Waits {
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

impl Drop for Waits {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Race {
    gates: Vec<Gate>,
    alive: Arc<AtomicUsize>,
}

impl Race {
    fn new(count: usize) -> Self {
        Self {
            gates: (0..count).map(|_| Gate::default()).collect(),
            alive: Arc::new(AtomicUsize::new(count)),
        }
    }

    fn sources(&self) -> Vec<(usize, Waits)> {
        let source = |(id, gate): (usize, &Gate)| {
            let (gate, alive) = (gate.clone(), Arc::clone(&self.alive));
            (id, Waits { id, gate, alive })
        };
        self.gates.iter().enumerate().map(source).collect()
    }

    /// Three threads, each of which opens every third gate, the last one first, and knocks at the
    /// gate beside it.
    fn open_all(&self) -> Vec<thread::JoinHandle<()>> {
        let open_every_third = |first: usize| {
            let gates = self.gates.clone();
            thread::spawn(move || {
                for id in (first..gates.len()).step_by(3).rev() {
                    gates[(id + 1) % gates.len()].knock();
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

/// A task that only notes that it was woken, which nobody reads: it is one more place where another
/// thread can come between.
#[derive(Default)]
struct Noted(AtomicBool);

impl Wake for Noted {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn is_ready<F: Future>(run: Pin<&mut F>, task: &Arc<Noted>) -> bool {
    let waker = Waker::from(Arc::clone(task));
    run.poll(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn run_that_grows_and_finishes_hears_every_wake() {
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

/// All wakes come while the run waits or looks for who was woken.
#[test]
fn run_that_waits_hears_every_wake() {
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
fn runs_within_a_run_hear_every_wake() {
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
fn run_that_goes_to_another_task_hears_every_wake() {
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
        let task = Arc::<Noted>::default();
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
