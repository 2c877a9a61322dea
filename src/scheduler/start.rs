//! Starting sources: from the list into slots, one permit each.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Run;
use super::admission::Permit;
use super::budget::Budget;
use super::clock::Clock;
use super::driver::{Driver, End};
use super::in_flight::InFlight;
use super::options::limit;
use super::ready::MOST_SLOTS;
use super::signals::AnySignals;
use super::slots::Slots;
use crate::Reason;
use crate::panics::Panics;
use crate::sources::Sources;
use crate::timer::Instant;

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// Starts new sources. Each is polled at once, so that one that is ready frees its slot for the
    /// next. One may start although the budget is spent: otherwise sources with long polls would keep
    /// new ones from starting.
    pub(super) fn admit<D: Driver<K, G>>(
        &mut self,
        mut signals: Pin<&mut impl AnySignals>,
        budget: &mut Budget<'_>,
        driver: &mut D,
    ) -> ControlFlow<End> {
        let is_over = |now| self.deadlines.is_over(now);
        let has_free_start = self.admission.take_free_start();
        let mut is_free = has_free_start && !budget.looked_at().is_some_and(is_over);
        if self.can_admit(driver) {
            loop {
                let Some(permit) = self.permit(signals.as_ref().get_ref(), budget.clock(), driver)
                else {
                    // A source that was parked costs as much as one that was polled.
                    if std::mem::take(&mut self.list_goes_on) && Self::may_poll(budget, driver) {
                        budget.spend();
                        continue;
                    }
                    break;
                };
                if !std::mem::take(&mut is_free) && !Self::may_poll(budget, driver) {
                    self.admission.take_back(permit);
                    break;
                }
                let clock = budget.clock();
                let Some(index) = self.start_next(permit, signals.as_mut(), clock, driver) else {
                    break;
                };
                let starts = self.starts_inside::<D>();
                self.poll_source(index, starts, budget, driver)?;
            }
        }
        if self.in_flight.list.is_some() {
            self.end_list(signals, budget.clock(), driver);
        }
        ControlFlow::Continue(())
    }

    /// In every second poll, starts one source before the sweep, which polls it.
    #[inline(never)]
    pub(super) fn admit_first(
        &mut self,
        signals: Pin<&mut impl AnySignals>,
        clock: &dyn Clock,
        driver: &mut impl Driver<K, G>,
    ) {
        self.was_list_first = !self.was_list_first;
        if self.was_list_first && !self.pulling && self.can_admit(driver) {
            self.start_for_sweep(signals, clock, driver);
        }
    }

    /// Polls a list that reports that it is empty, and drops it if it is. This needs no budget: if the
    /// list has a source nevertheless, the next sweep polls it.
    #[inline(never)]
    pub(super) fn end_list(
        &mut self,
        signals: Pin<&mut impl AnySignals>,
        clock: &dyn Clock,
        driver: &mut impl Driver<K, G>,
    ) {
        let is_empty = || self.in_flight.not_started().1 == Some(0);
        if !self.pulling && !self.list_waits && is_empty() {
            let permit = self.permit_to_end(signals.as_ref().get_ref(), clock, driver);
            self.start_for_sweep_with(permit, signals, clock, driver);
        }
    }

    /// Starts the next source, if there is one and room for it. The next sweep polls it.
    fn start_for_sweep(
        &mut self,
        signals: Pin<&mut impl AnySignals>,
        clock: &dyn Clock,
        driver: &mut impl Driver<K, G>,
    ) {
        let permit = self.permit(signals.as_ref().get_ref(), clock, driver);
        self.start_for_sweep_with(permit, signals, clock, driver);
    }

    /// The same, if there is a permit.
    fn start_for_sweep_with(
        &mut self,
        permit: Option<Permit>,
        signals: Pin<&mut impl AnySignals>,
        clock: &dyn Clock,
        driver: &mut impl Driver<K, G>,
    ) {
        let started = permit.and_then(|permit| self.start_next(permit, signals, clock, driver));
        if let Some(index) = started {
            self.leave_to_sweep(index);
        }
    }

    /// Starts the next source of the list, if there is one. Right before, the signal to drain is
    /// checked again: the list may have set it off.
    #[inline(always)]
    fn start_next<D: Driver<K, G>>(
        &mut self,
        permit: Permit,
        signals: Pin<&mut impl AnySignals>,
        clock: &dyn Clock,
        driver: &mut D,
    ) -> Option<usize> {
        match self.poll_list(L::poll_next) {
            Poll::Ready(Some((id, seed))) => {
                if signals.may_have_drained(&mut self.ready) {
                    return self.start_unless_drained(id, seed, permit, signals, clock, driver);
                }
                Some(self.start(id, seed, permit, clock, driver))
            }
            next => {
                self.admission.take_back(permit);
                if next.is_ready() {
                    self.drop_list();
                }
                None
            }
        }
    }

    /// Polls the signal to drain, and starts a source unless it has completed. A batch starts
    /// nevertheless: it names its sources.
    #[cold]
    fn start_unless_drained<D: Driver<K, G>>(
        &mut self,
        id: K,
        seed: L::Seed,
        permit: Permit,
        signals: Pin<&mut impl AnySignals>,
        clock: &dyn Clock,
        driver: &mut D,
    ) -> Option<usize> {
        let mut panics = Panics::default();
        if signals.poll_drain(&mut self.ready, &mut panics) {
            self.drain::<D>();
            if !D::SOURCES_ARE_RUNS {
                self.admission.take_back(permit);
                self.set_aside(id, seed);
                return None;
            }
        }
        let index = self.start(id, seed, permit, clock, driver);
        if panics.is_some() {
            self.leave_to_sweep(index);
            panics.resume();
        }
        Some(index)
    }

    /// Keeps the id of a source that will not start, to be named at the end of the run.
    #[cold]
    fn set_aside(&mut self, id: K, seed: L::Seed) {
        self.in_flight.has_left_out = true;
        self.in_flight.set_aside = Some(id);
        drop(seed);
    }

    /// Polls the list for its end. Returns whether that has come. A source that comes instead is named,
    /// not started.
    #[inline(never)]
    pub(super) fn poll_end(&mut self, reason: Reason, driver: &mut impl Driver<K, G>) -> bool {
        match self.poll_list(L::poll_left) {
            Poll::Ready(None) => {
                self.drop_list();
                true
            }
            Poll::Ready(Some((id, seed))) => {
                self.in_flight.has_left_out = true;
                let mut panics = Panics::default();
                self.name(id, seed, reason, driver, &mut panics);
                panics.resume();
                false
            }
            Poll::Pending => false,
        }
    }

    /// Polls the list.
    #[inline(always)]
    fn poll_list<R>(
        &mut self,
        poll: impl FnOnce(&mut L, &mut Context<'_>) -> Poll<Option<R>>,
    ) -> Poll<Option<R>> {
        self.pulling = true;
        let next = self.in_flight.poll_list(&self.ready, poll);
        self.pulling = false;
        self.list_waits = next.is_pending();
        next
    }

    /// Puts a source into a slot, and reports its start.
    #[inline(always)]
    fn start<D: Driver<K, G>>(
        &mut self,
        id: K,
        seed: L::Seed,
        permit: Permit,
        clock: &dyn Clock,
        driver: &mut D,
    ) -> usize {
        self.has_started = true;
        self.deadlines.note_start();
        self.start_panics.catch(|| driver.started(&id));
        let timeout = match D::LIMITS_SOURCES {
            true => limit(driver.source_timeout(&id, &mut self.start_panics)),
            false => None,
        };
        let started = match D::TIMES_SOURCES {
            true => self.start_panics.catch(|| clock.now()),
            false => None,
        };
        // Only shared limits are adaptive.
        let is_sampled = permit.is_shared() && self.sampler.is_on();
        let index = self.make(id, seed, permit, started);
        self.ready.cover(index);
        if let Some(timeout) = timeout {
            self.in_flight.slots.limit(index, timeout);
        }
        if is_sampled {
            self.begin_sample(index, clock);
        }
        let may_have_panicked = D::TIMES_SOURCES || D::LIMITS_SOURCES || is_sampled;
        if may_have_panicked && self.start_panics.is_some() {
            self.leave_to_sweep(index);
            std::mem::take(&mut self.start_panics).resume();
        }
        index
    }

    /// Lets the next sweep poll a source that was started.
    fn leave_to_sweep(&mut self, index: usize) {
        self.ready.wake(index);
        self.not_polled = Some(index);
    }

    /// Makes the future of a source in its slot.
    #[inline(always)]
    fn make(&mut self, id: K, seed: L::Seed, permit: Permit, started: Option<Instant>) -> usize {
        let InFlight { slots, list, .. } = &mut self.in_flight;
        let list = list.as_mut().expect("the list that the source came from");
        let in_order = self.options.in_order;
        let position = L::position(&seed);
        let note = |slots: &mut Slots<K, G>, index| {
            if let Some(started) = started {
                slots.note_start(index, started);
            }
            if in_order {
                slots.note_position(index, position);
            }
        };
        if !L::MAKING_MAY_PANIC && !L::PARKS {
            let source = list.make(&id, seed);
            let index = slots.insert(id, Some(source), permit);
            note(slots, index);
            return index;
        }
        // If this panics, the source in this slot has panicked.
        let index = slots.insert(id, None, permit);
        self.polling = Some(index);
        note(slots, index);
        list.note_start(index, &seed);
        slots.fill(index, |id| list.make(id, seed));
        self.polling = None;
        index
    }

    fn drop_list(&mut self) {
        let exhausted = self.in_flight.list.take();
        self.admission.leave_queue();
        drop(exhausted);
    }

    /// Whether a source may start in this poll, if the list has one.
    pub(super) fn can_admit(&self, driver: &impl Driver<K, G>) -> bool {
        self.has_next()
            && driver.may_start()
            && self.admission.may_start(self.in_use(driver))
            && (!L::PARKS || self.in_flight.slots.len() < MOST_SLOTS)
            && !self.is_closing()
    }

    /// Whether the list may be asked for a source. It may not if the signal to drain was woken in this
    /// poll: the next poll polls it first, with a cooperative budget.
    #[inline(always)]
    fn may_ask(&mut self, signals: &impl AnySignals, driver: &impl Driver<K, G>) -> bool {
        self.has_next() && driver.may_start() && !signals.may_have_drained(&mut self.ready)
    }

    /// A permit to start a source, if the list may have one and there is room for it.
    #[inline(always)]
    fn permit(
        &mut self,
        signals: &impl AnySignals,
        clock: &dyn Clock,
        driver: &impl Driver<K, G>,
    ) -> Option<Permit> {
        if !self.may_ask(signals, driver) {
            return None;
        }
        if L::PARKS {
            return self.permit_next(clock, driver);
        }
        let in_use = self.in_use(driver);
        self.admission.permit(in_use, clock, &self.ready)
    }

    /// The same, for the source that the list has found to be the next one.
    #[inline(never)]
    fn permit_next(&mut self, clock: &dyn Clock, driver: &impl Driver<K, G>) -> Option<Permit> {
        let in_use = self.in_use(driver);
        if !self.admission.has_room(in_use) {
            return None;
        }
        let look_ahead = self.options.look_ahead;
        match self.poll_list(|list, cx| list.poll_start(cx, look_ahead, Some(&mut |_| 1))) {
            Poll::Ready(Some(0)) => {
                self.list_goes_on = true;
                return None;
            }
            Poll::Ready(Some(weight)) => self.admission.set_weight(weight),
            Poll::Ready(None) => {
                self.drop_list();
                return None;
            }
            Poll::Pending => return None,
        }
        let permit = self.admission.permit(in_use, clock, &self.ready);
        if permit.is_some() {
            self.admission.set_weight(1);
        }
        permit
    }

    /// A permit to poll a list that reports that it is empty.
    fn permit_to_end(
        &mut self,
        signals: &impl AnySignals,
        clock: &dyn Clock,
        driver: &impl Driver<K, G>,
    ) -> Option<Permit> {
        if L::PARKS {
            return self.permit(signals, clock, driver);
        }
        if !self.may_ask(signals, driver) {
            return None;
        }
        self.admission.permit_beyond(self.in_use(driver), clock)
    }

    /// Begins to drain: no source starts any more, and those in flight go on.
    #[cold]
    pub(super) fn drain<D: Driver<K, G>>(&mut self) {
        if self.admission.is_draining() {
            return;
        }
        self.admission.drain();
        if let Some(now) = self.now {
            self.deadlines.drain(now, &self.options.limits);
        }
        if D::SOURCES_ARE_RUNS {
            // Their next poll tells them.
            let ready = &self.ready;
            self.in_flight.slots.each_used(|index| ready.wake(index));
        }
    }

    /// Whether the list may have a source in this poll.
    pub(super) fn has_next(&self) -> bool {
        self.in_flight.list.is_some() && !self.list_waits
    }

    /// How much of the concurrency limit is in use: the weight of the sources in flight, and the outcomes that
    /// wait to be passed on.
    #[inline(always)]
    fn in_use(&self, driver: &impl Driver<K, G>) -> usize {
        if L::PARKS && self.in_flight.slots.is_empty() {
            // Some may wait for the source that starts next, which may be heavy.
            return driver.waiting() - driver.held_back();
        }
        self.in_flight.in_use().saturating_add(driver.waiting())
    }

    /// A source has left its slot.
    #[inline(always)]
    pub(super) fn note_end(&mut self, index: usize) {
        if L::PARKS {
            self.in_flight.note_end(index);
            // Another source may be the next one now.
            self.list_waits = false;
            self.admission.set_weight(1);
        }
    }

    /// The number of sources in flight, including outcomes that wait to be passed on. Those that wait for a
    /// source that will not start any more do not count.
    pub(super) fn occupied(&self, driver: &impl Driver<K, G>) -> usize {
        let in_flight = self.in_flight.slots.len();
        let waits_in_vain = L::PARKS && in_flight == 0 && self.admission.is_draining();
        let held_back = if waits_in_vain { driver.held_back() } else { 0 };
        in_flight + driver.waiting() - held_back
    }
}
