//! The one scheduling loop under all operations: sources in, outcomes out.
//!
//! A [`Run`] drives the sources and knows when to stop. What an outcome is worth and where it goes
//! is the business of an [`Operation`]. The order within a poll:
//!
//! 1. The signals: is the run cancelled, or expired, or has the receiver left?
//! 2. The sources that were woken, each once.
//! 3. New sources, as many as the concurrency limit admits, each polled as it starts.
//! 4. The deadlines of sources. Has every source answered?
//! 5. The deadline of the run.
//!
//! The policies are asked after each outcome.

mod alarms;
mod budget;
mod clock;
mod deadlines;
mod expiry;
mod hooks;
mod in_flight;
#[cfg(test)]
mod model;
mod operation;
mod panics;
#[cfg(all(test, futures_aggregate_shuttle))]
mod races;
mod ready;
mod shutdown;
mod signals;
mod slots;
mod stop;
mod sync;
mod task;

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub(crate) use budget::Budget;
use clock::Instant;
use deadlines::Deadlines;
use expiry::Grace;
pub(crate) use hooks::{Decide, Follow, Observe};
pub use hooks::{Hooks, Observed, Ruled, Shared, Unobserved, Unruled};
use in_flight::InFlight;
pub(crate) use operation::{End, Operation};
pub(crate) use panics::Panics;
use ready::Next;
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
    /// Dropped first, so that what the sources wake when they are dropped wakes no task.
    ready: Ready,
    in_flight: InFlight<I, K, F, H>,
    concurrency: usize,
    /// Whether a source that panics is one more outcome, rather than the end of the poll.
    catches_panics: bool,
    deadlines: Deadlines,
    stage: Stage,
    /// When this poll began, if there are deadlines; and what the clock said when it was read again.
    now: Option<Instant>,
    /// Whether this poll may start sources. Not if the run is part of another one whose time is up.
    may_start: bool,
    /// Whether this poll may start one source although its budget is spent.
    may_start_one: bool,
    /// Whether this poll has started a source.
    has_started: bool,
    /// How much of the budget of this poll was spent when a source was last found pending.
    pending_after: u32,
    /// Polls since a sweep left a source pending that the runtime may have refused.
    calm_polls: u32,
    /// Whether sweeps are shuffled: from the first one on that left a source pending.
    is_shuffled: bool,
    /// The time between a deadline and its consequences.
    grace: Option<Box<Grace>>,
    /// Deadlines up to this one have had their grace.
    settled: Option<Instant>,
    /// Whether late sources are being stopped, and the last poll of each is on its way.
    is_stopping: bool,
    /// Whether late sources are left that the last poll had no budget for.
    late_left: bool,
    /// Whether the last poll ended with a panic.
    has_panicked: bool,
    /// The slot whose source is being polled. It is still set after the source has panicked.
    polling: Option<usize>,
    /// Whether the iterator is being asked for a source. It is still set after it has panicked.
    pulling: bool,
    /// How many sources are still to be named, after the run has ended.
    unnamed: usize,
}

/// How far a run has come.
#[derive(Clone, Copy)]
enum Stage {
    /// Never polled.
    New,
    Running,
    /// Ended. Sources that were never started are still to be named.
    Naming(End),
    /// Ended; the result has not been returned yet.
    Ended(End),
    /// The result was returned.
    Done,
}

