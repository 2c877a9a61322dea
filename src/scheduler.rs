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

mod admission;
mod alarms;
mod budget;
mod clock;
mod deadlines;
mod driver;
mod expiry;
mod in_flight;
#[cfg(test)]
mod model;
mod options;
mod panics;
mod policy;
#[cfg(all(test, futures_aggregate_shuttle))]
mod races;
mod ready;
mod shutdown;
mod signals;
mod slots;
mod sync;
mod task;

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use admission::{Admission, Permit};
pub(crate) use budget::Budget;
use clock::Instant;
use deadlines::Deadlines;
pub(crate) use driver::{Driver, End};
use expiry::Grace;
use in_flight::InFlight;
pub(crate) use options::{Options, Policies};
pub(crate) use panics::{Contained, Panics};
pub(crate) use policy::{Counts, Verdicts};
use ready::Next;
pub(crate) use ready::{Flag, Ready};
pub(crate) use signals::Watch;
pub use signals::{First, Never, Signals};

use crate::Reason;
use crate::sources::Sources;

/// Sources, and all that is needed to drive them to their end.
pub struct Run<L, K, G> {
    /// Dropped first, so that what the sources wake when they are dropped wakes no task.
    ready: Ready,
    in_flight: InFlight<L, K, G>,
    options: Options,
    admission: Admission,
    deadlines: Deadlines,
    stage: Stage,
    /// When this poll began, if there are deadlines; and what the clock said when it was read again.
    now: Option<Instant>,
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
    /// The source whose future is being made. It is still here after that has panicked.
    making: Option<K>,
    /// Whether the list is being asked for a source. It is still set after it has panicked.
    pulling: bool,
    /// Whether the list is pending, so that it is asked again only when it was woken.
    list_waits: bool,
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

impl<L, K, G> Run<L, K, G> {
    #[inline(always)]
    pub(crate) fn new(sources: L, options: Options) -> Self
    where
        L: Sources<Id = K>,
    {
        Self {
            ready: Ready::new(),
            in_flight: InFlight::new(sources),
            options,
            admission: Admission::new(&options),
            deadlines: Deadlines::NONE,
            stage: Stage::New,
            now: None,
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
            making: None,
            pulling: false,
            list_waits: false,
            unnamed: 0,
        }
    }

    /// The settings, to be changed before the first poll.
    ///
    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn options_mut(&mut self) -> &mut Options {
        assert!(
            self.is_new(),
            "an operation must be set up before it is polled for the first time"
        );
        &mut self.options
    }

    /// The sources, to be set up before the first poll.
    ///
    /// # Panics
    ///
    /// If the run has been polled.
    #[track_caller]
    pub(crate) fn sources_mut(&mut self) -> Option<&mut L> {
        self.options_mut();
        self.in_flight.list.as_mut()
    }

    pub(crate) fn is_new(&self) -> bool {
        matches!(self.stage, Stage::New)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.slots.len()
    }

    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Lets go of the task, so that what the sources wake when they are dropped wakes no task.
    pub(crate) fn close(&mut self) {
        self.ready.close();
    }

    /// Drops every source in flight, oldest first, and passes on its id and how long ago it started.
    pub(crate) fn drop_each(&mut self, panics: &mut Panics, dropped: impl FnMut(&K, Duration)) {
        self.in_flight.drop_each(panics, dropped);
    }

