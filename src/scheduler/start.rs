//! Starting sources: from the list into slots, one permit each.

use std::ops::ControlFlow;
use std::task::Poll;

use super::Run;
use super::admission::Permit;
use super::budget::Budget;
use super::clock;
use super::driver::{Driver, End};
use super::in_flight::InFlight;
use crate::Reason;
use crate::panics::Panics;
use crate::sources::Sources;

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// Starts new sources. Each is polled at once, so that one that is ready frees its slot for the
    /// next. One may start although the budget is spent: otherwise sources with long polls would keep
    /// new ones from starting.
    pub(super) fn admit(
        &mut self,
        budget: &mut Budget,
        driver: &mut impl Driver<K, G>,
    ) -> ControlFlow<End> {
        let is_over = |now| self.deadlines.is_over(now);
        let has_free_start = self.admission.take_free_start();
        let mut is_free = has_free_start && !budget.looked_at().is_some_and(is_over);
        if self.can_admit(driver) {
            while let Some(permit) = self.permit(driver) {
                if !std::mem::take(&mut is_free) && !Self::may_poll(budget, driver) {
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
        }
        if self.in_flight.list.is_some() {
            self.end_list(driver);
        }
        ControlFlow::Continue(())
    }

    /// In every second poll, starts one source before the sweep, which polls it.
    #[inline(never)]
    pub(super) fn admit_first(&mut self, driver: &mut impl Driver<K, G>) {
        self.was_list_first = !self.was_list_first;
        if !self.was_list_first || self.pulling || !self.can_admit(driver) {
            return;
        }
        let Some(permit) = self.permit(driver) else {
            return;
        };
        match self.pull() {
            Poll::Ready(Some((id, seed))) => {
                let index = self.start(id, seed, permit, driver);
                self.ready.wake(index);
            }
            Poll::Ready(None) => self.drop_list(),
            Poll::Pending => {}
        }
    }

    /// In a late poll after the deadline: polls a stream for its end, so that a run whose sources have all
    /// answered is complete. A source that comes instead is named, not started. Returns whether the
    /// stream has ended.
    #[inline(never)]
    pub(super) fn poll_end(&mut self, driver: &mut impl Driver<K, G>) -> bool {
        if self.occupied(driver) > 0 || self.list_waits || self.pulling {
            return false;
        }
        match self.pull() {
            Poll::Ready(None) => {
                self.drop_list();
                true
            }
            Poll::Ready(Some((id, seed))) => {
                let mut panics = Panics::default();
                self.name(id, seed, Reason::TimedOut, driver, &mut panics);
                panics.resume();
                false
            }
            Poll::Pending => false,
        }
    }

    /// Polls the list for a source.
    #[inline(always)]
    fn pull(&mut self) -> Poll<Option<(K, L::Seed)>> {
        self.pulling = true;
        let next = self.in_flight.next(&self.ready);
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
        driver: &mut D,
    ) -> usize {
        self.has_started = true;
        self.deadlines.note_start();
        self.start_panics.catch(|| driver.started(&id));
        let index = self.make::<D>(id, seed, permit);
        self.ready.cover(index);
        if self.start_panics.is_some() {
            // The next sweep polls it.
            self.ready.wake(index);
            std::mem::take(&mut self.start_panics).resume();
        }
        index
    }

    /// Makes the future of a source in its slot.
    #[inline(always)]
    fn make<D: Driver<K, G>>(&mut self, id: K, seed: L::Seed, permit: Permit) -> usize {
        let InFlight { slots, list, .. } = &mut self.in_flight;
        let list = list.as_mut().expect("the list that the source came from");
        if !L::MAKING_MAY_PANIC {
            let source = list.make(&id, seed);
            let index = slots.insert(id, Some(source), permit);
            if D::TIMES_SOURCES {
                slots.note_start(index, clock::now());
            }
            return index;
        }
        // If this panics, the source in this slot has panicked.
        let index = slots.insert(id, None, permit);
        self.polling = Some(index);
        if D::TIMES_SOURCES {
            slots.note_start(index, clock::now());
        }
        slots.fill(index, |id| list.make(id, seed));
        self.polling = None;
        index
    }

    /// Polls a list that reports that it is empty, and drops it if it is. This needs no budget: if the
    /// list has a source nevertheless, the next sweep polls it.
    #[inline(never)]
    pub(super) fn end_list(&mut self, driver: &mut impl Driver<K, G>) {
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

    /// Whether a source may start in this poll, if the list has one.
    pub(super) fn can_admit(&self, driver: &impl Driver<K, G>) -> bool {
        self.has_next() && self.admission.may_start(self.occupied(driver)) && !self.is_closing()
    }

    /// A permit to start a source, if the list may have one and there is room for it.
    #[inline]
    fn permit(&self, driver: &impl Driver<K, G>) -> Option<Permit> {
        let has_next = self.has_next().then_some(());
        has_next.and_then(|()| self.admission.permit(self.occupied(driver)))
    }

    /// Whether the list may have a source in this poll.
    fn has_next(&self) -> bool {
        self.in_flight.list.is_some() && !self.list_waits
    }

    /// The number of sources in flight, including outcomes that wait to be passed on.
    pub(super) fn occupied(&self, driver: &impl Driver<K, G>) -> usize {
        self.in_flight.slots.len() + driver.waiting()
    }
}
