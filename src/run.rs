//! The one scheduling loop under all operations: sources in, outcomes out.
//!
//! A [`Run`] drives the sources and knows when to stop. What an outcome is worth and where it goes
//! is the business of an [`Operation`]. The order within a poll:
//!
//! 1. Was the run cancelled, or has everybody left who wanted its outcomes?
//! 2. The sources that were woken, each once.
//! 3. New sources, as many as the concurrency limit admits, each polled as it starts.
//! 4. Has every source answered?
//! 5. The deadlines, by one look at the clock.
//!
//! Whether the outcomes so far decide how the run ends is asked after each of them.

mod alarms;
mod budget;
mod clock;
mod closing;
mod deadlines;
mod ending;
mod hooks;
mod in_flight;
#[cfg(test)]
mod model;
mod operation;
mod panics;
#[cfg(all(test, futures_aggregate_shuttle))]
mod races;
mod ready;
mod signals;
mod slots;
mod stop;
mod sync;
mod task;

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub(crate) use budget::Budget;
use deadlines::Deadlines;
pub(crate) use hooks::{Decide, Follow, Observe};
pub use hooks::{Hooks, Observed, Ruled, Shared, Unobserved, Unruled};
use in_flight::InFlight;
pub(crate) use operation::{End, Operation};
pub(crate) use panics::Panics;
pub(crate) use ready::{Flag, Ready};
pub(crate) use signals::Watch;
pub use signals::{First, Never, Signals};
use slots::Slots;
pub(crate) use stop::Stop;

use crate::Reason;

/// Sources, and all that is needed to drive them to their end.
pub(crate) struct Run<I, K, F, H = Hooks>
where
    H: Follow<K>,
{
    /// Dropped first, so that what the sources wake when they are dropped wakes nobody.
    ready: Ready,
    in_flight: InFlight<K, F, H>,
    /// The sources not yet started. Gone once exhausted.
    sources: Option<I>,
    concurrency: usize,
    /// Whether a source that panics is one more outcome, rather than the end of the poll.
    catches_panics: bool,
    deadlines: Deadlines,
    stage: Stage,
    /// Whether late sources are left that the last poll had no budget for.
    late_left: bool,
    /// Whose turn it is where the budget is too small to be shared.
    turn: bool,
    /// What is put aside of the budget for new sources while a sweep goes on.
    aside: u32,
    /// The slot whose source is being polled. It is still set after the source has panicked.
    polling: Option<usize>,
    /// Whether the list is being asked for a source. It is still set after the list has panicked.
    pulling: bool,
}

/// How far a run has come.
#[derive(Clone, Copy)]
enum Stage {
    /// Never polled.
    New,
    Running,
    /// The deadline has passed. Sources that were woken before are polled once more.
    Closing {
        /// Whether the sweep under way is the last one, which was started after the deadline.
        last_sweep: bool,
    },
    /// Ended, but for telling it.
    Ended(End),
    /// The end was told.
    Done,
}

