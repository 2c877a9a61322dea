//! Sources that run as tasks of their own, on all cores: [`spawned`].

mod task;

use std::fmt;
use std::future::Future;
use std::task::{Context, Poll};

pub use task::{Gone, SourceTask, SpawnedSource, Tasks};

use task::Counting;

use crate::panics::{Contained, Panics};
use crate::sealed::Sealed;
use crate::sources::{IntoSources, Sources};

/// Runs each source as a task of the caller's executor, so that sources use all cores.
///
/// A run polls all its sources in one task, which is the cheapest way for sources that wait: for sockets,
/// timers, channels. Sources that compute, or that are woken very often, use one core that way. `spawned`
/// gives each source a task. `spawner` passes it to an executor:
///
/// | executor | spawner |
/// |---|---|
/// | tokio | `\|task\| { tokio::spawn(task); }` |
/// | tokio, one thread, in a `LocalSet` | `\|task\| { tokio::task::spawn_local(task); }` |
/// | async-std | `\|task\| { async_std::task::spawn(task); }` |
/// | smol | `\|task\| smol::spawn(task).detach()` |
/// | `ThreadPool` of futures | `\|task\| pool.spawn_ok(task)` |
///
/// The handle that an executor returns must not cancel the task when it is dropped: with smol, call `detach`.
///
/// Limits, timeouts, policies and the account of every source stay as they are. Use it with any operation, and
/// with any kind of sources.
///
/// - A task is spawned when its source starts, so at most as many tasks are spawned as the limits admit. Set
///   [`concurrency`](crate::Operation::concurrency) to the number of cores if the sources compute: a
///   [`source_timeout`](crate::Operation::source_timeout) begins when the task is spawned, also if it has to wait
///   for a core.
/// - **Dropped means cancelled.** If the source times out, or the run ends or is dropped, the task is woken,
///   drops the source's future when its executor polls it, and ends. Until then a source that has timed out may
///   still compute beside the next one, which has its place. The run does not wait for that. To wait, take
///   [`tasks`](Spawned::tasks) before the run, and await [`gone`](Tasks::gone) after it, inside the same runtime.
/// - When the run has an outcome, the future of that source has been dropped.
/// - A panic of a source is caught in its task, and is what it is without `spawned`: it unwinds from the
///   run, or is the outcome [`Panicked`](crate::SourceError::Panicked) with its message. So is a panic of its
///   destructor after an answer. If the source was cancelled, there is no run for a panic of its destructor, and
///   only the panic hook reports it.
/// - If the executor drops a task that has not ended, because it shuts down or because the caller has
///   aborted the task, the source never answers. That is no panic: the source is unfinished when the run
///   ends. Give such a run a deadline.
/// - The spawner is dropped when the last source has started. If it owns its runtime, that goes with it: keep the
///   runtime elsewhere.
///
/// If the executor needs tasks that are `Send + 'static`, as all with several threads do, the futures of the
/// sources and their outputs must be so. Ids need not be, and neither need the run itself.
///
/// This costs an allocation for each source, beside that of the executor.
///
/// # Panics
///
/// A panic of `spawner` counts as a panic of the source: for example if there is no runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::executor::{ThreadPool, block_on};
/// use futures_aggregate::{each, fetch_and_aggregate, spawned};
///
/// async fn count_primes(below: u32) -> Result<usize, ()> {
///     let is_prime = |n: &u32| *n > 1 && (2..*n).all(|divisor| n % divisor != 0);
///     Ok((0..below).filter(is_prime).count())
/// }
///
/// let pool = ThreadPool::new().unwrap();
/// let sources = each([100, 1000, 2000], |&below| count_primes(below));
/// let sources = spawned(sources, |task| pool.spawn_ok(task));
/// let tasks = sources.tasks();
/// let run = fetch_and_aggregate(sources, Duration::from_secs(10)).in_order();
/// let aggregate = block_on(run).unwrap();
/// assert_eq!(aggregate.results, [(100, 25), (1000, 168), (2000, 303)]);
/// block_on(tasks.gone());
/// assert_eq!(tasks.alive(), 0);
/// ```
#[doc(alias = "parallel")]
#[doc(alias = "JoinSet")]
#[doc(alias = "multi-thread")]
pub fn spawned<L, P>(sources: L, spawner: P) -> Spawned<L::Sources, P>
where
    L: IntoSources<Future: Future>,
    P: FnMut(SourceTask<L::Future>),
{
    Spawned {
        sources: Contained::new(sources.into_sources()),
        spawner: Contained::new(spawner),
        counting: Counting::new(),
    }
}

/// Sources that run as tasks, made by [`spawned`].
pub struct Spawned<L, P> {
    sources: Contained<L>,
    spawner: Contained<P>,
    counting: Counting,
}

impl<L, P> Spawned<L, P> {
    /// A handle to the tasks of these sources, to wait until all of them are gone.
    pub fn tasks(&self) -> Tasks {
        self.counting.tasks()
    }
}

impl<L, P> Sealed for Spawned<L, P> {}

impl<L, P> Sources for Spawned<L, P>
where
    L: Sources<Future: Future>,
    P: FnMut(SourceTask<L::Future>),
{
    type Id = L::Id;
    type Seed = L::Seed;
    type Future = SpawnedSource<<L::Future as Future>::Output>;

    const MAY_WAIT: bool = L::MAY_WAIT;
    const MAKING_MAY_PANIC: bool = true;

    #[inline]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(L::Id, L::Seed)>> {
        self.sources.get_mut().poll_next(cx)
    }

    fn make(&mut self, id: &L::Id, seed: L::Seed) -> Self::Future {
        let future = self.sources.get_mut().make(id, seed);
        let (task, source) = task::split(future, self.counting.count());
        self.spawner.get_mut()(task);
        source
    }

    fn discard(&mut self, id: L::Id, seed: L::Seed, panics: &mut Panics) {
        self.sources.get_mut().discard(id, seed, panics);
    }

    fn sources_left(&self) -> (usize, Option<usize>) {
        self.sources.get().sources_left()
    }
}

impl<L, P> IntoSources for Spawned<L, P>
where
    L: Sources<Future: Future>,
    P: FnMut(SourceTask<L::Future>),
{
    type Id = L::Id;
    type Future = SpawnedSource<<L::Future as Future>::Output>;
    type Sources = Self;

    fn into_sources(self) -> Self {
        self
    }
}

impl<L, P> fmt::Debug for Spawned<L, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned")
            .field("alive", &self.tasks().alive())
            .finish_non_exhaustive()
    }
}
