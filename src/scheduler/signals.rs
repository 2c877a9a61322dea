//! The caller's futures that end a run: to cancel it, or to time it out.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::ready::{Flag, Ready};
use crate::panics::{Panics, contain};

/// A signal that never completes: the default if neither `cancel_on` nor `expire_on` is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Never {}

impl Future for Never {
    type Output = Never;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Never> {
        match *self {}
    }
}

pin_project! {
    /// The signals of a run: the futures passed to `cancel_on` and to `expire_on`.
    pub struct Signals<C = Never, X = Never> {
        #[pin]
        cancel: Watch<C>,
        #[pin]
        expire: Watch<X>,
        // Whether a signal was added and not polled yet, or has panicked.
        is_new: bool,
        is_cancelled: bool,
        is_expired: bool,
    }
}

impl Signals {
    pub(crate) fn none() -> Self {
        Self {
            cancel: Watch::idle(),
            expire: Watch::idle(),
            is_new: false,
            is_cancelled: false,
            is_expired: false,
        }
    }
}

impl<C, X> Signals<C, X> {
    /// Adds a signal that cancels the run.
    pub(crate) fn cancel_on<S>(self, signal: S) -> Signals<First<C, S>, X> {
        Signals {
            cancel: self.cancel.or(signal),
            expire: self.expire,
            is_new: true,
            is_cancelled: false,
            is_expired: false,
        }
    }

    /// Adds a signal that times the run out.
    pub(crate) fn expire_on<S>(self, signal: S) -> Signals<C, First<X, S>> {
        Signals {
            cancel: self.cancel,
            expire: self.expire.or(signal),
            is_new: true,
            is_cancelled: false,
            is_expired: false,
        }
    }

    /// Whether a signal has cancelled the run.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// Whether a signal has timed the run out.
    pub(crate) fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// Drops the signals.
    #[inline]
    pub(crate) fn clear(self: Pin<&mut Self>, panics: &mut Panics) {
        let this = self.project();
        if this.cancel.future.is_some() {
            panics.catch(|| this.cancel.clear());
        }
        if this.expire.future.is_some() {
            panics.catch(|| this.expire.clear());
        }
    }
}

impl<C: Future, X: Future> Signals<C, X> {
    /// Polls the signals that are new or were woken. Their completion is stored, so that a panic
    /// elsewhere in the same poll does not lose it.
    ///
    /// # Panics
    ///
    /// If a signal panics. All other signals are polled before.
    #[inline(always)]
    pub(crate) fn poll(self: Pin<&mut Self>, ready: &mut Ready) {
        if self.is_new || ready.has_flag(&[Flag::Cancel, Flag::Expire]) {
            self.poll_due(ready);
        }
    }

    #[inline(never)]
    fn poll_due(self: Pin<&mut Self>, ready: &mut Ready) {
        let this = self.project();
        *this.is_new = false;
        let mut panics = Panics::default();
        *this.is_cancelled |= poll_signal(this.cancel, ready, Flag::Cancel, &mut panics);
        *this.is_expired |= poll_signal(this.expire, ready, Flag::Expire, &mut panics);
        *this.is_new = panics.is_some();
        panics.resume();
    }
}

/// Polls a signal. After a panic it is polled again in the next poll of the run: it may consist of
/// several signals, of which one has panicked.
fn poll_signal<S: Future>(
    mut signal: Pin<&mut Watch<S>>,
    ready: &mut Ready,
    flag: Flag,
    panics: &mut Panics,
) -> bool {
    match panics.catch(|| signal.as_mut().poll(ready, flag)) {
        Some(poll) => poll.is_ready(),
        None => {
            signal.renew();
            false
        }
    }
}

impl<C, X> fmt::Debug for Signals<C, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

