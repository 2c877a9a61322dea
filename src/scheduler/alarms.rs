//! One timer for all runs of the process.
//!
//! A timer of its own would cost every run an allocation and two wake-ups of the thread that runs
//! the timers. But most deadlines are there to be missed: the run has ended long before. So the
//! deadlines wait in a list, and one timer is set for the first of them. It is made anew only when
//! a deadline comes that is earlier still; one that is taken back is taken from the list, and the
//! timer finds nothing when it fires. Only where the process would wait for it, the timer goes with
//! the last deadline.
//!
//! A timer that fires while it is being polled wakes its waker then and there, on the thread that
//! polls it. So neither this nor anything else that is foreign runs under the list's lock.

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
use super::panics::discard;

/// A waker that is woken at its time, unless this is dropped before.
pub(super) struct Alarm {
    key: Key,
}

/// When, and a number that tells apart those of the same time.
type Key = (Instant, u64);

/// Numbers for alarms and timers.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// What a timer of JavaScript can express, in milliseconds. One that fires too early is followed by
/// another.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

static LIST: Mutex<List> = Mutex::new(List {
    wakers: BTreeMap::new(),
    timer: None,
});

struct List {
    wakers: BTreeMap<Key, Waker>,
    timer: Option<Timer>,
}

/// The timer that will fire next. Any other that still fires is not needed any more.
struct Timer {
    number: u64,
    fires_at: Instant,
    state: State,
}

enum State {
    /// Somebody is about to start it.
    Starting,
    /// It has fired before it was started.
    Fired,
    Started(#[allow(dead_code, reason = "it fires as long as it is kept")] Delay),
}

type Panic = Box<dyn Any + Send>;

impl Alarm {
    /// # Panics
    ///
    /// If a timer is needed and the thread that runs the timers cannot be started, or is gone.
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

    pub(super) fn at(&self) -> Instant {
        self.key.0
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut list = lock();
        let waker = list.wakers.remove(&self.key);
        let not_needed = clock::WAITS_FOR_TIMERS && list.wakers.is_empty();
        let timer = not_needed.then(|| list.timer.take());
        drop(list);
        drop((waker, timer));
    }
}

impl List {
    /// Decides on a new timer if none fires at the first time in the list, or before. Returns its
    /// number and time, and the timer before it.
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
        let before = self.timer.replace(Timer {
            number,
            fires_at: first,
            state: State::Starting,
        });
        Some((number, first, before))
    }

    /// The timer of this number, if it is still the one that will fire next.
    fn timer(&mut self, number: u64) -> Option<&mut Timer> {
        self.timer.as_mut().filter(|timer| timer.number == number)
    }

    /// Takes the wakers whose time has come.
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
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Starts a timer, which may fire before this returns.
fn start(after: Duration, waker: &Waker) -> Delay {
    let mut delay = Delay::new(after.min(LONGEST));
    if Pin::new(&mut delay)
        .poll(&mut Context::from_waker(waker))
        .is_ready()
    {
        waker.wake_by_ref();
    }
    delay
}

/// Sees to it that a timer fires at the first time in the list, or before, and wakes those whose
/// time has come meanwhile, if any.
fn set_timer(start: impl Fn(Duration, &Waker) -> Delay) -> Result<(), Panic> {
    cover_first(Vec::new(), start)
}

/// The same, with wakers that are due already. They are woken last, because what they do may take
/// its time, or wait for another alarm. If no timer can be had, all wakers are woken, so that
/// whoever waits for one comes and finds out.
fn cover_first(
    mut due: Vec<Waker>,
    start: impl Fn(Duration, &Waker) -> Delay,
) -> Result<(), Panic> {
    let result = loop {
        let next = lock().next_timer();
        let Some((number, fires_at, before)) = next else {
            break Ok(());
        };
        let after = fires_at.saturating_duration_since(clock::now());
        let waker = Waker::from(Arc::new(Fires { number }));
        let started = catch_unwind(AssertUnwindSafe(|| {
            drop(before);
            start(after, &waker)
        }));

        let mut list = lock();
        let Some(timer) = list.timer(number) else {
            drop(list);
            // Somebody is starting an earlier one, and will see what there is to see.
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

/// Wakes all of them. One that panics must neither keep the others from being woken nor end the
/// thread that runs all timers of the process.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            discard(payload);
        }
    }
}

/// What a timer wakes: perhaps too early, and perhaps for a time that was taken back.
struct Fires {
    number: u64,
}

impl Wake for Fires {
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
        if let Err(payload) = cover_first(due, start) {
            // All who wait were woken, and will see for themselves.
            discard(payload);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
