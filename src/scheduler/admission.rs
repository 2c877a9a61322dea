//! Admission: what may start, and when.
//!
//! A source starts only with a [`Permit`], which is kept until the source leaves its slot, on every
//! path: an answer, a timeout, a panic, a drop. Under a number, a permit is nothing but the proof that it
//! was asked for. Under a [`Limit`] that runs share, it is a place there.

use std::sync::Arc;

use super::clock::Clock;
use super::driver::Starts;
use super::options::{Options, Shared};
use super::ready::{Flag, MOST_SLOTS, Ready};
use crate::limit::{Limit, Ticket};
use crate::panics::Panics;
use crate::rate::{Rate, Turn};
use crate::timer::Instant;

/// Decides what may start.
pub(crate) struct Admission {
    /// The most sources in flight, outcomes that wait to be passed on included. If sources have weights, the
    /// most weight.
    limit: usize,
    /// The weight of the source that starts next.
    weight: usize,
    /// It starts while less than this is in use.
    starts_below: usize,
    /// Whether this poll may start sources, as far as the run around this one is concerned.
    starts: Starts,
    /// Whether this poll may start one source although its budget is spent: sources that take long
    /// would keep new ones from starting for ever.
    may_start_one: bool,
    /// The limits and rates that other runs share, if there are any.
    shared: Option<Arc<Shared>>,
    /// What the run waits for there. `None` if it has never waited.
    waits: Option<Box<Waits>>,
    /// Whether the run has to be woken before it asks for any of that again.
    is_waiting: bool,
}

/// What a run waits for in shared limits and rates.
#[derive(Default)]
struct Waits {
    /// The number of a limit, and the place in its queue.
    place: Option<(usize, Ticket)>,
    /// The number of a rate, and the place in its queue.
    turn: Option<(usize, Turn)>,
    /// When that turn comes.
    until: Option<Instant>,
}

/// Allows one source to be in flight. Dropping it gives the places in shared limits back.
pub(crate) struct Permit(Option<Places>);

/// Places in shared limits.
struct Places {
    shared: Arc<Shared>,
    /// How many places in each limit.
    weight: usize,
}

impl Permit {
    /// Whether it has places in shared limits.
    #[inline]
    pub(super) fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    /// The rates at which its start was counted.
    #[inline]
    fn rates(&self) -> &[Rate] {
        match &self.0 {
            Some(places) => &places.shared.rates,
            None => &[],
        }
    }

    /// Gives the places back. A panic of another run's waker is noted in `panics`.
    #[inline]
    pub(super) fn release(self, panics: &mut Panics) {
        if self.is_shared() {
            panics.catch(|| drop(self));
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        give_back(self.shared.limits.iter(), self.weight);
    }
}

/// Gives places back in each limit, even if a waker panics.
fn give_back<'a>(limits: impl Iterator<Item = &'a Limit>, weight: usize) {
    let mut panics = Panics::default();
    for limit in limits {
        panics.catch(|| limit.end(weight));
    }
    panics.resume();
}

impl Admission {
    /// Admits nothing. For a run that was not polled.
    #[inline]
    pub(crate) fn none() -> Self {
        Self {
            limit: 0,
            weight: 1,
            starts_below: 0,
            starts: Starts::Allowed,
            may_start_one: true,
            shared: None,
            waits: None,
            is_waiting: false,
        }
    }

    /// If sources have weights, the limit may be greater than the number of slots.
    #[inline]
    pub(crate) fn new(options: &Options, has_weights: bool) -> Self {
        let limit = match has_weights {
            true => options.concurrency,
            false => options.concurrency.min(MOST_SLOTS),
        };
        Self {
            limit,
            starts_below: limit,
            shared: options.shared.clone(),
            ..Self::none()
        }
    }

    /// Begins a poll. `starts` comes from the run around this one, if there is one.
    #[inline(always)]
    pub(crate) fn begin_poll(&mut self, starts: Starts, now: Option<Instant>, ready: &mut Ready) {
        self.may_start_one = true;
        if self.shared.is_some() {
            self.note_wake(now, ready);
        }
        if starts != self.starts {
            self.change_starts(starts);
        }
    }

    /// Notes that a place was granted, or that the turn at a rate has come.
    #[inline(never)]
    fn note_wake(&mut self, now: Option<Instant>, ready: &mut Ready) {
        // A place may be granted, and its wake may come, when the run has left the queue.
        let is_woken = ready.take_flag(Flag::Limit);
        let until = self.waits_until();
        if is_woken || (until.is_some() && until <= now) {
            self.is_waiting = false;
            if let Some(waits) = &mut self.waits {
                waits.until = None;
            }
        }
    }

    #[inline(never)]
    fn change_starts(&mut self, starts: Starts) {
        match starts {
            Starts::Over => self.drain(),
            _ if self.is_draining() => {}
            starts => self.starts = starts,
        }
    }

    /// From now on nothing starts.
    pub(crate) fn drain(&mut self) {
        self.starts = Starts::Over;
        self.set_limit(0);
        self.leave_queue();
    }

    /// Waits for no limit any more: no source is left to start.
    #[inline]
    pub(crate) fn leave_queue(&mut self) {
        self.is_waiting = false;
        if self.shared.is_some() {
            self.waits = None;
        }
    }

