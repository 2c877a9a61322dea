//! Hedged requests: a source that starts another attempt if the first one is slow or fails.

mod budget;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::Reason;
use crate::panics::Panics;
use crate::scheduler::{Driver, End, Options, Policies, Run, Signals, limit};
use crate::sealed::Sealed;
use crate::sources::Sources;
pub use budget::HedgeBudget;

/// Starts an attempt, and another one whenever there is no answer for `delay`, up to `attempts` in
/// all. Resolves to the first success and drops the other attempts.
///
/// If an attempt fails, the next one starts at once. `make` is called with the number of the attempt,
/// counted from 0, when the attempt starts, so that each attempt can go to another replica. With
/// [`Duration::MAX`] as the delay, an attempt starts only after a failure. With [`Duration::ZERO`] all
/// attempts start as soon as the executor polls the hedge.
///
/// Use it as a source, or alone. If the delay is the 95th percentile of the usual latency, it costs
/// about 5 % more requests and cuts off most of the tail latency, see [The Tail at Scale] (Dean and
/// Barroso, 2013). The delay uses the real clock, even if a test has paused the clock of its runtime.
/// Hedge only idempotent requests.
///
/// [The Tail at Scale]: https://doi.org/10.1145/2408776.2408794
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures::future::{FutureExt, pending, ready};
/// use futures_aggregate::hedge;
///
/// # futures::executor::block_on(async {
/// let replicas = ["slow", "fast"];
/// let ask = |attempt: usize| match replicas[attempt] {
///     "slow" => pending().left_future(),
///     replica => ready(Ok::<_, ()>(replica)).right_future(),
/// };
///
/// let answer = hedge(Duration::from_millis(5), replicas.len(), ask).await;
/// assert_eq!(answer, Ok("fast"));
/// # });
/// ```
///
/// # Errors
///
/// [`AttemptsFailed`] with the errors of all attempts, if all have failed.
///
/// # Panics
///
/// If `attempts` is zero. Polling panics if an attempt or `make` panics, after completion, and if the
/// delay needs a timer and the timer thread cannot be started.
///
/// # Cancel safety
///
/// Dropping the future drops every attempt at once.
///
/// # Fairness
///
/// Attempts that were woken are polled before another one starts, so an answer that has arrived when
/// the delay ends prevents another attempt.
#[track_caller]
pub fn hedge<M, A, T, E>(delay: Duration, attempts: usize, make: M) -> Hedge<M, A, T, E>
where
    M: FnMut(usize) -> A,
    A: Future<Output = Result<T, E>>,
{
    assert!(
        attempts > 0,
        "a hedge with 0 attempts would never make a request; it must be at least 1"
    );
    let attempts = Attempts {
        make,
        next: 0,
        end: attempts,
        budget: None,
    };
    let mut options = Options::NONE;
    options.concurrency = 1;
    options.limits.pace = limit(delay);
    Hedge {
        run: Run::new(attempts, options),
        answers: Answers {
            success: None,
            errors: Vec::new(),
            budget: None,
        },
        signals: Signals::none(),
    }
}

pin_project! {
    /// The future of [`hedge`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Hedge<M, A, T, E> {
        // The attempts are its sources.
        run: Run<Attempts<M>, usize, A>,
        // The results of finished attempts.
        answers: Answers<T, E>,
        // A run needs signals. A hedge has none.
        signals: Signals,
    }
}

impl<M, A, T, E> Hedge<M, A, T, E> {
    /// Makes every attempt after the first only if `budget` allows it. Once the budget refuses an
    /// attempt, the hedge makes no more, and waits for those in flight.
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
    /// use futures_aggregate::{HedgeBudget, hedge};
    ///
    /// # futures::executor::block_on(async {
    /// let budget = HedgeBudget::new(2, 0.1);
    /// let refused = |_attempt| ready(Err::<(), _>("refused"));
    /// let failed = hedge(Duration::MAX, 3, refused).budget(&budget).await.unwrap_err();
    /// assert!(failed.others.is_empty());      // after one failure, half of the tokens are used
    /// # });
    /// ```
    #[track_caller]
    pub fn budget(mut self, budget: &HedgeBudget) -> Self {
        if let Some(attempts) = self.run.sources_mut() {
            attempts.budget = Some(budget.clone());
        }
        self.answers.budget = Some(budget.clone());
        self
    }
}

impl<M, A, T, E> Future for Hedge<M, A, T, E>
where
    M: FnMut(usize) -> A,
    A: Future<Output = Result<T, E>>,
{
    type Output = Result<T, AttemptsFailed<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let signals = Pin::new(this.signals);
        let end = std::task::ready!(this.run.poll(cx, signals, true, this.answers));
        debug_assert!(end.is_ok(), "a hedge has no signals and no deadline");
        if let Some(value) = this.answers.success.take() {
            return Poll::Ready(Ok(value));
        }
        let mut others = std::mem::take(&mut this.answers.errors);
        let last = others
            .pop()
            .expect("all attempts have panicked, so the hedge has no result; stop polling it");
        Poll::Ready(Err(AttemptsFailed { last, others }))
    }
}

