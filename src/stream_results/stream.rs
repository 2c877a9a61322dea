//! What becomes of each outcome: it is told of, and handed over.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::delivery::{Deliver, Gone};
use crate::run::{Budget, End, Observe, Operation, Panics, Ready};
use crate::{Outcome, Reason, SourceError};

/// Where the outcomes of a run go: into the channel.
pub(super) struct Stream<'a, K, D> {
    pub(super) delivery: Pin<&'a mut D>,
    pub(super) unfinished: &'a mut Vec<K>,
}

impl<K, D> Stream<'_, K, D> {
    fn deliver<T, E>(
        &mut self,
        (id, result): Outcome<K, T, E>,
        hooks: &mut impl Observe<K, T, E>,
        panics: &mut Panics,
    ) -> ControlFlow<End>
    where
        D: Deliver<Outcome<K, T, E>>,
    {
        panics.catch(|| hooks.finished(&id, result.as_ref()));
        stop_if_gone(self.delivery.as_mut().deliver((id, result)))
    }
}

impl<K, F, T, E, D, H> Operation<K, F, H> for Stream<'_, K, D>
where
    F: Future<Output = Result<T, E>>,
    D: Deliver<Outcome<K, T, E>>,
    H: Observe<K, T, E>,
{
    type Output = Result<T, E>;
    type Rest = ();

    fn poll_source(
        &mut self,
        source: Pin<&mut F>,
        cx: &mut Context<'_>,
        _: bool,
    ) -> Poll<Self::Output> {
        source.poll(cx)
    }

    fn stop(
        &mut self,
        _: Pin<&mut F>,
        _: Reason,
        _: &mut Budget,
        _: &mut Panics,
    ) -> Poll<Self::Rest> {
        Poll::Ready(())
    }

    fn finished(
        &mut self,
        id: K,
        output: Self::Output,
        hooks: &mut H,
        panics: &mut Panics,
    ) -> ControlFlow<End> {
        self.deliver((id, output.map_err(SourceError::Failed)), hooks, panics)
    }

    fn timed_out(&mut self, id: K, hooks: &mut H, panics: &mut Panics) -> ControlFlow<End> {
        self.deliver((id, Err(SourceError::TimedOut)), hooks, panics)
    }

    fn panicked(&mut self, id: K, message: String, hooks: &mut H, panics: &mut Panics) {
        // A receiver that is gone is seen by the next poll.
        let _ = self.deliver((id, Err(SourceError::Panicked(message))), hooks, panics);
    }

    fn unfinished(&mut self, id: K, (): ()) {
        self.unfinished.push(id);
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
