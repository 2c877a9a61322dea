//! The future of every operation: how it is set up, polled and dropped.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::Event;
use crate::consumer::{Aggregating, Consumer, OutcomeTypes};
use crate::hooks::{Hooks, NoHooks, WithObserver};
use crate::panics::Panics;
use crate::scheduler::{First, Options, Run, Signals, limit};
use crate::sources::Sources;

pin_project! {
    /// A run of many sources: the future that [`fetch_and_aggregate`], [`process_batch`] and
    /// [`stream_results`] return.
    ///
    /// Nothing happens before the first poll. Every method is to be called before it.
    ///
    /// | parameter | what it is |
    /// |---|---|
    /// | `L` | the [`Sources`](crate::types::Sources) |
    /// | `F` | the future of a source |
    /// | `C` | the [`Consumer`](crate::types::Consumer), which tells the operations apart |
    /// | `S` | the [`Signals`](crate::types::Signals) of the caller |
    /// | `H` | the [`Hooks`](crate::types::Hooks) of the caller |
    ///
    /// [`FetchAndAggregate`], [`ProcessBatch`] and [`StreamResults`] are this type with a consumer.
    ///
    /// An operation is [`Unpin`] if its signals are, whatever its sources are: those are boxed when
    /// they start. The driver of [`stream_results`] is not.
    ///
    /// # Cancel safety
    ///
    /// Dropping an operation drops every source in it at once. The outcomes so far are dropped too. To
    /// keep them, end the run by [`cancel_on`](Self::cancel_on).
    ///
    /// [`fetch_and_aggregate`]: crate::fetch_and_aggregate()
    /// [`process_batch`]: crate::process_batch()
    /// [`stream_results`]: crate::stream_results()
    /// [`FetchAndAggregate`]: crate::FetchAndAggregate
    /// [`ProcessBatch`]: crate::ProcessBatch
    /// [`StreamResults`]: crate::StreamResults
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Operation<L, F, C, S = Signals, H = NoHooks>
    where
        C: OutcomeTypes,
        H: Hooks<C::Id, C::Value, C::Error>,
    {
        in_flight: Attended<L, F, C, H>,
        #[pin]
        consumer: C,
        #[pin]
        signals: S,
    }
}

/// A run with the hooks that are told of its sources, also when it is dropped.
struct Attended<L, F, C, H>
where
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// Gone only when they were moved to another operation, before the first poll.
    parts: Option<(Run<L, C::Key, C::Slot<F>>, H)>,
}

const MOVED: &str = "a run that was not moved";

impl<L, F, C, H> Attended<L, F, C, H>
where
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn run(&self) -> &Run<L, C::Key, C::Slot<F>> {
        &self.parts.as_ref().expect(MOVED).0
    }

    #[inline(always)]
    fn parts(&mut self) -> &mut (Run<L, C::Key, C::Slot<F>>, H) {
        self.parts.as_mut().expect(MOVED)
    }
}

impl<L, F, C, H> Drop for Attended<L, F, C, H>
where
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn drop(&mut self) {
        let mut panics = Panics::default();
        if let Some((run, hooks)) = self.parts.as_mut().filter(|(run, _)| run.in_flight() > 0) {
            panics.catch(|| run.close());
            C::abandon(run, hooks, &mut panics);
        }
        panics.resume();
    }
}

impl<L, F, C> Operation<L, F, C>
where
    L: Sources<Id = C::Key>,
    C: OutcomeTypes,
{
    #[inline(always)]
    pub(crate) fn new(sources: L, options: Options, consumer: C) -> Self {
        Self {
            in_flight: Attended {
                parts: Some((Run::new(sources, options), NoHooks)),
            },
            consumer,
            signals: Signals::none(),
        }
    }
}

