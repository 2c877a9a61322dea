//! Asks batches of sources, all of them concurrently, each under a deadline of its own.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::fetch_and_aggregate::FetchAndAggregate;
use crate::run::{Budget, End, First, Operation, Panics, Run, Signals, check_concurrency};
use crate::{Aggregate, Interrupted, Reason};

/// How long a batch may take unless [`ProcessBatch::batch_timeout`] says otherwise.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// What each batch came to, in the order of the batches.
///
/// A batch that was interrupted has its own reason and its own partial aggregate. One that was
/// never started, because the whole was interrupted before, has all its sources in `unfinished`.
pub type Batches<K, T, E> = Vec<Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>>;

/// Asks the sources of several batches at once and resolves to what each batch came to.
///
/// Each batch is a list of sources as in [`fetch_and_aggregate`](crate::fetch_and_aggregate). All
/// batches run concurrently, and each may take 5 seconds from its own start unless
/// [`batch_timeout`](ProcessBatch::batch_timeout) says otherwise. The future resolves to
///
/// - `Ok` with one outcome per batch, in the order of the batches. A batch that failed or was
///   late disturbs no other and keeps its partial aggregate;
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
/// [`Reason::TimedOut`] and [`Reason::Cancelled`], where the whole has a
/// [`timeout`](ProcessBatch::timeout) or a signal. What happens within a batch is that batch's
/// outcome and no error of the whole.
///
/// # Panics
///
/// Polling panics if a source does. The source is gone then and is listed in its batch as
/// [`SourceError::Panicked`](crate::SourceError::Panicked); the future can be polled on for the
/// other sources, those of the same batch included. Polling after completion panics.
///
/// # Cancel safety
///
/// Dropping the future drops every source of every batch at once, and what was fetched with them.
/// To keep it, end the run by [`cancel_on`](ProcessBatch::cancel_on) instead.
pub fn process_batch<B, L, K, F, T, E>(
    batches: B,
) -> ProcessBatch<B::IntoIter, L::IntoIter, K, F, T, E>
where
    B: IntoIterator<Item = L>,
    L: IntoIterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
{
    let mut run = Run::new(Numbered::new(batches.into_iter()), Duration::MAX);
    run.set_source_timeout(BATCH_TIMEOUT);
    ProcessBatch {
        run,
        outcomes: Outcomes(Vec::new()),
        signals: Signals::none(),
    }
}

pin_project! {
    /// The future of [`process_batch`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ProcessBatch<B, I, K, F, T, E, S = Signals> {
        run: Run<Numbered<B>, usize, FetchAndAggregate<I, K, F, T, E>>,
        outcomes: Outcomes<K, T, E>,
        #[pin]
        signals: S,
    }
}

impl<B, I, K, F, T, E, C, X> ProcessBatch<B, I, K, F, T, E, Signals<C, X>> {
    /// Has at most `limit` batches in flight. Without it all are started at once.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
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
    /// If `limit` is zero.
    #[track_caller]
    pub fn source_concurrency(mut self, limit: usize) -> Self {
        check_concurrency(limit);
        if let Some(batches) = self.run.sources_mut() {
            batches.source_concurrency = limit;
        }
        self
    }

    /// Gives the whole this much time from the first poll. [`Duration::MAX`], the default, is no
    /// limit; [`Duration::ZERO`] gives one poll to every source that the first poll can reach.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.run.set_timeout(timeout);
        self
    }

    /// Gives each batch this much time from its own start, 5 seconds by default.
    /// [`Duration::MAX`] is no limit; [`Duration::ZERO`] gives each batch one poll.
    pub fn batch_timeout(mut self, timeout: Duration) -> Self {
        self.run.set_source_timeout(timeout);
        self
    }

    /// Gives each source this much time from its own start; one that is late is listed in its
    /// batch as [`SourceError::TimedOut`](crate::SourceError::TimedOut) and disturbs no other.
    /// [`Duration::MAX`], the default, is no limit; [`Duration::ZERO`] gives each source one poll.
    pub fn source_timeout(mut self, timeout: Duration) -> Self {
        if let Some(batches) = self.run.sources_mut() {
            batches.source_timeout = timeout;
        }
        self
    }

    /// Interrupts the whole as [`Reason::Cancelled`] once `signal` completes, whatever its output.
    ///
    /// A signal that is already there at the first poll means that no source is polled. Called
    /// more than once, the first signal to complete counts.
    pub fn cancel_on<N: Future>(
        self,
        signal: N,
    ) -> ProcessBatch<B, I, K, F, T, E, Signals<First<C, N>, X>> {
        ProcessBatch {
            run: self.run,
            outcomes: self.outcomes,
            signals: self.signals.cancel_on(signal),
        }
    }

    /// Lets the time of the whole be up once `timer` completes, whatever its output: for a timer
    /// of the caller's own, such as one of tokio, which tests can pause.
    pub fn expire_on<N: Future>(
        self,
        timer: N,
    ) -> ProcessBatch<B, I, K, F, T, E, Signals<C, First<X, N>>> {
        ProcessBatch {
            run: self.run,
            outcomes: self.outcomes,
            signals: self.signals.expire_on(timer),
        }
    }
}

