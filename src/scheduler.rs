//! The scheduling loop of every operation: sources in, outcomes out.
//!
//! A [`Run`] polls its sources and decides when it ends. A [`Driver`] decides what happens to each
//! outcome. One poll takes these steps, in this order:
//!
//! 1. Poll the signals: cancel, expire, a receiver that has closed. Pass on outcomes that wait.
//! 2. Poll the sources that were woken, each once.
//! 3. Start new sources, as many as [`admission`] permits, and poll each.
//! 4. Stop the sources whose own deadline has passed. End the run if every source has answered.
//! 5. Check the deadline of the run.
//!
//! The stop policies are checked after each outcome.
//!
//! A poll is quiet if all that may have happened are wakes of sources: none is left to start, no outcome
//! waits to be passed on, no signal was woken, no deadline has passed, and the poll before did not panic. It
//! begins with step 2.

mod admission;
mod alarm;
mod budget;
mod clock;
mod deadlines;
mod driver;
mod expiry;
mod grace;
mod in_flight;
#[cfg(test)]
mod model;
mod options;
mod policy;
mod pool;
#[cfg(all(test, futures_aggregate_shuttle))]
mod races;
mod ready;
mod recovery;
mod samples;
mod shutdown;
mod signals;
mod slots;
mod start;
mod sync;
mod task;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use admission::Admission;
pub(crate) use alarm::{Alarm, WithAlarm};
pub(crate) use budget::Budget;
pub(crate) use clock::Clock;
use deadlines::Deadlines;
pub(crate) use driver::{Around, Driver, End, Starts, Stay};
use grace::Grace;
use in_flight::InFlight;
pub(crate) use options::{Options, Policies, limit};
pub(crate) use policy::{Counts, Verdicts};
use pool::Pooled;
use ready::Next;
pub(crate) use ready::{Flag, RaisedFlag, Ready};
use samples::Sampler;
pub use signals::{AnySignals, First, MaybeSignal, Never, Signals};
pub(crate) use signals::{Inside, Watch};

use crate::Reason;
use crate::panics::{Panics, contain};
use crate::sources::Sources;
use crate::timer::Instant;

/// A run: sources of type `G`, named by `K`, taken from a list `L`, and the state of polling them.
pub struct Run<L, K, G> {
    /// Which sources were woken. Dropped first, so that a source that wakes others in its destructor
    /// wakes no task.
    ready: Ready,
    /// The sources.
    in_flight: InFlight<L, K, G>,
    /// The caller's settings.
    options: Options,
    /// What may start.
    admission: Admission,
    /// What adaptive limits are told of sources.
    sampler: Sampler,
    /// The deadlines that are not those of sources.
    deadlines: Deadlines,
    /// The time of the latest alarm that had gone off when a poll was last not quiet.
    slept_until: Option<Instant>,
    /// How far the run has come.
    stage: Stage,
    /// The clock at the start of this poll, or when it was read again. `None` without deadlines.
    now: Option<Instant>,
    /// Whether this poll has started a source.
    has_started: bool,
    /// Whether the next poll is quiet, unless a flag is raised or a deadline has passed.
    may_be_quiet: bool,
    /// The budget spent in this poll when a source was last found pending.
    pending_after: u32,
    /// Polls since a sweep left a source pending for which the cooperative budget may have been spent.
    calm_polls: u32,
    /// Whether sweeps are shuffled, as they are once a sweep has left a source pending.
    is_shuffled: bool,
    /// The reason of a run whose deadline has passed.
    closing: Option<Reason>,
    /// The time between a deadline and its effect.
    grace: Option<Box<Grace>>,
    /// Deadlines up to this one have had their grace.
    settled: Option<Instant>,
    /// Whether the last poll had no budget for some of the late sources.
    late_left: bool,
    /// Whether the last poll panicked.
    has_panicked: bool,
    /// The slot of the last source whose first poll was left to a sweep.
    not_polled: Option<usize>,
    /// The slot whose source is being polled, or made. Still set after the source has panicked.
    polling: Option<usize>,
    /// Whether the list is being polled for a source. Still set after the list has panicked.
    pulling: bool,
    /// Whether the list has parked a source, and may have one that can start.
    list_goes_on: bool,
    /// Whether the list is pending. It is polled again when it was woken.
    list_waits: bool,
    /// Whether the last poll polled the list before the sources that were woken.
    was_list_first: bool,
    /// The panic of an observer that was told of a start. The source is put into its slot first.
    start_panics: Panics,
    /// Whether a run that drains has one more poll, to look for the end of its list.
    looks_for_end: bool,
    /// The number of sources to name after the run has ended.
    unnamed: usize,
}

