//! The end of a run. Every source in flight is dropped at once; the names of those never started
//! may take several polls.

use std::task::Poll;

use super::budget::Budget;
use super::hooks::Follow;
use super::operation::{End, Operation};
use super::panics::Panics;
use super::{Run, Stage};
use crate::Reason;

/// How many names cost as much as one source poll.
const NAMES: usize = 6;

impl<I, K, F, H> Run<I, K, F, H>
where
    I: Iterator<Item = (K, F)>,
    H: Follow<K>,
{
    /// Ends the run: drops every source in flight, oldest first, and names those never started, as
    /// far as the budget goes and the iterator knows how many there can be. Returns the recorded
    /// end, which takes precedence over `end`, or pending while there are sources left to name.
    pub(crate) fn interrupt(
        &mut self,
        end: End,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
        panics: &mut Panics,
    ) -> Poll<End> {
        let end = match self.stage {
            Stage::Ended(end) => return Poll::Ready(end),
            Stage::Naming(end) => end,
            Stage::New | Stage::Running | Stage::Done => {
                self.stop_all(end, budget, operation, panics);
                end
            }
        };
        if !self.name_rest(end, budget, operation, panics) {
            return Poll::Pending;
        }
        self.stage = Stage::Ended(end);
        Poll::Ready(end)
    }

    /// Drops every source in flight. Those that are runs drop theirs.
    fn stop_all(
        &mut self,
        end: End,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
        panics: &mut Panics,
    ) {
        self.stage = Stage::Naming(end);
        self.deadlines.disarm();
        panics.catch(|| self.ready.close());
        let reason = reason(end);
        for _ in 0..self.in_flight.slots.len() {
            let Some(oldest) = self.in_flight.slots.oldest() else {
                break;
            };
            let Some(source) = self.in_flight.slots.source(oldest) else {
                break;
            };
            if let Poll::Ready(rest) = operation.stop(source, reason, budget, panics) {
                if let Some(id) = self.in_flight.stop(oldest, reason, panics) {
                    panics.catch(|| operation.unfinished(id, rest));
                }
            } else {
                // It stays until its own sources are named, and keeps its place in the order.
                self.in_flight.slots.renew(oldest);
            }
        }
        if let Some(list) = &self.in_flight.list {
            let most_left = panics.catch(|| most_left::<K>(list));
            self.unnamed = most_left.unwrap_or(0);
        }
        operation.ended(panics);
    }

    /// Names the sources never started, which are made and dropped for it one by one. Returns
    /// whether all are named.
    fn name_rest(
        &mut self,
        end: End,
        budget: &mut Budget,
        operation: &mut impl Operation<K, F, H>,
        panics: &mut Panics,
    ) -> bool {
        if self.unnamed > 0 || !self.in_flight.slots.is_empty() {
            budget.leave_sources();
        }
        let mut has_panicked = false;
        while self.unnamed > 0 || !self.in_flight.slots.is_empty() {
            if !budget.has_more() {
                return false;
            }
            if self.in_flight.slots.is_empty() {
                has_panicked = !self.pull_unnamed(has_panicked, panics);
            }
            if has_panicked || self.unnamed % NAMES == 0 {
                budget.spend();
            }
            // The next one, or a run whose own sources are not all named yet.
            let slots = &mut self.in_flight.slots;
            let Some(index) = slots.oldest() else {
                continue;
            };
            let Some(source) = slots.source(index) else {
                continue;
            };
            let Poll::Ready(rest) = operation.stop(source, reason(end), budget, panics) else {
                return false;
            };
            if let Some(id) = slots.remove(index, panics) {
                panics.catch(|| operation.unfinished(id, rest));
            }
        }
        if let Some(list) = self.in_flight.list.take() {
            panics.catch(|| drop(list));
        }
        true
    }

    /// Puts the next source of the list into a slot, to be named. Returns whether the list could be
    /// asked; one that has panicked twice in a row counts as one source less.
    fn pull_unnamed(&mut self, has_panicked: bool, panics: &mut Panics) -> bool {
        let list = self.in_flight.list.as_mut();
        match panics.catch(|| list.and_then(Iterator::next)) {
            Some(Some((id, source))) => {
                self.unnamed -= 1;
                self.in_flight.slots.insert(id, source);
                true
            }
            Some(None) => {
                self.unnamed = 0;
                true
            }
            None => {
                self.unnamed -= usize::from(has_panicked);
                false
            }
        }
    }
}

/// Why the sources that have not answered were stopped.
fn reason(end: End) -> Reason {
    end.err().unwrap_or(Reason::NotNeeded)
}

/// How many sources an iterator may still have, or none if it does not know. More than a list can
/// name is not known either: such lists were never meant to come to their end.
fn most_left<K>(sources: &impl Iterator) -> usize {
    let most_named = isize::MAX as usize / size_of::<K>().max(1);
    match sources.size_hint().1 {
        Some(most) if most <= most_named => most,
        _ => 0,
    }
}
