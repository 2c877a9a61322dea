//! Hedged requests: a source that starts another attempt if the first one is slow or fails.

mod delay;
mod window;

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::Reason;
use crate::attempts::{AttemptBudget, AttemptsFailed};
use crate::panics::Panics;
use crate::scheduler::{
    Alarm, Around, Clock, Driver, End, Options, Policies, Run, Signals, Starts, Stay, WithAlarm,
    limit,
};
use crate::sealed::Sealed;
use crate::sources::Sources;
use crate::timer::{SystemTimer, Timer};
pub use delay::HedgeDelay;

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
/// Barroso, 2013). A [`HedgeDelay`] learns that percentile, and bounds the extra load. Hedge only
/// idempotent requests.
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
/// [`AttemptsFailed`] with the errors of all attempts, if all have failed, or one of them with an error
/// for which [`give_up_if`](Hedge::give_up_if) returns true.
///
/// # Panics
///
/// If `attempts` is zero. Polling panics if an attempt, `make` or another closure panics, after
/// completion, and if the [timer](Hedge::timer) panics.
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
pub fn hedge<M, A, T, E>(
    delay: impl Into<HedgeDelay>,
    attempts: usize,
    make: M,
) -> Hedge<M, A, T, E>
where
    M: FnMut(usize) -> A,
    A: Future<Output = Result<T, E>>,
{
    assert!(
        attempts > 0,
        "a hedge with 0 attempts would never make a request; it must be at least 1"
    );
    let delay = delay.into();
    let failures = delay.is_learned().then(Arc::default);
    let attempts = Attempts {
        make,
        next: 0,
        end: attempts,
        budget: None,
        delay: delay.clone(),
        failures: failures.clone(),
        after_failures: 0,
    };
    let mut options = Options::NONE;
    options.concurrency = 1;
    // The first success ends it.
    options.policies.set_rule();
    Hedge {
        parts: Some(Parts {
            run: Run::new(attempts, options),
            answers: Answers {
                success: None,
                errors: Vec::new(),
                budget: None,
                delay,
                failures,
                is_final: |_| false,
                has_given_up: false,
            },
            timer: SystemTimer,
        }),
        alarm: Alarm::new(),
    }
}

pin_project! {
    /// The future of [`hedge`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Hedge<M, A, T, E, P = fn(&E) -> bool, Z = SystemTimer>
    where
        Z: Timer,
    {
        // Gone only when they were moved to another hedge, before the first poll.
        parts: Option<Parts<M, A, T, E, P, Z>>,
        #[pin]
        alarm: Alarm<Z::Sleep>,
    }

    impl<M, A, T, E, P, Z> PinnedDrop for Hedge<M, A, T, E, P, Z>
    where
        Z: Timer,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(parts) = this.parts.as_mut().filter(|parts| parts.run.in_flight() > 0) {
                parts.drop_attempts();
            }
        }
    }
}

/// The attempts, which are the sources of a run, and their results.
struct Parts<M, A, T, E, P, Z: Timer> {
    run: Run<Attempts<M>, usize, A>,
    answers: Answers<T, E, P>,
    timer: Z,
}

impl<M, A, T, E, P, Z: Timer> Parts<M, A, T, E, P, Z> {
    /// Drops the attempts in flight, and notes how long they have taken.
    fn drop_attempts(&mut self) {
        let mut panics = Panics::default();
        let (delay, timer) = (&self.answers.delay, &self.timer);
        self.run.drop_each(&mut panics, |_, started| {
            delay.note(timer.since(started), false);
        });
        panics.resume();
    }
}

const MOVED: &str = "a hedge that was not moved";

impl<M, A, T, E, P, Z: Timer> Hedge<M, A, T, E, P, Z> {
    /// The parts, to be set up.
    #[track_caller]
    fn parts(&mut self) -> &mut Parts<M, A, T, E, P, Z> {
        let parts = self.parts.as_mut().expect(MOVED);
        parts.run.options_mut();
        parts
    }

