//! The end of a run. All sources in flight are dropped at once. Naming those that were never started may
//! take several polls.

use std::task::Poll;

use super::budget::Budget;
use super::driver::{Driver, End, Stay};
use super::{Run, Stage};
use crate::Reason;
use crate::limit::Ending;
use crate::panics::Panics;
use crate::sources::Sources;

/// The number of names that cost as much as one source poll.
const NAMES: usize = 6;

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// Ends the run: drops every source in flight, oldest first, and names those never started, as far
    /// as the budget goes and the list has an upper bound. Returns the recorded end, which takes
    /// precedence over `end`, or pending while there are sources left to name.
    pub(crate) fn interrupt(
        &mut self,
        end: End,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
        panics: &mut Panics,
    ) -> Poll<End> {
        let end = match self.stage {
            Stage::Ended(end) => return Poll::Ready(end),
            Stage::Naming(end) => end,
            Stage::New | Stage::Running | Stage::Done => {
                self.stop_all(end, budget, driver, panics);
                end
            }
        };
        if !self.name_rest(end, budget, driver, panics) {
            return Poll::Pending;
        }
        self.stage = Stage::Ended(end);
        Poll::Ready(end)
    }

    /// Drops every source in flight. Sources that are runs drop theirs.
    fn stop_all(
        &mut self,
        end: End,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
        panics: &mut Panics,
    ) {
        self.stage = Stage::Naming(end);
        panics.catch(|| self.ready.close());
        panics.catch(|| self.admission.leave_queue());
        let reason = reason(end);
        for _ in 0..self.in_flight.slots.len() {
            let Some(oldest) = self.in_flight.slots.oldest() else {
                break;
            };
            let Some((id, source)) = self.in_flight.slots.source(oldest) else {
                break;
            };
            if driver.stop(id, source, reason, budget, panics).is_ready() {
                self.stop(oldest, reason, budget, driver, panics);
            } else {
                // A run with sources to name. It moves to the end, so the order stays the same.
                self.in_flight.slots.renew(oldest);
            }
        }
        if let Some(id) = self.in_flight.set_aside.take() {
            driver.not_started(id, reason, panics);
        }
        self.count_unnamed(driver, panics);
        driver.ended(end, panics);
    }

    /// Drops a source that is in flight, and reports it.
    #[inline(always)]
    fn stop(
        &mut self,
        index: usize,
        reason: Reason,
        budget: &Budget<'_>,
        driver: &mut impl Driver<K, G>,
        panics: &mut Panics,
    ) {
        let elapsed = self.in_flight.elapsed(index, budget.clock(), panics);
        self.end_sample(index, Ending::Dropped, budget.clock(), panics);
        if let Some(id) = self.in_flight.slots.remove(index, panics) {
            driver.unfinished(id, reason, elapsed, panics);
        }
    }

    /// Counts the sources to name, if the list has an upper bound. Without one, or if the list is a
    /// stream with items left, some sources stay unseen.
    fn count_unnamed(&mut self, driver: &mut impl Driver<K, G>, panics: &mut Panics) {
        // A vector cannot hold more. Such lists are meant to be endless.
        let most_named = isize::MAX as usize / size_of::<K>().max(1);
        let list = self.in_flight.list.as_ref();
        let names_all = list.is_none_or(|list| list.names_all());
        self.unnamed = match self.in_flight.not_started_or_panic(panics).1 {
            Some(most) if most <= most_named && names_all => most,
            _ => {
                driver.leave_unseen();
                list.map_or(0, |list| list.names_left())
            }
        };
    }

    /// Names the sources never started, one by one. Returns whether all are named.
    fn name_rest(
        &mut self,
        end: End,
        budget: &mut Budget<'_>,
        driver: &mut impl Driver<K, G>,
        panics: &mut Panics,
    ) -> bool {
        let reason = reason(end);
        if self.unnamed > 0 || !self.in_flight.slots.is_empty() {
            budget.leave_sources();
        }
        let mut has_panicked = false;
        while self.unnamed > 0 || !self.in_flight.slots.is_empty() {
            if !budget.has_more() {
                return false;
            }
            if self.in_flight.slots.is_empty() {
                has_panicked = !self.name_next(has_panicked, reason, driver, panics);
            }
            if has_panicked || self.unnamed % NAMES == 0 {
                budget.spend();
            }
            // A run with sources to name.
            let Some(index) = self.in_flight.slots.oldest() else {
                continue;
            };
            let Some((id, source)) = self.in_flight.slots.source(index) else {
                continue;
            };
            if driver.stop(id, source, reason, budget, panics).is_pending() {
                return false;
            }
            self.stop(index, reason, budget, driver, panics);
        }
        if let Some(list) = self.in_flight.list.take() {
            panics.catch(|| drop(list));
        }
        true
    }

    /// Names the next source of the list. A source that is a run is made and put into a slot, to name its
    /// own sources. Returns whether the list returned: after two panics in a row it counts as one source
    /// less.
    fn name_next<D: Driver<K, G>>(
        &mut self,
        has_panicked: bool,
        reason: Reason,
        driver: &mut D,
        panics: &mut Panics,
    ) -> bool {
        let next = panics.catch(|| self.in_flight.next_to_name());
        let Some(next) = next else {
            if has_panicked {
                self.unnamed -= 1;
                driver.leave_unseen();
            }
            return false;
        };
        let Poll::Ready(Some((id, seed))) = next else {
            self.unnamed = 0;
            return true;
        };
        self.unnamed -= 1;
        self.name(id, seed, reason, driver, panics);
        true
    }

    /// Names a source that was not started.
    pub(super) fn name<D: Driver<K, G>>(
        &mut self,
        id: K,
        seed: L::Seed,
        reason: Reason,
        driver: &mut D,
        panics: &mut Panics,
    ) {
        if !D::SOURCES_ARE_RUNS {
            panics.drop_each([seed]);
            driver.not_started(id, reason, panics);
            return;
        }
        let list = self.in_flight.list.as_mut();
        let source = panics.catch(|| list.map(|list| list.make(&id, seed)));
        match source.flatten() {
            Some(source) => {
                let permit = self.admission.permit_naming();
                self.in_flight.slots.insert(id, Some(source), permit);
            }
            None => driver.panicked(id, String::new(), Stay::NONE, panics),
        }
    }
}

/// Why the sources that have not answered were stopped.
fn reason(end: End) -> Reason {
    end.err().unwrap_or(Reason::NotNeeded)
}
