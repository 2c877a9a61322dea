//! A source that makes another attempt after a failure, and pauses before it.

mod pause;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::FusedFuture;
use pin_project_lite::pin_project;

use crate::attempts::{AttemptBudget, AttemptsFailed};
use crate::limit::{Limit, Released};
use crate::panics::{Contained, Panics};
use crate::timer::{Instant, SystemTimer, Timer};
use pause::Pauses;

/// Makes an attempt, and another one after each failure, up to `attempts` in all. Resolves to the first
/// success.
///
/// Before the attempt with number `n`, counted from 0, it pauses for a random time of at most
/// `first_pause * 2^(n - 1)`, and at most 30 seconds: exponential backoff with full jitter, see [AWS's
/// comparison]. `make` is told the number of the attempt, and how much time it has.
///
/// Use it as a source, or alone. Retry only requests that may be made twice.
///
/// [AWS's comparison]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
///
/// # When backon is the better choice
///
/// [backon] retries with other kinds of backoff, in blocking code, and by a method call on any closure. Use it
/// unless you need what it does not have: one [budget](Retry::budget) for all retries and hedges of a
/// backend, attempts that know [how much time is left](Retry::deadline), and a [timer](Retry::timer) that is
/// the same as that of the run.
///
/// [backon]: https://docs.rs/backon
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_aggregate::{Attempt, retry};
///
/// async fn fetch(attempt: Attempt) -> Result<&'static str, &'static str> {
///     match attempt.number {
///         0 | 1 => Err("503 Service Unavailable"),
///         _ => Ok("a page"),
///     }
/// }
///
/// # futures::executor::block_on(async {
/// let page = retry(Duration::from_millis(2), 5, fetch).await;
/// assert_eq!(page, Ok("a page"));
/// # });
/// ```
///
/// # Errors
///
/// [`AttemptsFailed`] with the errors of all attempts that were made, if the last one has failed and no
/// other may be made: because there were enough, or because of [`retry_if`](Retry::retry_if), the
/// [`budget`](Retry::budget) or the [`deadline`](Retry::deadline).
///
/// # Panics
///
/// If `attempts` is zero. Polling panics if an attempt, a closure or the [timer](Retry::timer) panics, and
/// after that or after completion.
///
/// # Cancel safety
///
/// Dropping the future drops the attempt at once, or ends the pause.
#[doc(alias = "backoff")]
#[track_caller]
pub fn retry<M, A, T, E>(first_pause: Duration, attempts: usize, make: M) -> Retry<M, A, E>
where
    M: FnMut(Attempt) -> A,
    A: Future<Output = Result<T, E>>,
{
    assert!(
        attempts > 0,
        "a retry with 0 attempts would never make a request; it must be at least 1"
    );
    Retry {
        stage: Stage::New,
        errors: Errors(Vec::new()),
        make: Contained::new(make),
        may_retry: Contained::new(|_| true),
        hint: Contained::new(|_| None),
        timer: SystemTimer,
        rules: Rules {
            attempts,
            pauses: Pauses::new(first_pause),
            budget: None,
            deadline: None,
            limit: None,
        },
        is_polling: false,
    }
}

/// What an attempt of [`retry`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, counted from 0.
    pub number: usize,
    /// The time until the [deadline](Retry::deadline), when the attempt starts. [`Duration::MAX`] without
    /// a deadline.
    pub remaining: Duration,
}

pin_project! {
    /// The future of [`retry`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Retry<M, A, E, P = fn(&E) -> bool, N = fn(&E) -> Option<Duration>, Z = SystemTimer>
    where
        Z: Timer,
    {
        // Dropped first. If it panics, the others are still dropped.
        #[pin]
        stage: Stage<A, Z::Sleep>,
        errors: Errors<E>,
        make: Contained<M>,
        may_retry: Contained<P>,
        hint: Contained<N>,
        timer: Z,
        rules: Rules,
        // Whether an attempt is being polled. Still set after it has panicked.
        is_polling: bool,
    }
}