pin_project! {
    /// A future beside the sources. It is polled when it is new, and then only when it was woken. After
    /// it has completed or panicked it is idle: it is not polled again.
    pub(crate) struct Watch<S> {
        #[pin]
        future: Option<S>,
        state: State,
        waker: Option<Waker>,
    }

    impl<S> PinnedDrop for Watch<S> {
        fn drop(this: Pin<&mut Self>) {
            contain(|| this.project().future.set(None));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// Polled, and pending.
    Waiting,
    Idle,
}

impl<S> Watch<S> {
    pub(crate) fn idle() -> Self {
        Self {
            future: None,
            state: State::Idle,
            waker: None,
        }
    }

    pub(crate) fn new(future: S) -> Self {
        Self {
            future: Some(future),
            state: State::New,
            waker: None,
        }
    }

    pub(crate) fn set(self: Pin<&mut Self>, future: S) {
        let mut this = self.project();
        this.future.set(Some(future));
        *this.state = State::New;
    }

    /// Marks the future to be polled again without a wake.
    fn renew(self: Pin<&mut Self>) {
        *self.project().state = State::New;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    pub(crate) fn clear(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.state = State::Idle;
        *this.waker = None;
        this.future.set(None);
    }

    fn or<T>(mut self, signal: T) -> Watch<First<S, T>> {
        Watch::new(First {
            before: self.future.take(),
            signal: Last {
                future: Some(signal),
                is_over: false,
            },
            is_complete: false,
        })
    }
}

impl<S: Future> Watch<S> {
    /// Polls the future if it is new or was woken.
    pub(crate) fn poll(self: Pin<&mut Self>, ready: &mut Ready, flag: Flag) -> Poll<S::Output> {
        // Clear the flag before the poll, so that a wake during the poll is not lost. Clear it even if
        // there is nothing to poll, so that a late wake does not keep the run busy.
        let woken = ready.take_flag(flag);
        let this = self.project();
        if *this.state == State::Idle || (*this.state == State::Waiting && !woken) {
            return Poll::Pending;
        }
        let waker = this.waker.get_or_insert_with(|| ready.flag_waker(flag));
        poll_once(this.future, this.state, waker)
    }

    /// Polls the future with a no-op waker.
    pub(crate) fn poll_now(self: Pin<&mut Self>) -> Poll<S::Output> {
        let this = self.project();
        if *this.state == State::Idle {
            return Poll::Pending;
        }
        poll_once(this.future, this.state, Waker::noop())
    }
}

fn poll_once<S: Future>(
    future: Pin<&mut Option<S>>,
    state: &mut State,
    waker: &Waker,
) -> Poll<S::Output> {
    let Some(future) = future.as_pin_mut() else {
        return Poll::Pending;
    };
    // Idle, in case the poll panics.
    *state = State::Idle;
    let poll = future.poll(&mut Context::from_waker(waker));
    if poll.is_pending() {
        *state = State::Waiting;
    }
    poll
}

pin_project! {
    /// Completes when the first of several signals completes. Each call of `cancel_on` or `expire_on`
    /// adds one. If one of them panics, the panic unwinds, and the others still count.
    pub struct First<A, B> {
        // The signals added before: `Never`, or another `First`.
        #[pin]
        before: Option<A>,
        #[pin]
        signal: Last<B>,
        is_complete: bool,
    }
}

impl<A: Future, B: Future> Future for First<A, B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let mut panics = Panics::default();
        if let Some(before) = this.before.as_pin_mut() {
            let poll = panics.catch(|| before.poll(cx));
            *this.is_complete |= poll.is_some_and(|poll| poll.is_ready());
        }
        let is_complete = panics.catch(|| this.signal.poll(cx));
        *this.is_complete |= is_complete == Some(true);
        panics.resume();
        match *this.is_complete {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<A, B> fmt::Debug for First<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("First").finish_non_exhaustive()
    }
}

pin_project! {
    /// The signal added last. It is not polled again after it has completed or panicked.
    struct Last<S> {
        #[pin]
        future: Option<S>,
        is_over: bool,
    }

    impl<S> PinnedDrop for Last<S> {
        fn drop(this: Pin<&mut Self>) {
            contain(|| this.project().future.set(None));
        }
    }
}

impl<S: Future> Last<S> {
    /// Returns whether the signal has completed in this poll.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let this = self.project();
        let Some(future) = this.future.as_pin_mut().filter(|_| !*this.is_over) else {
            return false;
        };
        *this.is_over = true;
        *this.is_over = future.poll(cx).is_ready();
        *this.is_over
    }
}

#[cfg(test)]
mod tests;