impl<I, K, F, H> Run<I, K, F, H>
where
    H: Follow<K>,
{
    pub(crate) fn new(sources: I, timeout: Duration, hooks: H) -> Self
    where
        I: Iterator<Item = (K, F)>,
    {
        let mut in_flight = InFlight::new(Some(sources), hooks);
        in_flight.know_list();
        Self::with(in_flight, Deadlines::new(timeout))
    }

    /// A run that was interrupted before it had any source.
    pub(crate) fn interrupted(reason: Reason, hooks: H) -> Self {
        let in_flight = InFlight::new(None, hooks);
        Self {
            stage: Stage::Ended(Err(reason)),
            ..Self::with(in_flight, Deadlines::new(Duration::MAX))
        }
    }

    fn with(in_flight: InFlight<I, K, F, H>, deadlines: Deadlines) -> Self {
        Self {
            ready: Ready::new(),
            in_flight,
            concurrency: usize::MAX,
            catches_panics: false,
            deadlines,
            stage: Stage::New,
            now: None,
            may_start: true,
            may_start_one: true,
            has_started: false,
            pending_after: 0,
            calm_polls: u32::MAX,
            is_shuffled: false,
            grace: None,
            settled: None,
            is_stopping: false,
            late_left: false,
            has_panicked: false,
            polling: None,
            pulling: false,
            unnamed: 0,
        }
    }

    /// Refuses to set up a run that has been polled.
    ///
    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn check_is_new(&self) {
        assert!(
            matches!(self.stage, Stage::New),
            "an operation must be set up before it is polled for the first time"
        );
    }

    /// # Panics
    ///
    /// If `limit` is zero, or the run has been polled.
    #[track_caller]
    pub(crate) fn set_concurrency(&mut self, limit: usize) {
        self.check_is_new();
        check_concurrency(limit);
        self.concurrency = limit;
    }

    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.check_is_new();
        self.deadlines.set_timeout(timeout);
    }

    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn set_source_timeout(&mut self, source_timeout: Duration) {
        self.check_is_new();
        self.deadlines.set_source_timeout(source_timeout);
    }

    /// Admits one more source whenever none was started for this long.
    pub(crate) fn set_pace(&mut self, pace: Duration) {
        self.deadlines.set_pace(pace);
    }

    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn set_catch_panics(&mut self) {
        self.check_is_new();
        self.catches_panics = true;
    }

    /// Changes the sources, of which none is started, and the hooks.
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
        self.map_in_flight(|in_flight| in_flight.map(sources, hooks))
    }

    /// Changes the hooks.
    ///
    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn map_hooks<N: Follow<K>>(self, hooks: impl FnOnce(H) -> N) -> Run<I, K, F, N> {
        self.map_in_flight(|in_flight| in_flight.map_hooks(hooks))
    }

    /// The same run of other sources or hooks, made of these.
    #[track_caller]
    fn map_in_flight<J, G, N: Follow<K>>(
        self,
        map: impl FnOnce(InFlight<I, K, F, H>) -> InFlight<J, K, G, N>,
    ) -> Run<J, K, G, N> {
        self.check_is_new();
        Run {
            concurrency: self.concurrency,
            catches_panics: self.catches_panics,
            ..Run::with(map(self.in_flight), self.deadlines)
        }
    }

    /// The sources, to be set up.
    ///
    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn sources_mut(&mut self) -> Option<&mut I> {
        self.check_is_new();
        self.in_flight.list.as_mut()
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
    /// Polls the sources, and returns how the run ends when it does. A run that is part of another
    /// one starts sources only if it `may_start` them.
    pub(crate) fn poll<C: Future, X: Future>(
        &mut self,
        cx: &mut Context<'_>,
        mut signals: Pin<&mut Signals<C, X>>,
        may_start: bool,
        operation: &mut impl Operation<K, F, H>,
    ) -> Poll<End> {
        match self.stage {
            Stage::New => {
                self.now = self.deadlines.start();
                self.in_flight.know_list();
            }
            Stage::Running => self.now = self.deadlines.now(),
            Stage::Naming(end) => {
                let budget = &mut Budget::open(None);
                return self.finish(end, cx, budget, operation, Panics::default());
            }
            Stage::Ended(end) => {
                self.stage = Stage::Done;
                return Poll::Ready(end);
            }
            Stage::Done => panic!("polled after completion; check `is_terminated()` first"),
        }
        self.may_start = may_start;
        self.may_start_one = true;
        self.is_stopping = false;
        self.pending_after = 0;
        let budget = &mut Budget::open(self.now);
        self.ready.begin_poll();
        let mut goes_on = false;
        loop {
            // One for the whole poll, because one around each source could be measured.
            let step = catch_unwind(AssertUnwindSafe(|| {
                self.step(goes_on, signals.as_mut(), budget, operation)
            }));
            match step {
                Ok(ControlFlow::Continue(next)) => {
                    self.has_panicked = false;
                    self.ready.end_poll(cx.waker(), next);
                    return Poll::Pending;
                }
                Ok(ControlFlow::Break(end)) => {
                    let mut panics = Panics::default();
                    signals.clear(&mut panics);
                    let end = match end {
                        // A receiver that left after the deadline does not change the reason.
                        Err(Reason::ReceiverClosed) if self.is_closing() => Err(Reason::TimedOut),
                        end => end,
                    };
                    return self.finish(end, cx, budget, operation, panics);
                }
                Err(payload) => {
                    budget.release();
                    let message = panics::message(&*payload);
                    let mut panics = Panics::default();
                    let was_source = self.recover(operation, message, &mut panics);
                    if was_source && self.catches_panics {
                        panics::discard(payload);
                    } else {
                        panics.note_first(payload);
                    }
                    if panics.is_some() {
                        self.has_panicked = true;
                        self.ready.end_poll(cx.waker(), Next::Again);
                        panics.resume();
                        return Poll::Pending;
                    }
                    goes_on = true;
                }
            }
        }
    }

    /// Ends the run, over as many polls as it takes. A panic on the way is resumed at the end of the
    /// poll.
    fn finish(
        &mut self,
        end: End,
        cx: &mut Context<'_>,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
        mut panics: Panics,
    ) -> Poll<End> {
        let end = self.interrupt(end, budget, operation, &mut panics);
        if end.is_pending() || panics.is_some() {
            cx.waker().wake_by_ref();
            panics.resume();
        }
        if end.is_ready() {
            self.stage = Stage::Done;
        }
        end
    }

    /// One poll: to the end of the run, or to where it has to wait. `goes_on` says that it is the
    /// rest of a poll, after a panic that was caught.
    fn step<C: Future, X: Future>(
        &mut self,
        goes_on: bool,
        mut signals: Pin<&mut Signals<C, X>>,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End, Next> {
        let is_new = matches!(self.stage, Stage::New);
        self.stage = Stage::Running;
        // The signals come first, while the runtime's cooperative budget is fresh.
        signals.as_mut().poll(&mut self.ready);
        if self.has_panicked || goes_on {
            // An outcome before the panic may have decided it.
            self.verdict(operation)?;
        }
        if signals.is_cancelled() {
            return ControlFlow::Break(Err(Reason::Cancelled));
        }
        if let Some(reason) = operation.poll_stop(&mut self.ready) {
            return ControlFlow::Break(Err(reason));
        }
        if is_new {
            // A policy may already hold, for example an unreachable quorum.
            self.verdict(operation)?;
            match not_started(self.in_flight.list.as_ref()) {
                (least, Some(most)) if least == most => operation.expect(most),
                _ => {}
            }
        }

        // The sources that were woken.
        self.note_lateness(budget, operation)?;
        operation.flush(&mut self.ready, budget)?;
        if self.late_left {
            self.stop_late_sources(budget, operation)?;
        }
        if !goes_on {
            self.ready.start_sweep(self.is_shuffled);
        }
        self.sweep(budget, operation)?;

        // New sources. After an iterator has panicked, one poll does without it, so that one that
        // panics again and again holds up no deadline.
        if self.in_flight.list.is_some() {
            if !self.pulling {
                self.admit(budget, operation)?;
            }
            // The end of the sources may decide it.
            self.verdict(operation)?;
        }

        // The deadlines.
        let has_deadlines = self.now.is_some() || self.grace.is_some();
        if has_deadlines {
            self.deadlines.note_alarm(&mut self.ready);
            self.stamp(budget);
            if self.grace.is_none() && self.deadlines.has_source_timeout() {
                self.stop_late_sources(budget, operation)?;
            }
        }
        operation.flush(&mut self.ready, budget)?;
        if self.is_complete(operation) {
            return ControlFlow::Break(Ok(()));
        }
        let mut next = None;
        if has_deadlines || signals.is_expired() {
            next = self.check_grace(signals.is_expired(), budget, operation)?;
        }
        self.pulling = false;
        if let Some(next) = next {
            return ControlFlow::Continue(next);
        }
        if has_deadlines {
            let is_start_due = |now| self.deadlines.is_start_due(now);
            if self.now.is_some_and(is_start_due) && self.in_flight.list.is_some() {
                self.concurrency = self.concurrency.saturating_add(1);
            }
        }
        let next_source = self.in_flight.slots.next_deadline();
        ControlFlow::Continue(self.wait_until(next_source, operation))
    }

    /// What is to follow a poll: another one at once if there is work left, or else the next wake or
    /// the next deadline, which is that of the run, of a source, or of a start.
    #[inline]
    fn wait_until(
        &mut self,
        next_source: Option<Instant>,
        operation: &impl Operation<K, F, H>,
    ) -> Next {
        let is_busy = self.can_admit(operation)
            || self.late_left
            || operation.can_flush()
            || self.ready.has_work();
        if is_busy {
            return Next::Again;
        }
        let Some(now) = self.now else {
            return Next::Wait;
        };
        let next_start = self
            .in_flight
            .list
            .as_ref()
            .and(self.deadlines.next_start());
        match self
            .deadlines
            .arm(now, [next_source, next_start], &self.ready)
        {
            true => Next::Again,
            false => Next::Wait,
        }
    }

    /// Goes on with the sweep under way, as far as the budget goes that is not for new sources.
    fn sweep(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        // Sources that wake themselves for ever must not keep others from being started.
        if self.can_admit(operation) {
            budget.reserve();
        }
        self.go_on_sweeping(budget, operation)?;
        budget.release();
        self.note_sweep(budget);
        ControlFlow::Continue(())
    }

    fn go_on_sweeping(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        while Self::may_poll(budget, operation) {
            let Some(index) = self.ready.next() else {
                break;
            };
            self.poll_slot(index, budget, operation)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether the budget allows another source to be polled.
    #[inline(always)]
    fn may_poll(budget: &mut Budget, operation: &impl Operation<K, F, H>) -> bool {
        // A run gets one slot at least.
        budget.has_more() && (!Self::are_runs(operation) || budget.has_share() || budget.is_fresh())
    }

    /// Starts new sources and polls each at once, so that one that is ready gives its slot straight
    /// back. One may start even if the budget is spent, or sources that take long would keep it from
    /// starting for ever.
    fn admit(
        &mut self,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        let is_over = |now| self.deadlines.is_over(now);
        let may_start_one = std::mem::take(&mut self.may_start_one);
        let mut is_first = may_start_one && !budget.looked_at().is_some_and(is_over);
        let may_start = self.can_admit(operation);
        while may_start
            && self.has_room(operation)
            && (std::mem::take(&mut is_first) || Self::may_poll(budget, operation))
        {
            match self.pull() {
                Some((id, source)) => {
                    let index = self.start(id, source);
                    self.poll_source(index, true, budget, operation)?;
                }
                None => self.drop_list(),
            }
        }
        if self.in_flight.list.is_some() {
            self.end_list(operation);
        }
        ControlFlow::Continue(())
    }

    /// Asks the iterator for a source.
    fn pull(&mut self) -> Option<(K, F)> {
        let list = self.in_flight.list.as_mut()?;
        self.pulling = true;
        let next = list.next();
        self.pulling = false;
        next
    }

    /// Puts a source into flight, and tells of it.
    #[inline(always)]
    fn start(&mut self, id: K, source: F) -> usize {
        self.has_started = true;
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

    /// Drops an iterator that says that it has come to its end, which needs no budget. A source that
    /// it has nevertheless is polled by the next sweep.
    #[inline(never)]
    fn end_list(&mut self, operation: &impl Operation<K, F, H>) {
        let is_asked = self.has_room(operation) && !self.pulling;
        if !is_asked || not_started(self.in_flight.list.as_ref()).1 != Some(0) {
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
        let exhausted = self.in_flight.list.take();
        drop(exhausted);
    }

    /// Whether there may be sources left to start, and room for one, and time.
    fn can_admit(&self, operation: &impl Operation<K, F, H>) -> bool {
        self.has_room(operation) && self.may_start && !self.is_closing()
    }

    /// Whether there may be sources left to start, and room for one.
    fn has_room(&self, operation: &impl Operation<K, F, H>) -> bool {
        let limit = self.concurrency.min(Slots::<K, F>::MAX);
        self.in_flight.list.is_some() && self.in_flight.slots.len() + operation.waiting() < limit
    }

    /// Whether the deadline of the whole run has passed.
    fn is_closing(&self) -> bool {
        self.grace.as_ref().is_some_and(|grace| grace.covers_run)
    }

    #[inline(always)]
    fn poll_slot<O: Operation<K, F, H>>(
        &mut self,
        index: usize,
        budget: &mut Budget,
        operation: &mut O,
    ) -> ControlFlow<End> {
        let is_watched = self.grace.is_some() || O::SOURCES_ARE_RUNS && self.is_stopping;
        if is_watched && self.is_covered(index) {
            return self.poll_covered(index, budget, operation);
        }
        self.poll_source(index, true, budget, operation)
    }

    /// Polls a source whose time is up. What it does is noted. If it is a run, it starts no sources.
    #[inline(never)]
    fn poll_covered(
        &mut self,
        index: usize,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        let before = (budget.inside(), budget.outcomes());
        let flow = self.poll_source(index, false, budget, operation);
        self.note_covered(before, budget, operation);
        flow
    }

    #[inline(always)]
    fn poll_source(
        &mut self,
        index: usize,
        may_start: bool,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
    ) -> ControlFlow<End> {
        let mut panics = Panics::default();
        self.polling = Some(index);
        // An empty slot that a stale waker has woken costs a poll too.
        budget.spend();
        let slots = &mut self.in_flight.slots;
        let poll = slots.poll(index, &mut self.ready, &mut panics, |source, cx| {
            operation.poll_source(source, cx, may_start)
        });
        self.polling = None;
        let Poll::Ready((id, output)) = poll else {
            self.pending_after = budget.spent();
            return ControlFlow::Continue(());
        };
        budget.note_outcome();
        let flow = operation.finished(id, output, self.in_flight.hooks(), &mut panics);
        panics.resume();
        flow?;
        self.verdict(operation)
    }

    /// Ends the run if its outcomes decide how.
    fn verdict(&mut self, operation: &mut impl Operation<K, F, H>) -> ControlFlow<End> {
        let in_flight = self.in_flight.slots.len();
        let (list, hooks) = self.in_flight.list_and_hooks();
        let most_left = || not_started(list).1?.checked_add(in_flight);
        match operation.verdict(hooks, most_left) {
            Some(end) => ControlFlow::Break(end),
            None => ControlFlow::Continue(()),
        }
    }

    /// Whether every source has answered, and every outcome was passed on. An iterator that says
    /// that it has come to its end is asked.
    fn is_complete(&mut self, operation: &impl Operation<K, F, H>) -> bool {
        if !self.in_flight.slots.is_empty() {
            return false;
        }
        if self.in_flight.list.is_some() {
            self.end_list(operation);
        }
        self.in_flight.list.is_none() && operation.waiting() == 0
    }

    /// After a panic: drops the source that panicked and accounts for it. Returns whether it was
    /// one. A hook that panics when it is told is noted in `panics`.
    fn recover(
        &mut self,
        operation: &mut impl Operation<K, F, H>,
        message: String,
        panics: &mut Panics,
    ) -> bool {
        let Some(index) = self.polling.take() else {
            return false;
        };
        if Self::are_runs(operation) {
            return true;
        }
        // A source that panics in its drop after it has panicked has said what it had to say.
        let mut second = Panics::default();
        if let Some(id) = self.in_flight.slots.remove(index, &mut second) {
            operation.panicked(id, message, self.in_flight.hooks(), panics);
        }
        true
    }

    fn are_runs<O: Operation<K, F, H>>(_: &O) -> bool {
        O::SOURCES_ARE_RUNS
    }
}

/// How many sources are still to be started, as the iterator reports it. One that panics when it is
/// asked does not know.
#[inline(never)]
fn not_started(sources: Option<&impl Iterator>) -> (usize, Option<usize>) {
    sources.map_or((0, Some(0)), |sources| {
        let hint = Panics::default().catch(|| sources.size_hint());
        hint.unwrap_or((0, None))
    })
}