/// The errors so far.
struct Errors<E>(Vec<E>);

impl<E> Drop for Errors<E> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_each(std::mem::take(&mut self.0));
        panics.resume();
    }
}

/// The plain settings.
struct Rules {
    attempts: usize,
    pauses: Pauses,
    budget: Option<AttemptBudget>,
    deadline: Option<Instant>,
    limit: Option<(Limit, usize)>,
}

pin_project! {
    #[project = StageNow]
    enum Stage<A, S> {
        New,
        Attempt {
            #[pin]
            attempt: A,
        },
        // Until this time, and then until there is a place. `sleep` is the current sleep, once polled.
        Pause {
            until: Instant,
            place: Option<Released>,
            #[pin]
            sleep: Option<S>,
        },
        Done,
    }
}

impl<M, A, E, P, N, Z: Timer> Retry<M, A, E, P, N, Z> {
    /// Pauses for at most this long, instead of 30 seconds. A [hint](Self::pause_hint) of the error may be
    /// longer.
    ///
    /// # Panics
    ///
    /// If the retry has been polled.
    #[track_caller]
    pub fn max_pause(mut self, pause: Duration) -> Self {
        self.check_new();
        self.rules.pauses.most = pause;
        self
    }

    /// Makes the random pauses the same in each run of the program, for tests and simulations.
    ///
    /// # Panics
    ///
    /// If the retry has been polled.
    #[track_caller]
    pub fn seed(mut self, seed: u64) -> Self {
        self.check_new();
        self.rules.pauses.seed(seed);
        self
    }

    /// Makes every attempt after the first only if `budget` allows it. Once the budget refuses one, the
    /// retry fails.
    ///
    /// # Panics
    ///
    /// If the retry has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{AttemptBudget, retry};
    ///
    /// # futures::executor::block_on(async {
    /// // Shared by all requests to the backend, which is down.
    /// let budget = AttemptBudget::new(10, 0.1);
    /// let mut asked = 0;
    /// for _ in 0..100 {
    ///     let down = |_attempt| {
    ///         asked += 1;
    ///         std::future::ready(Err::<(), _>("503"))
    ///     };
    ///     assert!(retry(Duration::ZERO, 3, down).budget(&budget).await.is_err());
    /// }
    /// assert_eq!(asked, 100 + 3);      // then half of the tokens are gone
    /// # });
    /// ```
    #[track_caller]
    pub fn budget(mut self, budget: &AttemptBudget) -> Self {
        self.check_new();
        self.rules.budget = Some(budget.clone());
        self
    }

    /// Starts no attempt after this time of the clock. If the next attempt could not start before it, the
    /// retry fails at once, without a pause.
    ///
    /// An attempt that has started goes on. It is told how much time it [has](Attempt::remaining): pass
    /// that on to the client. To cut it off, give the source a
    /// [`source_timeout`](crate::Operation::source_timeout) or the run a deadline. The first attempt is
    /// made in any case. Called again, the earlier deadline counts.
    ///
    /// # Panics
    ///
    /// If the retry has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use futures_aggregate::{Attempt, retry};
    ///
    /// # futures::executor::block_on(async {
    /// let busy = |attempt: Attempt| async move {
    ///     assert!(attempt.remaining <= Duration::from_secs(1));
    ///     Err::<(), _>("busy")
    /// };
    /// let began = Instant::now();
    /// let failed = retry(Duration::from_secs(3600), 5, busy)
    ///     .pause_hint(|_| Some(Duration::from_secs(60)))
    ///     .deadline(began + Duration::from_secs(1))
    ///     .await
    ///     .unwrap_err();
    /// assert!(failed.others.is_empty());
    /// assert!(began.elapsed() < Duration::from_secs(1));
    /// # });
    /// ```
    #[track_caller]
    pub fn deadline(mut self, at: Instant) -> Self {
        self.check_new();
        let before = self.rules.deadline.into_iter();
        self.rules.deadline = before.chain([at]).min();
        self
    }

