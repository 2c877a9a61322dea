//! Sources that were taken from their list and wait: until a source with the same key has ended, or until
//! there is room for their weight.

mod groups;
mod rules;

use std::fmt;
use std::task::{Context, Poll, ready};

use groups::{Groups, UNLIMITED};
pub use rules::{ByClosure, ByKey, ByWeight, ForEachKey, KeyLimit, PlaceRule};

use crate::panics::{Contained, Panics};
use crate::sealed::Sealed;
use crate::sources::{Sources, Weigh};

/// The fewest sources in flight whose memory is given back when all of them have ended.
const BURST: usize = 256;

/// Sources of a list `L` under one more limit, as [`concurrency_per`](crate::Operation::concurrency_per) and
/// [`weight`](crate::Operation::weight) add it. `K` is the id of a source and `D` what its future is made of.
pub struct Parking<L, K, D, R> {
    /// The sources that were taken from the list and have not started, in groups with the same key.
    groups: Groups<Parked<K, D>>,
    /// The sources that are left at the end of the run, the last one first.
    left: Option<Vec<Parked<K, D>>>,
    /// The place of the source in each slot of the run.
    started: Vec<Option<Place>>,
    /// The weight of all sources in flight.
    in_use: usize,
    /// The number of sources taken from the list.
    taken: usize,
    /// Whether the list has come to its end.
    has_ended: bool,
    rule: R,
    list: Contained<L>,
}

/// A source that was taken from its list and has not started.
struct Parked<K, D> {
    id: K,
    seed: Placed<D>,
}

/// What the future of a source is made of, and the place that the source takes.
pub struct Placed<D> {
    seed: D,
    /// The number of sources that were taken before it.
    position: usize,
    place: Place,
}

impl<D> Placed<D> {
    /// Of a source that this list does not count.
    fn without_limits(seed: D) -> Self {
        Self {
            seed,
            position: 0,
            place: Place {
                group: UNLIMITED,
                weight: 0,
            },
        }
    }
}

#[derive(Clone, Copy)]
struct Place {
    /// The number of the group of sources with the same key.
    group: usize,
    weight: usize,
}

impl<L, K, D, R> Parking<L, K, D, R> {
    pub(crate) fn new(list: L, rule: R) -> Self {
        Self {
            groups: Groups::new(),
            left: None,
            started: Vec::new(),
            in_use: 0,
            taken: 0,
            has_ended: false,
            rule,
            list: Contained::new(list),
        }
    }

    /// The number of sources that were taken from the list and not started.
    fn parked(&self) -> usize {
        let left = self.left.as_ref().map_or(0, Vec::len);
        self.groups.waiting() + left
    }

    /// Every source that was taken from the list and not started, the last one first.
    fn take_all(&mut self) -> Vec<Parked<K, D>> {
        let mut all = self.left.take().unwrap_or_default();
        all.extend(self.groups.take_all());
        all.sort_unstable_by_key(|parked| std::cmp::Reverse(parked.seed.position));
        all
    }
}

impl<L, K, D, R> Parking<L, K, D, R>
where
    L: Sources<Id = K, Seed = D>,
    R: PlaceRule<K>,
{
    /// Whether another list inside this one parks the sources, with the weights that this one adds.
    const LEAVES_PARKING: bool = L::PARKS && !R::HAS_KEYS;

    /// Takes the next source from the list and parks it. A panic of a closure is noted in `panics`; then the
    /// source is not limited by it.
    fn poll_park(
        &mut self,
        cx: &mut Context<'_>,
        look_ahead: usize,
        weigh: Option<Weigh<'_, K>>,
        panics: &mut Panics,
    ) -> Poll<()> {
        let list = self.list.get_mut();
        let next = match ready!(list.poll_start(cx, look_ahead, None)) {
            // It has to be called again.
            Some(0) => return Poll::Ready(()),
            Some(_) => ready!(list.poll_next(cx)),
            None => None,
        };
        let Some((id, seed)) = next else {
            self.has_ended = true;
            return Poll::Ready(());
        };
        let groups = &mut self.groups;
        let group = panics.catch(|| self.rule.group(&id, groups));
        let group = group.unwrap_or(UNLIMITED);
        let weight = weigh.and_then(|weigh| panics.catch(|| self.weight(&id).max(weigh(&id))));
        let weight = weight.unwrap_or(1);
        let position = self.taken;
        let seed = Placed {
            seed,
            position,
            place: Place { group, weight },
        };
        self.groups.wait(group, position, Parked { id, seed });
        self.taken += 1;
        Poll::Ready(())
    }
}

impl<L, K, D, R> Sealed for Parking<L, K, D, R> {}

