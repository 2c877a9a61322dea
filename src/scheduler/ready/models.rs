//! The tree under loom, which tries every interleaving of the threads up to a number of preemptions.
//! If a wake is lost, the poller waits forever, which loom reports.
//!
//! A wake must also publish what its thread has written before. So each source has a value that is
//! written before the wake, and read after it, both Relaxed.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use loom::sync::Notify;
use loom::sync::atomic::AtomicUsize as Value;
use loom::thread;

use super::{CountedWaker, Next, Ready};
use crate::scheduler::pool::{self, Pooled};
use crate::scheduler::slots::Links;

/// The first slot of each of the first two segments.
const IN_SEGMENTS: [usize; 2] = [32, 96];

/// A task that waits until it is woken.
struct Task(Notify);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Tries every interleaving of the model with up to three preemptions, and prints how many there were.
#[track_caller]
fn check(model: impl Fn() + Sync + Send + 'static) {
    check_up_to(3, model);
}

#[track_caller]
fn check_up_to(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let interleavings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&interleavings);
    builder.check(move || {
        // Relaxed: loom runs the threads of a model on one thread.
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!(
        "{} interleavings tried at {}",
        interleavings.load(Ordering::Relaxed),
        Location::caller()
    );
}

fn task() -> Arc<Task> {
    Arc::new(Task(Notify::new()))
}

/// A source that waits to be woken.
#[derive(Clone)]
struct Source {
    /// Its slot.
    slot: usize,
    /// The waker that it was polled with.
    waker: Waker,
    /// 1 after it was woken.
    value: Arc<Value>,
}

impl Source {
    /// A source that was polled and has kept the waker.
    fn new(ready: &mut Ready, slot: usize) -> Self {
        Self::with_own_waker(ready, slot).0
    }

    /// The same, with the waker of its slot.
    fn with_own_waker(ready: &mut Ready, slot: usize) -> (Self, CountedWaker) {
        ready.cover(slot);
        let waker = ready.lend(slot).clone();
        let own = ready.take_kept().unwrap();
        (Self::with(slot, waker), own)
    }

    fn with(slot: usize, waker: Waker) -> Self {
        Self {
            slot,
            waker,
            value: Arc::new(Value::new(0)),
        }
    }

    fn wake(self) {
        // Relaxed: the wake must publish the value.
        self.value.store(1, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Polls the source because it was woken.
    fn poll(&self) {
        // Relaxed: the poller must have acquired what was written before the wake.
        assert_eq!(self.value.load(Ordering::Relaxed), 1, "slot {}", self.slot);
    }
}

/// Polls the tree as a run does until all `sources` were woken. No other slot may be woken.
fn poll_until(ready: &mut Ready, task: &Arc<Task>, sources: &[Source]) {
    poll_all(ready, task, sources, sources.to_vec());
}

/// The same, if only the sources in `left` have not been polled yet. The others may be woken again.
fn poll_all(ready: &mut Ready, task: &Arc<Task>, sources: &[Source], mut left: Vec<Source>) {
    let waker = Waker::from(Arc::clone(task));
    loop {
        ready.begin_poll();
        ready.start_sweep(false);
        while let Some(slot) = ready.next() {
            poll(sources, slot);
            left.retain(|left| left.slot != slot);
        }
        if left.is_empty() {
            return;
        }
        let next = match ready.has_work() {
            true => Next::Again,
            false => Next::Wait,
        };
        ready.end_poll(&waker, next);
        task.0.wait();
    }
}

#[track_caller]
fn poll(sources: &[Source], slot: usize) {
    let source = sources.iter().find(|source| source.slot == slot);
    source
        .expect("only slots of these sources are woken")
        .poll();
}

fn in_threads(sources: &[Source]) -> Vec<thread::JoinHandle<()>> {
    let wake = |source: &Source| {
        let source = source.clone();
        thread::spawn(move || source.wake())
    };
    sources.iter().map(wake).collect()
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

/// A thread for each slot wakes it once, while the tree is polled. Three threads have so many
/// interleavings that only one preemption is allowed.
#[track_caller]
fn every_wake_is_seen(slots: &'static [usize]) {
    let preemptions = if slots.len() > 2 { 1 } else { 3 };
    check_up_to(preemptions, move || {
        let mut ready = Ready::new();
        let sources = sources(&mut ready, slots);
        let threads = in_threads(&sources);
        let task = task();
        poll_until(&mut ready, &task, &sources);
        join(threads);
    });
}

fn sources(ready: &mut Ready, slots: &[usize]) -> Vec<Source> {
    slots.iter().map(|&slot| Source::new(ready, slot)).collect()
}

#[test]
fn wakes_in_the_root_word_are_seen() {
    every_wake_is_seen(&[0, 1]);
}

#[test]
fn wakes_in_one_word_are_seen() {
    every_wake_is_seen(&[32, 33]);
}

#[test]
fn wakes_in_two_segments_are_seen() {
    every_wake_is_seen(&IN_SEGMENTS);
}

#[test]
fn wakes_in_two_words_of_a_segment_are_seen() {
    every_wake_is_seen(&[96, 160]);
}

#[test]
fn wakes_of_three_threads_are_seen() {
    every_wake_is_seen(&[0, 32, 33]);
}

#[test]
fn wakes_are_seen_while_the_tree_grows() {
    check(|| {
        let mut ready = Ready::new();
        let mut all = sources(&mut ready, &[32]);
        let threads = in_threads(&all);
        let task = task();
        ready.begin_poll();
        ready.start_sweep(false);
        let early: Vec<_> = std::iter::from_fn(|| ready.next()).collect();
        early.iter().for_each(|&slot| poll(&all, slot));
        let late = Source::new(&mut ready, 96);
        ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Again);
        task.0.wait();
        late.clone().wake();
        all.push(late);
        let left = if early.is_empty() {
            &all[..]
        } else {
            &all[1..]
        };
        poll_all(&mut ready, &task, &all, left.to_vec());
        join(threads);
    });
}

#[test]
fn wakes_reach_the_task_that_polled_last() {
    check(|| {
        let mut ready = Ready::new();
        let sources = sources(&mut ready, &[0, 32]);
        let first = Waker::from(task());
        ready.begin_poll();
        ready.end_poll(&first, Next::Wait);
        let threads = in_threads(&sources);
        poll_until(&mut ready, &task(), &sources);
        join(threads);
    });
}

/// The first wake of a waiting task stores the number of its slot. The second replaces the number by
/// bits.
#[test]
fn wakes_of_a_waiting_task_are_seen() {
    for slots in [[32, 33], [32, 96], [0, 32]] {
        check(move || {
            let mut ready = Ready::new();
            let sources = sources(&mut ready, &slots);
            let task = task();
            ready.begin_poll();
            ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Wait);
            let threads = in_threads(&sources);
            task.0.wait();
            poll_until(&mut ready, &task, &sources);
            join(threads);
        });
    }
}

/// A late run rests although a source has woken itself. The next wake must wake the task, whether it
/// is in the same word or in another.
#[test]
fn wakes_of_a_task_that_rests_are_seen() {
    for slots in [[0, 1], [32, 0], [0, 32], [32, 96]] {
        check(move || {
            let mut ready = Ready::new();
            let sources = sources(&mut ready, &slots);
            let task = task();
            ready.begin_poll();
            sources[0].clone().wake();
            ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Rest);
            let threads = in_threads(&sources[1..]);
            task.0.wait();
            poll_until(&mut ready, &task, &sources);
            join(threads);
        });
    }
}

/// A source that is late is polled one last time if it was woken, ahead of the sweep.
#[test]
fn wakes_of_late_sources_are_seen() {
    for slots in [[0, 1], [32, 33], [32, 96]] {
        check(move || {
            let mut ready = Ready::new();
            let sources = sources(&mut ready, &slots);
            let threads = in_threads(&sources);
            let task = task();
            ready.begin_poll();
            let is_left = |source: &&Source| {
                let woken = ready.take(source.slot);
                if woken {
                    source.poll();
                }
                !woken
            };
            let left: Vec<_> = sources.iter().filter(is_left).cloned().collect();
            ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Again);
            task.0.wait();
            poll_all(&mut ready, &task, &sources, left);
            join(threads);
        });
    }
}