    /// Gives the place of the source in `limit` back while it pauses, so that other sources start
    /// meanwhile. After the pause it waits for a place, behind those who wait already.
    ///
    /// The retry has to be the source itself, in a run whose [`concurrency`](crate::Operation::concurrency) is
    /// this limit: a source has one place. For one with a weight there is
    /// [`release_weight`](Self::release_weight). If it is a part of a source, which gives the place back twice or
    /// goes on after the retry was dropped in its pause, more sources are in flight than the limit allows.
    /// Outside of such a run it takes a place that nobody gives back.
    ///
    /// # Panics
    ///
    /// If the retry has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use futures_aggregate::{Attempt, Limit, each, fetch_and_aggregate, retry};
    ///
    /// async fn ask(id: u32, attempt: Attempt) -> Result<u32, &'static str> {
    ///     if id == 0 && attempt.number == 0 { Err("busy") } else { Ok(id) }
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let limit = Limit::new(1);
    /// let sources = each(0..10, |&id| {
    ///     retry(Duration::ZERO, 2, move |attempt| ask(id, attempt))
    ///         .pause_hint(|_| Some(Duration::from_millis(20)))
    ///         .release(&limit)
    /// });
    /// let run = fetch_and_aggregate(sources, Duration::MAX).concurrency(&limit);
    /// let aggregate = run.await.unwrap();
    /// let (last, _) = aggregate.results.last().unwrap();
    /// assert_eq!(*last, 0);       // the others have not waited for it
    /// # });
    /// ```
    #[track_caller]
    pub fn release(self, limit: &Limit) -> Self {
        self.release_weight(limit, 1)
    }

    /// Gives the places of a source with a [weight](crate::Operation::weight) back while it pauses, as
    /// [`release`](Self::release) does. `weight` is what the run takes for this source: if it is less, the source
    /// keeps places while it waits for others, and may wait for ever.
    ///
    /// # Panics
    ///
    /// If `weight` is zero, or the retry has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::{Limit, each, fetch_and_aggregate, retry};
    ///
    /// # async fn load(megabytes: usize) -> Result<usize, &'static str> { Ok(megabytes) }
    /// # futures::executor::block_on(async {
    /// let memory = Limit::new(64);
    /// let sources = each([48, 8, 32], |&megabytes| {
    ///     retry(Duration::ZERO, 2, move |_| load(megabytes)).release_weight(&memory, megabytes)
    /// });
    /// let run = fetch_and_aggregate(sources, Duration::MAX)
    ///     .weight(|&megabytes| megabytes)
    ///     .concurrency(&memory);
    /// assert_eq!(run.await.unwrap().results.len(), 3);
    /// # });
    /// ```
    #[track_caller]
    pub fn release_weight(mut self, limit: &Limit, weight: usize) -> Self {
        assert!(weight > 0, "a source has a weight of at least 1");
        self.check_new();
        self.rules.limit = Some((limit.clone(), weight));
        self
    }

    /// Retries only errors for which `may_retry` returns true. Others take no token from the
    /// [budget](Self::budget). Called again, it replaces the closure.
    ///
    /// # Panics
    ///
    /// If the retry has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use futures_aggregate::retry;
    ///
    /// # futures::executor::block_on(async {
    /// let not_found = |_| std::future::ready(Err::<(), _>(404));
    /// let failed = retry(Duration::from_secs(1), 5, not_found)
    ///     .retry_if(|&status| status >= 500)
    ///     .await
    ///     .unwrap_err();
    /// assert_eq!((failed.last, failed.others.len()), (404, 0));
    /// # });
    /// ```
    #[track_caller]
    pub fn retry_if<X>(self, may_retry: X) -> Retry<M, A, E, X, N, Z>
    where
        X: FnMut(&E) -> bool,
    {
        self.check_new();
        Retry {
            stage: Stage::New,
            errors: self.errors,
            make: self.make,
            may_retry: Contained::new(may_retry),
            hint: self.hint,
            timer: self.timer,
            rules: self.rules,
            is_polling: false,
        }
    }

