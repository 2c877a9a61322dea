//! A limit on starts per second that any number of runs share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::panics::wake_each;
use crate::timer::Instant;

/// A limit on how many sources start per second, for all runs that share it.
///
/// Pass it to [`rate`](crate::Operation::rate) of any number of runs, on any threads and executors. Clones are
/// the same rate: keep one for each backend, in a `static` or in the state of a service.
///
/// - In every span of time `d`, at most `burst + d / interval` sources start, where `interval` is the time
///   between two starts at this rate. This holds at any moment, not only on average.
/// - After a pause, up to [`burst`](Self::burst) sources start at once: 1, unless it is set.
/// - A source that waits for the rate has not started. Its own timeout does not run; the deadline of the run
///   does.
/// - Runs that wait start sources in the order in which they began to wait, one at a time. A run whose task is
///   polled late loses its turn to the next one, and then is the first one again.
/// - A run wakes for each of its starts. If the rate is higher than the [`Timer`](crate::Timer) is precise, about a
///   thousand per second, set a burst: without one there are fewer starts.
///
/// The time is that of the [`Timer`](crate::Timer) of each run. Runs that share a rate must have timers with the
/// same clock.
///
/// The rule is the generic cell rate algorithm (GCRA), known from networks.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use futures::future::ready;
/// use futures_aggregate::{Rate, each, fetch_and_aggregate};
///
/// # futures::executor::block_on(async {
/// let rate = Rate::per_second(100.0).burst(5);
/// let started = Instant::now();
/// let run = fetch_and_aggregate(each(0..8, |&id| ready(Ok::<_, ()>(id))), Duration::MAX);
/// assert_eq!(run.rate(&rate).await.unwrap().results.len(), 8);
/// assert!(started.elapsed() >= Duration::from_millis(30));     // five at once, then three
/// # });
/// ```
#[derive(Clone)]
pub struct Rate {
    state: Arc<Mutex<State>>,
}

struct State {
    /// The time between two starts.
    interval: Duration,
    burst: u32,
    /// When all starts so far would be over at this rate, without bursts. `None` before the first start.
    paid_until: Option<Instant>,
    /// Who waits, in the order of their turns.
    queue: BTreeMap<u64, Waiter>,
    /// The number of the next turn.
    next: u64,
}

struct Waiter {
    waker: Waker,
    /// When it was told to ask again.
    at: Instant,
}

impl State {
    /// Counts a start.
    fn count(&mut self, now: Instant) {
        let from = self.paid_until.map_or(now, |until| until.max(now));
        self.paid_until = from.checked_add(self.interval).or(self.paid_until);
    }

    /// When the source with this turn may start, if that is later than now. Without a turn it comes behind
    /// those who wait, but not behind one that is late by more than an interval: its task is not polled.
    fn waits_until(&self, turn: Option<&Turn>, now: Instant) -> Option<Instant> {
        let number = turn.map_or(u64::MAX, |turn| turn.number);
        let is_punctual =
            |waiter: &&Waiter| now.saturating_duration_since(waiter.at) <= self.interval;
        let before = self.queue.range(..number).map(|(_, waiter)| waiter);
        let before = before.filter(is_punctual).count();
        let paid = self
            .paid_until
            .unwrap_or(now)
            .saturating_duration_since(now);
        if paid.is_zero() && (turn.is_some() || before == 0) {
            return None;
        }
        // In relation to now: the clock may not be able to express the times.
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let waits = self.interval.saturating_mul(before);
        let bursts = self.interval.saturating_mul(self.burst - 1);
        let left = paid.saturating_add(waits).saturating_sub(bursts);
        (!left.is_zero()).then(|| now + left.min(LONG))
    }

    /// The waker of the first one behind a turn, which may come earlier.
    fn waker_behind(&self, number: u64) -> Option<Waker> {
        let (_, waiter) = self.queue.range(number..).next()?;
        Some(waiter.waker.clone())
    }
}

/// A run that waits longer asks again in between.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

impl Rate {
    /// So many starts per second, one at a time. Fractions are allowed: 0.5 is one start in two seconds.
    ///
    /// The interval between two starts is rounded up to whole nanoseconds.
    ///
    /// # Panics
    ///
    /// If `starts` is not a positive finite number, or the interval is longer than a [`Duration`] can be.
    #[track_caller]
    pub fn per_second(starts: f64) -> Self {
        assert!(
            starts > 0.0 && starts.is_finite(),
            "a rate must be a positive number of starts per second, and not {starts}"
        );
        let nanos = (1e9 / starts).ceil();
        assert!(
            nanos <= u64::MAX as f64,
            "a rate of {starts} starts per second is too low; it must be at least one in 500 years"
        );
        Self {
            state: Arc::new(Mutex::new(State {
                interval: Duration::from_nanos(nanos as u64),
                burst: 1,
                paid_until: None,
                queue: BTreeMap::new(),
                next: 0,
            })),
        }
    }

    /// The most sources that start at once after a pause. 1 is the default.
    ///
    /// # Panics
    ///
    /// If `sources` is zero.
    #[track_caller]
    #[must_use]
    pub fn burst(self, sources: u32) -> Self {
        assert!(
            sources > 0,
            "a burst of 0 would never start a source; it must be at least 1"
        );
        self.lock().burst = sources;
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the same rate.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// Counts a start, if one may start that has this turn, or none yet. Otherwise returns when to ask again.
    pub(crate) fn start(&self, turn: Option<&Turn>, now: Instant) -> Result<(), Instant> {
        let mut state = self.lock();
        let Some(at) = state.waits_until(turn, now) else {
            state.count(now);
            return Ok(());
        };
        let Some(turn) = turn else {
            return Err(at);
        };
        // If it comes earlier than it was told, so does the next one.
        let own = state.queue.get_mut(&turn.number);
        let is_earlier = own.is_some_and(|own| at < std::mem::replace(&mut own.at, at));
        let next = state.waker_behind(turn.number + 1).filter(|_| is_earlier);
        drop(state);
        wake_each(next);
        Err(at)
    }

    /// Counts a start that cannot wait.
    pub(crate) fn start_anyway(&self, now: Instant) {
        self.lock().count(now);
    }

    /// Takes a start back that was counted and did not happen.
    pub(crate) fn take_back(&self) {
        let mut state = self.lock();
        let before = state
            .paid_until
            .and_then(|until| until.checked_sub(state.interval));
        state.paid_until = before;
    }

    /// Waits for a turn, which comes at this time. `waker` is woken if it may come earlier.
    pub(crate) fn wait(&self, at: Instant, waker: Waker) -> Turn {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.queue.insert(number, Waiter { waker, at });
        let rate = self.clone();
        Turn { rate, number }
    }
}

/// A place in the queue of a rate. When it is dropped, those behind it come earlier, unless its run has started
/// a source.
pub(crate) struct Turn {
    rate: Rate,
    number: u64,
}

impl Turn {
    /// Leaves the queue after a start, which the others have expected.
    pub(crate) fn end(self) {
        let mut state = self.rate.lock();
        let waiter = state.queue.remove(&self.number);
        drop(state);
        drop(waiter);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.rate.lock();
        let Some(waiter) = state.queue.remove(&self.number) else {
            return;
        };
        let next = state.waker_behind(self.number);
        drop(state);
        drop(waiter);
        wake_each(next);
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Rate")
            .field("interval", &state.interval)
            .field("burst", &state.burst)
            .field("waiting", &state.queue.len())
            .finish()
    }
}