#[test]
fn tree_that_is_dropped_meanwhile_lets_go_of_its_task() {
    check(|| {
        let mut ready = Ready::new();
        let sources = sources(&mut ready, &[0, 32]);
        let task = task();
        ready.begin_poll();
        ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Wait);
        let threads = in_threads(&sources);
        drop(ready);
        join(threads);
        assert_eq!(Arc::strong_count(&task), 1);
    });
}

#[test]
fn waker_that_was_lent_wakes_the_slot_it_was_lent_to() {
    check(|| {
        let mut ready = Ready::new();
        // The source in slot 1 gives a clone of its waker to a thread, and is ready.
        let source = Source::with(1, ready.lend(1).clone());
        let threads = in_threads(&[source.clone()]);
        let Source { slot, waker, value } = source;
        drop(waker);
        let waker = Waker::noop().clone();
        let source = Source { slot, waker, value };
        // The thread may have dropped its clone, or not yet.
        let _ = ready.lend(2);
        let task = task();
        poll_until(&mut ready, &task, &[source]);
        join(threads);
    });
}

/// A thread wakes a source of a run that ends meanwhile. A later run may take the tree, and no wake of the
/// first run reaches its task.
#[test]
fn waker_of_an_earlier_run_wakes_no_later_one() {
    check(|| {
        let mut ready = Ready::unused();
        ready.begin(pool::take().wakeups);
        let with_own_waker = |slot| Source::with_own_waker(&mut ready, slot);
        let (early, own): (Vec<_>, Vec<_>) = [0, 32].map(with_own_waker).into_iter().unzip();
        let task = task();
        ready.begin_poll();
        ready.end_poll(&Waker::from(task), Next::Wait);
        let wake = |source: Source| thread::spawn(|| source.wake());
        let threads: Vec<_> = early.into_iter().map(wake).collect();
        ready.begin_poll();
        own.into_iter().for_each(|waker| ready.take_back(waker));
        let wakeups = ready.end().unwrap();
        let links = Links::default();
        pool::put_back(Pooled { wakeups, links });

        let task = self::task();
        let mut ready = Ready::unused();
        ready.begin(pool::take().wakeups);
        let late = sources(&mut ready, &[1]);
        ready.begin_poll();
        ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Wait);
        join(threads);
        assert!(!ready.has_work(), "woken by a source of another run");
        ready.end_poll(&Waker::from(Arc::clone(&task)), Next::Wait);
        let threads = in_threads(&late);
        poll_until(&mut ready, &task, &late);
        join(threads);
    });
}
