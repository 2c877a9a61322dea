//! Asks batches of sources, all of them concurrently, each under a deadline of its own.

mod numbered;
mod outcomes;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::fetch_and_aggregate::FetchAndAggregate;
use crate::interrupted::resolve;
use crate::run::{
    Decide, First, Follow, Hooks, Observe, Observed, Ruled, Run, Shared, Signals, Unobserved,
    check_concurrency,
};
use crate::{Aggregate, Event, Interrupted};
use numbered::Numbered;
use outcomes::Outcomes;

/// How long a batch may take unless [`ProcessBatch::batch_timeout`] says otherwise.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// What each batch came to, in the order of the batches.
///
/// A batch that was interrupted has its own reason and its own partial aggregate. One that was
/// never started, because the whole was interrupted before, has all its sources in `unfinished`.
///
/// # Examples
///
/// ```
/// use futures_aggregate::Batches;
///
/// fn answers<K, E>(batches: &Batches<K, String, E>) -> usize {
///     let aggregates = batches.iter().map(|batch| match batch {
///         Ok(aggregate) => aggregate,
///         Err(interrupted) => &interrupted.partial,
///     });
///     aggregates.map(|aggregate| aggregate.results.len()).sum()
/// }
/// # assert_eq!(answers::<u32, ()>(&vec![Ok(Default::default())]), 0);
/// ```
pub type Batches<K, T, E> = Vec<BatchOutcome<K, T, E>>;

/// What one batch came to: its aggregate, or why it was interrupted and what it had by then.
///
/// # Examples
///
/// ```
/// use futures_aggregate::{BatchOutcome, Reason};
///
/// fn was_late<K, T, E>(batch: &BatchOutcome<K, T, E>) -> bool {
///     batch.as_ref().is_err_and(|interrupted| interrupted.reason == Reason::TimedOut)
/// }
/// # assert!(!was_late::<u32, u32, ()>(&Ok(Default::default())));
/// ```
pub type BatchOutcome<K, T, E> = Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>;

/// Asks the sources of several batches at once and resolves to what each batch came to.
///
/// Each batch is a list of sources as in [`fetch_and_aggregate`](crate::fetch_and_aggregate). All
/// batches run concurrently, and each may take 5 seconds from its own start unless
/// [`batch_timeout`](ProcessBatch::batch_timeout) says otherwise. The future resolves to
///
/// - `Ok` with one outcome per batch, in the order of the batches. A batch that failed or was
///   late disturbs no other and keeps its partial aggregate. Where a
///   [`quorum`](ProcessBatch::quorum) or a [rule](ProcessBatch::stop_when) has ended it early,
///   the vector is shorter than the list if that does not know its length;
/// - [`Interrupted`] with the same list if the whole was stopped: batches that had ended keep
///   their outcome, those in flight have their partial aggregates, and those never started name
///   their sources, as long as the lists know their upper bounds.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::{FutureExt, pending, ready};
/// use futures_aggregate::{Reason, process_batch};
///
/// # futures::executor::block_on(async {
/// let healthy = vec![("a", ready(Ok::<_, &str>(1)).left_future())];
/// let broken = vec![("b", ready(Err("refused")).left_future()), ("c", pending().right_future())];
///
/// let batches = process_batch([healthy, broken])
///     .batch_timeout(Duration::from_millis(10))
///     .await
///     .expect("no deadline for the whole, and nobody cancels");
///
/// assert_eq!(batches[0].as_ref().unwrap().results, [("a", 1)]);
/// let interrupted = batches[1].as_ref().unwrap_err();
/// assert_eq!(interrupted.reason, Reason::TimedOut);
/// assert_eq!(interrupted.partial.errors[0].0, "b");
/// assert_eq!(interrupted.partial.unfinished, ["c"]);
/// # });
/// ```
///
/// # Errors
///
/// [`Reason::TimedOut`](crate::Reason::TimedOut) and
/// [`Reason::Cancelled`](crate::Reason::Cancelled), where the whole has a
/// [`timeout`](ProcessBatch::timeout) or a signal, and the reasons of the policies that were asked
/// for: [`Reason::SourceFailed`](crate::Reason::SourceFailed),
/// [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable). Without such a policy what
/// happens within a batch is that batch's outcome and no error of the whole.
///
/// # Panics
///
/// Polling panics if a source does, unless there is [`catch_panics`](ProcessBatch::catch_panics).
/// The source is gone then and is listed in its batch as
/// [`SourceError::Panicked`](crate::SourceError::Panicked); the future can be polled on for the
/// other sources, those of the same batch included. Polling after completion panics.
///
/// Polling panics, too, where a deadline needs a timer and the thread that runs the timers cannot
/// be started. No outcome is lost by that, and every later poll still looks at the deadline.
///
/// # Cancel safety
///
/// Dropping the future drops every source of every batch at once, and what was fetched with them.
/// To keep it, end the run by [`cancel_on`](ProcessBatch::cancel_on) instead.
///
/// # Deadlines and fairness
///
/// As with [`fetch_and_aggregate`](crate::fetch_and_aggregate), for the deadlines of all batches, of
/// each batch, and of sources: an answer that arrived in time counts. A batch whose time is up starts no
/// more sources. All batches share the budget of a poll. Of what is left, each takes half, and 32 polls
/// of sources at least as long as there are any; a batch that got none comes first in the next poll.
///
/// A batch whose iterator panics when it is made keeps its position in the outcomes, with
/// [`Reason::Panicked`](crate::Reason::Panicked). The panic unwinds to the caller.
pub fn process_batch<B, L, K, F, T, E>(
    batches: B,
) -> ProcessBatch<B::IntoIter, L::IntoIter, K, F, T, E>
where
    B: IntoIterator<Item = L>,
    L: IntoIterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
{
    let batches = Numbered::new(batches.into_iter());
    let mut run = Run::new(batches, Duration::MAX, Hooks::none());
    run.set_source_timeout(BATCH_TIMEOUT);
    ProcessBatch {
        run,
        outcomes: Outcomes::new(),
        signals: Signals::none(),
    }
}