impl<B, I, K, F, T, E, C, X> Future for ProcessBatch<B, I, K, F, T, E, Signals<C, X>>
where
    B: Iterator,
    B::Item: IntoIterator<Item = (K, F), IntoIter = I>,
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
    C: Future,
    X: Future,
{
    type Output = Result<Batches<K, T, E>, Interrupted<Batches<K, T, E>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let budget = &mut Budget::new();
        let end = std::task::ready!(this.run.poll(cx, this.signals, budget, this.outcomes));
        let batches = this.outcomes.take();
        Poll::Ready(match end {
            Ok(()) => Ok(batches),
            Err(reason) => Err(Interrupted {
                reason,
                partial: batches,
            }),
        })
    }
}

impl<B, I, K, F, T, E, C, X> FusedFuture for ProcessBatch<B, I, K, F, T, E, Signals<C, X>>
where
    Self: Future,
{
    fn is_terminated(&self) -> bool {
        self.run.is_terminated()
    }
}

impl<B, I, K, F, T, E, S> fmt::Debug for ProcessBatch<B, I, K, F, T, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBatch")
            .field("in_flight", &self.run.in_flight())
            .finish_non_exhaustive()
    }
}

/// Turns batches into runs, each with its number.
struct Numbered<B> {
    batches: B,
    next: usize,
    source_concurrency: usize,
    source_timeout: Duration,
}

impl<B> Numbered<B> {
    fn new(batches: B) -> Self {
        Self {
            batches,
            next: 0,
            source_concurrency: usize::MAX,
            source_timeout: Duration::MAX,
        }
    }
}

impl<B, L, K, F, T, E> Iterator for Numbered<B>
where
    B: Iterator<Item = L>,
    L: IntoIterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
{
    type Item = (usize, FetchAndAggregate<L::IntoIter, K, F, T, E>);

    fn next(&mut self) -> Option<Self::Item> {
        let sources = self.batches.next()?.into_iter();
        let number = self.next;
        self.next += 1;
        let batch = FetchAndAggregate::new(sources, Duration::MAX)
            .concurrency(self.source_concurrency)
            .source_timeout(self.source_timeout);
        Some((number, batch))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batches.size_hint()
    }
}

/// The outcomes of the batches that have ended, at their numbers.
struct Outcomes<K, T, E>(Vec<Option<Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>>>);

impl<K, T, E> Outcomes<K, T, E> {
    fn set(
        &mut self,
        number: usize,
        outcome: Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>,
    ) {
        if self.0.len() <= number {
            self.0.resize_with(number + 1, || None);
        }
        self.0[number] = Some(outcome);
    }

    /// All of them. None is missing, as every batch that was pulled has ended.
    fn take(&mut self) -> Batches<K, T, E> {
        std::mem::take(&mut self.0).into_iter().flatten().collect()
    }
}

impl<I, K, F, T, E> Operation<usize, FetchAndAggregate<I, K, F, T, E>> for Outcomes<K, T, E>
where
    I: Iterator<Item = (K, F)>,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Aggregate<K, T, E>, Interrupted<Aggregate<K, T, E>>>;
    type Rest = Interrupted<Aggregate<K, T, E>>;

    // A batch drops the source that panicked and can go on with the others.
    const SOURCES_SURVIVE_PANICS: bool = true;

    fn poll_source(
        &mut self,
        batch: Pin<&mut FetchAndAggregate<I, K, F, T, E>>,
        cx: &mut Context<'_>,
        budget: &mut Budget,
    ) -> Poll<Self::Output> {
        batch.poll_within(cx, budget)
    }

    fn stop(
        &mut self,
        batch: Pin<&mut FetchAndAggregate<I, K, F, T, E>>,
        reason: Reason,
        panics: &mut Panics,
    ) -> Self::Rest {
        batch.interrupt(reason, panics)
    }

    fn finished(&mut self, number: usize, outcome: Self::Output) -> ControlFlow<End> {
        self.set(number, outcome);
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, number: usize, rest: Self::Rest) -> ControlFlow<End> {
        self.set(number, Err(rest));
        ControlFlow::Continue(())
    }

    fn panicked(&mut self, _: usize, _: String) {}

    fn unfinished(&mut self, number: usize, rest: Self::Rest) {
        self.set(number, Err(rest));
    }
}
