//! Asks every source and waits for all of them, under one deadline.

mod collected;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::interrupted::resolve;
use crate::run::{
    Budget, Decide, First, Follow, Hooks, Observe, Observed, Panics, Ruled, Run, Signals, Stop,
};
use crate::{Aggregate, Event, Interrupted, Reason};
use collected::Collected;
pub(crate) use collected::drop_aggregate;

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
) -> FetchAndAggregate<L::IntoIter, K, F, T, E>
where
    L: IntoIterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
{
    FetchAndAggregate::new(sources.into_iter(), timeout, Hooks::none())
}

pin_project! {
    /// The future of [`fetch_and_aggregate`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct FetchAndAggregate<I, K, F, T, E, S = Signals, H = Hooks>
    where
        H: Follow<K>,
    {
        run: Run<I, K, F, H>,
        collected: Collected<K, T, E>,
        #[pin]
        signals: S,
    }
}

impl<I, K, F, T, E, H> FetchAndAggregate<I, K, F, T, E, Signals, H>
where
    H: Follow<K>,
{
    pub(crate) fn new(sources: I, timeout: Duration, hooks: H) -> Self
    where
        I: Iterator<Item = (K, F)>,
    {
        Self {
            run: Run::new(sources, timeout, hooks),
            collected: Collected::new(),
            signals: Signals::none(),
        }
    }

    /// A run that was interrupted before it had any source.
    pub(crate) fn interrupted(reason: Reason, hooks: H) -> Self {
        Self {
            run: Run::interrupted(reason, hooks),
            collected: Collected::new(),
            signals: Signals::none(),
        }
    }

    /// Has the run end by rules that were made elsewhere.
    pub(crate) fn stop(mut self, stop: Stop) -> Self {
        self.collected.stop = stop;
        self
    }
}

impl<I, K, F, T, E, C, X, H> FetchAndAggregate<I, K, F, T, E, Signals<C, X>, H>
where
    H: Follow<K>,
{
    /// Has at most `limit` sources in flight. Without it all are started at once.
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
    /// use futures_aggregate::fetch_and_aggregate;
    ///
    /// # futures::executor::block_on(async {
    /// let made = Cell::new(0);
    /// let endless = (0..).map(|id| {
    ///     made.set(made.get() + 1);
    ///     (id, ready(Ok::<_, ()>(id)))
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
        self.run.set_concurrency(limit);
        self
    }

    /// Gives each source this much time from its own start; one that is late is listed as
    /// [`SourceError::TimedOut`](crate::SourceError::TimedOut) and disturbs no other.
    /// [`Duration::MAX`], the default, is no limit; [`Duration::ZERO`] gives each source one poll.
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
        self.run.set_source_timeout(timeout);
        self
    }

    /// Interrupts the run as [`Reason::Cancelled`] once `signal` completes, whatever its output.
    ///
    /// Any future will do, see [the table](crate#what-to-pass-to-cancel_on). A signal that is
    /// already there at the first poll means that no source is polled. Called more than once, the
    /// first signal to complete counts.
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
    pub fn cancel_on<N: Future>(
        self,
        signal: N,
    ) -> FetchAndAggregate<I, K, F, T, E, Signals<First<C, N>, X>, H> {
        self.run.check_is_new();
        FetchAndAggregate {
            run: self.run,
            collected: self.collected,
            signals: self.signals.cancel_on(signal),
        }
    }

    /// Lets the run's time be up once `timer` completes, whatever its output, as well as after the
    /// timeout: for a timer of the caller's own, such as one of tokio, which tests can pause.
    ///
    /// The timeout of a run counts from its first poll; a timer usually from when it was made.
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
    pub fn expire_on<N: Future>(
        self,
        timer: N,
    ) -> FetchAndAggregate<I, K, F, T, E, Signals<C, First<X, N>>, H> {
        self.run.check_is_new();
        FetchAndAggregate {
            run: self.run,
            collected: self.collected,
            signals: self.signals.expire_on(timer),
        }
    }

    /// Ends the run at the first failure of a source, as [`Reason::SourceFailed`], with the error
    /// in the partial aggregate. A source that times out or panics has failed too.
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
        self.run.check_is_new();
        self.collected.stop.set_fail_fast();
        self
    }

    /// Ends the run with `Ok` as soon as `successes` sources have succeeded. The others are dropped
    /// and listed as unfinished; the errors until then are kept. A quorum of 1 is the first
    /// success.
    ///
    /// It ends as [`Reason::QuorumUnreachable`] as soon as too few sources are left: at once, if
    /// the list knows from the start that it is too short.
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
        self.run.check_is_new();
        self.collected.stop.set_quorum(successes);
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
        self.run.set_catch_panics();
        self
    }
}

