//! A timer whose clock belongs to a test.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use pin_project_lite::pin_project;

use super::{Instant, Timer, TimerKind};
use crate::panics::wake_each;

/// Before time jumps, the other tasks of the executor get so many turns.
const TURNS: u32 = 64;

/// A timer for tests: its clock stands still until the test moves it. Requires the feature `test-util`.
///
/// Clones share the clock, so one of them goes into the code under test and the test keeps another.
/// It needs no executor: it works under every runtime, and with tasks that a test polls by hand.
///
/// There are two ways to move the clock:
///
/// - by hand: [`advance`](Self::advance), or [`advance_to_next`](Self::advance_to_next) deadline. Then
///   poll the task, or let the executor do so;
/// - by itself: [`auto_advance`](Self::auto_advance) runs a future, and jumps to the next deadline
///   whenever a poll leaves nothing else to do. Timeouts of hours pass in microseconds.
///
/// A run notices a deadline in the first poll after the clock has come to it. It polls the sources that
/// were woken before. That the clock jumps does not count as a late poll.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use std::time::Duration;
/// use futures_aggregate::{Interrupted, Reason, TestTimer, Timer, each, fetch_and_aggregate};
///
/// /// The code under test. In production it is called with `SystemTimer`, or the timer of a runtime.
/// async fn answers(timer: impl Timer) -> Result<usize, Reason> {
///     let sources = each(0..3, |&id| async move {
///         if id == 2 { pending::<()>().await }
///         Ok::<_, ()>(id)
///     });
///     let run = fetch_and_aggregate(sources, Duration::from_secs(3600)).timer(timer);
///     let aggregate = run.await.map_err(|interrupted| interrupted.reason)?;
///     Ok(aggregate.results.len())
/// }
///
/// # futures::executor::block_on(async {
/// let timer = TestTimer::new();
/// let outcome = timer.auto_advance(answers(timer.clone())).await;
/// assert_eq!(outcome, Err(Reason::TimedOut));
/// assert_eq!(timer.elapsed(), Duration::from_secs(3600));
/// # });
/// ```
#[derive(Clone)]
pub struct TestTimer {
    state: Arc<Mutex<State>>,
}

struct State {
    began: Instant,
    now: Instant,
    /// The wakers of all sleeps, sorted by time, and numbered.
    sleeps: BTreeMap<(Instant, u64), Waker>,
    next_number: u64,
    kind: TimerKind,
}