    /// When the turn of this run at a rate comes, if it waits for that.
    #[inline]
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        self.waits.as_ref()?.until
    }

    fn waits(&mut self) -> &mut Waits {
        self.waits.get_or_insert_default()
    }

    /// Whether nothing starts any more.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.starts == Starts::Over
    }

    /// What the runs among the sources may do.
    #[inline]
    pub(crate) fn starts_inside(&self) -> Starts {
        self.starts
    }

    /// Takes the one start that a poll may make although its budget is spent.
    pub(crate) fn take_free_start(&mut self) -> bool {
        std::mem::take(&mut self.may_start_one)
    }

    /// Sets the weight of the source that starts next.
    pub(crate) fn set_weight(&mut self, weight: usize) {
        self.weight = weight;
        self.set_limit(self.limit);
    }

    /// Changes the limit. A source that is heavier than it starts when it is alone.
    fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.starts_below = limit.saturating_sub(self.weight - 1).max(limit.min(1));
    }

    /// Whether a source may start while so much of the limit is in use.
    #[inline]
    pub(crate) fn may_start(&self, in_use: usize) -> bool {
        self.starts == Starts::Allowed && self.has_room(in_use) && !self.is_waiting
    }

    /// Whether there is room for another source, in this poll or in a later one.
    #[inline]
    pub(super) fn has_room(&self, in_use: usize) -> bool {
        in_use < self.starts_below
    }

    /// Permits the start of a source for which there is room.
    #[inline]
    pub(crate) fn permit(
        &mut self,
        in_use: usize,
        clock: &dyn Clock,
        ready: &Ready,
    ) -> Option<Permit> {
        if !self.has_room(in_use) {
            // It keeps no place elsewhere meanwhile.
            if let Some(waits) = &mut self.waits {
                waits.place = None;
            }
            return None;
        }
        match &self.shared {
            None => Some(Permit(None)),
            Some(shared) => {
                let shared = Arc::clone(shared);
                self.permit_shared(shared, clock, ready)
            }
        }
    }

    /// Takes a place in each limit and a start at each rate, or none of them.
    #[inline(never)]
    fn permit_shared(
        &mut self,
        shared: Arc<Shared>,
        clock: &dyn Clock,
        ready: &Ready,
    ) -> Option<Permit> {
        self.take_places(&shared.limits, ready)?;
        let permit = Permit(Some(Places {
            weight: self.weight,
            shared,
        }));
        match self.take_starts(&permit, clock, ready) {
            true => Some(permit),
            false => None,
        }
    }

    /// Takes places in each limit, or in none of them. In that case it waits for the first one that is full.
    fn take_places(&mut self, limits: &[Limit], ready: &Ready) -> Option<()> {
        let weight = self.weight;
        // The place may have been waited for by a source that is not the next one any more.
        let place = self.waits.as_mut().and_then(|waits| waits.place.take());
        let place = place.filter(|(_, ticket)| ticket.weight() == weight);
        let granted = match place {
            Some((number, ticket)) if ticket.take() => Some(number),
            Some(place) => {
                self.waits().place = Some(place);
                self.is_waiting = true;
                return None;
            }
            None => None,
        };
        let is_granted = |number: &usize| Some(*number) == granted;
        let take = |number: &usize| !is_granted(number) && !limits[*number].try_take(weight);
        let Some(full) = (0..limits.len()).find(take) else {
            return Some(());
        };
        self.is_waiting = true;
        let waker = ready.flag_waker(Flag::Limit);
        self.waits().place = Some((full, limits[full].wait(weight, waker)));
        // It keeps no place while it waits for another.
        let taken = (0..limits.len()).filter(|number| *number < full || is_granted(number));
        give_back(taken.map(|number| &limits[number]), weight);
        None
    }

    /// Counts a start at each rate, or at none of them. In that case it waits for its turn at the first one at
    /// which no start is due.
    fn take_starts(&mut self, permit: &Permit, clock: &dyn Clock, ready: &Ready) -> bool {
        let rates = permit.rates();
        if rates.is_empty() {
            return true;
        }
        let now = clock.now();
        let turn = self.waits.as_mut().and_then(|waits| waits.turn.take());
        for (number, rate) in rates.iter().enumerate() {
            let own = turn.as_ref().filter(|(of, _)| *of == number);
            let Err(at) = rate.start(own.map(|(_, turn)| turn), now) else {
                continue;
            };
            rates[..number].iter().for_each(Rate::take_back);
            self.is_waiting = true;
            let waits = self.waits();
            waits.until = Some(at);
            waits.turn = match turn {
                Some((of, turn)) if of == number => Some((of, turn)),
                _ => Some((number, rate.wait(at, ready.flag_waker(Flag::Limit)))),
            };
            return false;
        }
        if let Some((_, turn)) = turn {
            turn.end();
        }
        true
    }

    /// Takes a permit back for which there was no source.
    #[inline]
    pub(crate) fn take_back(&self, permit: Permit) {
        permit.rates().iter().for_each(Rate::take_back);
    }

    /// Permits to poll a list that reports that it is empty. If it has a source nevertheless, the source
    /// starts although a shared limit may be full.
    pub(crate) fn permit_beyond(&self, in_use: usize, clock: &dyn Clock) -> Option<Permit> {
        let shared = self.has_room(in_use).then(|| self.shared.clone())?;
        let permit = Permit(shared.map(|shared| Places { shared, weight: 1 }));
        if let Permit(Some(places)) = &permit {
            let Shared { limits, rates } = &*places.shared;
            limits.iter().for_each(|limit| limit.take_anyway(1));
            rates.iter().for_each(|rate| rate.start_anyway(clock.now()));
        }
        Some(permit)
    }

    /// Permits a run that has ended to hold a source while it names what is inside it.
    pub(crate) fn permit_naming(&self) -> Permit {
        Permit(None)
    }

    /// Admits one more source from now on.
    pub(crate) fn raise(&mut self) {
        self.set_limit(self.limit.saturating_add(1));
    }
}
