//! Passes the outcomes of a run to bodies.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::bodies::Bodies;
use crate::consumer::{Aggregating, Consumer, OutcomeTypes, Single};
use crate::hooks::Hooks;
use crate::in_order::Outgoing;
use crate::interrupted::resolve;
use crate::panics::Panics;
use crate::scheduler::{
    AnySignals, Budget, Clock, Counts, End, Policies, Ready, Run, Starts, Verdicts,
};
use crate::sealed::Sealed;
use crate::source_driver::{OutcomeSink, SourceDriver, abandon};
use crate::sources::Sources;
use crate::{Handled, Interrupted, Outcome, Reason, SourceError};

/// The consumer of [`for_each_result`](crate::for_each_result()): passes outcomes to bodies.
pub struct Handler<K, T, E, M, G, B> {
    bodies: Bodies<K, T, E, M, G, B>,
    outgoing: Outgoing<K, Result<T, SourceError<E>>>,
    /// The result, to be filled in at the end.
    handled: Handled<K, T, E, B>,
    counts: Counts,
    verdicts: Verdicts,
    /// Whether this poll has polled the bodies before the sources.
    were_bodies_first: bool,
    /// How the run of the sources has ended, while bodies still run.
    end: Option<End>,
}

impl<K, T, E, M, G, B> Handler<K, T, E, M, G, B>
where
    M: FnMut(Outcome<K, T, E>) -> G,
{
    pub(super) fn new(body: M) -> Self {
        Self {
            bodies: Bodies::new(body),
            outgoing: Outgoing::at_once(),
            handled: Handled::default(),
            counts: Counts {
                succeeded: 0,
                failed: 0,
            },
            verdicts: Verdicts::default(),
            were_bodies_first: false,
            end: None,
        }
    }
}

impl<K, T, E, M, G, B> Handler<K, T, E, M, G, B> {
    pub(super) fn set_bodies(&mut self, limit: usize) {
        self.bodies.set_limit(limit);
    }
}

impl<K, T, E, M, G, B> Drop for Handler<K, T, E, M, G, B> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_pairs(std::mem::take(&mut self.handled.undelivered));
        panics.drop_each(std::mem::take(&mut self.handled.unfinished));
        panics.resume();
    }
}

impl<K, T, E, M, G, B> Sealed for Handler<K, T, E, M, G, B> {}

impl<K, T, E, M, G, B> Aggregating for Handler<K, T, E, M, G, B> {}

impl<K, T, E, M, G, B> Single for Handler<K, T, E, M, G, B> {}

// Nothing in it is pinned: the bodies are boxed.
impl<K, T, E, M, G, B> Unpin for Handler<K, T, E, M, G, B> {}

impl<K, T, E, M, G, B> OutcomeTypes for Handler<K, T, E, M, G, B> {
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

    fn is_idle(&self) -> bool {
        self.end.is_none()
    }

    fn print(&self, in_flight: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForEachResult")
            .field("in_flight", &in_flight)
            .field("bodies", &self.bodies.in_flight())
            .finish_non_exhaustive()
    }
}

impl<K, T, E, M, G, B, F> Consumer<F> for Handler<K, T, E, M, G, B>
where
    F: Future<Output = Result<T, E>>,
    M: FnMut(Outcome<K, T, E>) -> G,
    G: Future<Output = Result<(), B>>,
{
    type Output = Result<Handled<K, T, E, B>, Interrupted<Handled<K, T, E, B>>>;

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
        let this = self.get_mut();
        if run.is_new() {
            this.outgoing.begin(run.options_mut());
        }
        let end = match this.end {
            Some(end) => end,
            None => {
                let driver = &mut SourceDriver {
                    sink: &mut *this,
                    hooks,
                };
                let Poll::Ready(end) = run.poll(cx, clock, Starts::Allowed, signals, driver) else {
                    if run.is_naming() {
                        // It polls no bodies any more.
                        let _ = this.bodies.poll(cx, clock);
                    }
                    return Poll::Pending;
                };
                end
            }
        };
        // From now on only bodies run.
        this.end = Some(end);
        while this.bodies.poll(cx, clock).is_pending() {
            if !this.bodies.is_to_be_abandoned() {
                return Poll::Pending;
            }
            this.handled.undelivered.extend(this.bodies.abandon());
        }
        this.end = None;
        let mut handled = std::mem::take(&mut this.handled);
        (handled.handled, handled.body_errors) = this.bodies.take_results();
        let end = match end {
            Ok(()) if !handled.body_errors.is_empty() => Err(Reason::BodyFailed),
            end => end,
        };
        Poll::Ready(resolve(end, handled))
    }
}

