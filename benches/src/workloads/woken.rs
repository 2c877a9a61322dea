//! Sources that wait for a wake from outside.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use futures::stream::FuturesUnordered;
use futures_aggregate::fetch_and_aggregate;
use futures_concurrency::prelude::*;
use tokio::task::{JoinSet, LocalSet, yield_now};

use super::{Answers, NEVER, all_joined, check, collect, current_thread, sorted, with_id};
use crate::harness::Contender;
use crate::sources::{Answer, Gate, Sleeper, Sleeps, Waits, waiting};
use crate::task::Task;

/// The number of wakes in one sample of sources that are woken one at a time.
pub(super) const WAKES: usize = 1000;

/// Every number below the size once, in a fixed order that looks random.
pub(super) fn shuffled(size: usize) -> impl Iterator<Item = usize> {
    let stride = (0..)
        .map(|more| size * 5 / 8 + 1 + more)
        .find(|stride| gcd(*stride, size) == 1)
        .unwrap_or(1);
    (0..size).map(move |place| place * stride % size)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Two threads. Each opens every other gate of a list.
struct Openers {
    threads: [Sender<Arc<[Arc<Gate>]>>; 2],
}

impl Openers {
    fn start() -> Self {
        let start = |half| {
            let (sender, receiver) = channel::<Arc<[Arc<Gate>]>>();
            thread::spawn(move || {
                while let Ok(gates) = receiver.recv() {
                    for place in shuffled(gates.len()).filter(|place| place % 2 == half) {
                        gates[place].open();
                    }
                }
            });
            sender
        };
        Self {
            threads: [start(0), start(1)],
        }
    }

    fn open(&self, gates: Vec<Arc<Gate>>) {
        let gates: Arc<[_]> = gates.into();
        for thread in &self.threads {
            thread.send(Arc::clone(&gates)).unwrap();
        }
    }
}

/// A set of sources with the code that collects their answers.
type Set = Pin<Box<dyn Future<Output = Answers>>>;

/// Two threads wake the sources after all of them are pending.
pub(super) fn from_two_threads(size: usize) -> Vec<Contender> {
    let openers = Rc::new(Openers::start());
    let contender = |name, collected: fn(Vec<Waits>) -> Set| {
        let openers = Rc::clone(&openers);
        Contender::new(name, move || {
            let (gates, sources) = waiting(size);
            let mut set = collected(sources);
            let task = Task::new();
            task.start(set.as_mut());
            openers.open(gates);
            check(size, &task.finish(set.as_mut()));
        })
    };
    let spawned = Contender::new("tokio", {
        let (openers, runtime) = (Rc::clone(&openers), current_thread());
        move || {
            let (gates, sources) = waiting(size);
            let answers = runtime.block_on(async {
                let sources = sources.into_iter().enumerate();
                let set: JoinSet<_> = sources.map(|(id, it)| with_id(id, it)).collect();
                while !gates.iter().all(|gate| gate.is_awaited()) {
                    yield_now().await;
                }
                openers.open(gates);
                all_joined(set).await
            });
            check(size, &answers);
        }
    });
    vec![
        contender("futures-aggregate", aggregated),
        contender("FuturesUnordered", unordered),
        contender("futures-buffered", buffered),
        spawned,
        contender("futures-concurrency", |sources| {
            let futures = sources.into_iter().enumerate();
            let futures: Vec<_> = futures.map(|(id, it)| with_id(id, it)).collect();
            Box::pin(async { sorted(futures.join().await) })
        }),
    ]
}

fn aggregated<F: Future<Output = Answer> + 'static>(sources: Vec<F>) -> Set {
    let run = fetch_and_aggregate(sources.into_iter().enumerate(), NEVER);
    Box::pin(async { run.await.unwrap() })
}

fn unordered<F: Future<Output = Answer> + 'static>(sources: Vec<F>) -> Set {
    let futures = sources.into_iter().enumerate();
    let futures: FuturesUnordered<_> = futures.map(|(id, it)| with_id(id, it)).collect();
    Box::pin(collect(futures))
}

fn buffered<F: Future<Output = Answer> + 'static>(sources: Vec<F>) -> Set {
    let futures = sources.into_iter().enumerate();
    let futures: futures_buffered::FuturesUnordered<_> =
        futures.map(|(id, it)| with_id(id, it)).collect();
    Box::pin(collect(futures))
}

/// Wakes many pending sources one after another, and polls the set after each wake. Only this is measured.
pub(super) fn one_at_a_time(size: usize) -> Vec<Contender> {
    one_by_one(size, (0..size).collect())
}

pub(super) fn one_at_a_time_at_random(size: usize) -> Vec<Contender> {
    one_by_one(size, shuffled(size).collect())
}

fn one_by_one(size: usize, order: Vec<usize>) -> Vec<Contender> {
    let order: Rc<[_]> = order.into();
    let contender = |name, collected: fn(Vec<Sleeps>) -> Set| {
        let sleepers: Vec<_> = (0..size).map(|_| Rc::<Sleeper>::default()).collect();
        let mut set = collected(sleepers.iter().cloned().map(Sleeps).collect());
        let task = Task::new();
        task.start(set.as_mut());
        let (order, mut next) = (Rc::clone(&order), 0);
        Contender::new(name, move || {
            for _ in 0..WAKES {
                if let Some(waker) = &*sleepers[order[next]].borrow() {
                    waker.wake_by_ref();
                }
                assert!(task.poll(set.as_mut()).is_pending());
                next = (next + 1) % size;
            }
        })
    };
    let mut contenders = vec![
        contender("futures-aggregate", aggregated),
        contender("FuturesUnordered", unordered),
        contender("futures-buffered", buffered),
    ];
    contenders.push(one_by_one_spawned(size, order));
    contenders
}

fn one_by_one_spawned(size: usize, order: Rc<[usize]>) -> Contender {
    let sleepers: Vec<_> = (0..size).map(|_| Rc::<Sleeper>::default()).collect();
    let (runtime, local) = (current_thread(), LocalSet::new());
    let mut set = JoinSet::new();
    for (id, source) in sleepers.iter().cloned().map(Sleeps).enumerate() {
        set.spawn_local_on(with_id(id, source), &local);
    }
    local.block_on(&runtime, async {
        while sleepers.iter().any(|sleeper| sleeper.borrow().is_none()) {
            yield_now().await;
        }
    });
    let mut next = 0;
    Contender::new("tokio", move || {
        local.block_on(&runtime, async {
            for _ in 0..WAKES {
                if let Some(waker) = &*sleepers[order[next]].borrow() {
                    waker.wake_by_ref();
                }
                yield_now().await;
                next = (next + 1) % size;
            }
        });
        assert_eq!(set.len(), size);
    })
}