/// How far a run has come.
#[derive(Clone, Copy)]
enum Stage {
    /// Never polled.
    New,
    /// Polled, and not ended.
    Running,
    /// Ended. Some sources that were never started are not named yet.
    Naming(End),
    /// Ended; the result has not been returned yet.
    Ended(End),
    /// The result was returned.
    Done,
}

/// Wakes a task if it is dropped, because a panic unwinds.
struct WakeOnUnwind<'a>(&'a Waker);

impl Drop for WakeOnUnwind<'_> {
    fn drop(&mut self) {
        contain(|| self.0.wake_by_ref());
    }
}

impl<L, K, G> Run<L, K, G> {
    /// A run that was never polled.
    #[inline(always)]
    pub(crate) fn new(sources: L, options: Options) -> Self
    where
        L: Sources<Id = K>,
    {
        Self {
            ready: Ready::unused(),
            in_flight: InFlight::new(sources),
            options,
            admission: Admission::none(),
            sampler: Sampler::none(),
            deadlines: Deadlines::new(),
            slept_until: None,
            stage: Stage::New,
            now: None,
            has_started: false,
            may_be_quiet: false,
            pending_after: 0,
            calm_polls: u32::MAX,
            is_shuffled: false,
            closing: None,
            grace: None,
            settled: None,
            late_left: false,
            has_panicked: false,
            not_polled: None,
            polling: None,
            pulling: false,
            list_goes_on: false,
            list_waits: false,
            was_list_first: false,
            start_panics: Panics::default(),
            looks_for_end: false,
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

    /// Takes the list, before the first poll.
    pub(crate) fn take_list(&mut self) -> Option<L> {
        self.in_flight.list.take()
    }

    /// Whether the run has ended, and names sources that were never started.
    pub(crate) fn is_naming(&self) -> bool {
        matches!(self.stage, Stage::Naming(_))
    }

    /// The list of sources not started yet, if it has not come to its end.
    pub(crate) fn list(&self) -> Option<&L> {
        self.in_flight.list.as_ref()
    }

    /// The same, for a caller that adds to a list that is pending.
    pub(crate) fn list_mut(&mut self) -> Option<&mut L> {
        self.list_waits = false;
        self.in_flight.list.as_mut()
    }

    /// Whether the run was never polled.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.stage, Stage::New)
    }

    /// The number of sources in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.slots.len()
    }

    /// Whether the run has returned its result.
    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Drops the task's waker, so that a source that wakes others in its destructor wakes no task.
    pub(crate) fn close(&mut self) {
        self.ready.close();
    }