    /// Pauses at least as long as the error says, for example in a `Retry-After` header. With a hint of
    /// `None` the pause is the usual one. Called again, it replaces the closure.
    ///
    /// # Panics
    ///
    /// If the retry has been polled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use futures_aggregate::{Attempt, retry};
    ///
    /// struct Busy { retry_after: Option<Duration> }
    ///
    /// # futures::executor::block_on(async {
    /// let ask = |attempt: Attempt| async move {
    ///     match attempt.number {
    ///         0 => Err(Busy { retry_after: Some(Duration::from_millis(5)) }),
    ///         _ => Ok("done"),
    ///     }
    /// };
    /// let began = Instant::now();
    /// let answer = retry(Duration::ZERO, 2, ask).pause_hint(|busy| busy.retry_after).await;
    /// assert!(answer.is_ok());
    /// assert!(began.elapsed() >= Duration::from_millis(5));
    /// # });
    /// ```
    #[track_caller]
    pub fn pause_hint<X>(self, hint: X) -> Retry<M, A, E, P, X, Z>
    where
        X: FnMut(&E) -> Option<Duration>,
    {
        self.check_new();
        Retry {
            stage: Stage::New,
            errors: self.errors,
            make: self.make,
            may_retry: self.may_retry,
            hint: Contained::new(hint),
            timer: self.timer,
            rules: self.rules,
            is_polling: false,
        }
    }

    /// Measures pauses, and the time until the [deadline](Self::deadline), with `timer` instead of
    /// [`SystemTimer`].
    ///
    /// # Panics
    ///
    /// If the retry has been polled. Later, if the timer panics; see [`Timer`].
    #[track_caller]
    pub fn timer<X: Timer>(self, timer: X) -> Retry<M, A, E, P, N, X> {
        self.check_new();
        Retry {
            stage: Stage::New,
            errors: self.errors,
            make: self.make,
            may_retry: self.may_retry,
            hint: self.hint,
            timer,
            rules: self.rules,
            is_polling: false,
        }
    }

    #[track_caller]
    fn check_new(&self) {
        assert!(
            matches!(self.stage, Stage::New),
            "a retry must be set up before it is polled for the first time"
        );
    }
}