impl<M, A, T, E> FusedFuture for Hedge<M, A, T, E>
where
    Self: Future,
{
    fn is_terminated(&self) -> bool {
        self.run.is_terminated()
    }
}

impl<M, A, T, E> fmt::Debug for Hedge<M, A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("in_flight", &self.run.in_flight())
            .field("failed", &self.answers.errors.len())
            .finish_non_exhaustive()
    }
}

/// Every attempt of a [`hedge`] has failed.
///
/// # Examples
///
/// ```
/// use std::error::Error;
/// use std::io::{self, ErrorKind};
/// use std::time::Duration;
/// use futures_aggregate::hedge;
///
/// # futures::executor::block_on(async {
/// let refused = |_| std::future::ready(Err::<(), _>(io::Error::from(ErrorKind::ConnectionRefused)));
/// let failed = hedge(Duration::from_millis(50), 2, refused).await.unwrap_err();
/// assert_eq!(failed.to_string(), "all 2 attempts failed");
/// assert_eq!(failed.last.kind(), ErrorKind::ConnectionRefused);
/// assert_eq!(failed.others.len(), 1);
/// assert!(failed.source().is_some());
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AttemptsFailed<E> {
    /// The last error.
    pub last: E,
    /// The errors before it, in the order of completion.
    pub others: Vec<E>,
}

impl<E> fmt::Display for AttemptsFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.others.len() + 1 {
            1 => f.write_str("the only attempt failed"),
            attempts => write!(f, "all {attempts} attempts failed"),
        }
    }
}

impl<E: Error + 'static> Error for AttemptsFailed<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.last)
    }
}

/// The attempts, each made when it starts.
struct Attempts<M> {
    /// Makes the future of an attempt from its number.
    make: M,
    /// The number of the next attempt.
    next: usize,
    /// The maximum number of attempts.
    end: usize,
    /// Allows or refuses attempts after the first.
    budget: Option<HedgeBudget>,
}

impl<M> Sealed for Attempts<M> {}

impl<M, A> Sources for Attempts<M>
where
    M: FnMut(usize) -> A,
{
    type Id = usize;
    type Seed = ();
    type Future = A;

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<(usize, ())>> {
        let refused = self.next > 0 && self.budget.as_ref().is_some_and(|budget| !budget.allows());
        if self.next == self.end || refused {
            return Poll::Ready(None);
        }
        let attempt = self.next;
        self.next += 1;
        Poll::Ready(Some((attempt, ())))
    }

    fn make(&mut self, attempt: &usize, (): ()) -> A {
        (self.make)(*attempt)
    }

    /// Without an upper bound, so that the run does not pull the attempts that are left.
    fn sources_left(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

/// The results of finished attempts.
struct Answers<T, E> {
    /// The value of the attempt that succeeded.
    success: Option<T>,
    /// The errors of the attempts that failed, in the order of completion.
    errors: Vec<E>,
    /// Counts the successes and failures.
    budget: Option<HedgeBudget>,
}

impl<T, E> Drop for Answers<T, E> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_each(self.success.take());
        panics.drop_each(std::mem::take(&mut self.errors));
        panics.resume();
    }
}

impl<A, T, E> Driver<usize, A> for Answers<T, E>
where
    A: Future<Output = Result<T, E>>,
{
    type Answer = Result<T, E>;

    const TIMES_SOURCES: bool = false;

    fn started(&mut self, _: &usize) {}

    fn poll_source(
        &mut self,
        attempt: Pin<&mut A>,
        cx: &mut Context<'_>,
        _: bool,
    ) -> Poll<Self::Answer> {
        attempt.poll(cx)
    }

    fn finished(
        &mut self,
        _: usize,
        answer: Self::Answer,
        _: Duration,
        _: &mut Panics,
    ) -> ControlFlow<End> {
        if let Some(budget) = &self.budget {
            budget.record(answer.is_ok());
        }
        match answer {
            Ok(value) => {
                self.success = Some(value);
                ControlFlow::Break(Ok(()))
            }
            Err(error) => {
                self.errors.push(error);
                ControlFlow::Continue(())
            }
        }
    }

    fn timed_out(&mut self, _: usize, _: Duration, _: &mut Panics) -> ControlFlow<End> {
        ControlFlow::Continue(())
    }

    fn panicked(&mut self, _: usize, _: String, _: Duration, _: &mut Panics) {
        if let Some(budget) = &self.budget {
            budget.record(false);
        }
    }

    fn unfinished(&mut self, _: usize, _: Reason, _: Duration, _: &mut Panics) {}

    fn not_started(&mut self, _: usize, _: Reason, _: &mut Panics) {}

    fn leave_unseen(&mut self) {}

    fn verdict(&mut self, _: &Policies, _: impl FnOnce() -> Option<usize>) -> Option<End> {
        self.success.is_some().then_some(Ok(()))
    }
}