impl TestTimer {
    /// Makes a timer with a clock of its own, which shows the current time of the system and stands
    /// still.
    #[expect(
        clippy::new_without_default,
        reason = "it reads the clock of the system"
    )]
    pub fn new() -> Self {
        Self::with_kind(TimerKind::Test)
    }

    /// A timer of another kind, for which a jump of the clock makes a poll late.
    pub(crate) fn with_kind(kind: TimerKind) -> Self {
        let now = Instant::now();
        Self {
            state: Arc::new(Mutex::new(State {
                began: now,
                now,
                sleeps: BTreeMap::new(),
                next_number: 0,
                kind,
            })),
        }
    }

    /// The time by which the clock has moved since it was made.
    pub fn elapsed(&self) -> Duration {
        let state = self.lock();
        state.now - state.began
    }

    /// Moves the clock forward, and wakes every task whose sleep has ended. It does not poll them: all of
    /// them see the new time, and none the times between.
    ///
    /// # Panics
    ///
    /// If the clock cannot express the new time. If a waker panics; all others are woken before that.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.now = state.now.checked_add(by).unwrap_or_else(|| {
            panic!(
                "the clock cannot move by {by:?}: it would be beyond what an Instant can express"
            )
        });
        wake_due(state);
    }

    /// The time at which the next sleep ends, if there is one.
    pub fn next_deadline(&self) -> Option<Instant> {
        let state = self.lock();
        state.sleeps.keys().next().map(|&(at, _)| at)
    }

    /// Moves the clock to the [next deadline](Self::next_deadline), and wakes every task whose sleep has
    /// ended. Returns whether there was one.
    ///
    /// # Panics
    ///
    /// If a waker panics.
    pub fn advance_to_next(&self) -> bool {
        let Some(next) = self.next_deadline() else {
            return false;
        };
        let mut state = self.lock();
        state.now = state.now.max(next);
        wake_due(state);
        true
    }

    /// Runs a future, and moves the clock to the next deadline whenever a poll of the future leaves
    /// nothing else to do.
    ///
    /// "Nothing else" means: the future is pending and was not woken, although it has let the executor
    /// poll its other tasks 64 times in between. The clock does not wait for work on other threads, nor
    /// for sockets. To test code with those, let it have the timer of its runtime, and pause that.
    ///
    /// The deadlines of all clones count, also of those in other tasks. Without any deadline it waits
    /// for the next wake.
    pub fn auto_advance<F: Future>(&self, future: F) -> AutoAdvance<F> {
        AutoAdvance {
            future,
            timer: self.clone(),
            task: Arc::new(TaskWaker {
                was_woken: AtomicBool::new(true),
                task: AtomicWaker::new(),
            }),
            idle_turns: 0,
            seen: self.now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the sleeps that have ended, without the lock.
fn wake_due(mut state: MutexGuard<'_, State>) {
    let mut due = Vec::new();
    let now = state.now;
    while let Some(first) = state.sleeps.first_entry() {
        if first.key().0 > now {
            break;
        }
        due.push(first.remove());
    }
    drop(state);
    wake_each(due);
}

impl Timer for TestTimer {
    type Sleep = TestSleep;

    fn now(&self) -> Instant {
        self.lock().now
    }

    fn sleep_until(&self, at: Instant) -> TestSleep {
        let mut state = self.lock();
        state.next_number += 1;
        TestSleep {
            timer: self.clone(),
            key: (at, state.next_number),
        }
    }

    fn kind(&self) -> TimerKind {
        self.lock().kind
    }
}

impl fmt::Debug for TestTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTimer")
            .field("elapsed", &self.elapsed())
            .field("sleeps", &self.lock().sleeps.len())
            .finish()
    }
}

/// The sleep of a [`TestTimer`].
#[must_use = "futures do nothing unless you `.await` or poll them"]
#[derive(Debug)]
pub struct TestSleep {
    timer: TestTimer,
    key: (Instant, u64),
}

impl Future for TestSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.timer.lock();
        let is_over = state.now >= self.key.0;
        let before = match is_over {
            true => state.sleeps.remove(&self.key),
            false => state.sleeps.insert(self.key, cx.waker().clone()),
        };
        drop(state);
        drop(before);
        match is_over {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for TestSleep {
    fn drop(&mut self) {
        let waker = self.timer.lock().sleeps.remove(&self.key);
        drop(waker);
    }
}

pin_project! {
    /// The future of [`TestTimer::auto_advance`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct AutoAdvance<F> {
        #[pin]
        future: F,
        timer: TestTimer,
        task: Arc<TaskWaker>,
        // The polls in a row in which the future was not woken, and the clock did not move.
        idle_turns: u32,
        // The clock in the last of them.
        seen: Instant,
    }
}

/// Notes that the future was woken.
#[derive(Debug)]
struct TaskWaker {
    was_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with the Acquire of the poll, which sees what was written before the wake.
        self.was_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Future for AutoAdvance<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.task.task.register(cx.waker());
        // Acquire: pairs with the Release of the wake.
        if this.task.was_woken.swap(false, Ordering::Acquire) {
            *this.idle_turns = 0;
            let waker = Waker::from(Arc::clone(this.task));
            let poll = this.future.poll(&mut Context::from_waker(&waker));
            if poll.is_ready() {
                return poll;
            }
        }
        // Another one may have moved the clock, and the tasks that it has woken come first.
        let now = this.timer.now();
        if std::mem::replace(this.seen, now) != now {
            *this.idle_turns = 0;
        }
        let is_idle = !this.task.was_woken.load(Ordering::Acquire);
        if is_idle && this.timer.next_deadline().is_some() {
            *this.idle_turns += 1;
            if *this.idle_turns > TURNS {
                *this.idle_turns = 0;
                this.timer.advance_to_next();
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<F> fmt::Debug for AutoAdvance<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoAdvance")
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
