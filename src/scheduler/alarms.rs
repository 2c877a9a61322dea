//! One timer for the alarms of all runs of the process.
//!
//! A timer for each run would cost an allocation and two wakeups of the timer thread. Most deadlines
//! never fire, because the run finishes first. So all alarms are in one sorted list, and there is a
//! timer for the first one. A new timer is started only for an earlier alarm. An alarm that is dropped
//! leaves the list; the timer remains, and wakes nothing when it fires. Where a pending timer keeps
//! the process alive, the timer is dropped with the last alarm.
//!
//! A timer can fire while it is polled, and then calls its waker on that thread. So the list is never
//! locked while a timer is polled or dropped, or while a waker is called or dropped.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_timer::Delay;

use super::clock::{self, Instant};
use crate::panics::discard;

/// Wakes a waker at a given time, unless the alarm is dropped before.
pub(super) struct Alarm {
    /// Its key in the list.
    key: Key,
}

/// The time of an alarm, and a number to tell alarms of the same time apart.
type Key = (Instant, u64);

/// The next number of an alarm or a timer.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// The longest delay of a timer in JavaScript. If a timer fires too early, the next one is started.
const MAX_DELAY: Duration = Duration::from_millis(i32::MAX as u64);

/// The alarms of the process.
static LIST: Mutex<List> = Mutex::new(List {
    wakers: BTreeMap::new(),
    timer: None,
});

struct List {
    /// The wakers of all alarms, sorted by time.
    wakers: BTreeMap<Key, Waker>,
    /// The current timer.
    timer: Option<Timer>,
}

/// The timer for the first alarm. A timer that it has replaced may still fire, and is ignored.
struct Timer {
    /// Tells it from other timers.
    number: u64,
    /// When it fires.
    fires_at: Instant,
    /// How far its start has come.
    state: State,
}

enum State {
    /// A thread is starting it, without the lock.
    Starting,
    /// It has fired during its start.
    Fired,
    /// It was started and has not fired.
    Started(#[allow(dead_code, reason = "a timer that is dropped does not fire")] Delay),
}

type Panic = Box<dyn Any + Send>;

impl Alarm {
    /// Sets an alarm.
    ///
    /// # Panics
    ///
    /// If a timer is needed and the timer thread cannot be started, or has ended.
    pub(super) fn set(at: Instant, waker: Waker) -> Self {
        let alarm = Self {
            key: (at, next_number()),
        };
        lock().wakers.insert(alarm.key, waker);
        if let Err(payload) = set_timer(start) {
            resume_unwind(payload);
        }
        alarm
    }

    /// The time of the alarm.
    pub(super) fn at(&self) -> Instant {
        self.key.0
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut list = lock();
        let waker = list.wakers.remove(&self.key);
        let drops_timer = clock::WAITS_FOR_TIMERS && list.wakers.is_empty();
        let timer = drops_timer.then(|| list.timer.take());
        drop(list);
        drop((waker, timer));
    }
}

impl List {
    /// If the current timer fires too late for the first alarm, replaces it by one that is to be
    /// started. Returns the number and the time of the new timer, and the old timer.
    fn next_timer(&mut self) -> Option<(u64, Instant, Option<Timer>)> {
        let (&(first, _), _) = self.wakers.first_key_value()?;
        if self
            .timer
            .as_ref()
            .is_some_and(|timer| timer.fires_at <= first)
        {
            return None;
        }
        let number = next_number();
        let replaced = self.timer.replace(Timer {
            number,
            fires_at: first,
            state: State::Starting,
        });
        Some((number, first, replaced))
    }

    /// The current timer, if it has this number.
    fn timer(&mut self, number: u64) -> Option<&mut Timer> {
        self.timer.as_mut().filter(|timer| timer.number == number)
    }

    /// Takes the wakers of the alarms that are due.
    fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(first) = self.wakers.first_entry() {
            if first.key().0 > now {
                break;
            }
            due.push(first.remove());
        }
        due
    }
}

fn lock() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next_number() -> u64 {
    // Relaxed: the numbers only have to differ.
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Starts a timer, which may fire before this returns.
fn start(after: Duration, waker: &Waker) -> Delay {
    let mut delay = Delay::new(after.min(MAX_DELAY));
    if Pin::new(&mut delay)
        .poll(&mut Context::from_waker(waker))
        .is_ready()
    {
        waker.wake_by_ref();
    }
    delay
}

/// Makes sure that a timer fires no later than the first alarm. Wakes the alarms that come due
/// meanwhile.
fn set_timer(start: impl Fn(Duration, &Waker) -> Delay) -> Result<(), Panic> {
    set_timer_and_wake(Vec::new(), start)
}

/// Sets the timer as [`set_timer`] does, then calls `due`. The timer is set first, because a waker may
/// block until another alarm fires. If no timer can be started, wakes all alarms, so that each run is
/// polled and tries again.
fn set_timer_and_wake(
    mut due: Vec<Waker>,
    start: impl Fn(Duration, &Waker) -> Delay,
) -> Result<(), Panic> {
    let result = loop {
        let next = lock().next_timer();
        let Some((number, fires_at, replaced)) = next else {
            break Ok(());
        };
        let after = fires_at.saturating_duration_since(clock::now());
        let waker = Waker::from(Arc::new(TimerWaker { number }));
        let started = catch_unwind(AssertUnwindSafe(|| {
            drop(replaced);
            start(after, &waker)
        }));

        let mut list = lock();
        let Some(timer) = list.timer(number) else {
            drop(list);
            // Another thread is starting an earlier timer, and handles the rest.
            if let Err(payload) = started {
                discard(payload);
            }
            break Ok(());
        };
        match started {
            Ok(delay) if matches!(timer.state, State::Starting) => {
                timer.state = State::Started(delay);
                break Ok(());
            }
            Ok(delay) => {
                list.timer = None;
                due.extend(list.take_due(clock::now()));
                drop(list);
                drop(delay);
            }
            Err(payload) => {
                list.timer = None;
                due.extend(std::mem::take(&mut list.wakers).into_values());
                break Err(payload);
            }
        }
    };
    wake_all(due);
    result
}

/// Calls all wakers, even if one panics. The panic must not end the timer thread of the process.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            discard(payload);
        }
    }
}

/// The waker of a timer. The timer may fire too early, or for an alarm that was dropped.
struct TimerWaker {
    /// The number of the timer.
    number: u64,
}

impl Wake for TimerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut list = lock();
        let Some(timer) = list.timer(self.number) else {
            return;
        };
        if !matches!(timer.state, State::Started(_)) {
            timer.state = State::Fired;
            return;
        }
        let fired = list.timer.take();
        let due = list.take_due(clock::now());
        drop(list);
        drop(fired);
        if let Err(payload) = set_timer_and_wake(due, start) {
            // All alarms were woken, and their runs try again.
            discard(payload);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