pin_project! {
    /// The future of [`process_batch`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ProcessBatch<B, I, K, F, T, E, S = Signals, N = Hooks, H = Hooks>
    where
        N: Follow<K>,
        H: Follow<usize>,
    {
        run: Run<Numbered<B, N>, usize, Batch<I, K, F, T, E, N>, H>,
        outcomes: Outcomes<K, T, E>,
        #[pin]
        signals: S,
    }
}

/// The run of one batch, with its hooks.
type Batch<I, K, F, T, E, N> = FetchAndAggregate<I, K, F, T, E, Signals, N>;

impl<B, I, K, F, T, E, C, X, N, H> ProcessBatch<B, I, K, F, T, E, Signals<C, X>, N, H>
where
    N: Follow<K>,
    H: Follow<usize>,
{
    /// Has at most `limit` batches in flight, with all their sources. Without it all are started at
    /// once. See [`source_concurrency`](Self::source_concurrency) for the sources of a batch.
    ///
    /// # Panics
    ///
    /// If `limit` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::ready;
    /// use futures_aggregate::process_batch;
    ///
    /// # futures::executor::block_on(async {
    /// let sources = |batch| (0..10).map(move |id| (id, ready(Ok::<_, ()>(batch * id))));
    /// let batches = (0..100).map(sources);
    /// let outcomes = process_batch(batches).concurrency(4).await.unwrap();
    /// assert_eq!(outcomes.len(), 100);
    /// # });
    /// ```
    #[track_caller]
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.run.set_concurrency(limit);
        self
    }

    /// Has at most `limit` sources in flight within each batch. Without it all sources of a batch
    /// are started with it.
    ///
    /// # Panics
    ///
    /// If `limit` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::ready;
    /// use futures_aggregate::process_batch;
    ///
    /// # futures::executor::block_on(async {
    /// // One batch for each host: no more than two requests at a time for any of them.
    /// let pages = |host| (0..10).map(move |page| ((host, page), ready(Ok::<_, ()>(page))));
    /// let batches = ["a.example", "b.example"].map(pages);
    /// let outcomes = process_batch(batches).source_concurrency(2).await.unwrap();
    /// assert_eq!(outcomes[1].as_ref().unwrap().results.len(), 10);
    /// # });
    /// ```
    #[track_caller]
    pub fn source_concurrency(mut self, limit: usize) -> Self {
        check_concurrency(limit);
        if let Some(batches) = self.run.sources_mut() {
            batches.source_concurrency = limit;
        }
        self
    }

    /// Gives the run of all batches this much time from the first poll. Each batch has its
    /// [`batch_timeout`](Self::batch_timeout) all the same, 5 seconds by default: pass
    /// [`Duration::MAX`] there if this is to be the only limit. [`Duration::MAX`], the default, is
    /// no limit; [`Duration::ZERO`] gives one poll to every source that the first poll can reach.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{Reason, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let quick = [("a", ready(Ok::<_, ()>(1)).left_future())];
    /// let stuck = [("b", pending().right_future())];
    /// let interrupted = process_batch([quick, stuck])
    ///     .timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// assert_eq!(interrupted.partial[0].as_ref().unwrap().results, [("a", 1)]);
    /// assert!(interrupted.partial[1].is_err());
    /// # });
    /// ```
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.run.set_timeout(timeout);
        self
    }

    /// Gives each batch this much time from its own start, 5 seconds by default.
    /// [`Duration::MAX`] is no limit; [`Duration::ZERO`] gives each batch one poll.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{Reason, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let quick = [("a", ready(Ok::<_, ()>(1)).left_future())];
    /// let stuck = [("b", pending().right_future())];
    /// let outcomes = process_batch([quick, stuck])
    ///     .batch_timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap();
    /// assert!(outcomes[0].is_ok());
    /// assert_eq!(outcomes[1].as_ref().unwrap_err().reason, Reason::TimedOut);
    /// # });
    /// ```
    #[track_caller]
    pub fn batch_timeout(mut self, timeout: Duration) -> Self {
        self.run.set_source_timeout(timeout);
        self
    }

    /// Gives each source this much time from its own start; one that is late is listed in its
    /// batch as [`SourceError::TimedOut`](crate::SourceError::TimedOut) and disturbs no other.
    /// [`Duration::MAX`], the default, is no limit; [`Duration::ZERO`] gives each source one poll.
    ///
    /// If the task is polled so late that a batch's time and that of its sources are up at once,
    /// the sources are listed as late.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{SourceError, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let batch = [
    ///     ("a", ready(Ok::<_, ()>(1)).left_future()),
    ///     ("b", pending().right_future()),
    /// ];
    /// let outcomes = process_batch([batch])
    ///     .source_timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap();
    /// let aggregate = outcomes[0].as_ref().unwrap();
    /// assert_eq!(aggregate.errors, [("b", SourceError::TimedOut)]);
    /// # });
    /// ```
    #[track_caller]
    pub fn source_timeout(mut self, timeout: Duration) -> Self {
        if let Some(batches) = self.run.sources_mut() {
            batches.source_timeout = timeout;
        }
        self
    }

    /// Interrupts the whole as [`Reason::Cancelled`](crate::Reason::Cancelled) once `signal`
    /// completes, whatever its output.
    ///
    /// A signal that is already there at the first poll means that no source is polled. Called
    /// more than once, the first signal to complete counts.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::channel::oneshot;
    /// use futures::future::pending;
    /// use futures_aggregate::{Reason, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let (cancel, cancelled) = oneshot::channel::<()>();
    /// let batches = [[("a", pending::<Result<(), ()>>())], [("b", pending())]];
    /// let run = process_batch(batches).cancel_on(cancelled);
    ///
    /// std::thread::spawn(move || cancel.send(()));
    /// let interrupted = run.await.unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::Cancelled);
    /// let second = interrupted.partial[1].as_ref().unwrap_err();
    /// assert_eq!(second.partial.unfinished, ["b"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn cancel_on<M: Future>(
        self,
        signal: M,
    ) -> ProcessBatch<B, I, K, F, T, E, Signals<First<C, M>, X>, N, H> {
        self.run.check_is_new();
        ProcessBatch {
            run: self.run,
            outcomes: self.outcomes,
            signals: self.signals.cancel_on(signal),
        }
    }

    /// Lets the time of the whole be up once `timer` completes, whatever its output: for a timer of
    /// the caller's own, such as one of tokio, which tests can pause. The time of each batch is by
    /// the real clock in any case.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::pending;
    /// use futures_aggregate::{Reason, process_batch};
    /// use futures_timer::Delay;
    ///
    /// # futures::executor::block_on(async {
    /// // With tokio: `tokio::time::sleep`.
    /// let timer = Delay::new(Duration::from_millis(5));
    /// let interrupted = process_batch([[("a", pending::<Result<(), ()>>())]])
    ///     .batch_timeout(Duration::MAX)
    ///     .expire_on(timer)
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// # });
    /// ```
    #[track_caller]
    pub fn expire_on<M: Future>(
        self,
        timer: M,
    ) -> ProcessBatch<B, I, K, F, T, E, Signals<C, First<X, M>>, N, H> {
        self.run.check_is_new();
        ProcessBatch {
            run: self.run,
            outcomes: self.outcomes,
            signals: self.signals.expire_on(timer),
        }
    }

    /// Ends the whole at the first batch that fails, which is one that was interrupted, as
    /// [`Reason::SourceFailed`](crate::Reason::SourceFailed). Errors within a batch are none of its
    /// own, unless [`batch_fail_fast`](Self::batch_fail_fast) makes them so.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{Reason, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let good = [("a", ready(Ok::<u32, _>(1)).left_future())];
    /// let bad = [("b", ready(Err("refused")).left_future())];
    /// let slow = [("c", pending().right_future())];
    /// let interrupted = process_batch([good, bad, slow])
    ///     .batch_fail_fast()          // a batch fails with its first source,
    ///     .fail_fast()                // and the whole with its first batch
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::SourceFailed);
    /// assert_eq!(interrupted.partial[0].as_ref().unwrap().results, [("a", 1)]);
    /// assert_eq!(interrupted.partial[2].as_ref().unwrap_err().partial.unfinished, ["c"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn fail_fast(mut self) -> Self {
        self.run.check_is_new();
        self.outcomes.stop.set_fail_fast();
        self
    }

    /// Ends the whole with `Ok` as soon as `successes` batches have succeeded, and as
    /// [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable) as soon as too few are left.
    /// Batches that are not over by then are interrupted as
    /// [`Reason::NotNeeded`](crate::Reason::NotNeeded).
    ///
    /// # Panics
    ///
    /// If `successes` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{Reason, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let one = [("a", ready(Ok::<_, ()>(1)).left_future())];
    /// let other = [("b", pending().right_future())];
    /// let outcomes = process_batch([one, other]).quorum(1).await.unwrap();
    /// assert_eq!(outcomes[0].as_ref().unwrap().results, [("a", 1)]);
    /// assert_eq!(outcomes[1].as_ref().unwrap_err().reason, Reason::NotNeeded);
    /// # });
    /// ```
    #[track_caller]
    pub fn quorum(mut self, successes: usize) -> Self {
        self.run.check_is_new();
        self.outcomes.stop.set_quorum(successes);
        self
    }

    /// Ends each batch at the first failure of a source in it, as
    /// [`Reason::SourceFailed`](crate::Reason::SourceFailed). The other batches go on, unless there
    /// is [`fail_fast`](Self::fail_fast) too.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{Reason, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let bad = vec![("a", pending().left_future()), ("b", ready(Err("refused")).right_future())];
    /// let good = vec![("c", ready(Ok(1)).right_future())];
    /// let outcomes = process_batch([bad, good]).batch_fail_fast().await.unwrap();
    /// assert_eq!(outcomes[0].as_ref().unwrap_err().reason, Reason::SourceFailed);
    /// assert_eq!(outcomes[1].as_ref().unwrap().results, [("c", 1)]);
    /// # });
    /// ```
    #[track_caller]
    pub fn batch_fail_fast(mut self) -> Self {
        if let Some(batches) = self.run.sources_mut() {
            batches.stop.set_fail_fast();
        }
        self
    }

    /// Ends each batch with `Ok` as soon as `successes` of its sources have succeeded, and as
    /// [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable) as soon as too few are left.
    ///
    /// # Panics
    ///
    /// If `successes` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::process_batch;
    ///
    /// # futures::executor::block_on(async {
    /// // Any replica will do for each of the questions.
    /// let replicas = || [
    ///     ("near", pending().left_future()),
    ///     ("far", ready(Ok::<_, ()>(7)).right_future()),
    /// ];
    /// let outcomes = process_batch([replicas(), replicas()]).batch_quorum(1).await.unwrap();
    /// for outcome in outcomes {
    ///     assert_eq!(outcome.unwrap().results, [("far", 7)]);
    /// }
    /// # });
    /// ```
    #[track_caller]
    pub fn batch_quorum(mut self, successes: usize) -> Self {
        if let Some(batches) = self.run.sources_mut() {
            batches.stop.set_quorum(successes);
        }
        self
    }

    /// Turns the panic of a source into
    /// [`SourceError::Panicked`](crate::SourceError::Panicked). Without it the panic unwinds to the
    /// caller. Panics of the caller's own closures and signals unwind in any case, and so does that
    /// of a source which is dropped.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_aggregate::process_batch;
    ///
    /// async fn parse(text: &str) -> Result<u32, ()> {
    ///     Ok(text.parse().expect("a number"))
    /// }
    ///
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// # futures::executor::block_on(async {
    /// let lines = [["1", "two"], ["3", "4"]];
    /// let batches = lines.map(|line| line.map(|text| (text, parse(text))));
    /// let outcomes = process_batch(batches).catch_panics().await.unwrap();
    /// let first = outcomes[0].as_ref().unwrap();
    /// assert_eq!(first.results, [("1", 1)]);
    /// assert!(first.errors[0].1.is_panicked());
    /// # });
    /// ```
    #[track_caller]
    pub fn catch_panics(mut self) -> Self {
        if let Some(batches) = self.run.sources_mut() {
            batches.catches_panics = true;
        }
        self
    }
}

