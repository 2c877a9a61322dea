//! Polls sources concurrently under one deadline, and collects their outcomes.

mod collector;

use std::future::Future;
use std::time::Duration;

use crate::Aggregate;
use crate::hooks::{Hooks, NoHooks, WithRule};
use crate::operation::Operation;
use crate::scheduler::{Options, Signals};
use crate::sources::IntoSources;
pub use collector::Collector;
pub(crate) use collector::drop_aggregate;

/// Asks every source at once and resolves to what all of them came to.
///
/// `sources` is any list of pairs of an id and a future that resolves to a `Result`. The future
/// that is returned starts them when it is first polled, and resolves to
///
/// - `Ok` with the [`Aggregate`] once every source has answered, failures included, or once a
///   [`quorum`](FetchAndAggregate::quorum) or a [rule](FetchAndAggregate::stop_when) is satisfied;
/// - [`Interrupted`] with the partial aggregate once `timeout` has passed, counted from the first
///   poll. [`Duration::MAX`] never passes. [`Duration::ZERO`] polls once each source that the first
///   poll can start, 128 at the most, and then ends.
///
/// The list is pulled lazily: under [`concurrency`](FetchAndAggregate::concurrency) of 64 a
/// million sources cost the memory of 64.
///
/// **A list that does not know its length is not read to its end.** `lines`, `split`, `flat_map`
/// and `from_fn` have no upper bound in their [`size_hint`](Iterator::size_hint), and may be
/// endless. If a run over such a list ends early, the sources that it had not started are neither
/// named nor counted. Collect it into a `Vec` first if every name matters; arrays, vectors, ranges,
/// maps, and `map`, `zip`, `enumerate` over them know their lengths.
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
/// [`Reason::TimedOut`] and [`Reason::Cancelled`], and the reasons of the policies that were asked
/// for: [`Reason::SourceFailed`], [`Reason::QuorumUnreachable`]. Without such a policy a source
/// that fails is no error of the whole.
///
/// # Panics
///
/// Polling panics if a source does, unless there is
/// [`catch_panics`](FetchAndAggregate::catch_panics). The source is gone then and is listed as
/// [`SourceError::Panicked`](crate::SourceError::Panicked); the future can be polled on for the
/// other sources, or dropped. Polling after completion panics.
///
/// Polling panics, too, where a deadline needs a timer and the thread that runs the timers cannot
/// be started. No outcome is lost by that, and every later poll still looks at the deadline.
///
/// # Cancel safety
///
/// Dropping the future drops every source in it at once. What was fetched by then is dropped too:
/// to keep it, end the run by [`cancel_on`](FetchAndAggregate::cancel_on) instead.
///
/// # Deadlines
///
/// A result beats the timeout: an answer that arrived before a deadline counts, even if the task was
/// not polled until later. This holds for the deadline of the run and for those of sources.
///
/// - A run that is polled on time ends once it has polled the sources that were woken. If the runtime
///   may have refused one of them for lack of its cooperative budget, this takes another millisecond at
///   the most, or 64 polls, or 128 polls of sources.
/// - A run that is polled *late*, a millisecond or more after a deadline, gives the runtime a turn
///   first: its thread was busy, or the process was stopped, and the answers may still lie in the
///   sockets. It starts no more sources, waits for 1 to 8 ms (a sixteenth of its lateness) from the last
///   answer on, and then for 64 polls. It takes no longer than 20 ms in all, or than it was late.
/// - Polling the sources that were woken takes 20 ms at the most, or for as long as most of those that
///   are polled have their answers. A source that is not reached is unfinished.
///
/// Of two deadlines that have passed, the earlier one counts. With the future of
/// [`expire_on`](FetchAndAggregate::expire_on) it is the same as with a run on time, except that a run
/// whose sources may have been refused waits for a millisecond *and* 64 polls, or for 128 polls of
/// sources: the future does not say when it was due.
///
/// A run on time does not wait for the sockets. If one worker of a runtime is busy, the others may all
/// sleep without looking at them, and are woken by the deadline: answers that are still in the sockets
/// are lost then.
///
/// # Fairness
///
/// Each poll first polls the signals that were woken, while the runtime's cooperative budget is fresh;
/// then each woken source once; and then starts new ones. From the first time on that a woken source
/// stays pending, woken sources are polled in a shuffled order, so that one that uses up the budget of
/// the task does not keep the same others from it for ever.
///
/// A poll yields to the executor after 128 polls of sources, or after a millisecond and the source that
/// is being polled then. Runs inside a source of a run share that millisecond, and another 128 polls for
/// all of them; each gets at least one. Naming sources that were never started yields too, after some
/// hundred names.
pub fn fetch_and_aggregate<L, K, F, T, E>(
    sources: L,
    timeout: Duration,
) -> FetchAndAggregate<L::Sources, K, F, T, E>
where
    L: IntoSources<Id = K, Future = F>,
    F: Future<Output = Result<T, E>>,
{
    let options = Options {
        timeout,
        ..Options::NONE
    };
    Operation::new(sources.into_sources(), options, Collector::new())
}

/// The future of [`fetch_and_aggregate`].
pub type FetchAndAggregate<L, K, F, T, E, S = Signals, H = NoHooks> =
    Operation<L, F, Collector<K, T, E>, S, H>;

impl<L, K, F, T, E, S, H> FetchAndAggregate<L, K, F, T, E, S, H>
where
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
    pub fn stop_when<N>(self, rule: N) -> FetchAndAggregate<L, K, F, T, E, S, WithRule<H, N>>
    where
        N: FnMut(&Aggregate<K, T, E>) -> bool,
    {
        self.map_hooks_to_rule(|before| WithRule::new(before, rule))
    }
}
