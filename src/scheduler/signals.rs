//! The caller's futures that end a run: to cancel it, to time it out, or to let it drain.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::ready::{Flag, RaisedFlag, Ready};
use crate::panics::{Panics, contain};
use crate::sealed::Sealed;
use crate::timer::Instant;

/// A signal that never completes: the default if no method such as `cancel_on` is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Never {}

impl Future for Never {
    type Output = Never;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Never> {
        match *self {}
    }
}

pin_project! {
    /// The signals of a run: the futures passed to `cancel_on`, to `expire_on` and to `drain_on`.
    pub struct Signals<C = Never, X = Never, D = Never> {
        #[pin]
        cancel: Watch<C>,
        #[pin]
        expire: Watch<X>,
        #[pin]
        drain: Watch<D>,
        // Whether a signal was added and not polled yet, or has panicked.
        is_new: bool,
        is_cancelled: bool,
        is_expired: bool,
        is_drained: bool,
    }
}

/// The future of `drain_on`, or none.
///
/// The trait is sealed: [`Never`] and [`First`] implement it.
pub trait MaybeSignal: Future + Sealed {
    /// Whether there is a future.
    #[doc(hidden)]
    const IS_SET: bool;
}

impl Sealed for Never {}

impl MaybeSignal for Never {
    const IS_SET: bool = false;
}

impl<A, B> Sealed for First<A, B> {}

impl<A: Future, B: Future> MaybeSignal for First<A, B> {
    const IS_SET: bool = true;
}

/// The signals of a run, whatever their futures are.
///
/// The trait is sealed: [`Signals`] implements it.
pub trait AnySignals: Sealed {
    /// Polls the signals that are new or were woken. Their completion is stored, so that a panic
    /// elsewhere in the same poll does not lose it.
    ///
    /// # Panics
    ///
    /// If a signal panics. All other signals are polled before.
    #[doc(hidden)]
    fn poll(self: Pin<&mut Self>, ready: &mut Ready);

    /// Whether the signal of `drain_on` was woken since it was polled last, so that it may have
    /// completed.
    #[doc(hidden)]
    fn may_have_drained(&self, ready: &mut Ready) -> bool;

    /// Shows to a run inside this one whether the signal of `drain_on` was woken, if there is one.
    #[doc(hidden)]
    fn raised_drain(&self, ready: &Ready) -> Option<RaisedFlag>;

    /// Polls the signal of `drain_on`. Returns whether it has completed. A panic is noted in `panics`.
    #[doc(hidden)]
    fn poll_drain(self: Pin<&mut Self>, ready: &mut Ready, panics: &mut Panics) -> bool;

    /// Whether a signal has cancelled the run.
    #[doc(hidden)]
    fn is_cancelled(&self) -> bool;

    /// Whether a signal has timed the run out.
    #[doc(hidden)]
    fn is_expired(&self) -> bool;

    /// Whether a signal has told the run to start no more sources.
    #[doc(hidden)]
    fn is_drained(&self) -> bool;

    /// The time of the latest alarm that has gone off.
    #[doc(hidden)]
    fn poll_alarm(self: Pin<&mut Self>, _now: Instant) -> Option<Instant> {
        None
    }

    /// Sets the alarm. Returns whether it has gone off at once.
    #[doc(hidden)]
    fn set_alarm(
        self: Pin<&mut Self>,
        _at: Option<Instant>,
        _now: Instant,
        _ready: &Ready,
    ) -> bool {
        false
    }

    /// Drops the signals, and the alarm.
    #[doc(hidden)]
    fn clear(self: Pin<&mut Self>, panics: &mut Panics);
}

impl Signals {
    pub(crate) fn none() -> Self {
        Self::new(Watch::idle(), Watch::idle(), Watch::idle(), false)
    }
}

impl<C, X, D> Signals<C, X, D> {
    fn new(cancel: Watch<C>, expire: Watch<X>, drain: Watch<D>, is_new: bool) -> Self {
        Self {
            cancel,
            expire,
            drain,
            is_new,
            is_cancelled: false,
            is_expired: false,
            is_drained: false,
        }
    }

    /// Adds a signal that cancels the run.
    pub(crate) fn cancel_on<S>(self, signal: S) -> Signals<First<C, S>, X, D> {
        Signals::new(self.cancel.or(signal), self.expire, self.drain, true)
    }

    /// Adds a signal that times the run out.
    pub(crate) fn expire_on<S>(self, signal: S) -> Signals<C, First<X, S>, D> {
        Signals::new(self.cancel, self.expire.or(signal), self.drain, true)
    }

    /// Adds a signal after which the run starts no more sources.
    pub(crate) fn drain_on<S>(self, signal: S) -> Signals<C, X, First<D, S>> {
        Signals::new(self.cancel, self.expire, self.drain.or(signal), true)
    }
}

impl<C, X, D> Sealed for Signals<C, X, D> {}