impl<L, K, D, R> Sources for Parking<L, K, D, R>
where
    L: Sources<Id = K, Seed = D>,
    R: PlaceRule<K>,
{
    type Id = K;
    type Seed = Placed<D>;
    type Future = L::Future;

    const MAY_WAIT: bool = true;
    const MAKING_MAY_PANIC: bool = L::MAKING_MAY_PANIC;
    const PARKS: bool = true;

    fn poll_start(
        &mut self,
        cx: &mut Context<'_>,
        look_ahead: usize,
        weigh: Option<Weigh<'_, K>>,
    ) -> Poll<Option<usize>> {
        if Self::LEAVES_PARKING {
            let rule = &mut self.rule;
            let mut weigh = weigh.map(|weigh| move |id: &K| weigh(id).max(rule.weight(id)));
            let weigh = weigh.as_mut().map(|weigh| weigh as Weigh<'_, K>);
            return self.list.get_mut().poll_start(cx, look_ahead, weigh);
        }
        if let Some(first) = self.groups.first() {
            return Poll::Ready(Some(first.seed.place.weight));
        }
        if self.has_ended && self.groups.waiting() == 0 {
            return Poll::Ready(None);
        }
        if self.has_ended || self.groups.waiting() >= look_ahead {
            return Poll::Pending;
        }
        let mut panics = Panics::default();
        ready!(self.poll_park(cx, look_ahead, weigh, &mut panics));
        panics.resume();
        Poll::Ready(match self.groups.first() {
            Some(first) => Some(first.seed.place.weight),
            // A run looks once for the end of its list before it times out.
            None if self.has_ended && self.groups.waiting() == 0 => None,
            None => Some(0),
        })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(K, Placed<D>)>> {
        if Self::LEAVES_PARKING {
            let next = ready!(self.list.get_mut().poll_next(cx));
            return Poll::Ready(next.map(|(id, seed)| (id, Placed::without_limits(seed))));
        }
        let Some(Parked { id, seed }) = self.groups.start_first() else {
            return Poll::Pending;
        };
        self.in_use = self.in_use.saturating_add(seed.place.weight);
        Poll::Ready(Some((id, seed)))
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Option<(K, Placed<D>)>> {
        if self.left.is_none() {
            self.left = Some(self.take_all());
        }
        if let Some(Parked { id, seed }) = self.left.as_mut().and_then(Vec::pop) {
            return Poll::Ready(Some((id, seed)));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        let Some((id, seed)) = ready!(self.list.get_mut().poll_left(cx)) else {
            self.has_ended = true;
            return Poll::Ready(None);
        };
        Poll::Ready(Some((id, Placed::without_limits(seed))))
    }

    fn make(&mut self, id: &K, seed: Placed<D>) -> L::Future {
        self.list.get_mut().make(id, seed.seed)
    }

    fn discard(&mut self, id: K, seed: Placed<D>, panics: &mut Panics) {
        self.list.get_mut().discard(id, seed.seed, panics);
    }

    fn weight(&mut self, id: &K) -> usize {
        let inner = self.list.get_mut().weight(id);
        inner.max(self.rule.weight(id))
    }

    fn in_use(&self) -> usize {
        match Self::LEAVES_PARKING {
            true => self.list.get().in_use(),
            false => self.in_use,
        }
    }

    fn position(seed: &Placed<D>) -> Option<usize> {
        L::position(&seed.seed).or(match Self::LEAVES_PARKING {
            true => None,
            false => Some(seed.position),
        })
    }

    fn note_start(&mut self, index: usize, seed: &Placed<D>) {
        if !Self::LEAVES_PARKING {
            if self.started.len() <= index {
                self.started.resize(index + 1, None);
            }
            self.started[index] = Some(seed.place);
        }
        self.list.get_mut().note_start(index, &seed.seed);
    }

    fn note_end(&mut self, index: usize) {
        let place = self.started.get_mut(index).and_then(Option::take);
        if let Some(place) = place {
            self.in_use = self.in_use.saturating_sub(place.weight);
            self.groups.leave(place.group);
            if self.in_use == 0 && self.started.len() >= BURST {
                self.started = Vec::new();
            }
        }
        self.list.get_mut().note_end(index);
    }

    fn sources_left(&self) -> (usize, Option<usize>) {
        let (least, most) = match self.has_ended {
            true => (0, Some(0)),
            false => self.list.get().sources_left(),
        };
        let parked = self.parked();
        let most = most.and_then(|most| most.checked_add(parked));
        (least.saturating_add(parked), most)
    }

    fn names_left(&self) -> usize {
        match self.has_ended {
            true => self.parked(),
            false => self.list.get().names_left().saturating_add(self.parked()),
        }
    }

    fn names_all(&self) -> bool {
        self.has_ended || self.list.get().names_all()
    }
}

impl<L, K, D, R> Drop for Parking<L, K, D, R> {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        let parked = self.take_all().into_iter().rev();
        panics.drop_pairs(parked.map(|parked| (parked.id, parked.seed)));
        panics.resume();
    }
}

impl<L, K, D, R> fmt::Debug for Parking<L, K, D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parking")
            .field("parked", &self.parked())
            .finish_non_exhaustive()
    }
}