impl<M, A, T, E, P, N, Z> Future for Retry<M, A, E, P, N, Z>
where
    M: FnMut(Attempt) -> A,
    A: Future<Output = Result<T, E>>,
    P: FnMut(&E) -> bool,
    N: FnMut(&E) -> Option<Duration>,
    Z: Timer,
{
    type Output = Result<T, AttemptsFailed<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if *this.is_polling {
            this.stage.set(Stage::Done);
        }
        loop {
            match this.stage.as_mut().project() {
                StageNow::New => {}
                StageNow::Attempt { attempt } => {
                    *this.is_polling = true;
                    let poll = attempt.poll(cx);
                    *this.is_polling = false;
                    let answer = ready!(poll);
                    // If anything below panics, the retry is over.
                    this.stage.set(Stage::Done);
                    let error = match answer {
                        Ok(value) => {
                            this.rules.record(true);
                            return Poll::Ready(Ok(value));
                        }
                        Err(error) => error,
                    };
                    let pause = this.may_retry.get_mut()(&error).then(|| {
                        this.rules.record(false);
                        this.hint.get_mut()(&error)
                    });
                    let next = pause.and_then(|hint| {
                        this.rules.next(this.errors.0.len() + 1, hint, this.timer)
                    });
                    let Some(until) = next else {
                        let others = std::mem::take(&mut this.errors.0);
                        return Poll::Ready(Err(AttemptsFailed {
                            last: error,
                            others,
                        }));
                    };
                    this.errors.0.push(error);
                    let place = this.rules.limit.as_ref();
                    let place = place.map(|(limit, weight)| Released::new(limit, *weight));
                    this.stage.set(Stage::Pause {
                        until,
                        place,
                        sleep: None,
                    });
                    if this.timer.now() >= until {
                        // Let other tasks run, in case each attempt fails at once.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    continue;
                }
                StageNow::Pause {
                    until,
                    place,
                    mut sleep,
                } => {
                    if this.timer.now() < *until {
                        ready!(poll_sleep(sleep.as_mut(), *until, this.timer, cx));
                        if this.timer.now() < *until {
                            // It has ended too early.
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                    }
                    let is_over = this.rules.is_over(this.timer);
                    let has_place = |place: &mut Released| place.poll_take(cx).is_ready();
                    if !is_over && !place.as_mut().is_none_or(has_place) {
                        // It waits for its place, until the deadline.
                        let Some(deadline) = this.rules.deadline else {
                            return Poll::Pending;
                        };
                        ready!(poll_sleep(sleep, deadline, this.timer, cx));
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if is_over {
                        this.stage.set(Stage::Done);
                        let mut others = std::mem::take(&mut this.errors.0);
                        let last = others.pop().expect("a pause comes after an error");
                        return Poll::Ready(Err(AttemptsFailed { last, others }));
                    }
                }
                StageNow::Done => {
                    panic!(
                        "polled after completion, or after a panic; check `is_terminated()` first"
                    )
                }
            }
            this.stage.set(Stage::Done);
            let attempt = Attempt {
                number: this.errors.0.len(),
                remaining: this.rules.remaining(this.timer),
            };
            let attempt = this.make.get_mut()(attempt);
            this.stage.set(Stage::Attempt { attempt });
        }
    }
}

/// Sleeps until a time. The sleep is made when it is polled first.
fn poll_sleep<Z: Timer>(
    mut sleep: Pin<&mut Option<Z::Sleep>>,
    until: Instant,
    timer: &Z,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if sleep.is_none() {
        sleep.set(Some(timer.sleep_until(until)));
    }
    if let Some(sleep) = sleep.as_mut().as_pin_mut() {
        ready!(sleep.poll(cx));
    }
    sleep.set(None);
    Poll::Ready(())
}

impl Rules {
    /// Whether the deadline has passed.
    fn is_over(&self, timer: &impl Timer) -> bool {
        self.deadline
            .is_some_and(|deadline| timer.now() >= deadline)
    }

    /// The time until the deadline.
    fn remaining(&self, timer: &impl Timer) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(timer.now())
        })
    }

    fn record(&self, succeeded: bool) {
        if let Some(budget) = &self.budget {
            budget.record(succeeded);
        }
    }

    /// When the attempt with this number starts. `None` if it may not be made.
    fn next(
        &mut self,
        number: usize,
        hint: Option<Duration>,
        timer: &impl Timer,
    ) -> Option<Instant> {
        let is_refused = self.budget.as_ref().is_some_and(|budget| !budget.allows());
        if number == self.attempts || is_refused {
            return None;
        }
        let pause = self.pauses.before(number).max(hint.unwrap_or_default());
        let until = timer.now().checked_add(pause)?;
        let is_too_late = self.deadline.is_some_and(|deadline| until >= deadline);
        (!is_too_late).then_some(until)
    }
}

impl<M, A, E, P, N, Z> FusedFuture for Retry<M, A, E, P, N, Z>
where
    Self: Future,
    Z: Timer,
{
    fn is_terminated(&self) -> bool {
        self.is_polling || matches!(self.stage, Stage::Done)
    }
}

impl<M, A, E, P, N, Z: Timer> fmt::Debug for Retry<M, A, E, P, N, Z> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("failed", &self.errors.0.len())
            .finish_non_exhaustive()
    }
}