impl<L, F, C, S, H> Operation<L, F, C, S, H>
where
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// The settings of the run.
    #[track_caller]
    pub(crate) fn options(&mut self) -> &mut Options {
        self.in_flight.parts().0.options_mut()
    }

    /// The settings of the sources, which are those of the run unless its sources are batches.
    #[track_caller]
    fn source_options(&mut self) -> &mut Options {
        let of_run = self.in_flight.parts().0.options_mut();
        self.consumer.source_options(of_run)
    }

    /// The consumer, to be set up.
    #[track_caller]
    pub(crate) fn consumer_mut(&mut self) -> &mut C {
        self.options();
        &mut self.consumer
    }

    /// The same operation with other hooks, made of these.
    #[track_caller]
    pub(crate) fn map_hooks<N>(mut self, map: impl FnOnce(H) -> N) -> Operation<L, F, C, S, N>
    where
        N: Hooks<C::Id, C::Value, C::Error>,
    {
        self.options();
        let parts = self.in_flight.parts.take();
        let parts = parts.map(|(run, hooks)| (run, map(hooks)));
        Operation {
            in_flight: Attended { parts },
            consumer: self.consumer,
            signals: self.signals,
        }
    }

    /// The same operation with a stop rule in its hooks.
    #[track_caller]
    pub(crate) fn map_hooks_to_rule<N>(
        mut self,
        map: impl FnOnce(H) -> N,
    ) -> Operation<L, F, C, S, N>
    where
        N: Hooks<C::Id, C::Value, C::Error>,
    {
        self.options().policies.has_rule = true;
        self.map_hooks(map)
    }

    /// Limits the sources in flight to `limit`, or the batches of
    /// [`process_batch`](crate::process_batch()) with all their sources. Without it all of them start
    /// at once. Called more than once, the last limit counts.
    ///
    /// In [`stream_results`](crate::stream_results()) an outcome that waits for the receiver counts as
    /// in flight. [`source_concurrency`](crate::ProcessBatch::source_concurrency) limits the sources
    /// within each batch.
    ///
    /// An iterator is asked for a source only when there is room for it, so sources can be made as
    /// they are needed, from an endless iterator too.
    ///
    /// # Panics
    ///
    /// If `limit` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::time::Duration;
    /// use futures::future::ready;
    /// use futures_aggregate::{each, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let made = Cell::new(0);
    /// let endless = each(0.., |&id| {
    ///     made.set(made.get() + 1);
    ///     ready(Ok::<_, ()>(id))
    /// });
    /// let aggregate = fetch_and_aggregate(endless, Duration::from_secs(2))
    ///     .concurrency(1)
    ///     .quorum(3)
    ///     .await
    ///     .unwrap();
    /// assert_eq!(aggregate.results.len(), 3);
    /// assert_eq!(made.get(), 3);          // no source was made that was not needed
    /// # });
    /// ```
    #[track_caller]
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.options().set_concurrency(limit);
        self
    }

    /// Gives the run this much time from its first poll. Then it ends as
    /// [`Reason::TimedOut`](crate::Reason::TimedOut). Called more than once, the last timeout counts,
    /// also instead of that of [`fetch_and_aggregate`](crate::fetch_and_aggregate()).
    ///
    /// [`Duration::MAX`] is no limit: the default of [`stream_results`](crate::stream_results()) and
    /// [`process_batch`](crate::process_batch()), whose batches have a
    /// [`batch_timeout`](crate::ProcessBatch::batch_timeout) of 5 seconds each.
    /// [`Duration::ZERO`] gives one poll to every source that the first poll can reach. Of a stream it
    /// includes the time in which outcomes wait for the receiver.
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
    /// use futures_aggregate::{Reason, stream_results};
    ///
    /// # futures::executor::block_on(async {
    /// let (sender, receiver) = async_channel::bounded(1);
    /// let sources = [("a", pending::<Result<(), ()>>())];
    /// let interrupted = stream_results(sources, sender)
    ///     .timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// assert_eq!(interrupted.partial.unfinished, ["a"]);
    /// assert!(receiver.is_closed());
    /// # });
    /// ```
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options().limits.timeout = limit(timeout);
        self
    }

    /// Gives each source this much time from its own start. A source that is late fails as
    /// [`SourceError::TimedOut`](crate::SourceError::TimedOut) and disturbs no other.
    ///
    /// [`Duration::MAX`], the default, is no limit; [`Duration::ZERO`] gives each source one poll. If
    /// the task is polled so late that a batch and its sources have run out of time, the sources fail
    /// as timed out.
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
    /// use futures_aggregate::{SourceError, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let sources = [
    ///     ("fast", ready(Ok::<_, ()>(1)).left_future()),
    ///     ("stuck", pending().right_future()),
    /// ];
    /// let aggregate = fetch_and_aggregate(sources, Duration::from_secs(60))
    ///     .source_timeout(Duration::from_millis(5))
    ///     .await
    ///     .unwrap();
    /// assert_eq!(aggregate.results, [("fast", 1)]);
    /// assert_eq!(aggregate.errors, [("stuck", SourceError::TimedOut)]);
    /// # });
    /// ```
    #[track_caller]
    pub fn source_timeout(mut self, timeout: Duration) -> Self {
        self.source_options().limits.source_timeout = limit(timeout);
        self
    }

    /// Turns the panic of a source into [`SourceError::Panicked`](crate::SourceError::Panicked).
    /// Without it the panic unwinds to the caller. Panics of the caller's own closures and signals
    /// unwind in any case, and so does that of a source which is dropped.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{SourceError, fetch_and_aggregate};
    ///
    /// async fn parse(text: &str) -> Result<u32, ()> {
    ///     Ok(text.parse().expect("a number"))
    /// }
    ///
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// # futures::executor::block_on(async {
    /// let sources = ["1", "two"].map(|text| (text, parse(text)));
    /// let run = fetch_and_aggregate(sources, Duration::from_secs(2)).catch_panics();
    /// let aggregate = run.await.unwrap();
    /// assert_eq!(aggregate.results, [("1", 1)]);
    /// assert!(matches!(&aggregate.errors[..], [("two", SourceError::Panicked(message))]
    ///     if message.starts_with("a number")));
    /// # });
    /// ```
    #[track_caller]
    pub fn catch_panics(mut self) -> Self {
        self.source_options().catches_panics = true;
        self
    }

    /// Tells `observer` of every source: when it starts and when it is over, in the poll that sees it,
    /// and in a stream before the outcome is sent. For progress bars, metrics and tracing; see
    /// [`Event`].
    ///
    /// It must not block. If it panics, the panic unwinds to the caller and loses no outcome. Called
    /// more than once, all observers are told. A closure that is kept in a variable first needs the
    /// type of its argument: `|event: Event<'_, _, _, _>|`. An event does not say to which batch a
    /// source belongs: let the id say it.
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
    /// use futures_aggregate::{Event, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let (mut in_flight, mut most) = (0, 0);
    /// let sources = (0..10).map(|id| (id, ready(Ok::<_, ()>(id))));
    /// let aggregate = fetch_and_aggregate(sources, Duration::from_secs(2))
    ///     .observe(|event| {
    ///         match event {
    ///             Event::Started { .. } => in_flight += 1,
    ///             _ => in_flight -= 1,
    ///         }
    ///         most = most.max(in_flight);
    ///     })
    ///     .await
    ///     .unwrap();
    /// assert_eq!(aggregate.results.len(), 10);
    /// assert_eq!((in_flight, most), (0, 1));      // each was ready at once
    /// # });
    /// ```
    #[track_caller]
    pub fn observe<N>(self, observer: N) -> Operation<L, F, C, S, WithObserver<H, N>>
    where
        N: FnMut(Event<'_, C::Id, C::Value, C::Error>),
    {
        self.map_hooks(|before| WithObserver::new(before, observer))
    }
}