    /// Drops every source in flight, oldest first, and passes on its id and when it started.
    pub(crate) fn drop_each(
        &mut self,
        panics: &mut Panics,
        dropped: impl FnMut(&K, Option<Instant>),
    ) {
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
    /// Polls the run. Returns how it ended. `starts` comes from the run around this one, if there is
    /// one.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &dyn Clock,
        starts: Starts,
        mut signals: Pin<&mut impl AnySignals>,
        driver: &mut impl Driver<K, G>,
    ) -> Poll<End> {
        // The clock of the caller may panic.
        let guard = WakeOnUnwind(cx.waker());
        match self.stage {
            Stage::New => {
                self.begin();
                self.admission = Admission::new(&self.options, L::PARKS);
                self.sampler = Sampler::new(&self.options);
                self.now = self.deadlines.start(&self.options.limits, clock);
            }
            Stage::Running => self.now = self.now.map(|_| clock.now()),
            Stage::Naming(end) => {
                let budget = &mut Budget::open(None, clock);
                std::mem::forget(guard);
                return self.finish(end, cx, budget, driver, Panics::default());
            }
            Stage::Ended(end) => {
                self.put_back();
                std::mem::forget(guard);
                return Poll::Ready(end);
            }
            Stage::Done => panic!("polled after completion; check `is_terminated()` first"),
        }
        let budget = &mut Budget::open(self.now, clock);
        std::mem::forget(guard);
        self.ready.begin_poll();
        self.admission.begin_poll(starts, self.now, &mut self.ready);
        self.pending_after = 0;
        if L::MAY_WAIT && self.ready.take_flag(Flag::Sources) {
            self.list_waits = false;
        }
        let mut is_rest = false;
        loop {
            // One `catch_unwind` for the whole poll: one around each source has a measurable cost.
            let step = catch_unwind(AssertUnwindSafe(|| {
                self.step(is_rest, signals.as_mut(), budget, driver)
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
                        // The deadline came first if it has passed.
                        Err(reason @ Reason::ReceiverClosed) => Err(self.closing.unwrap_or(reason)),
                        end => end,
                    };
                    return self.finish(end, cx, budget, driver, panics);
                }
                Err(payload) => {
                    budget.release();
                    let mut panics = Panics::default();
                    let recovered = panics.catch(|| self.recover(payload, budget, driver));
                    let panics = recovered.unwrap_or(panics);
                    if panics.is_some() {
                        self.has_panicked = true;
                        self.ready.end_poll(cx.waker(), Next::Again);
                        panics.resume();
                        return Poll::Pending;
                    }
                    is_rest = true;
                }
            }
        }
    }

    /// Takes the memory of an earlier run, or new memory.
    #[inline]
    fn begin(&mut self) {
        if !self.ready.has_begun() {
            let Pooled { wakeups, links } = pool::take();
            self.ready.begin(wakeups);
            self.in_flight.slots.begin(links);
        }
    }

    /// The run is done: a later one can use its memory.
    fn put_back(&mut self) {
        self.stage = Stage::Done;
        self.in_flight.waker = None;
        let links = self.in_flight.slots.end(&mut self.ready);
        if let Some(wakeups) = self.ready.end() {
            pool::put_back(Pooled { wakeups, links });
        }
    }

    /// Ends the run, which takes several polls if there are many sources to name. A panic is resumed
    /// at the end of the poll.
    fn finish(
        &mut self,
        end: End,
        cx: &mut Context<'_>,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
        mut panics: Panics,
    ) -> Poll<End> {
        let end = self.interrupt(end, budget, driver, &mut panics);
        if end.is_pending() || panics.is_some() {
            cx.waker().wake_by_ref();
            panics.resume();
        }
        if end.is_ready() {
            self.put_back();
        }
        end
    }

    /// One poll. Breaks when the run ends; otherwise returns what follows the poll. `is_rest` is true
    /// for the rest of a poll in which a panic was caught.
    #[inline(always)]
    fn step<D: Driver<K, G>>(
        &mut self,
        is_rest: bool,
        mut signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
        driver: &mut D,
    ) -> ControlFlow<End, Next> {
        let is_quiet = !is_rest && self.is_quiet();
        // Only the end of a poll sets it. A poll in a grace, or one that panics, does not come to that.
        self.may_be_quiet = false;
        if !is_quiet {
            self.prepare(is_rest, signals.as_mut(), budget, driver)?;
        }
        // 2. Sources that were woken.
        if !is_rest {
            self.ready.start_sweep(self.is_shuffled);
        }
        self.sweep(budget, driver)?;

        // 3. New sources. After the list has panicked, one poll skips it, so that a list that panics
        // in every poll delays no deadline.
        if self.in_flight.list.is_some() {
            if !self.pulling {
                self.admit(signals.as_mut(), budget, driver)?;
            }
            // The end of the list may make a quorum unreachable.
            self.verdict(driver)?;
        }

        // 4. Deadlines of sources.
        let has_deadlines = self.now.is_some() || self.grace.is_some();
        if has_deadlines {
            self.stamp(budget);
            if self.grace.is_none() && self.options.limits.has_source_timeouts() {
                self.stop_late_sources(budget, driver)?;
            }
        }
        driver.flush(&mut self.ready, budget)?;
        self.end_if_complete(signals.as_mut(), budget, driver)?;
        if self.is_drained(driver) {
            // It only looks for the end of its list.
            self.pulling = false;
            return ControlFlow::Continue(Next::Again);
        }

        // 5. The deadline of the run.
        let mut next = None;
        if has_deadlines || signals.is_expired() {
            next = self.check_grace(signals.as_mut(), budget, driver)?;
        }
        self.pulling = false;
        if let Some(next) = next {
            return ControlFlow::Continue(next);
        }
        if has_deadlines {
            let is_start_due = |now| self.deadlines.is_start_due(now, &self.options.limits);
            if self.now.is_some_and(is_start_due) && self.has_next() {
                self.admission.raise();
            }
        }
        let has_unused = self.in_flight.slots.give_back_unused(&mut self.ready);
        self.may_be_quiet = self.in_flight.list.is_none()
            && self.grace.is_none()
            && !D::SOURCES_ARE_RUNS
            && !self.admission.is_draining()
            && driver.waiting() == 0;
        if has_unused || self.has_work(driver) {
            return ControlFlow::Continue(Next::Again);
        }
        if self.now.is_none() {
            return ControlFlow::Continue(Next::Wait);
        }
        let next_source = self.in_flight.slots.next_deadline();
        ControlFlow::Continue(self.wait_until(next_source, None, signals, driver))
    }