impl<C: Future, X: Future, D: MaybeSignal> AnySignals for Signals<C, X, D> {
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, ready: &mut Ready) {
        if self.is_new || ready.has_flag(&[Flag::Cancel, Flag::Expire, Flag::Drain]) {
            self.poll_due(ready);
        }
    }

    #[inline(always)]
    fn may_have_drained(&self, ready: &mut Ready) -> bool {
        D::IS_SET && ready.is_raised(Flag::Drain)
    }

    fn raised_drain(&self, ready: &Ready) -> Option<RaisedFlag> {
        D::IS_SET.then(|| ready.raised_flag(Flag::Drain))
    }

    fn poll_drain(self: Pin<&mut Self>, ready: &mut Ready, panics: &mut Panics) -> bool {
        let this = self.project();
        *this.is_drained |= poll_signal(this.drain, ready, Flag::Drain, panics);
        *this.is_new |= panics.is_some();
        *this.is_drained
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    fn is_expired(&self) -> bool {
        self.is_expired
    }

    fn is_drained(&self) -> bool {
        D::IS_SET && self.is_drained
    }

    #[inline]
    fn clear(self: Pin<&mut Self>, panics: &mut Panics) {
        let this = self.project();
        drop_signal(this.cancel, panics);
        drop_signal(this.expire, panics);
        drop_signal(this.drain, panics);
    }
}

impl<C: Future, X: Future, D: MaybeSignal> Signals<C, X, D> {
    #[inline(never)]
    fn poll_due(self: Pin<&mut Self>, ready: &mut Ready) {
        let this = self.project();
        *this.is_new = false;
        let mut panics = Panics::default();
        *this.is_cancelled |= poll_signal(this.cancel, ready, Flag::Cancel, &mut panics);
        *this.is_expired |= poll_signal(this.expire, ready, Flag::Expire, &mut panics);
        *this.is_drained |= poll_signal(this.drain, ready, Flag::Drain, &mut panics);
        *this.is_new = panics.is_some();
        panics.resume();
    }
}

/// The signals of a run inside another run. They are those of that one, and so is the alarm.
pub(crate) struct Inside<'a> {
    /// The signal to drain of the run around, if it has one.
    pub(crate) drain: Option<&'a RaisedFlag>,
    /// The time of the latest alarm of the run around that has gone off.
    pub(crate) slept_until: Option<Instant>,
    /// When the run around is to poll this one.
    pub(crate) wakes_at: &'a mut Option<Instant>,
}

impl Sealed for Inside<'_> {}

impl AnySignals for Inside<'_> {
    fn poll(self: Pin<&mut Self>, _: &mut Ready) {}

    #[inline]
    fn may_have_drained(&self, _: &mut Ready) -> bool {
        self.drain.is_some_and(RaisedFlag::is_raised)
    }

    fn raised_drain(&self, _: &Ready) -> Option<RaisedFlag> {
        None
    }

    // The run around polls it.
    fn poll_drain(self: Pin<&mut Self>, _: &mut Ready, _: &mut Panics) -> bool {
        false
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn is_expired(&self) -> bool {
        false
    }

    fn is_drained(&self) -> bool {
        false
    }

    fn poll_alarm(self: Pin<&mut Self>, _: Instant) -> Option<Instant> {
        self.slept_until
    }

    fn set_alarm(mut self: Pin<&mut Self>, at: Option<Instant>, _: Instant, _: &Ready) -> bool {
        *self.wakes_at = at;
        false
    }

    fn clear(self: Pin<&mut Self>, _: &mut Panics) {}
}

/// Polls a signal. After a panic it is polled again in the next poll of the run: it may consist of
/// several signals, of which one has panicked.
fn poll_signal<S: Future>(
    mut signal: Pin<&mut Watch<S>>,
    ready: &mut Ready,
    flag: Flag,
    panics: &mut Panics,
) -> bool {
    match panics.catch(|| signal.as_mut().poll(ready, flag, &mut None)) {
        Some(poll) => poll.is_ready(),
        None => {
            signal.renew();
            false
        }
    }
}

#[inline]
fn drop_signal<S>(signal: Pin<&mut Watch<S>>, panics: &mut Panics) {
    if signal.future.is_some() {
        panics.catch(|| signal.clear());
    }
}

impl<C, X, D> fmt::Debug for Signals<C, X, D> {
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
        }
    }

    pub(crate) fn new(future: S) -> Self {
        Self {
            future: Some(future),
            state: State::New,
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
    /// Polls the future if it is new or was woken. Makes a waker unless the caller has one from an earlier
    /// poll. Signals are rarely woken, so theirs are not kept.
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        ready: &mut Ready,
        flag: Flag,
        waker: &mut Option<Waker>,
    ) -> Poll<S::Output> {
        // Clear the flag before the poll, so that a wake during the poll is not lost. Clear it even if
        // there is nothing to poll, so that a late wake does not keep the run busy.
        let woken = ready.take_flag(flag);
        let this = self.project();
        if *this.state == State::Idle || (*this.state == State::Waiting && !woken) {
            return Poll::Pending;
        }
        let waker = waker.get_or_insert_with(|| ready.flag_waker(flag));
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
    /// Completes when the first of several signals completes. Each call of `cancel_on`,
    /// `expire_on` or `drain_on` adds one. If one of them panics, the panic unwinds, and the others still count.
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
