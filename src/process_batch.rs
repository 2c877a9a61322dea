//! Polls batches of sources concurrently, each batch under a deadline of its own.

mod batcher;
mod numbered;

use std::future::Future;
use std::time::Duration;

use crate::BatchOutcome;
use crate::hooks::{Hooks, NoHooks, WithBatchRule};
use crate::limit::Concurrency;
use crate::operation::Operation;
use crate::scheduler::{Options, Signals, limit};
use crate::sources::{IntoBatches, IntoSources};
use crate::timer::{SystemTimer, Timer};
pub use batcher::{Batch, Batcher};
pub use numbered::Numbered;

/// The time of a batch, unless [`batch_timeout`](ProcessBatch::batch_timeout) sets another.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Polls several batches of sources concurrently, and resolves to one outcome per batch.
///
/// `batches` is an iterator of batches, or a stream of them by [`from_stream`](crate::from_stream()).
/// Each batch is a list of sources as in [`fetch_and_aggregate`](crate::fetch_and_aggregate()). It has 5
/// seconds from its own start, unless [`batch_timeout`](ProcessBatch::batch_timeout) sets another
/// timeout. The future resolves to
///
/// - `Ok` with one outcome per batch, in the order of the batches. A batch that fails or times out
///   disturbs no other and keeps its partial aggregate. If a [`quorum`](crate::Operation::quorum) or a
///   [rule](ProcessBatch::stop_when) has ended the run early, batches that were never seen are missing:
///   those of a stream, and those of an iterator without an upper bound;
/// - [`Interrupted`](crate::Interrupted) with the same list if the whole was stopped. Batches that had
///   ended keep their outcome, those in flight have their partial aggregates, and those never started
///   name their sources as far as they have upper bounds. Batches that were never seen are missing.
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
///     .expect("no deadline for the whole, and no signal");
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
/// [`Reason::TimedOut`](crate::Reason::TimedOut), [`Reason::Cancelled`](crate::Reason::Cancelled) and
/// [`Reason::Drained`](crate::Reason::Drained), if the whole has a
/// [`timeout`](crate::Operation::timeout) or a signal. With the matching policy also
/// [`Reason::SourceFailed`](crate::Reason::SourceFailed) and
/// [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable). Without such a policy, what happens
/// within a batch is the outcome of that batch, and does not interrupt the whole.
///
/// # Panics
///
/// If a source panics, polling panics, unless [`catch_panics`](crate::Operation::catch_panics) is set.
/// The source is dropped and listed in its batch as
/// [`SourceError::Panicked`](crate::SourceError::Panicked); the future can be polled again for the other
/// sources, also of the same batch. Polling after completion panics.
///
/// A batch whose `into_iter` panics keeps its position in the outcomes, with
/// [`Reason::Panicked`](crate::Reason::Panicked). The panic unwinds to the caller.
///
/// Polling also panics if a deadline needs a timer and the timer thread cannot be started. No outcome
/// is lost by that, and every later poll still checks the deadline.
///
/// # Cancel safety
///
/// Dropping the future drops every source of every batch at once, and the outcomes so far. To keep the
/// outcomes, end the run by [`cancel_on`](crate::Operation::cancel_on).
///
/// # Deadlines and fairness
///
/// As with [`fetch_and_aggregate`](crate::fetch_and_aggregate()), for the deadlines of the whole, of each
/// batch, and of sources: an answer that arrived in time counts. A batch whose time is up starts no more
/// sources. All batches share the budget of a poll: each takes half of what is left, at least 32 polls
/// of sources while there are any. A batch that got none comes first in the next poll.
#[doc(alias = "groups")]
#[doc(alias = "sub_batches")]
#[inline]
pub fn process_batch<B, L, K, F, T, E>(batches: B) -> ProcessBatch<B::Items, L::Sources, K, F, T, E>
where
    B: IntoBatches<Batch = L>,
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    let mut options = Options::NONE;
    options.limits.timeout = Some(BATCH_TIMEOUT);
    options.limits.sources_first = true;
    let batches = Numbered::new(batches.into_items());
    Operation::new(batches, Options::NONE, Batcher::new(options))
}

/// The future of [`process_batch`]. `B` is what the batches come from, and `I` the sources of one.
pub type ProcessBatch<B, I, K, F, T, E, S = Signals, H = NoHooks, Z = SystemTimer> =
    Operation<Numbered<B, T, E>, F, Batcher<I, K, T, E>, S, H, Z>;

impl<B, I, K, F, T, E, S, H, Z> ProcessBatch<B, I, K, F, T, E, S, H, Z>
where
    Z: Timer,
    H: Hooks<K, T, E>,
{
    /// Has at most `limit` sources in flight within each batch, or, if it is a [`Limit`](crate::Limit), in all
    /// batches and all other runs that share it. Without it all sources of a batch
    /// are started with it.
    ///
    /// For a limit on each host do not make batches: put all sources into one run with
    /// [`concurrency_per`](crate::Operation::concurrency_per).
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
    /// // One batch for each report, with its own deadline. Two queries of each at a time.
    /// let queries = |report| (0..10).map(move |query| ((report, query), ready(Ok::<_, ()>(query))));
    /// let batches = ["sales", "stock"].map(queries);
    /// let outcomes = process_batch(batches).source_concurrency(2).await.unwrap();
    /// assert_eq!(outcomes[1].as_ref().unwrap().results.len(), 10);
    /// # });
    /// ```
    #[track_caller]
    pub fn source_concurrency<'a>(mut self, limit: impl Into<Concurrency<'a>>) -> Self {
        self.consumer_mut().options.limit_concurrency(limit.into());
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
        self.consumer_mut().options.limits.timeout = limit(timeout);
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
        self.consumer_mut().options.policies.set_fail_fast();
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
        self.consumer_mut().options.policies.set_quorum(successes);
        self
    }

    /// Ends the run with `Ok` as soon as `rule` returns true for the outcomes so far. The rule is called
    /// after each batch that is over, with every outcome at the position of its batch. Batches that are
    /// not over are interrupted as [`Reason::NotNeeded`](crate::Reason::NotNeeded). Called more than
    /// once, any of the rules is enough.
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
    pub fn stop_when<N>(self, rule: N) -> ProcessBatch<B, I, K, F, T, E, S, WithBatchRule<H, N>, Z>
    where
        N: FnMut(&[Option<BatchOutcome<K, T, E>>]) -> bool,
    {
        self.map_hooks_to_rule(|before| WithBatchRule::new(before, rule))
    }
}