impl<K, T, E, M, G, B> OutcomeSink<K, T, E> for &mut Handler<K, T, E, M, G, B>
where
    M: FnMut(Outcome<K, T, E>) -> G,
    G: Future<Output = Result<(), B>>,
{
    #[inline]
    fn accept(&mut self, position: usize, outcome: Outcome<K, T, E>) -> ControlFlow<End> {
        match &outcome.1 {
            Ok(_) => self.counts.succeeded += 1,
            Err(_) => self.counts.failed += 1,
        }
        self.outgoing.accept(position, outcome, |outcome| {
            self.bodies.push(outcome);
            ControlFlow::Continue(())
        })
    }

    fn unfinished(&mut self, id: K) {
        self.handled.unfinished.push(id);
    }

    fn leave_unseen(&mut self) {
        self.handled.unseen = true;
    }

    fn verdict(
        &mut self,
        _: &mut impl Hooks<K, T, E>,
        policies: &Policies,
        most_left: impl FnOnce() -> Option<usize>,
    ) -> Option<End> {
        self.verdicts
            .verdict(policies, self.counts, most_left, || false)
    }

    /// In every second poll, the bodies come before the sources: either may spend the cooperative budget
    /// of the task, or the time of a poll.
    fn flush_first(&mut self, ready: &mut Ready, budget: &mut Budget<'_>) -> ControlFlow<End> {
        self.were_bodies_first = !self.were_bodies_first && self.bodies.in_flight() > 0;
        if !self.were_bodies_first {
            return ControlFlow::Continue(());
        }
        self.pass_on(budget)?;
        self.bodies.poll_beside(ready, budget.clock());
        self.end_if_failed()
    }

    fn flush(&mut self, ready: &mut Ready, budget: &mut Budget<'_>) -> ControlFlow<End> {
        self.pass_on(budget)?;
        if !self.were_bodies_first || self.bodies.is_changed() {
            self.bodies.poll_beside(ready, budget.clock());
        }
        self.end_if_failed()
    }

    fn can_flush(&self) -> bool {
        self.outgoing.can_flush() || self.bodies.is_changed()
    }

    fn waiting(&self) -> usize {
        self.bodies.waiting() + self.outgoing.waiting()
    }

    fn held_back(&self) -> usize {
        self.outgoing.waiting()
    }

    fn ended(&mut self, end: End, _: &mut Panics) {
        for outcome in self.outgoing.take_rest() {
            self.bodies.push(outcome);
        }
        match end {
            // The outcomes that have made the quorum are handled like all others.
            Ok(()) => self.bodies.close(),
            Err(_) => self.handled.undelivered = self.bodies.abandon().into(),
        }
    }
}

impl<K, T, E, M, G, B> Handler<K, T, E, M, G, B> {
    fn pass_on(&mut self, budget: &mut Budget<'_>) -> ControlFlow<End> {
        self.outgoing.flush(budget, |outcome| {
            self.bodies.push(outcome);
            ControlFlow::Continue(())
        })
    }

    fn end_if_failed(&self) -> ControlFlow<End> {
        match self.bodies.has_failed() {
            true => ControlFlow::Break(Err(Reason::BodyFailed)),
            false => ControlFlow::Continue(()),
        }
    }
}