    /// Makes every attempt after the first only if `budget` allows it. Once the budget refuses an
    /// attempt, the hedge makes no more, and waits for those in flight.
    ///
    /// # Panics
    ///
    /// If the hedge has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures::future::ready;
    /// use futures_aggregate::{AttemptBudget, hedge};
    ///
    /// # futures::executor::block_on(async {
    /// let budget = AttemptBudget::new(2, 0.1);
    /// let refused = |_attempt| ready(Err::<(), _>("refused"));
    /// let failed = hedge(Duration::MAX, 3, refused).budget(&budget).await.unwrap_err();
    /// assert!(failed.others.is_empty());      // after one failure, half of the tokens are used
    /// # });
    /// ```
    #[track_caller]
    pub fn budget(mut self, budget: &AttemptBudget) -> Self {
        let parts = self.parts();
        if let Some(attempts) = parts.run.sources_mut() {
            attempts.budget = Some(budget.clone());
        }
        parts.answers.budget = Some(budget.clone());
        self
    }

    /// Gives up at the first error for which `is_final` returns true: no other attempt starts, and those in
    /// flight are dropped. For errors that another attempt cannot mend, such as "permission denied". They
    /// take no token from the [budget](Self::budget).
    ///
    /// Called again, it replaces the closure.
    ///
    /// # Panics
    ///
    /// If the hedge has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, ErrorKind};
    /// use std::time::Duration;
    /// use futures_aggregate::hedge;
    ///
    /// # futures::executor::block_on(async {
    /// let mut asked = 0;
    /// let denied = |_attempt| {
    ///     asked += 1;
    ///     std::future::ready(Err::<(), _>(io::Error::from(ErrorKind::PermissionDenied)))
    /// };
    /// let failed = hedge(Duration::from_millis(50), 3, denied)
    ///     .give_up_if(|error| error.kind() == ErrorKind::PermissionDenied)
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!(failed.last.kind(), ErrorKind::PermissionDenied);
    /// assert_eq!(asked, 1);
    /// # });
    /// ```
    #[track_caller]
    pub fn give_up_if<N>(mut self, is_final: N) -> Hedge<M, A, T, E, N, Z>
    where
        N: FnMut(&E) -> bool,
    {
        self.parts();
        let parts = self.parts.take();
        let parts = parts.map(|parts| Parts {
            run: parts.run,
            answers: parts.answers.with(is_final),
            timer: parts.timer,
        });
        Hedge {
            parts,
            alarm: Alarm::new(),
        }
    }

    /// Measures the delay with `timer`, instead of [`SystemTimer`]. The [timer](crate::Operation::timer) of a
    /// run does not reach the hedges inside it: under a paused clock, each needs its own.
    ///
    /// # Panics
    ///
    /// If the hedge has been polled. Later, if the timer panics; see [`Timer`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "test-util")]
    /// # futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use futures::future::{FutureExt, pending, ready};
    /// use futures_aggregate::{TestTimer, hedge};
    ///
    /// let timer = TestTimer::new();
    /// let ask = |attempt: usize| match attempt {
    ///     0 => pending().left_future(),
    ///     _ => ready(Ok::<_, ()>(attempt)).right_future(),
    /// };
    /// let answer = hedge(Duration::from_secs(60), 2, ask).timer(timer.clone());
    /// assert_eq!(timer.auto_advance(answer).await, Ok(1));
    /// assert_eq!(timer.elapsed(), Duration::from_secs(60));
    /// # });
    /// ```
    #[track_caller]
    pub fn timer<N: Timer>(mut self, timer: N) -> Hedge<M, A, T, E, P, N> {
        self.parts();
        let parts = self.parts.take();
        let parts = parts.map(|parts| Parts {
            run: parts.run,
            answers: parts.answers,
            timer,
        });
        Hedge {
            parts,
            alarm: Alarm::new(),
        }
    }
}

