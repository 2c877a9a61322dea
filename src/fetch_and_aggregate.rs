//! Polls sources concurrently under one deadline, and collects their outcomes.

mod collector;

use std::future::Future;
use std::time::Duration;

use crate::Aggregate;
use crate::hooks::{Hooks, NoHooks, WithRule};
use crate::operation::Operation;
use crate::scheduler::{Options, Signals, limit};
use crate::sources::IntoSources;
use crate::timer::{SystemTimer, Timer};
pub use collector::Collector;
pub(crate) use collector::drop_aggregate;

/// Polls all sources concurrently, and resolves to all their outcomes.
///
/// `sources` are pairs of an id and a future that resolves to a `Result`: from an iterator, from
/// [`each`](crate::each()), or from [`from_stream`](crate::from_stream()). The returned future starts
/// them in its first poll, and resolves to
///
/// - `Ok` with the [`Aggregate`] when every source has answered, including failures, or when a
///   [`quorum`](crate::Operation::quorum) or a [rule](FetchAndAggregate::stop_when) is satisfied;
/// - [`Interrupted`](crate::Interrupted) with the partial aggregate when `timeout` has passed, counted
///   from the first poll. [`Duration::MAX`] is no limit. [`Duration::ZERO`] polls each source once that
///   the first poll can start, at most 64, and then ends.
///
/// Sources are pulled lazily: under a [`concurrency`](crate::Operation::concurrency) of 64, a million
/// sources need the memory of 64. When a run ends early, the remaining items of an iterator are pulled
/// to name their ids, so a closure inside `map` runs for each of them. [`each`](crate::each()) makes no
/// futures for those.
///
/// **An iterator without an upper bound is not read to its end.** `lines`, `split`, `flat_map` and
/// `from_fn` have no upper bound in their [`size_hint`](Iterator::size_hint), and may be endless. If a
/// run over such an iterator ends early, the sources that it had not started are not named, and
/// [`unseen`](Aggregate::unseen) is true. Collect the sources into a `Vec` first if every id matters.
/// Arrays, vectors, ranges, maps, and `map`, `zip`, `enumerate` over them have an upper bound.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::{FutureExt, pending, ready};
/// use futures_aggregate::{Reason, fetch_and_aggregate};
///
/// # futures::executor::block_on(async {
/// let sources = [
///     ("cache", ready(Ok(1)).left_future()),
///     ("replica", ready(Err("connection refused")).left_future()),
///     ("database", pending().right_future()),
/// ];
/// let interrupted = fetch_and_aggregate(sources, Duration::from_millis(10))
///     .await
///     .unwrap_err();
///
/// assert_eq!(interrupted.reason, Reason::TimedOut);
/// assert_eq!(interrupted.partial.results, [("cache", 1)]);
/// assert_eq!(interrupted.partial.errors[0].0, "replica");
/// assert_eq!(interrupted.partial.unfinished, ["database"]);
/// # });
/// ```
///
/// # Errors
///
/// [`Reason::TimedOut`](crate::Reason::TimedOut), [`Reason::Cancelled`](crate::Reason::Cancelled) and
/// [`Reason::Drained`](crate::Reason::Drained).
/// With the matching policy also [`Reason::SourceFailed`](crate::Reason::SourceFailed) and
/// [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable). Without such a policy, a source that
/// fails does not interrupt the run.
///
/// # Panics
///
/// If a source panics, polling panics, unless [`catch_panics`](crate::Operation::catch_panics) is set.
/// The source is dropped and listed as [`SourceError::Panicked`](crate::SourceError::Panicked); the
/// future can be polled again for the other sources, or dropped. Polling after completion panics.
///
/// Polling also panics if a deadline needs a timer and the timer thread cannot be started. No outcome
/// is lost by that, and every later poll still checks the deadline.
///
/// # Cancel safety
///
/// Dropping the future drops every source in it at once, and the outcomes so far. To keep the outcomes,
/// end the run by [`cancel_on`](crate::Operation::cancel_on).
///
/// # Deadlines
///
/// A result beats the timeout: an answer that arrived before a deadline counts, even if the task was
/// not polled until later. This holds for the deadline of the run and for those of sources. So the end may
/// come a little after the deadline:
///
/// - Usually at once, when the run has polled the sources that were woken. Up to a millisecond later if the
///   runtime may have refused to poll a source, because the task had used up its cooperative budget. With
///   [`expire_on`](crate::Operation::expire_on), whose future does not say when it was due, up to 4 ms and 64
///   polls.
/// - If the run is polled *late*, a millisecond or more after the deadline, the thread was busy or the process
///   was stopped, and answers may still be in the sockets. The run starts no more sources, gives the runtime a
///   turn, and ends when no answer has come for 1 to 15 ms: at most 20 ms later in all, or as long as it was
///   late, up to 100 ms.
/// - If very many sources were woken, it polls them for at most 20 ms, or while most of them have answers.
///   Those that it does not reach are unfinished.
///
/// Of two deadlines that have passed, the earlier one counts.
///
/// A run that is on time does not wait for the sockets. If one worker of a runtime is busy, the others
/// may sleep without polling the sockets until the deadline wakes one of them. Answers that are still in
/// the sockets are lost then.
///
/// # Fairness
///
/// Each poll first polls the signals that were woken, while the runtime's cooperative budget is fresh;
/// then each woken source once; and then starts new ones. Once a woken source has stayed pending, woken
/// sources are polled in a shuffled order, so that one that uses up the budget of the task does not always
/// come before the same others.
///
/// A poll yields to the executor after 64 polls of sources, or after a millisecond and the source that
/// is being polled then. Runs inside its sources share that millisecond, and about 64 more polls of sources;
/// each of them polls at least one. Naming sources that were never started yields too, after some
/// hundred names.
#[doc(alias = "gather")]
#[doc(alias = "join_all")]
#[doc(alias = "scatter_gather")]
#[doc(alias = "all_settled")]
#[doc(alias = "when_all")]
#[doc(alias = "errgroup")]
#[doc(alias = "StructuredTaskScope")]
#[doc(alias = "TaskGroup")]
#[doc(alias = "nursery")]
#[doc(alias = "JoinMap")]
#[inline]
pub fn fetch_and_aggregate<L, K, F, T, E>(
    sources: L,
    timeout: Duration,
) -> FetchAndAggregate<L::Sources, K, F, T, E>
where
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    let mut options = Options::NONE;
    options.limits.timeout = limit(timeout);
    Operation::new(sources.into_sources(), options, Collector::new())
}