impl<I, K, F, T, E, S, O, R> FetchAndAggregate<I, K, F, T, E, S, Hooks<O, R>>
where
    O: Follow<K>,
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
    pub fn stop_when<N>(self, rule: N) -> FetchAndAggregate<I, K, F, T, E, S, Hooks<O, Ruled<R, N>>>
    where
        N: FnMut(&Aggregate<K, T, E>) -> bool,
    {
        let mut collected = self.collected;
        collected.stop.set_rule();
        FetchAndAggregate {
            run: self.run.map_hooks(|hooks| hooks.stop_when(rule)),
            collected,
            signals: self.signals,
        }
    }

    /// Has `observer` told of every source that is started, and of what becomes of it, in the poll
    /// that sees it: for progress bars, metrics, tracing and pictures.
    ///
    /// It must not block. If it panics, the panic unwinds to the caller and loses no outcome.
    /// Called more than once, all observers are told. See [`Event`]. A closure that is kept in a
    /// variable first needs its argument's type: `|event: Event<'_, _, _, _>|`.
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
    pub fn observe<N>(
        self,
        observer: N,
    ) -> FetchAndAggregate<I, K, F, T, E, S, Hooks<Observed<O, N, T, E>, R>>
    where
        N: FnMut(Event<'_, K, T, E>),
    {
        FetchAndAggregate {
            run: self.run.map_hooks(|hooks| hooks.observe(observer)),
            collected: self.collected,
            signals: self.signals,
        }
    }
}

impl<I, K, F, T, E, C, X, H> FetchAndAggregate<I, K, F, T, E, Signals<C, X>, H>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
    H: Observe<K, T, E> + Decide<Aggregate<K, T, E>>,
{
    /// Polls as a part of another run, which says whether sources may be started.
    pub(crate) fn poll_within(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        may_start: bool,
    ) -> Poll<Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>> {
        let this = self.project();
        let end = this.run.poll(cx, this.signals, may_start, this.collected);
        end.map(|end| resolve(end, this.collected.take()))
    }

    /// Ends the run from outside: drops its sources at once, and names those never started as far as
    /// the budget goes. Returns the recorded result, which takes precedence over `reason`, or
    /// pending while there are sources left to name.
    pub(crate) fn interrupt(
        self: Pin<&mut Self>,
        reason: Reason,
        budget: &mut Budget,
        panics: &mut Panics,
    ) -> Poll<Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>> {
        let this = self.project();
        let end = this
            .run
            .interrupt(Err(reason), budget, this.collected, panics);
        end.map(|end| resolve(end, this.collected.take()))
    }

    /// Ends the run from outside, because its time is up. Its next poll returns the result.
    pub(crate) fn expire(self: Pin<&mut Self>, budget: &mut Budget, panics: &mut Panics) {
        let this = self.project();
        this.run.stop_overdue_sources(this.collected, panics);
        let _ = this
            .run
            .interrupt(Err(Reason::TimedOut), budget, this.collected, panics);
    }
}

impl<I, K, F, T, E, C, X, H> Future for FetchAndAggregate<I, K, F, T, E, Signals<C, X>, H>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
    H: Observe<K, T, E> + Decide<Aggregate<K, T, E>>,
{
    type Output = Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_within(cx, true)
    }
}

impl<I, K, F, T, E, C, X, H> FusedFuture for FetchAndAggregate<I, K, F, T, E, Signals<C, X>, H>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
    H: Observe<K, T, E> + Decide<Aggregate<K, T, E>>,
{
    fn is_terminated(&self) -> bool {
        self.run.is_terminated()
    }
}

impl<I, K, F, T, E, S, H> fmt::Debug for FetchAndAggregate<I, K, F, T, E, S, H>
where
    H: Follow<K>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchAndAggregate")
            .field("in_flight", &self.run.in_flight())
            .field("results", &self.collected.aggregate.results.len())
            .field("errors", &self.collected.aggregate.errors.len())
            .finish_non_exhaustive()
    }
}