impl<M, A, T, E, P, Z> Future for Hedge<M, A, T, E, P, Z>
where
    M: FnMut(usize) -> A,
    A: Future<Output = Result<T, E>>,
    P: FnMut(&E) -> bool,
    Z: Timer,
{
    type Output = Result<T, AttemptsFailed<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Parts {
            run,
            answers,
            timer,
        } = this.parts.as_mut().expect(MOVED);
        if run.is_new() {
            run.options_mut().limits.pace = limit(answers.delay.begin());
        }
        // An attempt that was refused because the others were slow may be made because one has failed.
        let goes_on = |run: &mut Run<Attempts<M>, usize, A>| {
            let may_go_on = run.list().is_some_and(Attempts::is_free);
            may_go_on && run.list_mut().is_some()
        };
        goes_on(run);
        let signals = pin!(WithAlarm {
            signals: pin!(Signals::none()),
            alarm: this.alarm,
            timer: &*timer,
            waker: cx.waker(),
        });
        let end = run.poll(cx, &*timer, Starts::Allowed, signals, answers);
        let Poll::Ready(end) = end else {
            if goes_on(run) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        };
        debug_assert!(
            end.is_ok() || answers.has_given_up,
            "a hedge has no signals and no deadline"
        );
        if let Some(value) = answers.success.take() {
            return Poll::Ready(Ok(value));
        }
        let mut others = std::mem::take(&mut answers.errors);
        let last = others
            .pop()
            .expect("all attempts have panicked, so the hedge has no result; stop polling it");
        Poll::Ready(Err(AttemptsFailed { last, others }))
    }
}

impl<M, A, T, E, P, Z> FusedFuture for Hedge<M, A, T, E, P, Z>
where
    Self: Future,
    Z: Timer,
{
    fn is_terminated(&self) -> bool {
        let parts = self.parts.as_ref().expect(MOVED);
        parts.run.is_terminated()
    }
}

impl<M, A, T, E, P, Z: Timer> fmt::Debug for Hedge<M, A, T, E, P, Z> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.as_ref().expect(MOVED);
        f.debug_struct("Hedge")
            .field("in_flight", &parts.run.in_flight())
            .field("failed", &parts.answers.errors.len())
            .finish_non_exhaustive()
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
    budget: Option<AttemptBudget>,
    /// Allows or refuses attempts after the first that are made because the others are slow.
    delay: HedgeDelay,
    /// The number of attempts that have failed or panicked, if the delay is learned.
    failures: Option<Arc<AtomicUsize>>,
    /// The number of attempts that were made because of those.
    after_failures: usize,
}

impl<M> Attempts<M> {
    fn are_over(&self) -> bool {
        let budget = self.budget.as_ref().filter(|_| self.next > 0);
        self.next == self.end || budget.is_some_and(|budget| !budget.allows())
    }

    /// Whether another attempt may be made although no slowness permits it.
    fn is_free(&self) -> bool {
        let failures = self.failures.as_ref();
        // Relaxed: the hedge alone uses it.
        failures.is_some_and(|all| all.load(Ordering::Relaxed) > self.after_failures)
    }
}

impl<M> Sealed for Attempts<M> {}

impl<M, A> Sources for Attempts<M>
where
    M: FnMut(usize) -> A,
{
    type Id = usize;
    type Seed = ();
    type Future = A;

    const MAY_WAIT: bool = true;

    // It keeps no waker: after a failure the hedge makes sure that it is polled.
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<(usize, ())>> {
        if self.are_over() {
            return Poll::Ready(None);
        }
        if self.next > 0 {
            if self.is_free() {
                self.after_failures += 1;
            } else if !self.delay.take_credit() {
                return Poll::Pending;
            }
        }
        let attempt = self.next;
        self.next += 1;
        Poll::Ready(Some((attempt, ())))
    }

    fn make(&mut self, attempt: &usize, (): ()) -> A {
        (self.make)(*attempt)
    }

    /// With no upper bound unless they are over, so that the run does not pull the attempts that are left.
    fn sources_left(&self) -> (usize, Option<usize>) {
        (0, self.are_over().then_some(0))
    }
}

