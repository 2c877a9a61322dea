//! Hands the outcomes of a run to a channel.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::delivery::{Deliver, Gone};
use crate::consumer::{Consumer, OutcomeTypes};
use crate::hooks::Hooks;
use crate::interrupted::resolve;
use crate::panics::Panics;
use crate::scheduler::{Budget, Driver, End, Ready, Run, Signals};
use crate::sealed::Sealed;
use crate::sources::Sources;
use crate::{Event, Interrupted, Outcome, Reason, SourceError, Streamed};

pin_project! {
    /// The consumer of [`stream_results`](crate::stream_results()): sends outcomes into a channel.
    pub struct Sink<K, T, E, D> {
        #[pin]
        delivery: D,
        // What was not delivered is filled in at the end.
        streamed: Streamed<K, T, E>,
    }
}

impl<K, T, E, D> Sink<K, T, E, D> {
    pub(super) fn new(delivery: D) -> Self {
        Self {
            delivery,
            streamed: Streamed::default(),
        }
    }
}

impl<K, T, E, D> Sealed for Sink<K, T, E, D> {}

impl<K, T, E, D> OutcomeTypes for Sink<K, T, E, D> {
    type Id = K;
    type Value = T;
    type Error = E;
    type Key = K;
    type Slot<F> = F;

    fn abandon<L, F, H>(run: &mut Run<L, K, F>, hooks: &mut H, panics: &mut Panics)
    where
        H: Hooks<K, T, E>,
    {
        if !H::OBSERVES {
            return;
        }
        run.drop_each(panics, |id, elapsed| {
            let reason = Reason::Cancelled;
            hooks.tell(Event::Unfinished {
                id,
                reason,
                elapsed,
            });
        });
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
    fn poll<L, X, Y, H>(
        self: Pin<&mut Self>,
        run: &mut Run<L, K, F>,
        signals: Pin<&mut Signals<X, Y>>,
        hooks: &mut H,
        cx: &mut Context<'_>,
    ) -> Poll<Self::Output>
    where
        L: Sources<Id = K, Future = F>,
        X: Future,
        Y: Future,
        H: Hooks<K, T, E>,
    {
        let mut this = self.project();
        let mut sinking = Sinking {
            delivery: this.delivery.as_mut(),
            streamed: this.streamed,
            hooks,
        };
        let end = ready!(run.poll(cx, signals, true, &mut sinking));
        let mut streamed = std::mem::take(this.streamed);
        (streamed.delivered, streamed.undelivered) = this.delivery.report();
        Poll::Ready(resolve(end, streamed))
    }
}

/// A sink with the caller's hooks, for one poll.
struct Sinking<'a, K, T, E, D, H> {
    delivery: Pin<&'a mut D>,
    streamed: &'a mut Streamed<K, T, E>,
    hooks: &'a mut H,
}

impl<K, T, E, D, H> Sinking<'_, K, T, E, D, H>
where
    D: Deliver<Outcome<K, T, E>>,
    H: Hooks<K, T, E>,
{
    fn deliver(
        &mut self,
        (id, result): Outcome<K, T, E>,
        elapsed: Duration,
        panics: &mut Panics,
    ) -> ControlFlow<End> {
        if H::OBSERVES {
            let event = Event::Finished {
                id: &id,
                result: result.as_ref(),
                elapsed,
            };
            panics.catch(|| self.hooks.tell(event));
        }
        stop_if_gone(self.delivery.as_mut().deliver((id, result)))
    }
}

impl<K, F, T, E, D, H> Driver<K, F> for Sinking<'_, K, T, E, D, H>
where
    F: Future<Output = Result<T, E>>,
    D: Deliver<Outcome<K, T, E>>,
    H: Hooks<K, T, E>,
{
    type Answer = Result<T, E>;

    const TIMES_SOURCES: bool = H::OBSERVES;

    fn started(&mut self, id: &K) {
        self.hooks.tell(Event::Started { id });
    }

    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        _: bool,
    ) -> Poll<Self::Answer> {
        source.poll(cx)
    }

    fn finished(
        &mut self,
        id: K,
        answer: Self::Answer,
        elapsed: Duration,
        panics: &mut Panics,
    ) -> ControlFlow<End> {
        self.deliver((id, answer.map_err(SourceError::Failed)), elapsed, panics)
    }

    fn timed_out(&mut self, id: K, elapsed: Duration, panics: &mut Panics) -> ControlFlow<End> {
        self.deliver((id, Err(SourceError::TimedOut)), elapsed, panics)
    }

    fn panicked(&mut self, id: K, message: String, elapsed: Duration, panics: &mut Panics) {
        // A receiver that is gone is seen by the next poll.
        let _ = self.deliver((id, Err(SourceError::Panicked(message))), elapsed, panics);
    }

    fn unfinished(&mut self, id: K, reason: Reason, elapsed: Duration, panics: &mut Panics) {
        if H::OBSERVES {
            let id = &id;
            let event = Event::Unfinished {
                id,
                reason,
                elapsed,
            };
            panics.catch(|| self.hooks.tell(event));
        }
        self.streamed.unfinished.push(id);
    }

    fn not_started(&mut self, id: K, reason: Reason, panics: &mut Panics) {
        if H::OBSERVES {
            let event = Event::NotStarted { id: &id, reason };
            panics.catch(|| self.hooks.tell(event));
        }
        self.streamed.unfinished.push(id);
    }

    fn leave_unseen(&mut self) {
        self.streamed.unseen = true;
    }

    fn poll_stop(&mut self, ready: &mut Ready) -> Option<Reason> {
        let gone = self.delivery.as_mut().is_receiver_gone(ready);
        gone.then_some(Reason::ReceiverClosed)
    }

    fn flush(&mut self, ready: &mut Ready, budget: &mut Budget) -> ControlFlow<End> {
        stop_if_gone(self.delivery.as_mut().flush(ready, budget))
    }

    fn can_flush(&self) -> bool {
        self.delivery.can_flush()
    }

    fn waiting(&self) -> usize {
        self.delivery.waiting()
    }

    fn ended(&mut self, panics: &mut Panics) {
        self.delivery.as_mut().finish(panics);
    }
}

fn stop_if_gone(handed_over: Result<(), Gone>) -> ControlFlow<End> {
    match handed_over {
        Ok(()) => ControlFlow::Continue(()),
        Err(Gone) => ControlFlow::Break(Err(Reason::ReceiverClosed)),
    }
}