impl<B, I, K, F, T, E, S, N, R> ProcessBatch<B, I, K, F, T, E, S, N, Hooks<Unobserved, R>>
where
    N: Follow<K>,
{
    /// Ends the whole with `Ok` as soon as `rule` says that the outcomes so far are enough. It is
    /// asked after each batch that is over, with every outcome so far at the place of its batch.
    /// Batches that are not over by then are interrupted as
    /// [`Reason::NotNeeded`](crate::Reason::NotNeeded).
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::ready;
    /// use futures_aggregate::process_batch;
    ///
    /// # futures::executor::block_on(async {
    /// let batches = (0..10).map(|batch| [(batch, ready(Ok::<_, ()>(batch * 10)))]);
    /// let outcomes = process_batch(batches)
    ///     .concurrency(1)
    ///     .stop_when(|so_far| {
    ///         let done = so_far.iter().flatten().flatten();
    ///         done.flat_map(|batch| &batch.results).any(|&(_, value)| value >= 30)
    ///     })
    ///     .await
    ///     .unwrap();
    /// assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 4);
    /// # });
    /// ```
    #[track_caller]
    pub fn stop_when<M>(
        self,
        rule: M,
    ) -> ProcessBatch<B, I, K, F, T, E, S, N, Hooks<Unobserved, Ruled<R, M>>>
    where
        M: FnMut(&[Option<BatchOutcome<K, T, E>>]) -> bool,
    {
        ProcessBatch {
            run: self.run.map_hooks(|hooks| hooks.stop_when(rule)),
            outcomes: self.outcomes,
            signals: self.signals,
        }
    }
}

