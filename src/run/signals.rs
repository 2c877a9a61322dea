//! Futures of the caller's own that end a run: to cancel it, or to let it expire.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::panics::Panics;
use super::ready::{Flag, Ready};

/// A signal that never comes: what stands where neither `cancel_on` nor `expire_on` was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Never {}

impl Future for Never {
    type Output = Never;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Never> {
        match *self {}
    }
}

pin_project! {
    /// The signals of a run: what `cancel_on` and `expire_on` were given.
    ///
    /// It is public so that the type of an operation can be written down.
    pub struct Signals<C = Never, X = Never> {
        #[pin]
        cancel: Watch<C>,
        #[pin]
        expire: Watch<X>,
    }
}

impl Signals {
    pub(crate) fn none() -> Self {
        Self {
            cancel: Watch::idle(),
            expire: Watch::idle(),
        }
    }
}

impl<C, X> Signals<C, X> {
    /// Has the run cancelled by `signal` as well.
    pub(crate) fn cancel_on<S>(self, signal: S) -> Signals<First<C, S>, X> {
        Signals {
            cancel: self.cancel.or(signal),
            expire: self.expire,
        }
    }

    /// Has the run expire by `signal` as well.
    pub(crate) fn expire_on<S>(self, signal: S) -> Signals<C, First<X, S>> {
        Signals {
            cancel: self.cancel,
            expire: self.expire.or(signal),
        }
    }

    /// Drops the signals.
    pub(crate) fn clear(self: Pin<&mut Self>, panics: &mut Panics) {
        let this = self.project();
        panics.catch(|| this.cancel.clear());
        panics.catch(|| this.expire.clear());
    }
}

impl<C: Future, X: Future> Signals<C, X> {
    pub(crate) fn is_cancelled(self: Pin<&mut Self>, ready: &mut Ready) -> bool {
        self.project().cancel.poll(ready, Flag::Cancel).is_ready()
    }

    pub(crate) fn is_expired(self: Pin<&mut Self>, ready: &mut Ready) -> bool {
        self.project().expire.poll(ready, Flag::Expire).is_ready()
    }
}

impl<C, X> fmt::Debug for Signals<C, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

pin_project! {
    /// A future beside the sources, polled when it is new and then only when it was woken. Once it
    /// has completed, or panicked, it is idle: never polled again, and dropped with the rest.
    pub(crate) struct Watch<S> {
        #[pin]
        future: Option<S>,
        state: State,
        waker: Option<Waker>,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// Polled, and so to be woken.
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

    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    pub(crate) fn clear(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.state = State::Idle;
        *this.waker = None;
        this.future.set(None);
    }

    fn or<T>(self, other: T) -> Watch<First<S, T>> {
        Watch::new(First {
            one: self.future,
            other,
        })
    }
}

impl<S: Future> Watch<S> {
    /// Polls the future if it is new or was woken.
    pub(crate) fn poll(self: Pin<&mut Self>, ready: &mut Ready, flag: Flag) -> Poll<S::Output> {
        // The flag comes down before the poll, so that a wake during the poll is not lost, and
        // even if there is nothing to poll, so that a late wake does not keep the run busy.
        let woken = ready.take_flag(flag);
        let this = self.project();
        if *this.state == State::Idle || (*this.state == State::Waiting && !woken) {
            return Poll::Pending;
        }
        let waker = this.waker.get_or_insert_with(|| ready.flag_waker(flag));
        poll_once(this.future, this.state, waker)
    }

    /// Polls the future although nobody woke it, and nobody is to be woken.
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
    // It stays idle if the poll panics.
    *state = State::Idle;
    let poll = future.poll(&mut Context::from_waker(waker));
    if poll.is_pending() {
        *state = State::Waiting;
    }
    poll
}

pin_project! {
    /// Completes when the first of two signals does: what two calls of `cancel_on` come to.
    ///
    /// It is public so that the type of an operation can be written down.
    pub struct First<A, B> {
        #[pin]
        one: Option<A>,
        #[pin]
        other: B,
    }
}

impl<A: Future, B: Future> Future for First<A, B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let one = this.one.as_pin_mut().map(|one| one.poll(cx));
        if one.is_some_and(|poll| poll.is_ready()) || this.other.poll(cx).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<A, B> fmt::Debug for First<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("First").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