/// The future of [`fetch_and_aggregate`].
pub type FetchAndAggregate<L, K, F, T, E, S = Signals, H = NoHooks, Z = SystemTimer> =
    Operation<L, F, Collector<K, T, E>, S, H, Z>;

impl<L, K, F, T, E, S, H, Z> FetchAndAggregate<L, K, F, T, E, S, H, Z>
where
    Z: Timer,
    H: Hooks<K, T, E>,
{
    /// Ends the run with `Ok` as soon as `rule` says that the aggregate so far is enough. It is
    /// called after each outcome until it returns `true`. The other sources are dropped and listed
    /// as unfinished. Called more than once, any of the rules is enough. An outcome that decides by
    /// itself, as the first failure does under [`fail_fast`](Self::fail_fast) and the last success
    /// of a [`quorum`](Self::quorum), ends the run before any rule is asked.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::ready;
    /// use futures_aggregate::fetch_and_aggregate;
    ///
    /// # futures::executor::block_on(async {
    /// let offers = (1..100).map(|seats| (seats, ready(Ok::<_, ()>(seats))));
    /// let aggregate = fetch_and_aggregate(offers, Duration::from_secs(1))
    ///     .stop_when(|so_far| so_far.results.iter().map(|(_, seats)| seats).sum::<u32>() >= 10)
    ///     .await
    ///     .unwrap();
    /// assert_eq!(aggregate.results.len(), 4);
    /// assert_eq!(aggregate.unfinished.len(), 95);
    /// # });
    /// ```
    #[track_caller]
    pub fn stop_when<N>(self, rule: N) -> FetchAndAggregate<L, K, F, T, E, S, WithRule<H, N>, Z>
    where
        N: FnMut(&Aggregate<K, T, E>) -> bool,
    {
        self.map_hooks_to_rule(|before| WithRule::new(before, rule))
    }
}
