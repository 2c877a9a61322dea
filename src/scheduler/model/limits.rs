//! Limits beside the number of sources: keys, weights, and a limit and a rate that others use as well.

use super::schedule::{Limits, Setup, Ticks};
use super::{Model, State};

/// What is in use of the limits of a run.
pub(super) struct InUse {
    /// The places of the shared limit, if there is one, and how many of them others have taken.
    pub(super) places: Option<usize>,
    pub(super) others: usize,
    /// The time at which the starts so far would be over, without bursts.
    paid_until: Ticks,
    /// The number of sources taken from a list that parks them.
    taken: usize,
}

impl InUse {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            places: setup.limits.places,
            others: 0,
            paid_until: 0,
            taken: 0,
        }
    }

    /// Whether so much weight fits beside this much.
    fn fits(&self, weight: usize, in_flight: usize) -> bool {
        let in_use = self.others + in_flight;
        self.places
            .is_none_or(|places| in_use == 0 || in_use + weight <= places)
    }
}

impl Limits {
    /// The weight of a source.
    pub(super) fn weight_of(&self, id: usize) -> usize {
        if self.has_weights { weight(id) } else { 1 }
    }
}

/// The key of a source.
pub(super) fn key(id: &usize) -> usize {
    id % 3
}

/// The weight of a source, if sources have weights.
fn weight(id: usize) -> usize {
    id % 4 + 1
}

impl Model {
    /// Takes sources from the list that have to be parked. Then returns the source that starts next, if its
    /// limits admit it.
    pub(super) fn take_next(&mut self) -> Option<usize> {
        while self.can_park() {
            self.in_use.taken += 1;
        }
        self.next_source()
    }

    /// The source that starts next, if the limits admit it.
    pub(super) fn next_source(&self) -> Option<usize> {
        self.first()
            .filter(|&id| self.admits(self.setup.limits.weight_of(id)))
    }

    /// The first source that has arrived and whose key has room.
    pub(super) fn first(&self) -> Option<usize> {
        let next = self.next_not_started()?;
        match self.setup.limits.parks() {
            true => {
                (next..self.in_use.taken).find(|&id| self.is_not_started(id) && self.has_key(id))
            }
            false => Some(next).filter(|&id| self.has_arrived(id)),
        }
    }

    /// Whether a source is taken from the list only to find one that can start.
    pub(super) fn can_park(&self) -> bool {
        self.looks_ahead()
            && self.in_use.taken < self.sources.len()
            && self.has_arrived(self.in_use.taken)
    }

    /// Whether the run can see the end of the stream. It has to have room for another source.
    pub(super) fn can_see_end(&self) -> bool {
        let can_look = match self.setup.limits.parks() {
            true => self.looks_ahead() && self.in_use.taken == self.sources.len(),
            false => self.next_not_started().is_none() && self.admits(1),
        };
        can_look && self.has_arrived(self.sources.len())
    }

    /// Whether the run looks into its list beyond the sources that are parked.
    fn looks_ahead(&self) -> bool {
        let limits = &self.setup.limits;
        limits.parks()
            && self.first().is_none()
            && self.parked() < limits.look_ahead
            && self.has_room(1)
    }

    /// The number of sources that are parked.
    fn parked(&self) -> usize {
        (0..self.in_use.taken)
            .filter(|&id| self.is_not_started(id))
            .count()
    }

    /// Whether a source that has not started was taken from the list.
    pub(super) fn is_parked(&self, id: usize) -> bool {
        id < self.in_use.taken && self.is_not_started(id)
    }

    fn is_not_started(&self, id: usize) -> bool {
        self.sources[id].state == State::NotStarted
    }

    /// Whether the key of a source has room.
    fn has_key(&self, id: usize) -> bool {
        let all = self.sources.iter().enumerate();
        let same = all.filter(|(other, source)| key(other) == key(&id) && source.is_in_flight());
        same.count() < self.setup.limits.per_key.unwrap_or(usize::MAX)
    }

    /// Whether all limits that do not depend on its key admit a source of this weight.
    fn admits(&self, weight: usize) -> bool {
        self.has_room(weight) && self.in_use.fits(weight, self.weight_in_flight()) && self.is_due()
    }

    /// Whether the run's own limit has room. A source that is heavier than the limit starts alone.
    fn has_room(&self, weight: usize) -> bool {
        let limit = self.setup.limit;
        let below = limit.saturating_sub(weight - 1).max(1);
        let waiting = match self.setup.limits.parks() && self.in_flight() == 0 {
            // Those that wait for earlier sources may wait for this one.
            true => self.queued,
            false => self.waiting(),
        };
        !self.has_seen_drain && self.weight_in_flight() + waiting < below
    }

    /// Whether the rate admits a start.
    fn is_due(&self) -> bool {
        self.setup.limits.rate.is_none_or(|(interval, burst)| {
            self.in_use.paid_until <= self.now + interval * (burst - 1)
        })
    }

    /// Counts a start at the rate.
    pub(super) fn count_start(&mut self) {
        if let Some((interval, _)) = self.setup.limits.rate {
            self.in_use.paid_until = self.in_use.paid_until.max(self.now) + interval;
        }
    }

    /// The weight of all sources in flight.
    pub(super) fn weight_in_flight(&self) -> usize {
        let all = self.sources.iter().enumerate();
        let has_ended = self.end.is_some();
        let in_flight = all.filter(|(_, source)| !has_ended && source.is_in_flight());
        in_flight
            .map(|(id, _)| self.setup.limits.weight_of(id))
            .sum()
    }

    /// Whether others may take a place of the shared limit. `None` if the run may wait for it as well, or the
    /// place may be kept for it.
    pub(super) fn others_may_take(&self) -> Option<bool> {
        if !self.in_use.fits(1, self.weight_in_flight()) {
            return Some(false);
        }
        (!self.wants_start()).then_some(true)
    }

    /// Whether others may start a source at the rate now.
    pub(super) fn others_may_start(&self) -> Option<bool> {
        if !self.is_due() {
            return Some(false);
        }
        (!self.wants_start()).then_some(true)
    }

    /// Whether the run would start a source, or look for one, if nothing was shared.
    fn wants_start(&self) -> bool {
        if self.end.is_some() || !self.is_polled {
            return false;
        }
        let first = self.first();
        let weight = first.map_or(1, |id| self.setup.limits.weight_of(id));
        let may_have_more = first.is_some() || self.has_unseen();
        may_have_more && self.has_room(weight)
    }
}
