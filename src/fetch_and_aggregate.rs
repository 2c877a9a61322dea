//! Asks every source and waits for all of them, under one deadline.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::run::{Budget, End, First, Operation, Panics, Run, Signals};
use crate::{Aggregate, Interrupted, Reason, SourceError};

/// Asks every source at once and resolves to what all of them came to.
///
/// `sources` is any list of pairs of an id and a future that resolves to a `Result`. The future
/// that is returned starts them when it is first polled, and resolves to
///
/// - `Ok` with the [`Aggregate`] once every source has answered, failures included;
/// - [`Interrupted`] with the partial aggregate once `timeout` has passed, counted from the first
///   poll. [`Duration::MAX`] never passes. [`Duration::ZERO`] gives one poll to every source that
///   the first poll can reach.
///
/// The list is pulled lazily: under [`concurrency`](FetchAndAggregate::concurrency) of 64 a
/// million sources cost the memory of 64. A list that is long may name its unfinished sources only
/// if its [`size_hint`](Iterator::size_hint) has an upper bound.
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
/// [`Reason::TimedOut`] and [`Reason::Cancelled`]. A source that fails is no error of the whole.
///
/// # Panics
///
/// Polling panics if a source does. The source is gone then and is listed as
/// [`SourceError::Panicked`]; the future can be polled on for the other sources, or dropped.
/// Polling after completion panics.
///
/// # Cancel safety
///
/// Dropping the future drops every source in it at once. What was fetched by then is dropped too:
/// to keep it, end the run by [`cancel_on`](FetchAndAggregate::cancel_on) instead.
///
/// # Fairness
///
/// Each poll polls each woken source once, in no particular order, and then starts new ones. A
/// result beats the timeout: sources that were woken before the deadline are polled once more when
/// it has passed. After some hundred sources a poll yields to the executor.
pub fn fetch_and_aggregate<L, K, F, T, E>(
    sources: L,
    timeout: Duration,
) -> FetchAndAggregate<L::IntoIter, K, F, T, E>
where
    L: IntoIterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
{
    FetchAndAggregate::new(sources.into_iter(), timeout)
}

pin_project! {
    /// The future of [`fetch_and_aggregate`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct FetchAndAggregate<I, K, F, T, E, S = Signals> {
        run: Run<I, K, F>,
        aggregate: Aggregate<K, T, E>,
        #[pin]
        signals: S,
    }
}

impl<I, K, F, T, E> FetchAndAggregate<I, K, F, T, E> {
    pub(crate) fn new(sources: I, timeout: Duration) -> Self {
        Self {
            run: Run::new(sources, timeout),
            aggregate: Aggregate::default(),
            signals: Signals::none(),
        }
    }
}

impl<I, K, F, T, E, C, X> FetchAndAggregate<I, K, F, T, E, Signals<C, X>> {
    /// Has at most `limit` sources in flight. Without it all are started at once.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.run.set_concurrency(limit);
        self
    }

    /// Gives each source this much time from its own start; one that is late is listed as
    /// [`SourceError::TimedOut`] and disturbs no other. [`Duration::MAX`], the default, is no
    /// limit; [`Duration::ZERO`] gives each source one poll.
    pub fn source_timeout(mut self, timeout: Duration) -> Self {
        self.run.set_source_timeout(timeout);
        self
    }

    /// Interrupts the run as [`Reason::Cancelled`] once `signal` completes, whatever its output.
    ///
    /// Any future will do: a oneshot receiver, a channel's `recv`, a cancellation token's
    /// `cancelled_owned`, Ctrl-C. A signal that is already there at the first poll means that no
    /// source is polled. Called more than once, the first signal to complete counts.
    pub fn cancel_on<N: Future>(
        self,
        signal: N,
    ) -> FetchAndAggregate<I, K, F, T, E, Signals<First<C, N>, X>> {
        FetchAndAggregate {
            run: self.run,
            aggregate: self.aggregate,
            signals: self.signals.cancel_on(signal),
        }
    }

    /// Lets the run's time be up once `timer` completes, whatever its output, as well as after the
    /// timeout: for a timer of the caller's own, such as one of tokio, which tests can pause.
    pub fn expire_on<N: Future>(
        self,
        timer: N,
    ) -> FetchAndAggregate<I, K, F, T, E, Signals<C, First<X, N>>> {
        FetchAndAggregate {
            run: self.run,
            aggregate: self.aggregate,
            signals: self.signals.expire_on(timer),
        }
    }
}

impl<I, K, F, T, E, C, X> FetchAndAggregate<I, K, F, T, E, Signals<C, X>>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
{
    /// Polls as a part of another run, out of its budget.
    pub(crate) fn poll_within(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        budget: &mut Budget,
    ) -> Poll<Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>> {
        let this = self.project();
        let end = std::task::ready!(this.run.poll(cx, this.signals, budget, this.aggregate));
        let aggregate = std::mem::take(this.aggregate);
        Poll::Ready(match end {
            Ok(()) => Ok(aggregate),
            Err(reason) => Err(Interrupted {
                reason,
                partial: aggregate,
            }),
        })
    }

    /// Ends the run from outside.
    pub(crate) fn interrupt(
        self: Pin<&mut Self>,
        reason: Reason,
        panics: &mut Panics,
    ) -> Interrupted<Aggregate<K, T, E>> {
        let this = self.project();
        this.run.end(Err(reason), this.aggregate, panics);
        Interrupted {
            reason,
            partial: std::mem::take(this.aggregate),
        }
    }
}

impl<I, K, F, T, E, C, X> Future for FetchAndAggregate<I, K, F, T, E, Signals<C, X>>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
{
    type Output = Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_within(cx, &mut Budget::new())
    }
}

impl<I, K, F, T, E, C, X> FusedFuture for FetchAndAggregate<I, K, F, T, E, Signals<C, X>>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
{
    fn is_terminated(&self) -> bool {
        self.run.is_terminated()
    }
}

impl<I, K, F, T, E, S> fmt::Debug for FetchAndAggregate<I, K, F, T, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchAndAggregate")
            .field("in_flight", &self.run.in_flight())
            .field("results", &self.aggregate.results.len())
            .field("errors", &self.aggregate.errors.len())
            .finish_non_exhaustive()
    }
}

impl<K, F, T, E> Operation<K, F> for Aggregate<K, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;
    type Rest = ();

    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        _: &mut Budget,
    ) -> Poll<Self::Output> {
        source.poll(cx)
    }

    fn stop(&mut self, _: Pin<&mut F>, _: Reason, _: &mut Panics) {}

    fn finished(&mut self, id: K, output: Self::Output) -> ControlFlow<End> {
        self.record((id, output.map_err(SourceError::Failed)));
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, id: K, (): ()) -> ControlFlow<End> {
        self.record((id, Err(SourceError::TimedOut)));
        ControlFlow::Continue(())
    }

    fn panicked(&mut self, id: K, message: String) {
        self.record((id, Err(SourceError::Panicked(message))));
    }

    fn unfinished(&mut self, id: K, (): ()) {
        self.unfinished.push(id);
    }
}
