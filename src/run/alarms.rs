//! One timer for all runs of the process.
//!
//! A timer of its own would cost every run an allocation and two wake-ups of the thread that runs
//! the timers. But most deadlines are there to be missed: the run has ended long before. So the
//! deadlines wait in a list, and one timer is set for the first of them. It is made anew only when
//! a deadline comes that is earlier still; one that is taken back is taken from the list, and the
//! timer finds nothing when it fires.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use futures_timer::Delay;

use super::panics::discard;

/// A waker that is woken at its time, unless this is dropped before.
pub(super) struct Alarm {
    key: Key,
}

/// When, and a number that tells apart those of the same time.
type Key = (Instant, u64);

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

static LIST: Mutex<List> = Mutex::new(List::new());

struct List {
    wakers: BTreeMap<Key, Waker>,
    /// With the time when it fires.
    timer: Option<(Instant, Delay)>,
}

impl Alarm {
    /// # Panics
    ///
    /// If a timer is needed and the thread that runs the timers cannot be started.
    pub(super) fn set(at: Instant, waker: Waker) -> Self {
        let alarm = Self {
            key: (at, NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)),
        };
        let mut list = List::lock();
        list.wakers.insert(alarm.key, waker);
        let has_fired = list.set_timer();
        drop(list);
        if has_fired {
            fire();
        }
        alarm
    }

    pub(super) fn at(&self) -> Instant {
        self.key.0
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = List::lock().wakers.remove(&self.key);
        // No foreign code under the lock.
        drop(waker);
    }
}

impl List {
    const fn new() -> Self {
        Self {
            wakers: BTreeMap::new(),
            timer: None,
        }
    }

    fn lock() -> MutexGuard<'static, Self> {
        LIST.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a timer fires at the first time in the list, or before. Returns whether it
    /// has fired already.
    fn set_timer(&mut self) -> bool {
        let Some((&(first, _), _)) = self.wakers.first_key_value() else {
            return false;
        };
        if self
            .timer
            .as_ref()
            .is_some_and(|&(fires_at, _)| fires_at <= first)
        {
            return false;
        }
        self.timer = None;
        let mut delay = Delay::new(first.saturating_duration_since(Instant::now()));
        let waker = Waker::from(Arc::new(Fires));
        let poll = Pin::new(&mut delay).poll(&mut Context::from_waker(&waker));
        self.timer = Some((first, delay));
        poll == Poll::Ready(())
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

/// The timer has fired, perhaps too early, and perhaps for a time that was taken back.
fn fire() {
    let mut has_fired = true;
    while has_fired {
        let mut list = List::lock();
        let due = list.take_due(Instant::now());
        list.timer = None;
        has_fired = list.set_timer();
        drop(list);
        wake_all(due);
    }
}

/// Wakes all of them. One that panics must neither keep the others from being woken nor end the
/// thread that runs all timers of the process.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            discard(payload);
        }
    }
}

/// What the timer wakes.
struct Fires;

impl Wake for Fires {
    fn wake(self: Arc<Self>) {
        fire();
    }
}

#[cfg(test)]
mod tests;