    /// Whether this poll is quiet.
    #[inline(always)]
    fn is_quiet(&self) -> bool {
        let slots = &self.in_flight.slots;
        let is_early = |now| !self.deadlines.is_over(now) && slots.late(now).is_none();
        self.may_be_quiet && !self.ready.has_any_flag() && self.now.is_none_or(is_early)
    }

    /// Begins a poll that is not quiet: all that comes before the sources that were woken.
    #[inline(never)]
    fn prepare<D: Driver<K, G>>(
        &mut self,
        is_rest: bool,
        mut signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
        driver: &mut D,
    ) -> ControlFlow<End> {
        let is_new = matches!(self.stage, Stage::New);
        self.stage = Stage::Running;

        // 1. Signals. They come first, while the task's cooperative budget is fresh.
        signals.as_mut().poll(&mut self.ready);
        if let Some(now) = self.now {
            self.slept_until = signals.as_mut().poll_alarm(now);
            if D::SOURCES_ARE_RUNS {
                self.wake_due(self.due_inside(now, budget.clock()));
            }
        }
        if self.has_panicked || is_rest {
            // The panic came before the policies could see the last outcome.
            self.verdict(driver)?;
        }
        if signals.is_cancelled() {
            return ControlFlow::Break(Err(Reason::Cancelled));
        }
        if signals.is_drained() {
            self.drain::<D>();
        }
        if let Some(reason) = driver.poll_stop(&mut self.ready) {
            return ControlFlow::Break(Err(reason));
        }
        if is_new {
            if self.is_too_late() {
                return ControlFlow::Break(Err(Reason::TimedOut));
            }
            // A policy may already hold, for example an unreachable quorum.
            self.verdict(driver)?;
            match self.in_flight.not_started() {
                (least, Some(most)) if least == most => self.expect(most, driver),
                _ => {}
            }
        }

        self.note_lateness(signals.as_mut(), budget, driver)?;
        driver.flush_first(&mut self.ready, budget)?;
        if self.late_left {
            self.stop_late_sources(budget, driver)?;
        }
        if L::MAY_WAIT && self.is_shuffled {
            // A stream needs the cooperative budget as well, so it comes first in every second poll.
            self.admit_first(signals.as_mut(), budget.clock(), driver);
        }
        ControlFlow::Continue(())
    }