    /// Passes on every source in flight, which is a run.
    pub(crate) fn each_in_flight(&mut self, found: impl FnMut(Pin<&mut G>)) {
        self.in_flight.slots.each(found);
    }
}

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// Polls the sources, and returns how the run ends when it does. A run that is part of another
    /// one starts sources only if it `may_start` them.
    pub(crate) fn poll<C: Future, X: Future>(
        &mut self,
        cx: &mut Context<'_>,
        mut signals: Pin<&mut Signals<C, X>>,
        may_start: bool,
        driver: &mut impl Driver<K, G>,
    ) -> Poll<End> {
        match self.stage {
            Stage::New => {
                self.admission = Admission::new(&self.options);
                self.deadlines = Deadlines::new(&self.options);
                self.now = self.deadlines.start();
            }
            Stage::Running => self.now = self.deadlines.now(),
            Stage::Naming(end) => {
                let budget = &mut Budget::open(None);
                return self.finish(end, cx, budget, driver, Panics::default());
            }
            Stage::Ended(end) => {
                self.stage = Stage::Done;
                return Poll::Ready(end);
            }
            Stage::Done => panic!("polled after completion; check `is_terminated()` first"),
        }
        self.admission.begin_poll(may_start);
        self.is_stopping = false;
        self.pending_after = 0;
        let budget = &mut Budget::open(self.now);
        self.ready.begin_poll();
        if L::MAY_WAIT && self.ready.take_flag(Flag::Sources) {
            self.list_waits = false;
        }
        let mut goes_on = false;
        loop {
            // One for the whole poll, because one around each source could be measured.
            let step = catch_unwind(AssertUnwindSafe(|| {
                self.step(goes_on, signals.as_mut(), budget, driver)
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
                    return self.finish(end, cx, budget, driver, panics);
                }
                Err(payload) => {
                    budget.release();
                    let message = panics::message(&*payload);
                    let mut panics = Panics::default();
                    let was_source = self.recover(driver, message, &mut panics);
                    if was_source && self.options.catches_panics {
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
        driver: &mut impl Driver<K, G>,
        mut panics: Panics,
    ) -> Poll<End> {
        let end = self.interrupt(end, budget, driver, &mut panics);
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
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End, Next> {
        let is_new = matches!(self.stage, Stage::New);
        self.stage = Stage::Running;
        // The signals come first, while the runtime's cooperative budget is fresh.
        signals.as_mut().poll(&mut self.ready);
        if self.has_panicked || goes_on {
            // An outcome before the panic may have decided it.
            self.verdict(driver)?;
        }
        if signals.is_cancelled() {
            return ControlFlow::Break(Err(Reason::Cancelled));
        }
        if let Some(reason) = driver.poll_stop(&mut self.ready) {
            return ControlFlow::Break(Err(reason));
        }
        if is_new {
            // A policy may already hold, for example an unreachable quorum.
            self.verdict(driver)?;
            match self.in_flight.not_started() {
                (least, Some(most)) if least == most => self.expect(most, driver),
                _ => {}
            }
        }

        // The sources that were woken.
        self.note_lateness(budget, driver)?;
        driver.flush(&mut self.ready, budget)?;
        if self.late_left {
            self.stop_late_sources(budget, driver)?;
        }
        if !goes_on {
            self.ready.start_sweep(self.is_shuffled);
        }
        self.sweep(budget, driver)?;

        // New sources. After an iterator has panicked, one poll does without it, so that one that
        // panics again and again holds up no deadline.
        if self.in_flight.list.is_some() {
            if !self.pulling {
                self.admit(budget, driver)?;
            }
            // The end of the sources may decide it.
            self.verdict(driver)?;
        }

        // The deadlines.
        let has_deadlines = self.now.is_some() || self.grace.is_some();
        if has_deadlines {
            self.deadlines.note_alarm(&mut self.ready);
            self.stamp(budget);
            if self.grace.is_none() && self.deadlines.has_source_timeout() {
                self.stop_late_sources(budget, driver)?;
            }
        }
        driver.flush(&mut self.ready, budget)?;
        if self.is_complete(driver) {
            return ControlFlow::Break(Ok(()));
        }
        let mut next = None;
        if has_deadlines || signals.is_expired() {
            next = self.check_grace(signals.is_expired(), budget, driver)?;
        }
        self.pulling = false;
        if let Some(next) = next {
            return ControlFlow::Continue(next);
        }
        if has_deadlines {
            let is_start_due = |now| self.deadlines.is_start_due(now);
            if self.now.is_some_and(is_start_due) && self.in_flight.list.is_some() {
                self.admission.raise();
            }
        }
        let next_source = self.in_flight.slots.next_deadline();
        ControlFlow::Continue(self.wait_until(next_source, driver))
    }

    /// What is to follow a poll: another one at once if there is work left, or else the next wake or
    /// the next deadline, which is that of the run, of a source, or of a start.
    #[inline]
    fn wait_until(&mut self, next_source: Option<Instant>, driver: &impl Driver<K, G>) -> Next {
        let is_busy =
            self.can_admit(driver) || self.late_left || driver.can_flush() || self.ready.has_work();
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
    fn sweep(&mut self, budget: &mut Budget, driver: &mut impl Driver<K, G>) -> ControlFlow<End> {
        // Sources that wake themselves for ever must not keep others from being started.
        if self.can_admit(driver) {
            budget.reserve();
        }
        self.go_on_sweeping(budget, driver)?;
        budget.release();
        self.note_sweep(budget);
        ControlFlow::Continue(())
    }

    fn go_on_sweeping(
        &mut self,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        while Self::may_poll(budget, driver) {
            let Some(index) = self.ready.next() else {
                break;
            };
            self.poll_slot(index, budget, driver)?;
        }
        ControlFlow::Continue(())
    }

    /// Whether the budget allows another source to be polled.
    #[inline(always)]
    fn may_poll(budget: &mut Budget, driver: &impl Driver<K, G>) -> bool {
        // A run gets one slot at least.
        budget.has_more() && (!Self::are_runs(driver) || budget.has_share() || budget.is_fresh())
    }

    /// Starts new sources and polls each at once, so that one that is ready gives its slot straight
    /// back. One may start even if the budget is spent, or sources that take long would keep it from
    /// starting for ever.
    fn admit(&mut self, budget: &mut Budget, driver: &mut impl Driver<K, G>) -> ControlFlow<End> {
        let is_over = |now| self.deadlines.is_over(now);
        let has_free_start = self.admission.take_free_start();
        let mut is_first = has_free_start && !budget.looked_at().is_some_and(is_over);
        let may_start = self.can_admit(driver);
        while may_start {
            let Some(permit) = self.permit(driver) else {
                break;
            };
            if !std::mem::take(&mut is_first) && !Self::may_poll(budget, driver) {
                break;
            }
            match self.pull() {
                Poll::Ready(Some((id, seed))) => {
                    let index = self.start(id, seed, permit, driver);
                    self.poll_source(index, true, budget, driver)?;
                }
                Poll::Ready(None) => self.drop_list(),
                Poll::Pending => break,
            }
        }
        if self.in_flight.list.is_some() {
            self.end_list(driver);
        }
        ControlFlow::Continue(())
    }

    /// Asks the list for a source.
    #[inline(always)]
    fn pull(&mut self) -> Poll<Option<(K, L::Seed)>> {
        self.pulling = true;
        let next = self.in_flight.next(&self.ready);
        self.pulling = false;
        self.list_waits = next.is_pending();
        next
    }

    /// Puts a source into flight, and reports it.
    #[inline(always)]
    fn start<D: Driver<K, G>>(
        &mut self,
        id: K,
        seed: L::Seed,
        permit: Permit,
        driver: &mut D,
    ) -> usize {
        self.has_started = true;
        self.deadlines.note_start();
        let mut panics = Panics::default();
        panics.catch(|| driver.started(&id));
        let (id, source) = self.make(id, seed);
        let index = self.in_flight.slots.insert(id, source, permit);
        if D::TIMES_SOURCES {
            self.in_flight.note_start(index, clock::now());
        }
        self.ready.cover(index);
        if panics.is_some() {
            // It is polled by the next sweep.
            self.ready.wake(index);
            panics.resume();
        }
        index
    }

    /// Makes the future of a source. If that panics, the source has panicked.
    #[inline(always)]
    fn make(&mut self, id: K, seed: L::Seed) -> (K, G) {
        let list = self.in_flight.list.as_mut();
        let list = list.expect("the list that the source came from");
        if !L::MAKING_MAY_PANIC {
            let source = list.make(&id, seed);
            return (id, source);
        }
        let making = self.making.insert(id);
        let source = list.make(making, seed);
        let id = self.making.take().expect("the id that was just put there");
        (id, source)
    }

    /// Drops a list that reports that it has come to its end, which needs no budget. A source that it
    /// has nevertheless is polled by the next sweep.
    #[inline(never)]
    fn end_list(&mut self, driver: &mut impl Driver<K, G>) {
        if self.pulling || self.list_waits || self.in_flight.not_started().1 != Some(0) {
            return;
        }
        let Some(permit) = self.permit(driver) else {
            return;
        };
        match self.pull() {
            Poll::Ready(None) => self.drop_list(),
            Poll::Ready(Some((id, seed))) => {
                let index = self.start(id, seed, permit, driver);
                self.ready.wake(index);
            }
            Poll::Pending => {}
        }
    }

    fn drop_list(&mut self) {
        let exhausted = self.in_flight.list.take();
        drop(exhausted);
    }

    /// Whether there may be sources left to start, and room for one, and time.
    fn can_admit(&self, driver: &impl Driver<K, G>) -> bool {
        self.has_next() && self.admission.may_start(self.occupied(driver)) && !self.is_closing()
    }

    /// Permits the start of a source, if the list may have one and there is room for it.
    #[inline]
    fn permit(&self, driver: &impl Driver<K, G>) -> Option<Permit> {
        let has_next = self.has_next().then_some(());
        has_next.and_then(|()| self.admission.permit(self.occupied(driver)))
    }

    /// Whether the list may have a source now.
    fn has_next(&self) -> bool {
        self.in_flight.list.is_some() && !self.list_waits
    }

    /// How many sources are in flight, outcomes that wait to be passed on included.
    fn occupied(&self, driver: &impl Driver<K, G>) -> usize {
        self.in_flight.slots.len() + driver.waiting()
    }

    /// Whether the deadline of the whole run has passed.
    fn is_closing(&self) -> bool {
        self.grace.as_ref().is_some_and(|grace| grace.covers_run)
    }

    #[inline(always)]
    fn poll_slot<D: Driver<K, G>>(
        &mut self,
        index: usize,
        budget: &mut Budget,
        driver: &mut D,
    ) -> ControlFlow<End> {
        let is_watched = self.grace.is_some() || D::SOURCES_ARE_RUNS && self.is_stopping;
        if is_watched && self.is_covered(index) {
            return self.poll_covered(index, budget, driver);
        }
        self.poll_source(index, true, budget, driver)
    }

    /// Polls a source whose time is up. What it does is noted. If it is a run, it starts no sources.
    #[inline(never)]
    fn poll_covered(
        &mut self,
        index: usize,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        let before = (budget.inside(), budget.outcomes());
        let flow = self.poll_source(index, false, budget, driver);
        self.note_covered(before, budget, driver);
        flow
    }

    #[inline(always)]
    fn poll_source<D: Driver<K, G>>(
        &mut self,
        index: usize,
        may_start: bool,
        budget: &mut Budget,
        driver: &mut D,
    ) -> ControlFlow<End> {
        let mut panics = Panics::default();
        self.polling = Some(index);
        // An empty slot that a stale waker has woken costs a poll too.
        budget.spend();
        let slots = &mut self.in_flight.slots;
        let poll = slots.poll(index, &mut self.ready, &mut panics, |source, cx| {
            driver.poll_source(source, cx, may_start)
        });
        self.polling = None;
        let Poll::Ready((id, answer)) = poll else {
            self.pending_after = budget.spent();
            return ControlFlow::Continue(());
        };
        budget.note_outcome();
        let elapsed = match D::TIMES_SOURCES {
            true => self.in_flight.elapsed(index),
            false => Duration::ZERO,
        };
        let flow = driver.finished(id, answer, elapsed, &mut panics);
        panics.resume();
        flow?;
        self.verdict(driver)
    }

    /// Ends the run if its outcomes decide how.
    fn verdict(&mut self, driver: &mut impl Driver<K, G>) -> ControlFlow<End> {
        let in_flight = &self.in_flight;
        let most_left = || {
            in_flight
                .not_started()
                .1?
                .checked_add(in_flight.slots.len())
        };
        match driver.verdict(&self.options.policies, most_left) {
            Some(end) => ControlFlow::Break(end),
            None => ControlFlow::Continue(()),
        }
    }

    /// Prepares for the outcomes of this many sources, unless a few may be enough.
    fn expect(&self, sources: usize, driver: &mut impl Driver<K, G>) {
        if !self.options.policies.may_be_early() {
            driver.expect(sources);
        }
    }

    /// Whether every source has answered, and every outcome was passed on. An iterator that says
    /// that it has come to its end is asked.
    fn is_complete(&mut self, driver: &mut impl Driver<K, G>) -> bool {
        if !self.in_flight.slots.is_empty() {
            return false;
        }
        if self.in_flight.list.is_some() {
            self.end_list(driver);
        }
        self.in_flight.list.is_none() && self.occupied(driver) == 0
    }

    /// After a panic: drops the source that panicked and accounts for it. Returns whether it was
    /// one. A hook that panics when it is told is noted in `panics`.
    fn recover(
        &mut self,
        driver: &mut impl Driver<K, G>,
        message: String,
        panics: &mut Panics,
    ) -> bool {
        if let Some(id) = self.making.take() {
            driver.panicked(id, message, Duration::ZERO, panics);
            return true;
        }
        let Some(index) = self.polling.take() else {
            return false;
        };
        if Self::are_runs(driver) {
            return true;
        }
        // A source that panics in its drop after it has panicked has had its say.
        let mut second = Panics::default();
        let elapsed = self.in_flight.elapsed(index);
        if let Some(id) = self.in_flight.slots.remove(index, &mut second) {
            driver.panicked(id, message, elapsed, panics);
        }
        true
    }

    fn are_runs<D: Driver<K, G>>(_: &D) -> bool {
        D::SOURCES_ARE_RUNS
    }
}