impl<B, I, K, F, T, E, S, O, H> ProcessBatch<B, I, K, F, T, E, S, Hooks<O>, H>
where
    O: Follow<K>,
    H: Follow<usize>,
{
    /// Has `observer` told of every source of every batch that is started, and of what becomes of
    /// it, in the poll that sees it. It must not block. If it panics, the panic unwinds to the
    /// caller and loses no outcome. Called more than once, all observers are told. See [`Event`],
    /// which does not say which batch it is: let the id do that.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::future::ready;
    /// use futures_aggregate::{Event, process_batch};
    ///
    /// # futures::executor::block_on(async {
    /// let mut failed = Vec::new();
    /// let batches = [[("a", ready(Ok(1)))], [("b", ready(Err("refused")))]];
    /// let outcomes = process_batch(batches)
    ///     .observe(|event| {
    ///         if let Event::Finished { id, result: Err(error) } = event {
    ///             failed.push(format!("{id}: {error}"));
    ///         }
    ///     })
    ///     .await
    ///     .unwrap();
    /// assert_eq!(outcomes.len(), 2);
    /// assert_eq!(failed, ["b: refused"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn observe<M>(
        self,
        observer: M,
    ) -> ProcessBatch<B, I, K, F, T, E, S, Hooks<Shared<Observed<O, M, T, E>>>, H>
    where
        M: FnMut(Event<'_, K, T, E>),
    {
        ProcessBatch {
            run: self
                .run
                .map(|batches| batches.observe(observer), std::convert::identity),
            outcomes: self.outcomes,
            signals: self.signals,
        }
    }
}