impl<I, K, F, H> Run<I, K, F, H>
where
    H: Follow<K>,
{
    pub(crate) fn new(sources: I, timeout: Duration, hooks: H) -> Self {
        Self {
            ready: Ready::new(),
            in_flight: InFlight::new(hooks),
            sources: Some(sources),
            concurrency: usize::MAX,
            catches_panics: false,
            deadlines: Deadlines::new(timeout),
            stage: Stage::New,
            late_left: false,
            turn: false,
            aside: 0,
            polling: None,
            pulling: false,
        }
    }

    /// # Panics
    ///
    /// If `limit` is zero.
    #[track_caller]
    pub(crate) fn set_concurrency(&mut self, limit: usize) {
        check_concurrency(limit);
        self.concurrency = limit;
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.deadlines.set_timeout(timeout);
    }

    pub(crate) fn set_source_timeout(&mut self, source_timeout: Duration) {
        self.deadlines.set_source_timeout(source_timeout);
    }

    /// Admits one more source whenever none was started for this long.
    pub(crate) fn set_pace(&mut self, pace: Duration) {
        self.deadlines.set_pace(pace);
    }

    pub(crate) fn set_catch_panics(&mut self) {
        self.catches_panics = true;
    }

    /// Changes the sources, of which none is started, and who watches and decides.
    ///
    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn map<J, G, N>(
        self,
        sources: impl FnOnce(I) -> J,
        hooks: impl FnOnce(H) -> N,
    ) -> Run<J, K, G, N>
    where
        N: Follow<K>,
    {
        assert!(
            matches!(self.stage, Stage::New),
            "an operation must be set up before it is polled for the first time"
        );
        Run {
            ready: self.ready,
            in_flight: self.in_flight.map_hooks(hooks),
            sources: self.sources.map(sources),
            concurrency: self.concurrency,
            catches_panics: self.catches_panics,
            deadlines: self.deadlines,
            stage: Stage::New,
            late_left: false,
            turn: false,
            aside: 0,
            polling: None,
            pulling: false,
        }
    }

    /// Changes who watches and decides.
    ///
    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn map_hooks<N: Follow<K>>(self, hooks: impl FnOnce(H) -> N) -> Run<I, K, F, N> {
        self.map(std::convert::identity, hooks)
    }

    /// The sources not yet started.
    pub(crate) fn sources_mut(&mut self) -> Option<&mut I> {
        self.sources.as_mut()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.slots.len()
    }

    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

/// Refuses a concurrency limit of zero.
#[track_caller]
pub(crate) fn check_concurrency(limit: usize) {
    assert!(
        limit > 0,
        "a concurrency limit of 0 would never start a source; it must be at least 1"
    );
}

impl<I, K, F, H> Run<I, K, F, H>
where
    I: Iterator<Item = (K, F)>,
    H: Follow<K>,
{
    /// Polls the sources, and tells how the run ends when it does.
    pub(crate) fn poll<C: Future, X: Future>(
        &mut self,
        cx: &mut Context<'_>,
        mut signals: Pin<&mut Signals<C, X>>,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> Poll<End> {
        match self.stage {
            Stage::Ended(end) => {
                self.stage = Stage::Done;
                return Poll::Ready(end);
            }
            Stage::Done => panic!("polled after completion, which `is_terminated()` tells"),
            Stage::New | Stage::Running | Stage::Closing { .. } => {}
        }
        self.ready.begin_poll();
        let mut goes_on = false;
        loop {
            // One for the whole poll, because one around each source could be measured.
            let step = catch_unwind(AssertUnwindSafe(|| {
                self.step(goes_on, signals.as_mut(), budget, operation)
            }));
            match step {
                Ok(ControlFlow::Continue(again)) => {
                    self.ready.end_poll(cx.waker(), again);
                    return Poll::Pending;
                }
                Ok(ControlFlow::Break(end)) => {
                    let mut panics = Panics::default();
                    signals.clear(&mut panics);
                    let end = self.end(end, operation, &mut panics);
                    if panics.is_some() {
                        // The end is still to be told.
                        cx.waker().wake_by_ref();
                        panics.resume();
                    }
                    self.stage = Stage::Done;
                    return Poll::Ready(end);
                }
                Err(payload) => {
                    budget.give_back(std::mem::take(&mut self.aside));
                    let message = panics::message(&*payload);
                    let mut panics = Panics::default();
                    let was_source = self.recover(budget, operation, message, &mut panics);
                    if !(was_source && self.catches_panics) {
                        self.ready.end_poll(cx.waker(), true);
                        resume_unwind(payload);
                    }
                    panics::discard(payload);
                    if panics.is_some() {
                        self.ready.end_poll(cx.waker(), true);
                        panics.resume();
                    }
                    goes_on = true;
                }
            }
        }
    }

    /// One poll: to the end of the run, or to where it has to wait. `true` is for work left behind
    /// that must not wait for a wake. `goes_on` says that it is the rest of a poll, after a panic
    /// that was caught.
    fn step<C: Future, X: Future>(
        &mut self,
        goes_on: bool,
        mut signals: Pin<&mut Signals<C, X>>,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End, bool> {
        let is_new = matches!(self.stage, Stage::New);
        if is_new {
            self.stage = Stage::Running;
            self.deadlines.start();
        } else {
            // An outcome before a panic may have decided it.
            self.verdict(operation)?;
        }
        if let Stage::Closing { last_sweep } = self.stage {
            return self.close(last_sweep, budget, operation);
        }

        if signals.as_mut().is_cancelled(&mut self.ready) {
            return ControlFlow::Break(Err(Reason::Cancelled));
        }
        if let Some(reason) = operation.poll_stop(&mut self.ready) {
            return ControlFlow::Break(Err(reason));
        }
        if is_new {
            // It may be decided before anything is asked.
            self.verdict(operation)?;
            match not_started(self.sources.as_ref()) {
                (least, Some(most)) if least == most => operation.expect(most),
                _ => {}
            }
        }

        operation.flush(&mut self.ready, budget)?;
        if self.late_left {
            self.expire_sources(budget, operation)?;
        }
        if !goes_on {
            self.ready.start_sweep();
        }
        self.sweep(budget, operation)?;
        // After a list has panicked, one poll does without it, so that one that panics again and
        // again holds up no deadline.
        if !self.pulling {
            self.admit(budget, operation)?;
        }
        // It may be decided by the end of the list.
        self.verdict(operation)?;

        self.deadlines.note_alarm(&mut self.ready);
        let now = self.expire_sources(budget, operation)?;
        operation.flush(&mut self.ready, budget)?;
        if self.in_flight.slots.is_empty() {
            // The last sources may have been late, and nobody has asked for more.
            self.end_list();
        }
        if self.is_complete(operation) {
            return ControlFlow::Break(Ok(()));
        }
        if now.is_some_and(|now| self.deadlines.is_over(now)) || signals.is_expired(&mut self.ready)
        {
            if self.deadlines.is_zero() {
                return ControlFlow::Break(Err(Reason::TimedOut));
            }
            operation.draw_line();
            self.stage = Stage::Closing { last_sweep: false };
            return self.close(false, budget, operation);
        }

        let start_due = now.is_some_and(|now| self.deadlines.is_start_due(now));
        if start_due && self.sources.is_some() {
            self.concurrency = self.concurrency.saturating_add(1);
        }

        self.pulling = false;
        let again = self.can_admit(operation)
            || self.late_left
            || operation.can_flush()
            || self.ready.has_work();
        match now {
            Some(now) if !again => {
                let next_source = self.in_flight.slots.next_deadline();
                let next_start = self.sources.as_ref().and(self.deadlines.next_start());
                let next = [next_source, next_start];
                ControlFlow::Continue(self.deadlines.arm(now, next, &self.ready))
            }
            _ => ControlFlow::Continue(again),
        }
    }

    /// Goes on with the sweep under way, as far as the budget goes that is not for new sources.
    fn sweep(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        if !self.can_admit(operation) {
            return self.go_on_sweeping(budget, operation);
        }
        // Sources that wake themselves for ever must not keep others from being started.
        self.turn = !self.turn;
        self.aside = budget.set_aside(self.turn);
        let flow = self.go_on_sweeping(budget, operation);
        budget.give_back(std::mem::take(&mut self.aside));
        flow
    }

    fn go_on_sweeping(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        while !budget.is_spent() {
            let Some(index) = self.ready.next() else {
                break;
            };
            self.poll_slot(index, budget, operation)?;
        }
        ControlFlow::Continue(())
    }

    /// Starts new sources and polls each at once, so that one that is ready gives its slot
    /// straight back.
    fn admit(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        while !budget.is_spent() && self.can_admit(operation) {
            match self.pull() {
                Some((id, source)) => {
                    let index = self.start(id, source);
                    self.poll_slot(index, budget, operation)?;
                }
                None => self.drop_list(),
            }
        }
        if budget.is_spent() {
            self.end_list();
        }
        ControlFlow::Continue(())
    }

    /// Asks the list for a source.
    fn pull(&mut self) -> Option<(K, F)> {
        let sources = self.sources.as_mut()?;
        self.pulling = true;
        let next = sources.next();
        self.pulling = false;
        next
    }

    /// Puts a source into flight, and tells of it.
    #[inline(always)]
    fn start(&mut self, id: K, source: F) -> usize {
        self.deadlines.note_start();
        let mut panics = Panics::default();
        panics.catch(|| self.in_flight.hooks().started(&id));
        let index = self.in_flight.slots.insert(id, source);
        self.ready.cover(index);
        if panics.is_some() {
            // It is polled by the next sweep.
            self.ready.wake(index);
            panics.resume();
        }
        index
    }

    /// Drops a list that says that it has come to its end, which needs neither budget nor room. A
    /// source that it has nevertheless is polled by the next sweep.
    #[inline(never)]
    fn end_list(&mut self) {
        let is_asked = self.sources.is_some() && !self.pulling;
        if !is_asked || not_started(self.sources.as_ref()).1 != Some(0) {
            return;
        }
        match self.pull() {
            None => self.drop_list(),
            Some((id, source)) => {
                let index = self.start(id, source);
                self.ready.wake(index);
            }
        }
    }

    fn drop_list(&mut self) {
        let exhausted = self.sources.take();
        drop(exhausted);
    }

    /// Whether there may be sources left to start, and room for one.
    fn can_admit(&self, operation: &impl Operation<K, F, H>) -> bool {
        let limit = self.concurrency.min(Slots::<K, F>::MAX);
        self.sources.is_some() && self.in_flight.slots.len() + operation.waiting() < limit
    }

    #[inline(always)]
    fn poll_slot(
        &mut self,
        index: usize,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        let mut panics = Panics::default();
        self.polling = Some(index);
        let slots = &mut self.in_flight.slots;
        // An empty slot that a stale waker has woken costs a poll too.
        let poll = budget.spend_on(|budget| {
            slots.poll(index, &mut self.ready, &mut panics, |source, cx| {
                operation.poll_source(source, cx, budget)
            })
        });
        self.polling = None;
        let Poll::Ready((id, output)) = poll else {
            return ControlFlow::Continue(());
        };
        let flow = operation.finished(id, output, self.in_flight.hooks(), &mut panics);
        panics.resume();
        flow?;
        self.verdict(operation)
    }

    /// Ends the run if its outcomes decide how.
    fn verdict(&mut self, operation: &mut impl Operation<K, F, H>) -> ControlFlow<End> {
        let sources = self.sources.as_ref();
        let in_flight = self.in_flight.slots.len();
        let most_left = || not_started(sources).1?.checked_add(in_flight);
        match operation.verdict(self.in_flight.hooks(), most_left) {
            Some(end) => ControlFlow::Break(end),
            None => ControlFlow::Continue(()),
        }
    }

    /// Every source has answered, and every outcome was passed on.
    fn is_complete(&self, operation: &impl Operation<K, F, H>) -> bool {
        self.sources.is_none() && self.in_flight.slots.is_empty() && operation.waiting() == 0
    }

    /// After a panic: drops the source that panicked and accounts for it. Returns whether it was
    /// one. A hook that panics when it is told is noted in `panics`.
    fn recover(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
        message: String,
        panics: &mut Panics,
    ) -> bool {
        let Some(index) = self.polling.take() else {
            return false;
        };
        budget.spend();
        if Self::are_runs(operation) {
            return true;
        }
        // A source that panics in its drop after it has panicked has said what it had to say.
        let mut second = Panics::default();
        if let Some((id, ())) = self.in_flight.slots.remove(index, &mut second, |_, _| ()) {
            operation.panicked(id, message, self.in_flight.hooks(), panics);
        }
        true
    }

    fn are_runs<O: Operation<K, F, H>>(_: &O) -> bool {
        O::SOURCES_ARE_RUNS
    }
}

/// How many sources are still to be started, as the list has it: one that panics when it is asked
/// does not know.
#[inline(never)]
fn not_started(sources: Option<&impl Iterator>) -> (usize, Option<usize>) {
    sources.map_or((0, Some(0)), |sources| {
        let hint = Panics::default().catch(|| sources.size_hint());
        hint.unwrap_or((0, None))
    })
}