    /// What follows a poll without work left: the next wake or the next deadline (of the run, of a source,
    /// of a start, of a run inside it, or of `rest`).
    #[inline(never)]
    fn wait_until<D: Driver<K, G>>(
        &mut self,
        next_source: Option<Instant>,
        rest: Option<Instant>,
        signals: Pin<&mut impl AnySignals>,
        driver: &D,
    ) -> Next {
        let Some(now) = self.now else {
            return Next::Wait;
        };
        let next_start = self
            .in_flight
            .list
            .as_ref()
            .filter(|_| !self.list_waits)
            .and(self.next_start());
        let own = [self.deadlines.whole(), next_source, next_start];
        let next = own.into_iter().flatten().min();
        if next.is_some_and(|next| next <= now) {
            return Next::Again;
        }
        // The times of these may have passed. They wait for the alarm.
        let next_inside = match Self::are_runs(driver) {
            true => self.in_flight.slots.next_wake(),
            false => None,
        };
        let next = [next, next_inside, rest].into_iter().flatten().min();
        match signals.set_alarm(next, now, &self.ready) {
            true => Next::Again,
            false => Next::Wait,
        }
    }

    /// Whether there is work left for another poll at once.
    #[inline(always)]
    fn has_work(&mut self, driver: &impl Driver<K, G>) -> bool {
        self.can_admit(driver)
            || self.late_left
            || driver.can_flush()
            || self.is_drained(driver)
            || self.ready.has_work()
    }

    /// When a source may start that waits for nothing but time.
    fn next_start(&self) -> Option<Instant> {
        let paced = self.deadlines.next_start();
        let rated = self.admission.waits_until();
        paced.into_iter().chain(rated).min()
    }

    /// Wakes the runs among the sources whose time has come.
    fn wake_due(&mut self, due: Instant) {
        while let Some(index) = self.in_flight.slots.take_due(due) {
            self.ready.wake(index);
        }
    }

    /// Continues the current sweep, with the part of the budget that is not reserved for new sources.
    fn sweep(
        &mut self,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        // Sources that wake themselves in every poll must not keep new ones from starting.
        if self.can_admit(driver) {
            budget.reserve();
        }
        self.go_on_sweeping(budget, driver)?;
        budget.release();
        self.note_sweep(budget);
        ControlFlow::Continue(())
    }

