//! Hands the outcomes of a run to a channel.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::delivery::{Deliver, Gone};
use crate::consumer::{Consumer, OutcomeTypes, Single};
use crate::hooks::Hooks;
use crate::in_order::Outgoing;
use crate::interrupted::resolve;
use crate::panics::Panics;
use crate::scheduler::{AnySignals, Budget, Clock, End, Policies, Ready, Run, Starts};
use crate::sealed::Sealed;
use crate::source_driver::{OutcomeSink, SourceDriver, abandon};
use crate::sources::Sources;
use crate::{Interrupted, Outcome, Reason, SourceError, Streamed};

pin_project! {
    /// The consumer of [`stream_results`](crate::stream_results()): sends outcomes into a channel.
    pub struct Sink<K, T, E, D> {
        #[pin]
        delivery: D,
        outgoing: Outgoing<K, Result<T, SourceError<E>>>,
        // What was not delivered is filled in at the end.
        streamed: Streamed<K, T, E>,
    }

    impl<K, T, E, D> PinnedDrop for Sink<K, T, E, D> {
        fn drop(this: Pin<&mut Self>) {
            let mut panics = Panics::default();
            panics.drop_each(std::mem::take(&mut this.project().streamed.unfinished));
            panics.resume();
        }
    }
}

impl<K, T, E, D> Sink<K, T, E, D> {
    pub(super) fn new(delivery: D) -> Self {
        Self {
            delivery,
            outgoing: Outgoing::at_once(),
            streamed: Streamed::default(),
        }
    }
}

impl<K, T, E, D> Sealed for Sink<K, T, E, D> {}

impl<K, T, E, D> Single for Sink<K, T, E, D> {}

impl<K, T, E, D> OutcomeTypes for Sink<K, T, E, D> {
    type Id = K;
    type Value = T;
    type Error = E;
    type Key = K;
    type Slot<F> = F;

    fn abandon<L, F, H>(
        run: &mut Run<L, K, F>,
        clock: &dyn Clock,
        hooks: &mut H,
        panics: &mut Panics,
    ) where
        H: Hooks<K, T, E>,
    {
        abandon(run, clock, hooks, panics);
    }

    fn print(&self, in_flight: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamResults")
            .field("in_flight", &in_flight)
            .finish_non_exhaustive()
    }
}

impl<K, T, E, D, F> Consumer<F> for Sink<K, T, E, D>
where
    F: Future<Output = Result<T, E>>,
    D: Deliver<Outcome<K, T, E>>,
{
    type Output = Result<Streamed<K, T, E>, Interrupted<Streamed<K, T, E>>>;

    #[inline]
    fn poll<L, S, H>(
        self: Pin<&mut Self>,
        run: &mut Run<L, K, F>,
        clock: &dyn Clock,
        signals: Pin<&mut S>,
        hooks: &mut H,
        cx: &mut Context<'_>,
    ) -> Poll<Self::Output>
    where
        L: Sources<Id = K, Future = F>,
        S: AnySignals,
        H: Hooks<K, T, E>,
    {
        let mut this = self.project();
        if run.is_new() {
            this.outgoing.begin(run.options_mut());
        }
        let sink = Sending {
            delivery: this.delivery.as_mut(),
            outgoing: this.outgoing,
            streamed: this.streamed,
        };
        let driver = &mut SourceDriver { sink, hooks };
        let end = ready!(run.poll(cx, clock, Starts::Allowed, signals, driver));
        let mut streamed = std::mem::take(this.streamed);
        (streamed.delivered, streamed.undelivered) = this.delivery.report();
        Poll::Ready(resolve(end, streamed))
    }
}

/// A sink, for one poll.
struct Sending<'a, K, T, E, D> {
    delivery: Pin<&'a mut D>,
    outgoing: &'a mut Outgoing<K, Result<T, SourceError<E>>>,
    streamed: &'a mut Streamed<K, T, E>,
}

impl<K, T, E, D> OutcomeSink<K, T, E> for Sending<'_, K, T, E, D>
where
    D: Deliver<Outcome<K, T, E>>,
{
    #[inline]
    fn accept(&mut self, position: usize, outcome: Outcome<K, T, E>) -> ControlFlow<End> {
        let deliver = |outcome| stop_if_gone(self.delivery.as_mut().deliver(outcome));
        self.outgoing.accept(position, outcome, deliver)
    }

    fn unfinished(&mut self, id: K) {
        self.streamed.unfinished.push(id);
    }

    fn leave_unseen(&mut self) {
        self.streamed.unseen = true;
    }

    fn verdict(
        &mut self,
        _: &mut impl Hooks<K, T, E>,
        _: &Policies,
        _: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        None
    }

    #[inline]
    fn poll_stop(&mut self, ready: &mut Ready) -> Option<Reason> {
        let gone = self.delivery.as_mut().is_receiver_gone(ready);
        gone.then_some(Reason::ReceiverClosed)
    }

    #[inline]
    fn flush(&mut self, ready: &mut Ready, budget: &mut Budget<'_>) -> ControlFlow<End> {
        let deliver = |outcome| stop_if_gone(self.delivery.as_mut().deliver(outcome));
        self.outgoing.flush(budget, deliver)?;
        stop_if_gone(self.delivery.as_mut().flush(ready, budget))
    }

    #[inline]
    fn can_flush(&self) -> bool {
        self.outgoing.can_flush() || self.delivery.can_flush()
    }

    #[inline]
    fn waiting(&self) -> usize {
        self.delivery.waiting() + self.outgoing.waiting()
    }

    fn held_back(&self) -> usize {
        self.outgoing.waiting()
    }

    fn ended(&mut self, _: End, panics: &mut Panics) {
        let rest = self.outgoing.take_rest().collect();
        self.delivery.as_mut().finish(rest, panics);
    }
}

fn stop_if_gone(handed_over: Result<(), Gone>) -> ControlFlow<End> {
    match handed_over {
        Ok(()) => ControlFlow::Continue(()),
        Err(Gone) => ControlFlow::Break(Err(Reason::ReceiverClosed)),
    }
}