impl<L, F, C, S, H> Operation<L, F, C, S, H>
where
    C: Aggregating,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// Ends the run at the first failure of a source, as
    /// [`Reason::SourceFailed`](crate::Reason::SourceFailed), with the error in the partial result. A
    /// source that times out or panics has failed too.
    ///
    /// In [`process_batch`](crate::process_batch()) it ends the whole at the first batch that fails,
    /// which is one that was interrupted. A failure within a batch does not interrupt the batch, unless
    /// [`batch_fail_fast`](crate::ProcessBatch::batch_fail_fast) is set too.
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
    /// use futures_aggregate::{Reason, SourceError, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let sources = [
    ///     ("slow", pending::<Result<u32, _>>().left_future()),
    ///     ("broken", ready(Err("refused")).right_future()),
    /// ];
    /// let interrupted = fetch_and_aggregate(sources, Duration::from_secs(60))
    ///     .fail_fast()
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::SourceFailed);
    /// assert_eq!(interrupted.partial.errors, [("broken", SourceError::Failed("refused"))]);
    /// assert_eq!(interrupted.partial.unfinished, ["slow"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn fail_fast(mut self) -> Self {
        self.options().policies.fail_fast = true;
        self
    }

    /// Ends the run with `Ok` as soon as `successes` sources have succeeded. The others are dropped
    /// and listed as unfinished; the errors until then are kept. A quorum of 1 is the first
    /// success.
    ///
    /// The run ends as [`Reason::QuorumUnreachable`](crate::Reason::QuorumUnreachable) as soon as too
    /// few sources are left: at once, if the list reports that it is too short.
    ///
    /// In [`process_batch`](crate::process_batch()) it counts batches. Those that are not over by then
    /// are interrupted as [`Reason::NotNeeded`](crate::Reason::NotNeeded).
    ///
    /// # Panics
    ///
    /// If `successes` is zero, or the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::fetch_and_aggregate;
    ///
    /// # futures::executor::block_on(async {
    /// let replicas = [
    ///     ("a", ready(Ok::<_, ()>(7)).left_future()),
    ///     ("b", pending().right_future()),
    ///     ("c", ready(Ok(7)).left_future()),
    /// ];
    /// let run = fetch_and_aggregate(replicas, Duration::from_secs(60)).quorum(2);
    /// let aggregate = run.await.unwrap();
    /// assert_eq!(aggregate.results, [("a", 7), ("c", 7)]);
    /// assert_eq!(aggregate.unfinished, ["b"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn quorum(mut self, successes: usize) -> Self {
        self.options().policies.set_quorum(successes);
        self
    }
}

