//! The alarm of a run: the sleep of its timer that wakes it at the next deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use pin_project_lite::pin_project;

use super::ready::{RaisedFlag, Ready};
use super::signals::AnySignals;
use crate::panics::Panics;
use crate::sealed::Sealed;
use crate::timer::{Instant, Timer, TimerKind, failures};

pin_project! {
    /// One sleep at a time, which wakes the task itself. It may end before the next deadline: a spurious
    /// wakeup costs less than another sleep.
    pub(crate) struct Alarm<Z> {
        #[pin]
        sleep: Option<Z>,
        // When the sleep completes. None if there is none, or it has completed.
        at: Option<Instant>,
        // The time of the latest sleep that has completed.
        slept_until: Option<Instant>,
        // Whether the task that polled the sleep last was the one that the run knew.
        is_known: bool,
        // How often alarms had been lost then.
        failures: u64,
    }
}

impl<Z> Alarm<Z> {
    pub(crate) fn new() -> Self {
        Self {
            sleep: None,
            at: None,
            slept_until: None,
            is_known: false,
            failures: 0,
        }
    }

    /// Whether a sleep of the default timer, which is punctual, will wake the task that has polled it. Another
    /// timer may wake a task early, and has to be asked.
    #[inline(always)]
    fn is_asleep(self: Pin<&Self>, now: Instant, kind: TimerKind) -> bool {
        kind == TimerKind::System
            && self.at > Some(now)
            && self.is_known
            && self.failures == failures()
    }

    fn clear(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.at = None;
        this.sleep.set(None);
    }
}

impl<Z: Future<Output = ()>> Alarm<Z> {
    /// Polls the sleep. Returns whether there is none, or it has completed.
    fn poll(self: Pin<&mut Self>, waker: &Waker) -> bool {
        let mut this = self.project();
        *this.failures = failures();
        // If the sleep panics, there is none any more.
        let at = this.at.take();
        let Some(sleep) = this.sleep.as_mut().as_pin_mut().filter(|_| at.is_some()) else {
            return true;
        };
        if sleep.poll(&mut Context::from_waker(waker)).is_pending() {
            *this.at = at;
            return false;
        }
        *this.slept_until = at.max(*this.slept_until);
        true
    }

    /// Starts another sleep. Returns whether it has completed at once.
    #[inline(never)]
    fn start(
        mut self: Pin<&mut Self>,
        at: Instant,
        timer: &impl Timer<Sleep = Z>,
        waker: &Waker,
    ) -> bool {
        let mut this = self.as_mut().project();
        *this.at = None;
        this.sleep.set(Some(timer.sleep_until(at)));
        *this.at = Some(at);
        self.poll(waker)
    }
}

/// The signals of an operation with its alarm, for one poll.
pub(crate) struct WithAlarm<'a, S, T: Timer> {
    pub(crate) signals: Pin<&'a mut S>,
    pub(crate) alarm: Pin<&'a mut Alarm<T::Sleep>>,
    pub(crate) timer: &'a T,
    /// The waker of the task.
    pub(crate) waker: &'a Waker,
}

impl<S, T: Timer> Sealed for WithAlarm<'_, S, T> {}

impl<S: AnySignals, T: Timer> AnySignals for WithAlarm<'_, S, T> {
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, ready: &mut Ready) {
        self.signals.as_mut().poll(ready);
    }

    #[inline(always)]
    fn may_have_drained(&self, ready: &mut Ready) -> bool {
        self.signals.may_have_drained(ready)
    }

    fn raised_drain(&self, ready: &Ready) -> Option<RaisedFlag> {
        self.signals.raised_drain(ready)
    }

    fn poll_drain(mut self: Pin<&mut Self>, ready: &mut Ready, panics: &mut Panics) -> bool {
        self.signals.as_mut().poll_drain(ready, panics)
    }

    #[inline(always)]
    fn is_cancelled(&self) -> bool {
        self.signals.is_cancelled()
    }

    #[inline(always)]
    fn is_expired(&self) -> bool {
        self.signals.is_expired()
    }

    #[inline(always)]
    fn is_drained(&self) -> bool {
        self.signals.is_drained()
    }

    #[inline(always)]
    fn poll_alarm(mut self: Pin<&mut Self>, now: Instant) -> Option<Instant> {
        let this = &mut *self;
        let is_due = this.alarm.at.is_some_and(|at| at <= now);
        if is_due && this.timer.kind() == TimerKind::Runtime {
            this.alarm.as_mut().poll(this.waker);
        }
        this.alarm.slept_until
    }

    #[inline(always)]
    fn set_alarm(
        mut self: Pin<&mut Self>,
        at: Option<Instant>,
        now: Instant,
        ready: &Ready,
    ) -> bool {
        let this = &mut *self;
        let Some(at) = at else {
            if this.alarm.at.is_some() {
                this.alarm.as_mut().clear();
            }
            return false;
        };
        let is_kept = this.alarm.at.is_some_and(|set| set <= at);
        let is_known = ready.is_registered(this.waker);
        let is_asleep = is_known && this.alarm.as_ref().is_asleep(now, this.timer.kind());
        let state = this.alarm.as_mut().project();
        *state.is_known = is_known;
        if is_kept && (is_asleep || !this.alarm.as_mut().poll(this.waker)) {
            return false;
        }
        this.alarm.as_mut().start(at, this.timer, this.waker)
    }

    #[inline]
    fn clear(mut self: Pin<&mut Self>, panics: &mut Panics) {
        self.signals.as_mut().clear(panics);
        if self.alarm.sleep.is_some() {
            panics.catch(|| self.alarm.as_mut().clear());
        }
    }
}

#[cfg(test)]
mod tests;