/// The results of finished attempts.
struct Answers<T, E, P> {
    /// The value of the attempt that succeeded.
    success: Option<T>,
    /// The errors of the attempts that failed, in the order of completion.
    errors: Vec<E>,
    /// Counts the successes and failures.
    budget: Option<AttemptBudget>,
    /// Learns how long attempts take.
    delay: HedgeDelay,
    /// Counts the failures, if the delay is learned.
    failures: Option<Arc<AtomicUsize>>,
    /// Whether no other attempt can mend an error.
    is_final: P,
    /// Whether there was such an error.
    has_given_up: bool,
}

impl<T, E, P> Answers<T, E, P> {
    /// With another closure, before the first poll.
    fn with<N>(mut self, is_final: N) -> Answers<T, E, N> {
        Answers {
            success: None,
            errors: Vec::new(),
            budget: self.budget.take(),
            delay: self.delay.clone(),
            failures: self.failures.take(),
            is_final,
            has_given_up: false,
        }
    }

    fn record(&self, succeeded: bool) {
        if let Some(budget) = &self.budget {
            budget.record(succeeded);
        }
    }

    fn note_failure(&self) {
        if let Some(failures) = &self.failures {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T, E, P> Drop for Answers<T, E, P> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_each(self.success.take());
        panics.drop_each(std::mem::take(&mut self.errors));
        panics.resume();
    }
}

impl<A, T, E, P> Driver<usize, A> for Answers<T, E, P>
where
    A: Future<Output = Result<T, E>>,
    P: FnMut(&E) -> bool,
{
    type Answer = Result<T, E>;

    const TIMES_SOURCES: bool = true;

    fn started(&mut self, _: &usize) {}

    fn poll_source(
        &mut self,
        attempt: Pin<&mut A>,
        cx: &mut Context<'_>,
        _: Around<'_>,
    ) -> Poll<Self::Answer> {
        attempt.poll(cx)
    }

    fn finished(
        &mut self,
        _: usize,
        answer: Self::Answer,
        stay: Stay,
        panics: &mut Panics,
    ) -> ControlFlow<End> {
        self.delay.note(stay.elapsed, answer.is_ok());
        let error = match answer {
            Ok(value) => {
                self.record(true);
                self.success = Some(value);
                return ControlFlow::Break(Ok(()));
            }
            Err(error) => error,
        };
        self.note_failure();
        self.has_given_up = panics.catch(|| (self.is_final)(&error)) == Some(true);
        self.errors.push(error);
        if self.has_given_up {
            return ControlFlow::Break(Err(Reason::SourceFailed));
        }
        self.record(false);
        ControlFlow::Continue(())
    }

    fn timed_out(&mut self, _: usize, _: Stay, _: &mut Panics) -> ControlFlow<End> {
        unreachable!("an attempt has no timeout of the run")
    }

    fn panicked(&mut self, _: usize, _: String, _: Stay, _: &mut Panics) {
        self.note_failure();
        self.record(false);
    }

    fn unfinished(&mut self, _: usize, _: Reason, elapsed: Duration, _: &mut Panics) {
        self.delay.note(elapsed, false);
    }

    fn not_started(&mut self, _: usize, _: Reason, _: &mut Panics) {}

    fn leave_unseen(&mut self) {}

    fn verdict(&mut self, _: &Policies, _: impl FnOnce() -> Option<usize>) -> Option<End> {
        if self.has_given_up {
            return Some(Err(Reason::SourceFailed));
        }
        self.success.is_some().then_some(Ok(()))
    }
}
