//! Where a run gets the time, and what wakes it later.

mod alarms;
#[cfg(any(test, feature = "test-util"))]
mod test_timer;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(not(all(
    target_family = "wasm",
    target_os = "unknown",
    feature = "wasm-bindgen"
)))]
pub use std::time::Instant;

#[cfg(all(
    target_family = "wasm",
    target_os = "unknown",
    feature = "wasm-bindgen"
))]
pub use web_time::Instant;

use alarms::Alarm;
pub(crate) use alarms::failures;
#[cfg(test)]
pub(crate) use alarms::tests::Wakes;
#[cfg(any(test, feature = "test-util"))]
pub use test_timer::{AutoAdvance, TestSleep, TestTimer};

#[cfg(all(
    target_family = "wasm",
    target_os = "unknown",
    not(feature = "wasm-bindgen")
))]
compile_error!(
    "futures-aggregate needs a clock and timers, and this target has none: in a browser or in Node, \
     enable the feature `wasm-bindgen` to use those of JavaScript; elsewhere, build for a target with \
     a clock, such as wasm32-wasip1, and pass a timer of the host to `expire_on`"
);

/// A clock, and sleeps that complete at a time of that clock.
///
/// [`SystemTimer`] is the default. Implement the trait for the timer of a runtime, and pass it to
/// [`Operation::timer`](crate::Operation::timer), [`Hedge::timer`](crate::Hedge::timer) or
/// [`Retry::timer`](crate::Retry::timer). Then
///
/// - a test that pauses or moves the clock of the runtime controls every timeout;
/// - the runtime completes the sleep in the same turn in which it polls its sockets, so that answers in
///   them are seen before the deadline takes effect, also by a thread that was busy;
/// - no other thread is needed.
///
/// [The guide](crate::guide::recipes#the-timer-of-a-runtime) has implementations for tokio, for async-io,
/// which smol and async-std use, and for compio. The sleep need not be `Send`: an operation is `Send` if its
/// timer and that timer's sleep are, and all its other parts.
///
/// # Examples
///
/// The timer of the system, with a count of its sleeps:
///
/// ```
/// use std::cell::Cell;
/// use std::future::pending;
/// use std::time::{Duration, Instant};
/// use futures_aggregate::{SystemTimer, Timer, fetch_and_aggregate};
///
/// struct Counting(Cell<u32>);
///
/// impl Timer for Counting {
///     type Sleep = <SystemTimer as Timer>::Sleep;
///
///     fn now(&self) -> Instant {
///         SystemTimer.now()
///     }
///
///     fn sleep_until(&self, at: Instant) -> Self::Sleep {
///         self.0.set(self.0.get() + 1);
///         SystemTimer.sleep_until(at)
///     }
/// }
///
/// # futures::executor::block_on(async {
/// let timer = Counting(Cell::new(0));
/// let sources = (0..1000).map(|id| (id, pending::<Result<(), ()>>()));
/// let run = fetch_and_aggregate(sources, Duration::from_millis(5)).timer(&timer);
/// assert!(run.await.is_err());
/// assert!(timer.0.get() < 10);        // one sleep for all sources, and a few at the end
/// # });
/// ```
///
/// # What a run expects
///
/// A run reads the clock once or twice in each poll, and after some sources. It keeps one sleep, for its
/// next deadline. The clock decides whether a deadline has passed; a sleep only wakes the run:
///
/// | sleep | what happens |
/// |---|---|
/// | completes early | the run is polled, and sleeps again |
/// | completes late | the deadline takes effect late. If the run is polled before, it waits for its sleep for 20 ms from then |
/// | never completes | the deadline takes effect in a poll that another wake has caused: the third after the deadline at the earliest, and 20 ms after the first of those |
/// | panics | the panic unwinds to the caller; nothing is lost, and the next poll sleeps anew |
///
/// After a clock went back, times that have passed before have to come again.
///
/// A poll that comes late, by a jump of the clock too, gives the runtime a turn before the deadline takes
/// effect. So if a test moves the clock of a runtime by more than some milliseconds beyond a deadline at
/// once, the run ends up to 15 ms of that clock later. A clock that the runtime itself moves to the next
/// sleep, as tokio's paused clock is, comes to deadlines exactly. So does [`TestTimer`](crate::TestTimer),
/// but not a timer that wraps it.
pub trait Timer {
    /// Completes at a time of the clock.
    type Sleep: Future<Output = ()>;

    /// Reads the clock.
    fn now(&self) -> Instant;

    /// A future that completes when the clock has come to `at`. If that has passed, it completes as
    /// soon as it is polled, or in the next turn of the runtime.
    fn sleep_until(&self, at: Instant) -> Self::Sleep;

    /// What the run can conclude from a poll that comes late.
    #[doc(hidden)]
    fn kind(&self) -> TimerKind {
        TimerKind::Runtime
    }
}

/// What a run can conclude from a poll that comes after a deadline.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// The thread was busy. The sleeps of the timer come from another thread, so answers may still be
    /// in the sockets.
    System,
    /// The thread was busy. When the sleep completes, the runtime has polled its sockets.
    Runtime,
    /// Nothing: the clock jumps.
    Test,
}

impl<T: Timer + ?Sized> Timer for &T {
    type Sleep = T::Sleep;

    fn now(&self) -> Instant {
        (**self).now()
    }

    fn sleep_until(&self, at: Instant) -> T::Sleep {
        (**self).sleep_until(at)
    }

    fn kind(&self) -> TimerKind {
        (**self).kind()
    }
}

/// The clock of the system, and one thread for all sleeps of the process: the default timer.
///
/// The thread is started by [futures-timer] at the first sleep and remains. On WebAssembly without
/// threads, with the feature `wasm-bindgen`, JavaScript wakes the task.
///
/// [futures-timer]: https://docs.rs/futures-timer
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use futures_aggregate::{SystemTimer, Timer};
///
/// # futures::executor::block_on(async {
/// let at = SystemTimer.now() + Duration::from_millis(5);
/// SystemTimer.sleep_until(at).await;
/// assert!(SystemTimer.now() >= at);
/// # });
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemTimer;

impl Timer for SystemTimer {
    type Sleep = SystemSleep;

    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[inline]
    fn sleep_until(&self, at: Instant) -> SystemSleep {
        SystemSleep { at, alarm: None }
    }

    #[inline]
    fn kind(&self) -> TimerKind {
        TimerKind::System
    }
}

/// The sleep of [`SystemTimer`].
///
/// # Panics
///
/// Polling panics if the timer thread cannot be started, or has ended.
///
/// # Cancel safety
///
/// Dropping it frees its memory at once, and the waker.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct SystemSleep {
    at: Instant,
    /// Set in the first poll, and again for another waker.
    alarm: Option<Alarm>,
}

impl Future for SystemSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.take();
        if alarm.is_some() && Instant::now() >= self.at {
            return Poll::Ready(());
        }
        self.alarm = alarm.filter(|alarm| alarm.will_wake(cx.waker()));
        if self.alarm.is_none() {
            self.alarm = Some(Alarm::set(self.at, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl fmt::Debug for SystemSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemSleep").field("at", &self.at).finish()
    }
}