impl<B, I, K, F, T, E, C, X, N, H> Future for ProcessBatch<B, I, K, F, T, E, Signals<C, X>, N, H>
where
    B: Iterator,
    B::Item: IntoIterator<Item = (K, F), IntoIter = I>,
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
    N: Observe<K, T, E> + Decide<Aggregate<K, T, E>> + Clone,
    H: Follow<usize> + Decide<[Option<BatchOutcome<K, T, E>>]>,
{
    type Output = Result<Batches<K, T, E>, Interrupted<Batches<K, T, E>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let end = std::task::ready!(this.run.poll(cx, this.signals, true, this.outcomes));
        Poll::Ready(resolve(end, this.outcomes.take()))
    }
}

impl<B, I, K, F, T, E, C, X, N, H> FusedFuture
    for ProcessBatch<B, I, K, F, T, E, Signals<C, X>, N, H>
where
    Self: Future,
    N: Follow<K>,
    H: Follow<usize>,
{
    fn is_terminated(&self) -> bool {
        self.run.is_terminated()
    }
}

impl<B, I, K, F, T, E, S, N, H> fmt::Debug for ProcessBatch<B, I, K, F, T, E, S, N, H>
where
    N: Follow<K>,
    H: Follow<usize>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBatch")
            .field("in_flight", &self.run.in_flight())
            .finish_non_exhaustive()
    }
}
