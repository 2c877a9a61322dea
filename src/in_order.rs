//! Outcomes in the order of their sources. Plain bookkeeping: nothing is polled here.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::Aggregate;
use crate::panics::Panics;
use crate::scheduler::{Budget, End, Options};

/// After a long wait, memory for so many outcomes is kept.
const FEW: usize = 64;

/// The most waiting outcomes that one outcome releases.
const MOST_AT_ONCE: usize = 32;

/// Outcomes that wait for those of earlier sources.
struct InOrder<K, V> {
    /// The position of the outcome that comes next.
    next: usize,
    /// The outcomes from that position on. `None` for a source that has not answered.
    held: VecDeque<Option<(K, V)>>,
    /// The number of outcomes held.
    len: usize,
}

impl<K, V> Default for InOrder<K, V> {
    fn default() -> Self {
        Self {
            next: 0,
            held: VecDeque::new(),
            len: 0,
        }
    }
}

impl<K, V> InOrder<K, V> {
    /// Takes the outcome of the source at a position. Returns it at once if it comes next, and holds it
    /// otherwise.
    #[inline]
    fn pass(&mut self, position: usize, outcome: (K, V)) -> Option<(K, V)> {
        if position == self.next {
            self.next += 1;
            // The empty place of this outcome, if later outcomes are held.
            self.held.pop_front();
            return Some(outcome);
        }
        self.hold(position - self.next, outcome);
        None
    }

    /// Holds an outcome that is this many positions after the next one.
    fn hold(&mut self, offset: usize, outcome: (K, V)) {
        while self.held.len() <= offset {
            self.held.push_back(None);
        }
        self.held[offset] = Some(outcome);
        self.len += 1;
    }

    /// Whether the next outcome is held.
    fn can_release(&self) -> bool {
        matches!(self.held.front(), Some(Some(_)))
    }

    /// Releases the next outcome, if it is held.
    #[inline]
    fn release(&mut self) -> Option<(K, V)> {
        if !self.can_release() {
            return None;
        }
        self.next += 1;
        self.len -= 1;
        let next = self.held.pop_front().flatten();
        if self.held.is_empty() {
            self.held.shrink_to(FEW);
        }
        next
    }

    /// The number of outcomes held.
    fn len(&self) -> usize {
        self.len
    }

    /// The outcomes behind the first source that has not answered, in order.
    fn take_rest(&mut self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        self.len = 0;
        std::mem::take(&mut self.held).into_iter().flatten()
    }
}

impl<K, V> Drop for InOrder<K, V> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        panics.drop_pairs(self.take_rest());
        panics.resume();
    }
}

/// Outcomes on their way to a channel or to bodies: each is passed on at once, or in the order of the
/// sources.
pub(crate) struct Outgoing<K, V> {
    /// Those that wait for earlier ones, if the run is in order.
    held: Option<InOrder<K, V>>,
}

impl<K, V> Outgoing<K, V> {
    pub(crate) fn at_once() -> Self {
        Self { held: None }
    }

    /// From now on in order, if the run is.
    pub(crate) fn begin(&mut self, options: &Options) {
        if options.in_order {
            self.held = Some(InOrder::default());
        }
    }

    /// Takes the outcome of the source at a position. Passes on what has its turn.
    #[inline]
    pub(crate) fn accept(
        &mut self,
        position: usize,
        outcome: (K, V),
        mut pass_on: impl FnMut((K, V)) -> ControlFlow<End>,
    ) -> ControlFlow<End> {
        match &mut self.held {
            None => pass_on(outcome),
            Some(held) => accept_in_order(held, position, outcome, pass_on),
        }
    }

    /// Passes on outcomes that have waited for others and have their turn, each out of `budget`.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        budget: &mut Budget<'_>,
        mut pass_on: impl FnMut((K, V)) -> ControlFlow<End>,
    ) -> ControlFlow<End> {
        let Some(held) = &mut self.held else {
            return ControlFlow::Continue(());
        };
        while held.can_release() && budget.has_more() {
            if let Some(outcome) = held.release() {
                pass_on(outcome)?;
            }
            budget.spend();
        }
        ControlFlow::Continue(())
    }

    /// Whether an outcome that has waited for others has its turn.
    #[inline]
    pub(crate) fn can_flush(&self) -> bool {
        self.held.as_ref().is_some_and(InOrder::can_release)
    }

    /// The number of outcomes that wait.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.held.as_ref().map_or(0, InOrder::len)
    }

    /// The outcomes that wait, in order.
    pub(crate) fn take_rest(&mut self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        let rest = self.held.as_mut().map(InOrder::take_rest);
        rest.into_iter().flatten()
    }
}

/// Passes on an outcome and some that have waited for it, or holds it. Not inlined, so that
/// [`Outgoing::accept`] stays small for the runs that are not in order.
#[inline(never)]
fn accept_in_order<K, V>(
    held: &mut InOrder<K, V>,
    position: usize,
    outcome: (K, V),
    mut pass_on: impl FnMut((K, V)) -> ControlFlow<End>,
) -> ControlFlow<End> {
    let Some(outcome) = held.pass(position, outcome) else {
        return ControlFlow::Continue(());
    };
    pass_on(outcome)?;
    // After a long wait, `flush` passes on the others.
    for _ in 0..MOST_AT_ONCE {
        let Some(outcome) = held.release() else {
            break;
        };
        pass_on(outcome)?;
    }
    ControlFlow::Continue(())
}

/// The positions of the sources in an aggregate.
#[derive(Default)]
pub(crate) struct Positions {
    results: Vec<usize>,
    errors: Vec<usize>,
}

impl Positions {
    /// Notes the position of an outcome that is added to an aggregate.
    pub(crate) fn note(&mut self, position: usize, is_ok: bool) {
        match is_ok {
            true => self.results.push(position),
            false => self.errors.push(position),
        }
    }

    /// Sorts the outcomes of an aggregate. Its unfinished sources are in the order in which they were started
    /// and named.
    pub(crate) fn sort<K, T, E>(self, aggregate: &mut Aggregate<K, T, E>) {
        sort(&mut aggregate.results, self.results);
        sort(&mut aggregate.errors, self.errors);
    }
}

/// Sorts values by their positions. If most positions have a value, this takes linear time.
fn sort<V>(values: &mut Vec<V>, mut positions: Vec<usize>) {
    if positions.is_sorted() {
        return;
    }
    let last = positions.iter().max().map_or(0, |last| last + 1);
    if last / 8 > positions.len() {
        // Too sparse to be counted.
        let mut sorted: Vec<_> = positions.into_iter().zip(values.drain(..)).collect();
        sorted.sort_unstable_by_key(|(position, _)| *position);
        values.extend(sorted.into_iter().map(|(_, value)| value));
        return;
    }
    // A counting sort: the place of a value is the number of values at earlier positions.
    let mut next_places = vec![0; last];
    for &position in &positions {
        next_places[position] += 1;
    }
    let mut earlier = 0;
    for place in &mut next_places {
        earlier += std::mem::replace(place, earlier);
    }
    for position in &mut positions {
        let place = &mut next_places[*position];
        *position = *place;
        *place += 1;
    }
    let mut places = positions;
    for index in 0..values.len() {
        // Each swap puts one value into its place.
        while places[index] != index {
            let place = places[index];
            values.swap(index, place);
            places.swap(index, place);
        }
    }
}

#[cfg(test)]
mod tests;
