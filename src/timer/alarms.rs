//! A few timers for the alarms of all runs of the process.
//!
//! A timer for each run would cost an allocation and two wakeups of the timer thread. Most deadlines
//! never fire, because the run finishes first. So alarms are in sorted lists, and each list has a timer
//! for its first alarm. A new timer is started only for an earlier alarm. An alarm that is dropped
//! leaves its list; the timer remains, and wakes nothing when it fires. Where a pending timer keeps
//! the process alive, the timer is dropped with the last alarm of its list.
//!
//! There are several lists, so that threads that set alarms do not wait for each other.
//!
//! A timer can fire while it is polled, and then calls its waker on that thread. So a list is never
//! locked while a timer is polled or dropped, or while a waker is called or dropped.

mod heap;

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_timer::Delay;

use super::Instant;
use crate::panics::discard;
use heap::Heap;

/// The number of lists.
const LISTS: usize = 16;

/// The alarms of the process.
static ALARMS: [List; LISTS] = [const { List::new() }; LISTS];

/// The list of the next thread.
static NEXT_LIST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The list for the alarms that this thread sets.
    // Relaxed: the threads only have to be spread over the lists.
    static OWN: Cell<usize> = Cell::new(NEXT_LIST.fetch_add(1, Ordering::Relaxed) % LISTS);
}

/// Wakes a waker at a given time, unless the alarm is dropped before.
pub(super) struct Alarm {
    list: &'static List,
    /// Its place in the list.
    slot: u32,
}

/// How often no timer could be started, and alarms were lost.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Counts the times that alarms were lost, because no timer could be started.
#[inline]
pub(crate) fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// The next number of a timer.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Whether a pending timer keeps the process alive, as in Node.
const WAITS_FOR_TIMERS: bool = cfg!(all(target_family = "wasm", target_os = "unknown"));

/// The longest delay of a timer in JavaScript. If a timer fires too early, the next one is started.
const MAX_DELAY: Duration = Duration::from_millis(i32::MAX as u64);

/// A list of alarms.
struct List(Mutex<Alarms>);

struct Alarms {
    heap: Heap,
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
        // A destructor of another thread-local may set an alarm, when this one is gone.
        let own = OWN.try_with(Cell::get).unwrap_or(0);
        Self::set_in(&ALARMS[own], at, waker)
    }

    fn set_in(list: &'static List, at: Instant, waker: Waker) -> Self {
        let mut alarms = list.lock();
        let slot = alarms.heap.insert(at, waker);
        let has_timer = alarms.has_timer();
        drop(alarms);
        let alarm = Self { list, slot };
        if !has_timer {
            if let Err(payload) = list.set_timer(start) {
                resume_unwind(payload);
            }
        }
        alarm
    }

    /// Whether it has not gone off, and wakes the same task as this waker.
    pub(super) fn will_wake(&self, waker: &Waker) -> bool {
        let alarms = self.list.lock();
        let ours = alarms.heap.waker(self.slot);
        ours.is_some_and(|ours| ours.will_wake(waker))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut alarms = self.list.lock();
        let waker = alarms.heap.remove(self.slot);
        let drops_timer = WAITS_FOR_TIMERS && alarms.heap.first().is_none();
        let timer = drops_timer.then(|| alarms.timer.take());
        drop(alarms);
        drop((waker, timer));
    }
}

impl Alarms {
    /// Whether there is no alarm before the current timer fires.
    fn has_timer(&self) -> bool {
        self.heap.first().is_none_or(|first| {
            let timer = self.timer.as_ref();
            timer.is_some_and(|timer| timer.fires_at <= first)
        })
    }

    /// If the current timer fires too late for the first alarm, replaces it by one that is to be
    /// started. Returns the number and the time of the new timer, and the old timer.
    fn next_timer(&mut self) -> Option<(u64, Instant, Option<Timer>)> {
        let first = self.heap.first().filter(|_| !self.has_timer())?;
        // Relaxed: the numbers only have to differ.
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
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

impl List {
    const fn new() -> Self {
        Self(Mutex::new(Alarms {
            heap: Heap::new(),
            timer: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Alarms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that a timer fires no later than the first alarm. Wakes the alarms that come due
    /// meanwhile.
    fn set_timer(&'static self, start: impl Fn(Duration, &Waker) -> Delay) -> Result<(), Panic> {
        self.set_timer_and_wake(Vec::new(), start)
    }

    /// Sets the timer as [`set_timer`] does, then calls `due`. The timer is set first, because a waker may
    /// block until another alarm fires. If no timer can be started, wakes all alarms, so that each run is
    /// polled and tries again.
    fn set_timer_and_wake(
        &'static self,
        mut due: Vec<Waker>,
        start: impl Fn(Duration, &Waker) -> Delay,
    ) -> Result<(), Panic> {
        let result = loop {
            let next = self.lock().next_timer();
            let Some((number, fires_at, replaced)) = next else {
                break Ok(());
            };
            let after = fires_at.saturating_duration_since(Instant::now());
            let waker = Waker::from(Arc::new(TimerWaker { list: self, number }));
            let started = catch_unwind(AssertUnwindSafe(|| {
                drop(replaced);
                start(after, &waker)
            }));

            let mut alarms = self.lock();
            let Some(timer) = alarms.timer(number) else {
                drop(alarms);
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
                    alarms.timer = None;
                    due.extend(alarms.heap.take_due(Instant::now()));
                    drop(alarms);
                    drop(delay);
                }
                Err(payload) => {
                    // Relaxed: each run whose alarm is gone is woken afterwards.
                    FAILURES.fetch_add(1, Ordering::Relaxed);
                    alarms.timer = None;
                    due.extend(alarms.heap.take_all());
                    break Err(payload);
                }
            }
        };
        wake_all(due);
        result
    }
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
    list: &'static List,
    /// The number of the timer.
    number: u64,
}

impl Wake for TimerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut alarms = self.list.lock();
        let Some(timer) = alarms.timer(self.number) else {
            return;
        };
        if !matches!(timer.state, State::Started(_)) {
            timer.state = State::Fired;
            return;
        }
        let fired = alarms.timer.take();
        let due = alarms.heap.take_due(Instant::now());
        drop(alarms);
        drop(fired);
        if let Err(payload) = self.list.set_timer_and_wake(due, start) {
            // All alarms were woken, and their runs try again.
            discard(payload);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