impl<L, F, C, X, Y, H> Operation<L, F, C, Signals<X, Y>, H>
where
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    /// Interrupts the run as [`Reason::Cancelled`](crate::Reason::Cancelled) once `signal` completes,
    /// whatever its output.
    ///
    /// Any future will do, see [the table](crate#what-to-pass-to-cancel_on). If the signal completes
    /// in the first poll, no source is polled. Called more than once, the first signal to complete
    /// counts.
    ///
    /// # Panics
    ///
    /// If the operation has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::channel::oneshot;
    /// use futures::future::pending;
    /// use futures_aggregate::{Reason, fetch_and_aggregate};
    ///
    /// # futures::executor::block_on(async {
    /// let (cancel, cancelled) = oneshot::channel::<()>();
    /// let sources = [("a", pending::<Result<(), ()>>())];
    /// let run = fetch_and_aggregate(sources, Duration::from_secs(60)).cancel_on(cancelled);
    ///
    /// std::thread::spawn(move || cancel.send(()));
    /// let interrupted = run.await.unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::Cancelled);
    /// assert_eq!(interrupted.partial.unfinished, ["a"]);
    /// # });
    /// ```
    #[track_caller]
    pub fn cancel_on<N: Future>(self, signal: N) -> Operation<L, F, C, Signals<First<X, N>, Y>, H> {
        self.map_signals(|signals| signals.cancel_on(signal))
    }

    /// Times the run out when `timer` completes, whatever its output, as well as after the timeout:
    /// for a timer of the caller's, such as one of tokio, which tests can pause.
    ///
    /// The timeout of a run counts from its first poll; a timer usually from when it was made. The
    /// timeouts of batches and sources use the crate's own timer.
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
    /// use futures_aggregate::{Reason, fetch_and_aggregate};
    /// use futures_timer::Delay;
    ///
    /// # futures::executor::block_on(async {
    /// // With tokio: `tokio::time::sleep`.
    /// let timer = Delay::new(Duration::from_millis(5));
    /// let interrupted = fetch_and_aggregate([("a", pending::<Result<(), ()>>())], Duration::MAX)
    ///     .expire_on(timer)
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(interrupted.reason, Reason::TimedOut);
    /// # });
    /// ```
    #[track_caller]
    pub fn expire_on<N: Future>(self, timer: N) -> Operation<L, F, C, Signals<X, First<Y, N>>, H> {
        self.map_signals(|signals| signals.expire_on(timer))
    }

    #[track_caller]
    fn map_signals<N>(mut self, map: impl FnOnce(Signals<X, Y>) -> N) -> Operation<L, F, C, N, H> {
        self.options();
        Operation {
            in_flight: self.in_flight,
            consumer: self.consumer,
            signals: map(self.signals),
        }
    }
}

impl<L, F, C, X, Y, H> Future for Operation<L, F, C, Signals<X, Y>, H>
where
    L: Sources<Id = C::Key, Future = C::Slot<F>>,
    C: Consumer<F>,
    X: Future,
    Y: Future,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    type Output = C::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (run, hooks) = this.in_flight.parts();
        this.consumer.poll(run, this.signals, hooks, cx)
    }
}

impl<L, F, C, X, Y, H> FusedFuture for Operation<L, F, C, Signals<X, Y>, H>
where
    Self: Future,
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn is_terminated(&self) -> bool {
        self.in_flight.run().is_terminated()
    }
}

impl<L, F, C, S, H> fmt::Debug for Operation<L, F, C, S, H>
where
    C: OutcomeTypes,
    H: Hooks<C::Id, C::Value, C::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.print(self.in_flight.run().in_flight(), f)
    }
}