    /// Polls the sources of the current sweep while there is budget.
    fn go_on_sweeping(
        &mut self,
        budget: &mut Budget<'_>,
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
    fn may_poll(budget: &mut Budget<'_>, driver: &impl Driver<K, G>) -> bool {
        // Every run polls at least one source.
        budget.has_more() && (!Self::are_runs(driver) || budget.has_share() || budget.is_fresh())
    }

    /// Whether the deadline of the run has passed.
    fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Polls the source in a slot.
    #[inline(always)]
    fn poll_slot<D: Driver<K, G>>(
        &mut self,
        index: usize,
        budget: &mut Budget<'_>,
        driver: &mut D,
    ) -> ControlFlow<End> {
        if self.grace.is_some() && self.is_covered(index) {
            return self.poll_covered(index, budget, driver);
        }
        let starts = self.starts_inside::<D>();
        self.poll_source(index, starts, budget, driver)
    }

    /// What the runs among the sources may do now. If the signal to drain was woken in this poll, the
    /// next poll polls it, and until then nothing starts.
    #[inline(always)]
    pub(super) fn starts_inside<D: Driver<K, G>>(&mut self) -> Starts {
        match self.admission.starts_inside() {
            Starts::Allowed if D::SOURCES_ARE_RUNS && self.ready.is_raised(Flag::Drain) => {
                Starts::Paused
            }
            starts => starts,
        }
    }

    /// For a run inside this one, to see whether this one's signal to drain was woken.
    pub(crate) fn raised_drain(&mut self, signals: &impl AnySignals) -> Option<RaisedFlag> {
        // The first poll of this run may be about to begin.
        self.begin();
        signals.raised_drain(&self.ready)
    }

    /// Polls a source whose deadline has passed, and notes its progress. If the source is a run, it
    /// starts no sources.
    #[inline(never)]
    fn poll_covered(
        &mut self,
        index: usize,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        let before = (budget.inside(), budget.outcomes());
        let flow = self.poll_source(index, Starts::Paused, budget, driver);
        self.note_covered(before, budget, driver);
        flow
    }

    /// Polls the source in a slot, and passes its outcome on.
    #[inline(always)]
    fn poll_source<D: Driver<K, G>>(
        &mut self,
        index: usize,
        starts: Starts,
        budget: &mut Budget<'_>,
        driver: &mut D,
    ) -> ControlFlow<End> {
        let mut panics = Panics::default();
        self.polling = Some(index);
        // A spurious wakeup of an empty slot costs budget too.
        budget.spend();
        let slots = &mut self.in_flight.slots;
        let around = Around {
            clock: budget.clock(),
            starts,
            slept_until: self.slept_until,
        };
        let poll = slots.poll(index, &mut self.ready, &mut panics, |source, cx| {
            driver.poll_source(source, cx, around)
        });
        self.polling = None;
        let Poll::Ready((id, answer)) = poll else {
            self.pending_after = budget.spent();
            if D::SOURCES_ARE_RUNS {
                self.in_flight.slots.note_wake(index, D::wakes_at);
            }
            return ControlFlow::Continue(());
        };
        self.note_end(index);
        budget.note_outcome();
        let clock = budget.clock();
        if self.sampler.is_on() {
            let ending = driver.ending(&answer, &mut panics);
            self.end_sample(index, ending, clock, &mut panics);
        }
        let stay = self
            .in_flight
            .stay(index, D::TIMES_SOURCES, clock, &mut panics);
        let flow = driver.finished(id, answer, stay, &mut panics);
        panics.resume();
        flow?;
        self.verdict(driver)
    }

    /// Breaks if the stop policies end the run.
    #[inline]
    fn verdict(&mut self, driver: &mut impl Driver<K, G>) -> ControlFlow<End> {
        if !self.options.policies.has_any() {
            return ControlFlow::Continue(());
        }
        let in_flight = &self.in_flight;
        let most_left = || in_flight.most_left();
        match driver.verdict(&self.options.policies, most_left) {
            Some(end) => ControlFlow::Break(end),
            None => ControlFlow::Continue(()),
        }
    }

    /// Reserves memory for the outcomes of this many sources, unless a few may be enough.
    fn expect(&self, sources: usize, driver: &mut impl Driver<K, G>) {
        if !self.options.policies.may_be_early() {
            driver.expect(sources);
        }
    }

    /// Breaks if every source has answered and every outcome was passed on, or every source that has
    /// started in a run that drains. A list that reports that it is empty is polled once more, to be
    /// sure.
    fn end_if_complete(
        &mut self,
        signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        if !self.in_flight.slots.is_empty() {
            return ControlFlow::Continue(());
        }
        if self.in_flight.list.is_some() {
            self.end_list(signals, budget.clock(), driver);
        }
        if self.occupied(driver) > 0 {
            return ControlFlow::Continue(());
        }
        let is_draining = self.admission.is_draining();
        let has_to_look = is_draining && L::MAY_WAIT && self.has_to_look_for_end();
        if has_to_look && !budget.is_fresh() && !std::mem::replace(&mut self.looks_for_end, true) {
            // The stream may need the cooperative budget, which the sources may have spent. In the next
            // poll nothing comes before it.
            return ControlFlow::Continue(());
        }
        if is_draining && !self.has_started_all(driver) {
            return ControlFlow::Break(Err(self.closing.unwrap_or(Reason::Drained)));
        }
        if self.in_flight.list.is_some() {
            return ControlFlow::Continue(());
        }
        // The end of the list may make a quorum unreachable.
        self.verdict(driver)?;
        ControlFlow::Break(Ok(()))
    }

    /// Whether a run that drains had started all its sources, after the last one has answered.
    #[cold]
    fn has_started_all(&mut self, driver: &mut impl Driver<K, G>) -> bool {
        if self.has_to_look_for_end() {
            self.poll_end(Reason::Drained, driver);
        }
        self.in_flight.list.is_none() && !self.in_flight.has_left_out && !driver.has_drained()
    }

    /// Whether a run that drains has nothing in flight any more.
    #[inline]
    fn is_drained(&self, driver: &impl Driver<K, G>) -> bool {
        self.admission.is_draining() && self.occupied(driver) == 0
    }

    /// Whether a run that drains does not know whether its list has come to its end.
    fn has_to_look_for_end(&self) -> bool {
        self.in_flight.list.is_some() && !self.in_flight.has_left_out && !self.pulling
    }

    /// Whether the sources are runs, that is, batches.
    fn are_runs<D: Driver<K, G>>(_: &D) -> bool {
        D::SOURCES_ARE_RUNS
    }
}
